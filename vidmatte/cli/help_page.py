"""The help page as a file of the package, so that ``vidmatte --help`` imports none of the options.

``python -m vidmatte.cli.help_page`` writes it again after a change of the options; a test holds it
to them.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("help.txt")
_WIDTH = 80  # of a terminal from which on the page is this one


def show_help(words: list[str]) -> bool:
    """Print the page where these words of the command line ask for it; whether they do.

    A narrower terminal gets a page of its own width, which takes the options.
    """
    is_narrow = shutil.get_terminal_size((_WIDTH, 24)).columns < _WIDTH
    if words not in (["--help"], ["-h"]) or is_narrow:
        return False
    sys.stdout.write(PAGE.read_text("utf-8"))
    sys.stdout.flush()
    return True


def _make_help() -> str:
    """The page, made from the options."""
    from vidmatte.cli.main import app

    os.environ["COLUMNS"] = str(_WIDTH)
    with contextlib.redirect_stdout(io.StringIO()) as page:
        app(args=["--help"], prog_name="vidmatte", standalone_mode=False)
    return page.getvalue()


if __name__ == "__main__":
    PAGE.write_text(_make_help(), "utf-8")

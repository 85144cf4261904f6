"""``python -m vidmatte`` and the ``vidmatte`` command."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit with its status."""
    from vidmatte.core.memory import tune_malloc
    from vidmatte.core.terminal import harden_std_streams

    harden_std_streams()
    tune_malloc()
    from vidmatte.cli.main import main as run

    _leave(run())


def _leave(status: int) -> NoReturn:
    """Exit with a status.

    Where a stage of a run that was stopped is still at work, in C++, Python must not shut
    down under it: that would abort the process in place of its status, and waiting may take long.
    """
    pipeline = sys.modules.get("vidmatte.jobs.stages")
    if pipeline is not None and pipeline.at_work():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # the terminal may be gone
                if stream is not None:
                    stream.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    main()

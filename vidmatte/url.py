"""Names that are URLs: nothing is read from one, or written to one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

#: A scheme has two letters at least, since a drive has one. Path makes one slash of several.
URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.IGNORECASE | re.DOTALL)


def as_url(name: str | Path) -> tuple[str, str | None] | None:
    """The URL that a name is, and the path that a ``file:`` one stands for; None for a path.

    A folder whose name ends in a colon may well be there.
    """
    match = URL.fullmatch(str(name))
    if match is None or os.path.lexists(f"{match[1]}:"):
        return None
    if match[1].lower() == "file":
        return f"{match[1]}:///{match[2]}", f"/{unquote(match[2])}"
    return f"{match[1]}://{match[2]}", None

"""The names of results: patterns with a place for the frame's number, and absolute paths."""

from __future__ import annotations

import re
from pathlib import Path

from vidmatte.errors import SinkError

#: The place of the frame's number in a name.
NUMBER = re.compile(r"%0?\d*d")


def matcher(pattern: str) -> re.Pattern[str]:
    """Matches the names that a pattern like ``shot_%06d.png`` gives."""
    return re.compile(r"-?\d+".join(re.escape(part) for part in NUMBER.split(pattern)))


def whole(out: Path) -> Path:
    """The same place by an absolute path that ends in a name, as ``.`` and ``..`` do not.

    Raises SinkError where the current folder, to which ``out`` is relative, was removed.
    """
    try:
        return out.resolve() if out.name in ("", "..") else out.absolute()
    except FileNotFoundError as error:
        raise SinkError(
            f"{out}: the current folder is gone, it was removed: cd to one that is there"
        ) from error


def beside(out: Path, name: str) -> Path:
    """A path of that name in the folder that ``out`` lies in; absolute, so that FFmpeg takes
    no colon in it for a protocol's."""
    return whole(out).with_name(name)

"""What FFmpeg's OpenEXR decoder passes over in silence.

https://openexr.com/en/latest/OpenEXRFileLayout.html
"""

from __future__ import annotations

import struct
from pathlib import Path

from vidmatte.errors import SourceError

MAGIC = 20000630
BOX = 16  # bytes: x and y of the first pixel, x and y of the last


def check_window(file: Path, data: bytes) -> None:
    """Raise SourceError for an OpenEXR picture whose display window does not begin at 0, 0: what
    is decoded of it lies beside its place, by as much.
    """
    value = attribute(data, b"displayWindow")
    if value is None or len(value) != BOX:
        return
    left, top, *_ = struct.unpack("<4i", value)
    if left or top:
        raise SourceError(
            f"{file}: its display window begins at {left}, {top}, and only those that begin at"
            " 0, 0 are read: save it with a display window that does"
        )


def attribute(data: bytes, wanted: bytes) -> bytes | None:
    """The value of an attribute in the header of the first part; None where there is none."""
    if len(data) < 8 or struct.unpack_from("<I", data)[0] != MAGIC:
        return None
    at = 8
    while (end := data.find(b"\0", at)) > at:
        name = data[at:end]
        at = data.find(b"\0", end + 1) + 1  # behind the name of its type
        if not at or at + 4 > len(data):
            return None
        (size,) = struct.unpack_from("<I", data, at)
        if name == wanted:
            return data[at + 4 : at + 4 + size]
        at += 4 + size
    return None

"""What FFmpeg's TIFF decoder passes over in silence."""

from __future__ import annotations

import struct
from pathlib import Path

from vidmatte.errors import SourceError

COMPRESSION = 259
JPEG = (6, 7)  # of TIFF 6.0, and of its Technical Note 2


def check_compression(file: Path, data: bytes) -> None:
    """Raise SourceError for a TIFF compressed as JPEG: what is decoded of it is black."""
    if data[:4] not in (b"II*\0", b"MM\0*") or len(data) < 8:
        return
    order = "<" if data.startswith(b"II") else ">"
    (place,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data[place : place + 2].ljust(2, b"\0"))
    entries = data[place + 2 : place + 2 + 12 * count]
    for entry in range(0, len(entries) - 11, 12):
        tag, _, _, value = struct.unpack_from(order + "HHIH", entries, entry)
        if tag == COMPRESSION and value in JPEG:
            raise SourceError(
                f"{file}: a TIFF compressed as JPEG is not read: save it with LZW, ZIP or no"
                " compression, or as JPEG"
            )

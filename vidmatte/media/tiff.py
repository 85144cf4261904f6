"""TIFFs that FFmpeg's decoder misreads without an error, and the alpha type of written ones.

TIFF 6.0, sections 8, 15 and 19; the half floats are those of Adobe's Technical Note 3.
"""

from __future__ import annotations

import struct
from pathlib import Path

from vidmatte.errors import SourceError

_WIDTH, _LENGTH = 256, 257
BITS, COMPRESSION, TILE_WIDTH, SAMPLE_FORMAT = 258, 259, 322, 339
_JPEG = (6, 7)  # of TIFF 6.0, and of its Technical Note 2
SIGNED, FLOAT = 2, 3


def check_kind(file: Path, data: bytes) -> None:
    """Raise SourceError for a TIFF that FFmpeg would decode wrongly."""
    if data[:4] not in (b"II*\0", b"MM\0*") or len(data) < 8:
        return
    tags = _directory(data)
    kind = None
    if tags.get(COMPRESSION) in _JPEG:
        kind = "compressed as JPEG"
    elif TILE_WIDTH in tags:
        kind = "in tiles"
    elif tags.get(SAMPLE_FORMAT) == SIGNED or (
        tags.get(SAMPLE_FORMAT) == FLOAT and tags.get(BITS) == 16
    ):
        kind = "of half floats" if tags[SAMPLE_FORMAT] == FLOAT else "of signed numbers"
    if kind is not None:
        raise SourceError(
            f"{file}: a TIFF {kind} is not supported: save it in strips of 8 or 16 bits, with LZW,"
            " ZIP or no compression"
        )


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height of a TIFF's first picture, 0 where missing. Raises struct.error."""
    tags = _directory(data)
    return tags.get(_WIDTH, 0), tags.get(_LENGTH, 0)


def _directory(data: bytes) -> dict[int, int]:
    """The first value of each entry of integers in the first picture's directory, by tag."""
    order = "<" if data.startswith(b"II") else ">"
    (offset,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data[offset : offset + 2].ljust(2, b"\0"))
    entries = data[offset + 2 : offset + 2 + 12 * count]
    found = {}
    for entry in range(0, len(entries) - 11, 12):
        tag, kind, length, value = struct.unpack_from(order + "HHIH", entries, entry)
        if kind == 3 and length > 2:  # 16-bit integers stored elsewhere
            (at,) = struct.unpack_from(order + "I", entries, entry + 8)
            (value,) = struct.unpack_from(order + "H", data[at : at + 2].ljust(2, b"\0"))
        found[tag] = value
    return found


_EXTRA_SAMPLES = 338
_SHORT = 3
_ASSOCIATED = 1  # alpha type: premultiplied; the encoder writes 2, straight


def with_associated_alpha(tiff: bytes) -> bytes:
    """A little-endian TIFF of one picture with alpha, marked as premultiplied."""
    data = bytearray(tiff)
    (offset,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, offset)
    for entry in range(offset + 2, offset + 2 + 12 * count, 12):
        if struct.unpack_from("<HHI", data, entry) == (_EXTRA_SAMPLES, _SHORT, 1):
            struct.pack_into("<H", data, entry + 8, _ASSOCIATED)
    return bytes(data)

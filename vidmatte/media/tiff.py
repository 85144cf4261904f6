"""What FFmpeg's TIFF decoder takes for something else, in silence.

TIFF 6.0, sections 8, 15 and 19; the half floats are those of Adobe's Technical Note 3.
"""

from __future__ import annotations

import struct
from pathlib import Path

from vidmatte.errors import SourceError

BITS, COMPRESSION, TILE_WIDTH, SAMPLE_FORMAT = 258, 259, 322, 339
_JPEG = (6, 7)  # of TIFF 6.0, and of its Technical Note 2
SIGNED, FLOAT = 2, 3


def check_kind(file: Path, data: bytes) -> None:
    """Raise SourceError for a TIFF that would be decoded as another picture than it is."""
    if data[:4] not in (b"II*\0", b"MM\0*") or len(data) < 8:
        return
    said = _directory(data)
    kind = None
    if said.get(COMPRESSION) in _JPEG:
        kind = "compressed as JPEG"
    elif TILE_WIDTH in said:
        kind = "in tiles"
    elif said.get(SAMPLE_FORMAT) == SIGNED or (
        said.get(SAMPLE_FORMAT) == FLOAT and said.get(BITS) == 16
    ):
        kind = "of half floats" if said[SAMPLE_FORMAT] == FLOAT else "of signed numbers"
    if kind is not None:
        raise SourceError(
            f"{file}: a TIFF {kind} is not read: save it in strips of 8 or 16 bits, with LZW, ZIP"
            " or no compression"
        )


def _directory(data: bytes) -> dict[int, int]:
    """The first value of each entry of small numbers in the first picture's directory."""
    order = "<" if data.startswith(b"II") else ">"
    (place,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data[place : place + 2].ljust(2, b"\0"))
    entries = data[place + 2 : place + 2 + 12 * count]
    found = {}
    for entry in range(0, len(entries) - 11, 12):
        tag, kind, length, value = struct.unpack_from(order + "HHIH", entries, entry)
        if kind == 3 and length > 2:  # numbers of 16 bits that stand elsewhere
            (at,) = struct.unpack_from(order + "I", entries, entry + 8)
            (value,) = struct.unpack_from(order + "H", data[at : at + 2].ljust(2, b"\0"))
        found[tag] = value
    return found


_EXTRA_SAMPLES = 338
_SHORT = 3
_ASSOCIATED = 1  # alpha: the colours are premultiplied; the encoder writes 2, that they are not


def with_associated_alpha(tiff: bytes) -> bytes:
    """A little-endian TIFF of one picture with alpha, said to be premultiplied."""
    data = bytearray(tiff)
    (place,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, place)
    for entry in range(place + 2, place + 2 + 12 * count, 12):
        if struct.unpack_from("<HHI", data, entry) == (_EXTRA_SAMPLES, _SHORT, 1):
            struct.pack_into("<H", data, entry + 8, _ASSOCIATED)
    return bytes(data)

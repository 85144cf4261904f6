"""TIFFs that FFmpeg's decoder misreads without an error, and the alpha type of written ones.

TIFF 6.0, sections 8, 15 and 19; the half floats are those of Adobe's Technical Note 3.
"""

from __future__ import annotations

import struct
from pathlib import Path

from vidmatte.errors import SourceError

_WIDTH, _LENGTH = 256, 257
BITS, COMPRESSION, TILE_WIDTH, SAMPLE_FORMAT = 258, 259, 322, 339
SUBFILE, PHOTOMETRIC = 254, 262
_MAGIC = (b"II*\0", b"MM\0*")
_REDUCED_OR_MASK = 1 | 4  # of NewSubfileType
_MOST_PAGES = 100_000
_LAB = (8, 9, 10)
#: None, CCITT, LZW, deflate by both its numbers, PackBits, and NeXT's.
_READABLE = (1, 2, 3, 4, 5, 8, 32773, 32946)
_COMPRESSIONS = {
    34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA", 50000: "Zstandard", 50001: "WebP",
    50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
_JPEG = (6, 7)  # of TIFF 6.0, and of its Technical Note 2
SIGNED, FLOAT = 2, 3


def check_kind(file: Path, data: bytes) -> None:
    """Raise SourceError for a TIFF that FFmpeg would decode wrongly."""
    if data[:4] in (b"II+\0", b"MM\0+"):
        raise _unsupported(file, "with 64-bit offsets (BigTIFF)")
    if data[:4] not in _MAGIC or len(data) < 8:
        return
    tags = _directory(data)
    kind = None
    packed = tags.get(COMPRESSION, 1)
    if packed in _JPEG:
        kind = "compressed as JPEG"
    elif packed not in _READABLE:
        kind = f"compressed by {_COMPRESSIONS.get(packed, f'method {packed}')}"
    elif tags.get(PHOTOMETRIC) in _LAB:
        kind = "of CIE L*a*b* colours"
    elif tags.get(BITS) == 32 and tags.get(SAMPLE_FORMAT) != FLOAT:
        kind = "of 32-bit whole numbers"
    elif TILE_WIDTH in tags:
        kind = "in tiles"
    elif tags.get(SAMPLE_FORMAT) == SIGNED or (
        tags.get(SAMPLE_FORMAT) == FLOAT and tags.get(BITS) == 16
    ):
        kind = "of half floats" if tags[SAMPLE_FORMAT] == FLOAT else "of signed numbers"
    if kind is not None:
        raise _unsupported(file, kind)


def _unsupported(file: Path, kind: str) -> SourceError:
    return SourceError(
        f"{file}: a TIFF {kind} is not supported: save it in strips of 8 or 16 bits, with LZW,"
        " ZIP or no compression"
    )


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height of a TIFF's first picture, 0 where missing. Raises struct.error."""
    tags = _directory(data)
    return tags.get(_WIDTH, 0), tags.get(_LENGTH, 0)


def page_count(data: bytes) -> int:
    """The pictures of a TIFF, without reduced copies and masks; at least 1."""
    if data[:4] not in _MAGIC or len(data) < 8:
        return 1
    order = "<" if data.startswith(b"II") else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    seen: set[int] = set()
    pages = 0
    while 0 < at <= len(data) - 2 and at not in seen and len(seen) < _MOST_PAGES:
        seen.add(at)
        pages += not _directory(data, at).get(SUBFILE, 0) & _REDUCED_OR_MASK
        (entries,) = struct.unpack_from(order + "H", data, at)
        link = data[at + 2 + 12 * entries :][:4]
        at = struct.unpack(order + "I", link)[0] if len(link) == 4 else 0
    return max(pages, 1)


def _directory(data: bytes, offset: int | None = None) -> dict[int, int]:
    """The first value of each entry of integers in a directory, by tag: that at ``offset``, else
    the first picture's."""
    order = "<" if data.startswith(b"II") else ">"
    if offset is None:
        (offset,) = struct.unpack_from(order + "I", data, 4)
        assert offset is not None
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

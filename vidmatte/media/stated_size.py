"""The size in bytes that a container states, which a file that was cut short does not reach.

Matroska and WebM (RFC 8794, RFC 9559), the boxes of QuickTime and MP4 (ISO/IEC 14496-12, 4.2) and
the chunks of AVI (RIFF).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_BOXES = (b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"styp", b"sidx", b"pnot")
_PADDING = 8  # bytes by which writers are wrong


def missing_end(path: Path) -> str | None:
    """A clause where a file is shorter than its container states; None where it is not, or where
    its container states no size. Raises OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head.startswith(_EBML):
            end = _segment_end(file)
        elif head[:4] == b"RIFF" and head[8:] == b"AVI ":
            end = _chunks_end(file, size)
        elif head[4:8] in _BOXES:
            end = _boxes_end(file, size)
        else:
            return None
    if end <= size + _PADDING:
        return None
    return f"the file states {end} bytes and has {size}: its end is missing"


def _segment_end(file: BinaryIO) -> int:
    """Where the segment of a Matroska file ends; 0 where its size is unknown."""
    file.seek(len(_EBML))
    header = _read_size(file)
    if header is None:
        return 0
    file.seek(header, 1)
    if file.read(len(_SEGMENT)) != _SEGMENT:
        return 0
    size = _read_size(file)
    return 0 if size is None else file.tell() + size


def _read_size(file: BinaryIO) -> int | None:
    """The size field of an EBML element; None where it is unknown or there is none."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    width = 9 - first[0].bit_length()
    mask = (1 << 7 * width) - 1
    size = int.from_bytes(first + file.read(width - 1), "big") & mask
    return None if size == mask else size


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the last box of a QuickTime file ends; 0 for one that lasts to the end."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        if length < 8 or kind not in _BOXES:  # 0: to the end; something else follows the movie
            return at
        at += length
    return at


def _chunks_end(file: BinaryIO, size: int) -> int:
    """Where the last RIFF chunk of an AVI ends; large ones have several."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF" or length >= 0xFFFFFF00:  # never finished by its writer
            return at
        at += 8 + length + length % 2
    return at

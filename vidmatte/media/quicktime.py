"""QuickTime and MP4 files: whether one is cut off, and the vendor of a sample description, which
FFmpeg's muxer always sets to FFMP.

Layout: Apple's QuickTime File Format, "Atoms" and "Video sample description".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
_VENDOR_OFFSET = 20  # in the sample entry, after its size and format
_ENTRIES_OFFSET = 16  # in the stsd atom: size, type, version and flags, count


def is_cut_off(movie: Path) -> bool:
    """Whether the file ends inside an atom, as where a recorder crashed or a copy broke off.

    Bytes behind the last atom that are no atom do not count. Raises OSError.
    """
    start, end = 0, movie.stat().st_size
    with movie.open("rb") as file:
        while start < end:
            file.seek(start)
            head = file.read(16).ljust(16, b"\0")
            size, kind, large = struct.unpack(">I4sQ", head)
            if size == 1:
                size = large
            if start + 8 > end:
                return any(head)
            if size < 8 or not kind.isascii() or not kind.decode().isprintable():
                return False
            start += size
    return start > end


def patch_vendor(movie: Path, codec_tag: str, vendor: str) -> int:
    """Write ``vendor`` into every sample entry of ``codec_tag``; returns their number.

    Both are four characters long. Raises OSError.
    """
    patched = 0
    with movie.open("r+b") as file:
        for start, _, kind in list(_atoms(file, 0, movie.stat().st_size)):
            if kind != b"stsd":
                continue
            file.seek(start + _ENTRIES_OFFSET + 4)
            if file.read(4) == codec_tag.encode():
                file.seek(start + _ENTRIES_OFFSET + _VENDOR_OFFSET)
                file.write(vendor.encode())
                patched += 1
    return patched


def _atoms(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    """(start, end, type) of each atom, and of those inside the containers."""
    while start + 8 <= end:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            header = 16
        stop = end if size == 0 else start + size
        if stop < start + header:
            return
        yield start, stop, kind
        if kind in _CONTAINERS:
            yield from _atoms(file, start + header, stop)
        start = stop

"""The vendor of a QuickTime sample description, which FFmpeg's muxer always sets to FFMP.

Layout: Apple's QuickTime File Format, "Video sample description".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
_VENDOR_OFFSET = 20  # in the sample entry, after its size and format
_ENTRIES_OFFSET = 16  # in the stsd atom: size, type, version and flags, count


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


def _atoms(
    file: BinaryIO, start: int, end: int, containers: Sequence[bytes] = _CONTAINERS
) -> Iterator[tuple[int, int, bytes]]:
    """(start, end, type) of each atom, and of those inside the containers, each within the one
    before it."""
    while start + 8 <= end:
        file.seek(start)
        if len(head := file.read(16)) < 8:
            return
        size, kind = struct.unpack_from(">I4s", head)
        header = 8
        if size == 1:
            size, header = int.from_bytes(head[8:], "big"), 16
        stop = end if size == 0 else start + size
        if stop < start + header:
            return
        yield start, stop, kind
        if kind in containers:
            inner = containers[containers.index(kind) + 1 :]
            yield from _atoms(file, start + header, min(stop, end), inner)
        start = stop

"""QuickTime and MP4 files: whether one is cut off; the vendor of a sample description, which
FFmpeg's muxer always sets to FFMP; and atoms that PyAV neither gives nor takes.

Layout: Apple's QuickTime File Format, "Atoms" and "Video sample description".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from vidmatte.core.frame import MasteringDisplay
from vidmatte.errors import OutputError

_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
_LARGEST_ENTRY = 1 << 20  # bytes
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


_PICTURE_ENTRY = 86  # bytes of a picture's sample entry before its own atoms


def picture_boxes(movie: Path) -> dict[str, bytes]:
    """The atoms in the sample entries of QuickTime and MP4 pictures, by type. Raises OSError."""
    found: dict[str, bytes] = {}
    with movie.open("rb") as file:
        try:
            for start, stop, kind in list(_atoms(file, 0, movie.stat().st_size)):
                if kind == b"stsd" and stop - start < _LARGEST_ENTRY:
                    entry = start + _ENTRIES_OFFSET
                    for begin, end, name in _atoms(file, entry + _PICTURE_ENTRY, stop):
                        file.seek(begin + 8)
                        found.setdefault(name.decode("latin-1"), file.read(end - begin - 8))
        except struct.error:  # damaged, which its reader reports
            return found
    return found


def mastering_box(mastering: MasteringDisplay) -> bytes:
    """The content of mdcv: green, blue, red, white in 1/50000, luminance in 1/10000 cd/m2."""
    points = [round(value * 50000) for value in mastering.chromaticities]
    ordered = [*points[2:6], *points[:2], *points[6:]]
    low, high = (round(value * 10000) for value in mastering.luminance)
    return struct.pack(">8H2I", *(min(max(one, 0), 0xFFFF) for one in ordered), high, low)


def light_box(content_light: tuple[int, int]) -> bytes:
    """The content of clli: MaxCLL and MaxFALL in cd/m2."""
    return struct.pack(">2H", *(min(value, 0xFFFF) for value in content_light))


def aperture_box(clap: Sequence[Fraction]) -> bytes:
    """The content of clap: width, height, and the centre's distance, as fractions."""
    numbers = (part for value in clap for part in (value.numerator, value.denominator))
    return struct.pack(">IIIIiIiI", *numbers)


def add_picture_boxes(movie: Path, codec_tag: str, boxes: Sequence[tuple[str, bytes]]) -> None:
    """Add atoms to every sample entry of ``codec_tag``, in a movie that ends with its moov atom.

    Raises OSError, OutputError for another.
    """
    added = b"".join(
        struct.pack(">I4s", 8 + len(value), name.encode()) + value for name, value in boxes
    )
    with movie.open("r+b") as file:
        size = movie.stat().st_size
        parts = list(_atoms(file, 0, size))
        begin, end = next(((a, b) for a, b, kind in parts if kind == b"moov"), (0, 0))
        if end != size or not end:
            raise OutputError(f"{movie.name}: its header is not at its end: nothing can be added")
        entries = []
        for start, _, kind in parts:
            file.seek(start + _ENTRIES_OFFSET + 4)
            if kind == b"stsd" and file.read(4) == codec_tag.encode():
                entries.append(start + _ENTRIES_OFFSET)
        file.seek(begin)
        moov = bytearray(file.read())
        for entry in reversed(entries):
            around = [a for a, b, _ in parts if begin <= a <= entry < b]
            for place in [*around, entry]:
                (length,) = struct.unpack_from(">I", moov, place - begin)
                struct.pack_into(">I", moov, place - begin, length + len(added))
            at = entry - begin + _PICTURE_ENTRY
            moov[at:at] = added
        file.seek(begin)
        file.write(moov)


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

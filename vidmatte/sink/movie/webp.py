"""Animated WebP, read back without a decoder: FFmpeg writes it but does not read it, and leaves
the length of the last picture to libwebp, which guesses.

https://developers.google.com/speed/webp/docs/riff_container
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path


@dataclass(frozen=True)
class WebpHeader:
    """Size in pixels, whether there is alpha, how long each picture is shown (s), and how often
    all of them are, 0 for ever.

    A picture equal to the one before it is no picture of its own: the one before is
    shown longer. A file of one picture has no lengths.
    """

    width: int
    height: int
    has_alpha: bool
    lengths: tuple[Fraction, ...]
    loops: int = 1


def read_webp(path: Path) -> WebpHeader:
    """The header of a WebP file of the extended kind. Raises ValueError, OSError."""
    data = path.read_bytes()
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) != 8 + little(data[4:8]):
        raise ValueError("not a whole WebP file")
    parts = list(chunks(data))
    if parts[0][0] != b"VP8X":
        raise ValueError(f"its first part is {parts[0][0]!r}, not VP8X")
    head = parts[0][1]
    lengths = [Fraction(little(part[12:15]), 1000) for name, part in parts if name == b"ANMF"]
    return WebpHeader(
        width=little(head[4:7]) + 1,
        height=little(head[7:10]) + 1,
        has_alpha=bool(head[0] & 0x10),
        lengths=tuple(lengths),
        loops=next((little(part[4:6]) for name, part in parts if name == b"ANIM"), 1),
    )


def stamp_length(path: Path, length: Fraction) -> None:
    """Let the last picture of an animation be shown until ``length`` seconds after the first
    one. Raises OSError."""
    at, last, before, end = 12, 0, 0, 0
    for name, part in chunks(path.read_bytes()):
        if name == b"ANMF":
            last, before, end = at, end, end + little(part[12:15])
        at += 8 + len(part) + len(part) % 2
    if not last:  # a still picture
        return
    shown = min(max(round(length * 1000) - before, 1), (1 << 24) - 1)
    with path.open("r+b") as file:
        file.seek(last + 8 + 12)
        file.write(shown.to_bytes(3, "little"))


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and payload of each part."""
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack("<4sI", data[at : at + 8])
        yield name, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def little(data: bytes) -> int:
    """An unsigned little-endian number."""
    return int.from_bytes(data, "little")

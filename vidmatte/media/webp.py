"""Animated WebP, parsed without a decoder: FFmpeg writes it but does not read it, and does not
pass the duration of the last picture to libwebp, which guesses it.

https://developers.google.com/speed/webp/docs/riff_container
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vidmatte.media.png import webp_chunks

_FIXED = 16  # bytes read of a chunk: enough for all fields used


@dataclass(frozen=True)
class _WebpHeader:
    """Size in pixels, whether there is alpha, the duration of each picture (seconds), and the
    number of loops, 0 for endless.

    libwebp merges a picture with an identical one before it, which then has a longer duration.
    A file of one picture has no ``lengths``. If all are opaque, ``has_alpha`` is false.
    """

    width: int
    height: int
    has_alpha: bool
    lengths: tuple[Fraction, ...]
    loops: int = 1


def read_webp(path: Path) -> _WebpHeader:
    """The header of a WebP file in the extended format, or in the simple lossy format, which a
    single opaque picture has. Raises ValueError, OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WEBP" or size != 8 + _little_endian(head[4:8]):
            raise ValueError("not a complete WebP file")
        parts = [(kind, file.read(min(length, _FIXED))) for kind, length in webp_chunks(file)]
    kind, head = parts[0] if parts else (b"", b"")
    if kind == b"VP8 ":  # RFC 6386, section 9.1
        width, height = _little_endian(head[6:8]) & 0x3FFF, _little_endian(head[8:10]) & 0x3FFF
        return _WebpHeader(width, height, has_alpha=False, lengths=())
    if kind != b"VP8X" or len(head) < 10:
        raise ValueError(f"its first chunk is {kind!r}, not VP8X")
    lengths = [
        Fraction(_little_endian(part[12:15]), 1000) for name, part in parts if name == b"ANMF"
    ]
    return _WebpHeader(
        width=_little_endian(head[4:7]) + 1,
        height=_little_endian(head[7:10]) + 1,
        has_alpha=bool(head[0] & 0x10),
        lengths=tuple(lengths),
        loops=next((_little_endian(part[4:6]) for name, part in parts if name == b"ANIM"), 1),
    )


def patch_duration(path: Path, length: Fraction) -> None:
    """Set the last picture's duration so that the animation lasts ``length`` seconds. Raises
    OSError."""
    last = start = end = 0
    with path.open("r+b") as file:
        for name, _ in webp_chunks(file):
            if name == b"ANMF":
                last, start = file.tell(), end
                end += _little_endian(file.read(_FIXED)[12:15])
        if not last:  # a still picture
            return
        duration = min(max(round(length * 1000) - start, 1), (1 << 24) - 1)
        file.seek(last + 12)
        file.write(duration.to_bytes(3, "little"))


def _little_endian(data: bytes) -> int:
    """An unsigned little-endian number."""
    return int.from_bytes(data, "little")

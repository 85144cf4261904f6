"""Animated WebP, read back without a decoder: FFmpeg writes it but does not read it, and leaves
the length of the last picture to libwebp, which guesses.

https://developers.google.com/speed/webp/docs/riff_container
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vidmatte.media.png import webp_chunks

_FIXED = 16  # bytes: no chunk that is looked at tells more before the picture in it


@dataclass(frozen=True)
class WebpHeader:
    """Size in pixels, whether there is alpha, how long each picture is shown (s), and how often
    all of them are, 0 for ever.

    A picture equal to the one before it is no picture of its own: the one before is
    shown longer. A file of one picture has no lengths. Where all are opaque there is no alpha.
    """

    width: int
    height: int
    has_alpha: bool
    lengths: tuple[Fraction, ...]
    loops: int = 1


def read_webp(path: Path) -> WebpHeader:
    """The header of a WebP file of the extended kind, or of the simple one that a single opaque
    picture is. Raises ValueError, OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WEBP" or size != 8 + _little_endian(head[4:8]):
            raise ValueError("not a whole WebP file")
        parts = [(kind, file.read(min(length, _FIXED))) for kind, length in webp_chunks(file)]
    kind, head = parts[0]
    if kind == b"VP8 ":  # RFC 6386, section 9.1
        width, height = _little_endian(head[6:8]) & 0x3FFF, _little_endian(head[8:10]) & 0x3FFF
        return WebpHeader(width, height, has_alpha=False, lengths=())
    if kind != b"VP8X":
        raise ValueError(f"its first part is {kind!r}, not VP8X")
    lengths = [
        Fraction(_little_endian(part[12:15]), 1000) for name, part in parts if name == b"ANMF"
    ]
    return WebpHeader(
        width=_little_endian(head[4:7]) + 1,
        height=_little_endian(head[7:10]) + 1,
        has_alpha=bool(head[0] & 0x10),
        lengths=tuple(lengths),
        loops=next((_little_endian(part[4:6]) for name, part in parts if name == b"ANIM"), 1),
    )


def patch_duration(path: Path, length: Fraction) -> None:
    """Let the last picture of an animation be shown until ``length`` seconds after the first
    one. Raises OSError."""
    last = before = end = 0
    with path.open("r+b") as file:
        for name, _ in webp_chunks(file):
            if name == b"ANMF":
                last, before = file.tell(), end
                end += _little_endian(file.read(_FIXED)[12:15])
        if not last:  # a still picture
            return
        shown = min(max(round(length * 1000) - before, 1), (1 << 24) - 1)
        file.seek(last + 12)
        file.write(shown.to_bytes(3, "little"))


def _little_endian(data: bytes) -> int:
    """An unsigned little-endian number."""
    return int.from_bytes(data, "little")

"""Animated WebP, parsed without a decoder and decoded picture by picture.

FFmpeg writes it but does not read it, and does not pass the duration of the last picture to
libwebp, which guesses it. Each part of the canvas is a still WebP, which FFmpeg decodes; they are
put together here.

https://developers.google.com/speed/webp/docs/riff_container
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from vidmatte.core.colour import FULL, LIMITED, SMPTE170M
from vidmatte.media.png import webp_chunks
from vidmatte.pixels.formats import ACCURATE, plane_arrays

_FIXED = 16  # bytes read of a chunk: enough for all fields used, and all of ANMF's before its parts
_ALPHA_FLAG = 0x10


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
        has_alpha=bool(head[0] & _ALPHA_FLAG),
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


@dataclass(frozen=True)
class _Part:
    """A part of the canvas: place and size in pixels, how long it is shown (ms), whether it
    replaces what lies below, and whether its place is cleared after it. at: of its chunks."""

    x: int
    y: int
    width: int
    height: int
    duration: int
    replaces: bool
    is_cleared: bool
    at: int
    length: int


class WebpAnimation:
    """An animated WebP file. Raises ValueError for another file, OSError.

    width, height: of the canvas. durations: of each picture, in milliseconds, at least 1.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            head = file.read(30)
            if head[:4] != b"RIFF" or head[8:16] != b"WEBPVP8X" or not head[20] & 0x02:
                raise ValueError("not an animated WebP")
            if path.stat().st_size < 8 + int.from_bytes(head[4:8], "little"):
                raise ValueError("it is truncated")
            self.has_alpha = bool(head[20] & _ALPHA_FLAG)
            self.width = 1 + _little_endian(head[24:27])
            self.height = 1 + _little_endian(head[27:30])
            self._parts = [
                _part(file, length) for kind, length in webp_chunks(file) if kind == b"ANMF"
            ]
        inside = all(
            one.x + one.width <= self.width and one.y + one.height <= self.height
            for one in self._parts
        )
        if not self._parts or not inside:
            raise ValueError("its parts lie outside its canvas" if self._parts else "no pictures")

    @property
    def durations(self) -> list[int]:
        return [max(part.duration, 1) for part in self._parts]

    def pictures(self) -> Iterator[av.VideoFrame]:
        """The canvas at each picture, rgba, straight alpha. Raises av.FFmpegError, ValueError."""
        canvas = np.zeros((self.height, self.width, 4), np.uint8)
        with self._path.open("rb") as file:
            for part in self._parts:
                file.seek(part.at)
                shown = _decoded(file.read(part.length), part)
                area = canvas[part.y : part.y + part.height, part.x : part.x + part.width]
                area[...] = shown if part.replaces else _over(shown, area)
                yield av.VideoFrame.from_ndarray(canvas, "rgba")
                if part.is_cleared:
                    area[...] = 0


def is_animated_webp(path: Path) -> bool:
    """Whether a file is a WebP with the flag of an animation. Raises OSError."""
    if path.suffix.lower() != ".webp" or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(21)
    return len(head) == 21 and head[8:16] == b"WEBPVP8X" and bool(head[20] & 0x02)


def _part(file: BinaryIO, length: int) -> _Part:
    """The fields of an ANMF chunk. Raises ValueError where it is cut off."""
    at = file.tell()
    head = file.read(_FIXED)
    if len(head) < _FIXED:
        raise ValueError("it is truncated")
    return _Part(
        x=2 * _little_endian(head[0:3]),
        y=2 * _little_endian(head[3:6]),
        width=1 + _little_endian(head[6:9]),
        height=1 + _little_endian(head[9:12]),
        duration=_little_endian(head[12:15]),
        replaces=bool(head[15] & 2),
        is_cleared=bool(head[15] & 1),
        at=at + _FIXED,
        length=length - _FIXED,
    )


def _decoded(chunks: bytes, part: _Part) -> np.ndarray:
    """(H, W, 4) uint8 R, G, B, alpha of a part, from its chunks (ALPH and VP8, or VP8L)."""
    if chunks.startswith(b"ALPH"):
        size = struct.pack("<I", part.width - 1)[:3] + struct.pack("<I", part.height - 1)[:3]
        chunks = b"VP8X" + struct.pack("<IB3x", 10, _ALPHA_FLAG) + size + chunks
    file = b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
    decoder = av.CodecContext.create("webp", "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    frames = [*decoder.decode(av.Packet(file)), *decoder.decode(None)]
    if not frames or (frames[0].width, frames[0].height) != (part.width, part.height):
        raise ValueError("a picture of it is damaged")
    (frame,) = frames[:1]
    rgba = frame.reformat(
        format="rgba",
        src_colorspace=SMPTE170M - 1,  # swscale's number of both BT.601 systems
        src_color_range=LIMITED,
        dst_color_range=FULL,
        interpolation=ACCURATE,  # another way than swscale's quick one, which from yuva420p leaves
        threads=1,  # the last columns undefined where the width is no multiple of eight
    )
    return plane_arrays(rgba)[0]


def _over(shown: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Straight colours over others, as the container's definition has it."""
    if shown[..., 3].min() == 255:
        return shown
    front, back = (one[..., 3:].astype(np.float32) / 255 for one in (shown, below))
    share = back * (1 - front)
    alpha = front + share
    mixed = (shown[..., :3] * front + below[..., :3] * share) / np.maximum(alpha, 1e-6)
    return np.asarray(np.rint(np.concatenate([mixed, alpha * 255], axis=-1)).astype(np.uint8))


def _little_endian(data: bytes) -> int:
    """An unsigned little-endian number."""
    return int.from_bytes(data, "little")

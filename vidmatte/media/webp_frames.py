"""The pictures of an animated WebP, which FFmpeg does not decode: each part of the canvas is a
still WebP, decoded by FFmpeg and put together here.

https://developers.google.com/speed/webp/docs/riff_container
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from vidmatte.core.colour import FULL, LIMITED, SMPTE170M
from vidmatte.media.png import webp_chunks
from vidmatte.pixels.formats import ACCURATE, plane_arrays

_HEAD = 16  # bytes of ANMF before the part's own chunks
_ALPHA_FLAG = 0x10


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
            self.width, self.height = 1 + _three(head, 24), 1 + _three(head, 27)
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
    head = file.read(_HEAD)
    if len(head) < _HEAD:
        raise ValueError("it is truncated")
    return _Part(
        x=2 * _three(head, 0),
        y=2 * _three(head, 3),
        width=1 + _three(head, 6),
        height=1 + _three(head, 9),
        duration=_three(head, 12),
        replaces=bool(head[15] & 2),
        is_cleared=bool(head[15] & 1),
        at=at + _HEAD,
        length=length - _HEAD,
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


def _three(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")

"""The small clips for ``compare_builds.py``: drawn and written without vidmatte.

Head and shoulders sway before a textured wall, a green screen, or another background after a
cut. ``CLIPS`` lists the files: audio and timecode, 10 bits, PQ, odd sizes, variable rate,
interlaced, rotated; in addition there are a folder of images and a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

BT601_625, BT709, BT2020, PQ = 5, 1, 9, 16  # ITU-T H.273
LIMITED, FULL = 1, 2  # FFmpeg's AVColorRange
BOTTOM_FIRST = 3  # FFmpeg's AV_FIELD_BB
NTSC = Fraction(30000, 1001)
UNEVEN = (0, 20, 41, 60, 85, 140, 160, 161, 200, 240, 260, 300, 301, 340, 365, 400)
WALL, SCREEN, BRIGHT = (0.36, 0.42, 0.40), (0.12, 0.62, 0.20), (0.82, 0.76, 0.64)
SKIN, HAIR, SHIRT = (0.83, 0.64, 0.54), (0.24, 0.16, 0.12), (0.23, 0.33, 0.62)
#: Ellipses from the back to the front: centre from the figure's axis and from the top, half axes,
#: all in parts of the height, and the colour. The hair's edge is ragged.
PARTS = (
    ((0, 1.05), (0.38, 0.42), SHIRT),
    ((0, 0.62), (0.09, 0.14), SKIN),
    ((0, 0.32), (0.19, 0.24), HAIR),
    ((0, 0.38), (0.15, 0.20), SKIN),
    ((-0.06, 0.36), (0.02, 0.012), HAIR),
    ((0.06, 0.36), (0.02, 0.012), HAIR),
    ((0, 0.49), (0.05, 0.012), (0.6, 0.28, 0.28)),
)


@dataclass(frozen=True)
class Drawn:
    """How a clip is made. ``cut``: the first frame of the second shot.

    ``sound``: a codec for each track. ``pts``: in 1/600 s; None: constant rate.
    ``rotation``: degrees counter-clockwise by which players rotate the stored picture.
    """

    size: tuple[int, int]
    frames: int = 6
    rate: Fraction = Fraction(25)
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    matrix: int = BT709
    transfer: int = BT709
    range: int = LIMITED
    options: dict[str, str] = field(default_factory=dict)
    pts: Sequence[int] | None = None
    sound: Sequence[str] = ()
    timecode: str | None = None
    rotation: int = 0
    aspect: Fraction | None = None
    interlaced: bool = False
    ground: tuple[float, float, float] = WALL
    cut: int | None = None


QUIET = {"x265-params": "log-level=error"}
CLIPS = {
    "talk.mov": Drawn((640, 360), 7, NTSC, sound=("aac", "pcm_s16le"), timecode="01:00:00;02"),
    "cut.mp4": Drawn((480, 270), 16, NTSC, cut=9),
    "tall.mp4": Drawn((320, 180), sound=("aac",), rotation=90),
    "deep.mov": Drawn((480, 270), codec="prores_ks", pixel_format="yuv422p10le"),
    "hdr.mp4": Drawn((320, 180), 5, codec="libx265", pixel_format="yuv420p10le", options=QUIET,
                     matrix=BT2020, transfer=PQ),
    "full.mp4": Drawn((320, 192), range=FULL),
    "odd.mkv": Drawn((321, 181), 7, codec="ffv1", pixel_format="yuv444p"),
    "variable.mp4": Drawn((480, 270), rate=Fraction(30), pts=UNEVEN, sound=("aac",)),
    "fields.mov": Drawn((720, 576), 5, codec="prores_ks", pixel_format="yuv422p10le",
                        matrix=BT601_625, aspect=Fraction(16, 15), interlaced=True),
    "screen.mp4": Drawn((480, 270), ground=SCREEN),
}  # fmt: skip


def make_clips(folder: Path) -> None:
    """Write all clips, a folder of images and a mask."""
    for name, drawn in CLIPS.items():
        write_clip(folder / name, drawn)
    (folder / "pictures").mkdir()
    for index in range(6):
        codes = (draw(index, 400, 300, WALL) // 257).astype(np.uint8)
        cv2.imwrite(str(folder / f"pictures/shot_{101 + index}.png"), codes[..., ::-1])
    mask = np.zeros((270, 480), np.uint8)
    mask[:, :90] = 255
    cv2.imwrite(str(folder / "mask.png"), mask)


def write_clip(path: Path, drawn: Drawn) -> None:
    """Write one clip; the container follows from the suffix."""
    time_base = Fraction(1, 600) if drawn.pts else 1 / drawn.rate
    times = drawn.pts or range(drawn.frames)
    with av.open(str(path), "w") as container:
        video = container.add_stream(drawn.codec, rate=drawn.rate, options=dict(drawn.options))
        context = video.codec_context
        context.width, context.height = drawn.size
        context.pix_fmt, context.time_base = drawn.pixel_format, time_base
        context.color_range, context.colorspace = drawn.range, drawn.matrix
        context.color_primaries, context.color_trc = drawn.matrix, drawn.transfer
        if drawn.aspect:
            context.sample_aspect_ratio = drawn.aspect
        if drawn.rotation:
            video.set_display_rotation(drawn.rotation)
        if drawn.interlaced:
            context.options, context.field_order = {"flags": "+ildct"}, BOTTOM_FIRST
        if drawn.timecode:
            video.metadata["timecode"] = drawn.timecode
        tracks = [container.add_stream(codec, rate=48000) for codec in drawn.sound]
        for index, pts in enumerate(times):
            frame = coded(index, drawn)
            frame.pts, frame.time_base = pts, time_base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        seconds = float(times[-1] * time_base + 1 / drawn.rate)
        for number, track in enumerate(tracks):
            for block in tone(seconds, 220.0 * (number + 1)):
                container.mux(track.encode(block))
            container.mux(track.encode(None))


def coded(index: int, drawn: Drawn) -> av.VideoFrame:
    """A frame as the encoder takes it; in an interlaced clip the upper field is the later one."""
    is_cut = drawn.cut is not None and index >= drawn.cut
    ground, offset = (BRIGHT, 40) if is_cut else (drawn.ground, 0)
    turns = drawn.rotation // 90
    width, height = drawn.size[:: -1 if turns % 2 else 1]
    codes = draw(index + offset, width, height, ground)
    if drawn.interlaced:
        codes[::2] = draw(index + 0.5, width, height, ground)[::2]
    stored = np.ascontiguousarray(np.rot90(codes, -turns))
    frame = av.VideoFrame.from_ndarray(stored, format="rgb48le")
    frame = frame.reformat(
        format=drawn.pixel_format, dst_colorspace=drawn.matrix, dst_color_range=drawn.range
    )
    frame.color_primaries, frame.color_trc = drawn.matrix, drawn.transfer
    return frame


def draw(position: float, width: int, height: int, ground: Sequence[float]) -> np.ndarray:
    """The picture at ``position`` (in frames): (H, W, 3) uint16, R'G'B' over the full scale."""
    y, x = (axis.astype(np.float32) / height for axis in np.mgrid[0:height, 0:width])
    weave = 0.05 * np.sin(70 * x) * np.cos(91 * y) + 0.03 * np.sin(23 * (x + 2 * y))
    rgb = np.asarray(ground, np.float32) + weave[..., None]
    axis = 0.5 * width / height + 0.12 * np.sin(0.3 * position)
    for (across, down), (wide, high), colour in PARTS:
        dx, dy = (x - axis - across) / wide, (y - down) / high
        ragged = 0.03 * np.sin(37 * np.arctan2(dy, dx) + position) if colour is HAIR else 0.0
        alpha = np.clip((1 + ragged - np.hypot(dx, dy)) * min(wide, high) * 60 + 0.5, 0, 1)
        lit = np.asarray(colour, np.float32) * (1.08 - 0.2 * dx[..., None])
        rgb += alpha[..., None] * (lit - rgb)
    grain = np.random.default_rng(int(2 * position)).normal(0, 0.012, rgb.shape)
    return np.rint(np.clip(rgb + grain, 0, 1) * 65535).astype(np.uint16)


def tone(seconds: float, pitch: float, block: int = 1024) -> list[av.AudioFrame]:
    """A sine, stereo, 48 kHz, in frames of ``block`` samples."""
    wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * 48000)) / 48000)
    frames = []
    for at in range(0, len(wave), block):
        part = np.tile(wave[at : at + block].astype(np.float32), (2, 1))
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
        frame.sample_rate, frame.time_base, frame.pts = 48000, Fraction(1, 48000), at
        frames.append(frame)
    return frames

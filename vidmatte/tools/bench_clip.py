"""The clip that is measured where none is given: a figure that moves over a textured wall."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from vidmatte.core.colour import BT709

_RATE = Fraction(25)
SKIN, HAIR, SHIRT = (212, 164, 138), (62, 42, 30), (58, 84, 132)


def make_clip(path: Path, width: int, height: int, frames: int) -> None:
    """Write an H.264 movie (BT.709, limited range, 25 fps) to ``path``; always the same picture."""
    wall = _draw_wall(width, height)
    figure, coverage = _draw_figure(height)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=_RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        for index in range(frames):
            left = round((width - figure.shape[1]) * (0.5 + 0.3 * np.sin(0.15 * index)))
            rgb = _placed(wall, figure, coverage, left)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))


def _draw_wall(width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8: a dim wall with coarse and fine texture."""
    rng = np.random.default_rng(1)
    wall = np.full((height, width, 3), (96, 104, 98), np.float32)
    for cells, strength in ((9, 24.0), (60, 10.0), (300, 5.0)):
        noise = rng.normal(0, strength, (cells, 2 * cells)).astype(np.float32)
        wall += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    return np.asarray(np.clip(wall, 0, 255).astype(np.uint8))


def _draw_figure(height: int) -> tuple[np.ndarray, np.ndarray]:
    """A head with shoulders: colours (h, w, 3) and coverage (h, w, 1), float32, 0..255, 0..1."""
    size = round(0.9 * height)
    picture, mask = np.zeros((size, size, 3), np.uint8), np.zeros((size, size), np.uint8)
    # Centre, half axes and colour, in parts of the size; what comes later lies on top.
    parts = (
        ((0.50, 1.06), (0.42, 0.44), SHIRT),
        ((0.50, 0.62), (0.09, 0.14), SKIN),
        ((0.50, 0.30), (0.20, 0.25), HAIR),
        ((0.50, 0.36), (0.155, 0.205), SKIN),
        ((0.435, 0.34), (0.022, 0.011), HAIR),
        ((0.565, 0.34), (0.022, 0.011), HAIR),
        ((0.50, 0.47), (0.055, 0.012), (150, 70, 70)),
    )
    for centre, axes, colour in parts:
        place = tuple(round(size * value) for value in centre)
        half = tuple(round(size * value) for value in axes)
        cv2.ellipse(picture, place, half, 0, 0, 360, colour, -1, cv2.LINE_AA)
        cv2.ellipse(mask, place, half, 0, 0, 360, 255, -1, cv2.LINE_AA)
    rng = np.random.default_rng(2)
    for angle in rng.uniform(np.pi, 2 * np.pi, 300):  # loose hairs
        near_end, far_end = (
            (round(size * (0.5 + reach * x)), round(size * (0.3 + 1.1 * reach * y)))
            for x, y in [(np.cos(angle), np.sin(angle))]
            for reach in (0.19, rng.uniform(0.24, 0.29))
        )
        cv2.line(picture, near_end, far_end, HAIR, 1, cv2.LINE_AA)
        cv2.line(mask, near_end, far_end, 160, 1, cv2.LINE_AA)
    light = np.linspace(1.15, 0.75, size, dtype=np.float32)[None, :, None]
    grain = rng.normal(0, 4, picture.shape).astype(np.float32)
    colours = np.clip(cv2.GaussianBlur(picture, (0, 0), 2) * light + grain, 0, 255)
    soft = cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), 1.2)
    return colours.astype(np.float32), soft[..., None]


def _placed(wall: np.ndarray, figure: np.ndarray, coverage: np.ndarray, left: int) -> np.ndarray:
    """The figure before the wall, its left edge at column ``left``, its foot at the bottom."""
    rgb = wall.copy()
    size = len(figure)
    under = rgb[-size:, left : left + size]
    under[:] = np.rint(under + coverage * (figure - under))
    return rgb

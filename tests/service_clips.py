"""Small clips and pictures with a green screen, for jobs that need no network's weights."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from media import make_movie
from scene import Picture

GREEN = np.array((40, 170, 60), np.float32) / 255


def draw_on_green(position: float, width: int, height: int, flash: bool) -> Picture:
    """A soft disc that moves over a green screen."""
    del flash
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    inside = height / 4 - np.hypot(x - width / 3 - 3 * position, y - height / 2)
    alpha = np.clip(inside / 3 + 0.5, 0, 1)[..., None]
    over = np.stack([0.3 + 0.5 * x / width, 0.2 + 0.1 * y / height, 0.6 - 0.2 * x / width], -1)
    return Picture(over * alpha + GREEN * (1 - alpha), alpha[..., 0])


def green_clip(
    path: Path, frames: int = 6, size: tuple[int, int] = (96, 64), rate: int = 25
) -> Path:
    """A clip with a green screen."""
    from fractions import Fraction

    return make_movie(path, size=size, frames=frames, rate=Fraction(rate), draw=draw_on_green).path


def green_picture(path: Path, size: tuple[int, int] = (96, 64)) -> Path:
    """A picture with a green screen."""
    rgb = np.rint(draw_on_green(0, *size, False).rgb * 255).astype(np.uint8)
    assert cv2.imwrite(str(path), rgb[..., ::-1])
    return path

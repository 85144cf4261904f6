"""The scene that test clips show: a bright furry ball over a dark textured ground.

Everything is a closed formula of the frame index, so a test knows the exact
alpha and the exact colours of every frame. Three things can be read back after
any codec:

- the index, from a ruler of 16 blocks along the lower edge. Both of its levels
  are bright and its alpha is 1, so the ruler is part of the subject and its
  colours survive a matte;
- the flash: a patch in the upper right corner that lights up in one frame, at
  the moment at which every sound track beeps;
- the ball itself, whose hairs make a soft edge of about three pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

RULER_BLOCKS = 16
RULER_BITS = 13
RULER_LOW, RULER_HIGH = 0.62, 0.96


@dataclass(frozen=True)
class Picture:
    """rgb: (H, W, 3) float32, R'G'B' code values in 0..1; alpha: (H, W) float32 in 0..1.

    ``rgb`` is the composite: subject over ground by ``alpha``.
    """

    rgb: np.ndarray
    alpha: np.ndarray


#: (position in frames, width, height, lit) -> Picture. The position can be fractional:
#: the second field of an interlaced frame comes half a frame later.
Draw = Callable[[float, int, int, bool], Picture]


def draw_ball(position: float, width: int, height: int, lit: bool = False) -> Picture:
    """The scene at ``position``; ``lit`` lights the flash patch."""
    y, x, ground = _still_ground(width, height)
    short = min(width, height)
    radius = 0.28 * short
    centre_x = width * (0.5 + 0.22 * np.sin(0.25 * position))
    centre_y = height * (0.45 + 0.06 * np.cos(0.4 * position))
    dx, dy = x - centre_x, y - centre_y
    distance, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
    hairs = 1 + 0.05 * np.sin(17 * angle + 0.3 * position) + 0.03 * np.sin(41 * angle)
    softness = max(3.0, 0.03 * short)
    alpha = np.clip((radius * hairs - distance) / softness + 0.5, 0, 1)
    coat = 0.85 + 0.08 * np.sin(23 * angle + dx * 0.4) + 0.05 * np.cos(dy * 0.5)
    tint = np.array([1.0, 0.93, 0.80], np.float32)
    rgb = alpha[..., None] * (coat[..., None] * tint) + (1 - alpha[..., None]) * ground
    if lit:
        patch = flash_area(width, height)
        rgb[patch], alpha[patch] = 0.95, 1.0
    draw_ruler(rgb, alpha, int(position))
    return Picture(np.clip(rgb, 0, 1).astype(np.float32), alpha.astype(np.float32))


@lru_cache(maxsize=8)
def _still_ground(width: int, height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The row and the column of each pixel, and the ground."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return y, x, draw_ground(x, y, min(width, height))


def draw_ground(x: np.ndarray, y: np.ndarray, short: int) -> np.ndarray:
    """A dark woven texture that does not move: (H, W, 3), every value below 0.3."""
    scale = 60.0 / short
    weave = np.sin(x * scale) * np.cos(y * scale * 1.3) + 0.5 * np.sin((x + 2 * y) * scale * 0.37)
    grey = 0.14 + 0.05 * weave
    return np.stack([grey * 0.7, grey, grey * 1.25], axis=-1)


def draw_ramp(position: float, width: int, height: int, lit: bool = False) -> Picture:
    """A neutral ramp from 0 at the left to 1 at the right, all of it subject, no ruler.

    2**n pixels wide, it shows every n-bit code once.
    """
    line = np.linspace(0, 1, width, dtype=np.float32)
    rgb = np.broadcast_to(line[None, :, None], (height, width, 3)).copy()
    return Picture(rgb, np.ones((height, width), np.float32))


def draw_nothing(position: float, width: int, height: int, lit: bool = False) -> Picture:
    """The ground alone: alpha 0 everywhere, no ruler, no flash."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    rgb = draw_ground(x, y, min(width, height)).astype(np.float32)
    return Picture(rgb, np.zeros((height, width), np.float32))


def draw_ruler(rgb: np.ndarray, alpha: np.ndarray, index: int) -> None:
    """Write ``index`` into the lowest eighth: low, high, 13 bits from the top, parity."""
    if not 0 <= index < 1 << RULER_BITS:
        raise ValueError(f"index {index} does not fit in {RULER_BITS} bits")
    height, width = alpha.shape
    bits = [index >> bit & 1 for bit in reversed(range(RULER_BITS))]
    levels = [0, 1, *bits, sum(bits) % 2]
    rows = ruler_rows(height)
    blocks = np.repeat(levels, np.diff(ruler_edges(width)))
    rgb[rows] = np.where(blocks == 1, RULER_HIGH, RULER_LOW)[None, :, None]
    alpha[rows] = 1


def read_index(rgb: np.ndarray) -> int:
    """The index drawn in a picture's ruler. rgb: (H, W, 3 or 4) of any number type, upright.

    The first two blocks give the levels, so range, gamma and depth do not matter.
    Raises ValueError where there is no ruler or its parity is wrong.
    """
    height, width = rgb.shape[:2]
    rows, edges = ruler_rows(height), ruler_edges(width)
    strip = rgb[rows, :, :3].astype(np.float64).mean(axis=2)
    strip = strip[len(strip) // 4 : max(1, len(strip) * 3 // 4)]
    means = []
    for left, right in pairwise(edges):
        rim = (right - left) // 4
        means.append(strip[:, left + rim : right - rim].mean())
    low, high = means[:2]
    if high - low <= 0.15 * high:
        raise ValueError(f"no ruler: its first blocks are {low:.3g} and {high:.3g}")
    *bits, parity = [int(mean > (low + high) / 2) for mean in means[2:]]
    if sum(bits) % 2 != parity:
        raise ValueError(f"the ruler is damaged: bits {bits}, parity {parity}")
    return int("".join(map(str, bits)), 2)


def read_flash(rgb: np.ndarray) -> bool:
    """True where the flash patch of a picture (H, W, 3 or 4; any integer type) is lit."""
    patch = rgb[flash_area(rgb.shape[1], rgb.shape[0])][..., :3]
    return float(patch.mean()) > 0.6 * np.iinfo(rgb.dtype).max


def ruler_rows(height: int) -> slice:
    """The rows of the ruler: the lowest eighth."""
    return slice(height - max(4, height // 8), height)


def ruler_edges(width: int) -> list[int]:
    """The 17 left and right edges of the ruler's blocks."""
    return [width * block // RULER_BLOCKS for block in range(RULER_BLOCKS + 1)]


def flash_area(width: int, height: int) -> tuple[slice, slice]:
    """The rows and columns of the flash patch."""
    return slice(0, height // 6), slice(width - width // 8, width)

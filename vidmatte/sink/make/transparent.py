"""What stands under alpha 0: the colours of the subject beside it, so that nothing bleeds."""

from __future__ import annotations

import cv2
import numpy as np

from vidmatte.sink.make.planes import ALIGN, Rectangle

#: Cells of the coarse grid on which transparent pixels get their colour.
CELL = 8
#: Rings of cells around the subject that carry its colours outwards.
RINGS = 3
#: How far the subject's box is widened, in pixels: the rings, and what the estimate looks at.
BOX_MARGIN = 96


def box_of(visible: np.ndarray) -> Rectangle:
    """The box of the not-0 pixels of a (H, W) uint8 mask, widened by ``BOX_MARGIN``."""
    x, y, width, height = cv2.boundingRect(visible)
    if not width:
        return Rectangle(0, 0, 0, 0)
    left, top = max(0, x - BOX_MARGIN) // ALIGN * ALIGN, max(0, y - BOX_MARGIN) // ALIGN * ALIGN
    right = min(visible.shape[1], -(-(x + width + BOX_MARGIN) // ALIGN) * ALIGN)
    bottom = min(visible.shape[0], -(-(y + height + BOX_MARGIN) // ALIGN) * ALIGN)
    return Rectangle(left, top, right - left, bottom - top)


def extend(colour: np.ndarray, visible: np.ndarray, empty: tuple[int, ...]) -> np.ndarray:
    """Give the pixels that are not visible the colours of the subject beside them.

    colour: (h, w, 3) uint8 or uint16. visible: (h, w) uint8, not 0 where alpha is
    above 0. empty: the colour beyond reach, black.
    Returns an array like ``colour``; visible pixels are unchanged.

    The mean of the visible pixels of each cell of 8x8 spreads over three rings of
    cells by normalised averaging (Knutsson and Westin 1993, "Normalized and
    differential convolution"), and fades to ``empty`` between the last ring and the
    next cell. So a player that filters the picture mixes subject with subject, and
    everything farther away is one colour, which costs nothing to compress.
    """
    height, width = visible.shape
    size = (-(-width // CELL), -(-height // CELL))
    weight = (visible > 0).astype(np.float32)
    # INTER_AREA takes ratios that are no integers; the grid then stretches by less than a cell.
    shown = cv2.copyTo(colour, visible).astype(np.float32)
    sums = cv2.resize(shown, size, interpolation=cv2.INTER_AREA)
    weights = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    for _ in range(RINGS):
        spread, spread_weights = cv2.blur(sums, (3, 3)), cv2.blur(weights, (3, 3))
        fresh = (weights == 0) & (spread_weights > 0)
        sums[fresh], weights[fresh] = spread[fresh], spread_weights[fresh]
    coarse = np.empty_like(sums)
    coarse[:] = empty
    known = weights > 0
    coarse[known] = sums[known] / weights[known, None]
    limits = np.iinfo(colour.dtype)
    coarse = np.clip(np.rint(coarse), limits.min, limits.max).astype(colour.dtype)
    filled = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.copyTo(colour, visible, filled))

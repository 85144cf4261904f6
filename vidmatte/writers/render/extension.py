"""The subject's colours extended to the transparent pixels beside it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from vidmatte.alpha.box import Box, boxes_over

#: Pixels a side of a cell of the coarse grid that gives transparent pixels their colour.
CELL = 8
#: Rings of cells around the subject to which its colours are extended.
RINGS = 3
#: Height in cells of the boxes along the edge, and the gap in cells between two of a row.
_ROWS, _GAP = 16, 4


def extend(
    colours: Sequence[np.ndarray],
    visible: np.ndarray,
    empty: Sequence[int],
    targets: Sequence[np.ndarray],
) -> None:
    """Write the visible pixels and the extended colours beside them into ``targets``.

    colours, targets: three planes of (h, w) uint8 or uint16. visible: (h, w) uint8, 255 where
    alpha is above 0, else 0. empty: the code of each plane far from the subject, black; the
    targets hold it already.

    The mean of the visible pixels of each cell of 8x8 spreads over three rings of
    cells by normalised averaging (Knutsson and Westin 1993, "Normalized and
    differential convolution"), and fades to ``empty`` between the last ring and the
    next cell. So a player that scales the picture blends edges with the subject's colours, and
    everything farther away is one colour, which compresses to almost nothing. Only cells along the
    edge are computed.
    """
    height, width = visible.shape
    weights = _shares(visible)
    boxes = [Box(0, 0, *weights.shape)]
    if height % CELL == width % CELL == 0:  # else the grid stretches by less than a cell
        boxes = boxes_over(_edge(weights), _ROWS, _GAP)
    sums = np.zeros((3, *weights.shape), np.float32)
    for box in boxes:
        area, size = _in_pixels(box, height, width), box.shape[::-1]
        seen = area.crop(visible)
        for total, plane in zip(sums, colours, strict=True):
            shown = cv2.copyTo(area.crop(plane), seen).astype(np.float32)
            # INTER_AREA supports ratios that are no integers.
            box.crop(total)[:] = cv2.resize(shown, size, interpolation=cv2.INTER_AREA)
    coarse = _spread(sums, weights, empty, colours[0].dtype)
    for box in boxes:
        around = box.grown(1, *weights.shape)
        area, larger = (_in_pixels(one, height, width) for one in (box, around))
        inner = area.moved(-larger.top, -larger.left)
        for target, cells in zip(targets, coarse, strict=True):
            size = larger.shape[::-1]
            filled = cv2.resize(around.crop(cells), size, interpolation=cv2.INTER_LINEAR)
            area.crop(target)[:] = inner.crop(np.asarray(filled))
    for target, plane in zip(targets, colours, strict=True):
        cv2.copyTo(plane, visible, target)


def _in_pixels(box: Box, height: int, width: int) -> Box:
    """What a box of cells covers of a picture of height x width."""
    return box.times(CELL).common(Box(0, 0, height, width))


def _shares(visible: np.ndarray) -> np.ndarray:
    """The visible part of each cell, (rows, columns) float32 in 0..1."""
    height, width = visible.shape
    size = (-(-width // CELL), -(-height // CELL))
    weight = (visible > 0).astype(np.float32)
    return np.asarray(cv2.resize(weight, size, interpolation=cv2.INTER_AREA))


def _edge(weights: np.ndarray) -> np.ndarray:
    """(rows, columns) bool: the cells near both visible and transparent pixels."""
    reach = np.ones((2 * RINGS + 3, 2 * RINGS + 3), np.uint8)
    shown, hidden = (cv2.dilate(mask.view(np.uint8), reach) for mask in (weights > 0, weights < 1))
    return np.asarray(shown & hidden, bool)


def _spread(
    sums: np.ndarray, weights: np.ndarray, empty: Sequence[int], kind: np.dtype
) -> np.ndarray:
    """(3, rows, columns) codes of the cells, extended by ``RINGS``.

    sums: of the visible pixels of each cell, divided by its number of pixels; weights: the visible
    share of it, overwritten.
    """
    for _ in range(RINGS):
        spread_weights = cv2.blur(weights, (3, 3))
        newly_filled = (weights == 0) & (spread_weights > 0)
        np.copyto(weights, spread_weights, where=newly_filled)
        for total in sums:
            np.copyto(total, cv2.blur(total, (3, 3)), where=newly_filled)
    coarse = np.empty_like(sums)
    coarse[:] = np.reshape(empty, (3, 1, 1))
    np.divide(sums, weights, out=coarse, where=weights > 0)
    limits = np.iinfo(kind)
    np.clip(np.rint(coarse, out=coarse), limits.min, limits.max, out=coarse)
    return coarse.astype(kind)

"""Parts of masks: pieces at a place, without what is narrow, and with their rims."""

from __future__ import annotations

import cv2
import numpy as np

_BRUSH = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))  # what is narrower is a rim
_RIM, _RIM_BRUSH = 6.0, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))


def depth_at(mask: np.ndarray, place: tuple[int, int]) -> float:
    """Pixels from a place to the edge of a mask (h, w) bool."""
    same = mask if mask[place] else ~mask
    return float(cv2.distanceTransform(same.astype(np.uint8), cv2.DIST_L2, 5)[place])


def pieces_at(mask: np.ndarray, *places: tuple[int, int]) -> np.ndarray:
    """The connected pieces of a mask (h, w) bool at any of the places."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8))
    return np.isin(labels, [labels[place] for place in places if mask[place]])


def solid_piece(mask: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """The same without what is narrow and hangs on it, like a rim around something else."""
    solid = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, _BRUSH) > 0
    return pieces_at(solid if solid[place] else mask, place)


def with_its_rim(part: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A part of a mask, (h, w) bool, whose rim goes with what it is the rim of: near the mask's
    edge everything looks a little like the background."""
    deep = cv2.erode(mask.astype(np.uint8), _RIM_BRUSH, borderValue=1) > 0
    if not deep.any():
        return part
    away, nearest = cv2.distanceTransformWithLabels(
        (~deep).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    is_part = np.zeros(nearest.max() + 1, bool)
    is_part[nearest[deep]] = part[deep]
    rim = mask & ~deep & (away <= _RIM)
    return np.where(rim, is_part[nearest], part)


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest piece, (h, w) bool."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return np.asarray(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))

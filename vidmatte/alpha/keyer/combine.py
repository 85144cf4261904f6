"""A key or a plate together with a network: each where it can be believed."""

from __future__ import annotations

import cv2
import numpy as np

_CORE_INSET, _CORE_SIGMA = 13, 3.0  # pixels of a 720-line frame


def add_core(key: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """A key (H, W) with the inside of a network's alpha (H, W) made opaque.

    For clothes of the screen's colour and reflections. The edge stays the key's.
    """
    scale = key.shape[0] / 720
    radius = max(1, round(_CORE_INSET * scale))
    shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    inside = cv2.erode((alpha > 0.9).astype(np.uint8), shape).astype(np.float32)
    return np.asarray(np.maximum(key, cv2.GaussianBlur(inside, (0, 0), _CORE_SIGMA * scale)))


def combine_with_plate(alpha: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """A network's alpha mended by the difference from a clean plate, all (H, W) float32.

    Large pieces that differ and hang together with what the network marks are added; where the
    network is unsure and a wide area agrees with the plate, it is taken away. Soft edges stay
    the network's.
    """
    added = _square_blur(_differing_pieces(alpha, difference))
    agrees = (difference < 0.05).astype(np.uint8)
    wide = cv2.morphologyEx(agrees, cv2.MORPH_OPEN, np.ones((15, 15), np.uint8))
    empty = _square_blur(wide)
    cut = np.where(alpha > 0.85, alpha, alpha * (1 - empty))
    return np.asarray(np.maximum(cut, added), np.float32)


def _differing_pieces(alpha: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """Pieces that differ from the plate and belong to the subject, uint8 0 or 1."""
    ones = np.ones
    pieces = (difference > 0.6).astype(np.uint8)
    pieces = cv2.morphologyEx(pieces, cv2.MORPH_OPEN, ones((7, 7), np.uint8))
    pieces = cv2.morphologyEx(pieces, cv2.MORPH_CLOSE, ones((15, 15), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(pieces)
    sizes = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    flat = labels.ravel()
    mean = np.bincount(flat, alpha.ravel(), count) / sizes
    marked = np.bincount(flat, (alpha > 0.5).ravel(), count) / sizes
    kept = np.where(sizes < 0.02 * alpha.size, mean > 0.15, marked > 0.05)
    kept[0] = False
    return np.asarray(cv2.erode(kept[labels].astype(np.uint8), ones((5, 5), np.uint8)))


def _square_blur(mask: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.5))

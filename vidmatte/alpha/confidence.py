"""Resolves grey areas, where the network was undecided.

Salient-object networks output half-transparent areas inside a subject (a grey body
under a certain head) where they are undecided. Such an area is flat: its alpha is
neither near 0 nor near 1, without being an edge between the two. There alpha is moved
towards the nearer of 0 and 1. Edges, hair and motion blur, where soft alpha mixes
certain subject with certain background, are unchanged.
"""

from __future__ import annotations

import cv2
import numpy as np

from vidmatte.alpha.box import Box, box_around

_WINDOW = 17  # side of the windows, coarse pixels (half the working scale)
_OPACITY_WINDOW = 13
FLAT, SURELY_FLAT = 0.35, 0.6  # share of softness that mixing does not explain
MIDDLE, WIDTH = 0.42, 0.7  # of the curve that decides
_TINY = 1e-3
_LEAST = 0.004  # change of gain worth making


def decide_grey(alpha: np.ndarray, reduced: np.ndarray, box: Box) -> None:
    """Decide the grey areas of alpha (H, W) float32, in place.

    reduced: its area mean at the working scale (h, w), 0 outside of ``box``.
    """
    box = box.grown(_WINDOW, *reduced.shape)
    box = Box(box.top & ~1, box.left & ~1, box.bottom, box.right)
    gain = resolve_grey(box.crop(reduced))
    if gain is None:
        return
    changed = box_around(np.abs(gain - 1) > _LEAST / 8).grown(1, *gain.shape)
    ends: list[int] = []
    to_gain = np.zeros((2, 3))
    for axis, (low, high, start) in enumerate(
        ((changed.top, changed.bottom, box.top), (changed.left, changed.right, box.left))
    ):
        pixels = alpha.shape[axis] / reduced.shape[axis]
        step = gain.shape[axis] / box.shape[axis] / pixels
        first = max(0, int(low / step + start * pixels))
        last = min(alpha.shape[axis], int(np.ceil(high / step + start * pixels)))
        to_gain[1 - axis, 1 - axis] = step
        to_gain[1 - axis, 2] = (first + 0.5 - start * pixels) * step - 0.5
        ends += [first, last]
    top, bottom, left, right = ends
    there = alpha[top:bottom, left:right]
    size, how = (right - left, bottom - top), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    full = cv2.warpAffine(gain, to_gain, size, None, how, cv2.BORDER_REPLICATE)
    cv2.multiply(there, full, there)


def resolve_grey(alpha: np.ndarray) -> np.ndarray | None:
    """What alpha is to be multiplied by, (h / 2, w / 2) float32, or None for ones.

    alpha: (h, w) float32 at the working scale, steady already.
    """
    coarse = halved(alpha)
    weight = flatness(coarse)
    if weight is None:
        return None
    # The opacity of the subject around: the mean of alpha, weighted by itself.
    window = (_OPACITY_WINDOW, _OPACITY_WINDOW)
    opacity = cv2.blur(coarse * coarse, window) / (
        cv2.blur(coarse, window) + np.float32(_TINY / 10)
    )
    decided = _smooth_step((opacity - np.float32(MIDDLE)) * np.float32(1 / WIDTH) + np.float32(0.5))
    change = weight * (decided / np.maximum(opacity, np.float32(0.05)) - 1)
    return change + 1 if np.abs(change).max() > _LEAST else None


def _smooth_step(value: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, with no corner between."""
    value = np.clip(value, 0, 1)
    return np.asarray(value * value * (3 - 2 * value))


def flatness(coarse: np.ndarray) -> np.ndarray | None:
    """Where alpha is a flat grey and no edge, (h, w) float32 in 0..1; None for nowhere.

    coarse: alpha (h, w) float32 at half the working scale.
    """
    window = (_WINDOW, _WINDOW)
    mean = cv2.blur(coarse, window)
    # Within a window alpha * (1 - alpha) is 0 for any mixture of 0 and 1, and
    # mean * (1 - mean) for a flat grey.
    softness = cv2.blur(coarse * (1 - coarse), window) / (mean * (1 - mean) + np.float32(_TINY))
    weight = _smooth_step((softness - np.float32(FLAT)) * np.float32(1 / (SURELY_FLAT - FLAT)))
    return weight if weight.any() else None


def halved(alpha: np.ndarray) -> np.ndarray:
    """The area mean of alpha at half its size."""
    height, width = (max(1, size // 2) for size in alpha.shape)
    return np.asarray(cv2.resize(alpha, (width, height), interpolation=cv2.INTER_AREA))

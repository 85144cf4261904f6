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

WINDOW = 17  # side of the windows, coarse pixels (half the working scale)
OPACITY_WINDOW = 13
FLAT, SURELY_FLAT = 0.35, 0.6  # share of softness that mixing does not explain
MIDDLE, WIDTH = 0.42, 0.7  # of the curve that decides
TINY = 1e-3
LEAST = 0.004  # change of gain worth making


def decide_grey(alpha: np.ndarray, reduced: np.ndarray, box: Box) -> None:
    """Decide the grey areas of alpha (H, W) float32, in place.

    reduced: its area mean at the working scale (h, w), 0 outside of ``box``.
    """
    height, width = reduced.shape
    box = box.grown(WINDOW, height, width)
    bottom, right = min(box.bottom + box.bottom % 2, height), min(box.right + box.right % 2, width)
    box = Box(box.top - box.top % 2, box.left - box.left % 2, bottom, right)
    gain = _resolve_grey(box.crop(reduced))
    if gain is None:
        return
    if [2 * side for side in gain.shape] == list(box.shape):
        changed = box_around(gain != 1).grown(1, *gain.shape)
        gain = changed.crop(gain)
        ends = (changed.top, changed.left, changed.bottom, changed.right)
        box = Box(*(2 * end for end in ends)).moved(box.top, box.left)
    there = box.enlarged(reduced.shape, *alpha.shape).crop(alpha)
    full = cv2.resize(gain, there.shape[::-1], interpolation=cv2.INTER_LINEAR)
    cv2.multiply(there, full, there)


def _resolve_grey(alpha: np.ndarray) -> np.ndarray | None:
    """What alpha is to be multiplied by, (h / 2, w / 2) float32, or None for ones.

    alpha: (h, w) float32 at the working scale, steady already.
    """
    coarse = halved(alpha)
    full = coarse.shape
    weight = flatness(coarse)
    if weight is None:
        return None
    # The opacity of the subject around: the mean of alpha, weighted by itself.
    window = (OPACITY_WINDOW, OPACITY_WINDOW)
    box = box_around(weight > 0).grown(OPACITY_WINDOW // 2, *weight.shape)
    coarse, weight = box.crop(coarse), box.crop(weight)
    opacity = cv2.blur(coarse * coarse, window) / (cv2.blur(coarse, window) + np.float32(TINY / 10))
    decided = _smooth_step((opacity - np.float32(MIDDLE)) * np.float32(1 / WIDTH) + np.float32(0.5))
    change = weight * (decided / np.maximum(opacity, np.float32(0.05)) - 1)
    if np.abs(change).max() <= LEAST:
        return None
    gain = np.ones(full, np.float32)
    box.crop(gain)[:] += change
    return gain


def _smooth_step(value: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, with no corner between."""
    value = np.clip(value, 0, 1)
    return np.asarray(value * value * (3 - 2 * value))


def flatness(coarse: np.ndarray) -> np.ndarray | None:
    """Where alpha is a flat grey and no edge, (h, w) float32 in 0..1; None for nowhere.

    coarse: alpha (h, w) float32 at half the working scale.
    """
    window = (WINDOW, WINDOW)
    mean = cv2.blur(coarse, window)
    # Within a window alpha * (1 - alpha) is 0 for any mixture of 0 and 1, and
    # mean * (1 - mean) for a flat grey.
    softness = cv2.blur(coarse * (1 - coarse), window) / (mean * (1 - mean) + np.float32(TINY))
    weight = _smooth_step((softness - np.float32(FLAT)) * np.float32(1 / (SURELY_FLAT - FLAT)))
    return weight if weight.any() else None


def halved(alpha: np.ndarray) -> np.ndarray:
    """The area mean of alpha at half its size."""
    height, width = (max(1, size // 2) for size in alpha.shape)
    return np.asarray(cv2.resize(alpha, (width, height), interpolation=cv2.INTER_AREA))

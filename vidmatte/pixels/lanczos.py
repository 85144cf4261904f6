"""Lanczos resampling of 8-bit pictures that widens with the reduction, as Pillow's.

Duchon 1979, "Lanczos filtering in one and two dimensions". OpenCV's ``INTER_LANCZOS4`` has four
lobes and does not widen, so it aliases where it reduces.
"""

from __future__ import annotations

import numpy as np

_LOBES = 3


def resize_lanczos(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H, W) or (H, W, C) uint8 -> (height, width[, C]) uint8: columns first, then rows, each
    rounded to 8 bits. A side that stays is not filtered."""
    if width != picture.shape[1]:
        picture = np.ascontiguousarray(_resize_rows(picture.swapaxes(0, 1), width).swapaxes(0, 1))
    return picture if height == picture.shape[0] else _resize_rows(picture, height)


def _resize_rows(picture: np.ndarray, count: int) -> np.ndarray:
    """The picture with ``count`` rows."""
    taps, weights = _kernel(picture.shape[0], count)
    shape = (-1, *(1,) * (picture.ndim - 1))
    total = np.zeros((count, *picture.shape[1:]), np.float32)
    for rows, weight in zip(taps.T, weights.T, strict=True):
        total += picture[rows] * weight.reshape(shape)
    return np.clip(np.floor(total + 0.5), 0, 255).astype(np.uint8)


def _kernel(available: int, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """For each row of the result the rows that it takes, (wanted, taps) of int, and their
    weights, float32, whose sum is 1. Rows beyond the picture weigh nothing."""
    scale = available / wanted
    widened = max(scale, 1.0)
    reach = _LOBES * widened
    centres = (np.arange(wanted) + 0.5) * scale
    first = np.floor(centres - reach + 0.5).astype(int)
    end = np.floor(centres + reach + 0.5).astype(int)
    taps = first[:, None] + np.arange(int((end - first).max()))
    distances = (taps + 0.5 - centres[:, None]) / widened
    weights = np.sinc(distances) * np.sinc(distances / _LOBES)
    is_used = (taps >= 0) & (taps < np.minimum(end, available)[:, None])
    weights[~is_used | (np.abs(distances) >= _LOBES)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(taps, 0, available - 1), weights.astype(np.float32)

"""A frame made smaller as RVM's first step does it, from the few pixels that it looks at."""

from __future__ import annotations

import cv2
import numpy as np


class Reducer:
    """Makes frames of one size smaller by ``ratio``, 0..1.

    Bilinear without a filter: each pixel of the result is mixed from the four around its
    place, whatever lies between. These are looked up in 8 bits, so that the whole frame
    need not be brought to float32 first. Places and weights as ONNX's operator Resize has
    them (linear, half_pixel). https://onnx.ai/onnx/operators/onnx__Resize.html
    """

    def __init__(self, height: int, width: int, ratio: float) -> None:
        self.key = height, width, ratio
        self._rows, row_shares = places(height, ratio)
        self._columns, column_shares = places(width, ratio)
        weights = [np.outer(row, column) / 255 for row in row_shares for column in column_shares]
        self._weights = [np.dstack([weight] * 3).astype(np.float32) for weight in weights]

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (1, 3, h, w) float32 in 0..1."""
        total: np.ndarray | None = None
        # Rows, then columns: cv2.remap takes no side of 32767 pixels or more.
        bands = [rgb[rows] for rows in self._rows]
        corners = (band.take(columns, axis=1) for band in bands for columns in self._columns)
        for corner, weight in zip(corners, self._weights, strict=True):
            part = cv2.multiply(corner, weight, dtype=cv2.CV_32F)
            total = part if total is None else cv2.add(total, part, dst=total)
        assert total is not None
        return np.stack(cv2.split(total))[None]


def places(length: int, ratio: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The pixels before and after each place in one direction, and their shares."""
    scale = np.float32(ratio)
    count = int(scale * np.float32(length))
    place = (np.arange(count) + 0.5) / float(scale) - 0.5 if count > 1 else np.zeros(1)
    place = np.clip(place, 0, length - 1)
    before = place.astype(int)
    share = place - before
    return [before, np.minimum(before + 1, length - 1)], [1 - share, share]

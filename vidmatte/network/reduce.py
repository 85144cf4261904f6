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
        rows, row_shares = places(height, ratio)
        columns, column_shares = places(width, ratio)
        self._corners: list[tuple[np.ndarray, np.ndarray]] = []
        for row, row_share in zip(rows, row_shares, strict=True):
            for column, column_share in zip(columns, column_shares, strict=True):
                where = np.dstack(np.meshgrid(column, row)).astype(np.int16)
                weight = np.outer(row_share, column_share) / 255
                self._corners.append((where, np.dstack([weight] * 3).astype(np.float32)))

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (1, 3, h, w) float32 in 0..1."""
        total: np.ndarray | None = None
        for where, weight in self._corners:
            corner = cv2.remap(rgb, where, None, cv2.INTER_NEAREST)
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

"""Close-ups of a click: parts of the frame around it, each a picture of its own for a network.

A salient network marks what stands out in a picture. In a part of it around a click that is more
likely what was clicked on, and less of what stands beside it.
"""

from __future__ import annotations

import cv2
import numpy as np

from vidmatte.alpha.guidance.coarse import CoarseFrame
from vidmatte.alpha.guidance.second_look import Crop

_REACHES = (0.35, 0.55, 0.8)  # of the frame's shorter side, from the click


def crops_around(x: float, y: float, width: int, height: int) -> list[Crop]:
    """Parts of a frame of width x height around a place in its pixels, the smallest first."""
    crops = []
    for share in _REACHES:
        reach = share * min(width, height)
        left, top = max(0, round(x - reach)), max(0, round(y - reach))
        crops.append(Crop(left, top, min(width, round(x + reach)), min(height, round(y + reach))))
    return crops


def placed(
    alpha: np.ndarray, crop: Crop, width: int, height: int, frame: CoarseFrame
) -> np.ndarray:
    """A crop's alpha (H', W') float32 0..1 in a frame of width x height: (h, w) float32 at the work
    size, 0 outside the crop."""
    x, y = frame.width / width, frame.height / height
    part = Crop(
        round(crop.left * x), round(crop.top * y), round(crop.right * x), round(crop.bottom * y)
    ).part
    result = np.zeros((frame.height, frame.width), np.float32)
    rows, columns = result[part].shape
    if rows and columns:
        result[part] = cv2.resize(alpha, (columns, rows), interpolation=cv2.INTER_AREA)
    return result

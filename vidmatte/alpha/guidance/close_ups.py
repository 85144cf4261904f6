"""Close-ups of a click or a box: parts of the frame, each a picture of its own for a network.

A salient network marks what stands out in a picture. In a part of it around a click that is more
likely what was clicked on, and less of what stands beside it.
"""

from __future__ import annotations

import cv2
import numpy as np

from vidmatte.alpha.guidance.coarse import CoarseFrame
from vidmatte.alpha.guidance.second_look import Crop

_REACHES = (0.35, 0.55, 0.8)  # of the frame's shorter side, from the click
_MARGINS = (0.1, 0.4)  # of the box, to each side


def crops_around(x: float, y: float, width: int, height: int) -> list[Crop]:
    """Parts of a frame of width x height around a place in its pixels, the smallest first."""
    reaches = [share * min(width, height) for share in _REACHES]
    return [Crop.within((x - r, y - r, x + r, y + r), width, height) for r in reaches]


def crops_of_box(
    left: float, top: float, right: float, bottom: float, width: int, height: int
) -> list[Crop]:
    """A box in a frame of width x height with some around it, the smallest first."""
    crops = []
    for share in _MARGINS:
        x, y = share * (right - left), share * (bottom - top)
        crops.append(Crop.within((left - x, top - y, right + x, bottom + y), width, height))
    return crops


def placed(
    alpha: np.ndarray, crop: Crop, width: int, height: int, frame: CoarseFrame
) -> np.ndarray:
    """A crop's alpha (H', W') float32 0..1 in a frame of width x height: (h, w) float32 at the work
    size, 0 outside the crop."""
    part = crop.scaled(frame.width / width, frame.height / height).part
    result = np.zeros((frame.height, frame.width), np.float32)
    rows, columns = result[part].shape
    if rows and columns:
        result[part] = cv2.resize(alpha, (columns, rows), interpolation=cv2.INTER_AREA)
    return result

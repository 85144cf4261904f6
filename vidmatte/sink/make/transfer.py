"""Transfer curves to linear light, by their number in ITU-T H.273."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

LINEAR = 8


def camera_light(code: np.ndarray) -> np.ndarray:
    """Inverse of the bt709 camera curve, ITU-T H.273 table 3, transfer 1."""
    return np.where(code < 0.081, code / 4.5, ((code + 0.099) / 1.099) ** (1 / 0.45))


def screen_light(code: np.ndarray) -> np.ndarray:
    """Inverse of the sRGB curve, IEC 61966-2-1."""
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


#: Curves that have an agreed way to linear light. PQ, HLG and log pass as they are.
TO_LINEAR: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: camera_light,
    4: lambda code: code**2.2,
    5: lambda code: code**2.8,
    6: camera_light,
    13: screen_light,
    14: camera_light,
    15: camera_light,
}

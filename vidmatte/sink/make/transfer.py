"""Transfer curves to linear light, by their number in ITU-T H.273."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vidmatte.colour import BT709, BT2020_10, BT2020_12, GAMMA22, GAMMA28, SMPTE170M, SRGB


def camera_light(code: np.ndarray) -> np.ndarray:
    """Inverse of the bt709 camera curve, ITU-T H.273 table 3."""
    return np.where(code < 0.081, code / 4.5, ((code + 0.099) / 1.099) ** (1 / 0.45))


def screen_light(code: np.ndarray) -> np.ndarray:
    """Inverse of the sRGB curve, IEC 61966-2-1."""
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


#: Curves that have an agreed way to linear light. PQ, HLG and log pass as they are.
TO_LINEAR: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    BT709: camera_light,
    GAMMA22: lambda code: code**2.2,
    GAMMA28: lambda code: code**2.8,
    SMPTE170M: camera_light,
    SRGB: screen_light,
    BT2020_10: camera_light,
    BT2020_12: camera_light,
}

"""A colour-difference key for green and blue screens that are lit unevenly.

The colour difference is the screen's primary less the larger of the other two (Vlahos, US
patent 4,100,569). What a pixel shows of it against what the screen itself shows at that place
is how much of the screen is seen; the screen's own difference is spread from where it is
surely seen, so that hot spots, wrinkles and dark corners do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from vidmatte.errors import UsageError

_Primary = Literal["green", "blue"]

_CHANNEL: dict[_Primary, int] = {"green": 1, "blue": 2}
_LEAST_DIFFERENCE = 0.06  # of a border that is a screen
_BORDER = 12  # the border is one part in so many of the height
# The screen is spread by blurs of these widths (pixels of the quarter picture) and weights:
# the finest that has data counts.
_SPREAD = ((3.0, 1.0), (12.0, 0.05), (50.0, 0.002), (200.0, 1e-4))
_REDUCED = 4
# Of the height: wider than a soft shadow, narrower than the fall of the light.
_SHADOW_SURROUNDINGS = 0.25
_CHROMA_RADIUS, _CHROMA_EPS = 2, 4e-4


@dataclass(frozen=True)
class Screen:
    """The screen's colour. red, green, blue: 0..1."""

    red: float
    green: float
    blue: float

    @property
    def primary(self) -> _Primary:
        """The stronger of green and blue."""
        return "green" if self.green >= self.blue else "blue"

    @property
    def difference(self) -> float:
        """Its primary less the larger of the other two."""
        return float(
            _difference(np.array([[[self.red, self.green, self.blue]]]), self.primary)[0, 0]
        )


@dataclass(frozen=True)
class KeySettings:
    """How the key is stretched.

    low, high: shares of what is not screen that become alpha 0 and 1; None for a low that
    follows the screen's noise. keep_shadows: keep the soft shadows on the screen in the matte.
    local: follow uneven light.
    """

    low: float | None = None
    high: float = 0.92
    keep_shadows: bool = False
    local: bool = True

    def __post_init__(self) -> None:
        low = 0.0 if self.low is None else self.low
        if not 0 <= low < self.high <= 1:
            raise UsageError(f"key limits {low:g} and {self.high:g}: expected 0 <= low < high <= 1")


def find_screen(rgb: np.ndarray) -> Screen:
    """The screen's colour from the left, top and right border of (H, W, 3) uint8.

    Raises UsageError where the border shows neither a green nor a blue screen.
    """
    height = rgb.shape[0]
    width = max(height // _BORDER, 1)
    parts = rgb[:width], rgb[:, :width], rgb[:, -width:]
    border = np.concatenate([part.reshape(-1, 3) for part in parts]).astype(np.float32) / 255
    differences = {name: _difference(border, name) for name in _CHANNEL}
    primary = max(differences, key=lambda name: float(np.maximum(differences[name], 0).mean()))
    found = differences[primary]
    strong = float(np.percentile(found, 90))
    if strong < _LEAST_DIFFERENCE:
        raise UsageError(
            "the picture's border shows no green or blue screen: give the screen's colour"
        )
    red, green, blue = np.median(border[found > 0.5 * strong], axis=0)
    return Screen(float(red), float(green), float(blue))


class ChromaKeyer:
    """Keys the frames of one clip. Holds nothing between frames but the screen's colour."""

    def __init__(self, screen: Screen | None = None, settings: KeySettings | None = None) -> None:
        """screen: its colour, or None to find it on the first frame."""
        if screen is not None and screen.difference < _LEAST_DIFFERENCE:
            raise UsageError(
                f"screen colour {screen.red:g},{screen.green:g},{screen.blue:g} is neither green"
                " nor blue enough to key"
            )
        self.screen, self._settings = screen, settings or KeySettings()

    def alpha(self, rgb: np.ndarray) -> np.ndarray:
        """The alpha of a frame (H, W, 3) uint8, (H, W) float32 0..1. Raises UsageError."""
        if self.screen is None:
            self.screen = find_screen(rgb)
        screen, settings = self.screen, self._settings
        clean = _denoised(rgb.astype(np.float32) / 255)
        difference = _difference(clean, screen.primary)
        sure = _surely_screen(clean, difference, screen)
        if settings.local and sure.any():
            local = _spread(difference, sure)
        else:
            local = np.full(difference.shape, screen.difference, np.float32)
        uncovered = np.maximum(difference, 0) / np.maximum(local, 0.05)
        low = _noise_limit(1 - uncovered, sure) if settings.low is None else settings.low
        if settings.keep_shadows and sure.any():
            uncovered = uncovered * _shade(clean, sure, screen)
        raw = 1 - uncovered
        return np.asarray(np.clip((raw - low) / (settings.high - low), 0, 1), np.float32)


def _difference(values: np.ndarray, primary: _Primary) -> np.ndarray:
    """Colour difference of (..., 3) RGB."""
    key = _CHANNEL[primary]
    rest = [channel for channel in range(3) if channel != key]
    return np.asarray(
        values[..., key] - np.maximum(values[..., rest[0]], values[..., rest[1]]), np.float32
    )


def _denoised(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32 with its chroma smoothed along the luma, against the blocks of 4:2:0.

    A guided filter (He, Sun, Tang, TPAMI 2013) of the two chroma planes, guided by the luma.
    """
    planes = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb))
    luma, size = planes[0], (2 * _CHROMA_RADIUS + 1,) * 2
    mean = cv2.blur(luma, size)
    variance = cv2.blur(luma * luma, size) - mean * mean + np.float32(_CHROMA_EPS)
    smooth = [luma]
    for plane in planes[1:]:
        average = cv2.blur(plane, size)
        slope = (cv2.blur(luma * plane, size) - mean * average) / variance
        offset = average - slope * mean
        smooth.append(cv2.blur(slope, size) * luma + cv2.blur(offset, size))
    back = cv2.cvtColor(cv2.merge(smooth), cv2.COLOR_YCrCb2RGB)
    return np.asarray(np.clip(back, 0, 1))


def _surely_screen(clean: np.ndarray, difference: np.ndarray, screen: Screen) -> np.ndarray:
    """Where the unobstructed screen is certain, (H, W) bool."""
    key = clean[..., _CHANNEL[screen.primary]]
    hue = difference / np.maximum(key, 0.02)
    brightest = max(screen.red, screen.green, screen.blue, 0.02)
    alike = np.abs(hue - screen.difference / brightest) < 0.2
    sure = ((difference > 0.45 * screen.difference) & alike).astype(np.uint8)
    return np.asarray(cv2.erode(sure, np.ones((7, 7), np.uint8))) > 0


def _spread(difference: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """The screen's own difference everywhere, from where it is surely seen, (H, W) float32."""
    height, width = difference.shape
    small = max(width // _REDUCED, 1), max(height // _REDUCED, 1)
    weight = sure.astype(np.float32)
    values = cv2.resize(difference * weight, small, interpolation=cv2.INTER_AREA)
    weight = cv2.resize(weight, small, interpolation=cv2.INTER_AREA)
    total, known = np.zeros_like(values), np.zeros_like(values)
    for sigma, share in _SPREAD:
        total += np.float32(share) * _wide_blur(values, sigma)
        known += np.float32(share) * _wide_blur(weight, sigma)
    return np.asarray(cv2.resize(total / np.maximum(known, 1e-9), (width, height)))


def _wide_blur(values: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur, wide ones at a reduced size: a kernel of 1200 pixels is slow."""
    factor = max(1, int(sigma // 6))
    height, width = values.shape
    size = max(width // factor, 1), max(height // factor, 1)
    small = cv2.resize(values, size, interpolation=cv2.INTER_AREA) if factor > 1 else values
    blurred = cv2.GaussianBlur(small, (0, 0), sigma / factor, borderType=cv2.BORDER_REFLECT)
    return np.asarray(cv2.resize(blurred, (width, height)) if factor > 1 else blurred)


def _noise_limit(raw: np.ndarray, sure: np.ndarray) -> float:
    """The alpha that noise alone makes on the screen: what of 200 pixels one is above."""
    if sure.sum() < 1000:
        return 0.12
    return float(np.clip(np.percentile(raw[sure][::7], 99.5), 0.04, 0.3))


def _shade(clean: np.ndarray, sure: np.ndarray, screen: Screen) -> np.ndarray:
    """How bright the screen is against its surroundings, at most 1: less in a shadow."""
    key = clean[..., _CHANNEL[screen.primary]]
    weight = sure.astype(np.float32)
    sigma = _SHADOW_SURROUNDINGS * key.shape[0]
    known = np.maximum(_wide_blur(weight, sigma), 1e-4)
    usual = _wide_blur(key * weight, sigma) / known
    near = np.maximum(cv2.GaussianBlur(weight, (0, 0), 4), 1e-4)
    soft = cv2.GaussianBlur(key * weight, (0, 0), 4) / near
    return np.where(sure, np.clip(soft / np.maximum(usual, 0.02), 0, 1), 1).astype(np.float32)

"""The difference from a clean plate: the still camera's picture without the subject.

Alone it cannot separate a subject from a background of similar colour; with a network it finds
what the network missed, and where there is certainly no subject (``combine_with_plate``).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.errors import UsageError

_FIT_ROUNDS = 3
_FIT_SAMPLES = 20000
_FAR = 20  # pixels of a 720-line frame around what the network marks


@dataclass(frozen=True)
class DifferenceSettings:
    """shadows: treat a darker pixel of the same colour as background. fit_light: follow slow
    changes of exposure and white balance."""

    shadows: bool = True
    fit_light: bool = True


class CleanPlate:
    """Compares frames of one clip with its plate."""

    def __init__(self, plate: np.ndarray, settings: DifferenceSettings | None = None) -> None:
        """plate: (H, W, 3) uint8 or float32 0..255 RGB; the mean of several frames is best."""
        if plate.ndim != 3 or plate.shape[2] != 3:
            raise UsageError(f"a clean plate has the shape {plate.shape}: expected (H, W, 3)")
        self._plate = plate.astype(np.float32)
        self._settings = settings or DifferenceSettings()

    def difference(self, rgb: np.ndarray, alpha: np.ndarray | None = None) -> np.ndarray:
        """How surely a pixel differs from the plate, (H, W) float32 0..1.

        rgb: (H, W, 3) uint8. alpha: (H, W) float32, the network's: light and noise are
        measured where it marks nothing; without it, in the full frame, robustly. Raises
        UsageError where the plate is of another size.
        """
        if rgb.shape != self._plate.shape:
            (height, width), (h, w) = self._plate.shape[:2], rgb.shape[:2]
            raise UsageError(
                f"the clean plate is {width}x{height}: expected the clip's size, {w}x{h}"
            )
        far = _far_from(alpha, rgb.shape[:2])
        frame, plate = rgb.astype(np.float32), self._plate
        if self._settings.fit_light:
            plate = _fitted_light(plate, frame, far)
        distance = self._distance(frame, plate)
        usual = distance[far] if far.any() else distance
        noise = 1.4826 * float(np.median(usual))
        return np.asarray(np.clip((distance - 3 * noise - 1) / (6 * noise + 6), 0, 1), np.float32)

    def _distance(self, frame: np.ndarray, plate: np.ndarray) -> np.ndarray:
        """Lab distance with chroma counted double, slightly blurred, (H, W) float32."""
        lab, other = (
            cv2.cvtColor(np.clip(picture, 0, 255) / np.float32(255), cv2.COLOR_RGB2LAB)
            for picture in (frame, plate)
        )
        apart = lab - other
        light, chroma = apart[..., 0], np.hypot(apart[..., 1], apart[..., 2])
        if self._settings.shadows:
            ratio = (frame.mean(-1) + 4) / (plate.mean(-1) + 4)
            shadow = (ratio > 0.5) & (ratio < 1) & (cv2.GaussianBlur(chroma, (0, 0), 2) < 6)
            light = np.where(shadow, light * np.float32(0.25), light)
        distance = np.sqrt(np.square(light) + 2 * np.square(chroma))
        return np.asarray(cv2.GaussianBlur(distance, (0, 0), 1.0))


def _far_from(alpha: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Where the subject surely is not, (H, W) bool."""
    if alpha is None:
        return np.ones(shape, bool)
    radius = max(1, round(_FAR * shape[0] / 720))
    side = 2 * radius + 1
    marked = cv2.dilate((alpha > 0.02).astype(np.uint8), np.ones((side, side), np.uint8))
    return np.asarray(marked == 0)


def _fitted_light(plate: np.ndarray, frame: np.ndarray, far: np.ndarray) -> np.ndarray:
    """The plate with a gain and an offset a channel fitted to the frame, robustly."""
    rows, columns = np.nonzero(far)
    if len(rows) < 500:
        return plate
    step = max(1, len(rows) // _FIT_SAMPLES)
    rows, columns = rows[::step], columns[::step]
    fitted = np.empty_like(plate)
    for channel in range(3):
        x, y = plate[rows, columns, channel], frame[rows, columns, channel]
        kept = np.ones(len(x), bool)
        gain, offset = 1.0, 0.0
        for _ in range(_FIT_ROUNDS):
            if np.ptp(x[kept]) < 4:  # one tone: an offset is all that can be known
                gain, offset = 1.0, float(np.median(y[kept] - x[kept]))
            else:
                gain, offset = (float(v) for v in np.polyfit(x[kept], y[kept], 1))
            residual = np.abs(y - (gain * x + offset))
            kept = residual < 2.5 * np.median(residual) + 2
        fitted[..., channel] = gain * plate[..., channel] + offset
    return fitted


_CORE_INSET, _CORE_SIGMA = 13, 3.0  # pixels of a 720-line frame


def add_core(key: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """A key (H, W) with the inside of a network's alpha (H, W) made opaque.

    For clothes of the screen's colour and reflections. The edge stays the key's.
    """
    scale = key.shape[0] / 720
    radius = max(1, round(_CORE_INSET * scale))
    shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    inside = cv2.erode((alpha > 0.9).astype(np.uint8), shape).astype(np.float32)
    return np.asarray(np.maximum(key, cv2.GaussianBlur(inside, (0, 0), _CORE_SIGMA * scale)))


def combine_with_plate(alpha: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """A network's alpha mended by the difference from a clean plate, all (H, W) float32.

    Large pieces that differ and hang together with what the network marks are added; where the
    network is unsure and a wide area agrees with the plate, it is taken away. Soft edges stay
    the network's.
    """
    added = _square_blur(_differing_pieces(alpha, difference))
    agrees = (difference < 0.05).astype(np.uint8)
    wide = cv2.morphologyEx(agrees, cv2.MORPH_OPEN, np.ones((15, 15), np.uint8))
    empty = _square_blur(wide)
    cut = np.where(alpha > 0.85, alpha, alpha * (1 - empty))
    return np.asarray(np.maximum(cut, added), np.float32)


def _differing_pieces(alpha: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """Pieces that differ from the plate and belong to the subject, uint8 0 or 1."""
    ones = np.ones
    pieces = (difference > 0.6).astype(np.uint8)
    pieces = cv2.morphologyEx(pieces, cv2.MORPH_OPEN, ones((7, 7), np.uint8))
    pieces = cv2.morphologyEx(pieces, cv2.MORPH_CLOSE, ones((15, 15), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(pieces)
    sizes = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    flat = labels.ravel()
    mean = np.bincount(flat, alpha.ravel(), count) / sizes
    marked = np.bincount(flat, (alpha > 0.5).ravel(), count) / sizes
    kept = np.where(sizes < 0.02 * alpha.size, mean > 0.15, marked > 0.05)
    kept[0] = False
    return np.asarray(cv2.erode(kept[labels].astype(np.uint8), ones((5, 5), np.uint8)))


def _square_blur(mask: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.5))

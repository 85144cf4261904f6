"""Spill suppression directly on the samples of the output.

As in ``vidmatte.alpha.adjustments.despill``, the screen's channel is limited to the mean of
the two others. The excess over that mean is a linear function of the samples, and removing
it moves them along one direction; in Y'CbCr both follow from the matrix (from chroma alone,
as grey has no excess), so samples are not converted to RGB.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.alpha.adjustments import SPILL_CHANNELS
from vidmatte.core.colour import ColourTags
from vidmatte.pixels import planes
from vidmatte.pixels.convert import yuv_matrix
from vidmatte.pixels.planes import is_yuv
from vidmatte.settings import Settings

#: The positions of red, green and blue among the channels of ``planes.read_colours``, if
#: not in that order.
_CHANNEL_ORDERS = {"gbr": (2, 0, 1), "bgr": (2, 1, 0)}
_NEGLIGIBLE = 1e-9  # smaller weights are rounding errors of 0
_VISIBLE = 0.4999  # in code values: the smallest change of a rounded sample


@dataclass(frozen=True)
class Despill:
    """The screen colour whose spill is removed, and the strength of it, 0..1."""

    colour: str
    strength: float = 1.0

    @classmethod
    def of(cls, settings: Settings) -> Despill | None:
        """The despill of ``settings``; None if off or of strength 0."""
        if settings.despill is None or not settings.despill_strength:
            return None
        return cls(settings.despill, settings.despill_strength)


class SpillRemover:
    """Removes spill from the colours of one pixel format with one set of tags."""

    def __init__(self, despill: Despill, pixel_format: str, colour: ColourTags) -> None:
        self._full_scale = planes.full_scale(pixel_format)
        screen = SPILL_CHANNELS[despill.colour]
        over_mean = np.full(3, -0.5)
        over_mean[screen] = 1
        if is_yuv(pixel_format):
            forward = yuv_matrix(colour, self._full_scale + 1, self._full_scale)
            self._weights = over_mean @ np.linalg.inv(forward[:, :3])
            self._offset = -float(self._weights @ forward[:, 3])
            self._direction = forward[:, screen] * despill.strength
        else:
            order = list(_CHANNEL_ORDERS.get(pixel_format[:3], (0, 1, 2)))
            self._weights, self._offset, self._direction = np.zeros(3), 0.0, np.zeros(3)
            self._weights[order] = over_mean
            self._direction[order[screen]] = despill.strength

    def __call__(self, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The colours without spill, and where they changed.

        colours: (h, w, 3) uint8 or uint16, channels in the order of ``planes.read_colours``.
        Returns a new array like it, and (h, w) uint8, 255 where a sample changed.
        """
        channels = list(cv2.split(colours))
        excess = self._excess(channels)
        reach = float(np.abs(self._direction).max())
        changed = np.asarray(cv2.compare(excess, _VISIBLE / reach, cv2.CMP_GT))
        depth = cv2.CV_8U if colours.dtype == np.uint8 else cv2.CV_16U
        cv2.max(excess, 0.0, dst=excess)
        for place, step in enumerate(self._direction):
            if abs(step) < _NEGLIGIBLE:
                continue
            moved = cv2.addWeighted(channels[place], 1, excess, -float(step), 0, dtype=depth)
            saturates = self._full_scale == np.iinfo(colours.dtype).max
            channels[place] = moved if saturates else cv2.min(moved, float(self._full_scale))
        return np.asarray(cv2.merge(channels)), changed

    def _excess(self, channels: list[np.ndarray]) -> np.ndarray:
        """The screen's channel minus the mean of the others, (h, w) float32."""
        terms = [
            (channel, float(weight))
            for channel, weight in zip(channels, self._weights, strict=True)
            if abs(weight) > _NEGLIGIBLE
        ]
        (one, first), (other, second), *more = terms
        kind = cv2.CV_32F
        excess = cv2.addWeighted(one, first, other, second, self._offset, dtype=kind)
        for channel, weight in more:
            excess = cv2.addWeighted(channel, weight, excess, 1, 0, dtype=kind)
        return np.asarray(excess)


def despilled_floats(rgb: list[np.ndarray], despill: Despill) -> list[np.ndarray]:
    """Float planes R, G, B without spill; only the screen's is a new array."""
    screen = SPILL_CHANNELS[despill.colour]
    one, other = (plane for place, plane in enumerate(rgb) if place != screen)
    excess = np.maximum(rgb[screen] - (one + other) / 2, 0)
    limited = rgb[screen] - np.float32(despill.strength) * excess
    return [limited if place == screen else plane for place, plane in enumerate(rgb)]

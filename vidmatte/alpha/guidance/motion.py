"""Where each pixel of a small frame lies in its neighbour, and how far that can be trusted.

Dense inverse search (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV
2016, as in OpenCV) both ways between two grey pictures, then a round trip and a look at the
colours: what does not come back to itself, or arrives at another colour, is not trusted.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# Pixels of round-trip error that are normal: of a still pixel, and more for each pixel moved.
_ROUND_TRIP, _ROUND_TRIP_PER_PIXEL = 0.8, 0.1
# Squared Lab distance that noise alone makes, and the deviation beyond it.
_COLOUR_NOISE, _COLOUR_SIGMA = 30.0, 14.0


@dataclass(frozen=True)
class Motion:
    """Motion from a frame to its neighbour, at the work size.

    x, y: (h, w) float32, where each pixel lies in the neighbour. trust: (h, w) float32, 0..1.
    """

    x: np.ndarray
    y: np.ndarray
    trust: np.ndarray

    def carry(self, values: np.ndarray) -> np.ndarray:
        """The neighbour's values (h, w) float32 moved to this frame, 0 from outside of it."""
        moved = cv2.remap(
            values, self.x, self.y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
        )
        return np.asarray(moved)


class MotionSearch:
    """Finds motion between small frames. Not for use by two threads at once."""

    def __init__(self) -> None:
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._search.setFinestScale(1)

    def flow(self, grey: np.ndarray, other: np.ndarray, width: int, height: int) -> np.ndarray:
        """Flow from grey to other, both (H, W) uint8, as (height, width, 2) float32 pixels."""
        found = self._search.calc(grey, other, None)
        small = cv2.resize(found, (width, height), interpolation=cv2.INTER_AREA)
        scale = np.array([width / grey.shape[1], height / grey.shape[0]], np.float32)
        return np.asarray(small * scale)

    def between(
        self,
        grey: np.ndarray,
        other_grey: np.ndarray,
        lab: np.ndarray,
        other_lab: np.ndarray,
    ) -> Motion:
        """Motion from a frame to another one.

        grey, other_grey: (H, W) uint8. lab, other_lab: (h, w, 3) float32 at the work size.
        """
        height, width = lab.shape[:2]
        flow = self.flow(grey, other_grey, width, height)
        back = self.flow(other_grey, grey, width, height)
        return trusted_motion(lab, other_lab, flow, back)


def trusted_motion(
    lab: np.ndarray, other_lab: np.ndarray, flow: np.ndarray, back: np.ndarray
) -> Motion:
    """Motion along ``flow`` (h, w, 2), trusted where ``back`` returns and colours agree."""
    height, width = lab.shape[:2]
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]

    def at(values: np.ndarray) -> np.ndarray:
        return np.asarray(
            cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        )

    trip = np.square(flow + at(back)).sum(-1)
    normal = _ROUND_TRIP + _ROUND_TRIP_PER_PIXEL * np.sqrt(np.square(flow).sum(-1))
    trust = np.exp(-trip / (2 * normal**2))
    colour = cv2.blur(np.square(at(other_lab) - lab).sum(-1), (3, 3))
    trust *= np.exp(-np.maximum(colour - _COLOUR_NOISE, 0) / (2 * _COLOUR_SIGMA**2))
    trust *= (x >= 0) & (x < width - 1) & (y >= 0) & (y < height - 1)
    return Motion(x, y, trust.astype(np.float32))

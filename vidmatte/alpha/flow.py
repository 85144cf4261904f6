"""Motion between frames, and how far it can be trusted.

Dense inverse search (Kroeger et al., "Fast Optical Flow using Dense Inverse
Search", ECCV 2016) follows the subject's inside well but is wrong in the soft
band around it, where two motions overlap. There the subject's own motion, spread
outward from its inside, takes its place.

Motion is searched at the working scale and kept at half of it, the coarse scale: it is
smooth, and there composing it over many frames costs little.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.alpha.box import NOTHING, Box, box_around
from vidmatte.alpha.refine import View

# All lengths here are in pixels of the coarse scale.
MARGIN = 16  # around the subject, in which motion is searched
SMALLEST = 12  # side of a picture below which no motion is searched
SPREAD_SIGMA = 5.0  # of the subject's motion into the band
SURE_TRIP = 0.5  # error of the way there and back, of motion that is spread
ROUND_TRIP, ROUND_TRIP_SHARE = 1.0, 0.1  # allowed such error: pixels, share of motion
COLOUR_SIGMA, COLOUR_NOISE = 12.0, 8.0  # of 8-bit codes; variance that noise explains
TRUST_SIGMA = 3.0  # smoothing of the trust


@dataclass
class Glance:
    """A frame at the coarse scale: rgb (h, w, 3) uint8, alpha (h, w) float32, and its box."""

    rgb: np.ndarray
    alpha: np.ndarray
    box: Box

    @classmethod
    def of(cls, view: View) -> Glance:
        """Half of a view."""
        height, width = (-(-size // 2) for size in view.alpha.shape)
        rgb = cv2.resize(view.rgb, (width, height), interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(view.alpha, (width, height), interpolation=cv2.INTER_AREA)
        return cls(rgb, alpha, box_around(alpha > PRESENT))


PRESENT = 0.01  # alpha that counts as subject


@dataclass
class Field:
    """Motion from one frame to another, on the first one's coarse grid, within ``box``.

    motion: (h, w, 3) float32: x, y and trust. What is at p is at p + (x, y) in the
    other frame. Trust is 0..1.
    """

    box: Box
    motion: np.ndarray

    @property
    def trust(self) -> np.ndarray:
        """(h, w)."""
        return self.motion[..., 2]

    def after(self, first: Field) -> Field:
        """This motion where ``first`` arrives, added to it: the way over both."""
        x, y = first.arrivals()
        x -= self.box.left
        y -= self.box.top
        onward = remap(self.motion, x, y, cv2.BORDER_REPLICATE)
        onward[..., :2] += first.motion[..., :2]
        onward[..., 2] *= first.motion[..., 2]
        return Field(first.box, onward)

    def faded(self, length: float) -> Field:
        """The same motion, trusted the less the further it goes: exp(-1) of it at ``length``."""
        motion = self.motion.copy()
        motion[..., 2] *= np.exp(np.sqrt(squared_length(motion)) * np.float32(-1 / length))
        return Field(self.box, motion)

    def arrivals(self) -> tuple[np.ndarray, np.ndarray]:
        """Columns and rows, in the whole picture, that the box's pixels move to."""
        x = self.motion[..., 0] + np.arange(self.box.left, self.box.right, dtype=np.float32)
        y = (
            self.motion[..., 1]
            + np.arange(self.box.top, self.box.bottom, dtype=np.float32)[:, None]
        )
        return x, y


def remap(picture: np.ndarray, x: np.ndarray, y: np.ndarray, border: int) -> np.ndarray:
    """Bilinear samples of a picture at (h, w) float32 places."""
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=border))


class MotionEstimator:
    """Finds the motion between neighbouring frames, both ways."""

    def __init__(self) -> None:
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def between(
        self, one: Glance, other: Glance, one_grey: np.ndarray, other_grey: np.ndarray
    ) -> tuple[Field, Field]:
        """The motion from ``one`` to ``other`` and the one back; greys: (2 h, 2 w) uint8."""
        height, width = one.alpha.shape
        box = one.box.union(other.box).grown(MARGIN, height, width)
        if box.is_empty:
            nothing = Field(NOTHING, np.zeros((0, 0, 3), np.float32))
            return nothing, nothing
        if min(box.shape) < SMALLEST:
            box = Box(0, 0, height, width)
        if min(box.shape) < SMALLEST:
            forth = back = np.zeros((*box.shape, 2), np.float32)
        else:
            forth, back = self._search_both(box, one_grey, other_grey)
        return (
            trusted_field(box, forth, back, one, other),
            trusted_field(box, back, forth, other, one),
        )

    def _search_both(
        self, box: Box, one: np.ndarray, other: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Dense motion from one grey picture to the other and back, within a coarse box."""
        double = Box(2 * box.top, 2 * box.left, 2 * box.bottom, 2 * box.right)
        one, other = (np.ascontiguousarray(double.crop(grey)) for grey in (one, other))
        size = (box.right - box.left, box.bottom - box.top)
        forth, back = (
            cv2.resize(self._search.calc(*pair, None), size, interpolation=cv2.INTER_AREA)
            for pair in ((one, other), (other, one))
        )
        forth *= np.float32(0.5)
        back *= np.float32(0.5)
        return forth, back


def trusted_field(
    box: Box, flow: np.ndarray, back: np.ndarray, here: Glance, there: Glance
) -> Field:
    """The flow from ``here`` to ``there`` with the subject's motion in its band, and its trust."""
    x, y = Field(box, flow).arrivals()
    trip = flow + remap(back, x - box.left, y - box.top, cv2.BORDER_REPLICATE)
    trip_squared = squared_length(trip)
    motion = np.empty((*box.shape, 3), np.float32)
    motion[..., :2], reach = spread_from_subject(flow, box.crop(here.alpha), trip_squared)
    field = Field(box, motion)
    length_squared = squared_length(motion)
    allowed = ROUND_TRIP**2 + ROUND_TRIP_SHARE**2 * length_squared
    trust = np.exp(trip_squared / (-2 * allowed)) * colour_trust(field, here.rgb, there.rgb)
    trust += reach * (1 - trust)
    motion[..., 2] = cv2.GaussianBlur(trust, (0, 0), TRUST_SIGMA)
    return field


def squared_length(vectors: np.ndarray) -> np.ndarray:
    """(h, w, 2 or more) -> (h, w)."""
    return np.asarray(vectors[..., 0] ** 2 + vectors[..., 1] ** 2)


def spread_from_subject(
    flow: np.ndarray, alpha: np.ndarray, trip_squared: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The flow with the subject's own in its soft band, and how much of it was replaced.

    The mean of reliable inside flow, weighted by a Gaussian, reaches outward until its
    weight fades.
    """
    inside = alpha**4 * np.exp(trip_squared * np.float32(-0.5 / SURE_TRIP**2))
    parts = cv2.merge([inside, inside * flow[..., 0], inside * flow[..., 1]])
    parts = cv2.GaussianBlur(parts, (0, 0), SPREAD_SIGMA)
    weight = parts[..., 0]
    spread = parts[..., 1:] / np.maximum(weight, np.float32(1e-6))[..., None]
    reach = np.clip((weight - np.float32(0.01)) * np.float32(20), 0, 1)
    reach *= 1 - np.clip((alpha - np.float32(0.8)) * np.float32(1 / 0.15), 0, 1)
    return flow + reach[..., None] * (spread - flow), reach


def colour_trust(field: Field, here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """How alike the colours are that the field says are the same: (h, w) float32, 0..1."""
    moved = remap(there, *field.arrivals(), cv2.BORDER_REPLICATE)
    difference = cv2.absdiff(moved, field.box.crop(here)).astype(np.float32)
    squared = cv2.transform(difference * difference, np.full((1, 3), 1 / 3, np.float32))
    excess = np.maximum(squared - np.float32(COLOUR_NOISE), 0)
    return np.asarray(np.exp(excess * np.float32(-0.5 / COLOUR_SIGMA**2)))

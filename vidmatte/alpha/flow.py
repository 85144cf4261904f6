"""Motion between frames at the working scale, and how far it can be trusted.

Dense inverse search (Kroeger et al., "Fast Optical Flow using Dense Inverse
Search", ECCV 2016) follows the subject's inside well but is wrong in the soft
band around it, where two motions overlap. There the subject's own motion, spread
outward from its inside, takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.alpha.box import NOTHING, Box
from vidmatte.alpha.refine import View

MARGIN = 32  # working pixels around the subject in which motion is searched
SMALLEST = 24  # side of a picture, working pixels, below which no motion is searched
SPREAD_SIGMA = 10.0  # of the subject's motion into the band, working pixels
ROUND_TRIP, ROUND_TRIP_SHARE = 2.0, 0.1  # allowed there-and-back error: pixels, share of motion
COLOUR_SIGMA, COLOUR_NOISE = 12.0, 12.0  # of 8-bit codes; variance that noise explains
TRUST_SIGMA = 6.0  # smoothing of the trust, working pixels
KEPT = 0.97  # of the trust, with each frame that the motion is followed on
KEPT_FOR = 14.0  # working pixels of motion, over which exp(-1) of it is kept


@dataclass
class Field:
    """Motion from one frame to another, on the first one's working grid, within ``box``.

    flow: (h, w, 2) float32, x then y, in working pixels: what is at p is at p + flow
    in the other frame. trust: (h, w) float32, 0..1, less the further things move:
    errors pile up along the way, while in a still scene many frames tell the same.
    """

    box: Box
    flow: np.ndarray
    trust: np.ndarray

    def after(self, first: Field) -> Field:
        """This motion where ``first`` arrives, added to it: the way over both."""
        x, y = first.arrivals()
        x, y = x - self.box.left, y - self.box.top
        onward = remap(self.flow, x, y, cv2.BORDER_REPLICATE)
        trust = remap(self.trust, x, y, cv2.BORDER_CONSTANT)
        return Field(first.box, first.flow + onward, first.trust * trust)

    def arrivals(self) -> tuple[np.ndarray, np.ndarray]:
        """Columns and rows, in the whole picture, that the box's pixels move to."""
        x = self.flow[..., 0] + np.arange(self.box.left, self.box.right, dtype=np.float32)
        y = self.flow[..., 1] + np.arange(self.box.top, self.box.bottom, dtype=np.float32)[:, None]
        return x, y


def remap(picture: np.ndarray, x: np.ndarray, y: np.ndarray, border: int) -> np.ndarray:
    """Bilinear samples of a picture at (h, w) float32 places."""
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=border))


class MotionEstimator:
    """Finds the motion between neighbouring frames, both ways."""

    def __init__(self) -> None:
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def between(self, one: View, other: View) -> tuple[Field, Field]:
        """The motion from ``one`` to ``other`` and the one back."""
        height, width = one.grey.shape
        box = one.box.union(other.box).grown(MARGIN, height, width)
        if box.is_empty:
            nothing = Field(NOTHING, np.zeros((0, 0, 2), np.float32), np.zeros((0, 0), np.float32))
            return nothing, nothing
        if min(box.shape) < SMALLEST:
            box = Box(0, 0, height, width)
        if min(box.shape) < SMALLEST:
            still = np.zeros((*box.shape, 2), np.float32)
            forth = back = still
        else:
            one_grey = np.ascontiguousarray(box.crop(one.grey))
            other_grey = np.ascontiguousarray(box.crop(other.grey))
            forth = self._search.calc(one_grey, other_grey, None)
            back = self._search.calc(other_grey, one_grey, None)
        return (
            trusted_field(box, forth, back, one, other),
            trusted_field(box, back, forth, other, one),
        )


def trusted_field(box: Box, flow: np.ndarray, back: np.ndarray, here: View, there: View) -> Field:
    """The flow from ``here`` to ``there`` with the subject's motion in its band, and its trust."""
    raw = Field(box, flow, np.zeros(box.shape, np.float32))
    x, y = raw.arrivals()
    x_in, y_in = x - box.left, y - box.top
    trip = flow + remap(back, x_in, y_in, cv2.BORDER_REPLICATE)
    trip_squared = squared_length(trip)
    alpha = box.crop(here.alpha)
    flow, reach = spread_from_subject(flow, alpha, trip_squared)
    allowed = ROUND_TRIP**2 + ROUND_TRIP_SHARE**2 * squared_length(flow)
    trust = np.exp(trip_squared / (-2 * allowed))
    moved = Field(box, flow, trust)
    trust *= colour_trust(moved, here.rgb, there.rgb)
    trust += reach * (1 - trust)
    pace = np.sqrt(squared_length(flow)) * np.float32(-1 / KEPT_FOR)
    moved.trust = cv2.GaussianBlur(trust, (0, 0), TRUST_SIGMA) * np.float32(KEPT) * np.exp(pace)
    return moved


def squared_length(vectors: np.ndarray) -> np.ndarray:
    """(h, w, 2) -> (h, w)."""
    return np.asarray(vectors[..., 0] ** 2 + vectors[..., 1] ** 2)


def spread_from_subject(
    flow: np.ndarray, alpha: np.ndarray, trip_squared: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The flow with the subject's own in its soft band, and how much of it was replaced.

    The mean of reliable inside flow, weighted by a Gaussian and computed at half the
    working scale, reaches outward until its weight fades.
    """
    height, width = alpha.shape
    half = (max(1, width // 2), max(1, height // 2))
    inside = alpha**4 * np.exp(trip_squared * -0.5)
    parts = cv2.merge([inside, inside * flow[..., 0], inside * flow[..., 1]])
    parts = cv2.resize(parts, half, interpolation=cv2.INTER_AREA)
    parts = cv2.GaussianBlur(parts, (0, 0), SPREAD_SIGMA / 2)
    parts = cv2.resize(parts, (width, height), interpolation=cv2.INTER_LINEAR)
    weight = parts[..., 0]
    spread = parts[..., 1:] / np.maximum(weight, 1e-6)[..., None]
    reach = np.clip((weight - 0.01) / 0.05, 0, 1) * (1 - np.clip((alpha - 0.8) / 0.15, 0, 1))
    return flow + reach[..., None] * (spread - flow), reach


def colour_trust(field: Field, here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """How alike the colours are that the field says are the same: (h, w) float32, 0..1."""
    x, y = field.arrivals()
    moved = remap(there, x, y, cv2.BORDER_REPLICATE)
    difference = cv2.absdiff(moved, field.box.crop(here)).astype(np.float32)
    squared = cv2.transform(difference * difference, np.full((1, 3), 1 / 3, np.float32))
    squared = cv2.blur(squared, (3, 3))
    return np.asarray(
        np.exp(np.maximum(squared - COLOUR_NOISE, 0) * np.float32(-0.5 / COLOUR_SIGMA**2))
    )

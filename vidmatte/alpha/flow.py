"""Motion between frames, and how far it can be trusted.

Dense inverse search (Kroeger et al., "Fast Optical Flow using Dense Inverse
Search", ECCV 2016) follows the subject's inside well but is wrong in the soft
band around it, where two motions overlap. There the subject's own motion, carried
outward from its inside (``spread``), takes its place.

Motion is estimated and stored at half the working scale, the coarse scale: it is smooth, and
there composing it over many frames costs little. A search at the working scale takes four times
as long, and the mattes are no better for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from vidmatte.alpha.box import NOTHING, Box, WorkingFrame, box_around
from vidmatte.alpha.flow_extrapolation import extrapolate_flow

# All lengths here are in pixels of the coarse scale.
_SEARCH_MARGIN = 16  # around the subject, in which motion is searched
_SMALLEST = 12  # side of a picture below which no motion is searched
ROUND_TRIP, ROUND_TRIP_SHARE = 1.0, 0.1  # allowed such error: pixels, share of motion
COLOUR_SIGMA, COLOUR_NOISE = 12.0, 8.0  # of 8-bit codes; variance that noise explains
#: Of the search. Patches of eight, with a step between them of seven, and no polishing of the
#: flow: denser ones take twice the time and find nothing more.
PATCH_STEP, DESCENTS = 7, 8
_TRUST_SIGMA = 3.0  # smoothing of the trust
LEAST_TRUST = 0.1  # the maximum over the field below which a far neighbour is not sampled


@dataclass
class CoarseFrame:
    """A frame at the coarse scale: rgb (h, w, 3) and grey (h, w) uint8, alpha (h, w) float32,
    and the box around it."""

    rgb: np.ndarray
    grey: np.ndarray
    alpha: np.ndarray
    box: Box

    @classmethod
    def of(cls, view: WorkingFrame) -> CoarseFrame:
        """Half of a view."""
        height, width = (-(-size // 2) for size in view.alpha.shape)
        rgb = cv2.resize(view.rgb, (width, height), interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(view.alpha, (width, height), interpolation=cv2.INTER_AREA)
        return cls(rgb, cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), alpha, box_around(alpha > PRESENT))


PRESENT = 0.01  # alpha that counts as subject


@dataclass
class FlowField:
    """Motion from one frame to another, on the first one's coarse grid, within ``box``.

    motion: (h, w, 4) float32: x, y, trust, and nothing: cv2.remap takes four channels
    in half the time of three. What is at p is at p + (x, y) in the other frame. Trust
    is 0..1.
    """

    box: Box
    motion: np.ndarray

    @classmethod
    def of(cls, box: Box, x: np.ndarray, y: np.ndarray, trust: np.ndarray) -> FlowField:
        """A field of three planes (h, w)."""
        return cls(box, cv2.merge([x, y, trust, np.zeros_like(trust)]))

    @cached_property
    def planes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y and trust, each (h, w): what is read often is read faster from there."""
        x, y, trust = np.empty((3, *self.motion.shape[:2]), np.float32)
        if self.motion.size:
            cv2.mixChannels([self.motion], [x, y, trust], [0, 0, 1, 1, 2, 2])
        return x, y, trust

    @property
    def trust(self) -> np.ndarray:
        """(h, w)."""
        return self.planes[2]

    def after(self, first: FlowField) -> FlowField:
        """This motion where ``first`` arrives, added to it: the way over both."""
        x, y = first.arrivals
        x, y = x - np.float32(self.box.left), y - np.float32(self.box.top)
        onward = remap(self.motion, x, y, cv2.BORDER_REPLICATE)
        trust = cv2.extractChannel(onward, 2)
        trust *= first.trust
        cv2.add(onward, first.motion, onward)
        return FlowField(first.box, np.asarray(cv2.insertChannel(trust, onward, 2)))

    def with_lower_trust(self, length: float) -> FlowField:
        """The same motion, trusted the less the further it goes: exp(-1) of it at ``length``."""
        x, y, trust = self.planes
        away = squared_length(x, y)
        np.sqrt(away, out=away)
        away *= np.float32(-1 / length)
        cv2.exp(away, away)
        away *= trust
        field = FlowField(self.box, cv2.insertChannel(away, self.motion.copy(), 2))
        field.planes, field.arrivals = (x, y, away), self.arrivals
        return field

    def is_worth_sampling(self) -> bool:
        """Whether some of it is trusted enough for another frame to be sampled along it."""
        return bool(self.trust.max() >= LEAST_TRUST)

    @cached_property
    def arrivals(self) -> tuple[np.ndarray, np.ndarray]:
        """Columns and rows, in the full picture, that the box's pixels move to."""
        return _arrivals(self.box, *self.planes[:2])


def _arrivals(box: Box, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows, in the full picture, that a box's pixels move to by (x, y)."""
    return (
        x + np.arange(box.left, box.right, dtype=np.float32),
        y + np.arange(box.top, box.bottom, dtype=np.float32)[:, None],
    )


def remap(
    picture: np.ndarray, x: np.ndarray, y: np.ndarray, border: int, into: np.ndarray | None = None
) -> np.ndarray:
    """Bilinear samples of a picture at (h, w) float32 places, written to ``into`` if given."""
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR, into, border))


class MotionEstimator:
    """Finds the motion between neighbouring frames, both ways."""

    def __init__(self) -> None:
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._search.setFinestScale(0)
        self._search.setPatchStride(PATCH_STEP)
        self._search.setGradientDescentIterations(DESCENTS)
        self._search.setVariationalRefinementIterations(0)

    def between(self, one: CoarseFrame, other: CoarseFrame) -> tuple[FlowField, FlowField]:
        """The motion from ``one`` to ``other`` and the one back."""
        height, width = one.alpha.shape
        box = one.box.union(other.box).grown(_SEARCH_MARGIN, height, width)
        if box.is_empty:
            nothing = FlowField(NOTHING, np.zeros((0, 0, 4), np.float32))
            return nothing, nothing
        if min(box.shape) < _SMALLEST:
            box = Box(0, 0, height, width)
        if min(box.shape) < _SMALLEST:
            forth = back = np.zeros((*box.shape, 2), np.float32)
        else:
            forth, back = self._search_both(box, one.grey, other.grey)
        return (
            _trusted_field(box, forth, back, one, other),
            _trusted_field(box, back, forth, other, one),
        )

    def _search_both(
        self, box: Box, one: np.ndarray, other: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Dense motion from one grey picture to the other and back, within a box."""
        one, other = (np.ascontiguousarray(box.crop(grey)) for grey in (one, other))
        return self._search.calc(one, other, None), self._search.calc(other, one, None)


def _trusted_field(
    box: Box, flow: np.ndarray, back: np.ndarray, here: CoarseFrame, there: CoarseFrame
) -> FlowField:
    """The flow from ``here`` to ``there`` with the subject's motion in its band, and its trust."""
    flow_x, flow_y = cv2.split(flow)
    trip_squared = _round_trip(box, flow_x, flow_y, back)
    x, y, reach = extrapolate_flow(flow_x, flow_y, box.crop(here.alpha), trip_squared)
    allowed = squared_length(x, y)
    allowed *= np.float32(-2 * ROUND_TRIP_SHARE**2)
    allowed -= np.float32(2 * ROUND_TRIP**2)
    trip_squared /= allowed
    trust = cv2.exp(trip_squared, trip_squared)
    trust *= _colour_trust(box, x, y, here.rgb, there.rgb)
    trust += reach * (1 - trust)
    return FlowField.of(box, x, y, _smoothed(trust))


def _smoothed(trust: np.ndarray) -> np.ndarray:
    """The trust softened by a Gaussian, at half its size: so soft, nothing is lost there."""
    height, width = trust.shape
    half = -(-width // 2), -(-height // 2)
    small = cv2.resize(trust, half, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), _TRUST_SIGMA / 2)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def _round_trip(box: Box, x: np.ndarray, y: np.ndarray, back: np.ndarray) -> np.ndarray:
    """The squared distance (h, w) from where a pixel was to where the flow back brings it.

    x, y: the flow there, (h, w). back: (h, w, 2).
    """
    columns, rows = _arrivals(box, x, y)
    columns -= box.left
    rows -= box.top
    back_x, back_y = (
        remap(plane, columns, rows, cv2.BORDER_REPLICATE) for plane in cv2.split(back)
    )
    back_x += x
    back_y += y
    return squared_length(back_x, back_y)


def squared_length(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of vectors given as two planes."""
    length = x * x
    length += y * y
    return np.asarray(length)


def _colour_trust(
    box: Box, x: np.ndarray, y: np.ndarray, here: np.ndarray, there: np.ndarray
) -> np.ndarray:
    """How alike the colours are that the motion says are the same: (h, w) float32, 0..1."""
    moved = remap(there, *_arrivals(box, x, y), cv2.BORDER_REPLICATE)
    difference = cv2.absdiff(moved, box.crop(here)).astype(np.float32)
    difference *= difference
    excess = cv2.transform(difference, np.full((1, 3), 1 / 3, np.float32))
    excess -= np.float32(COLOUR_NOISE)
    np.maximum(excess, 0, out=excess)
    excess *= np.float32(-0.5 / COLOUR_SIGMA**2)
    return np.asarray(cv2.exp(excess, excess))

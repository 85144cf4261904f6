"""Steady alpha: each frame's matte is averaged with its neighbours' along the motion.

Smoothing without compensation leaves ghosts behind whatever moves, so none is done
here. The chain a frame goes through: its soft edge is redrawn by its own colours
(``refine``), then averaged with its neighbours moved to where the subject is now
(``flow``); then parts in doubt are decided (``conviction``) and the ends stretched a
little, which takes back the grey that averaging adds; then the edge is redrawn once
more by half, now that the noise is gone from it.

The result for a frame depends on it, on ``LONGEST_PAST`` frames before it and on the
look-ahead, and on nothing else: there is no recursion.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import cv2
import numpy as np

from vidmatte.alpha import conviction
from vidmatte.alpha.box import Box, Pixels, sample
from vidmatte.alpha.flow import Field, Glance, MotionEstimator, remap
from vidmatte.alpha.refine import (
    View,
    pixels_under,
    reduce_alpha,
    refine_edges,
    to_working,
)


class HasAlpha(Protocol):
    """What a frame needs for the filter; ``vidmatte.frame.Frame`` has it."""

    rgb: np.ndarray
    alpha: np.ndarray | None
    new_shot: bool


AnyFrame = TypeVar("AnyFrame", bound=HasAlpha)


@dataclass(frozen=True)
class Window:
    """How many frames before and after the present one are averaged, by their weights."""

    before: tuple[float, ...]
    after: tuple[float, ...]


LONGEST_PAST = 8
LIVE_PAST = 6
WINDOWS = {
    "off": Window((), ()),
    "live": Window((1.0,) * LIVE_PAST, ()),
    "on": Window((1.0,) * LONGEST_PAST, (1.0, 0.9)),
}
WINDOWS["strong"] = WINDOWS["on"]

REDRAWN = 0.5  # share of the second redrawing
BLACK, WHITE = 0.01, 0.98  # levels after the average
SURE_LOW, SURE_HIGH = 0.005, 0.985  # outside, and unless a neighbour differs, nothing is mixed
DIFFERS = 0.004  # of alpha, about one 8-bit code
LEAST_TRUST = 0.1  # anywhere, for a far neighbour to be asked
FULL_SCALE = 65535


@dataclass
class Moment(Generic[AnyFrame]):
    """A frame in the window, and what its neighbours need of it.

    frame, view: None once the frame was handed on. alpha: refined, 0..65535, (H', W')
    uint16 within ``box`` of the full resolution; outside it is nothing. grey: at the
    working scale.
    """

    frame: AnyFrame | None
    view: View | None
    alpha: np.ndarray
    box: Box
    grey: np.ndarray
    glance: Glance
    to_last: Field | None = None
    to_next: Field | None = None


def steady(
    frames: Iterable[AnyFrame], *, mode: str = "on", refine: str = "fast", strength: float = 1.0
) -> Iterator[AnyFrame]:
    """The same frames, in order, each with its ``alpha`` refined and steadied.

    mode: 'off' mixes no frames, 'live' looks at no later frame, 'on' and 'strong'
    hold back two frames. refine: 'fast' redraws the soft edge, 'off' does not.
    strength: 0..1 and above, scales the weight of the neighbours.
    A frame's ``alpha`` is replaced by a new (H, W) float32 array; ``new_shot`` starts
    afresh. A frame handed on is not looked at again. Raises KeyError for another mode.
    """
    window = WINDOWS[mode]
    steadier: Steadier[AnyFrame] = Steadier(window, refine != "off", strength)
    for frame in frames:
        yield from steadier.feed(frame)
    yield from steadier.flush()


class Steadier(Generic[AnyFrame]):
    """The filter's state: the last few moments of the present shot."""

    def __init__(self, window: Window, refine: bool, strength: float) -> None:
        self._window = window
        self._refine = refine
        self._strength = strength
        self._motion = MotionEstimator()
        self._moments: deque[Moment[AnyFrame]] = deque()
        self._waiting = 0  # moments at the end of the deque whose frame was not handed on

    def feed(self, frame: AnyFrame) -> Iterator[AnyFrame]:
        """Take the next frame; hand on those that are ready."""
        if frame.new_shot:
            yield from self.flush()
        moment = self._enter(frame)
        if moment is None:
            yield frame
            return
        self._moments.append(moment)
        self._waiting += 1
        while self._waiting > len(self._window.after):
            yield self._hand_on()

    def flush(self) -> Iterator[AnyFrame]:
        """Hand on what is held; the next frame starts afresh."""
        while self._waiting:
            yield self._hand_on()
        self._moments.clear()

    def _enter(self, frame: AnyFrame) -> Moment[AnyFrame] | None:
        """Refine a frame and find its motion; None where nothing needs to be mixed."""
        alpha = frame.alpha
        if alpha is None:
            raise ValueError("the frame has no alpha yet: the network comes before the filter")
        alone = not (self._window.before or self._window.after)
        if alone and not self._refine:
            return None
        view = View.of(frame.rgb, alpha)
        frame.alpha = alpha.copy()
        if self._refine:
            refine_edges(frame.rgb, frame.alpha, view)
            view.alpha = reduce_alpha(frame.alpha, *view.alpha.shape)
        if alone:
            finish(frame.alpha, view, True)
            return None
        box = full_box(view, *alpha.shape)
        codes = cv2.multiply(box.crop(frame.alpha), float(FULL_SCALE), dtype=cv2.CV_16U)
        moment = Moment(frame, view, codes, box, view.grey, Glance.of(view))
        if self._moments:
            last = self._moments[-1]
            last.to_next, moment.to_last = self._motion.between(
                last.glance, moment.glance, last.grey, moment.grey
            )
        return moment

    def _hand_on(self) -> AnyFrame:
        """Finish the oldest waiting moment and forget what no later one needs."""
        place = len(self._moments) - self._waiting
        moment = self._moments[place]
        frame, view = moment.frame, moment.view
        moment.frame = moment.view = None
        if frame is None or view is None or frame.alpha is None:
            raise RuntimeError("a frame was handed on twice, or its alpha taken before")
        self._average(place, frame.alpha)
        finish(frame.alpha, view, self._refine)
        if self._refine:
            refine_edges(frame.rgb, frame.alpha, view, REDRAWN)
        self._waiting -= 1
        while len(self._moments) - self._waiting > len(self._window.before):
            self._moments.popleft()
        return frame

    def _average(self, place: int, alpha: np.ndarray) -> None:
        """Mean along the motion for the moment at ``place``, into its ``alpha`` (H, W)."""
        now = self._moments[place]
        neighbours = list(self._neighbours(place))
        pixels = unsettled(now, neighbours, alpha.shape)
        if not len(pixels):
            return
        coarse = now.glance.alpha.shape
        x, y = to_working(pixels, alpha.shape, coarse)
        down, across = (np.float32(a / b) for a, b in zip(alpha.shape, coarse, strict=True))
        total, weights = pixels.of(alpha), np.ones(len(pixels), np.float32)
        for field, other, gain in neighbours:
            motion = sample(field.motion, x - field.box.left, y - field.box.top)
            weight = motion[:, 2] * np.float32(gain)
            weights += weight
            if other.box.is_empty:
                continue
            there = sample(
                other.alpha,
                pixels.x + motion[:, 0] * across - np.float32(other.box.left),
                pixels.y + motion[:, 1] * down - np.float32(other.box.top),
                cv2.BORDER_CONSTANT,
            )
            weight *= np.float32(1 / FULL_SCALE)
            total += weight * there
        pixels.put(alpha, total / weights)

    def _neighbours(self, place: int) -> Iterator[tuple[Field, Moment[AnyFrame], float]]:
        """The moments around, each with the way to it and its weight."""
        for step, gains in ((-1, self._window.before), (1, self._window.after)):
            way: Field | None = None
            for distance, gain in enumerate(gains, 1):
                index = place + step * distance
                if not 0 <= index < len(self._moments):
                    break
                previous = self._moments[index - step]
                leg = previous.to_last if step < 0 else previous.to_next
                if leg is None or leg.box.is_empty:
                    break
                way = leg if way is None else leg.after(way)
                if distance > 2 and way.trust.max() < LEAST_TRUST:
                    break
                yield way, self._moments[index], gain * self._strength


def unsettled(
    now: Moment[AnyFrame],
    neighbours: list[tuple[Field, Moment[AnyFrame], float]],
    shape: tuple[int, ...],
) -> Pixels:
    """The pixels, in a picture of ``shape``, that are soft now or that a neighbour disputes."""
    alpha, box = now.glance.alpha, now.glance.box
    mask = np.asarray(cv2.inRange(alpha, SURE_LOW, SURE_HIGH))
    for field, other, _ in neighbours:
        box = box.union(field.box)
        there = remap(other.glance.alpha, *field.arrivals(), cv2.BORDER_REPLICATE)
        differs = cv2.absdiff(there, field.box.crop(alpha)) > DIFFERS
        field.box.crop(mask)[differs] = 1
    return pixels_under(box.crop(mask), box, alpha.shape, *shape)


def full_box(view: View, height: int, width: int) -> Box:
    """The box of a view's subject at the full resolution, a little larger."""
    small, (rows, columns) = view.box, view.alpha.shape
    if small.is_empty:
        return small
    down, across = height / rows, width / columns
    box = Box(
        int(small.top * down),
        int(small.left * across),
        min(int(np.ceil(small.bottom * down)), height),
        min(int(np.ceil(small.right * across)), width),
    )
    return box.grown(2, height, width)


def finish(alpha: np.ndarray, view: View, decide: bool) -> None:
    """Decide what is in doubt, if wanted, and stretch the ends of alpha (H, W), in place.

    view: its alpha is brought up to date with the result.
    """
    if decide:
        gain = conviction.gain(reduce_alpha(alpha, *view.alpha.shape))
        if gain is not None:
            height, width = alpha.shape
            alpha *= cv2.resize(gain, (width, height), interpolation=cv2.INTER_LINEAR)
    alpha -= np.float32(BLACK)
    alpha *= np.float32(1 / (WHITE - BLACK))
    np.clip(alpha, 0, 1, out=alpha)
    if decide:
        view.alpha = reduce_alpha(alpha, *view.alpha.shape)

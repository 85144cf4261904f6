"""Steady alpha: each frame's matte is averaged with its neighbours' along the motion.

Smoothing without compensation leaves ghosts behind whatever moves, so none is done
here. The chain a frame goes through: its soft edge is redrawn by its own colours
(``refine``), then averaged with its neighbours moved to where the subject is now
(``flow``), then stretched a little, which takes back the grey that averaging adds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import cv2
import numpy as np

from vidmatte.alpha.box import Pixels, sample
from vidmatte.alpha.flow import Field, MotionEstimator, remap
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


WINDOWS = {
    "off": Window((), ()),
    "live": Window((1.0, 0.7), ()),
    "on": Window((1.0, 0.7), (1.0, 0.7)),
}
WINDOWS["strong"] = WINDOWS["on"]

BLACK, WHITE = 0.02, 0.95  # levels after the average
SURE_LOW, SURE_HIGH = 0.01, 0.97  # outside, and unless a neighbour differs, nothing is mixed
DIFFERS = 0.004  # of alpha, about one 8-bit code


@dataclass
class Moment(Generic[AnyFrame]):
    """A frame in the window. ``frame`` goes to None once it was handed on."""

    frame: AnyFrame | None
    alpha: np.ndarray  # refined, full resolution, owned
    view: View
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
        refined = refine_edges(frame.rgb, alpha, view) if self._refine else alpha.copy()
        if alone:
            frame.alpha = refined
            return None
        view.alpha = reduce_alpha(refined, *view.alpha.shape)
        moment = Moment(frame, refined, view)
        if self._moments:
            last = self._moments[-1]
            last.to_next, moment.to_last = self._motion.between(last.view, view)
        return moment

    def _hand_on(self) -> AnyFrame:
        """Finish the oldest waiting moment and forget what no later one needs."""
        place = len(self._moments) - self._waiting
        moment = self._moments[place]
        frame, moment.frame = moment.frame, None
        if frame is None:
            raise RuntimeError("a frame would be handed on twice")
        frame.alpha = levels(self._average(place))
        self._waiting -= 1
        while len(self._moments) - self._waiting > len(self._window.before):
            self._moments.popleft()
        return frame

    def _average(self, place: int) -> np.ndarray:
        """The mean along the motion for the moment at ``place``; a new array."""
        now = self._moments[place]
        result = now.alpha.copy()
        neighbours = list(self._neighbours(place))
        pixels = self._unsettled(now, neighbours)
        if not len(pixels):
            return result
        x, y = to_working(pixels, now.alpha.shape, now.view.alpha.shape)
        down, across = (a / b for a, b in zip(now.alpha.shape, now.view.alpha.shape, strict=True))
        total, weights = pixels.of(now.alpha), np.ones(len(pixels), np.float32)
        for field, other, gain in neighbours:
            x_in, y_in = x - field.box.left, y - field.box.top
            flow = sample(field.flow, x_in, y_in)
            weight = sample(field.trust, x_in, y_in, cv2.BORDER_CONSTANT) * np.float32(gain)
            there = sample(
                other.alpha, pixels.x + flow[:, 0] * across, pixels.y + flow[:, 1] * down
            )
            total += weight * there
            weights += weight
        pixels.put(result, total / weights)
        return result

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
                yield way, self._moments[index], gain * self._strength

    def _unsettled(
        self, now: Moment[AnyFrame], neighbours: list[tuple[Field, Moment[AnyFrame], float]]
    ) -> Pixels:
        """The pixels that are soft now, or where a neighbour says something else."""
        alpha = now.view.alpha
        box = now.view.box
        for field, _, _ in neighbours:
            box = box.union(field.box)
        here = box.crop(alpha)
        soft = ((here > SURE_LOW) & (here < SURE_HIGH)).view(np.uint8)
        for field, other, _ in neighbours:
            there = remap(other.view.alpha, *field.arrivals(), cv2.BORDER_REPLICATE)
            differs = (np.abs(there - field.box.crop(alpha)) > DIFFERS).view(np.uint8)
            rows = slice(field.box.top - box.top, field.box.bottom - box.top)
            columns = slice(field.box.left - box.left, field.box.right - box.left)
            soft[rows, columns] |= differs
        return pixels_under(soft, box, alpha.shape, *now.alpha.shape)


def levels(alpha: np.ndarray) -> np.ndarray:
    """Stretch alpha so that nearly nothing is nothing and nearly full is full, in place."""
    alpha -= np.float32(BLACK)
    alpha *= np.float32(1 / (WHITE - BLACK))
    return np.asarray(np.clip(alpha, 0, 1, out=alpha))

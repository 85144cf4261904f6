"""Steady alpha: each frame's matte is averaged with its neighbours' along the motion.

Smoothing without compensation leaves ghosts behind whatever moves, so none is done
here. The chain a frame goes through: its soft edge is redrawn by its own colours
(``refine``), then averaged with its neighbours moved to where the subject is now
(``flow``, ``average``); then parts in doubt are decided (``conviction``) and the ends stretched a
little, which takes back the grey that averaging adds; then the edge is redrawn once
more in part, now that the noise is gone from it.

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
from vidmatte.alpha.average import Seen, Voice, average
from vidmatte.alpha.box import Box
from vidmatte.alpha.flow import Field, Glance, MotionEstimator
from vidmatte.alpha.refine import View, reduce_alpha, refine_edges


class HasAlpha(Protocol):
    """What a frame needs for the filter; ``vidmatte.frame.Frame`` has it."""

    rgb: np.ndarray
    alpha: np.ndarray | None
    new_shot: bool
    mirrored: bool


AnyFrame = TypeVar("AnyFrame", bound=HasAlpha)


@dataclass(frozen=True)
class Window:
    """How many frames before and after the present one are averaged, by their weights."""

    before: tuple[float, ...]
    after: tuple[float, ...]


LONGEST_PAST = 8
NEAR = 2  # frames away that count in full however far things move
LIVE_PAST = 6
WINDOWS = {
    "off": Window((), ()),
    "live": Window((1.0,) * NEAR + (0.8,) * (LIVE_PAST - NEAR), ()),
    "on": Window((1.0,) * NEAR + (0.8,) * (LONGEST_PAST - NEAR), (1.0, 1.0)),
}
WINDOWS["strong"] = WINDOWS["on"]

LEAST_TRUST = 0.1  # anywhere, for a far neighbour to be asked


@dataclass(kw_only=True)
class Moment(Seen, Generic[AnyFrame]):
    """A frame in the window, and what its neighbours need of it.

    frame, view: None once the frame was handed on. grey: at the working scale.
    """

    frame: AnyFrame | None
    view: View | None
    grey: np.ndarray
    to_last: Field | None = None
    to_next: Field | None = None


@dataclass(frozen=True)
class Manner:
    """What suits a kind of network.

    far_reach: coarse pixels of motion at which a frame more than ``NEAR`` away counts
    exp(-1): errors pile up along the way, while in a still scene many frames tell the
    same. redrawn: share of the second redrawing of the edge. black, white: levels after
    the average. decides: whether parts in doubt are decided.
    """

    far_reach: float
    redrawn: float
    black: float
    white: float
    decides: bool


PER_FRAME = Manner(far_reach=12.0, redrawn=0.35, black=0.01, white=0.98, decides=True)
RECURRENT = Manner(far_reach=3.0, redrawn=0.25, black=0.02, white=0.95, decides=False)


def steady(
    frames: Iterable[AnyFrame],
    *,
    mode: str = "on",
    refine: str = "fast",
    strength: float = 1.0,
    manner: Manner = PER_FRAME,
) -> Iterator[AnyFrame]:
    """The same frames, in order, each with its ``alpha`` refined and steadied.

    mode: 'off' mixes no frames, 'live' looks at no later frame, 'on' and 'strong'
    hold back two frames. refine: 'fast' redraws the soft edge, 'off' does not.
    strength: 0..1 and above, scales the weight of the neighbours. manner: what suits
    the network that the alphas are from.
    A frame's ``alpha`` is replaced by a new (H, W) float32 array; ``new_shot`` starts
    afresh. A frame handed on is not looked at again. Raises KeyError for another mode.
    """
    window = WINDOWS[mode]
    steadier: Steadier[AnyFrame] = Steadier(window, refine != "off", strength, manner)
    for frame in frames:
        yield from steadier.feed(frame)
    yield from steadier.flush()


class Steadier(Generic[AnyFrame]):
    """The filter's state: the last few moments of the present shot."""

    def __init__(self, window: Window, refine: bool, strength: float, manner: Manner) -> None:
        self._window = window
        self._refine = refine
        self._strength = strength
        self._manner = manner
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
            finish(frame.alpha, view, self._manner, True)
            return None
        box = full_box(view, *alpha.shape)
        moment = Moment(
            frame=frame,
            view=view,
            codes=Seen.coded(box.crop(frame.alpha)),
            box=box,
            glance=Glance.of(view),
            mirrored=frame.mirrored,
            grey=view.grey,
        )
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
        average(moment, list(self._voices(place)), frame.alpha)
        finish(frame.alpha, view, self._manner, self._refine)
        if self._refine:
            refine_edges(frame.rgb, frame.alpha, view, self._manner.redrawn)
        self._waiting -= 1
        while len(self._moments) - self._waiting > len(self._window.before):
            self._moments.popleft()
        return frame

    def _voices(self, place: int) -> Iterator[Voice]:
        """The moments around the one at ``place``, as far as the motion can be followed."""
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
                told = way
                if distance > NEAR:
                    told = way.faded(self._manner.far_reach)
                    if told.trust.max() < LEAST_TRUST:
                        break
                yield Voice(told, self._moments[index], gain * self._strength)


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


def finish(alpha: np.ndarray, view: View, manner: Manner, refine: bool) -> None:
    """Decide what is in doubt and stretch the ends of alpha (H, W), in place.

    refine: without it nothing is decided; with it the view's alpha is brought up to
    date, for the redrawing that comes next.
    """
    if refine and manner.decides:
        gain = conviction.gain(reduce_alpha(alpha, *view.alpha.shape))
        if gain is not None:
            height, width = alpha.shape
            alpha *= cv2.resize(gain, (width, height), interpolation=cv2.INTER_LINEAR)
    alpha -= np.float32(manner.black)
    alpha *= np.float32(1 / (manner.white - manner.black))
    np.clip(alpha, 0, 1, out=alpha)
    if refine:
        view.alpha = reduce_alpha(alpha, *view.alpha.shape)

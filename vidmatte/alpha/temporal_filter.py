"""Steady alpha: each frame's matte is averaged with its neighbours' along the motion.

Smoothing without compensation leaves ghosts behind whatever moves, so none is done
here. The chain a frame goes through: its soft edge is redrawn by its own colours
(``refine``) and its motion found (``flow``), both in ``follow``; then it is averaged with
its neighbours moved to where the subject is now (``average``); then parts in doubt are
decided (``conviction``) and the ends stretched a little, which takes back the grey that
averaging adds; then the edge is redrawn once more in part, now that the noise is gone
from it.

With ``refine`` best, parts still in doubt are then solved for by their colours
(``solve``), and a mean of the nearest frames is taken once more.

The result for a frame depends on it, on the window's frames before it and on the
look-ahead (on ``NEAR`` more each way with best), and on nothing else: there is no
recursion. ``Filter.look_back`` and ``Filter.look_ahead`` count them.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Generic

import cv2
import numpy as np

from vidmatte.alpha import confidence as conviction
from vidmatte.alpha.accumulate import Neighbour, average
from vidmatte.alpha.flow import FlowField, squared_length
from vidmatte.alpha.guided_edges import WorkingFrame, reduce_alpha, refine_edges
from vidmatte.alpha.matting_laplacian import solve_doubt
from vidmatte.alpha.track import NEAR, WINDOWS, AnyFrame, TrackedFrame, Window, track
from vidmatte.core.families import PER_FRAME, FilterProfile

_SECOND_STRENGTH = 0.7  # of the mean that best takes once more

_MOVING = 0.5  # coarse pixels a frame from which something counts as moving
_LEAST_TRUST = 0.1  # anywhere, for a far neighbour to be asked


def filter_frames(
    frames: Iterable[AnyFrame],
    *,
    mode: str = "on",
    refine: str = "fast",
    strength: float = 1.0,
    manner: FilterProfile = PER_FRAME,
) -> Iterator[AnyFrame]:
    """The same frames, in order, each with its ``alpha`` refined and steadied.

    mode: 'off' mixes no frames, 'live' looks at no later frame, 'on' and 'strong'
    hold back three frames, four where a shot begins. refine: 'fast' redraws the soft
    edge, 'best' also solves for what is in doubt and averages once more, with a look-ahead
    of two frames more; 'off' does neither. strength: 0..1 and above, scales the weight of the
    neighbours. manner: what suits the network that the alphas are from.
    A frame's ``alpha`` is replaced by a new (H, W) float32 array; ``new_shot`` starts
    afresh. A frame handed on is not looked at again. Raises KeyError for another mode.
    """
    how = TemporalFilter(WINDOWS[mode], refine, strength, manner)
    return how.average_stage(how.track_stage(copied(frames)))


def copied(frames: Iterable[AnyFrame]) -> Iterator[AnyFrame]:
    """The same frames, each with an alpha of its own that may be changed."""
    for frame in frames:
        if frame.alpha is not None:
            frame.alpha = np.array(frame.alpha, np.float32)
        yield frame


@dataclass(frozen=True)
class TemporalFilter:
    """The filter's two halves, for a thread each; the words are those of ``steady``.

    Both change the frames' alpha (H, W), float32 and C-contiguous, in place.
    """

    window: Window
    refine: str
    strength: float
    manner: FilterProfile

    @property
    def redraws(self) -> bool:
        """Whether soft edges are redrawn."""
        return self.refine != "off"

    def track_stage(self, frames: Iterable[AnyFrame]) -> Iterator[TrackedFrame[AnyFrame]]:
        """The first half: edges redrawn, motion found."""
        mix = bool(self.window.before or self.window.after)
        return track(frames, redraw=self.redraws, mix=mix)

    @property
    def look_ahead(self) -> int:
        """Frames that are held back, at most."""
        return len(self.window.after) + len(self._again_window.after)

    @property
    def look_back(self) -> int:
        """Frames before one that decide its result, at most."""
        return len(self.window.before) + len(self._again_window.before)

    @property
    def _again_window(self) -> Window:
        """That of the mean that is taken once more."""
        return self.window.nearest() if self.refine == "best" else WINDOWS["off"]

    def average_stage(self, moments: Iterable[TrackedFrame[AnyFrame]]) -> Iterator[AnyFrame]:
        """The second half: the frames of ``moments``, averaged and finished."""
        frames = self._averaged(moments)
        return self._again(frames) if self.refine == "best" else frames

    def _again(self, frames: Iterable[AnyFrame]) -> Iterator[AnyFrame]:
        """The frames with their doubts solved, averaged a second time: a little, as every
        mean takes some of the detail along with the flicker."""

        def solved() -> Iterator[AnyFrame]:
            for frame in frames:
                if frame.alpha is not None:
                    solve_doubt(frame.rgb, frame.alpha)
                frame.mirrored, frame.augment_phase = False, 0  # all sides are in it by now
                yield frame

        manner = replace(self.manner, redrawn=0.0, black=0.01, white=0.98, decides=False)
        second = replace(
            self,
            window=self._again_window,
            refine="off",
            strength=self.strength * _SECOND_STRENGTH,
            manner=manner,
        )
        return second.average_stage(second.track_stage(solved()))

    def _averaged(self, moments: Iterable[TrackedFrame[AnyFrame]]) -> Iterator[AnyFrame]:
        steadier: _WindowFilter[AnyFrame] = _WindowFilter(self)
        for moment in moments:
            yield from steadier.feed(moment)
        yield from steadier.flush()


class _WindowFilter(Generic[AnyFrame]):
    """The second half's state: the last few moments of the present shot."""

    def __init__(self, how: TemporalFilter) -> None:
        self._how = how
        self._window = how.window
        self._moments: deque[TrackedFrame[AnyFrame]] = deque()
        self._waiting = 0  # moments at the end of the deque whose frame was not handed on

    def feed(self, moment: TrackedFrame[AnyFrame]) -> Iterator[AnyFrame]:
        """Take the next moment; hand on the frames that are ready."""
        if moment.frame is not None and moment.frame.new_shot:
            yield from self.flush()
        self._moments.append(moment)
        self._waiting += 1
        while self._waiting > self._window.ahead_of(len(self._moments) - self._waiting):
            yield self._emit()

    def flush(self) -> Iterator[AnyFrame]:
        """Hand on what is held; the next frame starts afresh."""
        while self._waiting:
            yield self._emit()
        self._moments.clear()

    def _emit(self) -> AnyFrame:
        """Finish the oldest waiting frame and forget what no later one needs."""
        place = len(self._moments) - self._waiting
        moment = self._moments[place]
        frame, view = moment.frame, moment.view
        moment.frame = moment.view = None
        if frame is None or frame.alpha is None:
            raise RuntimeError("a frame was handed on twice, or its alpha taken before")
        if view is not None:
            self._finish(frame, frame.alpha, view, place)
        moment.from_last = None
        self._waiting -= 1
        while len(self._moments) - self._waiting > len(self._window.before):
            self._moments.popleft()
        return frame

    def _finish(self, frame: AnyFrame, alpha: np.ndarray, view: WorkingFrame, place: int) -> None:
        """All that is left to be done to a frame's alpha, in place."""
        how, seen = self._how, self._moments[place].sample
        if seen is not None:
            average(seen, list(self._neighbours(place)), alpha)
        _stretch_levels(alpha, view, how.manner, how.redraws)
        if seen is not None and how.redraws:
            share = how.manner.redrawn * self._pace(place, view.alpha.shape)
            refine_edges(frame.rgb, alpha, view, share)

    def _pace(self, place: int, shape: tuple[int, ...]) -> np.ndarray:
        """0 where nothing moves at the moment, 1 where it does: ``shape``, float32.

        The mean over many frames is the better edge where they all tell the same; one
        frame's colours would only bring its noise back.
        """
        moment = self._moments[place]
        field = moment.to_last
        if field is None and place + 1 < len(self._moments):
            field = self._moments[place + 1].from_last
        if field is None or moment.sample is None or field.box.is_empty:
            return np.ones(shape, np.float32)
        coarse = np.zeros(moment.sample.coarse.alpha.shape, np.float32)
        # Not cv2.magnitude: the same input may give another last bit the next time.
        pace = np.sqrt(squared_length(field.motion[..., 0], field.motion[..., 1]))
        field.box.crop(coarse)[:] = np.minimum(pace * np.float32(1 / _MOVING), 1)
        return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_LINEAR))

    def _gains(self, place: int) -> dict[int, float]:
        """What each moment around the one at ``place`` counts, by its own place.

        All turns of the network count the same, also where a shot begins or ends and more
        frames of one are there than of another: else a still matte would drift as they come
        and go.
        """
        before, after = self._window.before, self._window.after[: self._window.ahead_of(place)]
        gains = {place - away: gain for away, gain in enumerate(before[:place], 1)}
        there = len(self._moments) - 1 - place
        gains |= {place + away: gain for away, gain in enumerate(after[:there], 1)}
        totals: defaultdict[int, float] = defaultdict(float)
        for index, gain in [(place, 1.0), *gains.items()]:
            totals[self._phase_weight(index)] += gain
        own = totals[self._phase_weight(place)]
        return {
            index: gain * own / totals[self._phase_weight(index)] for index, gain in gains.items()
        }

    def _phase_weight(self, place: int) -> int:
        seen = self._moments[place].sample
        return 0 if seen is None else seen.augment_phase

    def _neighbours(self, place: int) -> Iterator[Neighbour]:
        """The moments around the one at ``place``, as far as the motion can be followed."""
        gains = self._gains(place)
        for step in (-1, 1):
            way: FlowField | None = None
            index = place
            while (index := index + step) in gains:
                there = self._moments[index]
                leg = self._moments[index + 1].to_last if step < 0 else there.from_last
                if leg is None or leg.box.is_empty or there.sample is None:
                    break
                way = leg if way is None else leg.after(way)
                told = way
                if abs(index - place) > NEAR:
                    told = way.with_lower_trust(self._how.manner.far_reach)
                    if told.trust.max() < _LEAST_TRUST:
                        break
                yield Neighbour(told, there.sample, gains[index] * self._how.strength)


def _stretch_levels(
    alpha: np.ndarray, view: WorkingFrame, manner: FilterProfile, refine: bool
) -> None:
    """Decide what is in doubt and stretch the ends of alpha (H, W), in place.

    refine: without it nothing is decided; with it the view's alpha is brought up to
    date, for the redrawing that comes next.
    """
    if refine and manner.decides:
        gain = conviction.resolve_grey(reduce_alpha(alpha, *view.alpha.shape))
        if gain is not None:
            height, width = alpha.shape
            alpha *= cv2.resize(gain, (width, height), interpolation=cv2.INTER_LINEAR)
    scale = 1 / (manner.white - manner.black)
    cv2.addWeighted(alpha, scale, alpha, 0, -manner.black * scale, alpha)
    np.clip(alpha, 0, 1, out=alpha)
    if refine:
        view.alpha = reduce_alpha(alpha, *view.alpha.shape)

"""The temporal filter: each frame's alpha is averaged with its neighbours' along the motion.

Averaging without motion compensation draws ghosts behind whatever moves, so every average
here follows the motion. The chain for each frame: its soft edge is redrawn by a guided filter
(``guided_edges``) and its motion estimated (``flow``), both in ``track``; then it is averaged
with its neighbours, warped to where the subject is now (``accumulate``); then grey areas are
decided (``confidence``) and the levels stretched slightly, which removes the grey that
averaging adds; then the edge is partly redrawn again, now that its noise is gone.

With ``refine`` best, areas still in doubt are then solved for from their colours
(``matting_laplacian``), and the nearest frames are averaged once more.

The result for a frame depends on it, on the window's frames before it and on the
look-ahead (``NEAR`` more each way with best), and on nothing else: there is no
recursion. ``TemporalFilter.look_back`` and ``TemporalFilter.look_ahead`` count them.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Generic

import cv2
import numpy as np

from vidmatte.alpha.accumulate import MatteSample, Neighbour, average
from vidmatte.alpha.box import WorkingFrame, box_around, reduce_alpha
from vidmatte.alpha.confidence import decide_grey
from vidmatte.alpha.flow import FlowField, squared_length
from vidmatte.alpha.guided_edges import refine_edges
from vidmatte.alpha.matting_laplacian import solve_doubt
from vidmatte.alpha.track import NEAR, WINDOWS, AnyFrame, TrackedFrame, Window, track
from vidmatte.core.concurrency import map_in_order
from vidmatte.core.families import FilterProfile

_SECOND_STRENGTH = 0.7  # of the mean that best takes once more

MOVING = 0.5  # coarse pixels a frame from which something counts as moving


@dataclass(frozen=True)
class TemporalFilter:
    """The filter's two halves, each for a thread of its own.

    Both change the frames' alpha (H, W), float32 and C-contiguous, in place; ``new_shot`` starts
    again from nothing. A frame that was yielded is not read again.

    window: which frames are averaged, see ``track.WINDOWS``. refine: 'fast' redraws the soft edge,
    'best' also solves for areas in doubt and averages once more, with a look-ahead of two frames
    more; 'off' does neither. strength: 0..1 and above, scales the weight of the neighbours.
    profile: of the network that made the alphas. threads: frames that each half works on at once;
    the result does not depend on it.
    """

    window: Window
    refine: str
    strength: float
    profile: FilterProfile
    threads: int = 1

    @property
    def redraws(self) -> bool:
        """Whether soft edges are redrawn."""
        return self.refine != "off"

    def track_stage(self, frames: Iterable[AnyFrame]) -> Iterator[TrackedFrame[AnyFrame]]:
        """The first half: edges redrawn, motion found."""
        mix = bool(self.window.before or self.window.after)
        return track(frames, redraw=self.redraws, mix=mix, threads=self.threads)

    @property
    def held_by_threads(self) -> int:
        """The most frames that wait for their turn, besides ``look_ahead``: each half has some
        under way, the first one twice, alone and in pairs."""
        halves = 2 if self.refine == "best" else 1
        return 3 * halves * self.threads if self.threads > 1 else 0

    @property
    def look_ahead(self) -> int:
        """The most frames that are held back."""
        return len(self.window.after) + len(self._again_window.after)

    @property
    def look_back(self) -> int:
        """The most frames before one that its result depends on."""
        return len(self.window.before) + len(self._again_window.before)

    @property
    def _again_window(self) -> Window:
        """The window of the second average."""
        return self.window.nearest() if self.refine == "best" else WINDOWS["off"]

    def average_stage(self, tracked: Iterable[TrackedFrame[AnyFrame]]) -> Iterator[AnyFrame]:
        """The second half: the frames of ``tracked``, averaged and finished."""
        frames = self._averaged(tracked)
        return self._again(frames) if self.refine == "best" else frames

    def _again(self, frames: Iterable[AnyFrame]) -> Iterator[AnyFrame]:
        """The frames with grey areas solved, averaged a second time, but weakly: every average
        removes some detail together with the flicker."""

        def solved() -> Iterator[AnyFrame]:
            for frame in frames:
                self._solve(frame)
                frame.mirrored, frame.augment_phase = False, 0  # the average has mixed them
                yield frame

        profile = replace(self.profile, redrawn=0.0, black=0.01, white=0.98, decides=False)
        second = replace(
            self,
            window=self._again_window,
            refine="off",
            strength=self.strength * _SECOND_STRENGTH,
            profile=profile,
        )
        return second.average_stage(second.track_stage(solved()))

    def _solve(self, frame: AnyFrame) -> None:
        """Solve for what is in doubt in a frame."""
        if frame.alpha is not None:
            solve_doubt(frame.rgb, frame.alpha)

    def _averaged(self, tracked: Iterable[TrackedFrame[AnyFrame]]) -> Iterator[AnyFrame]:
        window_filter: _WindowFilter[AnyFrame] = _WindowFilter(self)

        def ready() -> Iterator[Averaging[AnyFrame]]:
            for item in tracked:
                yield from window_filter.feed(item)
            yield from window_filter.flush()

        return map_in_order(self._finished, ready(), self.threads, name="steady")

    def _finished(self, item: Averaging[AnyFrame]) -> AnyFrame:
        """One frame, averaged and finished."""
        return item.finished()


class _WindowFilter(Generic[AnyFrame]):
    """The second half's state: the last few tracked frames of the current shot."""

    def __init__(self, how: TemporalFilter) -> None:
        self._how = how
        self._window = how.window
        self._tracked: deque[TrackedFrame[AnyFrame]] = deque()
        self._waiting = 0  # at the end of the deque: those whose frame was not yielded yet

    def feed(self, item: TrackedFrame[AnyFrame]) -> Iterator[Averaging[AnyFrame]]:
        """Take the next tracked frame; yield the frames that are ready to be averaged."""
        if item.frame is not None and item.frame.new_shot:
            yield from self.flush()
        self._tracked.append(item)
        self._waiting += 1
        while self._waiting > self._window.ahead_of(len(self._tracked) - self._waiting):
            yield self._emit()

    def flush(self) -> Iterator[Averaging[AnyFrame]]:
        """Yield all frames that are held; the next one begins a new shot."""
        while self._waiting:
            yield self._emit()
        self._tracked.clear()

    def _emit(self) -> Averaging[AnyFrame]:
        """The oldest waiting frame with its neighbours; drops what no later one needs."""
        place = len(self._tracked) - self._waiting
        item = self._tracked[place]
        frame, view = item.frame, item.view
        item.frame = item.view = None
        if frame is None:
            raise RuntimeError("a frame was yielded twice")
        around = [replace(one) for one in self._tracked]
        ready = Averaging(self._how, frame, view, around, place)
        item.from_last = None
        self._waiting -= 1
        while len(self._tracked) - self._waiting > len(self._window.before):
            self._tracked.popleft()
        return ready


@dataclass(frozen=True)
class Averaging(Generic[AnyFrame]):
    """One frame to be averaged, the one at ``place`` in ``tracked``.

    view: the frame at the working scale, None where nothing is to be done.
    """

    how: TemporalFilter
    frame: AnyFrame
    view: WorkingFrame | None
    tracked: list[TrackedFrame[AnyFrame]]
    place: int

    @property
    def sample(self) -> MatteSample | None:
        """What was prepared of its matte; None without an average."""
        return self.tracked[self.place].sample

    def finished(self) -> AnyFrame:
        """Average, stretch and redraw the frame's alpha, in place."""
        how, frame, view, seen = self.how, self.frame, self.view, self.sample
        alpha = frame.alpha
        if alpha is None:
            raise RuntimeError("the alpha of a frame was removed")
        if view is None:
            return frame
        if seen is not None:
            average(seen, list(self.neighbours()), alpha)
        _stretch_levels(alpha, view, how.profile, how.redraws)
        if seen is not None and how.redraws:
            share = how.profile.redrawn * self._pace(view.shape)
            refine_edges(frame.rgb, alpha, view, share)
        return frame

    @property
    def motion(self) -> FlowField | None:
        """Between the frame and the one before it, or else the one after it."""
        field = self.tracked[self.place].to_last
        if field is None and self.place + 1 < len(self.tracked):
            field = self.tracked[self.place + 1].from_last
        return field

    def _pace(self, shape: tuple[int, ...]) -> np.ndarray:
        """0 where nothing moves now, 1 where something does: ``shape``, float32.

        Where all frames agree their mean is the better edge; a single frame's colours would
        only bring its noise back.
        """
        field, seen = self.motion, self.sample
        if field is None or seen is None or field.box.is_empty:
            return np.ones(shape, np.float32)
        coarse = np.zeros(seen.coarse.alpha.shape, np.float32)
        # Not cv2.magnitude: its last bit may differ between runs on the same input.
        pace = np.sqrt(squared_length(*field.planes[:2]))
        field.box.crop(coarse)[:] = np.minimum(pace * np.float32(1 / MOVING), 1)
        return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_LINEAR))

    def _gains(self) -> dict[int, float]:
        """The weight of each tracked frame around this one, by its index.

        All phases of test-time augmentation have the same total weight, also at the ends of a
        shot, where there are more frames of one phase than of another: otherwise the matte of a
        still scene would drift as frames enter and leave the window.
        """
        place = self.place
        window = self.how.window
        before, after = window.before, window.after[: window.ahead_of(place)]
        gains = {place - away: gain for away, gain in enumerate(before[:place], 1)}
        there = len(self.tracked) - 1 - place
        gains |= {place + away: gain for away, gain in enumerate(after[:there], 1)}
        totals: defaultdict[int, float] = defaultdict(float)
        for index, gain in [(place, 1.0), *gains.items()]:
            totals[self._phase_weight(index)] += gain
        own = totals[self._phase_weight(place)]
        return {
            index: gain * own / totals[self._phase_weight(index)] for index, gain in gains.items()
        }

    def _phase_weight(self, place: int) -> int:
        seen = self.tracked[place].sample
        return 0 if seen is None else seen.augment_phase

    def neighbours(self) -> Iterator[Neighbour]:
        """The neighbours of the frame, as far as its motion can be followed."""
        place, gains = self.place, self._gains()
        for step in (-1, 1):
            way: FlowField | None = None
            index = place
            while (index := index + step) in gains:
                there = self.tracked[index]
                leg = self.tracked[index + 1].to_last if step < 0 else there.from_last
                if leg is None or leg.box.is_empty or there.sample is None:
                    break
                way = leg if way is None else leg.after(way)
                field = way
                if abs(index - place) > NEAR:
                    field = way.with_lower_trust(self.how.profile.far_reach)
                    if not field.is_worth_sampling():
                        break
                yield Neighbour(field, there.sample, gains[index] * self.how.strength)


def _stretch_levels(
    alpha: np.ndarray, view: WorkingFrame, profile: FilterProfile, refine: bool
) -> None:
    """Decide grey areas and stretch the levels of alpha (H, W), in place.

    refine: without it no grey is decided; with it the view's alpha is updated for the
    redrawing that comes next.
    """
    view.alpha = reduced = reduce_alpha(alpha, *view.shape)
    box = box_around(reduced > 0).grown(1, *reduced.shape)
    if box.is_empty:
        return
    if refine and profile.decides:
        decide_grey(alpha, reduced, box)
    there = box.enlarged(reduced.shape, *alpha.shape).crop(alpha)
    scale = 1 / (profile.white - profile.black)
    cv2.addWeighted(there, scale, there, 0, -profile.black * scale, there)
    np.clip(there, 0, 1, out=there)
    if refine:
        view.alpha = reduce_alpha(alpha, *view.shape)

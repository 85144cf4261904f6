"""The first half of the temporal filter: soft edges redrawn, motion tracked; and its windows."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

import numpy as np

from vidmatte.alpha.accumulate import MatteSample
from vidmatte.alpha.box import WorkingFrame, reduce_alpha
from vidmatte.alpha.flow import CoarseFrame, FlowField, MotionEstimator
from vidmatte.alpha.guided_edges import refine_edges
from vidmatte.core.concurrency import map_in_order


@dataclass(frozen=True)
class Window:
    """Which frames before and after the present one are averaged, by their weights.

    ahead: how many of ``after`` are waited for. The first frames of a shot, which have no
    past, wait for more to make up for it: the very first waits for all of ``after``.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    ahead: int

    def ahead_of(self, place: int) -> int:
        """Frames to wait for, of a frame with ``place`` frames of its shot before it."""
        return max(self.ahead, len(self.after) - place)

    def nearest(self) -> Window:
        """The part of it in which flow errors do not add up."""
        return Window(self.before[:NEAR], self.after[:NEAR], min(self.ahead, NEAR))


_LONGEST_PAST = 9
NEAR = 2  # frames away that have full weight however far things move
#: Together with the current frame these are three rounds of the augmentation phases, so that no
#: phase weighs much more than another. The frames that are waited for make one round.
WINDOWS = {
    "off": Window((), (), 0),
    "live": Window((1.0,) * _LONGEST_PAST, (), 0),
    "on": Window((1.0,) * NEAR + (0.8,) * 6, (1.0,) * NEAR + (0.8,) * 2, 3),
}
WINDOWS["strong"] = WINDOWS["on"]
#: The most frames after one that its result may depend on, whatever the mode; ``refine`` best
#: looks ``NEAR`` frames further from each frame of the window.
LONGEST_LOOK_AHEAD = max(
    len(window.after) + len(window.nearest().after) for window in WINDOWS.values()
)


class _FrameWithAlpha(Protocol):
    """What a frame needs for the filter; ``vidmatte.core.frame.Frame`` has it."""

    rgb: np.ndarray
    alpha: np.ndarray | None
    new_shot: bool
    mirrored: bool
    augment_phase: int


AnyFrame = TypeVar("AnyFrame", bound=_FrameWithAlpha)


@dataclass(kw_only=True)
class TrackedFrame(Generic[AnyFrame]):
    """A frame inside the filter, and what its neighbours need of it.

    frame, view: None once the frame was yielded; view also where there is nothing to do.
    sample: its matte, None where no frames are averaged. to_last, from_last: the flow to the
    frame before and from it; None at the start of a shot.
    """

    frame: AnyFrame | None
    view: WorkingFrame | None = None
    sample: MatteSample | None = None
    to_last: FlowField | None = None
    from_last: FlowField | None = None


def track(
    frames: Iterable[AnyFrame], *, redraw: bool, mix: bool, threads: int = 1
) -> Iterator[TrackedFrame[AnyFrame]]:
    """``frames``, tracked, in order.

    redraw: whether soft edges are redrawn. mix: whether frames will be averaged, so that
    their motion is needed. threads: frames and pairs of frames that are worked on at once. Each
    frame's ``alpha``, C-contiguous (H, W) float32, is changed in place. Raises ValueError for a
    frame without alpha.
    """
    prepared = map_in_order(
        partial(_prepared, redraw=redraw, mix=mix), frames, threads, name="motion"
    )
    if not mix:
        return prepared
    return with_motion(prepared, threads)


def with_motion(
    prepared: Iterable[TrackedFrame[AnyFrame]], threads: int
) -> Iterator[TrackedFrame[AnyFrame]]:
    """The frames, each with its motion where there is a frame before it in its shot."""
    return map_in_order(_Motion(), _with_last(prepared), threads, name="motion")


def _prepared(frame: AnyFrame, *, redraw: bool, mix: bool) -> TrackedFrame[AnyFrame]:
    """One frame alone: its edges redrawn, and what its neighbours need of it."""
    if frame.alpha is None:
        raise ValueError("the frame has no alpha yet: the network comes before the filter")
    if not (redraw or mix):
        return TrackedFrame(frame=frame)
    view = WorkingFrame.of(frame.rgb, frame.alpha)
    if redraw:
        refine_edges(frame.rgb, frame.alpha, view)
        view.alpha = reduce_alpha(frame.alpha, *view.alpha.shape)
    sample = _sample_matte(frame, frame.alpha, view) if mix else None
    if mix:
        view.drop_alpha()
    return TrackedFrame(frame=frame, view=view, sample=sample)


_Pair = tuple[TrackedFrame[AnyFrame], CoarseFrame | None, CoarseFrame]


def _with_last(tracked: Iterable[TrackedFrame[AnyFrame]]) -> Iterator[_Pair[AnyFrame]]:
    """Each frame, with the one before it in its shot and itself at the coarse scale."""
    last: CoarseFrame | None = None
    for item in tracked:
        assert item.frame is not None and item.sample is not None
        yield item, None if item.frame.new_shot else last, item.sample.coarse
        last = item.sample.coarse


class _Motion:
    """Finds the motion of pairs of frames; every thread has an estimator of its own."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def __call__(self, pair: _Pair[AnyFrame]) -> TrackedFrame[AnyFrame]:
        """The frame of the pair, with its motion where there is a frame before it."""
        item, last, here = pair
        if last is not None:
            if not hasattr(self._of_thread, "estimator"):
                self._of_thread.estimator = MotionEstimator()
            item.from_last, item.to_last = self._of_thread.estimator.between(last, here)
        return item


def _sample_matte(frame: _FrameWithAlpha, alpha: np.ndarray, view: WorkingFrame) -> MatteSample:
    """What a frame's neighbours need of its refined alpha (H, W)."""
    box = view.box.enlarged(view.alpha.shape, *alpha.shape).grown(2, *alpha.shape)
    return MatteSample(
        codes=MatteSample.coded(box.crop(alpha)),
        box=box,
        coarse=CoarseFrame.of(view),
        mirrored=frame.mirrored,
        augment_phase=frame.augment_phase,
    )

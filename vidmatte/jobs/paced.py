"""A per-frame network that runs on key frames only; to the frames between them its mattes are
carried (``alpha.carry``), as far as they can be trusted there.

Key frames are those whose number is a multiple of the distance, and the first and the last frame
of each shot. Where a carried matte is in doubt, the network runs on the frame halfway between two
key frames as well, and so on; with ``auto`` on every frame between them.

With ``auto`` a key frame's alpha is merged from two views of the test-time augmentation, at the
start of a shot from four: alone, each is less steady than what the temporal filter makes of a
network on every frame, whose four views are in its window at any time.

What a frame gets depends on the frames from one or two key frames before it to the one after it
and on no others: segments and resumed runs give the same frames. Whether two key frames' mattes are
carried therefore depends on their first views, whatever was merged for the frames before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from vidmatte.alpha.carry import (
    LOOSE,
    STILL,
    STRICT,
    KeyMatte,
    Limits,
    ReducedFrame,
    Stretch,
)
from vidmatte.core.frame import Clip, Frame
from vidmatte.core.segment import Segment
from vidmatte.jobs.smoothing import LONGEST_SIDE, filter_threads
from vidmatte.models.augment import mark_views
from vidmatte.models.base import Network, WrappedNetwork
from vidmatte.models.load import why_every_frame
from vidmatte.models.registry import Model
from vidmatte.models.segmentation import merge_mirrored
from vidmatte.settings import Settings

_AUTO_DISTANCE = 6  # of ``auto``: pairs of views alternate, see ``_PacedNetwork._turn_of``


@dataclass(frozen=True)
class Pace:
    """How often the network runs: on every ``distance``-th frame at least, and where a carried
    matte exceeds the ``limits``.

    still: of ``auto``: between key frames whose first views exceed it, the network runs on every
    frame; else their alphas are merged from several views before they are carried.
    """

    distance: int
    limits: Limits
    still: Limits | None = None


def _pace_named(name: str) -> Pace | None:
    """The pace of ``--pace``; None for a network on every frame."""
    if name in ("every", "1"):
        return None
    return Pace(_AUTO_DISTANCE, STRICT, STILL) if name == "auto" else Pace(int(name), LOOSE)


def _pace_of(model: Model, clip: Clip, settings: Settings) -> Pace | None:
    """The pace of a run; None where the network runs on every frame."""
    families = [part.family for part in model.weights]
    is_too_large = max(clip.width, clip.height) > LONGEST_SIDE  # for the carrying's cv2.remap
    if clip.kind == "picture" or is_too_large or why_every_frame(families, settings):
        return None
    # Stretched by each frame's own extremes, as another tool does, mattes are not steady.
    suits = settings.normalize == "clip" and model.alternates_views
    return _pace_named(settings.pace) if suits or settings.pace != "auto" else None


def network_of(model: Model, clip: Clip, settings: Settings, cache: Path | None = None) -> Network:
    """The network of a run, at its pace. cache: see ``Model.network_for``."""
    pace = _pace_of(model, clip, settings)
    if pace is None:
        return model.network_for(clip, cache)
    threads = filter_threads(clip, settings)
    return model.network_for(clip, cache, lambda network: _PacedNetwork(network, pace, threads))


@dataclass
class Tally:
    """carried: frames of the segment so far whose alpha was carried from key frames."""

    carried: int = 0

    def observe(self, frames: Iterator[Frame], segment: Segment) -> Iterator[Frame]:
        """The same frames, counted."""
        for frame in frames:
            self.carried += frame.carried and segment.writes(frame.index)
            yield frame


class _PacedNetwork(WrappedNetwork):
    """Runs a per-frame network at a pace. threads: pairs of frames whose motion is searched at
    once, and frames that a matte is carried to."""

    def __init__(self, network: Network, pace: Pace, threads: int = 1) -> None:
        super().__init__(network)
        self._pace, self._threads = pace, threads
        # Besides those of a batch, a key frame waits, and those up to the batch's first.
        self.batch = self.batch_stride + 1 + (pace.distance if self._has_batches else 0)
        self.look_ahead = (2 if self._has_batches else 1) * self.batch_stride

    @property
    def _has_batches(self) -> bool:
        """Whether several key frames go through the network together."""
        return self._network.batch_stride > 1

    @property
    def batch_stride(self) -> int:
        """Frames whose key frames go through the network together."""
        return self._pace.distance * self._network.batch_stride

    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        waiting = _Waiting(self._pace, self._threads, self)
        group: list[Frame] = []
        for frame in frames:
            is_due = frame.index % self.batch_stride == 0
            if is_due and group and self._has_batches:
                yield from self._paced(group, waiting, ends=frame.new_shot)
                group = []
            group.append(frame)
            if is_due and not self._has_batches:  # sooner: fewer frames wait
                yield from self._paced(group, waiting, ends=False)
                group = []
        if group:
            yield from self._paced(group, waiting, ends=True)
        yield from waiting.flush()

    def _paced(self, group: list[Frame], waiting: _Waiting, *, ends: bool) -> Iterator[Frame]:
        """Those of the waiting frames and of a group that have their alpha now. ends: whether the
        group's last frame is the last of a shot."""
        last = [following.new_shot for _, following in pairwise(group)] + [ends]
        keys = [
            frame
            for frame, is_last in zip(group, last, strict=True)
            if frame.new_shot or is_last or frame.index % self._pace.distance == 0
        ]
        for _ in self.run(keys):
            pass
        ran = {frame.index for frame in keys}
        for frame in group:
            yield from waiting.feed(frame, frame.index in ran)

    def run(self, frames: Sequence[Frame]) -> Iterator[Frame]:
        """The frames, the network run on them one after the other."""
        for frame in frames:
            frame.turn = self._turn_of(frame)
        return self._network.predict(iter(frames))

    def _turn_of(self, frame: Frame) -> int:
        """Views alternate from frame to frame, and also from one key frame to the next; pairs of
        them where two are merged."""
        if frame.new_shot:
            return 0
        distance = self._pace.distance
        is_in_order = distance % 2 or self._pace.still is not None
        return frame.index + (0 if is_in_order else frame.index // distance)

    def merged_views(self, frame: Frame) -> np.ndarray:
        """The alpha (H, W) float32 of a key frame that the network ran on, merged with that from
        the other view of a pair; at the start of a shot from both pairs. The frame keeps its own.
        """
        assert frame.alpha is not None
        turn, own = self._turn_of(frame), frame.alpha.copy()
        merged = self._of_pair(frame, turn, own)
        if frame.new_shot:
            merged += self._of_pair(frame, turn + 2, self._of_view(frame, turn + 2).copy())
            merged *= np.float32(0.5)
        frame.alpha[:] = own
        self.marked_in_turn(frame)
        return merged

    def _of_pair(self, frame: Frame, turn: int, alpha: np.ndarray) -> np.ndarray:
        """The alpha of two views, merged. alpha: that of a turn."""
        pair = (alpha, self._of_view(frame, turn ^ 1))
        return merge_mirrored(*(pair[::-1] if turn % 2 else pair))

    def _of_view(self, frame: Frame, turn: int) -> np.ndarray:
        """The frame's alpha, as the network gives it in a turn."""
        frame.turn = turn
        for _ in self._network.predict(iter([frame])):
            pass
        assert frame.alpha is not None
        return frame.alpha

    def marked_in_turn(self, frame: Frame) -> Frame:
        """Mark a frame whose alpha comes from several views as if it came from one: the filter
        gives all views the same weight, and would else give little to those of all such frames."""
        frame.turn, frame.augment_phase, frame.mirrored = self._turn_of(frame), 0, False
        mark_views(frame, ["four"])
        return frame


class _Waiting:
    """The last key frame, and the frames after it, which wait for the next one.

    network: runs on some frames.
    """

    def __init__(self, pace: Pace, threads: int, network: _PacedNetwork) -> None:
        self._pace, self._threads, self._network = pace, threads, network
        # Both begin with the key frame.
        self._frames: list[Frame] = []
        self._reduced: list[ReducedFrame] = []
        self._key: KeyMatte | None = None  # from one view
        self._is_merged = False

    def feed(self, frame: Frame, is_key: bool) -> Iterator[Frame]:
        """Take the next frame, a key frame with its alpha; yield those that are done."""
        reduced = ReducedFrame.of(frame.rgb)
        self._frames.append(frame)
        self._reduced.append(reduced)
        if not is_key:
            return
        key, between = KeyMatte.of_frame(frame, reduced), iter(self._frames[1:-1])
        is_merged = False
        if len(self._frames) > 2:
            between, is_merged = self._between(key)
        yield from self._frames[:-1][:1]
        yield from between
        self._frames, self._reduced, self._key = [frame], [reduced], key
        self._is_merged = is_merged

    def flush(self) -> Iterator[Frame]:
        """Yield the last frame."""
        frames, self._frames = self._frames, []
        yield from frames

    def _between(self, last: KeyMatte) -> tuple[Iterator[Frame], bool]:
        """The frames between the key frames, each with alpha when it comes: until then they take
        no memory for it; and whether the key frames are merged of several views.

        last: the matte of the last one."""
        assert self._key is not None  # a shot begins with a key frame
        between = self._frames[1:-1]
        stretch = Stretch(self._reduced, self._key, last, self._threads)
        if self._pace.still is not None and not stretch.is_empty:
            return self._if_still(stretch, self._pace.still)
        while doubtful := stretch.doubtful_places(self._pace.limits):
            seen = self._network.run([self._frames[place] for place in doubtful])
            for place, frame in zip(doubtful, seen, strict=True):
                stretch.add_key(place, KeyMatte.of_frame(frame, self._reduced[place]))
        return stretch.carried(between), False

    def _if_still(self, stretch: Stretch, still: Limits) -> tuple[Iterator[Frame], bool]:
        """The same of ``auto``. stretch: from the key frames' first views."""
        first, *between, last = self._frames
        if stretch.doubtful_places(still):
            return self._network.run(between), False
        assert first.alpha is not None
        alphas = (
            first.alpha if self._is_merged else self._network.merged_views(first),
            self._network.merged_views(last),
        )
        pairs = zip(alphas, (self._reduced[0], self._reduced[-1]), strict=True)
        keys = [KeyMatte.of_alpha(alpha, reduced) for alpha, reduced in pairs]
        stretch = Stretch(self._reduced, keys[0], keys[1], self._threads)
        if stretch.doubtful_places(self._pace.limits):
            return self._network.run(between), False
        for frame, alpha in zip((first, last), alphas, strict=True):
            frame.writable_alpha()[:] = alpha
        return map(self._network.marked_in_turn, stretch.carried(between)), True

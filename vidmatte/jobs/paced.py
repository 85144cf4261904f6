"""A per-frame network that runs on key frames only; to the frames between them its mattes are
carried (``alpha.carry``), as far as they can be trusted there.

Key frames are those whose number is a multiple of the distance, and the first and the last frame
of each shot. Where a carried matte is in doubt, the network runs on the frame halfway between two
key frames as well, and so on. What a frame gets therefore depends on the frames from the key frame
before it to the one after it and on no others: segments and resumed runs give the same frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from vidmatte.alpha.carry import LOOSE, STRICT, KeyMatte, Limits, ReducedFrame, Stretch
from vidmatte.core.frame import Clip, Frame
from vidmatte.core.segment import Segment
from vidmatte.jobs.smoothing import LONGEST_SIDE, filter_threads
from vidmatte.models.base import Network, WrappedNetwork
from vidmatte.models.load import why_every_frame
from vidmatte.models.registry import Model
from vidmatte.settings import Settings

_AUTO_DISTANCE = 3  # of ``auto``, whose trust then decides


@dataclass(frozen=True)
class Pace:
    """How often the network runs: on every ``distance``-th frame at least, and where a carried
    matte exceeds the ``limits``."""

    distance: int
    limits: Limits


def _pace_named(name: str) -> Pace | None:
    """The pace of ``--pace``; None for a network on every frame."""
    if name in ("every", "1"):
        return None
    return Pace(_AUTO_DISTANCE, STRICT) if name == "auto" else Pace(int(name), LOOSE)


def _pace_of(model: Model, clip: Clip, settings: Settings) -> Pace | None:
    """The pace of a run; None where the network runs on every frame."""
    families = [part.family for part in model.weights]
    is_too_large = max(clip.width, clip.height) > LONGEST_SIDE  # for the carrying's cv2.remap
    if clip.kind == "picture" or is_too_large or why_every_frame(families, settings):
        return None
    # Stretched by each frame's own extremes, as another tool does, mattes are not steady.
    is_asked = settings.pace != "auto" or settings.normalize == "clip"
    return _pace_named(settings.pace) if is_asked else None


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
        self.batch = self.batch_stride + pace.distance  # as many may wait for the next key frame
        self.look_ahead = 2 * self.batch_stride

    @property
    def batch_stride(self) -> int:
        """Frames whose key frames go through the network together."""
        return self._pace.distance * self._network.batch_stride

    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        waiting = _Waiting(self._pace.limits, self._threads, self._run)
        group: list[Frame] = []
        for frame in frames:
            if group and frame.index % self.batch_stride == 0:
                yield from self._paced(group, waiting, ends=frame.new_shot)
                group = []
            group.append(frame)
        if group:
            yield from self._paced(group, waiting, ends=True)

    def _paced(self, group: list[Frame], waiting: _Waiting, *, ends: bool) -> Iterator[Frame]:
        """Those of the waiting frames and of a group that have their alpha now. ends: whether the
        group's last frame is the last of a shot."""
        last = [following.new_shot for _, following in pairwise(group)] + [ends]
        keys = [
            frame
            for frame, is_last in zip(group, last, strict=True)
            if frame.new_shot or is_last or frame.index % self._pace.distance == 0
        ]
        self._run(keys)
        ran = {frame.index for frame in keys}
        for frame in group:
            yield from waiting.feed(frame, frame.index in ran)

    def _run(self, frames: list[Frame]) -> None:
        """Run the network on some frames."""
        distance = self._pace.distance
        for frame in frames:
            # Views alternate from frame to frame, and also from one key frame to the next.
            frame.turn = frame.index + (0 if distance % 2 else frame.index // distance)
        for _ in self._network.predict(iter(frames)):
            pass


class _Waiting:
    """The last key frame, and the frames after it, which wait for the next one.

    run: runs the network on some frames.
    """

    def __init__(self, limits: Limits, threads: int, run: Callable[[list[Frame]], None]) -> None:
        self._limits, self._threads, self._run = limits, threads, run
        self._frames: list[Frame] = []
        self._reduced: list[ReducedFrame] = []  # begins with the key frame
        self._key: KeyMatte | None = None

    def feed(self, frame: Frame, is_key: bool) -> Iterator[Frame]:
        """Take the next frame, a key frame with its alpha; yield those that are done."""
        reduced = ReducedFrame.of(frame.rgb)
        if not is_key:
            self._frames.append(frame)
            self._reduced.append(reduced)
            return
        key = KeyMatte.of_frame(frame, reduced)
        if self._frames:
            yield from self._carried([*self._reduced, reduced], key)
        self._frames, self._reduced, self._key = [], [reduced], key
        yield frame

    def _carried(self, reduced: list[ReducedFrame], last: KeyMatte) -> Iterator[Frame]:
        """The waiting frames, with alpha. last: the matte of the frame after them."""
        assert self._key is not None  # a shot begins with a key frame
        stretch = Stretch(reduced, self._key, last, self._threads)
        while doubtful := stretch.doubtful_places(self._limits):
            seen = [self._frames[place - 1] for place in doubtful]
            self._run(seen)
            for place, frame in zip(doubtful, seen, strict=True):
                stretch.add_key(place, KeyMatte.of_frame(frame, reduced[place]))
        frames, self._frames = self._frames, []
        stretch.carry_all(frames)
        yield from frames

"""What work costs: seconds on the clock, seconds of all cores, memory at its peak."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median

from vidmatte.alpha.shot_detection import CutDetector
from vidmatte.alpha.track import TrackedFrame
from vidmatte.core.concurrency import cpu_facts, usable_cores
from vidmatte.core.frame import Frame
from vidmatte.jobs.outputs import open_writer
from vidmatte.jobs.queue import Ring, Slot, StopFlag
from vidmatte.jobs.report import Reporter
from vidmatte.jobs.run import run
from vidmatte.jobs.smoothing import temporal_filter_for
from vidmatte.models.registry import Model
from vidmatte.readers.base import Reader
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings


@dataclass(frozen=True)
class _Cost:
    """``frames`` took ``seconds``, and all threads together ``core_seconds``.

    others: core-seconds that other programs took meanwhile; None where the system does not say.
    """

    frames: int
    seconds: float
    core_seconds: float
    others: float | None = None

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds if self.seconds else 0.0

    @property
    def core_ms(self) -> float:
        """Core milliseconds a frame."""
        return 1000 * self.core_seconds / self.frames if self.frames else 0.0


def _cost_of(work: Callable[[], int]) -> _Cost:
    """Do the work, which returns how many frames it did; returns its cost."""
    began, cores_began, all_began = (
        time.perf_counter(),
        time.process_time(),
        _machine_core_seconds(),
    )
    frames = work()
    core_seconds = time.process_time() - cores_began
    all_ended = _machine_core_seconds()
    others = None
    if all_began is not None and all_ended is not None:
        others = max(0.0, all_ended - all_began - core_seconds)
    return _Cost(frames, time.perf_counter() - began, core_seconds, others)


def _median_cost(costs: list[_Cost]) -> _Cost:
    """The medians of the same work done several times."""
    others = [cost.others for cost in costs if cost.others is not None]
    return _Cost(
        frames=costs[0].frames,
        seconds=median(cost.seconds for cost in costs),
        core_seconds=median(cost.core_seconds for cost in costs),
        others=median(others) if len(others) == len(costs) else None,
    )


def _machine_core_seconds() -> float | None:
    """Core-seconds of all programs since the start; None where the system does not say."""
    try:
        line = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:  # no Linux
        return None
    user, nice, system, _idle, _waiting, irq, soft_irq, stolen = map(int, line.split()[1:9])
    return (user + nice + system + irq + soft_irq + stolen) / os.sysconf("SC_CLK_TCK")


def _peak_memory() -> int | None:
    """The most bytes that this process ever held; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cpu_name() -> str:
    """The name of this machine's CPU, as the system gives it."""
    return cpu_facts().get("model name") or platform.processor() or platform.machine()


_MOST_HELD = 16
_LEAST_HELD = 8  # the filter looks three frames ahead and more back

_Report = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """Costs of each stage alone and of the full run.

    peak_bytes: of the process after the full run, before the stages were held in
    memory; None where the system does not say.
    """

    stages: dict[str, _Cost]
    pipeline: _Cost
    cores: int
    peak_bytes: int | None

    @property
    def core_ms(self) -> float:
        """Core milliseconds a frame, all stages together."""
        return sum(cost.core_ms for cost in self.stages.values())

    @property
    def bound_fps(self) -> float:
        """Frames a second if no core ever waited."""
        return 1000 * self.cores / self.core_ms

    @property
    def used_share(self) -> float:
        """The part of the cores, 0..1, that other programs took during the full run."""
        return (self.pipeline.others or 0.0) / (self.cores * self.pipeline.seconds)

    @property
    def share(self) -> float:
        """(sum of the stages' core-seconds / cores) / wall-clock of the full run."""
        return self.pipeline.fps / self.bound_fps


def measure(
    clip: Path, output: Path, model: Model, settings: Settings, rounds: int, report: _Report
) -> Measured:
    """Run the full pipeline and each stage alone, in turn, ``rounds`` times.

    clip: what is read, all of it, in every full run. output: overwritten each time.
    report: called with the current step. Raises VidmatteError.
    """
    report("warming up")
    stages = _Stages(clip, output, model, settings)
    stages.warm_up()
    full: list[_Cost] = []
    alone: dict[str, list[_Cost]] = {name: [] for name in stages.all}
    peak = None
    for number in range(1, rounds + 1):
        report(f"round {number} of {rounds}: the full run")
        full.append(_cost_of(stages.pipeline))
        peak = peak if alone["read"] else _peak_memory()
        for name, stage in stages.all.items():
            report(f"round {number} of {rounds}: {name} alone")
            alone[name].append(stage())
    return Measured(
        stages={name: _median_cost(costs) for name, costs in alone.items()},
        pipeline=_median_cost(full),
        cores=usable_cores(),
        peak_bytes=peak,
    )


class _Stages:
    """The stages of one clip's run, each to be called alone, in the order of the work."""

    def __init__(self, clip: Path, output: Path, model: Model, settings: Settings) -> None:
        self._clip, self._output, self._model, self._settings = clip, output, model, settings
        self._frames: list[Frame] = []
        self._tracked: list[TrackedFrame[Frame]] = []
        network = model.network
        self._filter = temporal_filter_for(network.recurrent, settings, network.filter_profile)
        self.all: dict[str, Callable[[], _Cost]] = {
            "read": self.read,
            "network": self.network,
            "motion": self.motion,
            "steady": self.steady,
            "write": self.write,
        }

    def warm_up(self) -> None:
        """One frame through the network, so that no later one pays for its start."""
        with open_reader(self._clip, self._settings) as source:
            list(self._model.network.predict(iter(self._filled(source, 1))))

    def pipeline(self) -> int:
        """The run as a user would start it; how many frames it wrote."""
        with open_reader(self._clip, self._settings) as source:
            result = run(source, self._output, self._model, self._settings, Reporter())
        return result.written.frames

    def read(self) -> _Cost:
        """Decoding, the network's view of each frame, shot cuts."""
        with open_reader(self._clip, self._settings) as source:
            depth = self._settings.memory_bytes // Slot.size_of(source.clip)
            held = max(_LEAST_HELD, min(_MOST_HELD, depth))

            def work() -> int:
                self._frames = self._filled(source, held)
                return len(self._frames)

            return _cost_of(work)

    def network(self) -> _Cost:
        """Resizing, the network, its alpha brought to the frame's size."""
        network = self._model.network
        return _cost_of(lambda: sum(1 for _ in network.predict(iter(self._frames))))

    def motion(self) -> _Cost:
        """Edges redrawn, motion from frame to frame."""
        frames = list(_ping_pong(self._frames))

        def work() -> int:
            self._tracked = list(self._filter.track_stage(frames))
            return len(self._tracked)

        return _cost_of(work)

    def steady(self) -> _Cost:
        """The average along the motion, its edges redrawn."""
        tracked, self._tracked = iter(self._tracked), []
        settled: list[Frame] = []

        def work() -> int:
            settled.extend(self._filter.average_stage(tracked))
            return len(settled)

        cost = _cost_of(work)
        self._frames = settled[: len(self._frames)]
        return cost

    def write(self) -> _Cost:
        """Colours under soft edges, conversion, encoding, the file and its proof."""

        def work() -> int:
            with open_writer(self._output, source.clip, self._settings) as sink:
                for frame in self._frames:
                    sink.write(frame)
                return sink.close().frames

        with open_reader(self._clip, self._settings) as source:
            return _cost_of(work)

    def _filled(self, source: Reader, count: int) -> list[Frame]:
        """The first frames of the clip, in slots of a ring of their own."""
        ring = Ring(source.clip, count, self._model.device, StopFlag())
        detector = CutDetector()
        frames = []
        for index, picture in enumerate(islice(source.pictures(), count)):
            frame = ring.fill(picture, index)
            frame.new_shot = detector.is_new_shot(frame.rgb)
            frames.append(frame)
        return frames


def _ping_pong(frames: list[Frame]) -> Iterator[Frame]:
    """A shot of nearly twice the length, each of its frames with an alpha of its own.

    The first frames of a shot cost the filter less than those in the midst of it: they have
    fewer neighbours.
    """
    later: Frame | None = None
    for number, frame in enumerate([*frames, *frames[-2::-1]]):
        if frame.alpha is None:
            raise RuntimeError("the filter was measured before the network")
        back = number >= len(frames)
        cut = later.new_shot if back and later is not None else frame.new_shot
        yield replace(frame, alpha=frame.alpha.copy(), new_shot=cut)
        later = frame

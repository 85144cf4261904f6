"""What work costs: seconds on the clock, seconds of all cores, memory at its peak."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Cost:
    """``frames`` took ``seconds``, and all threads together ``core_seconds``.

    others: core-seconds that other programs took meanwhile; None where it is not told.
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


def cost_of(work: Callable[[], int]) -> Cost:
    """Do the work, which says how many frames it did, and tell what it cost."""
    began, cores_began, all_began = time.perf_counter(), time.process_time(), machine_core_seconds()
    frames = work()
    core_seconds = time.process_time() - cores_began
    all_ended = machine_core_seconds()
    others = None
    if all_began is not None and all_ended is not None:
        others = max(0.0, all_ended - all_began - core_seconds)
    return Cost(frames, time.perf_counter() - began, core_seconds, others)


def middle(costs: list[Cost]) -> Cost:
    """The medians of the same work done several times."""
    others = [cost.others for cost in costs if cost.others is not None]
    return Cost(
        frames=costs[0].frames,
        seconds=median(cost.seconds for cost in costs),
        core_seconds=median(cost.core_seconds for cost in costs),
        others=median(others) if len(others) == len(costs) else None,
    )


def machine_core_seconds() -> float | None:
    """Core-seconds that all programs have taken since the start; None where it is not told."""
    try:
        line = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:  # no Linux
        return None
    user, nice, system, _idle, _waiting, irq, soft_irq, stolen = map(int, line.split()[1:9])
    return (user + nice + system + irq + soft_irq + stolen) / os.sysconf("SC_CLK_TCK")


def peak_memory() -> int | None:
    """The most bytes that this process ever held; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

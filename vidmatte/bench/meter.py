"""What work costs: seconds on the clock, seconds of all cores, memory at its peak."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Cost:
    """``frames`` took ``seconds``, and all threads together ``core_seconds``."""

    frames: int
    seconds: float
    core_seconds: float

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
    began, cores_began = time.perf_counter(), time.process_time()
    frames = work()
    return Cost(frames, time.perf_counter() - began, time.process_time() - cores_began)


def middle(costs: list[Cost]) -> Cost:
    """The medians of the same work done several times."""
    return Cost(
        frames=costs[0].frames,
        seconds=median(cost.seconds for cost in costs),
        core_seconds=median(cost.core_seconds for cost in costs),
    )


def peak_memory() -> int | None:
    """The most bytes that this process ever held; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

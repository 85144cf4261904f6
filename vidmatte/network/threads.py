"""How many cores there are, and how they are shared out."""

from __future__ import annotations

import os

#: More frames at once than this would only take memory: isnet's take 0.4 GB each.
MOST_STREAMS = 4


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def streams_for(threads: int) -> int:
    """Frames that a per-frame network works on at once, with ``threads`` in all.

    A frame to each thread wastes nothing on waiting for each other: on two cores a
    tenth of the network's core-seconds.
    """
    return max(1, min(MOST_STREAMS, threads))

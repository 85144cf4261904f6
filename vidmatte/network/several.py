"""Several GPUs for one network: its weights on each, every run on one that is free."""

from __future__ import annotations

from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

from vidmatte.network.device import Arrays, Runner


class SharedRunner:
    """A network loaded several times over; see ``Runner``.

    Which copy takes which pictures is left to chance: they are the same network.
    """

    def __init__(self, runners: Sequence[Runner]) -> None:
        self.streams = sum(runner.streams for runner in runners)
        self.about = "; ".join(runner.about for runner in runners)
        self._runners = tuple(runners)
        self._free: SimpleQueue[Runner] = SimpleQueue()
        for place in range(max(runner.streams for runner in runners)):
            for runner in runners:
                if place < runner.streams:
                    self._free.put(runner)

    def run(self, inputs: Arrays, keep: tuple[str, ...] = ()) -> dict[str, Any]:
        """See ``Runner``. Waits for a copy that is free."""
        runner = self._free.get()
        try:
            return runner.run(inputs, keep)
        finally:
            self._free.put(runner)

    def cancel(self) -> None:
        """See ``Runner``; all copies end."""
        for runner in self._runners:
            runner.cancel()

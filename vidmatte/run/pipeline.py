"""Stages in a row, each on its own thread, with back-pressure from end to end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vidmatte.run.channel import POLL_SECONDS, Cancelled, Channel, Stop

Work = Callable[[Iterator[Any]], Iterable[Any]]
JOIN_SECONDS = 4.0


@dataclass(frozen=True)
class Stage:
    """A named generator function: takes the items before it, yields those after it."""

    name: str
    work: Work
    queue_size: int


class _Runner(threading.Thread):
    """One stage at work. Its error, if any, is stored in the stop flag."""

    def __init__(self, stage: Stage, inlet: Channel | None, outlet: Channel, stop: Stop) -> None:
        super().__init__(name=f"vidmatte-{stage.name}", daemon=True)
        self.stage = stage
        self._inlet = inlet
        self._outlet = outlet
        self._stop_flag = stop
        self._began = time.perf_counter()
        self._seconds: float | None = None

    def run(self) -> None:
        items = iter(self._inlet) if self._inlet is not None else iter(())
        try:
            work = iter(self.stage.work(items))
            try:
                for item in work:
                    self._outlet.put(item)
            finally:
                if isinstance(work, Generator):
                    work.close()  # its own clean-up runs here, not when memory is collected
            self._outlet.put(None)
        except Cancelled:
            pass
        except BaseException as error:  # noqa: BLE001 (raised again in the caller's thread)
            self._stop_flag.set(error)
        finally:
            self._seconds = time.perf_counter() - self._began

    def busy_seconds(self) -> float:
        """Time spent neither waiting for the stage before nor for the stage after."""
        total = self._seconds if self._seconds is not None else time.perf_counter() - self._began
        waited = self._outlet.put_wait + (self._inlet.get_wait if self._inlet else 0.0)
        return max(0.0, total - waited)


class Pipeline:
    """Runs stages and yields what the last one yields; iterate once, close always.
    The threads start with the iteration.

    The first failure of any stage stops all of them and is raised again here, as it
    was. Leaving early (close, or the end of a ``with``) stops them too.
    """

    def __init__(self, stages: Sequence[Stage], stop: Stop) -> None:
        self._stop = stop
        self._runners: list[_Runner] = []
        inlet: Channel | None = None
        for stage in stages:
            outlet: Channel = Channel(stage.queue_size, stop)
            self._runners.append(_Runner(stage, inlet, outlet, stop))
            inlet = outlet
        self._last = inlet

    def __iter__(self) -> Iterator[Any]:
        if self._last is None:
            return
        for runner in self._runners:
            runner.start()
        try:
            yield from self._last
        except Cancelled:
            if self._stop.error is not None:
                raise self._stop.error from None
            raise

    def busy_seconds(self) -> dict[str, float]:
        """Seconds of work by stage, in order."""
        return {runner.stage.name: runner.busy_seconds() for runner in self._runners}

    def close(self, interrupt: Callable[[], None] = lambda: None) -> None:
        """Stop all stages and wait for their threads; harmless when done twice.

        interrupt: cuts short what a stage has under way. It is called until all have ended,
        as a stage may just have been about to begin it.
        """
        self._stop.set()
        deadline = time.monotonic() + JOIN_SECONDS
        for runner in self._runners:
            while runner.is_alive() and time.monotonic() < deadline:
                interrupt()
                runner.join(POLL_SECONDS)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

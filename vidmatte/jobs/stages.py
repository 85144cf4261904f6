"""Stages in a row, each on its own thread, with back-pressure from the last to the first."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vidmatte.jobs.queue import POLL_SECONDS, Cancelled, StageQueue, StopFlag

Work = Callable[[Iterator[Any]], Iterable[Any]]
_JOIN_SECONDS = 4.0
_STAGE_THREADS = "vidmatte-"  # prefix of all our threads' names


@dataclass(frozen=True)
class Stage:
    """A named generator function: takes the items before it, yields those after it."""

    name: str
    work: Work
    queue_size: int


class _Runner(threading.Thread):
    """The thread of one stage. Its error, if any, is stored in the stop flag."""

    def __init__(
        self,
        stage: Stage,
        inlet: StageQueue | None,
        outlet: StageQueue,
        stop: StopFlag,
        interrupt: Callable[[], None],
    ) -> None:
        super().__init__(name=f"{_STAGE_THREADS}{stage.name}", daemon=True)
        self.stage = stage
        self.interrupt = interrupt
        self._inlet = inlet
        self._outlet = outlet
        self.stop_flag = stop
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
                    work.close()  # its clean-up runs here, not at garbage collection
            self._outlet.put(None)
        except Cancelled:
            pass
        except BaseException as error:  # noqa: BLE001 (raised again in the caller's thread)
            self.stop_flag.set(error)
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

    The first failure of any stage stops all of them and is raised again here, unchanged.
    An early end (close, or the end of a ``with``) stops them too, and so does the end
    of the program. interrupt: aborts the current work of a stage; it may be called repeatedly.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        stop: StopFlag,
        interrupt: Callable[[], None] = lambda: None,
    ) -> None:
        self._stop = stop
        self._deadline: float | None = None
        self._runners: list[_Runner] = []
        inlet: StageQueue | None = None
        for stage in stages:
            outlet: StageQueue = StageQueue(stage.queue_size, stop)
            self._runners.append(_Runner(stage, inlet, outlet, stop, interrupt))
            inlet = outlet
        self._last = inlet

    def __iter__(self) -> Iterator[Any]:
        if self._last is None:
            return
        for runner in self._runners:
            runner.start()
        try:
            yield from self._last
            return
        except Cancelled:
            if self._stop.error is None:
                raise
        # Outside of the handler, and without a "from": the error keeps its own cause.
        raise self._stop.error

    def busy_seconds(self) -> dict[str, float]:
        """Seconds of work by stage, in order."""
        return {runner.stage.name: runner.busy_seconds() for runner in self._runners}

    def close(self, *, wait: bool = True) -> None:
        """Stop all stages and wait a few seconds, once, for their threads.

        wait: False returns at once; the threads then end by themselves.
        """
        self._stop.set()
        if wait:
            self._deadline = self._deadline or time.monotonic() + _JOIN_SECONDS
            _end(self._runners, self._deadline)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _end(runners: Iterable[_Runner], deadline: float) -> None:
    """Wait until the stopped stages have ended, or for the deadline (time.monotonic).

    They are interrupted repeatedly, as one may just have been about to start new work.
    """
    for runner in runners:
        while runner.is_alive() and time.monotonic() < deadline:
            runner.interrupt()
            runner.join(POLL_SECONDS)


class _Cancellable(Protocol):
    def cancel(self) -> None: ...


def cancel_all(*parts: _Cancellable | None) -> Callable[[], None]:
    """An ``interrupt`` that cancels the parts, in this order."""

    def interrupt() -> None:
        for part in parts:
            if part is not None:
                part.cancel()

    return interrupt


def is_stage_thread(thread: threading.Thread) -> bool:
    """Whether a thread runs a stage or belongs to a stage's pool."""
    return thread.name.startswith(_STAGE_THREADS)


def at_work() -> list[_Runner]:
    """The stages of all pipelines whose threads are still running."""
    return [thread for thread in threading.enumerate() if isinstance(thread, _Runner)]


def _end_all() -> None:
    """Stop every stage and wait for its end, without a limit.

    A thread that returns from C++ while Python shuts down would abort the process.
    """
    running = at_work()
    for runner in running:
        runner.stop_flag.set()
    _end(running, float("inf"))


atexit.register(_end_all)

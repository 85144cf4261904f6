"""Bounded queues between stages, and the one flag that stops them all."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")
POLL_SECONDS = 0.1


class Cancelled(Exception):  # noqa: N818 (not an error: ends a stage when the run is over)
    """Raised inside a stage when the run was stopped."""


class StopFlag:
    """Set once, by the first failure or by the caller that ends the run early."""

    def __init__(self) -> None:
        self._is_set = False
        # Garbage collection that closes a stream may run in the middle of ``set``.
        self._lock = threading.RLock()
        self.error: BaseException | None = None

    def set(self, error: BaseException | None = None) -> None:
        """Stop the run; only the first error is stored."""
        with self._lock:
            if self.error is None:
                self.error = error
            self._is_set = True

    def is_set(self) -> bool:
        """True once the run is to end."""
        return self._is_set


class _WaitTimer:
    """How long one thread has waited; other threads may read it meanwhile."""

    def __init__(self) -> None:
        self._state: tuple[float, float | None] = (
            0.0,
            None,
        )  # one tuple, so that a reader sees both parts of the same state

    def __enter__(self) -> None:
        self._state = self._state[0], time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._state = self.seconds(), None

    def seconds(self) -> float:
        """Until now."""
        before, began = self._state
        return before if began is None else before + time.perf_counter() - began


class StageQueue(Generic[Item]):
    """A bounded queue with an end, from one stage to the next.

    Every wait checks the stop flag, so that a dead stage never hangs another.
    ``put_wait`` and ``get_wait`` are the seconds that either side has waited, including a wait
    in progress.
    """

    def __init__(self, size: int, stop: StopFlag) -> None:
        self._queue: queue.Queue[Item | None] = queue.Queue(size)
        self._stop = stop
        self._put, self._got = _WaitTimer(), _WaitTimer()

    @property
    def put_wait(self) -> float:
        """Seconds that the stage before has waited."""
        return self._put.seconds()

    @property
    def get_wait(self) -> float:
        """Seconds that the stage after has waited."""
        return self._got.seconds()

    def put(self, item: Item | None) -> None:
        """Pass an item on (None: the end). Raises Cancelled when the run was stopped."""
        with self._put:
            while not self._stop.is_set():
                try:
                    self._queue.put(item, timeout=POLL_SECONDS)
                    return
                except queue.Full:
                    continue
            raise Cancelled

    def __iter__(self) -> Iterator[Item]:
        """Items up to the end. Raises Cancelled when the run was stopped."""
        while (item := self._get()) is not None:
            yield item

    def _get(self) -> Item | None:
        with self._got:
            while not self._stop.is_set():
                try:
                    return self._queue.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    continue
            raise Cancelled

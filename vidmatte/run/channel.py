"""Bounded channels between stages, and the one flag that stops them all."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")
POLL_SECONDS = 0.1


class Cancelled(Exception):  # noqa: N818 (not an error: how a stage learns that the run is over)
    """Raised inside a stage when the run was stopped."""


class Stop:
    """Set once, by the first failure or by whoever ends the run early."""

    def __init__(self) -> None:
        self._is_set = False
        # A collector of garbage that closes a stream may run in the middle of ``set``.
        self._lock = threading.RLock()
        self.error: BaseException | None = None

    def set(self, error: BaseException | None = None) -> None:
        """Stop the run; only the first error is kept."""
        with self._lock:
            if self.error is None:
                self.error = error
            self._is_set = True

    def is_set(self) -> bool:
        """True once the run is to end."""
        return self._is_set


class Channel(Generic[Item]):
    """A bounded queue with an end, from one stage to the next.

    Every wait looks at the stop flag, so that a dead stage never hangs another.
    ``put_wait`` and ``get_wait`` add up the seconds that either side waited.
    """

    def __init__(self, size: int, stop: Stop) -> None:
        self._queue: queue.Queue[Item | None] = queue.Queue(size)
        self._stop = stop
        self.put_wait = 0.0
        self.get_wait = 0.0

    def put(self, item: Item | None) -> None:
        """Hand an item on (None: the end). Raises Cancelled when the run was stopped."""
        began = time.perf_counter()
        try:
            while not self._stop.is_set():
                try:
                    self._queue.put(item, timeout=POLL_SECONDS)
                    return
                except queue.Full:
                    continue
            raise Cancelled
        finally:
            self.put_wait += time.perf_counter() - began

    def __iter__(self) -> Iterator[Item]:
        """Items up to the end. Raises Cancelled when the run was stopped."""
        while (item := self._get()) is not None:
            yield item

    def _get(self) -> Item | None:
        began = time.perf_counter()
        try:
            while not self._stop.is_set():
                try:
                    return self._queue.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    continue
            raise Cancelled
        finally:
            self.get_wait += time.perf_counter() - began

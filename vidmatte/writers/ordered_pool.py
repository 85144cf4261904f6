"""Worker threads that encode frames; their results come back in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar


class _Releasable(Protocol):
    """Work that holds a slot."""

    def release(self) -> None:
        """Give the slot back; doing it twice is harmless."""


Tool = TypeVar("Tool")
Item = TypeVar("Item", bound=_Releasable)
Done = TypeVar("Done")


class OrderedPool(Generic[Tool, Item, Done]):
    """``workers`` threads, each item worked on by one of them with a tool of its own.

    make_tool: makes what a worker needs and may not share (an encoder, a converter).
    work: ``work(tool, item) -> result``; it releases the item's slot when it is done
        with the pixels, and the pool does so in any case when it ends.

    At most ``workers + 2`` items are in flight. Results come back in the order in
    which items went in; the first error of a worker is raised where its result
    would have come.
    """

    def __init__(
        self,
        workers: int,
        make_tool: Callable[[], Tool],
        work: Callable[[Tool, Item], Done],
    ) -> None:
        self.limit = workers + 2
        self._workers = workers
        self._worked = self._waited = 0.0
        self._lock = threading.Lock()
        self._make_tool = make_tool
        self._work = work
        self._tools: SimpleQueue[Tool] = SimpleQueue()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="vidmatte-encode")
        self._flight: deque[tuple[Future[Done], Item]] = deque()

    def submit(self, item: Item) -> list[Done]:
        """Hand an item in; returns what is finished, in order. Blocks at the limit."""
        finished = []
        try:
            while len(self._flight) >= self.limit or (self._flight and self._flight[0][0].done()):
                finished.append(self._first())
        except BaseException:
            item.release()
            raise
        self._flight.append((self._threads.submit(self._run, item), item))
        return finished

    def drain(self) -> Iterator[Done]:
        """The rest, in order; the threads end with it."""
        while self._flight:
            yield self._first()
        self._threads.shutdown()

    def abort(self) -> None:
        """Drop what has not begun, wait for what has; all items are released."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for _, item in self._flight:
            item.release()
        self._flight.clear()

    def busy_seconds(self, calling: float) -> float:
        """How long a worker was at work on average, or the thread that calls, if longer.

        calling: seconds that this one was not idle in, but for its waiting for workers.
        """
        return max(self._worked / self._workers, calling - self._waited)

    def _first(self) -> Done:
        """The oldest result, once it is there."""
        began = time.perf_counter()
        try:
            return self._flight.popleft()[0].result()
        finally:
            self._waited += time.perf_counter() - began

    def _run(self, item: Item) -> Done:
        began = time.perf_counter()
        try:
            try:
                tool = self._tools.get_nowait()
            except Empty:
                tool = self._make_tool()
            done = self._work(tool, item)
            self._tools.put(tool)
            return done
        finally:
            item.release()
            with self._lock:
                self._worked += time.perf_counter() - began

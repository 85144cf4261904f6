"""Worker threads that encode frames; their results come back in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, LifoQueue
from typing import Generic, Protocol, TypeVar


class _Releasable(Protocol):
    """An item that holds a slot."""

    def release(self) -> None:
        """Release the slot; safe to call twice."""


_State = TypeVar("_State")
_Item = TypeVar("_Item", bound=_Releasable)
_Result = TypeVar("_Result")


class OrderedPool(Generic[_State, _Item, _Result]):
    """``workers`` threads, each with a state of its own; one of them handles each item.

    make_state: makes what a worker needs and cannot share (an encoder, a converter).
    work: ``work(state, item) -> result``; it releases the item's slot when it no longer
        needs the pixels; the pool releases it in any case when ``work`` returns.

    At most ``workers + 2`` items are in flight. Results come back in the order in
    which items went in; an error of a worker is raised in place of its result.
    """

    def __init__(
        self,
        workers: int,
        make_state: Callable[[], _State],
        work: Callable[[_State, _Item], _Result],
    ) -> None:
        self.limit = workers + 2
        self._workers = workers
        self._worked = self._waited = 0.0
        self._lock = threading.Lock()
        self._make_state = make_state
        self._work = work
        # The state used last comes first: one that is never needed takes no memory.
        self._idle_states: LifoQueue[_State] = LifoQueue()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="vidmatte-encode")
        self._flight: deque[tuple[Future[_Result], _Item]] = deque()

    def submit(self, item: _Item) -> list[_Result]:
        """Queue an item; returns the finished results, in order. Blocks at the limit."""
        finished = []
        try:
            while len(self._flight) >= self.limit or (self._flight and self._flight[0][0].done()):
                finished.append(self._first())
        except BaseException:
            item.release()
            raise
        self._flight.append((self._threads.submit(self._run, item), item))
        return finished

    def drain(self) -> Iterator[_Result]:
        """The remaining results, in order; then ends the threads."""
        while self._flight:
            yield self._first()
        self._threads.shutdown()

    def abort(self) -> None:
        """Drop the queued items, wait for the running ones, release all."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for _, item in self._flight:
            item.release()
        self._flight.clear()

    def busy_seconds(self, calling: float) -> float:
        """Seconds a worker was busy on average, or the calling thread, if longer.

        calling: seconds in which the calling thread was not idle, waits for workers included.
        """
        return max(self._worked / self._workers, calling - self._waited)

    def _first(self) -> _Result:
        """Wait for the oldest result."""
        began = time.perf_counter()
        try:
            return self._flight.popleft()[0].result()
        finally:
            self._waited += time.perf_counter() - began

    def _run(self, item: _Item) -> _Result:
        began = time.perf_counter()
        try:
            try:
                state = self._idle_states.get_nowait()
            except Empty:
                state = self._make_state()
            done = self._work(state, item)
            self._idle_states.put(state)
            return done
        finally:
            item.release()
            with self._lock:
                self._worked += time.perf_counter() - began

"""Workers that turn frames into encoded pieces, given back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from vidmatte.frame import Frame

Tool = TypeVar("Tool")
Piece = TypeVar("Piece")


class OrderedPool(Generic[Tool, Piece]):
    """``workers`` threads, each frame worked on by one of them with a tool of its own.

    make_tool: makes what a worker needs and may not share (an encoder, a converter).
    work: ``work(tool, frame) -> piece``; it releases the frame's slot when it is done
        with the pixels, and the pool does so in any case when it ends.

    At most ``workers + 2`` frames are in flight. Results come back in the order in
    which frames went in; the first error of a worker is raised where its result
    would have come.
    """

    def __init__(
        self,
        workers: int,
        make_tool: Callable[[], Tool],
        work: Callable[[Tool, Frame], Piece],
    ) -> None:
        self.limit = workers + 2
        self._make_tool = make_tool
        self._work = work
        self._tools: SimpleQueue[Tool] = SimpleQueue()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="vidmatte-encode")
        self._flight: deque[tuple[Future[Piece], Frame]] = deque()

    def submit(self, frame: Frame) -> list[Piece]:
        """Hand a frame in; returns what is finished, in order. Blocks at the limit."""
        finished = []
        try:
            while len(self._flight) >= self.limit or (self._flight and self._flight[0][0].done()):
                finished.append(self._flight.popleft()[0].result())
        except BaseException:
            frame.release()
            raise
        self._flight.append((self._threads.submit(self._run, frame), frame))
        return finished

    def drain(self) -> Iterator[Piece]:
        """The rest, in order; the threads end with it."""
        while self._flight:
            yield self._flight.popleft()[0].result()
        self._threads.shutdown()

    def abort(self) -> None:
        """Drop what has not begun, wait for what has; all frames are released."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for _, frame in self._flight:
            frame.release()
        self._flight.clear()

    def _run(self, frame: Frame) -> Piece:
        try:
            try:
                tool = self._tools.get_nowait()
            except Empty:
                tool = self._make_tool()
            piece = self._work(tool, frame)
            self._tools.put(tool)
            return piece
        finally:
            frame.release()

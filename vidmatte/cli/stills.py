"""Many stills in one call: reading, matting and writing of different photos overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from vidmatte.core.concurrency import usable_cores
from vidmatte.jobs.report import Progress, Reporter
from vidmatte.jobs.spec import Job
from vidmatte.models.registry import Model
from vidmatte.readers.open import is_image
from vidmatte.settings import Settings

_Done = TypeVar("_Done")

_BYTES_PER_PIXEL = 60  # of a photo on its way: decoded, matted, rendered and encoded
_MOST_AT_ONCE = 4
_LEAST_AT_ONCE = 2  # one is read or written while the network works on the other


class Recorder(Reporter):
    """Keeps the lines of a job that runs in a worker thread, for the main thread to report."""

    def __init__(self) -> None:
        self._lines: list[tuple[bool, str]] = []

    def note(self, line: str) -> None:
        """See ``Reporter.note``."""
        self._lines.append((True, line))

    def detail(self, line: str) -> None:
        """See ``Reporter.detail``."""
        self._lines.append((False, line))

    def replay(self, name: str, reporter: Reporter) -> None:
        """Report a finished job: its lines, and its only frame."""
        reporter.begin()
        for is_note, line in self._lines:
            (reporter.note if is_note else reporter.detail)(line)
        progress = Progress(name, 1)
        reporter.start(progress)
        progress.done = 1
        reporter.advance(progress)
        reporter.finish()


def are_stills(jobs: Sequence[Job]) -> bool:
    """Whether these are several jobs, each on a single picture."""
    return len(jobs) > 1 and all(is_image(job.path) for job in jobs)


def count_at_once(pixels: int, settings: Settings) -> int:
    """How many photos are worked on at once. pixels: of the largest."""
    affordable = settings.memory_bytes // (max(1, pixels) * _BYTES_PER_PIXEL)
    return min(_MOST_AT_ONCE, usable_cores() + 1, max(_LEAST_AT_ONCE, affordable))


def may_overlap(model: Model, settings: Settings) -> bool:
    """Whether the network and the settings allow several jobs at once."""
    return settings.cache is None and not settings.has_subject and model.network.is_shareable


@contextmanager
def started(
    jobs: Sequence[Job], work: Callable[[Job], _Done], count: int
) -> Iterator[list[tuple[Job, Future[_Done]]]]:
    """The jobs, each with the future of its work, ``count`` at once, in their order.

    An early end of the block drops what has not begun, and waits for what has.
    """
    pool = ThreadPoolExecutor(count, thread_name_prefix="vidmatte-still")
    try:
        yield [(job, pool.submit(work, job)) for job in jobs]
    finally:
        pool.shutdown(cancel_futures=True)

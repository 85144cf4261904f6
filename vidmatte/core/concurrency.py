"""The CPU and its cores, threads that keep order, and lock files."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from vidmatte.errors import UsageError

_CPU_INFO = Path("/proc/cpuinfo")


def cpu_facts() -> dict[str, str]:
    """What Linux says of the first CPU, such as 'model name' and 'flags'; empty elsewhere."""
    facts: dict[str, str] = {}
    try:
        with _CPU_INFO.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if not line.strip():  # the next CPU follows
                    break
                name, _, value = line.partition(":")
                facts[name.strip()] = value.strip()
    except OSError:
        return {}
    return facts


def usable_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


Item = TypeVar("Item")
Result = TypeVar("Result")

#: More frames at once than this would only take memory: isnet's take 0.4 GB each.
_MOST_STREAMS = 4


def stream_count(threads: int) -> int:
    """Frames that a per-frame network works on at once, with ``threads`` in all.

    A frame to each thread wastes nothing on waiting for each other: on two cores a
    tenth of the network's core-seconds.
    """
    return max(1, min(_MOST_STREAMS, threads))


def map_in_order(
    work: Callable[[Item], Result], items: Iterable[Item], at_once: int, name: str = "network"
) -> Iterator[Result]:
    """The work on ``at_once`` items at a time, each on its own thread; results in order.

    No more than ``at_once`` items are taken before the first one's result is yielded; a single
    one is worked on in the caller's thread. name: of the threads.
    """
    if at_once == 1:
        yield from map(work, items)
        return
    under_way: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(at_once, thread_name_prefix=f"vidmatte-{name}") as threads:
        for item in items:
            under_way.append(threads.submit(work, item))
            if len(under_way) == at_once:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def lock_at(path: Path) -> FileLock:
    """The lock that is the file ``path``, not taken yet. One thread may take it and another
    give it back."""
    return FileLock(path, thread_local=False)


@contextmanager
def locked(path: Path, *, waits: bool) -> Iterator[None]:
    """Hold the lock that is the file ``path``.

    waits: for another process that holds it; without it that raises UsageError: it does the same
    job.
    """
    lock = lock_at(path)
    try:
        lock.acquire(timeout=-1 if waits else 0)
    except Timeout:
        raise UsageError(
            f"--resume: {path.parent} is locked by another vidmatte process: wait for its end"
        ) from None
    try:
        yield
    finally:
        lock.release()


def release_and_unlink(lock: FileLock) -> None:
    """Release a lock and remove its file; harmless where it was never taken."""
    if os.name == "posix" and lock.is_locked:  # Windows does it at the release
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()

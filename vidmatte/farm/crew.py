"""What ``--workers`` asks for, and the workers of a call."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vidmatte.core.concurrency import usable_cores
from vidmatte.core.remote import READERS
from vidmatte.farm.pool import Crew, LocalWorker
from vidmatte.models.registry import Model
from vidmatte.settings import Settings

_OTHER_FILES = 256  # that a call has open beside a lock for each job


@dataclass(frozen=True)
class Workers:
    """What ``--workers`` and its companions ask for. count: of local processes. ray: None, or the
    address of a Ray cluster, 'auto' for the one here. segment_frames: None for automatic.
    readers: see ``core.remote.Staging``."""

    count: int
    retries: int = 2
    segment_frames: int | None = None
    ray: str | None = None
    readers: int = READERS


@contextmanager
def open_crew(workers: Workers, model: Model, settings: Settings) -> Iterator[Crew]:
    """The workers; those of a cluster until the end of the context. Raises VidmatteError."""
    if workers.ray is None:
        threads = settings.threads or max(1, usable_cores() // workers.count)
        yield Crew(workers.count, threads, LocalWorker)
        return
    from vidmatte.farm.ray_workers import ray_crew

    with ray_crew(workers.ray, model.device.name, settings.threads) as crew:
        yield crew


def allow_open_files(count: int) -> None:
    """Raise the process's limit on open files for so many locks, as far as the system lets it."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))

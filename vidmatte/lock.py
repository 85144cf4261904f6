"""Locks of files beside what they guard: a run that is killed lets go of its own."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock


def lock_at(path: Path) -> FileLock:
    """The lock that is the file ``path``, not taken yet. One thread may take it and another
    give it back."""
    return FileLock(path, thread_local=False)


def let_go(lock: FileLock) -> None:
    """Release a lock and remove its file; harmless where it was never taken."""
    if os.name == "posix" and lock.is_locked:  # Windows does it at the release
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()

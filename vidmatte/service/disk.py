"""The space on disk: what the service uses, what it may use, and what it must leave free."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from vidmatte.service.context import Context, RequestError

_FRESH_SECONDS = 2.0
_RETRY_SECONDS = 60


class Disk:
    """Knows how many bytes are stored, and refuses what would not fit."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._used, self._measured = 0, -1e9
        self._promised = 0  # of uploads in one request, which have not all come yet
        context.database.create(_UPLOADS)

    @property
    def free_bytes(self) -> int:
        """What is free on the disk of ``--data``."""
        return shutil.disk_usage(self._context.config.data).free

    @property
    def used_bytes(self) -> int:
        """What the folder of ``--data`` holds, and what unfinished uploads will add to it."""
        with self._lock:
            if time.monotonic() - self._measured > _FRESH_SECONDS:
                self._used = _size(self._context.config.data) + self._unfinished()
                self._measured = time.monotonic()
            return self._used + self._promised

    def check(self, more: int = 0) -> None:
        """Raise RequestError (507) where ``more`` bytes are too many for the quota or the disk."""
        config = self._context.config
        if self.used_bytes + more > config.max_disk:
            raise RequestError(
                507,
                "quota",
                f"{more} more bytes do not fit into the {config.max_disk} of --max-disk: delete"
                " clips or jobs, or wait until some expire",
                _RETRY_SECONDS,
            )
        if self.free_bytes - more < config.min_free:
            raise RequestError(
                507,
                "disk_full",
                f"the disk would have less than {config.min_free} bytes free (--min-free): free"
                " some space, then try again",
                _RETRY_SECONDS,
            )

    def promise(self, count: int) -> Promise:
        """Set ``count`` bytes apart for an upload that begins. Raises RequestError (507)."""
        self.check(count)
        promise = Promise(self, 0)
        promise.add(count)
        return promise

    def promised(self, count: int) -> None:
        """So many bytes more, or fewer, were promised."""
        with self._lock:
            self._promised += count

    def changed(self) -> None:
        """Measure again when asked next."""
        with self._lock:
            self._measured = -1e9

    def _unfinished(self) -> int:
        """Bytes that are still to come of the uploads that were announced."""
        rows = self._context.database.rows("SELECT id, length FROM uploads WHERE clip IS NULL")
        folder = self._context.config.uploads
        return sum(max(0, row["length"] - _length(folder / f"{row['id']}.bin")) for row in rows)


@dataclass
class Promise:
    """The bytes that are still to come of one request."""

    disk: Disk
    left: int

    def add(self, count: int) -> None:
        """``count`` more are to come; fewer, where it is negative, since they have come."""
        count = max(count, -self.left)
        self.left += count
        self.disk.promised(count)

    def close(self) -> None:
        """No more will come."""
        self.add(-self.left)


_UPLOADS = """
CREATE TABLE IF NOT EXISTS uploads (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, length INTEGER NOT NULL, created TEXT NOT NULL,
    expires TEXT NOT NULL, sha256 TEXT, clip TEXT, error TEXT
);
"""


def _length(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _size(folder: Path) -> int:
    """Bytes of all files in a folder; files that vanish meanwhile count nothing."""
    total, folders = 0, [os.fspath(folder)]
    while folders:
        with contextlib.suppress(FileNotFoundError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
    return total

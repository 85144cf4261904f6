"""The files of the views: pictures by what decides them, up to a number of bytes in all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class PictureStore:
    """Files of views, each named by what decides it, and the raw alphas beside them."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._added = 0

    def file(self, tag: str, suffix: str) -> Path:
        """Where the picture of a tag is or will be."""
        return self._folder / "pictures" / tag[:2] / f"{tag}{suffix}"

    def read(self, file: Path) -> bytes | None:
        """A picture; None where there is none."""
        try:
            data = file.read_bytes()
            os.utime(file)
        except FileNotFoundError:
            return None
        return data

    def added(self, file: str | None) -> None:
        """A picture was written; from time to time the oldest files are removed."""
        if file is None:
            return
        with contextlib.suppress(FileNotFoundError):
            self._added += 8 * Path(file).stat().st_size  # with a share of the raw alphas
        if self._added > self._limit // 8:
            self.remove_oldest()

    def remove_oldest(self) -> None:
        """Remove the files used longest ago until a tenth of the space is free again."""
        self._added, files = 0, []
        for file in self._folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                state = file.stat()
                if file.is_file():
                    files.append((state.st_mtime, state.st_size, file))
        total = sum(size for _, size, _ in files)
        if total <= self._limit:
            return
        for _, size, file in sorted(files):
            file.unlink(missing_ok=True)
            total -= size
            if total <= self._limit * 9 // 10:
                return

"""Outputs are written beside their final path, or inside it if it is an existing folder, and
renamed when complete."""

from __future__ import annotations

import shutil
from pathlib import Path

from filelock import Timeout

from vidmatte.core.concurrency import lock_at, release_and_unlink
from vidmatte.core.names import absolute_path, pattern_regex
from vidmatte.errors import OutputError
from vidmatte.writers.base import as_output_error, not_writable
from vidmatte.writers.output_paths import OutputPaths, check_creatable


class Partial:
    """The unfinished version of ``final`` in the same folder: a file, or a folder of pictures. If
    ``final`` is an existing folder, it is inside it: see ``output_paths``.

    ``path`` is where to write; it has the final suffix, for code that chooses by suffix. A
    partial result of a killed run is replaced; one that another run holds locked is not touched.
    """

    def __init__(self, final: Path, paths: OutputPaths, overwrite: bool) -> None:
        self.final = final
        self.overwrite = overwrite
        self.path = paths.partial
        #: Whether ``final`` is an existing folder; pictures are then added to it.
        self.is_within = paths.partial.parent == absolute_path(final)
        self._lock = lock_at(paths.lock)
        #: Reuse the partial folder and its pictures; the code that sets this must itself
        #: lock other runs out.
        self.keep = False

    def check(self) -> None:
        """Check that ``final`` can be written, without touching anything. Raises
        OutputExistsError, OutputError."""
        folder = absolute_path(self.final) if self.is_within else absolute_path(self.final).parent
        check_creatable(self.final, folder, lambda: not self.overwrite and self._exists())

    def _exists(self) -> bool:
        """Whether there is something to overwrite under the final name.

        An empty folder is nothing, and so are hidden files in it: those of a file browser, or
        the unfinished extra outputs of this run.
        """
        if self.final.is_dir():
            return any(not path.name.startswith(".") for path in self.final.iterdir())
        return self.final.exists()

    def begin_file(self) -> Path:
        """Lock and remove an old partial file; returns the path to write. Raises OutputError."""
        self._lock_out_others()
        self.path.unlink(missing_ok=True)
        return self.path

    def begin_folder(self) -> Path:
        """Lock and create the folder to write into, empty unless ``keep``. Raises OutputError."""
        if not self.keep:
            self._lock_out_others()
        try:
            if self.path.exists() and not self.keep:
                shutil.rmtree(self.path)
            self.path.mkdir(exist_ok=self.keep)
        except OSError as error:
            raise as_output_error(error, self.path) from error
        return self.path

    def commit(self) -> None:
        """Rename to the final name.

        If the final folder exists, each picture replaces the one of its name, and other files
        in it are not touched. Raises OutputExistsError, OutputError.
        """
        self.check()
        try:
            if self.path.is_dir() and self.final.is_dir():
                self._merge()
            else:
                self.path.replace(self.final)
        except OSError as error:
            raise as_output_error(error, self.final) from error
        release_and_unlink(self._lock)

    def _merge(self) -> None:
        for picture in sorted(self.path.rglob("*")):
            target = self.final / picture.relative_to(self.path)
            if picture.is_dir():
                target.mkdir(exist_ok=True)
            else:
                picture.replace(target)
        shutil.rmtree(self.path)

    def discard(self) -> None:
        """Remove the partial result; safe to call at any time."""
        if not self._lock.is_locked:
            return
        if self.path.is_dir():
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            self.path.unlink(missing_ok=True)
        release_and_unlink(self._lock)

    def _lock_out_others(self) -> None:
        """Take the lock on this output. Raises OutputError if another run holds it."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            if not Path(self._lock.lock_file).exists():  # no file can be created there
                raise not_writable(self.final) from None
            raise OutputError(
                f"{self.final}: locked by another vidmatte process: wait until it ends, or choose"
                " another name"
            ) from None
        except OSError as error:
            raise as_output_error(error, self.final) from error


class PartialSequence(Partial):
    """The unfinished pictures of a pattern like ``cut/shot_%06d.png``.

    They are added to their folder, which is created if missing.
    """

    def __init__(self, pattern: Path, paths: OutputPaths, overwrite: bool) -> None:
        super().__init__(pattern.parent, paths, overwrite)
        self.pattern = pattern

    def _exists(self) -> bool:
        numbered = pattern_regex(self.pattern.name)
        return self.final.is_dir() and any(
            numbered.fullmatch(path.name) for path in self.final.iterdir()
        )

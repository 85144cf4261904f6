"""Outputs are written beside their final name, or in their folder where it is there, and renamed
when they are complete."""

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
    """The unfinished twin of ``final`` in the same folder: a file, or a folder of pictures. Where
    ``final`` is a folder already, the twin is in it: see ``places_of``.

    ``path`` is where to write; its suffix is the final one, so that readers and
    writers that go by suffix see the right one. What an earlier run that was killed
    left under this name is replaced; a run that is still at work on it is left alone.
    """

    def __init__(self, final: Path, places: OutputPaths, overwrite: bool) -> None:
        self.final = final
        self.overwrite = overwrite
        self.path = places.partial
        #: Whether the folder was there before this run: it stays as it is, and is filled.
        self.is_within = places.partial.parent == absolute_path(final)
        self._lock = lock_at(places.lock)
        #: What is in a folder already stays, and so does what is unfinished; who sets this
        #: keeps other runs away from both.
        self.keep = False

    def check(self) -> None:
        """Raise before anything is touched: OutputExistsError, OutputError."""
        folder = absolute_path(self.final) if self.is_within else absolute_path(self.final).parent
        check_creatable(self.final, folder, lambda: not self.overwrite and self._exists())

    def _exists(self) -> bool:
        """Whether something that counts stands under the final name.

        An empty folder does not, nor do hidden files in it: those of a file browser, or the
        unfinished side results of this run.
        """
        if self.final.is_dir():
            return any(not path.name.startswith(".") for path in self.final.iterdir())
        return self.final.exists()

    def begin_file(self) -> Path:
        """Make way for the file; returns where to write it. Raises OutputError."""
        self._keep_others_out()
        self.path.unlink(missing_ok=True)
        return self.path

    def begin_folder(self) -> Path:
        """An empty folder to write into. Raises OutputError."""
        if not self.keep:
            self._keep_others_out()
        try:
            if self.path.exists() and not self.keep:
                shutil.rmtree(self.path)
            self.path.mkdir(exist_ok=self.keep)
        except OSError as error:
            raise as_output_error(error, self.path) from error
        return self.path

    def commit(self) -> None:
        """Give it the final name.

        A folder takes the place of one that is missing; in a folder that is there each picture
        replaces the one of its name, and all else stays. Raises OutputExistsError, OutputError.
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
        """Remove what is not finished; harmless at any time."""
        if not self._lock.is_locked:
            return
        if self.path.is_dir():
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            self.path.unlink(missing_ok=True)
        release_and_unlink(self._lock)

    def _keep_others_out(self) -> None:
        """Be the only run that writes this. Raises OutputError."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            if not Path(self._lock.lock_file).exists():  # nor can anything else be made there
                raise not_writable(self.final) from None
            raise OutputError(
                f"{self.final}: another run is writing it: wait for its end, or choose another name"
            ) from None
        except OSError as error:
            raise as_output_error(error, self.final) from error


class PartialSequence(Partial):
    """The unfinished twin of the pictures of a pattern like ``cut/shot_%06d.png``.

    They join what else is in their folder, which is made when it is missing.
    """

    def __init__(self, pattern: Path, places: OutputPaths, overwrite: bool) -> None:
        super().__init__(pattern.parent, places, overwrite)
        self.pattern = pattern

    def _exists(self) -> bool:
        ours = pattern_regex(self.pattern.name)
        return self.final.is_dir() and any(
            ours.fullmatch(path.name) for path in self.final.iterdir()
        )

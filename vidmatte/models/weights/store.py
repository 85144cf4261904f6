"""The store: one folder of checked weights, filled on demand."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from vidmatte.core.source import sha256_of
from vidmatte.errors import UsageError, WeightsError
from vidmatte.models.runtimes.compiled import compiled_files
from vidmatte.models.weights.catalogue import Entry, lookup
from vidmatte.models.weights.licences import accepted_at, now
from vidmatte.models.weights.record import (
    Fingerprint,
    Record,
    identify,
    read_record,
    record_path,
    remove_unfinished,
    speeds_path,
    write_record,
)
from vidmatte.models.weights.sources import FetchBar, FetchError, ReleaseFile, WeightsSource

_FOLDER_VARIABLE = "VIDMATTE_MODELS_DIR"
_MIRROR_VARIABLE = "VIDMATTE_MODELS_URL"
_OFFLINE_VARIABLE = "VIDMATTE_OFFLINE"

_Report = Callable[[str], None]


def _default_folder() -> Path:
    """VIDMATTE_MODELS_DIR, else the platform's cache folder for this user."""
    named = os.environ.get(_FOLDER_VARIABLE)
    if named:
        return Path(named).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("vidmatte", appauthor=False) / "models"


def _is_offline() -> bool:
    """True when VIDMATTE_OFFLINE is set to anything but 0, no, false, off or nothing."""
    return os.environ.get(_OFFLINE_VARIABLE, "").lower() not in ("", "0", "no", "false", "off")


class Store:
    """Weights in ``folder`` (None: see default_folder). Nothing is touched before the first call.
    Raises WeightsError where that is a file or cannot be looked at.

    Beside each file lies a note of what it was when it was checked; a file whose size
    or time differ from it is hashed again. A change that keeps both is found by
    ``verify`` only.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = Path(folder).expanduser() if folder is not None else _default_folder()
        try:
            is_file = self.folder.is_file()
        except OSError as error:
            raise self._refused(error) from error
        if is_file:
            raise WeightsError(
                f"the models folder {self.folder} cannot be used: it is a file: name a folder, or"
                f" one to be made, with --models-dir or {_FOLDER_VARIABLE}"
            )

    def path(self, entry: Entry) -> Path:
        """Where the entry's file is, or would be."""
        return self.folder / entry.file_name

    def has(self, entry: Entry) -> bool:
        """True when the file is there and is a published one. Raises WeightsError."""
        try:
            return self.path(entry).is_file() and self._is_published(entry)
        except OSError as error:
            raise self._refused(error) from error

    def _is_published(self, entry: Entry) -> bool:
        path = self.path(entry)
        record = read_record(path)
        if record is not None and record.holds_for(path):
            return record.digest in {one.digest for one in entry.fingerprints}
        found = identify(path, entry.fingerprints)
        if found is None:
            return False
        self._note(entry, found, record)
        return True

    def accepted_at(self, entry: Entry, accepted: str | None = None) -> str | None:
        """See ``licences.accepted_at``."""
        return accepted_at(entry, read_record(self.path(entry)), accepted)

    def ensure(
        self,
        name: str | Entry,
        *,
        report: _Report | None = None,
        quiet: bool = False,
        accepted: str | None = None,
    ) -> Path:
        """The checked file of a model, fetched first where need be.

        ``report`` is given one line at a time: the source, the licence, why a source
        failed. A bar with bytes and rate is on stderr when that is a terminal and
        ``quiet`` is off. Several processes may ask at once: one fetches.
        accepted: see ``accepted_at``. Raises UsageError, ModelError, WeightsError.
        """
        entry = lookup(name) if isinstance(name, str) else name
        say = report or _say_nothing
        path = self.path(entry)
        try:
            agreed = self.accepted_at(entry, accepted)
            if self.has(entry):
                if agreed and (record := read_record(path)) is not None:
                    self._write(path, replace(record, accepted=agreed))
                return path
            if _is_offline():
                raise self._unavailable(entry, [f"{_OFFLINE_VARIABLE} is set: nothing was tried"])
            with self._lock(entry, say):
                if not self.has(entry):
                    if path.exists():
                        say(f"{path} is not as published (damaged?): fetching it again")
                    self._fetch(entry, say, quiet, agreed)
        except OSError as error:
            raise self._refused(error) from error
        return path

    def verify(self, entry: Entry) -> str:
        """Hash the file and compare; its SHA-256. Raises WeightsError."""
        path = self.path(entry)
        try:
            found = identify(path, entry.fingerprints)
            if found is not None:
                self._note(entry, found, read_record(path))
                return found.sha256 or sha256_of(path)
            came = _found(path)
            record_path(path).unlink(missing_ok=True)  # so that the next run does not trust it
        except FileNotFoundError:
            line = f"{entry.name} is not here: 'vidmatte models pull {entry.name}' fetches it"
            raise WeightsError(line) from None
        except OSError as error:
            raise self._refused(error) from error
        raise WeightsError(
            f"{path} is damaged: {came}, published is {_accepted(entry)};"
            f" 'vidmatte models pull {entry.name}' fetches it again"
        )

    def remove(self, entry: Entry) -> int:
        """Delete the file and all that belongs to it; bytes freed. Raises WeightsError."""
        path, freed = self.path(entry), 0
        if not self.folder.is_dir():
            return freed
        try:
            with self._lock(entry, wait=False):
                for file in (path, record_path(path), speeds_path(path), *compiled_files(path)):
                    if file.is_file():
                        freed += file.stat().st_size
                        file.unlink()
                freed += self._sweep(entry) + remove_unfinished(path)
        except OSError as error:
            raise self._refused(error) from error
        return freed

    def _sources(self, entry: Entry) -> list[WeightsSource]:
        base = os.environ.get(_MIRROR_VARIABLE)
        if not base:
            return list(entry.sources)
        if "://" not in base:
            folder = Path(base).expanduser()
            if not folder.is_dir():
                raise UsageError(
                    f"{_MIRROR_VARIABLE}={base}: neither a URL like https://... nor an existing"
                    " folder: correct it, or unset it"
                )
            base = folder.absolute().as_uri()
        mirror = ReleaseFile(f"{base.rstrip('/')}/{entry.file_name}", entry.fingerprints)
        return [mirror, *entry.sources]

    def _fetch(self, entry: Entry, say: _Report, quiet: bool, agreed: str | None) -> None:
        reasons: list[str] = []
        for source in self._sources(entry):
            part = self.folder / f"{entry.file_name}.{source.key}.part"
            say(f"{entry.name}: fetching from {source.describe()}")
            try:
                with FetchBar(entry.name, quiet=quiet) as progress:
                    found = _obtain(source, part, progress)
            except FetchError as error:
                reasons.append(f"{source.describe()}: {error}")
                say(f"{entry.name}: failed there: {error}")
                continue
            part.replace(self.path(entry))
            self._note(entry, found, None, source.describe(), agreed)
            self._sweep(entry)
            say(f"{entry.name}: licence of the weights {entry.licence}{_note_of(entry)}")
            return
        raise self._unavailable(entry, reasons)

    def _note(
        self,
        entry: Entry,
        found: Fingerprint,
        earlier: Record | None,
        source: str = "put there by hand",
        agreed: str | None = None,
    ) -> None:
        """Note what the file was found to be; an ``earlier`` note keeps its origin."""
        path = self.path(entry)
        stat = path.stat()
        record = Record(
            size_bytes=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
            digest=found.digest,
            sha256=found.sha256 or sha256_of(path),
            source=earlier.source if earlier else source,
            licence=entry.licence,
            fetched=earlier.fetched if earlier else now(),
            accepted=earlier.accepted if earlier else agreed,
        )
        self._write(path, record)

    def _write(self, path: Path, record: Record) -> None:
        """Put the note beside its file, where the folder can be written."""
        try:
            write_record(path, record)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            # A folder shared read-only has no note: the file is hashed in every run.

    def _sweep(self, entry: Entry) -> int:
        """Delete the partial files of interrupted downloads; returns the bytes freed. Only while
        holding the lock."""
        freed = 0
        for part in self.folder.glob(f"{entry.file_name}.*.part"):
            freed += part.stat().st_size
            part.unlink()
        for work in self.folder.glob(f"{entry.file_name}.*.fetch"):
            shutil.rmtree(work)
        return freed

    @contextmanager
    def _lock(
        self, entry: Entry, say: _Report | None = None, *, wait: bool = True
    ) -> Iterator[None]:
        """Hold the entry alone among processes. Raises WeightsError if not to ``wait``."""
        from filelock import Timeout

        from vidmatte.core.concurrency import lock_at

        self.folder.mkdir(parents=True, exist_ok=True)
        lock = lock_at(self.folder / f".{entry.file_name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise WeightsError(
                    f"{entry.name} is being fetched by another process: try again when it is done"
                ) from None
            if say is not None:
                say(f"{entry.name}: waiting for another process that fetches it")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _unavailable(self, entry: Entry, reasons: list[str]) -> WeightsError:
        path = self.path(entry)
        there = f"\n  (the file that is there is not it: {_found(path)})" if path.is_file() else ""
        tried = "".join(f"\n  {reason}" for reason in reasons)
        return WeightsError(
            f"the weights of {entry.name} are not here and could not be fetched:{tried}\n"
            f"By hand: put the file at {path}\n  accepted: {_accepted(entry)}{there}"
        )

    def _refused(self, error: OSError) -> WeightsError:
        reason = error.strerror or str(error)
        return WeightsError(
            f"the models folder {self.folder} cannot be used ({reason}): make room or name"
            f" another with --models-dir or {_FOLDER_VARIABLE}"
        )


def _obtain(source: WeightsSource, part: Path, progress: FetchBar) -> Fingerprint:
    """Fetch into ``part`` and say which published file it is. Raises FetchError, OSError."""
    resumed = part.exists()
    source.fetch(part, progress)
    found = identify(part, source.accepts)
    if found is None and resumed:  # the two parts may be of different files: start again
        part.unlink()
        source.fetch(part, progress)
        found = identify(part, source.accepts)
    if found is None:
        came = _found(part)
        part.unlink()
        expected = " or ".join(str(one) for one in source.accepts)
        raise FetchError(f"what came is not the published file: {came}, not {expected}")
    return found


def _found(path: Path) -> str:
    return str(Fingerprint(path.stat().st_size, sha256_of(path)))


def _accepted(entry: Entry) -> str:
    return " or ".join(str(one) for one in entry.fingerprints)


def _say_nothing(line: str) -> None:
    del line


def _note_of(entry: Entry) -> str:
    return f" ({entry.commercial})" if entry.commercial else ""

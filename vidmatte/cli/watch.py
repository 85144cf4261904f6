"""``vidmatte watch``: every file that arrives in a folder is matted once."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from pydantic import Field

from vidmatte.cli.outputs import result_path
from vidmatte.cli.summary import report_result
from vidmatte.core.concurrency import lock_at, release_and_unlink
from vidmatte.core.memory import frames_oom_error, is_out_of_memory, reason_of
from vidmatte.core.names import absolute_path
from vidmatte.core.source import state_of
from vidmatte.core.stored import Name, StoredModel, Text, checked, read_stored
from vidmatte.errors import InterruptedRunError, OutputError, SourceError, UsageError, VidmatteError
from vidmatte.jobs.check import check_job, make_job
from vidmatte.jobs.report import Reporter
from vidmatte.jobs.run import run
from vidmatte.models.registry import Model, choose_model
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.writers.base import as_output_error

if TYPE_CHECKING:
    from filelock import FileLock

_RECORD = ".vidmatte-watch.json"
_LOCK = ".vidmatte-watch.lock"
_ERROR_SUFFIX = ".error.txt"
#: Names that programs give to files which they still write.
_UNFINISHED = (".part", ".partial", ".tmp", ".crdownload", ".filepart", "~")
_RESCAN_SECONDS = 30.0  # where no change is reported, as on some network drives
#: Options that name one file for all results.
_FOR_ONE_FILE = ("matte", "foreground_file", "comp", "timeline", "only", "start_number")

_State = tuple[int, ...]


class _Entry(StoredModel):
    """What became of a file. state: its size, time and inode when it was begun. result: the name in
    the folder of results; owns: what lies there was made of an earlier state of the file. how:
    'begun', 'done' or 'failed'."""

    state: list[int]
    result: Name
    how: Text
    owns: bool


class _Stored(StoredModel):
    files: dict[str, _Entry] = Field(default_factory=dict)


@dataclass
class _Record:
    """What became of every file, kept in the folder of the results."""

    folder: Path
    entries: dict[str, _Entry] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> _Record:
        """The record of a folder; empty where it has none. Raises OutputError for one that is
        damaged."""
        try:
            stored = checked(_Stored, read_stored(folder / _RECORD))
        except FileNotFoundError:
            return cls(folder)
        except (OSError, ValueError) as error:
            raise OutputError(
                f"{folder / _RECORD} cannot be read ({error}): remove it, and --overwrite replaces"
                " results that are there"
            ) from error
        return cls(folder, dict(stored.files))

    def is_over(self, source: Path, state: _State) -> bool:
        """Whether the file was done, or has failed, in this state; a failure whose message was
        removed counts as new."""
        entry = self.entries.get(source.name)
        if entry is None or tuple(entry.state) != state:
            return False
        if entry.how == "failed":
            return self.error_file(source).exists()
        return entry.how == "done" or self._is_renamed(entry)

    def owns(self, source: Path) -> bool:
        """Whether an earlier state of the file has a result."""
        entry = self.entries.get(source.name)
        return entry is not None and (entry.owns or self._is_renamed(entry))

    def _is_renamed(self, entry: _Entry) -> bool:
        """Whether a run was killed after it renamed a first result, and before that was noted."""
        is_there = (self.folder / str(entry.result)).exists()
        return entry.how == "begun" and not entry.owns and is_there

    def note(self, source: Path, state: _State, result: str, how: str) -> None:
        """Note what became of a file. Raises OSError."""
        owns = how == "done" or self.owns(source)
        entry = {"state": list(state), "result": result, "how": how, "owns": owns}
        self.entries[source.name] = checked(_Entry, entry)
        facts = {"files": {name: dict(one) for name, one in self.entries.items()}}
        partial = self.folder / f"{_RECORD}.partial"
        partial.write_text(json.dumps(facts, indent=1) + "\n")
        partial.replace(self.folder / _RECORD)

    def result_of(self, source: Path, settings: Settings) -> Path:
        """The path of a file's result, which no other file has. Raises UsageError."""
        known = self.entries.get(source.name)
        if known is not None:
            return self.folder / str(known.result)
        taken = {entry.result for entry in self.entries.values()}
        for name in (source.stem, source.name.replace(".", "_")):
            path = result_path(source, self.folder / name, settings)
            if path.name not in taken:
                break
        return path

    def error_file(self, source: Path) -> Path:
        """Where the message of a file that failed is written."""
        return self.folder / f"{source.name}{_ERROR_SUFFIX}"


class _Arrivals:
    """The files of a folder, and since when each has not changed."""

    def __init__(self, folder: Path, settle: float) -> None:
        self._folder, self._settle = folder, settle
        self._seen: dict[Path, tuple[_State, float]] = {}

    def settled(self, record: _Record) -> tuple[list[Path], bool]:
        """The files that have stopped growing and are not over, and whether others have not."""
        now, ready, waiting = time.monotonic(), [], False
        found = {path: state_of(path) for path in self._files()}
        self._seen = {path: seen for path, seen in self._seen.items() if path in found}
        for path, state in found.items():
            if not state or record.is_over(path, state):
                continue
            before, since = self._seen.get(path, (None, now))
            if before != state:
                self._seen[path] = state, now
                waiting = True
            elif now - since >= self._settle and state[0]:
                ready.append(path)
            else:
                waiting = True
        return sorted(ready, key=lambda path: state_of(path)[1:2]), waiting

    def _files(self) -> Iterator[Path]:
        """The files that may be matted. Raises SourceError where the folder is gone."""
        try:
            entries = list(os.scandir(self._folder))
        except OSError as error:
            raise SourceError(
                f"{self._folder}: the folder cannot be read ({error.strerror})"
            ) from error
        for entry in entries:
            is_hidden = entry.name.startswith((".", "~")) or entry.name.endswith(_UNFINISHED)
            if not is_hidden and entry.is_file():
                yield Path(self._folder, entry.name)


class _Watch:
    """Mats what arrives in ``folder`` into ``out`` until it is stopped.

    settle: seconds for which a file must not have changed. done, failed: counts of this call.
    """

    def __init__(
        self, folder: Path, out: Path, settings: Settings, reporter: Reporter, settle: float
    ) -> None:
        self._folder, self._out = folder, out
        self._settings, self._reporter, self._settle = settings, reporter, settle
        self.done = self.failed = 0

    def run(self, stop: Event | None = None) -> None:
        """Watch until ``stop`` is set, or Ctrl+C. Raises VidmatteError, InterruptedRunError."""
        _check(self._folder, self._out, self._settings)
        self._choice = choice = choose_model(self._settings)
        self._out.mkdir(parents=True, exist_ok=True)
        lock = _locked(self._out)
        try:
            record = _Record.read(self._out)
            model = choice.fetch(self._reporter.note, quiet=self._reporter.is_quiet)
            self._reporter.note(f"vidmatte: watching {self._folder}; Ctrl+C ends it")
            self._loop(record, model, stop or Event())
        except InterruptedRunError:
            raise
        except KeyboardInterrupt:
            counts = f"{self.done} done, {self.failed} failed"
            raise InterruptedRunError(f"stopped watching {self._folder}: {counts}") from None
        finally:
            release_and_unlink(lock)

    def _loop(self, record: _Record, model: Model, stop: Event) -> None:
        from watchfiles import watch

        arrivals, looked = _Arrivals(self._folder, self._settle), 0.0
        step = max(20, int(250 * self._settle))  # milliseconds
        changes = watch(
            self._folder, watch_filter=None, recursive=False, stop_event=stop, debounce=step,
            step=min(50, step), rust_timeout=step, yield_on_timeout=True,
        )  # fmt: skip
        waiting = True  # for files that have not settled, or to be looked at
        while not stop.is_set():
            if waiting or time.monotonic() - looked > _RESCAN_SECONDS:
                looked = time.monotonic()
                ready, waiting = arrivals.settled(record)
                for source in ready:
                    if stop.is_set():
                        return
                    self._mat(source, record, model)
                waiting |= bool(ready)  # more may have come meanwhile
            waiting |= bool(next(changes, None))

    def _mat(self, source: Path, record: _Record, model: Model) -> None:
        """Mat one file; a failure is set aside with its message."""
        state, error = state_of(source), record.error_file(source)
        try:
            out = record.result_of(source, self._settings)
            is_own = record.owns(source)
            self._reporter.about(str(source), str(out))
            record.note(source, state, out.name, "begun")
            self._run(source, out, model, is_own=is_own)
        except VidmatteError as failure:
            self._set_aside(source, record, state, failure)
        except Exception as failure:  # noqa: BLE001 (a bug that one file triggers stops no other)
            if is_out_of_memory(failure):
                failure = frames_oom_error(source, reason_of(failure), self._settings.memory)
            self._set_aside(source, record, state, failure)
        else:
            error.unlink(missing_ok=True)
            self.done += 1
            record.note(source, state, out.name, "done")
        self._reporter.about()

    def _run(self, source: Path, out: Path, model: Model, *, is_own: bool) -> None:
        settings = self._settings
        if is_own:  # the result of an earlier state of the same file
            settings = settings.changed(overwrite=True)
        job = make_job(str(source), f"{out}/" if not out.suffix else out, settings)
        self._reporter.begin()
        with open_reader(source, job.settings) as reader:
            check_job(job, reader, self._choice)
            result = run(
                reader, job.output, model, job.settings, self._reporter, sys.argv,
                is_folder=job.is_folder,
            )  # fmt: skip
        report_result(self._reporter, job, result)

    def _set_aside(self, source: Path, record: _Record, state: _State, failure: Exception) -> None:
        """Note a failure, and write its message beside the results."""
        is_known = isinstance(failure, VidmatteError)
        message = str(failure) if is_known else f"{source}: {type(failure).__name__}: {failure}"
        self._reporter.failure(type(failure).__name__, message)
        self.failed += 1
        record.error_file(source).write_text(message + "\n", "utf-8", "surrogateescape")
        name = record.result_of(source, self._settings).name
        record.note(source, state, name, "failed")


def _check(folder: Path, out: Path, settings: Settings) -> None:
    """Raise UsageError, SourceError, OutputError for what cannot be watched."""
    if not folder.is_dir():
        raise SourceError(f"{folder}: there is no such folder to watch: create it")
    if absolute_path(out).resolve() == absolute_path(folder).resolve():
        raise UsageError(f"-o {out}: that is the watched folder itself: name another")
    if out.exists() and not out.is_dir():
        raise OutputError(f"-o {out}: it is a file: name a folder for the results")
    for name in _FOR_ONE_FILE:
        if value := getattr(settings, name):
            raise UsageError(
                f"--{name.replace('_', '-')} {value}: not for a watched folder: omit it"
            )
    if settings.manifest == "one":
        raise UsageError("--manifest one: a watched folder has no end: each result has its own")


def _locked(out: Path) -> FileLock:
    """The lock on a folder of results, taken. Raises OutputError where another watch has it."""
    from filelock import Timeout

    lock = lock_at(out / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(f"{out}: another vidmatte watch writes there: choose another") from None
    except OSError as error:
        raise as_output_error(error, out) from error
    return lock


def watch_folder(
    folder: Path, out: Path, options: dict[str, Any], reporter: Reporter, settle: float
) -> None:
    """Watch a folder until Ctrl+C. Raises VidmatteError, InterruptedRunError."""
    try:
        import watchfiles  # noqa: F401 (an optional package)
    except ImportError:
        raise UsageError(
            "watch: it needs the package watchfiles: pip install 'vidmatte[watch]'"
        ) from None
    _Watch(folder, out, Settings(**options), reporter, settle).run()

"""The folder beside an output in which a run with ``--resume`` stores its work.

``job.json`` says which job the work belongs to, ``frames.log`` holds the frames
(``frame_log``), ``finished.json`` describes the outputs, written just before they are
renamed to their final names; in ``subject`` is what is known of a chosen subject. Each of the
JSON files is written to a temporary name, synced to the disk and renamed: it is complete or
missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import Timeout

from vidmatte.alpha.track import LONGEST_LOOK_AHEAD
from vidmatte.core.concurrency import lock_at
from vidmatte.core.frame import Clip
from vidmatte.core.segment import Findings
from vidmatte.errors import UsageError
from vidmatte.jobs.checkpoint.compat import (
    StoredFiles,
    StoredJob,
    StoredResult,
    differences,
    first_change,
    read_note,
)
from vidmatte.jobs.checkpoint.frame_log import FrameLog, Head, Summary
from vidmatte.settings import Settings
from vidmatte.writers.base import WriteResult, as_output_error
from vidmatte.writers.formats import is_pattern
from vidmatte.writers.output_paths import output_paths

JOB, LOG, FINISHED, LOCK = "job.json", "frames.log", "finished.json", "lock"
_UNFINISHED = ".part"
_FILES = (LOG, JOB + _UNFINISHED, FINISHED + _UNFINISHED, LOCK, JOB, FINISHED)
_SUBJECT = "subject"
_FOLDERS = re.compile(rf"pictures-\d+|{_SUBJECT}")

#: By the path of a result: each file's name in it ("" for the path itself), its size in
#: bytes, and its modification time (ns) for a file that is not part of a sequence.
Files = dict[str, dict[str, list[int]]]


class CheckpointFolder:
    """The work folder at ``path``, for frames from number ``first`` on. Raises OutputError where
    it cannot be used."""

    def __init__(self, path: Path, first: int = 0) -> None:
        self.path = path
        self.log = FrameLog(path / LOG, first)
        self._lock = lock_at(path / LOCK)
        self._facts: dict[str, Any] = {}
        #: The position of the first picture of the source that has changed, and how.
        self.change: tuple[int, str] | None = None

    def open_for(self, facts: dict[str, Any]) -> None:
        """Create the folder for a job, or open it where it belongs to the same job.

        facts: what determines the result. Raises UsageError that names what differs, or
        where another process has locked the folder.
        """
        self._facts = facts = json.loads(json.dumps(facts))
        _check_own(self.path)
        is_new = not self.path.exists()
        try:
            self.path.mkdir(exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"--resume: {self.path} is locked by another vidmatte process: wait for its end"
            ) from None
        except OSError as error:
            self._give_up(is_new)
            raise as_output_error(error, self.path) from error
        try:
            note = read_note(self.path / FINISHED, StoredResult) or {}
            stored = read_note(self.path / JOB, StoredJob) or note.get("facts")
            if stored is None:
                self.clear()
                _write_json(self.path / JOB, facts)
                sync_folder(self.path.parent)
            else:
                found = differences(stored, facts)
                self.change = first_change(stored, facts)
                if self.change and note:  # the results are complete already
                    found.append(f"other pictures ({self.change[1]})")
                if found:
                    raise UsageError(
                        f"--resume: {self.path} belongs to a different job (differs:"
                        f" {'; '.join(found)}): repeat that job, or remove the folder to start over"
                    )
        except OSError as error:
            self._give_up(is_new)
            raise as_output_error(error, self.path) from error
        except BaseException:
            self.release()
            raise

    def _give_up(self, is_new: bool) -> None:
        """Unlock the folder; remove one that this run made, as where the disk is full."""
        self.release()
        if is_new:
            with contextlib.suppress(OSError):
                remove_folder(self.path)

    def survey(self, is_intact: Callable[[Head], bool]) -> Summary:
        """The intact records of the log, see ``FrameLog.survey``; the rest is cut off, and frames
        can be added.

        Where pictures of the source have changed, the frames whose filters have read one of
        these are cut off too. Raises UsageError where the frame of a changed picture is done.
        """
        found = self.log.survey(is_intact)
        if self.change is not None:
            position, what = self.change
            if self.log.first + found.count > position:
                raise UsageError(
                    f"--resume: {what}, but its frame is one of the {found.count} finished ones:"
                    f" restore the pictures, or remove {self.path} to start over"
                )
            end = max(0, position - LONGEST_LOOK_AHEAD)
            found = self.log.survey(lambda head: head["index"] < end and is_intact(head))
        self.log.open(found)
        if self.change is not None:  # only now that none of their frames remain
            _write_json(self.path / JOB, self._facts)
        return found

    def clear(self) -> None:
        """Remove the stored frames, but not the files that identify the job."""
        _remove_content(self.path, (JOB, FINISHED, LOCK, _SUBJECT))

    def remove(self) -> None:
        """Remove the folder and what a run has stored in it, but not what is known of a subject."""
        self.release()
        remove_folder(self.path, (_SUBJECT,))

    def mark(self, written: WriteResult, files: Files, findings: Findings) -> None:
        """Record the outputs, before the first of them is renamed to its final name."""
        note = {
            "facts": self._facts,
            "written": written.to_json(),
            "files": files,
            "findings": list(findings),
        }
        _write_json(self.path / FINISHED, note)

    def finished(self) -> tuple[WriteResult, Findings] | None:
        """The results of an earlier run and their findings, if all files exist unchanged."""
        note = read_note(self.path / FINISHED, StoredResult)
        if note is None or not all(_is_unchanged(path, note) for path in note["files"]):
            return None
        findings = [(index, found) for index, found in note["findings"]]
        return WriteResult.from_json(note["written"]), findings

    def release(self) -> None:
        """Close the log and unlock the folder; harmless when done twice."""
        self.log.close()
        self._lock.release()


def _check_own(path: Path) -> None:
    """Raise UsageError unless a work folder is missing, empty or one that a run has made: what is
    in it is written and removed, and a link would put other files in its place."""
    links = [entry for entry in (path, *_own_entries(path)) if entry.is_symlink()]
    if links:
        raise UsageError(
            f"--resume: {links[0]} is a link, which its work never is: remove the link, or choose"
            " another output"
        )
    if not path.is_dir() or (path / JOB).is_file() or (path / FINISHED).is_file():
        return
    begun = {LOCK, JOB + _UNFINISHED, _SUBJECT}  # by a run that was killed then
    if others := sorted({entry.name for entry in path.iterdir()} - begun):
        raise UsageError(
            f"--resume: the folder {path} holds {others[0]} and no {JOB}, so it is not the work of"
            " an earlier run: move it, or choose another output"
        )


def _own_entries(path: Path) -> list[Path]:
    """What is in a work folder under the names that a run gives."""
    if not path.is_dir():
        return []
    return [one for one in path.iterdir() if one.name in _FILES or _FOLDERS.fullmatch(one.name)]


def _remove_content(path: Path, kept: Sequence[str] = ()) -> None:
    """Remove what runs have stored in a work folder; files of others stay."""
    for entry in _own_entries(path):
        if entry.name in kept:
            continue
        if _FOLDERS.fullmatch(entry.name) and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def remove_folder(path: Path, kept: Sequence[str] = ()) -> None:
    """Remove a work folder that a run has made, unless it holds files of others or ``kept`` ones.

    The note that the output is finished is removed last: a kill in between costs nothing.
    """
    if path.is_symlink() or not path.is_dir():
        return
    _remove_content(path, (FINISHED, *kept))
    (path / FINISHED).unlink(missing_ok=True)
    if not any(path.iterdir()):
        path.rmdir()


def subject_folder(out: Path, clip: Clip, settings: Settings) -> Path | None:
    """Where a run keeps what it knows of the chosen subjects, which need not exist yet; None
    where no later run continues it. Raises UsageError where the work folder holds something else.
    """
    if not settings.resume or clip.kind == "picture":
        return None
    path = output_paths(out).work
    _check_own(path)
    return path / _SUBJECT


def checkpoint_path(out: Path) -> Path:
    """The absolute path of ``out``, or of the folder that its pattern's pictures are in."""
    return (out.parent if is_pattern(out) else out).absolute()


def may_replace_at(out: Path, settings: Settings) -> Callable[[Path], bool]:
    """Whether the file or folder at a path is a result of the same job, which was stopped while
    or after its results were renamed to their final names; for ``output_specs``."""
    if not settings.resume:
        return lambda _: False
    paths = output_paths(out)
    return lambda path: any(_may_replace(work, path) for work in (paths.work, paths.segments))


def _may_replace(folder: Path, out: Path) -> bool:
    """Whether the file or folder at ``out`` is a result that the work folder ``folder`` records."""
    note = read_note(folder / FINISHED, StoredFiles)
    path = checkpoint_path(out)
    if note is None or str(path) not in note["files"]:
        return False
    names = note["files"][str(path)]
    found = {"": path} if path.is_file() else dict(files_in(path))
    unfinished = f"{folder.name}-"
    return all(
        name in names and size_and_time(file, names[name]) == names[name]
        for name, file in found.items()
        if not name.startswith(unfinished)
    )


def note_files(folder: Path, files: Files) -> None:
    """Record in a work folder the results that are about to get their names, for
    ``may_replace_at``. Raises OSError."""
    _write_json(folder / FINISHED, {"files": files})


def _is_unchanged(path: str, note: dict[str, Any]) -> bool:
    """Whether every file of a result exists with its size, and its time where recorded."""
    root = Path(path)
    return all(
        size_and_time(root / name if name else root, facts) == facts
        for name, facts in note["files"][path].items()
    )


def size_and_time(path: Path, like: Sequence[int] = (0, 0)) -> list[int]:
    """Size and modification time of a file, as many of the two as ``like`` has; [] if missing."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns][: len(like)]


def files_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files under a folder, with their paths relative to it."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path


def _write_json(path: Path, value: Any) -> None:
    """Write a JSON file that is complete or missing, even after a loss of power."""
    unfinished = path.with_name(path.name + _UNFINISHED)
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Sync a file's content to the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Sync a folder's entries to the disk; Windows does that by itself."""
    if os.name != "posix":
        return
    number = os.open(path, os.O_RDONLY)
    try:
        # Some network file systems refuse fsync of a folder, and do not need it.
        with contextlib.suppress(OSError):
            os.fsync(number)
    finally:
        os.close(number)

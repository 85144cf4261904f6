"""The interface of writers, their result, and the errors of writing."""

from __future__ import annotations

import errno
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from pydantic import Field

from vidmatte.core.concurrency import usable_cores
from vidmatte.core.frame import Frame
from vidmatte.core.stored import Count, Name, Ratio, StoredModel, Text, checked
from vidmatte.errors import OutputError

#: Memory of a frame in an encoder: its slot, its picture, the foreground estimate's arrays.
_BYTES_PER_PIXEL = 45
_MAX_WORKERS = 16


class _StoredResult(StoredModel):
    """A ``WriteResult`` as JSON."""

    path: Any
    format: str
    pixel_format: str
    frames: Count
    width: Count
    height: Count
    rate: Ratio
    seconds: Any
    sound: list[Text]
    bytes: Count
    files: list[Name]
    notes: list[Text] = Field([])
    extra_outputs: list[dict[str, Any]] = Field([])


@dataclass(frozen=True)
class WriteResult:
    """What was written. ``path`` is the final file, or the folder of a sequence.

    ``bytes`` counts all files; ``seconds`` is the duration of the video; ``sound`` has one
    entry per track, like ``aac (copied)``; ``extra_outputs`` are the results of the extra
    outputs; ``files`` are the names of a sequence's pictures in their folder.
    """

    path: Path
    frames: int
    width: int
    height: int
    rate: Fraction
    format: str
    pixel_format: str
    bytes: int
    seconds: Fraction
    sound: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    extra_outputs: tuple[WriteResult, ...] = ()
    files: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All fields by name, ready for JSON: fractions and the path as strings."""
        return {
            "path": str(self.path),
            "format": self.format,
            "pixel_format": self.pixel_format,
            "frames": self.frames,
            "width": self.width,
            "height": self.height,
            "rate": str(self.rate),
            "seconds": str(self.seconds),
            "sound": list(self.sound),
            "bytes": self.bytes,
            "files": list(self.files),
            "notes": list(self.notes),
            "extra_outputs": [extra.to_json() for extra in self.extra_outputs],
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> WriteResult:
        """The inverse of ``to_json``; unknown keys are ignored. Raises ValueError."""
        checked(_StoredResult, facts)
        return cls(
            path=Path(facts["path"]),
            frames=facts["frames"],
            width=facts["width"],
            height=facts["height"],
            rate=Fraction(facts["rate"]),
            format=facts["format"],
            pixel_format=facts["pixel_format"],
            bytes=facts["bytes"],
            seconds=Fraction(facts["seconds"]),
            sound=tuple(facts["sound"]),
            notes=tuple(facts.get("notes", ())),
            extra_outputs=tuple(map(cls.from_json, facts.get("extra_outputs", ()))),
            files=tuple(facts["files"]),
        )


def already_finished_note(out: Path) -> str:
    """The note on a result that an earlier run has finished."""
    return f"{out.name}: already finished by an earlier run"


class Writer(ABC):
    """Takes the frames of one clip, in order, and writes one result.

    Nothing appears under the final name before ``close`` has verified what was
    written. Not thread-safe: one thread writes, closes or aborts.
    """

    @property
    @abstractmethod
    def slots_held(self) -> int:
        """The largest number of frames held unreleased between two writes."""

    @property
    def stores_state(self) -> bool:
        """Whether a recurrent network's state is stored with frames; see ``Frame.wants_state``."""
        return False

    def busy_seconds(self, writing: float) -> float:
        """Seconds it was busy, as one of the run's stages.

        writing: seconds in which the writing thread was not idle.
        """
        return writing

    def watch(self, fail: Callable[[BaseException], None]) -> None:  # noqa: B027
        """Call ``fail`` from another thread if a result fails between two frames, as a pipe does
        that nobody reads any more."""

    def cancel(self) -> None:  # noqa: B027 (files do not make anyone wait)
        """End a wait for whoever takes the result; safe from any thread."""

    @abstractmethod
    def write(self, frame: Frame) -> None:
        """Write a frame with its alpha; the writer releases it. May block.

        Raises OutputError, or the error of the worker that failed.
        """

    @abstractmethod
    def close(self) -> WriteResult:
        """Finish, verify and rename into place. Raises OutputError, VerificationError."""

    @abstractmethod
    def abort(self) -> None:
        """Stop and remove unfinished files; safe to call at any time."""

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()


@contextmanager
def ffmpeg_errors_as(what: str, advice: str = "") -> Iterator[None]:
    """Turn FFmpeg's error into an OutputError that says ``what`` failed: FFmpeg's reason alone
    ("Invalid argument") is no help. Errors of the system, like a full disk, pass unchanged."""
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        reason = error.strerror or error
        raise OutputError(f"{what} cannot be written ({reason}){advice}") from error


def as_output_error(error: BaseException, path: Path) -> OutputError:
    """An error of the system or of FFmpeg at ``path`` as an OutputError of one line."""
    if isinstance(error, OutputError):
        return error
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0
        return OutputError(
            f"{path}: the disk is full ({free / 2**20:.0f} MB free): free some space or write to"
            " another disk"
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return not_writable(path)
    if number == errno.EPIPE or isinstance(error, BrokenPipeError):
        return OutputError("stdout: the program that reads it has ended: the result is incomplete")
    if number == errno.EFBIG:
        return OutputError(f"{path}: {_file_size_limit()}")
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return OutputError(f"{path}: {reason}")


def not_writable(path: Path) -> OutputError:
    """The error for a folder without write permission."""
    return OutputError(f"{path}: no permission to write here: choose another folder")


def _file_size_limit() -> str:
    """The limit on file size here, and how to deal with it."""
    if sys.platform != "win32":
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if limit != resource.RLIM_INFINITY:
            return (
                f"files are limited to {limit / 1e6:.1f} MB here (ulimit -f): raise the"
                " limit with 'ulimit -f unlimited', or choose a smaller format"
            )
    return (
        "this disk does not support files that large (FAT32: 4 GB): write to another disk, or"
        " choose a smaller format"
    )


def worker_count(width: int, height: int, memory: int) -> int:
    """The number of parallel encoders: one per core, limited by ``memory`` (bytes) and 16.

    At least two, so that one can convert while the other encodes.
    """
    affordable = max(2, memory // (width * height * _BYTES_PER_PIXEL))
    return min(usable_cores(), affordable, _MAX_WORKERS)

"""Where frames go: one small class that every kind of output fills in."""

from __future__ import annotations

import errno
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from vidmatte.core.concurrency import usable_cores
from vidmatte.core.frame import Frame
from vidmatte.errors import OutputError

#: What a frame at work in an encoder takes: its slot, its picture, the estimate's arrays.
_BYTES_PER_PIXEL = 45
_MAX_WORKERS = 16


@dataclass(frozen=True)
class WriteResult:
    """What stands under the final name. ``path`` is a file, or the folder of a sequence.

    ``bytes`` counts all files; ``seconds`` is the length of the video; ``sound`` has
    one entry a track, like ``aac (copied)``; ``extra_outputs`` are the results made beside it;
    ``files`` are the names of a sequence's pictures in their folder.
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
        """Every field by name, as JSON holds it: fractions and the path as text."""
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
        """The inverse of ``to_json``; keys that are no field's are passed over."""
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
    """The note on a result that an earlier run has made."""
    return f"{out.name}: an earlier run has finished it"


class Writer(ABC):
    """Takes the frames of one clip, in order, and makes one result of them.

    Nothing stands under the final name before ``close`` has verified what was
    written. Not thread-safe: one thread writes, closes or aborts.
    """

    @property
    @abstractmethod
    def slots_held(self) -> int:
        """How many frames at most are held unreleased between two writes."""

    @property
    def stores_state(self) -> bool:
        """Whether a recurrent network's state goes with the frames; see ``Frame.wants_state``."""
        return False

    def busy_seconds(self, writing: float) -> float:
        """How long it was at work, as one of the run's stages.

        writing: seconds that the thread which writes was not idle in.
        """
        return writing

    @abstractmethod
    def write(self, frame: Frame) -> None:
        """Take a frame with its alpha; the writer releases it. May block.

        Raises OutputError, or the error of the worker that failed.
        """

    @abstractmethod
    def close(self) -> WriteResult:
        """Finish, verify and rename into place. Raises OutputError, VerificationError."""

    @abstractmethod
    def abort(self) -> None:
        """Drop everything and remove what is not finished; harmless at any time."""

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()


@contextmanager
def ffmpeg_errors_as(what: str, advice: str = "") -> Iterator[None]:
    """Raise OutputError that names ``what`` FFmpeg refused: its reason alone ("Invalid argument")
    helps nobody. Errors of the system, like a full disk, pass unchanged."""
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        reason = error.strerror or error
        raise OutputError(f"{what} cannot be written ({reason}){advice}") from error


def as_output_error(error: BaseException, path: Path) -> OutputError:
    """The one line to show for what the system or FFmpeg said of ``path``."""
    if isinstance(error, OutputError):
        return error
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0
        return OutputError(
            f"{path}: the disk is full ({free / 2**20:.0f} MB free): make room or write elsewhere"
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return not_writable(path)
    if number == errno.EFBIG:
        return OutputError(f"{path}: {_file_size_limit()}")
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return OutputError(f"{path}: {reason}")


def not_writable(path: Path) -> OutputError:
    """The error for a place in which nothing may be made."""
    return OutputError(f"{path}: may not be written here: choose another folder")


def _file_size_limit() -> str:
    """How large a file may be here, and what is to be done about it."""
    if sys.platform != "win32":
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if limit != resource.RLIM_INFINITY:
            return (
                f"files may not be larger than {limit / 1e6:.1f} MB here (ulimit -f): raise that"
                " limit with 'ulimit -f unlimited', or choose a smaller format"
            )
    return (
        "this disk takes no file that large (FAT32: 4 GB): write to another disk, or choose a"
        " smaller format"
    )


def worker_count(width: int, height: int, memory: int) -> int:
    """Encoders that run at once: one a core, as far as ``memory`` (bytes) goes, 16 at most.

    Two even where memory is short, so that one can convert while the other encodes.
    """
    affordable = max(2, memory // (width * height * _BYTES_PER_PIXEL))
    return min(usable_cores(), affordable, _MAX_WORKERS)

"""The source of a clip, apart from its frames: its name, its files and its sound."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream

from vidmatte.errors import SourceError, UsageError


@dataclass(frozen=True)
class AudioTrack:
    """One sound track of a source: its stream index in the container and what it is.

    number: among the container's sound tracks, counted from 1. is_copyable: its packets with what
    the container says of them are enough for another container.
    """

    index: int
    codec: str
    sample_rate: int
    channels: int
    language: str | None = None
    number: int = 1
    is_copyable: bool = True


@dataclass(frozen=True)
class VideoTrack:
    """One video track of a movie; is_read: it is the one whose frames are read."""

    codec: str
    width: int
    height: int
    is_default: bool
    is_read: bool


class AudioSource(ABC):
    """The sound packets of a source, read by one thread beside its frames."""

    @abstractmethod
    def stream(self, index: int) -> AudioStream:
        """The stream that ``AudioTrack.index`` names: codec, start time, time base, metadata.

        It is valid until ``close``.
        """

    @abstractmethod
    def packets(self, start: Fraction) -> Iterator[av.Packet | None]:
        """The packets of the tracks in the container's order; callable once.

        start: seconds on the container's timeline; packets before it may be skipped.
        None means that the next packet has not arrived yet: sources that demux frames and
        sound together yield the packets demuxed with the frames so far, and the rest after the
        last frame. Empty packets, which PyAV yields at a stream's end, may be among them.
        Raises av.FFmpegError where they cannot be read.
        """

    @abstractmethod
    def close(self) -> None:
        """Close what is open; safe to call twice."""


class Source:
    """The source of a clip. This base class describes a source without files, such as a pipe:
    it can be read once, has no checksum, and a run over it can be neither resumed nor cached.

    name: its name in messages. path: the file or folder, None where there is none.
    ``str()`` gives the full name, for errors.
    """

    def __init__(self, name: str, path: Path | None = None) -> None:
        self.name, self.path = name, path

    def __str__(self) -> str:
        return self.name if self.path is None else str(self.path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def identity(self) -> list[list[Any]] | None:
        """What identifies the source's present content, ready for JSON; None where it cannot be
        read a second time."""
        return None

    def has_changed(self) -> bool:
        """Whether a file is another than when the source was opened, or gone."""
        return False

    def files(self) -> Sequence[Path]:
        """The files that are read, in order; may be empty."""
        return ()

    def digest(self) -> str | None:
        """SHA-256 of the files, in lower-case hex; None where there are none. Reads them all.

        Raises OSError.
        """
        return None

    def open_audio(self, tracks: Sequence[AudioTrack]) -> AudioSource:
        """The sound of ``tracks``. Raises SourceError where the source has no sound."""
        raise SourceError(
            f"{self}: this kind of source has no sound ({len(tracks)} tracks requested)"
        )

    def identity_for(self, option: str) -> list[list[Any]]:
        """``identity``, for an option that compares it with that of another run.

        Raises UsageError where it is None.
        """
        found = self.identity()
        if found is None:
            raise UsageError(
                f"{option} needs a source that can be read again, and {self.name} is not a file:"
                f" save it to a file first, or omit {option}"
            )
        return found


def state_of(path: Path) -> tuple[int, ...]:
    """Size, modification time (ns) and inode of a file; empty where it is gone."""
    try:
        stat = path.stat()
    except OSError:
        return ()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def sha256_of(path: Path) -> str:
    """Lower-case hex SHA-256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_all(files: Iterable[Path]) -> str:
    """SHA-256 of the digests and names of several files, in order. Raises OSError."""
    lines = [f"{sha256_of(file)}  {file.name}\n" for file in files]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

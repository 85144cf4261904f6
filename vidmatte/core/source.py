"""What a clip comes from, apart from its frames: its name, its files and its sound."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
from av.audio.stream import AudioStream

from vidmatte.errors import SourceError, UsageError

if TYPE_CHECKING:
    from vidmatte.core.frame import AudioTrack


class AudioSource(ABC):
    """The sound packets of a source, read by one thread beside its frames."""

    @abstractmethod
    def stream(self, index: int) -> AudioStream:
        """The stream that ``AudioTrack.index`` names: codec, start time, time base, metadata.

        It is valid until ``close``.
        """

    @abstractmethod
    def packets(self, start: Fraction) -> Iterator[av.Packet | None]:
        """The packets of the tracks in the container's order, to be asked for once.

        start: seconds on the container's timeline; packets before it may be left out.
        None means that the next packet has not arrived yet: sources that demux frames and
        sound together give what came with the frames read so far, and the rest after the
        last frame. Empty packets, which PyAV gives at a stream's end, may be among them.
        Raises av.FFmpegError where they cannot be read.
        """

    @abstractmethod
    def close(self) -> None:
        """Close what is open; safe to call twice."""


class Source:
    """What a clip comes from. This class answers for a source without files, such as a pipe:
    it can be read once, has no checksum, and a run over it can be neither resumed nor cached.

    name: what messages call it. path: the file or folder, None where there is none.
    ``str()`` of it names it in full, in errors.
    """

    def __init__(self, name: str, path: Path | None = None) -> None:
        self.name, self.path = name, path

    def __str__(self) -> str:
        return self.name if self.path is None else str(self.path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def identity(self) -> list[list[Any]] | None:
        """What tells this source from a changed one, ready for JSON; None where nothing does,
        since it cannot be read a second time."""
        return None

    def files(self) -> Sequence[Path]:
        """The files that are read, in order; empty where there are none."""
        return ()

    def digest(self) -> str | None:
        """SHA-256 of the files, in lower-case hex; None where there are none. Reads them all.

        Raises OSError.
        """
        return None

    def open_audio(self, tracks: Sequence[AudioTrack]) -> AudioSource:
        """Its sound, ``tracks`` of it. Raises SourceError where it has none."""
        raise SourceError(f"{self}: no sound can be read from it ({len(tracks)} tracks wanted)")

    def identity_for(self, option: str) -> list[list[Any]]:
        """``identity`` for an option that compares it with that of another run.

        Raises UsageError where there is none.
        """
        found = self.identity()
        if found is None:
            raise UsageError(
                f"{option} needs a source that can be read again, and {self.name} is not a file:"
                f" save it to a file first, or leave {option} out"
            )
        return found


def sha256_of(path: Path) -> str:
    """Lower-case hex SHA-256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_all(files: Iterable[Path]) -> str:
    """SHA-256 of the digests and names of several files, in order. Raises OSError."""
    lines = [f"{sha256_of(file)}  {file.name}\n" for file in files]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

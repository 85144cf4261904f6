"""Where frames come from: one small class that every kind of input implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream

from vidmatte.core import timecode
from vidmatte.core.frame import Clip
from vidmatte.core.source import (
    AudioSource,
    AudioTrack,
    Source,
    sha256_of,
    sha256_of_all,
    state_of,
)
from vidmatte.media.demux import open_media
from vidmatte.readers.movie.packets import packets_from
from vidmatte.readers.movie.timing import Timing
from vidmatte.settings.points import SourcePoints, Trim


@dataclass(slots=True)
class DecodedPicture:
    """One decoded picture: the source's pixels, upright, with its pts and duration.

    ``pts`` and ``duration`` are in units of the clip's ``time_base``, zero at ``clip.origin``.
    ``source_index``: which picture of the source it is, counted from the in point, where a
    picture may be repeated or dropped; None where each comes once, in order.
    """

    pixels: av.VideoFrame
    pts: int
    duration: int
    name: str | None = None
    source_index: int | None = None


class Reader(ABC):
    """A clip that can be read once, from its first frame to its last.

    ``clip.source`` answers for what is behind it besides frames: name, files, identity,
    checksum and sound packets. A reader of files takes ``FileSource``; one without files
    makes its own ``Source``, whose sound packets may be those demuxed beside the frames.
    ``points`` turns points in time into frame numbers of the source; None where it cannot.
    """

    clip: Clip
    points: SourcePoints | None = None
    #: Seconds of the source before the clip's first frame; None for those at the clip's rate.
    skipped: Fraction | None = None

    @abstractmethod
    def pictures(self) -> Iterator[DecodedPicture]:
        """The pictures in display order, ``clip.frame_count`` of them where that is known.

        Each picture's ``pixels`` are in ``clip.working_format``, upright, with the
        resolved matrix and range set; the caller may keep them.
        Raises SourceError where the file ends early or does not decode.
        """

    def pictures_from(self, index: int, pts: int) -> Iterator[DecodedPicture]:  # noqa: ARG002
        """The pictures from number ``index`` on, whose time is ``pts``.

        The same pictures as those of ``pictures``; readers that can seek need not
        decode the ones before.
        """
        yield from islice(self.pictures(), index, None)

    def pictures_at(self, number: int) -> Iterator[DecodedPicture]:
        """The pictures from frame ``number`` of the source on, as --in counts them; may be called
        again when an earlier iterator is closed. Readers that can seek need not decode the ones
        before. A source of variable rate has its numbers where it was opened with an in point.
        """
        yield from islice(self.pictures(), number - self.clip.first_frame, None)

    @property
    def warnings(self) -> list[str]:
        """What went wrong so far without ending the run, one line each; the run adds its own."""
        return []

    def cancel(self) -> None:  # noqa: B027 (files do not make anyone wait)
        """End a wait for pictures that have not come yet; safe from any thread."""

    def close(self) -> None:  # noqa: B027 (most readers hold nothing open)
        """Close files; safe to call twice."""

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FileSource(Source):
    """A file, or a folder of pictures.

    names: of the folder's pictures when it was opened, in order, those outside the in and out
    points too; empty for a file. sound: the file that its sound comes from (default: itself).
    """

    path: Path

    def __init__(self, path: Path, names: Sequence[str] = (), sound: Path | None = None) -> None:
        super().__init__(path.name, path)
        self._names = tuple(names)
        self._sound = sound or path
        self._opened = [state_of(file) for file in self.files()]

    def with_sound(self, sound: Path) -> FileSource:
        """The same source, its sound from another file."""
        return FileSource(self.path, self._names, sound)

    def identity(self) -> list[list[Any]]:
        """Absolute path, size and modification time (ns) of each file that exists."""
        return [
            [str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns]
            for file in self.files()
            if file.is_file()
        ]

    def has_changed(self) -> bool:
        """See ``Source.has_changed``."""
        return self._opened != [state_of(file) for file in self.files()]

    def files(self) -> Sequence[Path]:
        """See ``Source.files``."""
        return [self.path / name for name in self._names] if self._names else [self.path]

    def digest(self) -> str:
        """See ``Source.digest``; of a folder, ``sha256_of_all`` its pictures."""
        if not self._names:
            return sha256_of(self.path)
        return sha256_of_all(file for file in self.files() if file.is_file())

    def open_audio(self, tracks: Sequence[AudioTrack]) -> AudioSource:
        """See ``Source.open_audio``: the file is opened once more. Raises av.FFmpegError."""
        return _FileAudio(self._sound, tracks)


class _FileAudio(AudioSource):
    """The sound of a file, through a demuxer of its own, no farther than it is asked for."""

    def __init__(self, path: Path, tracks: Sequence[AudioTrack]) -> None:
        self._container = open_media(path, None)
        self._tracks = tracks

    def stream(self, index: int) -> AudioStream:
        stream = self._container.streams[index]
        assert isinstance(stream, AudioStream)
        return stream

    def packets(self, start: Fraction) -> Iterator[av.Packet | None]:
        if start > 0:  # to the key frame before
            self._container.seek(int(start * av.time_base))
        return packets_from(
            self._container, *(self._container.streams[track.index] for track in self._tracks)
        )

    def close(self) -> None:
        self._container.close()


def trimmed(clip: Clip, trim: Trim, timing: Timing) -> Clip:
    """The clip between its in and out points: origin, end and frame count adjusted."""
    count = clip.frame_count
    if count is not None:
        count = min(count, trim.end if trim.end is not None else count) - trim.first
    return replace(
        clip,
        frame_count=count,
        first_frame=trim.first,
        untrimmed_count=clip.frame_count,
        origin=timing.moment(trim.first) if trim.first else clip.origin,
        end=timing.moment(trim.end) if trim.end is not None else None,
    )


def moved_timecode(clip: Clip, trim: Trim) -> tuple[str | None, list[str]]:
    """The timecode at the in point, None where it is invalid at the rate, with a warning then."""
    return timecode.valid_or_dropped(
        clip.source.name,
        clip.timecode,
        lambda start: timecode.shifted(start, trim.first, clip.rate),
    )

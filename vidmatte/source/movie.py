"""Movies: any container and codec that FFmpeg reads, through PyAV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import dropwhile, islice
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from vidmatte import timecode
from vidmatte.errors import SourceError, UsageError
from vidmatte.frame import Clip
from vidmatte.settings import Settings
from vidmatte.source.base import Picture, Source
from vidmatte.source.deinterlace import Deinterlacer
from vidmatte.source.describe import describe, empty_track_notes
from vidmatte.source.pixels import Repacker
from vidmatte.source.timing import Timing, in_order, read_timing
from vidmatte.source.trim import Trim, make_trim

#: Containers with an index of key frames, in which a jump lands on one.
INDEXED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
#: Containers that time only some of their packets: after a jump the rest would be guessed.
GUESSING = {"mpeg"}
#: Frames that a jump goes back from the one that is wanted: no decoder holds back more than
#: the first, no filter looks farther; the next is for containers in which it missed.
JUMP_MARGINS = (32, 512)


class MovieSource(Source):
    """A movie file, decoded with FFmpeg's frame threading. Raises SourceError, UsageError."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._warnings: list[str] = []
        self._strict = settings.strict
        self._deinterlace = settings.deinterlace
        self._broken = 0
        self._reading = self._closed = False
        with open_container(path) as container:
            stream = picture_stream(container, path)
            first = first_frame(container, stream, path)
            self._size = (first.width, first.height)
            # The first frame took packets from the other container.
            with open_container(path) as unread, reading(path):
                self._timing = read_timing(
                    unread,
                    picture_stream(unread, path),
                    first.pts or 0,
                    numbered=bool(settings.in_point or settings.out_point or settings.resume),
                )
            check_complete(path, stream)
            clip = describe(path, container, stream, first, self._timing)
            if settings.audio:
                self._warnings += empty_track_notes(path, container)
        self._trim = make_trim(
            settings.in_point,
            settings.out_point,
            settings.handles,
            rate=clip.rate,
            start_timecode=clip.timecode,
            frame_count=clip.frame_count,
            frame_at=self._timing.frame_at,
        )
        self.clip = clip
        if self._trim:
            moved, warnings = moved_timecode(clip, self._trim)
            self._warnings += warnings
            self.clip = replace(trimmed(clip, self._trim, self._timing), timecode=moved)
        self._repack = Repacker(clip.working_format, clip.rotation, clip.colour)
        self._origin = int(self.clip.origin / self.clip.time_base)
        self._container = open_container(path)

    @property
    def warnings(self) -> list[str]:
        return self._warnings

    def close(self) -> None:
        self._closed = True
        if not self._reading:  # FFmpeg does not survive a close under a reading thread
            self._container.close()

    def pictures(self) -> Iterator[Picture]:
        """See ``Source.pictures``. At a constant rate the count is kept: a frame that did
        not decode is replaced by the one before it."""
        return self._placed(self._trim.first)

    def pictures_from(self, index: int, pts: int) -> Iterator[Picture]:
        """See ``Source.pictures_from``. Where the container knows its key frames the one
        well before ``pts`` is looked up; if the picture is not found so, all are decoded."""
        if index and self._container.format.name in INDEXED:
            stamp = (pts + self._origin) * self.clip.time_base / self._timing.stream_time_base
            found = self._placed(self._timing.frame_number(round(stamp)))
            first = next(found, None)
            if first is not None and first.pts == pts:
                yield first
                yield from found
                return
            self._reopen()
        yield from islice(self.pictures(), index, None)

    def _placed(self, number: int) -> Iterator[Picture]:
        """The wanted frames from ``number`` on, upright, each at its place in the output's
        time."""
        clip, timing = self.clip, self._timing
        origin = self._origin
        start = int(timing.moment(number) / clip.time_base) - origin
        last: Picture | None = None
        for frame in self._wanted(number):
            if (frame.width, frame.height) != self._size:
                raise SourceError(
                    f"{clip.path.name}: the picture size changes inside the clip from"
                    f" {self._size[0]}x{self._size[1]} to {frame.width}x{frame.height};"
                    " cut it there and matte the parts"
                )
            assert frame.pts is not None  # seen to in _between
            duration = frame.duration
            if clip.constant_rate or not duration:
                duration = timing.frame_duration
            pts = timing.grid_pts(frame.pts) - origin
            yield from self._repeats(last, start, pts)
            last = Picture(self._repack(frame), pts, duration)
            if pts >= start:
                yield last
        if clip.constant_rate and clip.frame_count is not None:
            end = timing.moment(self._trim.first + clip.frame_count)
            yield from self._repeats(last, start, int(end / clip.time_base) - origin)

    def _repeats(self, last: Picture | None, start: int, end: int) -> Iterator[Picture]:
        """Copies of the last good picture for what did not decode from ``start`` to ``end``."""
        if last is None or not self._broken or not self.clip.constant_rate:
            return
        step = self._timing.frame_duration
        for missing in range(max(last.pts + step, start), end, step):
            seconds = float(missing * self.clip.time_base)
            self._warnings.append(
                f"{self.clip.path.name}: the frame at {seconds:.2f} s is broken;"
                " the one before it stands in its place"
            )
            yield Picture(last.pixels, missing, step)

    def _wanted(self, number: int) -> Iterator[av.VideoFrame]:
        """The wanted frames from ``number`` on, by a jump if that lands early enough."""
        guessed = self._timing.shuffled or self._container.format.name in GUESSING
        for margin in JUMP_MARGINS:
            if number <= margin or guessed:
                continue
            found = self._between(number, self._frames(self._timing.moment(number - margin)))
            first = next(found, None)
            if first is not None and self._timing.frame_number(first.pts or 0) <= number:
                yield first
                yield from found
                return
            self._reopen()
        yield from self._between(number, self._frames(None))

    def _between(self, number: int, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Frames from ``number`` to the out point; if it is missing, the one before it first."""
        before: av.VideoFrame | None = None
        for frame in frames:
            if frame.pts is None:
                raise SourceError(f"{self.clip.path}: a frame has no time; remux the clip first")
            place = self._timing.frame_number(frame.pts)
            if self._trim.end is not None and place >= self._trim.end:
                break
            if place < number:
                before = frame
                continue
            if before is not None and place > number:
                yield before
            before = None
            yield frame
        if before is not None:
            yield before

    def _reopen(self) -> None:
        """Begin again at the start of the file."""
        self._container.close()
        self._container = open_container(self.clip.path)

    def _frames(self, start: Fraction | None) -> Iterator[av.VideoFrame]:
        """Whole frames in order: all, or from a key frame on, where the container can tell
        one at or before ``start`` (seconds of its timeline). Raises SourceError."""
        stream = picture_stream(self._container, self.clip.path)
        stream.thread_type = "AUTO"
        packets = packets_of(self._container, stream, self.clip.path)
        if start is not None:
            stamp = int(start / self._timing.stream_time_base)
            with reading(self.clip.path):
                self._container.seek(stamp, stream=stream, backward=True)
            packets = dropwhile(lambda packet: not packet.is_keyframe, packets)
        frames = self._decoded(packets)
        if self._timing.shuffled:
            frames = in_order(frames)
        if self._deinterlace == "bwdif" or (self._deinterlace == "auto" and self.clip.interlaced):
            everything = self._deinterlace == "bwdif"
            frames = Deinterlacer(self.clip.colour, everything=everything).frames(frames)
        return frames

    def _decoded(self, packets: Iterable[av.Packet]) -> Iterator[av.VideoFrame]:
        """Frames in order; packets that do not decode are passed over and counted.

        Decoders answer damage with any of FFmpeg's errors, "operation not permitted" too.
        """
        self._reading = True
        try:
            for packet in packets:
                try:
                    yield from packet.decode()
                except av.error.FFmpegError as error:
                    self._broken += 1
                    if self._strict:
                        raise SourceError(
                            f"{self.clip.path}: a packet does not decode ({error.strerror}), and"
                            " --strict is on: without it the frame before is repeated"
                        ) from error
        finally:
            self._reading = False
            if self._closed:
                self._container.close()


def first_frame(container: InputContainer, stream: VideoStream, path: Path) -> av.VideoFrame:
    """The first frame that decodes; only it tells format, range and rotation for sure."""
    try:
        for frame in container.decode(stream):
            return frame
    except av.error.FFmpegError as error:
        raise SourceError(f"{path}: it does not decode ({error.strerror})") from error
    raise SourceError(f"{path}: there is no frame in it")


def trimmed(clip: Clip, trim: Trim, timing: Timing) -> Clip:
    """The clip between its in and out points: time zero and count moved."""
    count = clip.frame_count
    if count is not None:
        count = min(count, trim.end if trim.end is not None else count) - trim.first
    return replace(
        clip,
        frame_count=count,
        first=trim.first,
        whole=clip.frame_count,
        origin=timing.moment(trim.first) if trim.first else clip.origin,
        until=timing.moment(trim.end) if trim.end is not None else None,
    )


def moved_timecode(clip: Clip, trim: Trim) -> tuple[str | None, list[str]]:
    """The timecode at the in point, none where it does not fit the rate, and a word on that."""
    if clip.timecode is None:
        return None, []
    try:
        return timecode.moved(clip.timecode, trim.first, clip.rate), []
    except UsageError as error:
        return None, [f"{clip.path.name}: its timecode is left out: {error}"]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what FFmpeg says while a file is read, not decoded, into SourceError."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise SourceError(
            f"{path}: reading it fails ({error.strerror}): is its drive still there, and the file"
            " whole? copy it again"
        ) from error


def packets_of(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[av.Packet]:
    """The packets of a stream, and an empty one at its end. Raises SourceError."""
    with reading(path):
        yield from container.demux(stream)


def open_container(path: Path) -> InputContainer:
    """Open a movie for reading. Raises SourceError."""
    try:
        return av.open(str(path.absolute()), metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise SourceError(
            f"{path}: not a movie that can be read ({error.strerror});"
            " is it complete, and a video file?"
        ) from error


def picture_stream(container: InputContainer, path: Path) -> VideoStream:
    """The main video stream; cover art does not count. Raises SourceError."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            if stream.codec_context is None:
                raise SourceError(f"{path}: no decoder for its video codec")
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    raise SourceError(f"{path}: there is no video in it (it holds: {kinds})")


def check_complete(path: Path, stream: VideoStream) -> None:
    """Raise SourceError when the container's index points past the end of the file."""
    size = path.stat().st_size
    entries = stream.index_entries
    whole = sum(1 for entry in entries if entry.pos + entry.size <= size)
    if whole < len(entries):
        raise SourceError(
            f"{path}: the file is cut short: {whole} of its {len(entries)} frames are there;"
            " copy it again, or remux what is there with ffmpeg -i IN -c copy OUT"
        )

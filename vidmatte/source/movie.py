"""Movies: any container and codec that FFmpeg reads, through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from vidmatte import timecode
from vidmatte.errors import SourceError
from vidmatte.frame import Clip
from vidmatte.settings import Settings
from vidmatte.source.base import Picture, Source
from vidmatte.source.deinterlace import Deinterlacer
from vidmatte.source.describe import describe
from vidmatte.source.pixels import Repacker
from vidmatte.source.timing import Timing, read_timing
from vidmatte.source.trim import Trim, make_trim

#: Containers with an index of key frames, in which a jump lands on one.
INDEXED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
JUMP_MARGIN = 32  # frames: no decoder holds back more, no filter looks farther


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
            with open_container(path) as unread:  # the first frame took packets from the other
                self._timing = read_timing(unread, picture_stream(unread, path), first.pts or 0)
            check_complete(path, stream)
            clip = describe(path, container, stream, first, self._timing)
        self._trim = make_trim(
            settings.in_point,
            settings.out_point,
            settings.handles,
            rate=clip.rate,
            start_timecode=clip.timecode,
            frame_count=clip.frame_count,
        )
        self.clip = trimmed(clip, self._trim, self._timing) if self._trim else clip
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
        return self._placed(self._wanted())

    def pictures_from(self, index: int, pts: int) -> Iterator[Picture]:
        """See ``Source.pictures_from``. Where the container knows its key frames the one
        well before ``pts`` is looked up; if the picture is not found so, all are decoded."""
        if index and self._container.format.name in INDEXED:
            found = self._placed(self._wanted_from(index, pts))
            first = next(found, None)
            if first is not None and first.pts == pts:
                yield first
                yield from found
                return
            self._container.close()
            self._container = open_container(self.clip.path)
        yield from islice(self.pictures(), index, None)

    def _placed(self, frames: Iterator[av.VideoFrame]) -> Iterator[Picture]:
        """The frames, upright, each at its place in the output's time."""
        clip, timing = self.clip, self._timing
        origin = self._origin
        last: Picture | None = None
        for frame in frames:
            if (frame.width, frame.height) != self._size:
                raise SourceError(
                    f"{clip.path.name}: the picture size changes inside the clip from"
                    f" {self._size[0]}x{self._size[1]} to {frame.width}x{frame.height};"
                    " cut it there and matte the parts"
                )
            if frame.pts is None:
                raise SourceError(f"{clip.path}: a frame has no time; remux the clip first")
            duration = frame.duration
            if clip.constant_rate or not duration:
                duration = timing.frame_duration
            pts = timing.grid_pts(frame.pts) - origin
            yield from self._repeats(last, pts)
            last = Picture(self._repack(frame), pts, duration)
            yield last
        if last is not None and clip.frame_count is not None:
            step = timing.frame_duration
            first = self._trim.first * step + timing.grid_pts(timing.first) - origin
            yield from self._repeats(last, first + clip.frame_count * step)

    def _repeats(self, last: Picture | None, pts: int) -> Iterator[Picture]:
        """Copies of the last good picture for what did not decode before ``pts``."""
        if last is None or not self._broken or not self.clip.constant_rate:
            return
        step = self._timing.frame_duration
        for missing in range(last.pts + step, pts, step):
            seconds = float(missing * self.clip.time_base)
            self._warnings.append(
                f"{self.clip.path.name}: the frame at {seconds:.2f} s is broken;"
                " the one before it stands in its place"
            )
            yield Picture(last.pixels, missing, step)

    def _wanted(self) -> Iterator[av.VideoFrame]:
        """The frames between the in and out points, from the key frame before them."""
        trim, timing = self._trim, self._timing
        start = None
        if trim.first and self.clip.constant_rate:
            start = timing.first + round(trim.first / (timing.rate * timing.stream_time_base))
        for number, frame in enumerate(self._frames(start)):
            # Counted from the first frame where there was no jump, else told by its time.
            place = number if start is None else timing.frame_number(frame.pts or 0)
            if trim.end is not None and place >= trim.end:
                return
            if place >= trim.first:
                yield frame

    def _wanted_from(self, index: int, pts: int) -> Iterator[av.VideoFrame]:
        """The wanted frames from number ``index`` on, which is the first at ``pts`` or later."""
        trim, timing = self._trim, self._timing
        seconds = (pts + self._origin) * self.clip.time_base - JUMP_MARGIN / timing.rate
        before = max(timing.first, round(seconds / timing.stream_time_base))
        place = trim.first + index
        for frame in self._frames(before):
            if frame.pts is not None and timing.grid_pts(frame.pts) - self._origin < pts:
                continue
            if self.clip.constant_rate and trim.first:
                place = timing.frame_number(frame.pts or 0)
            if trim.end is not None and place >= trim.end:
                return
            yield frame
            place += 1

    def _frames(self, start: int | None) -> Iterator[av.VideoFrame]:
        """Whole frames in order, all or from a key frame at or before ``start``."""
        stream = picture_stream(self._container, self.clip.path)
        stream.thread_type = "AUTO"
        if start is not None:
            self._container.seek(start, stream=stream, backward=True)
        frames = self._decoded(stream)
        if self._deinterlace == "bwdif" or (self._deinterlace == "auto" and self.clip.interlaced):
            everything = self._deinterlace == "bwdif"
            frames = Deinterlacer(self.clip.colour, everything=everything).frames(frames)
        return frames

    def _decoded(self, stream: VideoStream) -> Iterator[av.VideoFrame]:
        """Frames in order; packets that do not decode are passed over and counted."""
        self._reading = True
        try:
            for packet in self._container.demux(stream):
                try:
                    yield from packet.decode()
                except av.error.InvalidDataError as error:
                    self._broken += 1
                    if self._strict:
                        raise SourceError(
                            f"{self.clip.path}: a packet does not decode, and --strict is on"
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
    """The clip between its in and out points: time zero, count and timecode moved."""
    count = clip.frame_count
    if count is not None:
        count = min(count, trim.end if trim.end is not None else count) - trim.first
    start = timing.first * timing.stream_time_base
    return replace(
        clip,
        frame_count=count,
        origin=start + trim.first / timing.rate if trim.first else clip.origin,
        until=start + trim.end / timing.rate if trim.end is not None else None,
        timecode=timecode.moved(clip.timecode, trim.first, clip.rate) if clip.timecode else None,
    )


def open_container(path: Path) -> InputContainer:
    """Open a movie for reading. Raises SourceError."""
    try:
        return av.open(str(path), metadata_errors="replace")
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

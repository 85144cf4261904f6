"""Movies: any container and codec that FFmpeg reads, through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import dropwhile, islice
from pathlib import Path
from threading import RLock

import av

from vidmatte.errors import SourceError
from vidmatte.settings import Settings
from vidmatte.source.base import Picture, Source
from vidmatte.source.movie.decode import GUESSING, Reader
from vidmatte.source.movie.deinterlace import Deinterlacer, check_size, is_wanted
from vidmatte.source.movie.describe import (
    describe,
    empty_track_notes,
    uncarried_notes,
    with_timecode_checked,
)
from vidmatte.source.movie.opened import (
    check_complete,
    first_frame,
    open_container,
    picture_stream,
    reading,
)
from vidmatte.source.movie.stated import short_of_stated
from vidmatte.source.movie.timing import in_order, read_timing
from vidmatte.source.movie.untimed import all_timed, in_turn
from vidmatte.source.pixels import Repacker
from vidmatte.source.trim import make_trim, moved_timecode, trimmed

#: Containers with an index of key frames, in which a jump lands on one.
INDEXED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
#: Frames that a jump goes back from the one that is wanted: no decoder holds back more than
#: the first, no filter looks farther; the next is for containers in which it missed.
JUMP_MARGINS = (32, 512)
#: Frames read before the first wanted one. A gap counts as a lost frame only once two frames in
#: a row were one frame interval apart, so without them a gap right at the start would be missed.
STEADY_AFTER = 2


class MovieSource(Source):
    """A movie file, decoded with FFmpeg's frame threading. Raises SourceError, UsageError."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._warnings: list[str] = []
        self._strict = settings.strict
        self._deinterlace = settings.deinterlace
        self._broken = 0
        self._readers, self._closed = 0, False
        self._closing = RLock()  # a collector of garbage may close it in a thread that has it
        with open_container(path) as container:
            stream = picture_stream(container, path)
            first, began = first_frame(container, stream, path)
            self._size = (first.width, first.height)
            # The first frame took packets from the other container.
            with open_container(path) as unread, reading(path):
                self._timing = read_timing(
                    unread,
                    picture_stream(unread, path),
                    began,
                    numbered=bool(settings.in_point or settings.out_point or settings.resume),
                )
            check_complete(path, stream)
            clip = describe(path, container, stream, first, self._timing)
            if is_wanted(self._deinterlace, clip):
                check_size(path.name, first)
            clip, warnings = with_timecode_checked(clip)
            self._warnings += warnings
            if settings.audio:
                self._warnings += empty_track_notes(path, container)
            self._warnings += uncarried_notes(path, container)
            short = short_of_stated(path, container, stream, self._timing)
        self._trim = make_trim(
            settings.in_point,
            settings.out_point,
            settings.handles,
            rate=clip.rate,
            start_timecode=clip.timecode,
            frame_count=clip.frame_count,
            frame_at=self._timing.frame_at,
        )
        if short and self._trim.end is None:  # up to an out point all is there
            if self._strict:
                raise SourceError(
                    f"{path}: {short}, and --strict is on: copy the file again, or go without it"
                )
            self._warnings.append(f"{path.name}: {short}: is it whole? copy it again")
        self.clip = clip
        if self._trim:
            moved, warnings = moved_timecode(clip, self._trim)
            self._warnings += warnings
            self.clip = replace(trimmed(clip, self._trim, self._timing), timecode=moved)
        self._repack = Repacker(clip.working_format, clip.orientation, clip.colour)
        self._origin = int(self.clip.origin / self.clip.time_base)
        self._reader = Reader(path, self._timing, self._tell_broken)

    @property
    def warnings(self) -> list[str]:
        return self._warnings

    def close(self) -> None:
        with self._closing:
            self._closed = True
            self._let_go()

    def _let_go(self) -> None:
        if self._closed and not self._readers:  # FFmpeg survives no close under a reader
            self._reader.close()

    def _held(self, pictures: Iterator[Picture]) -> Iterator[Picture]:
        """The pictures; a source that is closed before their end is closed at their end."""
        with self._closing:
            if self._closed:
                raise SourceError(f"{self.clip.path}: it was closed: open it again")
            self._readers += 1
        try:
            yield from pictures
        finally:
            with self._closing:
                self._readers -= 1
                self._let_go()

    def pictures(self) -> Iterator[Picture]:
        """See ``Source.pictures``. At a constant rate the count is kept: a frame that did
        not decode is replaced by the one before it."""
        return self._held(self._placed(self._trim.first))

    def pictures_from(self, index: int, pts: int) -> Iterator[Picture]:
        """See ``Source.pictures_from``. Where the container knows its key frames the one
        well before ``pts`` is looked up; if the picture is not found so, all are decoded."""
        return self._held(self._sought(index, pts))

    def _sought(self, index: int, pts: int) -> Iterator[Picture]:
        if index and self._reader.container.format.name in INDEXED:
            stamp = (pts + self._origin) * self.clip.time_base / self._timing.stream_time_base
            found = self._placed(self._timing.frame_number(round(stamp)))
            first = next(found, None)
            if first is not None and first.pts == pts:
                yield first
                yield from found
                return
            self._reader.reopen()
        yield from islice(self.pictures(), index, None)

    def _placed(self, number: int) -> Iterator[Picture]:
        """The wanted frames from ``number`` on, upright, each at its place in the output's
        time."""
        clip, timing = self.clip, self._timing
        origin = self._origin
        start = int(timing.moment(number) / clip.time_base) - origin
        last: Picture | None = None
        is_steady = False  # never where each field has a packet: every other gives no frame
        for frame in self._wanted(max(0, number - STEADY_AFTER)):
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
            picture = Picture(self._repack(frame), pts, duration)
            if self._broken or is_steady:
                yield from self._repeats(last, start, pts, picture)
            is_steady |= last is not None and pts - last.pts == timing.frame_duration
            last = picture
            if pts >= start:
                if frame.is_corrupt:
                    self._tell_damage(pts)
                yield last
        if self._broken and clip.constant_rate and clip.frame_count is not None:
            end = timing.moment(self._trim.first + clip.frame_count)
            yield from self._repeats(last, start, int(end / clip.time_base) - origin)

    def _repeats(
        self, last: Picture | None, start: int, end: int, after: Picture | None = None
    ) -> Iterator[Picture]:
        """Copies of the last good picture for what did not decode from ``start`` to ``end``;
        at the clip's beginning, where there is none, of the first, which comes ``after``.
        Raises SourceError if strict."""
        shown = last or after
        if shown is None or not self.clip.constant_rate:
            return
        step = self._timing.frame_duration
        for missing in range(max(last.pts + step, start) if last else start, end, step):
            what = f"the frame at {float(missing * self.clip.time_base):.2f} s is broken"
            place = f"the one {'before' if last else 'after'} it stands in its place"
            if self._strict:  # of a decoder that has said nothing
                raise SourceError(
                    f"{self.clip.path}: {what}, and --strict is on: without it {place}"
                )
            self._warnings.append(f"{self.clip.path.name}: {what}; {place}")
            yield Picture(shown.pixels, missing, step)

    def _tell_damage(self, pts: int) -> None:
        """A frame that its decoder has patched up is told of. Raises SourceError if strict."""
        what = f"the frame at {float(pts * self.clip.time_base):.2f} s is damaged"
        if self._strict:
            raise SourceError(
                f"{self.clip.path}: {what}, and --strict is on: without it the frame is taken as"
                " its decoder patched it up"
            )
        self._warnings.append(
            f"{self.clip.path.name}: {what}; its decoder has patched it up, and what it spoilt"
            " may show in the frames after it"
        )

    def _wanted(self, number: int) -> Iterator[av.VideoFrame]:
        """The wanted frames from ``number`` on, by a jump if that lands early enough."""
        guessed = self._timing.shuffled or self._reader.container.format.name in GUESSING
        for margin in JUMP_MARGINS:
            if number <= margin or guessed:
                continue
            found = self._between(number, self._frames(self._timing.moment(number - margin)))
            first = next(found, None)
            if first is not None and self._timing.frame_number(first.pts or 0) <= number:
                yield first
                yield from found
                return
            self._reader.reopen()
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

    def _tell_broken(self, reason: str) -> None:
        """A packet that does not decode is counted. Raises SourceError if strict."""
        self._broken += 1
        if self._strict:
            raise SourceError(
                f"{self.clip.path}: a packet does not decode ({reason}), and --strict is on:"
                " without it the frame before is repeated"
            )

    def _frames(self, start: Fraction | None) -> Iterator[av.VideoFrame]:
        """Whole frames in order: all, or from a key frame on, where the container can tell
        one at or before ``start`` (seconds of its timeline). Raises SourceError."""
        frames = self._reader.frames(start)
        frames = in_order(frames) if self._timing.shuffled else self._in_turn(frames)
        if self._timing.constant and not self._timing.shuffled:
            count = self._timing.frame_count or 0  # none where no frame bears a time
            frames = all_timed(frames, count, self._timing.frame_number, self._told_stamp)
            if start is not None:  # what a jump lands on may follow a frame that is not seen
                frames = dropwhile(lambda frame: frame.pts is None, frames)
        if is_wanted(self._deinterlace, self.clip):
            everything = self._deinterlace == "bwdif"
            frames = Deinterlacer(self.clip.colour, everything=everything).frames(frames)
        return frames

    def _in_turn(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """The frames; one that bears the time of another bears none at a constant rate, and is
        left out at a variable one, where there is no place for it. That is told."""
        for frame, follows in in_turn(frames, lambda frame: frame.pts):
            if not follows:
                assert frame.pts is not None
                where = float(frame.pts * self._timing.stream_time_base - self.clip.origin)
                line = (
                    f"{self.clip.path.name}: a frame bears a time that is another's or out of"
                    f" order ({where:.2f} s);"
                )
                if not self._timing.constant:
                    self._warnings.append(f"{line} it is left out")
                    continue
                self._warnings.append(f"{line} it takes the next place if that is free")
                frame.pts = None
                self._broken += 1  # its place may stay free
            yield frame

    def _told_stamp(self, number: int) -> int:
        """The pts of frame ``number``, which bears none; that is told."""
        seconds = float(self._timing.moment(number) - self.clip.origin)
        line = (
            f"{self.clip.path.name}: the frame at {seconds:.2f} s bears no time;"
            " it takes its place after the one before"
        )
        if number >= self._trim.first and line not in self._warnings:
            self._warnings.append(line)
        return round(self._timing.moment(number) / self._timing.stream_time_base)

"""Movies, through FFmpeg and PyAV: the containers of ``media.demux``, any codec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import dropwhile, islice
from pathlib import Path
from threading import RLock

import av

from vidmatte.core.frame import Clip
from vidmatte.errors import SourceError
from vidmatte.pixels.formats import Repacker
from vidmatte.readers.base import DecodedPicture, FileSource, Reader, moved_timecode, trimmed
from vidmatte.readers.movie.changing_tags import TagFollower
from vidmatte.readers.movie.container import MovieFile, check_duration, first_frame
from vidmatte.readers.movie.decode import PacketDecoder
from vidmatte.readers.movie.deinterlace import Deinterlacer, check_size, is_wanted
from vidmatte.readers.movie.describe import describe, opening_notes, with_timecode_checked
from vidmatte.readers.movie.missing_timestamps import (
    in_display_order,
    in_order,
    with_all_timestamps,
    without_late,
)
from vidmatte.readers.movie.sound_tracks import sound_of
from vidmatte.readers.movie.timing import Timing, read_timing
from vidmatte.settings import Settings
from vidmatte.settings.points import SourcePoints, make_trim
from vidmatte.settings.values import parse_rate, stated_colour

#: Containers with an index of key frames, in which a seek lands on one.
_INDEXED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
#: Frames before the wanted one that a seek aims at: no decoder delays more frames than the
#: first value, no filter looks further back; the second is for containers where that missed.
_SEEK_MARGINS = (32, 512)
#: Frames read before the first wanted one: a gap counts as a lost frame only once two frames in
#: a row were one frame interval apart.
_STEADY_AFTER = 2


class MovieReader(Reader):
    """A movie file, decoded with FFmpeg's frame threading. Raises SourceError, UsageError."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._warnings: list[str] = []
        self._strict = settings.strict
        self._deinterlace = settings.deinterlace
        self._damaged = 0  # packets and frames: some frames may be missing
        self._active, self._closed = 0, False
        self._lock = RLock()  # the garbage collector may close it in the thread that holds it
        self._file = MovieFile(path, settings.video_track, settings.max_pixels)
        self._size, self._timing, clip, shortage = self._probe(path, settings)
        self.points = SourcePoints(
            clip.rate, clip.timecode, clip.frame_count, self._timing.frame_at
        )
        self._trim = make_trim(self.points, settings.in_point, settings.out_point, settings.handles)
        if shortage and self._trim.end is None:  # up to an out point nothing is missing
            if self._strict:
                again = "copy the file again, or omit --strict"
                raise SourceError(f"{path}: {shortage}; --strict stops here: {again}")
            self._warnings.append(f"{path.name}: {shortage}: is it complete? copy it again")
        self.clip = clip
        if self._trim:
            moved, warnings = moved_timecode(clip, self._trim)
            self._warnings += warnings
            self.clip = replace(trimmed(clip, self._trim, self._timing), timecode=moved)
        self._repack = Repacker(clip.working_format, clip.orientation, clip.colour)
        self._follow_tags = TagFollower(clip, settings.colour, self._warnings)
        self.skipped = self._timing.moment(self._trim.first) - self._timing.moment(0)
        self._origin = int(self.clip.origin / self.clip.time_base)
        self._decoder = PacketDecoder(self._file, self._timing, self._count_undecodable)

    def _probe(
        self, path: Path, settings: Settings
    ) -> tuple[tuple[int, int], Timing, Clip, str | None]:
        """The stored frame size (width, height), the timing and the untrimmed clip of a file,
        and what ``check_duration`` says of it. Raises SourceError, UsageError."""
        timing = read_timing(
            self._file,
            numbered=bool(settings.in_point or settings.out_point or settings.resume),
            fps=None if settings.fps is None else parse_rate(settings.fps),
        )
        with self._file.open() as container:
            stream = self._file.stream(container)
            first, first_pts = first_frame(container, stream, path, timing)
            timing = timing.beginning(first_pts)
            sound = sound_of(path, settings)
            stated = stated_colour(settings.colour, path.name, first.format.is_rgb)
            clip = describe(FileSource(path), container, stream, first, timing, sound, stated)
            if is_wanted(self._deinterlace, clip):
                check_size(path.name, first)
            clip, warnings = with_timecode_checked(clip)
            self._warnings += warnings
            notes = opening_notes(container, clip, timing, settings, first)
            self._warnings += [*(sound.notes if settings.audio else ()), *notes]
            shortage = timing.shortage or check_duration(self._file, container, stream, timing)
        return (first.width, first.height), timing, clip, shortage

    @property
    def warnings(self) -> list[str]:
        return self._warnings

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._closed and not self._active:  # FFmpeg crashes if closed while it decodes
            self._decoder.close()

    def _while_open(self, pictures: Iterator[DecodedPicture]) -> Iterator[DecodedPicture]:
        """The pictures; if the reader is closed before the last one, the file closes after it."""
        with self._lock:
            if self._closed:
                raise SourceError(f"{self.clip.source}: the reader is closed: open the file again")
            self._active += 1
        try:
            yield from pictures
        finally:
            with self._lock:
                self._active -= 1
                self._close_if_idle()

    def pictures(self) -> Iterator[DecodedPicture]:
        """See ``Reader.pictures``. At a constant rate the frame count is kept: a frame that did
        not decode is replaced by the one before it."""
        return self._while_open(self._timed(self._trim.first))

    def pictures_from(self, index: int, pts: int) -> Iterator[DecodedPicture]:
        """See ``Reader.pictures_from``. Containers with an index are searched for a key frame well
        before ``pts``; if that does not find the picture, all are decoded."""
        return self._while_open(self._seek(index, pts))

    def pictures_at(self, number: int) -> Iterator[DecodedPicture]:
        """See ``Reader.pictures_at``."""
        self._decoder.reopen()  # an earlier call may have read to any place
        return self._while_open(self._timed(number))

    def _seek(self, index: int, pts: int) -> Iterator[DecodedPicture]:
        if index and self._decoder.container.format.name in _INDEXED:
            stamp = (pts + self._origin) * self.clip.time_base / self._timing.stream_time_base
            found = self._timed(self._timing.frame_number(round(stamp)))
            first = next(found, None)
            if first is not None and first.pts == pts:
                yield first
                yield from found
                return
            self._decoder.reopen()
        yield from islice(self.pictures(), index, None)

    def _timed(self, number: int) -> Iterator[DecodedPicture]:
        """The frames from ``number`` to the out point, upright, with the output's pts."""
        clip, timing = self.clip, self._timing
        origin = self._origin
        start = int(timing.moment(number) / clip.time_base) - origin
        last: DecodedPicture | None = None
        is_regular = False  # never where each field is a packet: every other gives no frame
        for frame in self._frames_from(max(0, number - _STEADY_AFTER)):
            if (frame.width, frame.height) != self._size:
                raise SourceError(
                    f"{clip.source.name}: the picture size changes inside the clip from"
                    f" {self._size[0]}x{self._size[1]} to {frame.width}x{frame.height};"
                    " cut it there and matte the parts separately"
                )
            assert frame.pts is not None  # checked in _between
            duration = frame.duration
            if clip.constant_rate or not duration:
                duration = timing.frame_duration
            pts = timing.grid_pts(frame.pts) - origin
            if last is not None and pts <= last.pts:  # half a frame late, of a damaged packet
                self._damaged += 1
                continue
            alike = self._follow_tags(frame, float(pts * clip.time_base))
            picture = DecodedPicture(self._repack(alike), pts, duration)
            if self._damaged or is_regular:
                yield from self._repeats(last, start, pts, picture)
            is_regular |= last is not None and pts - last.pts == timing.frame_duration
            last = picture
            if pts >= start:
                if frame.is_corrupt:
                    self._note_concealed(pts)
                yield last
        if self._damaged and clip.constant_rate and clip.frame_count is not None:
            end = timing.moment(self._trim.first + clip.frame_count)
            yield from self._repeats(last, start, int(end / clip.time_base) - origin)

    def _repeats(
        self, last: DecodedPicture | None, start: int, end: int, after: DecodedPicture | None = None
    ) -> Iterator[DecodedPicture]:
        """Copies of the last good picture for frames that did not decode, from ``start`` to
        ``end``; before the first good one, of that, ``after``. Raises SourceError if strict."""
        shown = last or after
        if shown is None or not self.clip.constant_rate:
            return
        step = self._timing.frame_duration
        for missing in range(max(last.pts + step, start) if last else start, end, step):
            what = f"the frame at {float(missing * self.clip.time_base):.2f} s does not decode"
            used = f"the {'previous' if last else 'next'} frame is repeated in its place"
            if self._strict:  # the decoder reported no error
                raise SourceError(
                    f"{self.clip.source}: {what}; --strict stops here: without it {used}"
                )
            self._warnings.append(f"{self.clip.source.name}: {what}; {used}")
            yield DecodedPicture(shown.pixels, missing, step)

    def _note_concealed(self, pts: int) -> None:
        """Warn of a frame whose decoder concealed errors in it. Raises SourceError if strict."""
        what = f"the frame at {float(pts * self.clip.time_base):.2f} s is damaged"
        if self._strict:
            raise SourceError(
                f"{self.clip.source}: {what}; --strict stops here: without it the frame is used"
                " with the errors that its decoder concealed"
            )
        self._warnings.append(
            f"{self.clip.source.name}: {what}; the decoder concealed errors; later frames may be"
            " affected"
        )

    def _frames_from(self, number: int) -> Iterator[av.VideoFrame]:
        """The frames from ``number`` to the out point, by seeking if that lands early enough."""
        for margin in _SEEK_MARGINS:
            if number <= margin or not self._decoder.can_seek:
                continue
            found = self._between(number, self._frames(self._timing.moment(number - margin)))
            first = next(found, None)
            if first is not None and self._timing.frame_number(first.pts or 0) <= number:
                yield first
                yield from found
                return
            self._decoder.reopen()
        yield from self._between(number, self._frames(None))

    def _between(self, number: int, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Frames from ``number`` to the out point; if that one is missing, after the one
        before it."""
        before: av.VideoFrame | None = None
        for frame in frames:
            if frame.pts is None:
                raise SourceError(
                    f"{self.clip.source}: a frame has no timestamp: remux the clip first"
                )
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

    def _count_undecodable(self, reason: str) -> None:
        """Count a packet that does not decode. Raises SourceError if strict."""
        self._damaged += 1
        if self._strict:
            raise SourceError(
                f"{self.clip.source}: a packet does not decode ({reason}); --strict stops"
                " here: without it the previous frame is repeated"
            )

    def _frames(self, start: Fraction | None) -> Iterator[av.VideoFrame]:
        """Progressive frames in display order: all, or from a key frame at or before ``start``
        (seconds of the container's timeline) where the container has one.
        Raises SourceError."""
        frames, timing = self._decoder.frames(start), self._timing
        if timing.is_reordered:
            frames = in_order(without_late(frames, timing.last_pts, dropped=True))
        else:
            frames = self._in_order(frames)
            frames = without_late(frames, timing.last_pts, dropped=not timing.constant)
        if timing.constant and not timing.is_reordered:
            count = timing.frame_count or 0  # none where no frame has a timestamp
            frames = with_all_timestamps(frames, count, timing.frame_number, self._filled_pts)
            if start is not None:  # a seek may land after a frame that it cannot see
                frames = dropwhile(lambda frame: frame.pts is None, frames)
        if is_wanted(self._deinterlace, self.clip):
            all_frames = self._deinterlace == "bwdif"
            frames = Deinterlacer(self._follow_tags.tags_of, all_frames=all_frames).frames(frames)
        return frames

    def _in_order(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """The frames without duplicate and out-of-order timestamps: at a constant rate such a
        frame loses its timestamp, at a variable rate it is dropped. Each gives a warning."""
        for frame, follows in in_display_order(frames, lambda frame: frame.pts):
            if not follows:
                assert frame.pts is not None
                where = float(frame.pts * self._timing.stream_time_base - self.clip.origin)
                line = (
                    f"{self.clip.source.name}: duplicate or out-of-order timestamp at"
                    f" {where:.2f} s:"
                )
                if not self._timing.constant:
                    self._warnings.append(f"{line} the frame is dropped")
                    continue
                self._warnings.append(f"{line} the frame takes the next position if it is free")
                frame.pts = None
                self._damaged += 1  # its position may stay empty
            yield frame

    def _filled_pts(self, number: int) -> int:
        """The pts of frame ``number``, which has no timestamp; warns of it once."""
        seconds = float(self._timing.moment(number) - self.clip.origin)
        line = (
            f"{self.clip.source.name}: the frame at {seconds:.2f} s has no timestamp:"
            " it is placed after the previous one"
        )
        if number >= self._trim.first and line not in self._warnings:
            self._warnings.append(line)
        return round(self._timing.moment(number) / self._timing.stream_time_base)

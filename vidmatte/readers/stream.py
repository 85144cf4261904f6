"""A clip from standard input: read once, from front to back, through FFmpeg's demuxers.

Y4M, NUT, Matroska, MPEG-TS and other containers that need no index; raw video, whose size, pixel
format and rate the options state; concatenated pictures, as of FFmpeg's image2pipe.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
from av.audio.stream import AudioStream

from vidmatte.core.source import AudioSource, AudioTrack, Source
from vidmatte.errors import SourceError, UsageError
from vidmatte.media.limits import check_frame
from vidmatte.media.pipe import PipeReader
from vidmatte.pixels.formats import Repacker
from vidmatte.readers.base import DecodedPicture, Reader, moved_timecode, trimmed
from vidmatte.readers.movie.changing_tags import TagFollower
from vidmatte.readers.movie.container import picture_stream
from vidmatte.readers.movie.deinterlace import Deinterlacer, check_size, is_wanted
from vidmatte.readers.movie.describe import describe, opening_notes, with_timecode_checked
from vidmatte.readers.movie.packets import RAW_STREAMS, packets_from
from vidmatte.readers.movie.sound_tracks import SoundTracks, stated_tracks
from vidmatte.readers.movie.timing import Timing
from vidmatte.readers.stream_options import NAME, check_options, open_pipe, trim_of
from vidmatte.settings import Settings
from vidmatte.settings.values import parse_numbers, parse_rate, stated_colour

_DEFAULT_RATE = Fraction(25)
#: Demuxers whose frames follow each other at one rate, which the stream or an option states.
_ONE_RATE = {"rawvideo", "yuv4mpegpipe"}


class StreamReader(Reader):
    """The clip that comes through ``file``, by default standard input.

    Raises SourceError, and UsageError for options that a stream cannot have, before it is read.
    """

    def __init__(self, settings: Settings, file: PipeReader | None = None) -> None:
        check_options(settings)
        if file is None:
            if sys.stdin is None or sys.stdin.isatty():
                raise SourceError("-: stdin is no pipe: pipe a clip into it, or name a file")
            file = PipeReader(0)
        self._file, self._settings = file, settings
        self._warnings: list[str] = []
        self._sound: deque[av.Packet] | None = deque()  # None where nobody takes it
        self._has_sound_reader, self._is_ended, self._is_cancelled = False, False, False
        self._frame_bytes = 0  # of raw video
        self._container = open_pipe(file, settings)
        try:
            self._open()
        except BaseException:
            self.close()
            file.check()
            raise

    def _open(self) -> None:
        settings, container = self._settings, self._container
        self._stream = picture_stream(container, Path(NAME), settings.video_track)
        self._stream.thread_type = "AUTO"
        kind = container.format.name
        is_picture = kind.endswith("_pipe")
        self._is_counted = is_picture or kind in RAW_STREAMS or kind in _ONE_RATE
        wanted = parse_numbers(settings.audio_tracks) if settings.audio_tracks else ()
        tracks = stated_tracks(NAME, container, wanted) if settings.audio else ()
        self._tracks = [container.streams[track.index] for track in tracks]
        decoded = self._decoded()
        first = next(decoded, None)
        self._file.check()
        if first is None:
            raise SourceError(f"{NAME}: no frame came: does the program before it still run?")
        timing = self._timing_of(first, is_rate_stated=kind in _ONE_RATE)
        second = next(decoded, None) if is_picture else None
        self._frames = chain([first], [] if second is None else [second], decoded)
        clip = describe(
            _StreamSource(self), container, self._stream, first, timing,
            SoundTracks(tracks, tracks), stated_colour(settings.colour, NAME, first.format.is_rgb),
        )  # fmt: skip
        if is_picture and second is None:
            clip = replace(clip, kind="picture", frame_count=1, output_names=(NAME,))
        elif self._is_counted and kind not in _ONE_RATE and settings.input_fps is None:
            self._warnings.append(f"{NAME}: it states no frame rate: using 25, or give --input-fps")
        if is_wanted(settings.deinterlace, clip):
            check_size(NAME, first)
        clip, warnings = with_timecode_checked(clip)
        self._warnings += [*warnings, *opening_notes(container, clip, timing, settings, first)]
        self._timing, self._size = timing, (first.width, first.height)
        self._trim = trim_of(timing, clip.timecode, settings)
        if self._trim:
            moved, warnings = moved_timecode(clip, self._trim)
            self._warnings += warnings
            clip = replace(trimmed(clip, self._trim, timing), timecode=moved, frame_count=None)
        self.clip = clip
        self._repack = Repacker(clip.working_format, clip.orientation, clip.colour)
        self._follow_tags = TagFollower(clip, settings.colour, self._warnings)

    def _timing_of(self, first: av.VideoFrame, *, is_rate_stated: bool) -> Timing:
        """How its frames are timed. Raises UsageError, SourceError."""
        stream, asked = self._stream, self._settings.input_fps
        rate = stream.average_rate or stream.guessed_rate or _DEFAULT_RATE
        if not self._is_counted:
            if asked is not None:
                raise UsageError(
                    f"--input-fps {asked}: {self._container.format.name} has its own times, which"
                    " --conform changes"
                )
            if first.pts is None:
                raise SourceError(f"{NAME}: a frame has no timestamp: send NUT or Y4M")
            unit = stream.time_base or Fraction(1, av.time_base)
            return Timing(rate, False, unit, unit, first.pts, None)
        if not is_rate_stated:
            rate = _DEFAULT_RATE
        rate = rate if asked is None else parse_rate(asked)
        return Timing(rate, True, 1 / rate, 1 / rate, 0, None)

    @property
    def warnings(self) -> list[str]:
        return self._warnings

    def cancel(self) -> None:
        """See ``Reader.cancel``."""
        self._is_cancelled = True
        self._file.cancel()

    def close(self) -> None:
        self.cancel()
        self._container.close()

    def pictures(self) -> Iterator[DecodedPicture]:
        """See ``Reader.pictures``. Raises SourceError where it ends in the middle of a frame."""
        if not self._has_sound_reader:
            self._sound = None
        clip, timing = self.clip, self._timing
        frames: Iterator[av.VideoFrame] = self._frames
        if is_wanted(self._settings.deinterlace, clip):
            all_frames = self._settings.deinterlace == "bwdif"
            frames = Deinterlacer(self._follow_tags.tags_of, all_frames=all_frames).frames(frames)
        origin, last = int(clip.origin / clip.time_base), -1
        for number, frame in enumerate(frames):
            if self._trim.end is not None and number >= self._trim.end:
                return
            if number < self._trim.first:
                continue
            self._check_size(frame)
            pts, duration = number, 1
            if not self._is_counted:
                if frame.pts is None:
                    raise SourceError(f"{NAME}: a frame has no timestamp: send NUT or Y4M")
                pts, duration = frame.pts, frame.duration or timing.frame_duration
            pts -= origin
            if pts <= last:
                self._warnings.append(
                    f"{NAME}: duplicate or out-of-order timestamp at"
                    f" {float(pts * clip.time_base):.2f} s: the frame is dropped"
                )
                continue
            last = pts
            alike = self._follow_tags(frame, float(pts * clip.time_base))
            yield DecodedPicture(self._repack(alike), pts, duration)

    def _check_size(self, frame: av.VideoFrame) -> None:
        if (frame.width, frame.height) != self._size:
            raise SourceError(
                f"{NAME}: the picture size changes from {self._size[0]}x{self._size[1]} to"
                f" {frame.width}x{frame.height}: send one size"
            )

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Its frames in order; what does not decode is left out, with a warning. Raises SourceError
        where that is the last packet."""
        failure: str | None = None  # of the packet before
        for packet in self._packets():
            if failure is not None and packet.size:
                self._warnings.append(f"{failure}: it is left out")
                failure = None
            try:
                frames = packet.decode()
            except MemoryError:  # FFmpeg's too; damage never raises it
                raise
            except av.error.FFmpegError as error:
                failure = f"{NAME}: a frame does not decode ({error.strerror})"
                if self._settings.strict:
                    raise SourceError(f"{failure}; --strict stops here") from error
                continue
            for frame in frames:
                assert isinstance(frame, av.VideoFrame)
                yield frame
        if failure is not None:
            self._break_off()

    def _packets(self) -> Iterator[av.Packet]:
        """The packets of the picture; those of the sound are set aside. Raises SourceError."""
        is_png = self._stream.codec_context.name == "png"
        end = 0
        try:
            for packet in packets_from(self._container, self._stream, *self._tracks):
                if packet.stream is not self._stream:
                    if self._sound is not None and packet.size:
                        self._sound.append(packet)
                    continue
                if is_png and packet.size:
                    check_frame(Path(NAME), bytes(packet))
                if packet.size and packet.pos is not None:
                    end = packet.pos + packet.size
                self._check_complete(packet, end)
                yield packet
        except av.error.FFmpegError as error:
            self._file.check()
            raise SourceError(f"{NAME}: it cannot be read on ({error.strerror})") from error
        finally:
            self._is_ended = True
        self._file.check()

    def _check_complete(self, packet: av.Packet, end: int) -> None:
        """Raise SourceError where the stream breaks off in the middle of a frame. end: of the last
        packet in the stream, in bytes."""
        kind = self._container.format.name
        is_short = packet.size and packet.is_corrupt
        if kind == "rawvideo" and packet.size:
            self._frame_bytes = self._frame_bytes or packet.size
            is_short = packet.size < self._frame_bytes
        if kind == "yuv4mpegpipe" and not packet.size:
            is_short = end != self._file.position
        if is_short:
            self._break_off()

    def _break_off(self) -> None:
        """Raise SourceError, unless the run was cancelled."""
        if not self._is_cancelled:
            raise SourceError(
                f"{NAME}: it breaks off in the middle of a frame: the program before it has ended"
                " early"
            )


class _StreamSource(Source):
    """What is behind a StreamReader: its sound comes with its frames."""

    def __init__(self, reader: StreamReader) -> None:
        super().__init__(NAME)
        self._reader = reader

    def open_audio(self, tracks: Sequence[AudioTrack]) -> AudioSource:  # noqa: ARG002
        self._reader._has_sound_reader = True
        return _StreamSound(self._reader)


class _StreamSound(AudioSource):
    """The sound packets that were demuxed with the frames so far."""

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader

    def stream(self, index: int) -> AudioStream:
        stream = self._reader._container.streams[index]
        assert isinstance(stream, AudioStream)
        return stream

    def packets(self, start: Fraction) -> Iterator[av.Packet | None]:  # noqa: ARG002
        waiting = self._reader._sound
        while waiting is not None:
            is_ended = self._reader._is_ended  # before what has come is looked at
            if waiting:
                yield waiting.popleft()
            elif is_ended:
                return
            else:
                yield None

    def close(self) -> None:
        """The reader closes the stream."""

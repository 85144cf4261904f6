"""Movie outputs: frames encoded in parallel or in order, muxed with the source's sound."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path

import av
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vidmatte.core.frame import Clip, Frame, TimeSpan
from vidmatte.core.names import FRAME_NUMBER
from vidmatte.errors import OutputError, UsageError
from vidmatte.pixels.convert import set_tags
from vidmatte.writers.audio import AudioWriter
from vidmatte.writers.audio_tracks import Track
from vidmatte.writers.base import WriteResult, ffmpeg_errors_as
from vidmatte.writers.encoded_frame import EncodedFrame
from vidmatte.writers.encoders import (
    frame_colour,
    frame_encoder,
    set_up,
    stream_encoder,
)
from vidmatte.writers.format_spec import (
    EncoderSpec,
    Expected,
    FrameEncoder,
    StreamEncoder,
    output_colour,
)
from vidmatte.writers.output import Output, OutputSpec, partial_of
from vidmatte.writers.render.cutout import alpha_notes, check_fit, colour_notes
from vidmatte.writers.verify import verify_movie

#: Microseconds of video that the muxer may buffer to wait for sound. Its packets
#: are in order already; a longer wait would only keep frames in memory.
_INTERLEAVE = "250000"
_HALF = Fraction(1, 2)


class MovieOutput(Output):
    """One movie file. Intra-only codecs are encoded in the worker threads, others in
    order in the writing thread."""

    def __init__(self, spec: OutputSpec) -> None:
        super().__init__(spec)
        self._clip, self._row = spec.clip, spec.row
        self._rules = spec.row.movie
        self._colour = output_colour(spec.clip, spec.row)
        self._frames = 0
        self._first_pts = self._end = self._last_pts = 0
        self._bytes = 0
        self._container: av.container.OutputContainer | None = None
        self._sound: AudioWriter | None = None
        self._tracks: tuple[Track, ...] = ()
        self._ordered: StreamEncoder | None = None
        self._durations: dict[int, int] = {}  # by pts, for encoders that buffer frames

    @staticmethod
    def check(spec: OutputSpec) -> None:
        """Raise UsageError, OutputError for what this kind of output cannot hold."""
        out, clip = spec.out, spec.clip
        check_movie(spec)
        if FRAME_NUMBER.search(out.name):
            raise UsageError(
                f"{out.name}: a movie is one file, so its name cannot have a frame number"
            )
        if spec.is_folder or out.is_dir():
            raise UsageError(
                f"{out} is a folder: give a file name, like {out / Path(clip.source.name).stem}.mov"
            )
        partial_of(spec).check()

    def encoder(self) -> FrameEncoder | None:
        """See ``Output.encoder``."""
        spec = EncoderSpec(self._row, self._clip, self._colour, self.spec.premultiplied)
        return frame_encoder(spec) if self._row.intra else None

    def encode(
        self, encoder: FrameEncoder | None, picture: av.VideoFrame, frame: Frame
    ) -> EncodedFrame:
        """See ``Output.encode``; codecs that encode in order return the picture itself."""
        if encoder is None:
            return EncodedFrame(picture)
        set_tags(picture, frame_colour(self._row, self._colour))
        with self._at(frame):
            packets = encoder.encode(picture)
        if len(packets) != 1:
            raise OutputError(
                f"{self._row.codec} returned {len(packets)} packets for frame {frame.index}, not 1"
            )
        packet: av.Packet = packets[0]
        return EncodedFrame(packet)

    def add(self, encoded: EncodedFrame, time: TimeSpan) -> None:
        """Mux one encoded frame, after the sound up to its time."""
        if not self._frames:
            self._first_pts = time.pts
        else:
            self._check_apart(time)
        self._frames += 1
        self._last_pts, self._end = time.pts, time.pts + time.duration
        if self._sound is not None:
            self._sound.advance(time.pts * time.time_base)
        payload = encoded.payload
        if isinstance(payload, av.VideoFrame):
            assert self._ordered is not None
            self._durations[time.pts] = time.duration
            with self._at(time):
                self._mux_ordered(self._ordered.encode(payload))
            return
        assert isinstance(payload, av.Packet)
        payload.pts = payload.dts = time.pts
        payload.duration = time.duration
        payload.time_base = time.time_base
        payload.stream = self._stream
        with self._at(time):
            self._mux([payload])

    def complete(self) -> None:
        """See ``Output.complete``."""
        if self._ordered is not None:
            self._mux_ordered(self._ordered.encode(None))
        if self._sound is not None:
            self._tracks = self._sound.close()
        assert self._container is not None
        container, self._container = self._container, None
        container.close()
        unit = self._clip.time_base
        expected = Expected(
            frames=self._frames,
            first=self._first_pts * unit,
            last=self._last_pts * unit,
            end=self._end * unit,
            sound=tuple(track.end or Fraction(0) for track in self._tracks),
            colour=self._colour,
        )
        self._bytes = self._finished(expected)

    def _finished(self, expected: Expected) -> int:
        """Patch and verify the closed file; returns its size in bytes."""
        path = self.partial.path
        if self._rules.patch is not None:
            self._rules.patch(path, self._row, self._clip, expected)
        verify_movie(path, self._clip, self._row, expected)
        return path.stat().st_size

    def result(self) -> WriteResult:
        """See ``Output.result``."""
        return self.spec.result(
            self._frames,
            self._bytes,
            (self._end - self._first_pts) * self._clip.time_base,
            sound=tuple(track.description for track in self._tracks),
            notes=tuple(self._notes()),
        )

    def _notes(self) -> Iterator[str]:
        clip, row, rules = self._clip, self._row, self._rules
        if self.spec.audio and clip.audio and rules.sound is None:
            yield f"{row.name} has no sound"
        if clip.timecode and not rules.timecode:
            yield f"{row.name} has no timecode: the clip's, {clip.timecode}, is lost"
        if not rules.pixel_aspect and clip.sample_aspect_ratio != 1:
            yield (
                f"{row.name} is shown with square pixels; the source's are"
                f" {clip.sample_aspect_ratio} times as wide as high"
            )
        yield from alpha_notes(row, self.spec.premultiplied)
        if self.spec.layer.in_colour:
            yield from colour_notes(clip, row)
        if self.spec.layer.background is not None:
            yield from self.spec.layer.background.notes
        if self._sound is not None:
            yield from self._sound.notes

    def discard(self) -> None:
        """See ``Output.discard``."""
        if self._sound is not None:
            self._sound.abort()
        if self._container is not None:
            container, self._container = self._container, None
            # The file is deleted anyway: an error in writing its trailer does not matter.
            with contextlib.suppress(OSError, av.FFmpegError, ValueError):
                container.close()
        self.partial.discard()

    def open(self) -> None:
        """See ``Output.open``."""
        row, clip, rules = self._row, self._clip, self._rules
        options = {"max_interleave_delta": _INTERLEAVE} | rules.options
        if rules.has_edit_list_clock:
            options["movie_timescale"] = str(_movie_timescale(clip))
        self._container = self._opened(rules.muxer, options)
        stream = self._container.add_stream(row.codec, rate=clip.rate)
        assert isinstance(stream, VideoStream)
        self._stream = stream
        context = stream.codec_context
        assert isinstance(context, VideoCodecContext)
        set_up(context, row, clip, self._colour, clip.time_base)
        stream.time_base = clip.time_base
        if row.intra:
            context.thread_count = 1  # only its parameters are used
        else:
            self._ordered = stream_encoder(row, stream)
        if clip.timecode and rules.timecode:
            stream.metadata["timecode"] = clip.timecode
            if clip.reel:
                stream.metadata["reel_name"] = clip.reel
        if self.spec.audio and clip.audio and rules.sound is not None:
            self._sound = AudioWriter(self._container, clip, rules.sound)

    def _opened(self, muxer: str, options: dict[str, str]) -> av.container.OutputContainer:
        """The container that is written."""
        path = self.partial.begin_file()
        path.touch()  # gives a clear error if the folder is not writable
        return av.open(str(path), "w", format=muxer, container_options=options)

    def _check_apart(self, frame: TimeSpan) -> None:
        """Raise OutputError if a frame follows the last one faster than the container resolves."""
        most = self._row.limits.max_rate
        if most is None:
            return
        unit = frame.time_base * most
        previous, current = (math.floor(pts * unit + _HALF) for pts in (self._last_pts, frame.pts))
        if current <= previous:
            raise OutputError(
                f"{self.spec.out}: frame {frame.index}, at {float(frame.pts * frame.time_base):.3f}"
                f" s, is less than 1/{most} s after the previous one, the shortest"
                f" interval of {self._row.name}: add --conform 50, or write webp"
            )

    def _at(self, frame: TimeSpan) -> AbstractContextManager[None]:
        """Name the frame in an error of FFmpeg; a buffering encoder may mean an earlier one."""
        seconds = float(frame.pts * frame.time_base)
        return ffmpeg_errors_as(f"{self.spec.out}: frame {frame.index}, at {seconds:.3f} s,")

    def _mux_ordered(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            assert packet.pts is not None
            packet.duration = self._durations.pop(packet.pts, packet.duration or 0)
        self._mux(packets)

    def _mux(self, packets: list[av.Packet]) -> None:
        assert self._container is not None
        self._container.mux(packets)


def check_movie(spec: OutputSpec) -> None:
    """Raise UsageError for a clip that the format of a movie cannot hold."""
    check_fit(spec.clip, spec.row)
    if spec.row.movie.one_rate and not spec.clip.constant_rate:
        raise UsageError(
            f"{spec.clip.source.name}: its frame rate varies, and {spec.row.name} has one rate:"
            " write nut, or add --conform 25"
        )


def _movie_timescale(clip: Clip) -> int:
    """Ticks per second of edit lists, in which frames and sound samples are integers.

    FFmpeg's default of 1000 would shift sound that starts late by half a millisecond.
    """
    ticks = clip.time_base.denominator
    for track in clip.audio:
        ticks = math.lcm(ticks, track.sample_rate or 1)  # an unknown codec has none
    return ticks if ticks <= 10_000_000 else 90_000

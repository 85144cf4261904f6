"""Movies: frames encoded by a pool or in order, muxed with the source's sound."""

from __future__ import annotations

import contextlib
import math
from fractions import Fraction
from pathlib import Path

import av
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vidmatte.errors import SinkError, UsageError
from vidmatte.frame import Clip, Frame
from vidmatte.settings import Settings
from vidmatte.sink.base import Sink, Written, as_sink_error, worker_count
from vidmatte.sink.encode import frame_colour, set_up, worker_encoder
from vidmatte.sink.formats import Format, output_colour
from vidmatte.sink.ordered import OrderedEncoder, Vp9AlphaEncoder
from vidmatte.sink.partial import Partial
from vidmatte.sink.pixels import PictureMaker, check_fit
from vidmatte.sink.pool import OrderedPool
from vidmatte.sink.proof import Expected, prove_movie
from vidmatte.sink.sound import Sound
from vidmatte.sink.tracks import Track

#: Microseconds of video that the muxer may hold back to wait for sound. What is
#: handed to it is in order already; a long wait would only hold frames in memory.
INTERLEAVE = "250000"


class Worker:
    """What one encoding thread needs: a picture maker and, for intra codecs, an encoder."""

    def __init__(self, clip: Clip, row: Format, settings: Settings) -> None:
        self.maker = PictureMaker(clip, row, settings.foreground)
        self.encoder = worker_encoder(row, clip, self.maker.colour) if row.intra else None


class MovieSink(Sink):
    """One movie file. Intra-only codecs are encoded by the pool's threads, others in
    order from pictures that the pool has made."""

    def __init__(self, out: Path, clip: Clip, settings: Settings, row: Format) -> None:
        self._clip, self._row, self._settings = clip, row, settings
        self.check(out, clip, settings, row)
        self._partial = Partial(out, settings.overwrite)
        self._colour = output_colour(clip, row)
        self._frames = 0
        self._first_pts = self._end = self._last_pts = 0
        self._pool = OrderedPool(worker_count(), lambda: Worker(clip, row, settings), self._work)
        self._container: av.container.OutputContainer | None = None
        self._sound: Sound | None = None
        self._ordered: OrderedEncoder | None = None
        self._durations: dict[int, int] = {}  # by pts, for encoders that hold frames back
        try:
            self._open()
        except BaseException:
            self.abort()
            raise

    @staticmethod
    def check(out: Path, clip: Clip, settings: Settings, row: Format) -> None:
        """What ``check_sink`` does for movies."""
        check_fit(clip, row)
        if out.is_dir():
            raise UsageError(f"{out} is a folder: name the file, like {out / clip.path.stem}.mov")
        Partial(out, settings.overwrite).check()

    @property
    def slots_held(self) -> int:
        """Frames in flight in the pool."""
        return self._pool.limit

    def write(self, frame: Frame) -> None:
        """See ``Sink.write``. A frame of another size than the clip's is a SinkError."""
        size = (frame.picture.width, frame.picture.height)
        if size != (self._clip.width, self._clip.height):
            frame.release()
            raise SinkError(
                f"frame {frame.index} is {size[0]}x{size[1]} in a clip of"
                f" {self._clip.width}x{self._clip.height}: one file holds one size"
            )
        try:
            for piece in self._pool.submit(frame):
                self._take(piece)
        except (OSError, av.FFmpegError) as error:
            raise as_sink_error(error, self._partial.final) from error

    def close(self) -> Written:
        """See ``Sink.close``."""
        try:
            for piece in self._pool.drain():
                self._take(piece)
            if not self._frames:
                raise SinkError(f"{self._partial.final}: there was no frame to write")
            if self._ordered is not None:
                self._mux_ordered(self._ordered.encode(None))
            sound = self._sound.close() if self._sound else ()
            assert self._container is not None
            self._container.close()
            self._container = None
        except (OSError, av.FFmpegError) as error:
            self.abort()
            raise as_sink_error(error, self._partial.final) from error
        except BaseException:
            self.abort()
            raise
        return self._finish(sound)

    def abort(self) -> None:
        """See ``Sink.abort``."""
        self._pool.abort()
        if self._sound is not None:
            self._sound.abort()
        if self._container is not None:
            container, self._container = self._container, None
            # The file is thrown away: what its trailer could not say is no loss.
            with contextlib.suppress(OSError, av.FFmpegError, ValueError):
                container.close()
        self._partial.discard()

    def _open(self) -> None:
        row, clip = self._row, self._clip
        path = self._partial.begin_file()
        try:
            path.touch()  # the clear error for a folder that takes no files
        except OSError as error:
            raise as_sink_error(error, self._partial.final) from error
        options = {"max_interleave_delta": INTERLEAVE}
        if row.container == "mov":
            options["movie_timescale"] = str(movie_timescale(clip))
        self._container = av.open(str(path), "w", format=row.container, container_options=options)
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
            has_alpha = row.codec == "libvpx-vp9"
            self._ordered = Vp9AlphaEncoder(stream) if has_alpha else OrderedEncoder(stream)
        if clip.timecode and row.container in ("mov", "matroska"):
            stream.metadata["timecode"] = clip.timecode
            if clip.reel:
                stream.metadata["reel_name"] = clip.reel
        if self._settings.audio and clip.audio:
            self._sound = Sound(self._container, clip, row.container or "")

    def _work(self, worker: Worker, frame: Frame) -> tuple[Frame, list[av.Packet] | av.VideoFrame]:
        picture = worker.maker.make(frame)
        frame.release()
        if worker.encoder is None:
            return frame, picture
        header = frame_colour(self._row, worker.maker.colour)
        picture.colorspace, picture.color_range = header.matrix, header.range
        picture.color_primaries, picture.color_trc = header.primaries, header.transfer
        packets = worker.encoder.encode(picture)
        if len(packets) != 1:
            raise SinkError(
                f"{self._row.codec} gave {len(packets)} packets for frame {frame.index}, not 1"
            )
        return frame, packets

    def _take(self, piece: tuple[Frame, list[av.Packet] | av.VideoFrame]) -> None:
        """Mux what one frame became; sound up to its time goes first."""
        frame, result = piece
        if not self._frames:
            self._first_pts = frame.pts
        self._frames += 1
        self._last_pts, self._end = frame.pts, frame.pts + frame.duration
        if self._sound is not None:
            self._sound.advance(frame.pts * frame.time_base)
        if isinstance(result, av.VideoFrame):
            assert self._ordered is not None
            self._durations[frame.pts] = frame.duration
            self._mux_ordered(self._ordered.encode(result))
            return
        packet = result[0]
        packet.pts = packet.dts = frame.pts
        packet.duration = frame.duration
        packet.time_base = frame.time_base
        packet.stream = self._stream
        self._mux(result)

    def _mux_ordered(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            assert packet.pts is not None
            packet.duration = self._durations.pop(packet.pts)
        self._mux(packets)

    def _mux(self, packets: list[av.Packet]) -> None:
        assert self._container is not None
        self._container.mux(packets)

    def _finish(self, sound: tuple[Track, ...]) -> Written:
        clip, row = self._clip, self._row
        try:
            expected = Expected(
                frames=self._frames,
                first=self._first_pts * clip.time_base,
                last=self._last_pts * clip.time_base,
                end=self._end * clip.time_base,
                sound=tuple(track.end or Fraction(0) for track in sound),
                colour=self._colour,
            )
            prove_movie(self._partial.path, clip, row, expected)
            size = self._partial.path.stat().st_size
            self._partial.commit()
        except BaseException:
            self.abort()
            raise
        return Written(
            path=self._partial.final,
            frames=self._frames,
            width=clip.width,
            height=clip.height,
            rate=clip.rate,
            format=row.name,
            pixel_format=row.pixel_format(clip),
            bytes=size,
            seconds=(self._end - self._first_pts) * clip.time_base,
            sound=tuple(track.described for track in sound),
        )


def movie_timescale(clip: Clip) -> int:
    """Units of a second for edit lists, in which frames and sound samples are whole.

    FFmpeg's default of 1000 would move sound that starts late by half a millisecond.
    """
    units = clip.time_base.denominator
    for track in clip.audio:
        units = math.lcm(units, track.sample_rate)
    return units if units <= 10_000_000 else 90_000

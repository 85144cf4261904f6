"""The base class of a written sound track, and the track that copies packets."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream

from vidmatte.core.frame import Clip

#: Bytes per sample of the PCM codecs; such tracks are trimmed to the sample.
PCM = {
    "pcm_s8": 1,
    "pcm_u8": 1,
    "pcm_s16le": 2,
    "pcm_s16be": 2,
    "pcm_s24le": 3,
    "pcm_s24be": 3,
    "pcm_s32le": 4,
    "pcm_s32be": 4,
    "pcm_f32le": 4,
    "pcm_f32be": 4,
    "pcm_f64le": 8,
    "pcm_f64be": 8,
    "pcm_alaw": 1,
    "pcm_mulaw": 1,
}
#: Packets that a decoder needs before the first sample, for priming.
_PREROLL = {"aac": 1, "mp3": 2, "ac3": 1, "eac3": 1}


class Track(ABC):
    """One sound track of the output.

    Packets without a timestamp, as in damaged MPEG program streams, follow the previous one;
    the first begins at its stream's start time.
    """

    def __init__(
        self, container: av.container.OutputContainer, source: AudioStream, clip: Clip
    ) -> None:
        self._container = container
        self._source = source
        # For notes, which are read after the source is closed.
        self.number = next(track.number for track in clip.audio if track.index == source.index)
        self._origin = clip.sound_origin
        self._clip_end = None if clip.end is None else clip.end - clip.origin
        self._began = Fraction((source.start_time or 0) * (source.time_base or 0)) - self._origin
        #: Seconds on the output's timeline up to which packets were read.
        self.position = Fraction(-(10**9))
        self._broken = 0
        #: End of the last sample written, in seconds; None before the first.
        self.end: Fraction | None = None

    @abstractmethod
    def take(self, packet: av.Packet) -> None:
        """Write one packet of the source."""

    @abstractmethod
    def flush(self) -> None:
        """Write what is still buffered; do not call ``take`` after it."""

    @property
    @abstractmethod
    def description(self) -> str:
        """How the track was written, like 'aac (copied)'."""

    @property
    def notes(self) -> Iterator[str]:
        """One line each for damage that did not end the run and for conversions."""
        if self._broken:
            yield f"sound track {self.number}: {self._broken} damaged packets became silence"

    def start_of(self, packet: av.Packet) -> Fraction:
        """A packet's start in seconds on the output's timeline."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            return max(self.position, self._began)
        return Fraction(stamp * packet.time_base) - self._origin

    def _label(self, stream: AudioStream) -> None:
        for key in ("language", "title", "handler_name"):
            if key in self._source.metadata:
                stream.metadata[key] = self._source.metadata[key]


class CopiedTrack(Track):
    """Copies packets unchanged, shifted in time.

    Copies the packets that overlap the clip, and as many before it as the decoder needs for
    priming; players skip what is before zero where the container can mark it (mov: an edit
    list). PCM is trimmed to the sample. A packet without a duration (ALAC in Matroska) is held
    until the next one and lasts until that begins.
    """

    def __init__(
        self,
        container: av.container.OutputContainer,
        source: AudioStream,
        clip: Clip,
        keeps_negative: bool,
    ) -> None:
        super().__init__(container, source, clip)
        self._codec = source.codec_context.codec.canonical_name
        self._rate = source.codec_context.sample_rate
        self._sample_bytes = PCM.get(self._codec, 0) * source.codec_context.layout.nb_channels
        self._is_adts = self._codec == "aac" and not source.codec_context.extradata  # as in TS
        self._keeps_negative = keeps_negative
        self._priming: list[av.Packet] = []  # before zero, perhaps needed by the decoder
        self._next: int | None = None
        self._last: int | None = None  # start of the previous packet
        self._unmeasured: tuple[av.Packet, Fraction] | None = None  # and its start
        self._previous_count = 1  # samples in the previous packet
        self._stream = container.add_stream_from_template(source, opaque=True)
        self._stream.time_base = Fraction(1, self._rate)
        self._label(self._stream)

    @property
    def description(self) -> str:
        """See ``Track.description``."""
        return f"{self._codec} (copied)"

    def take(self, packet: av.Packet) -> None:
        """See ``Track.take``."""
        start = self.start_of(packet)
        self._measure(start)
        if count := self._samples_in(packet):
            self._take(packet, start, count)
        else:
            self._unmeasured = packet, start
            self.position = max(self.position, start)

    def _measure(self, end: Fraction | None) -> None:
        """Write the packet of unknown duration, which lasts until ``end``, or, where that is None
        or not later, as long as the previous one."""
        if self._unmeasured is not None:
            (packet, start), self._unmeasured = self._unmeasured, None
            duration = 0 if end is None else round((end - start) * self._rate)
            self._take(packet, start, duration if duration > 0 else self._previous_count)

    def _take(self, packet: av.Packet, start: Fraction, count: int) -> None:
        """Write a packet of ``count`` samples that begins at ``start`` seconds."""
        first = round(start * self._rate)
        self._previous_count = count
        if self._next is not None and abs(first - self._next) <= self._tolerance(packet):
            # Time bases coarser than a sample (MPEG-TS, Matroska): count samples.
            first = self._next
        if self._last is not None:
            first = max(first, self._last + 1)  # muxers refuse timestamps that go back
        self._last, self._next = first, first + count
        self.position = Fraction(self._next, self._rate)
        if self._sample_bytes:
            packet, first, count = self._cut(packet, first, count)
        last = None if self._clip_end is None else round(self._clip_end * self._rate)
        if count <= 0 or (last is not None and first >= last):
            return
        packet.pts = packet.dts = first
        packet.time_base = Fraction(1, self._rate)
        packet.duration = count
        packet.stream = self._stream
        self._place(packet, first, count)

    def flush(self) -> None:
        """See ``Track.flush``."""
        self._measure(None)
        self._priming.clear()

    def _place(self, packet: av.Packet, first: int, count: int) -> None:
        if first + count <= 0:
            self._priming.append(packet)
            del self._priming[: -_PREROLL.get(self._codec, 0) or len(self._priming)]
            return
        if first < 0 and not self._keeps_negative:
            return
        if self._keeps_negative:
            for primer in self._priming:
                self._mux(primer)
        self._priming.clear()
        if self._mux(packet):
            self.end = Fraction(first + count, self._rate)

    def _mux(self, packet: av.Packet) -> bool:
        """Mux a packet; one without its ADTS header is counted and dropped, which causes
        silence. Muxers decide by the first packet whether to strip headers."""
        if not self._is_adts or _has_adts_header(packet):
            with contextlib.suppress(av.error.InvalidDataError, av.error.PatchWelcomeError):
                self._container.mux(packet)
                return True
        self._broken += 1
        return False

    def _samples_in(self, packet: av.Packet) -> int:
        if self._sample_bytes:
            return packet.size // self._sample_bytes
        framed = self._source.codec_context.frame_size
        declared = round(Fraction((packet.duration or 0) * packet.time_base) * self._rate)
        near = abs(declared - framed) <= self._tolerance(packet)
        return framed if framed and (near or not declared) else declared

    def _tolerance(self, packet: av.Packet) -> int:
        """Samples in one tick of the source's time base."""
        return int(packet.time_base * self._rate)

    def _cut(self, packet: av.Packet, first: int, count: int) -> tuple[av.Packet, int, int]:
        """The part of a PCM packet between zero and the clip's end."""
        stop = first + count
        if self._clip_end is not None:
            stop = min(stop, round(self._clip_end * self._rate))
        begin = max(first, 0)
        if begin >= stop:
            return packet, first, 0
        if (begin, stop) == (first, first + count):
            return packet, first, count
        packet = _slice_pcm(packet, begin - first, stop - first, self._sample_bytes)
        return packet, begin, stop - begin


#: Gain of a centre channel in left and right, which keeps its total power.
_CENTRE_GAIN = 0.5**0.5


def slice_frame(frame: av.AudioFrame, begin: int, stop: int) -> av.AudioFrame:
    """Samples ``begin`` to ``stop`` (exclusive) of a frame."""
    samples = frame.to_ndarray()
    channels = 1 if frame.format.is_planar else frame.layout.nb_channels
    cut: Any = np.ascontiguousarray(samples[:, begin * channels : stop * channels])
    result = av.AudioFrame.from_ndarray(cut, frame.format.name, frame.layout.name)
    result.sample_rate = frame.sample_rate
    return result


def silence(like: av.AudioFrame, count: int) -> av.AudioFrame:
    """``count`` samples of silence in the format of ``like``."""
    planar = like.format.is_planar
    channels = like.layout.nb_channels
    dtype = like.to_ndarray().dtype
    shape = (channels, count) if planar else (1, channels * count)
    quiet: Any = np.full(shape, 128 if dtype == np.uint8 else 0, dtype)
    result = av.AudioFrame.from_ndarray(quiet, like.format.name, like.layout.name)
    result.sample_rate = like.sample_rate
    return result


def downmixed(frame: av.AudioFrame) -> av.AudioFrame:
    """A frame of many channels mixed to stereo, scaled so that nothing clips.

    Every channel is mixed in: left, right or centre by its position's name, channels without a
    position alternately. FFmpeg's own mix drops positions that its matrix does not know.
    """
    sides = [_side_of(channel.name, index) for index, channel in enumerate(frame.layout.channels)]
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(sides)).T
    zero = 128 if samples.dtype == np.uint8 else 0
    weights = np.array(sides, np.float64).T  # (2, channels)
    weights /= weights.sum(axis=1).max()
    mixed: Any = np.empty((2, samples.shape[1]), samples.dtype)
    sums = weights @ (samples.astype(np.float64) - zero) + zero
    np.copyto(mixed, sums if mixed.dtype.kind == "f" else np.rint(sums), casting="unsafe")
    planar = f"{frame.format.name.removesuffix('p')}p"
    result = av.AudioFrame.from_ndarray(mixed, planar, "stereo")
    result.sample_rate = frame.sample_rate
    return result


def _side_of(name: str, index: int) -> tuple[float, float]:
    """A channel's left and right gain, by FFmpeg's name of its position, like TFL or LFE."""
    if name == "NONE":
        return (0.0, 1.0) if index % 2 else (1.0, 0.0)
    if name.endswith("R") or name == "FRC":
        return 0.0, 1.0
    if name.endswith("L") or name == "FLC":
        return 1.0, 0.0
    return _CENTRE_GAIN, _CENTRE_GAIN


def _slice_pcm(packet: av.Packet, begin: int, stop: int, size: int) -> av.Packet:
    """The samples from ``begin`` to ``stop`` of a PCM packet, each of ``size`` bytes."""
    return av.Packet(bytes(packet)[begin * size : stop * size])


def _has_adts_header(packet: av.Packet) -> bool:
    """True where an AAC packet begins with an ADTS header, as in transport streams."""
    head = bytes(packet)[:2]
    return head[:1] == b"\xff" and head[1:] >= b"\xf0"

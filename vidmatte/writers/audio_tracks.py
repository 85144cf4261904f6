"""One sound track on its way, and how one is copied packet by packet."""

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

#: Bytes of one sample of the PCM codecs; such tracks are cut exactly.
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
#: Packets before the first sample that is wanted, which a decoder needs to warm up.
_PREROLL = {"aac": 1, "mp3": 2, "ac3": 1, "eac3": 1}


class Track(ABC):
    """One sound track on its way into the output.

    Packets without a time, as damaged MPEG program streams have them, follow the one
    before, the first its stream's start.
    """

    def __init__(
        self, container: av.container.OutputContainer, source: AudioStream, clip: Clip
    ) -> None:
        self._container = container
        self._source = source
        self.number = source.index  # kept: notes are asked for when the source is closed
        self._origin = clip.origin
        self._until = None if clip.end is None else clip.end - clip.origin
        self._began = Fraction((source.start_time or 0) * (source.time_base or 0)) - clip.origin
        #: Seconds on the output's timeline up to which packets were taken in.
        self.position = Fraction(-(10**9))
        self._broken = 0
        #: Where the last sample that was written ends; None where none was.
        self.end: Fraction | None = None

    @abstractmethod
    def take(self, packet: av.Packet) -> None:
        """Take one packet of the source."""

    @abstractmethod
    def flush(self) -> None:
        """Write what is held back; nothing is taken after it."""

    @property
    @abstractmethod
    def described(self) -> str:
        """What became of the track, like 'aac (copied)'."""

    @property
    def notes(self) -> Iterator[str]:
        """What went wrong without ending the run, or was converted, one line each."""
        if self._broken:
            yield f"sound track {self.number}: {self._broken} broken packets became silence"

    def start_of(self, packet: av.Packet) -> Fraction:
        """Seconds on the output's timeline."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            return max(self.position, self._began)
        return Fraction(stamp * packet.time_base) - self._origin

    def _label(self, stream: AudioStream) -> None:
        for key in ("language", "title", "handler_name"):
            if key in self._source.metadata:
                stream.metadata[key] = self._source.metadata[key]


class CopiedTrack(Track):
    """Packets as they are, shifted in time.

    Kept are the packets that overlap the wanted span, and before it as many as the
    decoder needs; a player leaves out what lies before zero where the container can
    say so (mov: an edit list). PCM is cut to the sample. A packet whose length the source
    does not tell (ALAC in Matroska) waits for the next one, and lasts until that.
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
        self._headed = self._codec == "aac" and not source.codec_context.extradata  # as in TS
        self._keeps_negative = keeps_negative
        self._waiting: list[av.Packet] = []  # before zero, perhaps needed to warm up
        self._next: int | None = None
        self._last: int | None = None  # where the packet before began
        self._unmeasured: tuple[av.Packet, Fraction] | None = None  # and when it begins
        self._usual = 1  # samples in the packet before
        self._stream = container.add_stream_from_template(source, opaque=True)
        self._stream.time_base = Fraction(1, self._rate)
        self._label(self._stream)

    @property
    def described(self) -> str:
        """See ``Track.described``."""
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
        """Take the packet of unknown length as lasting until ``end``, else the usual time."""
        if self._unmeasured is not None:
            (packet, start), self._unmeasured = self._unmeasured, None
            until = 0 if end is None else round((end - start) * self._rate)
            self._take(packet, start, until if until > 0 else self._usual)

    def _take(self, packet: av.Packet, start: Fraction, count: int) -> None:
        """Place a packet of ``count`` samples that begins at ``start``, in seconds."""
        first = round(start * self._rate)
        self._usual = count
        if self._next is not None and abs(first - self._next) <= self._tolerance(packet):
            # Clocks coarser than a sample (MPEG-TS, Matroska): count instead.
            first = self._next
        if self._last is not None:
            first = max(first, self._last + 1)  # muxers refuse to go back
        self._last, self._next = first, first + count
        self.position = Fraction(self._next, self._rate)
        if self._sample_bytes:
            packet, first, count = self._cut(packet, first, count)
        last = None if self._until is None else round(self._until * self._rate)
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
        self._waiting.clear()

    def _place(self, packet: av.Packet, first: int, count: int) -> None:
        if first + count <= 0:
            self._waiting.append(packet)
            del self._waiting[: -_PREROLL.get(self._codec, 0) or len(self._waiting)]
            return
        if first < 0 and not self._keeps_negative:
            return
        if self._keeps_negative:
            for early in self._waiting:
                self._mux(early)
        self._waiting.clear()
        if self._mux(packet):
            self.end = Fraction(first + count, self._rate)

    def _mux(self, packet: av.Packet) -> bool:
        """Write a packet; one that lost its header is counted and left out, so that its time
        stays silent. Muxers tell by the first packet whether headers are to be taken off."""
        if not self._headed or _has_adts_header(packet):
            with contextlib.suppress(av.error.InvalidDataError, av.error.PatchWelcomeError):
                self._container.mux(packet)
                return True
        self._broken += 1
        return False

    def _samples_in(self, packet: av.Packet) -> int:
        if self._sample_bytes:
            return packet.size // self._sample_bytes
        framed = self._source.codec_context.frame_size
        stated = round(Fraction((packet.duration or 0) * packet.time_base) * self._rate)
        near = abs(stated - framed) <= self._tolerance(packet)
        return framed if framed and (near or not stated) else stated

    def _tolerance(self, packet: av.Packet) -> int:
        """Samples that one tick of the source's clock can hide."""
        return int(packet.time_base * self._rate)

    def _cut(self, packet: av.Packet, first: int, count: int) -> tuple[av.Packet, int, int]:
        """The part of a PCM packet from zero to the end, sample for sample."""
        stop = first + count
        if self._until is not None:
            stop = min(stop, round(self._until * self._rate))
        begin = max(first, 0)
        if begin >= stop:
            return packet, first, 0
        if (begin, stop) == (first, first + count):
            return packet, first, count
        packet = _slice_pcm(packet, begin - first, stop - first, self._sample_bytes)
        return packet, begin, stop - begin


#: Of a channel in the middle, in each of two: together they are as loud as it was.
_MIDDLE = 0.5**0.5


def slice_frame(frame: av.AudioFrame, begin: int, stop: int) -> av.AudioFrame:
    """Samples ``begin`` to ``stop`` (exclusive) of a frame."""
    samples = frame.to_ndarray()
    channels = 1 if frame.format.is_planar else frame.layout.nb_channels
    cut: Any = np.ascontiguousarray(samples[:, begin * channels : stop * channels])
    result = av.AudioFrame.from_ndarray(cut, frame.format.name, frame.layout.name)
    result.sample_rate = frame.sample_rate
    return result


def silence(like: av.AudioFrame, count: int) -> av.AudioFrame:
    """``count`` samples of nothing in the same format."""
    planar = like.format.is_planar
    channels = like.layout.nb_channels
    dtype = like.to_ndarray().dtype
    shape = (channels, count) if planar else (1, channels * count)
    quiet: Any = np.full(shape, 128 if dtype == np.uint8 else 0, dtype)
    result = av.AudioFrame.from_ndarray(quiet, like.format.name, like.layout.name)
    result.sample_rate = like.sample_rate
    return result


def downmixed(frame: av.AudioFrame) -> av.AudioFrame:
    """A frame of many channels as stereo, no louder than the loudest.

    Every channel is heard: left, right, or in the middle by its place's name, those without
    a place in turns. FFmpeg's own mix leaves out the places that its matrix does not know.
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
    """How loud a channel is left and right, by FFmpeg's name of its place, like TFL or LFE."""
    if name == "NONE":
        return (0.0, 1.0) if index % 2 else (1.0, 0.0)
    if name.endswith("R") or name == "FRC":
        return 0.0, 1.0
    if name.endswith("L") or name == "FLC":
        return 1.0, 0.0
    return _MIDDLE, _MIDDLE


def _slice_pcm(packet: av.Packet, begin: int, stop: int, size: int) -> av.Packet:
    """The samples from ``begin`` to ``stop`` of a PCM packet, each of ``size`` bytes."""
    return av.Packet(bytes(packet)[begin * size : stop * size])


def _has_adts_header(packet: av.Packet) -> bool:
    """True where an AAC packet begins with the header that transport streams give each one."""
    head = bytes(packet)[:2]
    return head[:1] == b"\xff" and head[1:] >= b"\xf0"

"""One sound track, decoded and encoded anew."""

from __future__ import annotations

from fractions import Fraction

import av
from av.audio.stream import AudioStream

from vidmatte.frame import Clip
from vidmatte.sink.samples import part, silence
from vidmatte.sink.tracks import Track

#: Seconds: gaps and overlaps in the source's sound below this are jitter of its clock.
JITTER = Fraction(1, 20)
#: What lossy encoders take, by number of channels.
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
#: Bits a second and channel.
BIT_RATES = {"libopus": 80_000, "aac": 128_000}


class EncodedTrack(Track):
    """Decoded, cut to the sample, resampled and encoded anew.

    Gaps in the source's clock become silence and overlaps are cut, so that the count
    of samples is the clock and sound never drifts.
    """

    def __init__(
        self, container: av.container.OutputContainer, source: AudioStream, clip: Clip, codec: str
    ) -> None:
        super().__init__(container, source, clip)
        self._decoder = source.codec_context
        self._rate = self._decoder.sample_rate
        layout = self._decoder.layout
        name = LAYOUTS.get(layout.nb_channels, layout.name) if codec in BIT_RATES else layout.name
        stream = container.add_stream(codec, rate=48000 if codec == "libopus" else self._rate)
        assert isinstance(stream, AudioStream)
        self._stream = stream
        self._encoder = stream.codec_context
        self._encoder.layout = name
        if codec in BIT_RATES:
            self._encoder.bit_rate = BIT_RATES[codec] * layout.nb_channels
        self._out_rate = self._encoder.sample_rate
        stream.time_base = Fraction(1, self._out_rate)
        self._label(stream)
        self._resampler = av.AudioResampler(self._encoder.format.name, name, self._out_rate)
        self._next: int | None = None  # the source sample that comes next, from zero
        self._unfed = round(self._began * self._rate)  # the same while none was wanted
        self._out: int | None = None  # what comes next in the output's samples

    @property
    def described(self) -> str:
        """See ``Track.described``."""
        return f"{self._decoder.codec.canonical_name} -> {self._encoder.codec.canonical_name}"

    def take(self, packet: av.Packet) -> None:
        """See ``Track.take``."""
        start = self._start_of(packet)
        length = Fraction((packet.duration or 0) * packet.time_base)
        self.position = max(self.position, start + length)
        self._decode(packet)

    def flush(self) -> None:
        """See ``Track.flush``."""
        self._decode(None)
        self._encode(self._resampler.resample(None))
        self._container.mux(self._stream.encode(None))

    def _decode(self, packet: av.Packet | None) -> None:
        """Take what a packet holds, None: what the decoder holds back."""
        try:
            frames = self._decoder.decode(packet)
        except av.error.FFmpegError:  # any of them, see MovieSource
            self._broken += 1  # the gap that it leaves becomes silence
            return
        for frame in frames:
            self._take_frame(frame)

    def _take_frame(self, frame: av.AudioFrame) -> None:
        first = self._next
        if frame.pts is not None and frame.time_base is not None:
            stated = round((frame.pts * frame.time_base - self._origin) * self._rate)
            if first is None or abs(stated - first) > JITTER * self._rate:
                first = stated
        if first is None:
            first = self._unfed
        if self._next is not None and first > self._next:
            self._feed(silence(frame, first - self._next), self._next)
        self._feed(frame, first)
        self._unfed = first + frame.samples

    def _feed(self, frame: av.AudioFrame, first: int) -> None:
        """Resample and encode the part of ``frame`` that is wanted and not there yet."""
        begin = max(first, 0, self._next if self._next is not None else 0)
        stop = first + frame.samples
        if self._until is not None:
            stop = min(stop, round(self._until * self._rate))
        if begin >= stop:
            return
        if (begin, stop) != (first, first + frame.samples):
            frame = part(frame, begin - first, stop - first)
        if self._out is None:
            self._out = round(Fraction(begin * self._out_rate, self._rate))
        self._next = stop
        frame.pts = None
        self._encode(self._resampler.resample(frame))

    def _encode(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            frame.pts = self._out
            frame.time_base = Fraction(1, self._out_rate)
            self._out = (self._out or 0) + frame.samples
            self.end = Fraction(self._out, self._out_rate)
            self._container.mux(self._stream.encode(frame))

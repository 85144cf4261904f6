"""One sound track, decoded and re-encoded."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
from av.audio.stream import AudioStream

from vidmatte.core.frame import Clip
from vidmatte.writers.audio_tracks import Track, downmixed, silence, slice_frame
from vidmatte.writers.format_spec import SoundEncoder

#: Seconds: shorter gaps and overlaps in the source's sound count as timestamp jitter.
_JITTER = Fraction(1, 20)
#: The layouts that lossy encoders support, by number of channels.
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


class EncodedTrack(Track):
    """Decodes a track, trims it to the sample, resamples and re-encodes it.

    Gaps in the source's timestamps become silence and overlaps are cut, so that the sample
    count is the clock and sound never drifts. If rate, channels or sample format change within
    the track, as in broadcasts, the output keeps the first ones.
    """

    def __init__(
        self,
        container: av.container.OutputContainer,
        source: AudioStream,
        clip: Clip,
        encoder: SoundEncoder,
    ) -> None:
        super().__init__(container, source, clip)
        self._decoder = source.codec_context
        self._rate = self._decoder.sample_rate  # of the incoming frames
        layout = self._decoder.layout
        name, channels = layout.name, layout.nb_channels
        if encoder.bit_rate is not None:
            name = _LAYOUTS.get(channels, "stereo")
            channels = channels if channels in _LAYOUTS else 2
        stream = container.add_stream(encoder.name, rate=_encoded_rate(encoder, self._rate))
        assert isinstance(stream, AudioStream)
        self._stream = stream
        self._encoder = stream.codec_context
        self._encoder.layout = self._layout = name
        if encoder.bit_rate is not None:
            self._encoder.bit_rate = encoder.bit_rate * channels
        self._has_clock = encoder.clock is not None
        self._out_rate = self._encoder.sample_rate
        stream.time_base = Fraction(1, self._out_rate)
        self._label(stream)
        self._resampler: av.AudioResampler | None = None
        self._input_kind: tuple[str, str, int] | None = None  # format, layout and rate (Hz)
        self._changed = False
        self._conversion_notes = list(self._conversions())
        self._next: int | None = None  # the next source sample to write, from zero
        self._next_read = round(self._began * self._rate)  # the next sample of the decoder
        self._out: int | None = None  # the next sample of the output

    @property
    def description(self) -> str:
        """See ``Track.description``."""
        return f"{self._decoder.codec.canonical_name} -> {self._encoder.codec.canonical_name}"

    @property
    def notes(self) -> Iterator[str]:
        """See ``Track.notes``."""
        yield from super().notes
        yield from self._conversion_notes

    def _conversions(self) -> Iterator[str]:
        """A note on each conversion, except to an encoder's only rate."""
        name, layout = self._encoder.codec.canonical_name, self._decoder.layout
        if self._rate != self._out_rate and not self._has_clock:
            yield (
                f"sound track {self.number}: {name} does not support {self._rate} Hz:"
                f" resampled to {self._out_rate} Hz"
            )
        if layout.nb_channels > self._encoder.layout.nb_channels:
            yield (
                f"sound track {self.number}: {name} supports at most {max(_LAYOUTS)}"
                f" channels: its {layout.nb_channels} are mixed down to {self._encoder.layout.name}"
            )

    def take(self, packet: av.Packet) -> None:
        """See ``Track.take``."""
        start = self.start_of(packet)
        length = Fraction((packet.duration or 0) * packet.time_base)
        self.position = max(self.position, start + length)
        self._decode(packet)

    def flush(self) -> None:
        """See ``Track.flush``."""
        self._decode(None)
        self._drain()
        self._container.mux(self._stream.encode(None))

    def _decode(self, packet: av.Packet | None) -> None:
        """Decode a packet; None drains the decoder."""
        try:
            frames = self._decoder.decode(packet)
        except av.error.FFmpegError:  # any kind, as for video frames
            self._broken += 1  # the gap becomes silence
            return
        for frame in frames:
            self._take_frame(frame)

    def _take_frame(self, frame: av.AudioFrame) -> None:
        self._count_at(frame.sample_rate)
        first = self._next
        if frame.pts is not None and frame.time_base is not None:
            stamped = round((frame.pts * frame.time_base - self._origin) * self._rate)
            if first is None or abs(stamped - first) > _JITTER * self._rate:
                first = stamped
        if first is None:
            first = self._next_read
        self._fill(frame, first)
        self._feed(frame, first)
        self._next_read = first + frame.samples

    def _count_at(self, rate: int) -> None:
        """Convert the sample counts to the rate (Hz) of the next frame."""
        old, self._rate = self._rate, rate
        if rate != old:
            self._next_read = round(Fraction(self._next_read * rate, old))
            self._next = None if self._next is None else round(Fraction(self._next * rate, old))

    def _fill(self, frame: av.AudioFrame, first: int) -> None:
        """Add silence up to sample ``first``, a second at a time: a gap may last for hours."""
        end = first if self._clip_end is None else min(first, round(self._clip_end * self._rate))
        while self._next is not None and self._next < end:
            self._feed(silence(frame, min(end - self._next, self._rate)), self._next)

    def _feed(self, frame: av.AudioFrame, first: int) -> None:
        """Resample and encode the part of ``frame`` that is in the clip and not yet written."""
        begin = max(first, 0, self._next if self._next is not None else 0)
        stop = first + frame.samples
        if self._clip_end is not None:
            stop = min(stop, round(self._clip_end * self._rate))
        if begin >= stop:
            return
        if (begin, stop) != (first, first + frame.samples):
            frame = slice_frame(frame, begin - first, stop - first)
        if self._out is None:
            self._out = round(Fraction(begin * self._out_rate, self._rate))
        self._update_resampler(frame, begin)
        self._next = stop
        frame.pts = None
        if frame.layout.nb_channels > max(_LAYOUTS) and frame.layout.name != self._layout:
            frame = downmixed(frame)
        assert self._resampler is not None
        self._encode(self._resampler.resample(frame))

    def _update_resampler(self, frame: av.AudioFrame, begin: int) -> None:
        """Make a new resampler if the format of ``frame`` changed: each has one input format."""
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind == self._input_kind:
            return
        if self._input_kind is not None and not self._changed:
            self._changed = True
            self._conversion_notes.append(
                f"sound track {self.number}: changes at {begin / frame.sample_rate:.2f} s to"
                f" {frame.layout.name}, {frame.sample_rate} Hz; the output stays"
                f" {self._layout}, {self._out_rate} Hz"
            )
        self._drain()
        self._input_kind = kind
        self._resampler = av.AudioResampler(self._encoder.format.name, self._layout, self._out_rate)

    def _drain(self) -> None:
        """Drain the resampler and encode its last samples."""
        if self._resampler is not None:
            self._encode(self._resampler.resample(None))

    def _encode(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            frame.pts = self._out
            frame.time_base = Fraction(1, self._out_rate)
            self._out = (self._out or 0) + frame.samples
            self.end = Fraction(self._out, self._out_rate)
            self._container.mux(self._stream.encode(frame))


def _encoded_rate(encoder: SoundEncoder, rate: int) -> int:
    """The sample rate (Hz) nearest to ``rate`` that an encoder supports."""
    if encoder.clock is not None:
        return encoder.clock
    rates = av.Codec(encoder.name, "w").audio_rates
    return min(rates, key=lambda supported: abs(supported - rate)) if rates else rate

"""The clock of a movie: is its rate constant, and on which grid do its frames lie.

A container's time base is often too coarse for its rate (Matroska: milliseconds).
Where all frames lie on a rational grid to within one tick, their exact times are
taken from the grid; a clip of variable rate keeps its pts as they are.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from vidmatte.errors import SourceError
from vidmatte.readers.movie.missing_timestamps import in_display_order, with_gaps_filled

_STANDARD_RATES = tuple(
    Fraction(rate)
    for rate in (
        "24000/1001", 24, 25, "30000/1001", 30, "48000/1001", 48, 50, "60000/1001", 60,
        "120000/1001", 100, 120, "15000/1001", 15, 12, 10,
    )
)  # fmt: skip


#: Containers that may know only in which order frames are decoded.
_ORDERED_BY_DECODING = {"avi", "mxf"}
_REORDERED = 16  # frames: no codec shows one later after it is decoded


@dataclass(frozen=True)
class Timing:
    """When a movie's frames are shown.

    rate: frames a second, exact where ``constant``, else the average.
    time_base: fine enough for every frame's time to be an integer.
    first: the first frame's pts in the stream's own time base.
    times: every frame's pts there, in order, where the rate is variable and they are known.
    shuffled: frames bear the times of their decoding, which are those of others.
    """

    rate: Fraction
    constant: bool
    time_base: Fraction
    stream_time_base: Fraction
    first: int
    frame_count: int | None
    times: tuple[int, ...] = ()
    is_reordered: bool = False

    def grid_pts(self, pts: int) -> int:
        """A decoded frame's pts, from the stream's time base into ``time_base``.

        With a constant rate the nearest grid point is taken, so that rounding in
        the container does not add up.
        """
        if not self.constant:
            return pts
        seconds = self.first * self.stream_time_base + self.frame_number(pts) / self.rate
        return int(seconds / self.time_base)  # an integer by the choice of time_base

    def frame_number(self, pts: int) -> int:
        """Which frame from the first it is, by its pts in the stream's time base."""
        if not self.constant:
            return bisect_left(self.times, pts)
        return round((pts - self.first) * self.stream_time_base * self.rate)

    def moment(self, number: int) -> Fraction:
        """When frame ``number`` is shown, in seconds on the container's own timeline.

        The number after the last frame's gives the end.
        """
        if self.constant or not number:
            return self.first * self.stream_time_base + number / self.rate
        if number < len(self.times):
            return self.times[number] * self.stream_time_base
        return self.times[-1] * self.stream_time_base + 1 / self.rate

    def frame_at(self, seconds: Fraction) -> int:
        """The number of the frame that begins nearest to ``seconds`` after the first."""
        wanted = self.first * self.stream_time_base + seconds
        if self.constant or not self.moment(0) <= wanted <= self.moment(len(self.times)):
            return round(seconds * self.rate)
        after = bisect_left(self.times, wanted / self.stream_time_base)
        return min(max(after - 1, 0), after, key=lambda number: abs(self.moment(number) - wanted))

    @property
    def frame_duration(self) -> int:
        """One frame at ``rate`` in units of ``time_base``, at least 1."""
        return max(1, round(1 / (self.rate * self.time_base)))


def _indexed_times(stream: VideoStream) -> list[int]:
    """When each frame is decoded, by an index that covers all (QuickTime, MP4), else none.

    In the stream's time base, sorted: enough to know the spacing.
    """
    entries = stream.index_entries
    if not stream.frames or len(entries) != stream.frames:
        return []
    return sorted(entry.timestamp for entry in entries if not entry.is_discard)


@dataclass
class _PacketTimes:
    """The timestamps of a stream's packets in its time base, as they come.

    all: of every frame that bears one; own: without those that cannot be the frame's own.
    without: how many frames bear none; last: how many of those come last. leap: where, by the
    packets' number, the times go back and stay there; None where they do not.
    """

    all: list[int]
    own: list[int]
    without: int = 0
    last: int = 0
    leap: int | None = None


def _packet_times(container: InputContainer, stream: VideoStream) -> _PacketTimes:
    """Every frame's timestamp, by reading all packets.

    Nothing was read from the container yet; it stands at its end then.
    """
    found = _PacketTimes([], [])
    packets = (packet for packet in packets_from(container, stream) if packet.size)
    shown = (packet for packet in packets if not packet.is_discard)
    row = 0  # of packets that go back
    for number, (packet, follows) in enumerate(in_display_order(shown, _decoded_at)):
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            found.without, found.last = found.without + 1, found.last + 1
            continue
        found.last = 0
        found.all.append(stamp)
        if follows:
            row = 0
            found.own.append(stamp)
        else:
            row += 1
            if row > _REORDERED and found.leap is None:
                found.leap = number - _REORDERED
    return found


def _decoded_at(packet: av.Packet) -> int | None:
    """A time that grows from packet to packet. Where a packet bears none its pts is no stand-in:
    beside the dts of others it goes back wherever frames are reordered."""
    return packet.dts


def in_order(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Frames that bear each other's times, each with its own: the times in order."""
    held: deque[av.VideoFrame] = deque()
    stamps: list[int] = []
    for frame in frames:
        held.append(frame)
        heappush(stamps, frame.pts or 0)
        if len(held) > _REORDERED:
            held[0].pts = heappop(stamps)
            yield held.popleft()
    for frame in held:
        frame.pts = heappop(stamps)
        yield frame


def _lies_on_grid(times: list[int], time_base: Fraction, rate: Fraction) -> bool:
    """True when each frame is within one tick of ``first + k / rate``, k = 0, 1, 2, ...

    And nearer to its own place than to the next: where a tick is a frame (AVI), one that was
    dropped would be taken for rounding.
    """
    step = 1 / (rate * time_base)
    first = times[0]
    apart = (abs(stamp - first - index * step) for index, stamp in enumerate(times))
    return all(away <= 1 and 2 * away < step for away in apart)


def find_rate(
    times: list[int], time_base: Fraction, candidates: Iterable[Fraction | None]
) -> tuple[Fraction, bool]:
    """The rate of frames at ``times`` and whether it is constant.

    Standard rates are tried before others, those that the container states first, then
    those nearest to the mean spacing: what a container of coarse time base states is
    often an average of its own. Where a frame is hardly longer than a tick (AVI) only stated
    ones count: any times would do for the rounded ones of some rate.
    """
    stated = [rate for rate in candidates if rate]
    if len(times) < 2 or times[-1] == times[0]:
        return (stated[0] if stated else Fraction(25)), True
    mean = Fraction(len(times) - 1) / ((times[-1] - times[0]) * time_base)
    nearest = sorted(_STANDARD_RATES, key=lambda rate: abs(rate - mean))[:2]
    standard = [rate for rate in stated if rate in _STANDARD_RATES]
    tried = [*standard, *nearest, *stated, mean.limit_denominator(1001)]
    for rate in tried if 2 * mean * time_base <= 1 else stated:
        if rate and _lies_on_grid(times, time_base, rate):  # hours between frames make it 0
            return rate, True
    return mean.limit_denominator(100_000) or mean, False


def read_timing(
    container: InputContainer, stream: VideoStream, first_pts: int, *, numbered: bool
) -> Timing:
    """The timing of ``stream``; ``first_pts`` is that of the first decoded frame.

    The container is a fresh one, and is used up. numbered: frames will be looked up by
    their numbers, for which the whole file is read where its rate is variable.
    """
    time_base = stream.time_base or Fraction(1, av.time_base)
    in_doubt = container.format.name in _ORDERED_BY_DECODING and stream.codec_context.has_b_frames
    indexed = [] if in_doubt else _indexed_times(stream)
    found = _PacketTimes(indexed, indexed) if indexed else _packet_times(container, stream)
    times = sorted(found.all)
    stated = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    filled = with_gaps_filled(times, found.without, found.last)
    rate, constant = find_rate(filled, time_base, stated)
    if not constant and len(own := sorted(set(found.own))) < len(times):
        if found.leap is not None:
            raise SourceError(
                f"{Path(container.name).name}: its times go back at frame {found.leap}, as where"
                " two files were joined: remux it with ffmpeg -i IN -c copy OUT"
            )
        # Damage: the other frames take what places are free.
        found.without += len(times) - len(own)
        times = own
        filled = with_gaps_filled(times, found.without, found.last)
        rate, constant = find_rate(filled, time_base, stated)
    if constant:
        times = filled
    elif found.without:
        rate, constant = find_rate(times, time_base, stated)
    if indexed and not constant:
        times = sorted(_packet_times(container, stream).all) if numbered else []
    exact = time_base
    if constant:
        exact = Fraction(1, math.lcm(rate.numerator, time_base.denominator))
    return Timing(
        rate=rate,
        constant=constant,
        time_base=exact,
        stream_time_base=time_base,
        first=first_pts,
        frame_count=len(indexed) or len(times) or None,
        times=() if constant else tuple(times),
        is_reordered=in_doubt and found.all == times,
    )


def packets_from(container: InputContainer, *streams: Stream) -> Iterator[av.Packet]:
    """The packets of ``streams``, or of all, as they come, and an empty one of each at the end.

    PyAV 18.1 raises IndexError at the packet of a stream that turns up in the middle, as in
    damaged transport streams; it is passed over. Raises av.FFmpegError.
    """
    while True:
        try:
            yield from container.demux(*streams)
            return
        except IndexError:
            continue  # it has read that packet: the next one is another

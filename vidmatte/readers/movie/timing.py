"""The timing of a movie: whether its rate is constant, and the exact times of its frames.

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


#: Containers that may store only the decoding order of frames.
_DECODE_ORDER_ONLY = {"avi", "mxf"}
_MAX_REORDER = 16  # frames: no codec delays a frame longer between decoding and display


@dataclass(frozen=True)
class Timing:
    """When a movie's frames are shown.

    rate: frames a second, exact where ``constant``, else the average.
    time_base: fine enough for every frame's time to be an integer.
    first: the first frame's pts in the stream's own time base.
    times: every frame's pts there, in order, where the rate is variable and they are known.
    is_reordered: the frames' timestamps are those of their decoding; sorted, they are right.
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

        With a constant rate it is the nearest grid point, so that the container's rounding
        does not add up.
        """
        if not self.constant:
            return pts
        seconds = self.first * self.stream_time_base + self.frame_number(pts) / self.rate
        return int(seconds / self.time_base)  # an integer by the choice of time_base

    def frame_number(self, pts: int) -> int:
        """A frame's number, counted from the first, by its pts in the stream's time base."""
        if not self.constant:
            return bisect_left(self.times, pts)
        return round((pts - self.first) * self.stream_time_base * self.rate)

    def moment(self, number: int) -> Fraction:
        """When frame ``number`` is shown, in seconds on the container's timeline.

        The number after the last frame's gives the clip's end.
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
    """The decoding times of all frames by a complete index (QuickTime, MP4), else empty.

    In the stream's time base, sorted: enough for the spacing.
    """
    entries = stream.index_entries
    if not stream.frames or len(entries) != stream.frames:
        return []
    return sorted(entry.timestamp for entry in entries if not entry.is_discard)


@dataclass
class _PacketTimes:
    """The timestamps of a stream's packets in its time base, in the order of the file.

    all: those of every frame that has one; plausible: without duplicate and out-of-order ones.
    without: how many frames have none; last: how many of those come last. jump_back: the number
    of the packet at which the times go back and stay there; None where they do not.
    """

    all: list[int]
    plausible: list[int]
    without: int = 0
    last: int = 0
    jump_back: int | None = None


def _packet_times(container: InputContainer, stream: VideoStream) -> _PacketTimes:
    """Every frame's timestamp, by reading all packets of a container that was not read yet."""
    found = _PacketTimes([], [])
    packets = (packet for packet in packets_from(container, stream) if packet.size)
    shown = (packet for packet in packets if not packet.is_discard)
    going_back = 0  # packets in succession
    for number, (packet, follows) in enumerate(in_display_order(shown, _decoded_at)):
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            found.without, found.last = found.without + 1, found.last + 1
            continue
        found.last = 0
        found.all.append(stamp)
        if follows:
            going_back = 0
            found.plausible.append(stamp)
        else:
            going_back += 1
            if going_back > _MAX_REORDER and found.jump_back is None:
                found.jump_back = number - _MAX_REORDER
    return found


def _decoded_at(packet: av.Packet) -> int | None:
    """A packet's dts, which grows from packet to packet. The pts is no substitute where it is
    missing: among the dts of others it goes back wherever frames are reordered."""
    return packet.dts


def in_order(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Frames in display order whose timestamps are in decoding order: the timestamps, sorted."""
    held: deque[av.VideoFrame] = deque()
    stamps: list[int] = []
    for frame in frames:
        held.append(frame)
        heappush(stamps, frame.pts or 0)
        if len(held) > _MAX_REORDER:
            held[0].pts = heappop(stamps)
            yield held.popleft()
    for frame in held:
        frame.pts = heappop(stamps)
        yield frame


def _lies_on_grid(times: list[int], time_base: Fraction, rate: Fraction) -> bool:
    """True when each frame is within one tick of ``first + k / rate``, k = 0, 1, 2, ...

    And nearer to its own position than to the next: where a tick is a frame (AVI), a dropped
    frame would pass for rounding.
    """
    step = 1 / (rate * time_base)
    first = times[0]
    errors = (abs(stamp - first - index * step) for index, stamp in enumerate(times))
    return all(error <= 1 and 2 * error < step for error in errors)


def _find_rate(
    times: list[int], time_base: Fraction, candidates: Iterable[Fraction | None]
) -> tuple[Fraction, bool]:
    """The rate of frames at ``times`` and whether it is constant.

    candidates: the rates that the container declares. Standard rates are tried before others,
    first declared ones, then those nearest to the mean spacing: what a container with a coarse
    time base declares is often an average. Where a frame is hardly longer than a tick (AVI) only
    declared rates count, since any times are the rounded times of some rate.
    """
    declared = [rate for rate in candidates if rate]
    if len(times) < 2 or times[-1] == times[0]:
        return (declared[0] if declared else Fraction(25)), True
    mean = Fraction(len(times) - 1) / ((times[-1] - times[0]) * time_base)
    nearest = sorted(_STANDARD_RATES, key=lambda rate: abs(rate - mean))[:2]
    standard = [rate for rate in declared if rate in _STANDARD_RATES]
    tried = [*standard, *nearest, *declared, mean.limit_denominator(1001)]
    for rate in tried if 2 * mean * time_base <= 1 else declared:
        if rate and _lies_on_grid(times, time_base, rate):  # hours between frames make it 0
            return rate, True
    return mean.limit_denominator(100_000) or mean, False


def read_timing(
    container: InputContainer, stream: VideoStream, first_pts: int, *, numbered: bool
) -> Timing:
    """The timing of ``stream``; ``first_pts`` is that of the first decoded frame.

    Reads the container, of which nothing was read before. numbered: frames will be looked up by
    number, for which all packets are read where the rate is variable.
    Raises SourceError where the timestamps jump back.
    """
    time_base = stream.time_base or Fraction(1, av.time_base)
    is_ambiguous = container.format.name in _DECODE_ORDER_ONLY and stream.codec_context.has_b_frames
    indexed = [] if is_ambiguous else _indexed_times(stream)
    found = _PacketTimes(indexed, indexed) if indexed else _packet_times(container, stream)
    times = sorted(found.all)
    declared = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    filled = with_gaps_filled(times, found.without, found.last)
    rate, constant = _find_rate(filled, time_base, declared)
    if not constant and len(plausible := sorted(set(found.plausible))) < len(times):
        if found.jump_back is not None:
            raise SourceError(
                f"{Path(container.name).name}: its timestamps jump back at frame"
                f" {found.jump_back}, as where two files were joined: remux it with"
                " ffmpeg -i IN -c copy OUT"
            )
        # Damage: the other frames take the positions that are free.
        found.without += len(times) - len(plausible)
        times = plausible
        filled = with_gaps_filled(times, found.without, found.last)
        rate, constant = _find_rate(filled, time_base, declared)
    if constant:
        times = filled
    elif found.without:
        rate, constant = _find_rate(times, time_base, declared)
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
        is_reordered=is_ambiguous and found.all == times,
    )


def packets_from(container: InputContainer, *streams: Stream) -> Iterator[av.Packet]:
    """The packets of ``streams``, or of all, in the file's order, and an empty one of each at
    the end.

    PyAV 18.1 raises IndexError at a packet of a stream that first appears in the middle, as in
    damaged transport streams; it is skipped. Raises av.FFmpegError.
    """
    while True:
        try:
            yield from container.demux(*streams)
            return
        except IndexError:
            continue  # that packet has been read: go on with the next

"""The timing of a movie: whether its rate is constant, and the exact times of its frames.

A container's time base is often too coarse for its rate (Matroska: milliseconds).
Where all frames lie on a rational grid to within one tick, their exact times are
taken from the grid; a clip of variable rate keeps its pts as they are.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from vidmatte.core.source import state_of
from vidmatte.errors import SourceError, UsageError
from vidmatte.media.quicktime import is_cut_off
from vidmatte.readers.movie.container import MovieFile, read_errors_as
from vidmatte.readers.movie.missing_timestamps import with_gaps_filled
from vidmatte.readers.movie.packets import (
    DECODE_ORDER_ONLY,
    DTS_ONLY,
    RAW_STREAMS,
    TRUNCATED,
    PacketTimes,
    Stamps,
    frame_starts,
    read_packet_times,
)
from vidmatte.readers.movie.rates import find_rate, with_end_filled, without_orphans

_HIGHEST_RATE = 960
_DEFAULT_RATE = Fraction(25)  # frames a second of a stream that states none


@dataclass(frozen=True)
class Timing:
    """When a movie's frames are shown.

    rate: frames a second, exact where ``constant``, else the average.
    time_base: fine enough for every frame's time to be an integer.
    first: the first frame's pts in the stream's own time base.
    times: every frame's pts there, in order, where the rate is variable and they are known.
    is_reordered: the frames' timestamps are those of their decoding; sorted, they are right.
    stamps: where those are in the packets. is_indexed: ``first`` is a decoding time, by the
    container's index. first_key: the time of the first key frame where it is known.
    is_rate_assumed: the rate is stated nowhere. failure: why a part of the file cannot be read.
    """

    rate: Fraction
    constant: bool
    time_base: Fraction
    stream_time_base: Fraction
    first: int
    frame_count: int | None
    times: tuple[int, ...] = ()
    is_reordered: bool = False
    stamps: Stamps = Stamps.PTS
    is_indexed: bool = False
    first_key: int | None = None
    is_rate_assumed: bool = False
    failure: str | None = None

    @property
    def rewritten(self) -> Stamps | None:
        """What a packet's pts becomes before it is decoded; None where it stays."""
        return self.stamps if self.is_reordered else None

    def beginning(self, first: int) -> Timing:
        """The timing of the frames from the one on that is the first to decode, at ``first``."""
        if self.is_reordered and self.first_key is not None:
            first = min(first, self.first_key)  # what is decoded first need not be shown first
        if self.is_indexed or self.frame_count is None:
            return replace(self, first=first)
        if first <= self.first:
            return self
        lost = min(self.frame_number(first), self.frame_count - 1)
        return replace(
            self, first=first, frame_count=self.frame_count - lost, times=self.times[lost:]
        )

    @property
    def last_pts(self) -> int | None:
        """The latest pts that a frame can have, in the stream's time base; None where the packets
        were not read."""
        if self.is_indexed or not self.frame_count:
            return None
        return int(self.moment(self.frame_count) / self.stream_time_base) - 1

    @property
    def shortage(self) -> str | None:
        """What is missing of a file of which a part cannot be read."""
        if self.failure is None:
            return None
        return f"a part of it cannot be read ({self.failure}), {self.frame_count or 0} frames could"

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


def read_timing(file: MovieFile, *, numbered: bool, fps: Fraction | None = None) -> Timing:
    """The timing of a movie; its first frame is the earliest that the container has, which need
    not decode: see ``Timing.beginning``.

    numbered: frames will be looked up by number, for which all packets are read where the rate is
    variable. fps: the rate of a stream without timestamps. Raises SourceError where the timestamps
    jump back, or reading fails; UsageError for ``fps`` where there are timestamps.
    """
    return _read_timing(file, state_of(file.path), numbered, fps)


# An edit shows many ranges of few media, and each is opened several times.
@lru_cache(maxsize=16)
def _read_timing(
    file: MovieFile,
    state: tuple[int, ...],  # noqa: ARG001 (another file under the same name is read anew)
    numbered: bool,
    fps: Fraction | None,
) -> Timing:
    with file.open() as container, read_errors_as(file.path):
        stream = file.stream(container)
        indexed, found = _times_of(container, stream)
        is_raw = container.format.name in RAW_STREAMS
        has_times = not is_raw and bool(indexed or found.all or not found.without)
        if fps is not None and has_times:
            raise UsageError(
                f"--fps {fps} is for picture folders and streams without timestamps:"
                f" {file.path.name} has its own rate, which --conform changes"
            )
        if not has_times or (found.fields and container.format.name in DECODE_ORDER_ONLY):
            timing = _counted(stream, found.numbers, fps)
        else:
            timing = _timing_of(file, stream, indexed, found)
        if not found.failures and container.format.name.startswith("mov") and is_cut_off(file.path):
            found.failures.append(TRUNCATED)
        if found.failures:
            timing = replace(timing, failure=found.failures[0])
    if indexed and not timing.constant:
        return replace(timing, times=_all_times(file) if numbered else ())
    return timing


def _times_of(container: InputContainer, stream: VideoStream) -> tuple[list[int], PacketTimes]:
    """The times by the index where it has one of every frame, else empty; and by the packets,
    which are read where the index alone leaves open what is a frame and when it is shown."""
    context = stream.codec_context
    indexed, starts = _indexed_times(stream), frame_starts(stream)
    size = Path(container.name).stat().st_size
    if any(entry.pos + entry.size > size for entry in stream.index_entries):
        indexed = []  # it names frames that are missing
    if container.format.name in DECODE_ORDER_ONLY and context.has_b_frames:
        indexed = []
    is_by_dts = container.format.name in DTS_ONLY and context.has_b_frames
    stamps = Stamps.DTS if is_by_dts else Stamps.PTS
    if not indexed or (starts is not None and not starts.is_intra):
        return [], read_packet_times(container, stream, stamps)
    if context.has_b_frames:
        found = read_packet_times(container, stream, stamps, to_first_drop=True)
        if found.is_rising and not found.is_intra:
            return [], found
    return indexed, PacketTimes(indexed, indexed)


def _timing_of(
    file: MovieFile, stream: VideoStream, indexed: list[int], found: PacketTimes
) -> Timing:
    """The timing of a stream whose packets have timestamps. Raises SourceError."""
    time_base = stream.time_base or Fraction(1, av.time_base)
    times = sorted(found.all)
    declared = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    filled = with_gaps_filled(times, found.without, found.last)
    rate, constant = find_rate(filled, time_base, declared)
    may_be_reordered = bool(stream.codec_context.has_b_frames) and not found.is_intra
    if not constant and may_be_reordered and not indexed:
        mend = without_orphans if found.failures else with_end_filled
        times = filled = mend(filled, time_base, declared)
        rate, constant = find_rate(filled, time_base, declared)
    if not constant and len(plausible := sorted(set(found.plausible))) < len(times):
        if found.jump_back is not None:
            raise SourceError(
                f"{file.path.name}: its timestamps jump back at frame"
                f" {found.jump_back}, as where two files were joined: remux it with"
                " ffmpeg -i IN -c copy OUT"
            )
        # Damage: the other frames take the positions that are free.
        found.without += len(times) - len(plausible)
        times = plausible
        filled = with_gaps_filled(times, found.without, found.last)
        rate, constant = find_rate(filled, time_base, declared)
    if constant:
        times = filled
    elif found.without:
        rate, constant = find_rate(times, time_base, declared)
    exact = time_base
    if constant:
        exact = Fraction(1, math.lcm(rate.numerator, time_base.denominator))
    is_rising = found.is_rising and not found.without
    return Timing(
        rate=rate,
        constant=constant,
        time_base=exact,
        stream_time_base=time_base,
        first=times[0] if times else 0,
        frame_count=len(times) or None,
        times=() if constant else tuple(times),
        is_reordered=may_be_reordered and is_rising and not indexed,
        stamps=Stamps.DTS if found.are_dts and is_rising else Stamps.PTS,
        is_indexed=bool(indexed),
        first_key=found.first_key,
    )


def _counted(stream: VideoStream, frames: int, fps: Fraction | None) -> Timing:
    """The timing of frames that are numbered, at the rate that the coded stream states."""
    stated: Fraction | None = stream.codec_context.framerate
    if stated is not None and not 1 <= stated <= _HIGHEST_RATE:  # a clock's, not that of frames
        stated = None
    rate = fps or stated or _DEFAULT_RATE
    return Timing(
        rate=rate,
        constant=True,
        time_base=1 / rate,
        stream_time_base=1 / rate,
        first=0,
        frame_count=frames,
        is_reordered=True,
        stamps=Stamps.COUNT,
        is_rate_assumed=not (fps or stated),
    )


def _all_times(file: MovieFile) -> tuple[int, ...]:
    """The times of all frames, in order, by reading all packets."""
    with file.open() as container:
        return tuple(sorted(read_packet_times(container, file.stream(container), Stamps.PTS).all))

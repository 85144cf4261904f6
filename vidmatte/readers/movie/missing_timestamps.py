"""Frames with missing, duplicate or out-of-order timestamps, as in damaged transport streams:
finding them, and the position that each takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from heapq import heappop, heappush
from itertools import chain, pairwise, repeat
from typing import TypeVar

import av

T = TypeVar("T")
MAX_REORDER = 16  # frames: no codec delays a frame longer between decoding and display


def in_display_order(
    items: Iterable[T], timestamp: Callable[[T], int | None]
) -> Iterator[tuple[T, bool]]:
    """Each item, and whether its timestamp is plausible: later than those before it.

    Of two that are out of order, the wrong one is the one farther from a usual step after the
    previous item; of two equal timestamps the first is wrong if there is a gap before it, else
    the second. Items without a timestamp count as plausible. One item is buffered.
    """
    last: int | None = None  # timestamp of the latest plausible item
    step = 0
    held: tuple[T, int] | None = None
    for item in items:
        time = timestamp(item)
        if held is not None:
            before, at = held
            is_wrong = time is not None and last is not None and _is_beyond(last, at, time, step)
            yield before, not is_wrong
            if not is_wrong:
                step, last = at - last if last is not None else 0, at
            held = None
        if time is None:
            yield item, True
        elif last is not None and time <= last:
            yield item, False
        else:
            held = item, time
    if held is not None:
        yield held[0], True


def _is_beyond(last: int, at: int, after: int, step: int) -> bool:
    """Whether the timestamp ``at`` is wrong, rather than ``after``, the next one: ``last`` is the
    one before, ``step`` the distance before that. The one nearer to ``last + step`` is right."""
    if after == at:
        return 0 < 3 * step < 2 * (at - last)
    expected = last + step
    return last < after < at and abs(after - expected) < abs(at - expected)


def in_order(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Frames in display order whose timestamps are in decoding order: the timestamps, sorted.

    Of several frames that a damaged packet gives, with one timestamp, the first is used.
    """
    held: deque[av.VideoFrame] = deque()
    stamps: list[int] = []
    last: int | None = None
    for frame in chain(frames, repeat(None)):
        if frame is not None:
            if frame.pts is None:  # of a damaged packet: it would take another's place
                continue
            held.append(frame)
            heappush(stamps, frame.pts)
            if len(held) <= MAX_REORDER:
                continue
        elif not held:
            return
        shown = held.popleft()
        shown.pts = heappop(stamps)
        if last is None or shown.pts > last:
            last = shown.pts
            yield shown


def without_late(
    frames: Iterable[av.VideoFrame], last: int | None, *, dropped: bool
) -> Iterator[av.VideoFrame]:
    """The frames; those later than ``last``, which is damage, lose their timestamp or are
    ``dropped``. last: None where it is unknown."""
    for frame in frames:
        if last is not None and frame.pts is not None and frame.pts > last:
            if dropped:
                continue
            frame.pts = None
        yield frame


def with_gaps_filled(times: list[int], without: int, last: int) -> list[int]:
    """Sorted ``times``, with those of ``without`` frames that have no timestamp added: in gaps of
    several usual steps, and after the end for the ``last`` ones."""
    steps = sorted(after - before for before, after in pairwise(times))
    if not without or not steps or steps[len(steps) // 2] <= 0:
        return times
    step = steps[len(steps) // 2]
    filled = times[:1]
    for before, after in pairwise(times):
        missing = round((after - before) / step) - 1
        if 0 < missing <= without:
            without -= missing
            spacing = Fraction(after - before, missing + 1)
            filled += [before + round(spacing * number) for number in range(1, missing + 1)]
        filled.append(after)
    return filled + [filled[-1] + step * number for number in range(1, min(last, without) + 1)]


def with_all_timestamps(
    frames: Iterable[av.VideoFrame],
    count: int,
    number_of: Callable[[int], int],
    pts_of: Callable[[int], int],
) -> Iterator[av.VideoFrame]:
    """Frames of a constant rate in order; those without a timestamp take the next positions.

    A frame is dropped if there is no position for it before the next frame with a timestamp or
    the clip's end after ``count`` frames. Frames before the first timestamp stay as they are.
    number_of: a frame's number from its pts; pts_of: the pts of a number.
    """
    number: int | None = None
    held: list[av.VideoFrame] = []
    for frame in frames:
        if frame.pts is None and number is not None:
            held.append(frame)
            continue
        if frame.pts is not None:
            before, number = number, number_of(frame.pts)
            if before is not None:
                yield from _with_timestamps(held, before, number, pts_of)
            held.clear()
        yield frame
    if number is not None:
        yield from _with_timestamps(held, number, count, pts_of)


def _with_timestamps(
    held: list[av.VideoFrame], last: int, end: int, pts_of: Callable[[int], int]
) -> Iterator[av.VideoFrame]:
    """The held frames, with the pts of the numbers after ``last``; those that would be ``end``
    or later are dropped."""
    for number, frame in zip(range(last + 1, end), held, strict=False):
        frame.pts = pts_of(number)
        yield frame

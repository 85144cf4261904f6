"""Frames without a time, or with one that cannot be theirs, as damaged transport streams have
them: which they are, and what place they take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import TypeVar

import av

T = TypeVar("T")


def in_display_order(
    items: Iterable[T], stamp: Callable[[T], int | None]
) -> Iterator[tuple[T, bool]]:
    """Each item, and whether its time can be its own: it comes after those before it.

    Of two that are not in order the one is in the wrong that lies farther from a usual step
    after the one before; of two with one time the first where it leaves a gap before it, else
    the second. Items without a time pass. One item is held back.
    """
    last: int | None = None  # of those that follow each other
    step = 0
    held: tuple[T, int] | None = None
    for item in items:
        time = stamp(item)
        if held is not None:
            before, at = held
            astray = time is not None and last is not None and _is_beyond(last, at, time, step)
            yield before, not astray
            if not astray:
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
    """Whether a time ``at`` is in the wrong, not the one ``after`` it: ``last`` is before it, and
    ``step`` what lay between the ones before. The one nearer to a step from there is right."""
    if after == at:
        return 0 < 3 * step < 2 * (at - last)
    due = last + step
    return last < after < at and abs(after - due) < abs(at - due)


def with_gaps_filled(times: list[int], without: int, last: int) -> list[int]:
    """Sorted ``times`` and those that ``without`` frames would have which bear none: in gaps of
    some usual steps, and after the end for the ``last`` ones."""
    steps = sorted(after - before for before, after in pairwise(times))
    if not without or not steps or steps[len(steps) // 2] <= 0:
        return times
    step = steps[len(steps) // 2]
    filled = times[:1]
    for before, after in pairwise(times):
        missing = round((after - before) / step) - 1
        if 0 < missing <= without:
            without -= missing
            apart = Fraction(after - before, missing + 1)
            filled += [before + round(apart * number) for number in range(1, missing + 1)]
        filled.append(after)
    return filled + [filled[-1] + step * number for number in range(1, min(last, without) + 1)]


def with_all_timestamps(
    frames: Iterable[av.VideoFrame],
    count: int,
    place: Callable[[int], int],
    stamp: Callable[[int], int],
) -> Iterator[av.VideoFrame]:
    """Frames of a constant rate in order; those without a time take the next places.

    One for which the next frame with a time, or the clip's end after ``count`` frames, leaves no
    place is passed over. Those before the first with a time stay as they are. place: the number
    of a frame from its pts; stamp: the pts of a number that was given to a frame.
    """
    number: int | None = None
    held: list[av.VideoFrame] = []
    for frame in frames:
        if frame.pts is None and number is not None:
            held.append(frame)
            continue
        if frame.pts is not None:
            before, number = number, place(frame.pts)
            if before is not None:
                yield from _with_timestamps(held, before, number, stamp)
            held.clear()
        yield frame
    if number is not None:
        yield from _with_timestamps(held, number, count, stamp)


def _with_timestamps(
    held: list[av.VideoFrame], last: int, end: int, stamp: Callable[[int], int]
) -> Iterator[av.VideoFrame]:
    """The frames that are held, with the times of the numbers after ``last``; those that find
    none before ``end`` are passed over."""
    for number, frame in zip(range(last + 1, end), held, strict=False):
        frame.pts = stamp(number)
        yield frame

"""The rate of a movie's frames, by their times: exact where they lie on a grid."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

_STANDARD_RATES = tuple(
    Fraction(rate)
    for rate in (
        "24000/1001", 24, 25, "30000/1001", 30, "48000/1001", 48, 50, "60000/1001", 60,
        "120000/1001", 100, 120, "15000/1001", 15, 12, 10,
    )
)  # fmt: skip

_MOST_ORPHANS = 4  # frames that are coded before others that are shown before them


def _lies_on_grid(times: list[int], time_base: Fraction, rate: Fraction) -> bool:
    """True when each frame is within one tick of ``first + k / rate``, k = 0, 1, 2, ...

    And nearer to its own position than to the next: where a tick is a frame (AVI), a dropped
    frame would pass for rounding.
    """
    step = 1 / (rate * time_base)
    first = times[0]
    errors = (abs(stamp - first - index * step) for index, stamp in enumerate(times))
    return all(error <= 1 and 2 * error < step for error in errors)


def find_rate(
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


def without_orphans(
    times: list[int], time_base: Fraction, candidates: Iterable[Fraction | None]
) -> list[int]:
    """Sorted ``times`` of a stream that breaks off, without the last few where the others are of a
    constant rate: where frames are reordered, those before them are missing."""
    declared = list(candidates)
    for count in range(1, min(_MOST_ORPHANS, len(times) - 2) + 1):
        if find_rate(times[:-count], time_base, declared)[1]:
            return times[:-count]
    return times


def with_end_filled(
    times: list[int], time_base: Fraction, candidates: Iterable[Fraction | None]
) -> list[int]:
    """Sorted ``times``, with those of the frames that are missing before the last few added where
    all lie on the grid of one rate: see ``without_orphans``."""
    declared = list(candidates)
    before = without_orphans(times, time_base, declared)
    step = 1 / (find_rate(before, time_base, declared)[0] * time_base)
    places = [(time - times[0]) / step for time in times]
    if before == times or any(abs(place - round(place)) * step > 1 for place in places):
        return times
    return [times[0] + round(place * step) for place in range(round(places[-1]) + 1)]

"""Any clip at a constant rate: frames are repeated and dropped, and counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor

from vidmatte import timecode
from vidmatte.errors import UsageError
from vidmatte.frame import Clip
from vidmatte.source.base import Picture, Source

HALF = Fraction(1, 2)


class ConformedSource(Source):
    """``source`` at ``rate``: each picture at the place nearest to its time, held until the
    next one; where several come to one place, the nearest is shown. Pictures lose their names,
    since one may stand for several frames."""

    def __init__(self, source: Source, rate: Fraction) -> None:
        self._source = source
        self._rate = rate
        moved, self._notes = conformed_timecode(source.clip, rate)
        self._report: list[str] = []
        self.clip = replace(
            source.clip,
            rate=rate,
            time_base=1 / rate,
            constant_rate=True,
            frame_count=None,
            shown=source.clip.frame_count,
            timecode=moved,
            names=(),
        )

    @property
    def warnings(self) -> list[str]:
        return [*self._notes, *self._source.warnings, *self._report]

    def close(self) -> None:
        self._source.close()

    def pictures(self) -> Iterator[Picture]:
        """See ``Source.pictures``; each lies on the grid of the rate, none is left out."""
        base = self._source.clip.time_base
        nearest: _Placed | None = None  # to the grid's place of which it is
        latest: _Placed | None = None
        end = Fraction(0)
        read = written = 0
        used: set[int] = set()

        def fill(until: int) -> Iterator[Picture]:
            """The frames from the nearest one's place on."""
            nonlocal written
            if nearest is None or latest is None:
                return
            if not written:
                until = max(until, nearest.place + 1)
            for number in range(nearest.place, until):
                shown = nearest if number == nearest.place else latest
                used.add(shown.count)
                written += 1
                yield Picture(shown.picture.pixels, number, 1, shows=shown.count)

        for count, picture in enumerate(self._source.pictures()):
            read += 1
            time = picture.pts * base * self._rate
            latest_here = _Placed(picture, count, time)
            if nearest is None or latest_here.place > nearest.place:
                yield from fill(latest_here.place)
                nearest = latest_here
            elif latest_here.away < nearest.away:
                nearest = latest_here
            latest = latest_here
            end = time + (picture.duration * base * self._rate or 1)
        yield from fill(floor(end + HALF))
        self._report.append(
            f"{self.clip.path.name}: conformed to {self._rate} fps:"
            f" {written - len(used)} frames repeated, {read - len(used)} dropped"
        )


@dataclass(frozen=True)
class _Placed:
    """A picture, its number, and its time in frames of the new rate."""

    picture: Picture
    count: int
    time: Fraction

    @property
    def place(self) -> int:
        return place_of(self.time)

    @property
    def away(self) -> Fraction:
        """How far from its place its time is."""
        return abs(self.time - self.place)


def place_of(time: Fraction) -> int:
    """The whole number nearest to a time; of two the earlier."""
    return ceil(time - HALF)


def conformed_timecode(clip: Clip, rate: Fraction) -> tuple[str | None, list[str]]:
    """The clip's timecode at another rate, none where it has none, and a word if it changed."""
    if clip.timecode is None:
        return None, []
    try:
        moved = timecode.at_rate(clip.timecode, clip.rate, rate)
    except UsageError as error:
        return None, [f"{clip.path.name}: its timecode is left out: {error}"]
    if moved == clip.timecode:
        return moved, []
    return moved, [f"{clip.path.name}: timecode {clip.timecode} becomes {moved} at {rate} fps"]

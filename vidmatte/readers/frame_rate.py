"""Any clip at a constant rate: frames are repeated and dropped, and counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor

from vidmatte.core import timecode
from vidmatte.core.frame import Clip
from vidmatte.readers.base import DecodedPicture, Reader

_HALF = Fraction(1, 2)


class ConformedReader(Reader):
    """``source`` at ``rate``: each picture at the place nearest to its time, held until the
    next one; where several come to one place, the nearest is shown. Pictures lose their names,
    since one may stand for several frames."""

    def __init__(self, source: Reader, rate: Fraction) -> None:
        self._source = source
        self._rate = rate
        moved, self._notes = _conformed_timecode(source.clip, rate)
        self._report: list[str] = []
        self._read = 0  # pictures of the source
        self.clip = replace(
            source.clip,
            rate=rate,
            time_base=1 / rate,
            constant_rate=True,
            frame_count=None,
            source_frame_count=source.clip.frame_count,
            timecode=moved,
            output_names=(),
        )

    @property
    def warnings(self) -> list[str]:
        return [*self._notes, *self._source.warnings, *self._report]

    def close(self) -> None:
        self._source.close()

    def pictures(self) -> Iterator[DecodedPicture]:
        """See ``Source.pictures``; each lies on the grid of the rate, none is left out."""
        written = 0
        used: set[int] = set()
        for number, shown in self._laid():
            used.add(shown.count)
            written += 1
            yield DecodedPicture(shown.picture.pixels, number, 1, source_index=shown.count)
        self._report.append(
            f"{self.clip.source.name}: conformed to {self._rate} fps:"
            f" {written - len(used)} frames repeated, {self._read - len(used)} dropped"
        )

    def _laid(self) -> Iterator[tuple[int, _GridPicture]]:
        """The places of the grid, each with the picture that is shown there."""
        frames_a_unit = self._source.clip.time_base * self._rate
        first: _GridPicture | None = None
        nearest: _GridPicture | None = None  # to the place that is not laid yet
        latest: _GridPicture | None = None
        for count, picture in enumerate(self._source.pictures()):
            here = _GridPicture(picture, count, picture.pts * frames_a_unit)
            if nearest is None or latest is None:
                first = nearest = here
            elif here.place > nearest.place:
                yield from _hold_picture(nearest, latest, here.place)
                nearest = here
            elif here.away < nearest.away:
                nearest = here
            latest = here
        if first is None or nearest is None or latest is None:
            return
        self._read = latest.count + 1
        end = floor(latest.time + (latest.picture.duration * frames_a_unit or 1) + _HALF)
        if nearest.place == first.place:  # nothing is laid yet: at least one picture is
            end = max(end, nearest.place + 1)
        yield from _hold_picture(nearest, latest, end)


@dataclass(frozen=True)
class _GridPicture:
    """A picture, its number, and its time in frames of the new rate."""

    picture: DecodedPicture
    count: int
    time: Fraction

    @property
    def place(self) -> int:
        return _place_of(self.time)

    @property
    def away(self) -> Fraction:
        """How far from its place its time is."""
        return abs(self.time - self.place)


def _hold_picture(
    nearest: _GridPicture, latest: _GridPicture, until: int
) -> Iterator[tuple[int, _GridPicture]]:
    """The nearest picture at its place, the latest one at those that follow, before ``until``."""
    for number in range(nearest.place, until):
        yield number, nearest if number == nearest.place else latest


def _place_of(time: Fraction) -> int:
    """The whole number nearest to a time; of two the earlier."""
    return ceil(time - _HALF)


def _conformed_timecode(clip: Clip, rate: Fraction) -> tuple[str | None, list[str]]:
    """The clip's timecode at another rate, none where it has none, and a word if it changed."""
    moved, words = timecode.valid_or_dropped(
        clip.source.name,
        clip.timecode,
        lambda stated: timecode.validated(timecode.at_rate(stated, clip.rate, rate), rate),
    )
    if moved is None or moved == clip.timecode:
        return moved, words
    return moved, [f"{clip.source.name}: timecode {clip.timecode} becomes {moved} at {rate} fps"]

"""Any clip at a constant rate: frames are repeated and dropped, and counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from vidmatte import timecode
from vidmatte.errors import UsageError
from vidmatte.frame import Clip
from vidmatte.source.base import Picture, Source


class ConformedSource(Source):
    """``source`` at ``rate``: each picture at the place nearest to its time, held until the
    next one. Pictures lose their names, since one may stand for several frames."""

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
        held: Picture | None = None
        place = repeated = dropped = 0
        shows = 0
        for count, picture in enumerate(self._source.pictures()):
            start = round(picture.pts * base * self._rate)
            if held is None:
                place = start
            else:
                dropped += start <= place
                repeated += max(0, start - place - 1)
                for number in range(place, start):
                    yield Picture(held.pixels, number, 1, shows=shows)
                place = max(place, start)
            held, shows = picture, count
        if held is not None:
            end = round((held.pts + held.duration) * base * self._rate)
            repeated += max(0, end - place - 1)
            for number in range(place, max(end, place + 1)):
                yield Picture(held.pixels, number, 1, shows=shows)
        self._report.append(
            f"{self.clip.path.name}: conformed to {self._rate} fps:"
            f" {repeated} frames repeated, {dropped} dropped"
        )


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

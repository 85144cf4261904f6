"""Any clip at a constant rate: frames are repeated and dropped, and counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from vidmatte.source.base import Picture, Source


class ConformedSource(Source):
    """``source`` at ``rate``: at each moment the picture whose time is nearest before."""

    def __init__(self, source: Source, rate: Fraction) -> None:
        self._source = source
        self._rate = rate
        self._report: list[str] = []
        self.clip = replace(
            source.clip, rate=rate, time_base=1 / rate, constant_rate=True, frame_count=None
        )

    @property
    def warnings(self) -> list[str]:
        return [*self._source.warnings, *self._report]

    def close(self) -> None:
        self._source.close()

    def pictures(self) -> Iterator[Picture]:
        """See ``Source.pictures``; each lies on the grid of the rate, none is left out."""
        base = self._source.clip.time_base
        held: Picture | None = None
        place = repeated = dropped = 0
        for picture in self._source.pictures():
            start = round(picture.pts * base * self._rate)
            if held is None:
                place = start
            else:
                dropped += start <= place
                repeated += max(0, start - place - 1)
                for number in range(place, start):
                    yield Picture(held.pixels, number, 1, held.name)
                place = max(place, start)
            held = picture
        if held is not None:
            end = round((held.pts + held.duration) * base * self._rate)
            repeated += max(0, end - place - 1)
            for number in range(place, max(end, place + 1)):
                yield Picture(held.pixels, number, 1, held.name)
        self._report.append(
            f"{self.clip.path.name}: conformed to {self._rate} fps:"
            f" {repeated} frames repeated, {dropped} dropped"
        )

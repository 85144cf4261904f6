"""Conforming a clip to a constant rate by repeating and dropping frames."""

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
    """``source`` at ``rate`` (frames per second): each picture at the grid position nearest to its
    time, repeated until the next one; where several share a position, the nearest is used.
    Pictures lose their names, since one may become several frames."""

    def __init__(self, source: Reader, rate: Fraction) -> None:
        self._source = source
        self._rate = rate
        self.points = source.points
        moved, self._notes = _conformed_timecode(source.clip, rate)
        self._counts: list[str] = []  # the line on repeated and dropped frames
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
        return [*self._notes, *self._source.warnings, *self._counts]

    def cancel(self) -> None:
        self._source.cancel()

    def close(self) -> None:
        self._source.close()

    def pictures(self) -> Iterator[DecodedPicture]:
        """See ``Reader.pictures``: one for every position on the grid of the rate."""
        written = 0
        used: set[int] = set()
        for number, shown in self._on_grid():
            used.add(shown.count)
            written += 1
            yield DecodedPicture(shown.picture.pixels, number, 1, source_index=shown.count)
        self._counts.append(
            f"{self.clip.source.name}: conformed to {self._rate} fps:"
            f" {written - len(used)} frames repeated, {self._read - len(used)} dropped"
        )

    def _on_grid(self) -> Iterator[tuple[int, _GridPicture]]:
        """The positions of the grid, each with the picture shown there."""
        frames_a_unit = self._source.clip.time_base * self._rate
        first: _GridPicture | None = None
        nearest: _GridPicture | None = None  # to the position that is filled next
        latest: _GridPicture | None = None
        for count, picture in enumerate(self._source.pictures()):
            here = _GridPicture(picture, count, picture.pts * frames_a_unit)
            if nearest is None or latest is None:
                first = nearest = here
            elif here.position > nearest.position:
                yield from _hold_picture(nearest, latest, here.position)
                nearest = here
            elif here.error < nearest.error:
                nearest = here
            latest = here
        if first is None or nearest is None or latest is None:
            return
        self._read = latest.count + 1
        end = floor(latest.time + (latest.picture.duration * frames_a_unit or 1) + _HALF)
        if nearest.position == first.position:  # no frame so far: give at least one
            end = max(end, nearest.position + 1)
        yield from _hold_picture(nearest, latest, end)


@dataclass(frozen=True)
class _GridPicture:
    """A picture, its number, and its time in frames of the new rate."""

    picture: DecodedPicture
    count: int
    time: Fraction

    @property
    def position(self) -> int:
        """The grid position nearest to its time."""
        return _position_of(self.time)

    @property
    def error(self) -> Fraction:
        """The distance of its time from its position."""
        return abs(self.time - self.position)


def _hold_picture(
    nearest: _GridPicture, latest: _GridPicture, end: int
) -> Iterator[tuple[int, _GridPicture]]:
    """The nearest picture at its position, the latest one at the following, before ``end``."""
    for number in range(nearest.position, end):
        yield number, nearest if number == nearest.position else latest


def _position_of(time: Fraction) -> int:
    """The integer nearest to a time, rounding half down."""
    return ceil(time - _HALF)


def _conformed_timecode(clip: Clip, rate: Fraction) -> tuple[str | None, list[str]]:
    """The clip's timecode at another rate, None without one, and a warning if it changed."""
    moved, warnings = timecode.valid_or_dropped(
        clip.source.name,
        clip.timecode,
        lambda text: timecode.validated(timecode.at_rate(text, clip.rate, rate), rate),
    )
    if moved is None or moved == clip.timecode:
        return moved, warnings
    return moved, [f"{clip.source.name}: timecode {clip.timecode} becomes {moved} at {rate} fps"]

"""Animated WebP as a clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import av

from vidmatte.core.colour import ColourTags
from vidmatte.core.frame import Clip
from vidmatte.core.orientation import UPRIGHT
from vidmatte.errors import SourceError
from vidmatte.media.webp import WebpAnimation
from vidmatte.pixels.formats import Repacker
from vidmatte.readers.base import DecodedPicture, FileSource, Reader
from vidmatte.settings import Settings
from vidmatte.settings.points import SourcePoints, make_trim
from vidmatte.settings.values import stated_colour

_UNIT = Fraction(1, 1000)


class WebpReader(Reader):
    """The pictures of an animated WebP, in milliseconds. Raises SourceError, UsageError."""

    def __init__(self, path: Path, settings: Settings) -> None:
        try:
            self._file = WebpAnimation(path)
        except ValueError as error:
            raise _damaged(path, error) from error
        lengths = self._file.durations
        times = [0, *accumulate(lengths)]
        is_constant = len(set(lengths)) == 1
        rate = Fraction(len(lengths) * 1000, times[-1])
        self.points = SourcePoints(
            rate,
            start_timecode=None,
            frame_count=len(lengths),
            frame_at=lambda seconds: min(
                range(len(times)), key=lambda number: abs(times[number] * _UNIT - seconds)
            ),
        )
        trim = make_trim(self.points, settings.in_point, settings.out_point, settings.handles)
        self._first, self._end = trim.first, trim.end or len(lengths)
        self._times = times
        self._warnings: list[str] = []
        declared = ColourTags().with_stated(stated_colour(settings.colour, path.name, True))
        colour = declared.resolved(self._file.width, self._file.height, is_rgb=True)
        clip = Clip(
            source=FileSource(path),
            kind="movie",
            width=self._file.width,
            height=self._file.height,
            rate=rate,
            time_base=_UNIT,
            pixel_format="rgba",
            working_format="rgb24",
            bit_depth=8,
            colour=colour,
            declared_colour=declared,
            constant_rate=is_constant,
            frame_count=self._end - self._first,
            origin=times[self._first] * _UNIT,
            end=times[self._end] * _UNIT,
            has_alpha=self._file.has_alpha,
            container="webp",
            codec="webp",
        )
        self.skipped = clip.origin
        self.clip = replace(clip, first_frame=trim.first, untrimmed_count=len(lengths))
        self._repack = Repacker("rgb24", UPRIGHT, colour)

    @property
    def warnings(self) -> list[str]:
        return self._warnings

    def pictures(self) -> Iterator[DecodedPicture]:
        """See ``Reader.pictures``."""
        begin = self._times[self._first]
        path = self.clip.source.path
        assert path is not None
        try:
            for number, picture in enumerate(self._file.pictures()):
                if number >= self._end:
                    return
                if number >= self._first:
                    start, stop = self._times[number : number + 2]
                    yield DecodedPicture(self._repack(picture), start - begin, stop - start)
        except (ValueError, av.error.FFmpegError) as error:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> SourceError:
    reason = getattr(error, "strerror", None) or error
    return SourceError(f"{path}: not a readable animated WebP ({reason}): make it again")

"""In and out points, and the range of frames between them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from vidmatte.core import timecode
from vidmatte.errors import UsageError
from vidmatte.settings.values import parse_point as parse_point_text
from vidmatte.settings.values import parsed


@dataclass(frozen=True)
class Trim:
    """Frame numbers from the clip's first frame: ``first`` is included, ``end`` is not."""

    first: int = 0
    end: int | None = None

    def __bool__(self) -> bool:
        return self.first > 0 or self.end is not None


def _parse_point(
    text: str,
    rate: Fraction,
    start_timecode: str | None,
    frame_at: Callable[[Fraction], int] | None = None,
) -> int:
    """An in or out point as a frame number from the clip's first frame.

    'f120' is a frame number; '12.5' seconds, rounded to the nearest frame (by ``frame_at``, else
    by the rate); 'HH:MM:SS:FF' a timecode, counted from the clip's start timecode
    (00:00:00:00 without one). Raises UsageError.
    """
    point = parse_point_text(text)
    if isinstance(point, int):
        return point
    if point is None:
        start = start_timecode or "00:00:00:00"
        if timecode.is_drop(start):
            # The ';' of drop frame is often typed as ':': count as the clip does.
            text = re.sub(r":(?=\d+$)", ";", text)
        return timecode.to_frames(text, rate) - timecode.to_frames(start, rate)
    return round(point * rate) if frame_at is None else frame_at(point)


@dataclass(frozen=True)
class SourcePoints:
    """Points of a source, as --in and --subject write them, to its frame numbers.

    frame_count: None where it is unknown. frame_at: the number of the frame at a time (seconds),
    for variable rates.
    """

    rate: Fraction
    start_timecode: str | None
    frame_count: int | None
    frame_at: Callable[[Fraction], int] | None = None

    def number(self, flag: str, text: str) -> int:
        """The frame number of a point; the clip's end is one too. Raises UsageError, which names
        the option ``flag``, for one outside the clip."""
        frame: int = parsed(flag, text, self._number)
        count = self.frame_count
        if frame < 0 or (count is not None and frame > count):
            start = f" (start timecode {self.start_timecode})" if self.start_timecode else ""
            allowed = "f0 or later" if count is None else f"f0 to f{count - 1}"
            raise UsageError(
                f"{flag} {text} is frame {frame}, outside the clip{start}: choose {allowed}"
            )
        return frame

    def _number(self, text: str) -> int:
        frame = _parse_point(text, self.rate, self.start_timecode, self.frame_at)
        if frame < 0 and self.frame_count is not None:
            # A clip that runs past midnight begins late in one day and ends early in the next.
            after_midnight = frame + timecode.frames_a_day(self.rate, self.start_timecode or "")
            return after_midnight if after_midnight <= self.frame_count else frame
        return frame


def make_trim(
    points: SourcePoints, in_point: str | None, out_point: str | None, handles: int
) -> Trim:
    """The range between in and out points; the out point is exclusive.

    handles: frames added on both sides, as far as the clip has them. Raises UsageError where no
    frame is left.
    """
    count = points.frame_count
    first = points.number("--in", in_point) if in_point is not None else 0
    end = points.number("--out", out_point) if out_point is not None else None
    last = count if count is not None else end
    if (end is not None and end <= first) or (count is not None and first >= count):
        given = (("--in", in_point), ("--out", out_point))
        text = " ".join(f"{name} {point}" for name, point in given if point)
        raise UsageError(f"{text}: no frame is left between these points")
    if end is not None:
        end = end + handles if last is None else min(end + handles, max(last, end))
    return Trim(first=max(0, first - handles), end=end)

"""The clip between its in and out points."""

from __future__ import annotations

from dataclasses import replace

from vidmatte.core import timecode
from vidmatte.core.frame import Clip
from vidmatte.readers.movie.timing import Timing
from vidmatte.settings.points import Trim


def trimmed(clip: Clip, trim: Trim, timing: Timing) -> Clip:
    """The clip between its in and out points: origin, end and frame count adjusted."""
    count = clip.frame_count
    if count is not None:
        count = min(count, trim.end if trim.end is not None else count) - trim.first
    return replace(
        clip,
        frame_count=count,
        first_frame=trim.first,
        untrimmed_count=clip.frame_count,
        origin=timing.moment(trim.first) if trim.first else clip.origin,
        end=timing.moment(trim.end) if trim.end is not None else None,
    )


def moved_timecode(clip: Clip, trim: Trim) -> tuple[str | None, list[str]]:
    """The timecode at the in point, None where it is invalid at the rate, with a warning then."""
    return timecode.valid_or_dropped(
        clip.source.name,
        clip.timecode,
        lambda start: timecode.shifted(start, trim.first, clip.rate),
    )

"""Results on a timeline: the original, over it the cut-out, over that the disabled matte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from vidmatte.alpha.quality import Quality
from vidmatte.core.frame import Clip
from vidmatte.core.names import absolute_path
from vidmatte.core.timecode import frames_a_day, is_drop, number_of
from vidmatte.errors import UsageError
from vidmatte.settings import OutputOptions
from vidmatte.timeline.files import check_timelines, write_timelines
from vidmatte.timeline.model import Event, Marker, Medium, Timeline, in_order
from vidmatte.writers.base import WriteResult
from vidmatte.writers.format_spec import OutputFormat
from vidmatte.writers.formats import FORMATS

_DROP_RATES = (Fraction(30000, 1001), Fraction(60000, 1001))
_FAULTS = {
    "empty": "no subject",
    "full": "marked entirely as subject",
    "jumps": "the matte jumps",
    "subject_lost": "the chosen subject was not found",
}


@dataclass(frozen=True)
class Shot:
    """A result, what it was made of, and what was noticed in its mattes.

    matte: the extra output that holds the alpha as grey, None without one. alpha: how the result's
    colours are: 'straight' or 'premultiplied'.
    """

    clip: Clip
    written: WriteResult
    quality: Quality
    matte: WriteResult | None = None
    alpha: str = "straight"

    @classmethod
    def of(
        cls, clip: Clip, written: WriteResult, quality: Quality, settings: OutputOptions
    ) -> Shot:
        """The shot of a run."""
        place = None if settings.matte is None else absolute_path(Path(settings.matte))
        same = (one for one in written.extra_outputs if absolute_path(one.path) == place)
        return cls(clip, written, quality, next(same, None), settings.alpha)

    @property
    def source_start(self) -> int:
        """The frame number of the clip's first frame by its timecode; without one it counts from
        the source's first frame."""
        clip = self.clip
        if clip.timecode is None:
            return clip.first_frame
        number = number_of(clip.timecode, clip.rate)
        if number < clip.first_frame:  # it ran past midnight
            number += frames_a_day(clip.rate, clip.timecode)
        return number

    def original(self) -> Medium | None:
        """The source as a medium; None where it is no movie with the result's frames."""
        clip = self.clip
        if clip.kind != "movie" or clip.source.path is None or clip.source_frame_count is not None:
            return None
        return Medium(
            name=clip.source.path.name,
            rate=clip.rate,
            path=str(absolute_path(clip.source.path)),
            start=self.source_start - clip.first_frame,
            frames=clip.untrimmed_count or clip.first_frame + self.written.frames,
            drop=clip.timecode is not None and is_drop(clip.timecode),
            reel=clip.reel,
            width=clip.width,
            height=clip.height,
            channels=clip.audio[0].channels if clip.audio else 0,
            sample_rate=clip.audio[0].sample_rate if clip.audio else 48000,
        )

    def medium(self, written: WriteResult, alpha: str) -> Medium:
        """A result, or its matte, as a medium: it keeps the timecode where its format does. alpha:
        see ``Medium``."""
        suffix = written.path.suffix.lower()
        kept = any(  # a matte's own format is no row of the table, but its container is one's
            row.container is not None and row.container.timecode and suffix in row.suffixes
            for row in FORMATS
        )
        has_timecode = kept and self.clip.timecode is not None
        return Medium(
            name=written.path.name,
            rate=written.rate,
            path=str(absolute_path(written.path)),
            start=number_of(self.clip.timecode or "", written.rate) if has_timecode else 0,
            frames=written.frames,
            drop=has_timecode and is_drop(self.clip.timecode or ""),
            reel=self.clip.reel,
            width=written.width,
            height=written.height,
            channels=self.clip.audio[0].channels if written.sound else 0,
            sample_rate=self.clip.audio[0].sample_rate if written.sound else 48000,
            alpha=alpha,
        )

    def markers(self) -> Iterator[tuple[int, str]]:
        """The frames worth a look, counted from the result's first: the first of each range."""
        facts = self.quality.as_facts()
        for fault, text in _FAULTS.items():
            for first, last in facts[fault]:
                yield first, text if first == last else f"{text} ({last - first + 1} frames)"
        for number in facts["subject_doubtful"]:
            place = number - self.clip.first_frame
            if 0 <= place < self.written.frames:
                yield place, "the subject is least certain here"

    def events(self, record: int) -> Iterator[Event]:
        """Its events at a record frame."""
        frames = self.written.frames
        original = self.original()
        if original is not None:
            yield _event(original, self.source_start, record, frames, 1)
        cut = self.medium(self.written, self.alpha)
        markers = tuple(Marker(cut.start + frame, text) for frame, text in sorted(self.markers()))
        yield replace(_event(cut, cut.start, record, frames, 2), markers=markers)
        if self.matte is not None:
            matte = self.medium(self.matte, "")
            yield replace(_event(matte, matte.start, record, frames, 3), enabled=False)


def _event(medium: Medium, start: int, record: int, frames: int, track: int) -> Event:
    channels = medium.channels if track == 1 else 0
    return Event(medium.name, medium, start, frames, record, frames, track, channels=channels)


def _timeline_of(shots: Sequence[Shot], name: str) -> tuple[Timeline, list[str]]:
    """The shots one after the other, from 01:00:00:00, and a line for each that is left out as its
    rate is not the first one's. Raises UsageError where there is no shot."""
    if not shots:
        raise UsageError("--timeline: there is no result to put on it")
    first = shots[0].clip
    drop = first.timecode is not None and is_drop(first.timecode) and first.rate in _DROP_RATES
    events: list[Event] = []
    left_out: list[str] = []
    record = 0
    for shot in shots:
        if shot.clip.rate != first.rate:
            left_out.append(
                f"{shot.written.path.name}: {shot.clip.rate} fps, left out of a timeline of"
                f" {first.rate}"
            )
            continue
        events += shot.events(record)
        record += shot.written.frames
    timeline = Timeline(
        name=name,
        rate=first.rate,
        events=in_order(events),
        start=number_of("01:00:00;00" if drop else "01:00:00:00", first.rate),
        drop=drop,
        width=first.width,
        height=first.height,
    )
    return timeline, left_out


def write_result_timelines(shots: Sequence[Shot], settings: OutputOptions) -> list[str]:
    """Write the shots to each file of --timeline; return a line for each that is left out.

    Raises OutputError, OutputExistsError, UsageError.
    """
    name = shots[0].written.path.stem if len(shots) == 1 else Path(settings.timeline[0]).stem
    timeline, left_out = _timeline_of(shots, name)
    may_replace = settings.overwrite or settings.resume
    write_timelines(timeline, settings.timeline, overwrite=may_replace)
    return left_out


def check_result(
    out: Path, clip: Clip, settings: OutputOptions, formats: Sequence[OutputFormat]
) -> None:
    """Check before a run that its result can be put on the timelines of --timeline.

    formats: those of its outputs, the main one's first. Raises UsageError, OutputError,
    OutputExistsError.
    """
    if not settings.timeline:
        return
    named = (settings.matte, settings.foreground_file, settings.comp)
    taken = [out, *(Path(name) for name in named if name)]
    taken += [] if clip.source.path is None else [clip.source.path]
    check_timelines(settings.timeline, taken, overwrite=settings.overwrite or settings.resume)
    name = settings.timeline[0]
    if formats and formats[0].container is None:
        raise UsageError(
            f"--timeline {name}: {out} holds pictures, and a timeline shows movies: write a movie"
        )
    if not clip.constant_rate:
        raise UsageError(
            f"--timeline {name}: {clip.source.name} has a variable frame rate, and a timeline has"
            f" one: add --conform {round(clip.rate)}"
        )

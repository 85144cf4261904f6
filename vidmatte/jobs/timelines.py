"""The timelines of --timeline, written after a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vidmatte.jobs.run import Result
from vidmatte.settings import Settings
from vidmatte.timeline.files import write_timelines
from vidmatte.timeline.result import Shot, timeline_of


def write_result_timelines(results: Sequence[Result], settings: Settings) -> list[str]:
    """Write the results, in order, to each file of --timeline; return a line for each that is left
    out. Raises OutputError, OutputExistsError, UsageError."""
    shots = [Shot.of(one.clip, one.written, one.quality, settings.matte) for one in results]
    name = shots[0].written.path.stem if len(shots) == 1 else Path(settings.timeline[0]).stem
    timeline, left_out = timeline_of(shots, name)
    replace = settings.overwrite or settings.resume
    write_timelines(timeline, settings.timeline, overwrite=replace)
    return left_out

"""A shot list as input: the ranges of media that an edit shows, and a timeline that plays them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidmatte.cli.batch import run_batch, run_jobs
from vidmatte.cli.call import BUNDLE, Call, is_shot_list
from vidmatte.cli.exit_status import MOST_FAILURES
from vidmatte.cli.piped import run_piped
from vidmatte.core.frame import Clip
from vidmatte.errors import SourceError, UsageError
from vidmatte.jobs.spec import Job, Result
from vidmatte.readers.open import check_readable, open_reader
from vidmatte.settings import Settings, make_settings
from vidmatte.settings.values import parse_rate
from vidmatte.timeline.files import check_timelines, read_timeline, write_timelines
from vidmatte.timeline.media import MediaFinder
from vidmatte.timeline.model import Timeline
from vidmatte.timeline.result import Shot
from vidmatte.timeline.shots import ShotPlan, matted_timeline, plan_shots, report_path
from vidmatte.writers.base import as_output_error
from vidmatte.writers.formats import by_name

_MOST_HANDLES = 1000
#: Options that a shot list decides itself, or that name one file for all results.
_NOT_FOR_SHOTS = ("in_point", "out_point", "conform", "matte", "foreground_file", "comp", "only")


def run_inputs(call: Call) -> int:
    """Run the inputs of a call, a shot list or media; return the exit status. Raises VidmatteError
    for errors that concern the call itself."""
    lists = [] if call.is_piped else [one for one in call.inputs if is_shot_list(Path(one))]
    if not lists:
        if call.media_dir is not None:
            raise UsageError(f"--media-dir {call.media_dir}: it needs a shot list as input")
        return run_piped(call) if call.is_piped else run_batch(call)
    if len(call.inputs) > 1:
        raise UsageError(f"{lists[0]}: a shot list is the only input of a run")
    if call.each:
        raise UsageError("--each: a shot list has one result for each range")
    return _run_shot_list(Path(lists[0]), call)


def _run_shot_list(path: Path, call: Call) -> int:
    """Matte what an edit shows into the folder of a call, and write a report and a new timeline
    there; return the exit status: 0, or how many results failed and events lack their medium."""
    folder, reporter = _folder(call.output, path), call.reporter
    handles, settings = _settings_for_shots(call.options)
    if settings.fps and path.suffix.lower() != ".edl":
        raise UsageError(f"--fps {settings.fps}: {path.name} states its rate; only an EDL does not")
    name = path.name
    if path.suffix.lower() == BUNDLE and path.is_dir():
        name, path = f"{path.stem}.fcpxml", path / "Info.fcpxml"
    check_readable(path)
    plan = _plan(path, call.media_dir, settings, handles)
    for line in plan.report():
        reporter.note(f"vidmatte: {line}")
    files = settings.timeline or (str(folder / name),)
    settings = settings.changed(timeline=(), fps=None)
    suffix = _movie_suffix(settings)
    jobs = _jobs(plan, folder, suffix or "", settings)
    if not jobs:
        raise SourceError(f"{path}: nothing of it can be matted; see the report above")
    replaces = settings.overwrite or settings.resume
    if suffix and (folder.is_dir() or files[0] != str(folder / name)):
        check_timelines(files, [path, *(job.output for job in jobs)], overwrite=replaces)
    reporter.plan([str(job.source) for job in jobs])
    batch = run_jobs(jobs, folder, reporter, workers=call.workers)
    if batch.results:
        _write_report(plan, report_path(folder, Path(name)))
        if suffix:
            write_timelines(_played(plan, jobs, batch.results), files, overwrite=replaces)
            reporter.note(f"vidmatte: timeline: {', '.join(files)}")
        else:
            reporter.note("vidmatte: no timeline shows pictures, so none is written")
    return min(batch.status() + plan.count("missing"), MOST_FAILURES)


def _plan(path: Path, media_dir: str | None, settings: Settings, handles: int) -> ShotPlan:
    """The shots of a file, their media found. Raises SourceError, UsageError."""
    rate = None if settings.fps is None else parse_rate(settings.fps)
    opened = settings.changed(fps=None)
    finder = MediaFinder(
        path, None if media_dir is None else Path(media_dir), lambda file: _clip(file, opened)
    )
    timeline = read_timeline(path, lambda medium: rate or finder.rate_of(medium))
    return plan_shots(timeline, finder.find, handles)


def _played(plan: ShotPlan, jobs: list[Job], results: list[Result]) -> Timeline:
    """The edit with the results over their originals."""
    names = {job.output: one.name for job, one in zip(jobs, plan.ranges, strict=True)}
    shots = {
        names[one.written.path]: Shot.of(one.clip, one.written, one.quality, jobs[0].settings)
        for one in results
    }
    return matted_timeline(plan, shots)


def _folder(output: str | None, path: Path) -> Path:
    """The folder for the results. Raises UsageError."""
    if output is None:
        raise UsageError(f"{path}: a shot list needs a folder for its results, like -o cuts/")
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {output}: that is a file, and a shot list needs a folder")
    return folder


def _settings_for_shots(options: Mapping[str, Any]) -> tuple[int, Settings]:
    """The handles of each shot, and the settings but for its range. Raises UsageError."""
    handles = options.get("handles", 0)
    if not 0 <= handles <= _MOST_HANDLES:
        raise UsageError(f"--handles {handles}: allowed is 0 to {_MOST_HANDLES}")
    settings = make_settings(**{**options, "handles": 0})
    for name in _NOT_FOR_SHOTS:
        if getattr(settings, name) is not None:
            flag = {"in_point": "--in", "out_point": "--out"}.get(name)
            raise UsageError(
                f"{flag or '--' + name.replace('_', '-')} {getattr(settings, name)}: it is not for"
                " shot lists: run their media one by one"
            )
    return handles, settings


def _clip(path: Path, settings: Settings) -> Clip:
    """The clip of a medium. Raises SourceError."""
    with open_reader(path, settings) as source:
        return source.clip


def _movie_suffix(settings: Settings) -> str | None:
    """The suffix of results that are movies, None for pictures."""
    row = by_name(settings.codec or settings.format or "prores")
    return None if row.container is None else row.suffixes[0]


def _jobs(plan: ShotPlan, folder: Path, suffix: str, settings: Settings) -> list[Job]:
    """A job for each range."""
    jobs = []
    for one in plan.ranges:
        changed: dict[str, Any] = {"in_point": f"f{one.first}", "out_point": f"f{one.stop}"}
        if one.found.clip.kind != "movie":  # pictures have the edit's rate
            changed["fps"] = one.uses[0].event.medium.rate
        target = folder / f"{one.name}{suffix}"
        jobs.append(Job(one.found.path, target, settings.changed(**changed)))
    return jobs


def _write_report(plan: ShotPlan, path: Path) -> None:
    """Write the report as text. Raises OutputError."""
    try:
        path.write_text("\n".join([*plan.report(), ""]), "utf-8", "replace")
    except OSError as error:
        raise as_output_error(error, path) from error

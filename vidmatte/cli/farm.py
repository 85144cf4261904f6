"""``vidmatte plan``, ``segment`` and ``join``: one clip over many machines."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from vidmatte.cli.remote import RenamingReporter, StagedCall, staged_call
from vidmatte.cli.summary import report_result
from vidmatte.core.names import counted, sibling_path
from vidmatte.core.remote import Staging
from vidmatte.errors import OutputExistsError, VidmatteError
from vidmatte.farm.join import is_joined, job_of, join_segments, remove_segments
from vidmatte.farm.parts import JOINED
from vidmatte.farm.plan import Plan, segments_folder
from vidmatte.farm.planning import SEGMENT_FRAMES, make_plan
from vidmatte.farm.worker import make_segment
from vidmatte.jobs.check import check_job, make_job
from vidmatte.jobs.report import Reporter, TextReporter, make_reporter
from vidmatte.readers.open import open_reader
from vidmatte.settings import make_settings


def plan(
    clip: str, output: str, file: Path | None, segment_frames: int | None, options: dict[str, Any]
) -> None:
    """Make a plan, write it and report its segments; their number goes to stdout, for scripts.

    Raises VidmatteError.
    """
    with staged_call([clip], output, options) as call:
        reporter = RenamingReporter(
            TextReporter(bar=sys.stderr.isatty(), verbose=False), call.names
        )
        _write_plan(call, file, segment_frames, options, reporter)


def _write_plan(
    call: StagedCall,
    file: Path | None,
    segment_frames: int | None,
    options: dict[str, Any],
    reporter: Reporter,
) -> None:
    """The same for local paths."""
    settings = make_settings(**options)
    job = make_job(call.inputs[0], call.output or "", settings)
    name = f"{job.output.name}.plan.json"
    path = file or (sibling_path(job.output, name) if call.folder is None else Path(name))
    folder = segments_folder(path)
    if path.exists() and not settings.overwrite:
        raise OutputExistsError(f"{path} exists: --overwrite replaces it")
    with open_reader(job.source, settings) as source:
        checked = check_job(job, source)
    model = checked.model.fetch(reporter.note, quiet=not sys.stderr.isatty())
    made = make_plan(
        job, checked.clip, model, reporter, segment_frames=segment_frames or SEGMENT_FRAMES
    )
    made = made.at_origin().model_copy(update={"output": call.url_of(made.output)})
    made.write(path)
    for line in _plan_lines(made, path, folder):
        reporter.note(line)
    typer.echo(len(made.segments))


def _plan_lines(made: Plan, path: Path, folder: Path) -> list[str]:
    """What a plan holds, and how to go on."""
    count = len(made.segments)
    frames = "all frames" if made.frames is None else f"{made.frames} frames"
    shots = "" if made.shots is None else f", {len(made.shots)} shot{'s' * (len(made.shots) != 1)}"
    lines = [f"{path}: {frames}{shots}, {counted(count, 'segment')}: 0 to {count - 1}"]
    if made.make_settings().has_subject:
        lines.append("a chosen subject is followed over the whole clip, in one segment")
    elif made.segments[0].stop is not None:
        longest = max(one.frames or 0 for one in made.segments)
        lines.append(f"the longest segment has {longest} frames; they are stored in {folder}")
    return lines


def segment(file: Path, number: int, mixed: bool, readers: int, reporter: Reporter) -> None:
    """Make a segment of the plan in a file. Raises VidmatteError, InterruptedRunError."""
    made = Plan.read(file, "plan")
    reporter.plan([made.source.path])
    reporter.about(made.source.path, made.output)
    reporter.begin()
    folder = segments_folder(file)
    with Staging(readers, folder):
        found = make_segment(made, folder, number, reporter, mixed=mixed)
    for clause in found.differences:
        reporter.note(f"vidmatte: this machine differs from the plan's: {clause}")
    facts = {"segment": number, "first": found.first, "frames": found.frames}
    speed = found.frames / found.seconds if found.seconds else 0.0
    line = (
        f"segment {number}: {found.frames} frames from {found.first} on in {found.seconds:.1f} s"
        f" ({speed:.2f} frames/s)"
    )
    reporter.summary({**facts, "seconds": found.seconds, "sha256": found.sha256}, line)
    reporter.about()


def join(file: Path, keep: bool, reporter: Reporter) -> None:
    """Join the segments of the plan in a file. Raises VidmatteError, InterruptedRunError."""
    made, folder = Plan.read(file, "plan"), segments_folder(file)
    reporter.plan([made.source.path])
    if folder.is_dir() and is_joined(made, folder):
        reporter.note(f"{made.output}: already joined")
        return
    reporter.about(made.source.path, made.output)
    reporter.begin()
    overwrite = made.make_settings().overwrite or (folder / JOINED).exists()
    with staged_call([made.source.path], made.output, {"overwrite": overwrite}) as call:
        output = Path(call.output or "")
        job = replace(job_of(made), source=call.inputs[0], output=output)
        result = join_segments(made, folder, reporter, job=job, command=sys.argv)
        call.send_results()
        weights = [one.model_dump(exclude={"family"}) for one in made.weights]
        report_result(RenamingReporter(reporter, call.names), job, result, weights)
    reporter.about()
    if not keep:
        remove_segments(folder)


def run_step(step: Callable[[Reporter], None], *, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Run ``segment`` or ``join`` with a reporter; the exit status, which an event reports too."""
    reporter = make_reporter(quiet, verbose, as_json)
    status = 0
    try:
        step(reporter)
    except VidmatteError as error:
        reporter.failure(type(error).__name__, str(error))
        status = error.exit_status
    except KeyboardInterrupt as error:
        sys.stderr.write(f"vidmatte: {str(error) or 'stopped'}\n")
        reporter.stopped(str(error) or "stopped")
        status = 130
    reporter.over(status)
    return status

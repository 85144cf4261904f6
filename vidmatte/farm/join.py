"""Joins the finished segments of a plan to its result."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from vidmatte.alpha.quality import Quality
from vidmatte.core.frame import Clip
from vidmatte.core.remote import READER, local_path, remote_url
from vidmatte.errors import InterruptedRunError, OutputError, SourceError
from vidmatte.farm.parts import (
    JOINED,
    Joined,
    JoinedSpool,
    SegmentManifest,
    check_segment,
    finished_segment,
)
from vidmatte.farm.plan import Plan
from vidmatte.jobs import manifest
from vidmatte.jobs.finished import all_notes
from vidmatte.jobs.outputs import open_outputs
from vidmatte.jobs.report import Progress, Reporter
from vidmatte.jobs.resume import merged_quality, merged_warnings, missing_frames
from vidmatte.jobs.spec import Job, Result
from vidmatte.models.chosen_weights import Weights
from vidmatte.readers.open import open_reader
from vidmatte.writers.base import WriteResult
from vidmatte.writers.extra_outputs import format_of
from vidmatte.writers.output_paths import output_paths

_NAMED = 5  # missing segments in a message


def job_of(plan: Plan) -> Job:
    """The job of a plan, by absolute paths."""
    return Job(plan.source.path, Path(plan.output), plan.make_settings(), plan.is_folder)


def join_segments(
    plan: Plan,
    folder: Path,
    reporter: Reporter,
    *,
    job: Job | None = None,
    command: Sequence[str] = (),
    weights: tuple[Weights, ...] = (),
    work: Path | None = None,
) -> Result:
    """Join the segments in ``folder`` to the result of the plan, verify it, write its manifest.

    job: the same job with the user's own paths and settings, for the result. weights: for the
    result. work: see ``JoinedSpool``. The segments stay. Raises OutputError for a segment that is
    missing or damaged, OutputExistsError, SourceError, VerificationError, InterruptedRunError.
    """
    began = time.perf_counter()
    job = job or job_of(plan)
    manifests = _checked_manifests(plan, folder)
    # After a join that had begun, what stands under the final names is this plan's.
    is_ours = job.settings.overwrite or _is_begun(plan, folder)
    settings = job.settings.changed(resume=False, overwrite=is_ours)
    progress = Progress(
        Path(plan.source.path).name, sum(one.frames for one in manifests), phase="join"
    )
    advance = partial(_advance, progress, reporter)
    spool = JoinedSpool(plan, folder, manifests, advance, work)
    with open_reader(local_path(job.source), settings) as source:
        reporter.start(progress)
        try:
            with open_outputs(
                job.output, source.clip, settings, is_folder=job.is_folder, spool=spool
            ) as writer:
                written = writer.close()
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"stopped: {job.output} was not written; its segments are complete"
            ) from None
        finally:
            reporter.finish()
        clip = source.clip
    result = _result(
        plan, job, clip, written, spool, manifests, time.perf_counter() - began, weights
    )
    if settings.has_manifest:
        _write_manifest(plan, job, result, command)
    return result


def _advance(progress: Progress, reporter: Reporter) -> None:
    """Count a frame."""
    progress.done += 1
    reporter.advance(progress)


def remove_segments(folder: Path) -> None:
    """Remove the segments of a plan whose result is complete; the note that it is stays."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name.startswith(READER):
            path.unlink(missing_ok=True)


def is_joined(plan: Plan, folder: Path) -> bool:
    """Whether the result of a plan is complete and its segments were removed."""
    if not _is_begun(plan, folder):
        return False
    if remote_url(plan.output) is None and not os.path.lexists(job_of(plan).output):
        return False
    return not any(path.is_dir() for path in folder.iterdir())


def _checked_manifests(plan: Plan, folder: Path) -> list[SegmentManifest]:
    """The manifests of all segments, whose frames were checked, and the files that are read.

    Raises OutputError, SourceError.
    """
    plan.check_files()
    found = [finished_segment(plan, folder, segment.number) for segment in plan.segments]
    missing = [number for number, one in enumerate(found) if one is None]
    if missing:
        named = ", ".join(map(str, missing[:_NAMED])) + (" ..." if len(missing) > _NAMED else "")
        raise OutputError(
            f"{folder}: {len(missing)} of {len(found)} segments are not finished ({named}): run"
            f" 'vidmatte segment PLAN {missing[0]}'"
        )
    manifests = [one for one in found if one is not None]
    for segment, one in zip(plan.segments, manifests, strict=True):
        try:
            check_segment(folder, segment, one)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"{folder}: segment {one.number}: {error.strerror}") from error
    return manifests


def _is_begun(plan: Plan, folder: Path) -> bool:
    """Whether an earlier join had begun to rename its results."""
    try:
        return Joined.read(folder / JOINED, "note of a join").plan == plan.digest
    except SourceError:
        return False


def _result(
    plan: Plan,
    job: Job,
    clip: Clip,
    written: WriteResult,
    spool: JoinedSpool,
    manifests: Sequence[SegmentManifest],
    seconds: float,
    weights: tuple[Weights, ...],
) -> Result:
    """The result, with what was found in all segments. seconds: of the join."""
    findings = spool.findings
    warnings = list(plan.warnings)
    if plan.frames is None:
        warnings += [line for one in manifests for line in one.warnings]
    warnings += missing_frames(clip, written.frames)
    mixed = [
        f"segment {one.number} was made on a machine ({one.host}) that differs from the plan's:"
        f" {'; '.join(one.differences)}"
        for one in manifests
        if one.differences
    ]
    quality: Quality = merged_quality(Quality(), written.frames, 0, findings)
    quality.lost = [index for one in manifests for index in one.lost]
    quality.doubtful = [index for one in manifests for index in one.doubtful]
    return Result(
        source=clip.source.path,
        clip=clip,
        written=written,
        model=plan.model,
        device=plan.environment.device,
        seconds=seconds,
        busy_seconds={},
        warnings=(*merged_warnings(warnings, findings), *all_notes(written), *mixed),
        quality=quality,
        manifest=output_paths(written.path).manifest if job.settings.has_manifest else None,
        weights=weights,
    )


def _write_manifest(plan: Plan, job: Job, result: Result, command: Sequence[str]) -> None:
    """Write the manifest of a result. Raises OutputError, InterruptedRunError."""
    provenance = manifest.Provenance(
        command=command,
        model=plan.model,
        weights="+".join(part.sha256 for part in plan.weights),
        device=plan.environment.device,
        settings=job.settings.model_dump(mode="json"),
        warnings=(*result.warnings, *result.quality.lines()),
        alpha=(
            "premultiplied"
            if format_of(result.written, result.clip).premultiplies(job.settings.alpha)
            else "straight"
        ),
    )
    try:
        manifest.write(
            manifest.describe(result.written, result.clip, provenance), result.written.path
        )
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"stopped while computing checksums: {result.written.path} is complete, but has no"
            " manifest"
        ) from None

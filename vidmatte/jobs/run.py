"""One job: every frame of a source into its output, with progress, resuming and manifest."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidmatte.alpha.quality import Quality
from vidmatte.core.names import counted, is_standard_stream
from vidmatte.core.segment import History
from vidmatte.core.source import state_of
from vidmatte.errors import InterruptedRunError, OutputError, VidmatteError
from vidmatte.jobs.finished import all_notes, find_finished
from vidmatte.jobs.layers import settings_of_layer, write_layers
from vidmatte.jobs.outputs import open_writer
from vidmatte.jobs.pipeline import MattingPipeline, build_pipeline
from vidmatte.jobs.queue import Cancelled
from vidmatte.jobs.report import Progress, Reporter
from vidmatte.jobs.resume import (
    facts_of,
    leftovers,
    merged_quality,
    merged_warnings,
    missing_frames,
)
from vidmatte.jobs.spec import Result
from vidmatte.models.registry import Model
from vidmatte.readers.base import Reader
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.writers.base import WriteResult
from vidmatte.writers.extra_outputs import format_of
from vidmatte.writers.output_paths import output_paths

if TYPE_CHECKING:
    from vidmatte.alpha.guidance.subject_fields import SubjectFields
    from vidmatte.writers.multi_writer import MultiWriter
    from vidmatte.writers.placed import PlacedWriter

    _JobWriter = MultiWriter | PlacedWriter

#: Bytes that take about a second to read and hash.
_LONG_READ = 1 << 29


def run(
    source: Reader,
    output: Path,
    model: Model,
    settings: Settings,
    reporter: Reporter,
    command: Sequence[str] = (),
    *,
    is_folder: bool = False,
    subject_folder: Path | None = None,
) -> Result:
    """One job with a loaded model: every frame of ``source`` into ``output``.

    Ctrl+C stops it cleanly and raises InterruptedRunError; no thread stays alive, and no
    incomplete file gets the output's name. command: the call, for the manifest. is_folder:
    ``output`` is a folder for pictures, though its name may look like a picture's.
    subject_folder: see ``Job``.
    """
    job = _Job(source, output, model, settings, reporter, time.perf_counter(), subject_folder)
    result, has_manifest = _finished_or_made(job, is_folder)
    if settings.has_manifest and not has_manifest:
        _announce_hashing(result, reporter)
        _write_manifest(result, settings, command)
    return result


@dataclass(frozen=True)
class _Job:
    """What a run is given, and when it began (``time.perf_counter``). phase: what its frames
    belong to, where they are not all of the result."""

    source: Reader
    output: Path
    model: Model
    settings: Settings
    reporter: Reporter
    began: float
    subject_folder: Path | None = None
    phase: str = ""

    def result(self, written: WriteResult, **facts: Any) -> Result:
        """The result of the run, timed up to now."""
        clip, model = self.source.clip, self.model
        return Result(
            source=clip.source.path,
            clip=clip,
            written=written,
            model=model.name,
            device=model.device.name,
            seconds=time.perf_counter() - self.began,
            manifest=output_paths(written.path).manifest if self.settings.has_manifest else None,
            weights=model.weights,
            **facts,
        )


def _finished_or_made(job: _Job, is_folder: bool) -> tuple[Result, bool]:
    """The result, of an earlier run where that has finished it, and whether it has a manifest."""
    done = find_finished(job.source, job.output, job.model, job.settings, is_folder=is_folder)
    if done is None:
        return (_make_layers if job.settings.exr_layers else _make)(job, is_folder), False
    result = job.result(
        written=done.written,
        quality=done.quality,
        warnings=done.warnings,
        busy_seconds={},
        resumed_at=done.written.frames,
    )
    return result, done.has_manifest


def _make(job: _Job, is_folder: bool) -> Result:
    """Process the frames of a job that are not done yet."""
    if not job.settings.has_subject:
        return _make_with(job, is_folder, None)
    from vidmatte.jobs.checkpoint.folder import subject_folder
    from vidmatte.jobs.subjects import subject_fields

    folder = job.subject_folder or subject_folder(job.output, job.source.clip, job.settings)
    with subject_fields(job.source, job.model, job.settings, job.reporter, folder) as subject:
        return _make_with(job, is_folder, subject)


def _make_layers(job: _Job, is_folder: bool) -> Result:
    """The same for each subject, joined to pictures with a layer for each."""
    path = job.source.clip.source.path
    assert path is not None  # as ``check_subjects`` has found

    def make(name: str, output: Path, is_folder: bool, subject_folder: Path) -> Result:
        settings = settings_of_layer(job.settings, name)
        with open_reader(path, settings) as source:
            layer = replace(
                job,
                source=source,
                output=output,
                settings=settings,
                subject_folder=job.subject_folder or subject_folder,
                phase=f"layer {name}",
            )
            return _finished_or_made(layer, is_folder)[0]

    clip, settings = job.source.clip, job.settings
    facts = write_layers(job.output, clip, settings, job.reporter, make, is_folder=is_folder)
    if not settings.resume:
        facts["warnings"] += tuple(leftovers(job.output))
    return job.result(**facts)


def _make_with(job: _Job, is_folder: bool, subject: SubjectFields | None) -> Result:
    """The same, with the fields of the chosen subject."""
    source, settings = job.source, job.settings
    if source.clip.display.dolby_only:  # before hours of work that may be in vain
        job.reporter.note(
            f"vidmatte: {source.clip.source.name}: {source.clip.display.dolby_note()}"
        )
    states = _weights_states(job.model)
    if settings.manifest != "none":
        job.model.hash_weights()
    facts = facts_of(source.clip, job.model, settings) if settings.resume else None
    with open_writer(job.output, source.clip, settings, facts, is_folder=is_folder) as writer:
        spool = writer.spool
        history = History() if spool is None else spool.history()
        first = 0 if spool is None else spool.count
        pipeline = None
        if spool is None or not spool.is_complete:  # else only the join remains
            pipeline = build_pipeline(
                source,
                job.model,
                settings,
                writer,
                first=first,
                history=history,
                subject=subject,
            )
        name, count = source.clip.source.name, source.clip.frame_count
        progress = Progress(name, count, first, before=first, phase=job.phase)
        written = _write_frames(job, writer, pipeline, progress)
    source.warnings.extend(missing_frames(source.clip, progress.done))
    quality, start = Quality(), 0
    if pipeline is not None:
        quality, start = pipeline.quality, pipeline.segment.start
    if subject is not None:
        quality = replace(quality, lost=subject.lost, doubtful=subject.doubtful)
    return job.result(
        written=written,
        busy_seconds=progress.busy,
        warnings=(
            *merged_warnings(source.warnings, history.findings),
            *all_notes(written),
            *_changed_inputs(source, job.model, states),
            *(() if settings.resume else leftovers(job.output)),
        ),
        quality=merged_quality(quality, first, start, history.findings),
        carried=0 if pipeline is None else pipeline.tally.carried,
        resumed_at=first,
    )


def _weights_states(model: Model) -> list[tuple[int, ...]]:
    """The states of the files of a model's weights; see ``state_of``."""
    return [() if part.path is None else state_of(part.path) for part in model.weights]


def _changed_inputs(source: Reader, model: Model, states: list[tuple[int, ...]]) -> Iterator[str]:
    """A warning for a source and for weights that changed during the run."""
    if source.clip.source.has_changed():
        yield (
            f"{source.clip.source.name}: it changed during the run: the result may show both, and"
            " the manifest has no checksum of it; run again with --overwrite"
        )
    for part, before, now in zip(model.weights, states, _weights_states(model), strict=True):
        if before != now:
            yield (
                f"{part.path}: it changed during the run: the manifest has the checksum of the"
                " weights that were there at its start"
            )


def _write_frames(
    job: _Job, writer: _JobWriter, pipeline: MattingPipeline | None, progress: Progress
) -> WriteResult:
    """Run the pipeline, if any, to its end and finish the outputs, with progress reported."""
    job.reporter.start(progress)
    try:
        if pipeline is not None:
            for _ in pipeline.pipeline:
                progress.done += 1
                progress.has_worked(pipeline.busy_seconds())
                job.reporter.advance(progress)
        written = writer.close()
        if pipeline is not None:
            progress.has_worked(pipeline.busy_seconds())
        return written
    except (KeyboardInterrupt, Cancelled):
        if pipeline is not None:
            pipeline.close()
        writer.abort()
        left = f"{job.output} was not written"
        if is_standard_stream(job.output):
            left = "the result on stdout is incomplete"
        message = f"stopped after {counted(progress.done, 'frame')}: {left}"
        hint = _resume_hint(job, writer)
        raise InterruptedRunError(f"{message}; {hint}" if hint else message) from None
    except VidmatteError:
        if hint := _resume_hint(job, writer):
            job.reporter.note(f"vidmatte: {hint} of {job.output.name}")
        raise
    finally:
        if pipeline is not None:
            pipeline.close()
        job.reporter.finish()


def _resume_hint(job: _Job, writer: _JobWriter) -> str:
    """How a later run can continue; empty where no frame is stored, or the folder is gone."""
    stored = 0 if writer.spool is None else writer.spool.count
    if not stored or not output_paths(job.output).work.is_dir():
        return ""
    is_lost = job.subject_folder is not None and not job.phase  # shared by the jobs of this call
    again = ", once the subjects are tracked again" if is_lost else ""
    return f"--resume continues from frame {stored}{again}"


def _announce_hashing(result: Result, reporter: Reporter) -> None:
    """Report that checksums are computed, where that takes more than about a second."""
    from vidmatte.jobs.manifest import size_of

    outputs = (result.written, *result.written.extra_outputs)
    size = sum(size_of(file) for file in result.clip.source.files()) + sum(
        one.bytes for one in outputs
    )
    if size >= _LONG_READ:
        done = f"{result.written.path.name} is complete"
        reporter.note(f"vidmatte: {done}; reading {size / 1e9:.1f} GB for its manifest's checksums")


def describe_result(
    result: Result, settings: Settings, command: Sequence[str], folder: Path | None = None
) -> dict[str, Any]:
    """The manifest of a result; see ``manifest.describe``."""
    from vidmatte.jobs import manifest

    row = format_of(result.written, result.clip)
    provenance = manifest.Provenance(
        command=command,
        model=result.model,
        weights="+".join(part.sha256 for part in result.weights),
        device=result.device,
        settings=settings.model_dump(mode="json"),
        warnings=(*result.warnings, *result.quality.lines()),
        alpha="premultiplied" if row.premultiplies(settings.alpha) else "straight",
    )
    return manifest.describe(result.written, result.clip, provenance, folder)


def _write_manifest(result: Result, settings: Settings, command: Sequence[str]) -> None:
    """Write the manifest of a result. Raises OutputError, InterruptedRunError."""
    from vidmatte.jobs import manifest

    try:
        facts = describe_result(result, settings, command)
        manifest.write(facts, result.written.path)
    except OutputError as error:
        raise OutputError(
            f"{result.written.path} is complete and verified, only its manifest is missing: {error}"
        ) from error
    except KeyboardInterrupt:
        out = result.written.path
        raise InterruptedRunError(
            f"stopped while computing checksums: {out} is complete, but has no manifest"
        ) from None

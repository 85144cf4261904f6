"""The main command: a result for each input, with the model loaded once."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from vidmatte.alpha.guidance.subjects_file import subject_names
from vidmatte.cli.exit_status import MOST_FAILURES
from vidmatte.cli.info import colour_lines
from vidmatte.cli.outputs import plan_outputs
from vidmatte.core.concurrency import usable_cores
from vidmatte.core.frame import Clip
from vidmatte.core.memory import frames_oom_error, is_out_of_memory, reason_of
from vidmatte.errors import OutputError, UsageError, VidmatteError
from vidmatte.jobs.check import check_job, make_job
from vidmatte.jobs.report import JsonReporter, Reporter, TextReporter
from vidmatte.jobs.resume import remove_checkpoint
from vidmatte.jobs.run import Result, run
from vidmatte.jobs.spec import Job
from vidmatte.models.registry import Model, ModelChoice, choose_model
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings, make_settings
from vidmatte.writers.base import WriteResult, worker_count

Done = TypeVar("Done")


@dataclass
class _Batch:
    """All jobs of one call, and the outcome of each."""

    jobs: list[Job]
    settings: Settings
    reporter: Reporter
    failures: dict[str, VidmatteError] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)

    def check(self, model: ModelChoice) -> list[Job]:
        """The jobs that pass their check; all are checked before a model is fetched."""
        valid = [job for job in self.jobs if self._attempt(job, lambda job: _checked(job, model))]
        self.reporter.about()
        return valid

    def run(self, job: Job, model: Model) -> None:
        """Run one job; its failure is recorded, an interrupt ends the batch."""
        result = self._attempt(job, lambda job: self._run(job, model))
        if result is not None:
            self.results.append(result)
            self._report(job, result)
        self.reporter.about()

    def _report(self, job: Job, result: Result) -> None:
        for line in colour_lines(result.clip):
            self.reporter.detail(line.strip())
        for warning in result.warnings:
            self.reporter.note(f"vidmatte: {warning}")
        for line in result.quality.lines():
            self.reporter.note(f"vidmatte: look at {job.output.name}: {line}")
        self.reporter.detail(_busy_line(result))
        self.reporter.summary(_facts(result), _one_line(result))

    def _run(self, job: Job, model: Model) -> Result:
        self.reporter.begin()
        with open_reader(job.source, job.settings) as source:
            self.reporter.detail(_shares_line(model, source.clip, job.settings))
            return run(
                source,
                job.output,
                model,
                job.settings,
                self.reporter,
                sys.argv,
                is_folder=job.is_folder,
                subject_folder=job.subject_folder,
            )

    def _attempt(self, job: Job, work: Callable[[Job], Done]) -> Done | None:
        """The result of ``work`` for a job; None where it fails, which is recorded.

        An error that is not a VidmatteError is raised again for a single job; an interrupt always.
        """
        self.reporter.about(str(job.source), str(job.output))
        try:
            return work(job)
        except VidmatteError as error:
            self._record_failure(job, error)
        except Exception as error:
            if is_out_of_memory(error):
                memory = self.settings.memory
                self._record_failure(job, frames_oom_error(job.source, reason_of(error), memory))
                return None
            if len(self.jobs) == 1:
                raise
            # A bug that one input triggers must not stop the others.
            fault = type(error).__name__
            self._record_failure(job, VidmatteError(f"{job.source}: {fault}: {error}"), fault)
        return None

    def _record_failure(self, job: Job, error: VidmatteError, name: str = "") -> None:
        self.failures[str(job.output)] = error
        self.reporter.failure(name or type(error).__name__, str(error))

    def status(self) -> int:
        """0; the error's own status for a single job; else how many failed."""
        if len(self.jobs) == 1 and self.failures:
            return next(iter(self.failures.values())).exit_status
        return min(len(self.failures), MOST_FAILURES)


def run_batch(
    inputs: list[str],
    output: str | None,
    options: dict[str, Any],
    reporter: Reporter,
    *,
    each: bool = False,
) -> int:
    """Matte every input, with ``each`` once for each subject; return the exit status: 0, or how
    many failed (at most 100).

    A failure does not stop the other jobs; Ctrl+C stops all. Raises VidmatteError
    for errors that concern the call itself.
    """
    settings = make_settings(**options)
    outputs = [out for _, out in plan_outputs([Path(one) for one in inputs], output, settings)]
    if output is not None and outputs == [Path(output)]:  # else the results go into it
        jobs = [make_job(inputs[0], output, settings)]
    else:
        jobs = [Job(*pair, settings) for pair in zip(inputs, outputs, strict=True)]
    reporter.plan(inputs)
    with ExitStack() as stack:
        results = _result_folder(None if output is None else Path(output), jobs)
        if each:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vidmatte-"))
            jobs = [one for job in jobs for one in _job_for_each_subject(job, Path(folder))]
        stack.enter_context(results)
        batch = _Batch(jobs, jobs[0].settings, reporter)
        _run_jobs(batch)
        if settings.resume and not batch.failures:
            # Until then, the work folders record which inputs are finished.
            for job in jobs:
                remove_checkpoint(job.output)
    if len(jobs) > 1:
        for line in _table(batch):
            reporter.closing(line)
    return batch.status()


def _job_for_each_subject(job: Job, folder: Path) -> list[Job]:
    """A job for each subject, its name added to the output's. folder: what all of them share.

    Raises UsageError.
    """
    settings, out = job.settings, job.output
    if settings.only is not None:
        raise UsageError(f"--each and --only {settings.only} exclude each other")
    names = subject_names(settings.subject, settings.subjects)
    if not names:
        raise UsageError("--each: it needs --subject or --subjects with a NAME: for each subject")
    extra = next(
        (one for one in ("matte", "foreground_file", "comp") if getattr(settings, one)), ""
    )
    if extra and len(names) > 1:
        flag = f"--{extra.replace('_', '-')}"
        raise UsageError(f"{flag} {getattr(settings, extra)}: one file for {len(names)} subjects")
    return [
        replace(
            job,
            output=out.with_name(f"{out.stem}_{name}{out.suffix}"),
            settings=settings.changed(only=name),
            subject_folder=folder,
        )
        for name in names
    ]


@contextmanager
def _result_folder(output: Path | None, jobs: list[Job]) -> Iterator[None]:
    """Create the folder for the results, and remove it if it stays empty. Raises OutputError."""
    if output is None or output.exists() or all(job.output == output for job in jobs):
        yield
        return
    try:
        output.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"{output}: cannot create the folder ({error.strerror})") from error
    try:
        yield
    finally:
        if not any(output.iterdir()):
            output.rmdir()


def _run_jobs(batch: _Batch) -> None:
    """Run every valid job, with the model loaded once."""
    settings, reporter = batch.settings, batch.reporter
    choice = choose_model(settings)
    valid = batch.check(choice)
    if valid:
        model = choice.fetch(reporter.note, quiet=reporter.is_quiet)
        if settings.cache is None:
            _ = model.network  # loaded now, as its failure concerns all jobs
        for part in model.weights:
            reporter.detail(f"{part.name} ({part.path}) on {model.device.name}")
        for job in valid:
            batch.run(job, model)


def _checked(job: Job, model: ModelChoice) -> bool:
    with open_reader(job.source, job.settings) as source:
        check_job(job, source, model)
    return True


def make_reporter(quiet: bool, verbose: bool, as_json: bool) -> Reporter:
    """The reporter that the command line asks for. Raises UsageError."""
    if quiet and verbose:
        raise UsageError("--quiet and --verbose exclude each other")
    if as_json:
        return JsonReporter(quiet=quiet, verbose=verbose)
    if quiet:
        return Reporter()
    return TextReporter(bar=sys.stderr.isatty(), verbose=verbose)


def _one_line(result: Result) -> str:
    """A summary of what was written, in one line."""
    written = result.written
    sound = f", {len(written.sound)} sound" if written.sound else ""
    size, made = f"{written.width}x{written.height}", f"{written.format} {written.pixel_format}"
    if result.clip.kind == "picture":  # it has no rate
        kilobytes = written.bytes / 1e3
        return f"{written.path}: {size}, {made}, {kilobytes:.0f} kB in {result.seconds:.1f} s"
    frames = f"{written.frames} frame{'s' if written.frames != 1 else ''}"
    return (
        f"{written.path}: {frames}, {size}, {written.rate} fps, {made}{sound},"
        f" {written.bytes / 1e6:.1f} MB in {result.seconds:.1f} s ({result.fps:.2f} frames/s)"
    )


def _shares_line(model: Model, clip: Clip, settings: Settings) -> str:
    """How the CPU cores are divided between the network and the encoders."""
    encoders = worker_count(clip.width, clip.height, settings.memory_bytes)
    network = (
        model.network.description
        if settings.cache is None
        else "loaded unless its alphas are cached"
    )
    return f"cores: {usable_cores()}; network: {network}; encoders: {encoders}"


def _busy_line(result: Result) -> str:
    """Each stage's share of the time."""
    shares = (
        f"{name} {100 * seconds / max(result.seconds, 1e-9):.0f} %"
        for name, seconds in result.busy_seconds.items()
    )
    return f"busy: {', '.join(shares)}"


def _written_facts(written: WriteResult, clip: Clip) -> dict[str, Any]:
    """What was written, for JSON."""
    return {
        "output": str(written.path),
        "frames": written.frames,
        "width": written.width,
        "height": written.height,
        "rate": None if clip.kind == "picture" else str(written.rate),
        "format": written.format,
        "pixel_format": written.pixel_format,
        "sound": list(written.sound),
        "bytes": written.bytes,
    }


def _facts(result: Result) -> dict[str, Any]:
    """A result for JSON; all paths are as the user gave them, absolute or relative."""
    written, manifest = result.written, result.manifest
    if manifest is not None and not written.path.is_absolute():
        manifest = Path(os.path.relpath(manifest))
    return {
        "input": str(result.clip.source),
        **_written_facts(written, result.clip),
        "model": result.model,
        "weights": [{"name": one.name, "sha256": one.sha256} for one in result.weights],
        "device": result.device,
        "seconds": round(result.seconds, 3),
        "fps": round(result.fps, 3),
        "busy_seconds": {name: round(s, 3) for name, s in result.busy_seconds.items()},
        "sides": [_written_facts(extra, result.clip) for extra in written.extra_outputs],
        "manifest": None if manifest is None else str(manifest),
        "resumed_at": result.resumed_at,
        "warnings": list(result.warnings),
        "quality": result.quality.as_facts(),
    }


def _table(batch: _Batch) -> list[str]:
    """The outcome of every job, a line each, and a count."""
    lines = []
    for job in batch.jobs:
        error = batch.failures.get(str(job.output))
        lines.append(f"  {'failed' if error else 'done':7}{shlex.quote(str(job.source))}")
    lines.append(f"{len(batch.results)} done, {len(batch.failures)} failed")
    return lines

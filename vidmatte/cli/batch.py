"""The main command: a result for each input, with the model loaded once."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vidmatte.cli.exit_status import MOST_FAILURES
from vidmatte.cli.outputs import job_for_each_subject, plan_outputs
from vidmatte.cli.summary import report_result
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
from vidmatte.timeline.result import Shot, write_result_timelines
from vidmatte.writers.base import worker_count

if TYPE_CHECKING:
    from vidmatte.farm.local import Workers

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
            report_result(self.reporter, job, result)
        self.reporter.about()

    def take(self, job: Job, outcome: Result | VidmatteError) -> None:
        """Record how a job ended that others have run."""
        self.reporter.about(str(job.source), str(job.output))
        if isinstance(outcome, VidmatteError):
            self._record_failure(job, outcome)
        else:
            self.results.append(outcome)
            report_result(self.reporter, job, outcome)
        self.reporter.about()

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
    workers: Workers | None = None,
) -> int:
    """Matte every input, with ``each`` once for each subject; return the exit status: 0, or how
    many failed (at most 100). workers: local processes that share the work; None for this one.

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
    return run_jobs(
        jobs, None if output is None else Path(output), reporter, each=each, workers=workers
    ).status()


def run_jobs(
    jobs: list[Job],
    output: Path | None,
    reporter: Reporter,
    *,
    each: bool = False,
    workers: Workers | None = None,
) -> _Batch:
    """Run the jobs of a call, all with the same model, and write the timelines of --timeline.

    output: the folder for their results, or the only result; None where they lie beside the
    inputs. Raises VidmatteError for errors that concern the call itself.
    """
    settings = jobs[0].settings
    with ExitStack() as stack:
        results = _result_folder(output, jobs)
        if each:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vidmatte-"))
            jobs = [one for job in jobs for one in job_for_each_subject(job, Path(folder))]
        stack.enter_context(results)
        batch = _Batch(jobs, jobs[0].settings, reporter)
        _run_jobs(batch, workers)
        if settings.timeline and batch.results:
            shots = [Shot.of(one.clip, one.written, one.quality, settings) for one in batch.results]
            for line in write_result_timelines(shots, settings):
                reporter.note(f"vidmatte: {line}")
        if settings.resume and not batch.failures:
            # Until then, the work folders record which inputs are finished.
            for job in jobs:
                remove_checkpoint(job.output)
    if len(jobs) > 1:
        for line in _table(batch):
            reporter.closing(line)
    return batch


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


def _run_jobs(batch: _Batch, workers: Workers | None) -> None:
    """Run every valid job, with the model loaded once in each process."""
    settings, reporter = batch.settings, batch.reporter
    choice = choose_model(settings)
    valid = batch.check(choice)
    if valid:
        model = choice.fetch(reporter.note, quiet=reporter.is_quiet)
        if settings.cache is None:
            _ = model.network  # loaded now, as its failure concerns all jobs
        for part in model.weights:
            reporter.detail(f"{part.name} ({part.path}) on {model.device.name}")
        if workers is not None:
            valid = _run_split(batch, valid, model, workers)
        for job in valid:
            batch.run(job, model)


def _run_split(batch: _Batch, jobs: list[Job], model: Model, workers: Workers) -> list[Job]:
    """Run the jobs that gain from it over local workers; returns the others."""
    from vidmatte.farm.local import LocalRun

    run, is_only = LocalRun(workers, model, batch.reporter), len(jobs) == 1
    split = [job for job in jobs if run.can_split(job, is_only=is_only)]
    if split:
        for job in split:
            batch.reporter.about(str(job.source), str(job.output))
            batch.reporter.begin()
        for job, outcome in run.run(split):
            batch.take(job, outcome)
        for line in run.table():
            batch.reporter.closing(line)
    else:
        batch.reporter.detail("--workers: nothing here is long enough to be cut into segments")
    return [job for job in jobs if job not in split]


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


def _shares_line(model: Model, clip: Clip, settings: Settings) -> str:
    """How the CPU cores are divided between the network and the encoders."""
    encoders = worker_count(clip.width, clip.height, settings.memory_bytes)
    network = (
        model.network.description
        if settings.cache is None
        else "loaded unless its alphas are cached"
    )
    return f"cores: {usable_cores()}; network: {network}; encoders: {encoders}"


def _table(batch: _Batch) -> list[str]:
    """The outcome of every job, a line each, and a count."""
    lines = []
    for job in batch.jobs:
        error = batch.failures.get(str(job.output))
        lines.append(f"  {'failed' if error else 'done':7}{shlex.quote(str(job.source))}")
    lines.append(f"{len(batch.results)} done, {len(batch.failures)} failed")
    return lines

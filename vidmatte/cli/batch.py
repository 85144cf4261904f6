"""The main command: a result for each input, with the model loaded once."""

from __future__ import annotations

import gc
import shlex
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vidmatte.cli import stills
from vidmatte.cli.call import Call
from vidmatte.cli.exit_status import MOST_FAILURES
from vidmatte.cli.outputs import call_folder, job_for_each_subject, plan_outputs
from vidmatte.cli.summary import report_result, shares_line
from vidmatte.core.memory import frames_oom_error, is_out_of_memory, quick_collections, reason_of
from vidmatte.core.names import absolute_path
from vidmatte.errors import InterruptedRunError, OutputError, VidmatteError
from vidmatte.jobs.call_manifest import write_for_call
from vidmatte.jobs.check import check_job, make_job
from vidmatte.jobs.report import Reporter
from vidmatte.jobs.resume import remove_checkpoint
from vidmatte.jobs.run import describe_result, run
from vidmatte.jobs.spec import Job, Result
from vidmatte.models.registry import Model, ModelChoice, choose_model
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings, make_settings
from vidmatte.timeline.result import Shot, write_result_timelines

if TYPE_CHECKING:
    from vidmatte.farm.crew import Workers

_Done = TypeVar("_Done")


@dataclass
class _Batch:
    """All jobs of one call, and the outcome of each."""

    jobs: list[Job]
    settings: Settings
    reporter: Reporter
    failures: dict[str, VidmatteError] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    call_folder: Path | None = None  # beside which the call's manifest is written
    described: dict[str, dict[str, Any]] = field(default_factory=dict)
    largest: int = 0  # pixels of the largest input

    def check(self, model: ModelChoice) -> list[Job]:
        """The jobs that pass their check; all are checked before a model is fetched."""
        if stills.are_stills(self.jobs):
            count = stills.count_at_once(1, self.settings)
            with stills.started(self.jobs, lambda job: _checked(job, model), count) as futures:
                sizes = [self._attempt(job, future.result) for job, future in futures]
        else:
            sizes = [self._attempt(job, partial(_checked, job, model)) for job in self.jobs]
        self.reporter.about()
        self.largest = max((size for size in sizes if size), default=0)
        return [job for job, size in zip(self.jobs, sizes, strict=True) if size]

    def run(self, jobs: list[Job], model: Model) -> None:
        """Run the jobs; a failure is recorded, an interrupt ends the batch."""
        if not stills.are_stills(jobs) or not stills.may_overlap(model, self.settings):
            for job in jobs:
                self._take(job, partial(self._run, job, model, self.reporter))
            return
        shared = model.shared()
        recorders = {job.output: stills.Recorder() for job in jobs}
        count = stills.count_at_once(self.largest, self.settings)

        def made(job: Job) -> Result:
            return self._run(job, shared, recorders[job.output])

        with quick_collections(), stills.started(jobs, made, count) as futures:
            for done, (job, future) in enumerate(futures):
                try:
                    wait([future])
                except KeyboardInterrupt:
                    rest = f"{len(jobs) - done} of {len(jobs)} photos are left"
                    raise InterruptedRunError(f"stopped: {rest}") from None
                self.reporter.about(str(job.source), str(job.output))
                recorders[job.output].replay(job.path.name, self.reporter)
                self._take(job, future.result)
                # A photo's writer and its pool refer to each other, PyAV's frames to their side
                # data: without this, dozens of photos would wait for the collector's next turn.
                gc.collect()

    def _take(self, job: Job, work: Callable[[], Result]) -> None:
        """Record and report the result or the failure of a job."""
        result = self._attempt(job, work)
        if result is not None:
            self.results.append(result)
            report_result(self.reporter, job, result)
        self.reporter.about()

    def take(self, job: Job, outcome: Result | VidmatteError) -> None:
        """Record how a job ended that others have run."""

        def outcome_of_others() -> Result:
            if isinstance(outcome, VidmatteError):
                raise outcome
            self._describe(job, outcome)
            return outcome

        self._take(job, outcome_of_others)

    def _describe(self, job: Job, result: Result) -> None:
        """Keep what the manifest of the call holds of a result, if it is to have one."""
        if self.call_folder is not None:
            folder = absolute_path(self.call_folder).parent
            self.described[str(job.output)] = describe_result(
                result, job.settings, sys.argv, folder
            )

    def write_manifest(self) -> None:
        """Write the manifest of the call, if it is to have one and any job succeeded."""
        if self.call_folder is None or not self.described:
            return
        described = [self.described[str(job.output)] for job in self.jobs
                     if str(job.output) in self.described]  # fmt: skip
        failed = {str(job.source): str(self.failures[str(job.output)])
                  for job in self.jobs if str(job.output) in self.failures}  # fmt: skip
        path = write_for_call(self.call_folder, described, failed)
        self.reporter.note(f"vidmatte: the manifest of all results is {path}")

    def _run(self, job: Job, model: Model, reporter: Reporter) -> Result:
        reporter.begin()
        with open_reader(job.source, job.settings) as source:
            reporter.detail(shares_line(model, source.clip, job.settings))
            result = run(
                source,
                job.output,
                model,
                job.settings,
                reporter,
                sys.argv,
                is_folder=job.is_folder,
                subject_folder=job.subject_folder,
            )
        self._describe(job, result)
        return result

    def _attempt(self, job: Job, work: Callable[[], _Done]) -> _Done | None:
        """The result of ``work`` for a job; None where it fails, which is recorded.

        An error that is not a VidmatteError is raised again for a single job; an interrupt always.
        """
        self.reporter.about(str(job.source), str(job.output))
        try:
            return work()
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


def run_batch(call: Call) -> int:
    """Matte every input of a call; return the exit status: 0, or how many failed (at most 100).

    A failure does not stop the other jobs; Ctrl+C stops all. Raises VidmatteError
    for errors that concern the call itself.
    """
    inputs, output, settings = call.inputs, call.output, make_settings(**call.options)
    outputs = [out for _, out in plan_outputs([Path(one) for one in inputs], output, settings)]
    if output is not None and outputs == [Path(output)]:  # else the results go into it
        jobs = [make_job(inputs[0], output, settings)]
    else:
        jobs = [Job(*pair, settings) for pair in zip(inputs, outputs, strict=True)]
    call.reporter.plan(inputs)
    folder = None if output is None else Path(output)
    return run_jobs(jobs, folder, call.reporter, each=call.each, workers=call.workers).status()


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
        batch.call_folder = call_folder(output, jobs)
        _run_jobs(batch, workers)
        batch.write_manifest()
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
    if output is None or all(job.output == output for job in jobs):
        yield
        return
    made: list[Path] = []
    try:
        for folder in sorted({job.output.parent for job in jobs}):
            missing = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            made += reversed(missing)
    except OSError as error:
        raise OutputError(f"{output}: cannot create the folder ({error.strerror})") from error
    try:
        yield
    finally:
        for folder in reversed(made):
            if not any(folder.iterdir()):
                folder.rmdir()


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
        batch.run(valid, model)


def _run_split(batch: _Batch, jobs: list[Job], model: Model, workers: Workers) -> list[Job]:
    """Run the jobs that gain from it over workers; returns the others."""
    from vidmatte.farm.crew import open_crew
    from vidmatte.farm.local import LocalRun

    with open_crew(workers, model, batch.settings) as crew:
        run, is_only = LocalRun(workers, crew, model, batch.reporter), len(jobs) == 1
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


def _checked(job: Job, model: ModelChoice) -> int:
    """Check a job; return the pixels of a frame."""
    with open_reader(job.source, job.settings) as source:
        check_job(job, source, model)
        return source.clip.width * source.clip.height


def _table(batch: _Batch) -> list[str]:
    """The outcome of every job, a line each, by its result where jobs share a source; a count."""
    lines = []
    counts = Counter(str(job.source) for job in batch.jobs)
    for job in batch.jobs:
        error = batch.failures.get(str(job.output))
        name = str(job.source) if counts[str(job.source)] == 1 else str(job.output)
        lines.append(f"  {'failed' if error else 'done':7}{shlex.quote(name)}")
    lines.append(f"{len(batch.results)} done, {len(batch.failures)} failed")
    return lines

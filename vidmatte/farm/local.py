"""``--workers``: the plans, segments and joins of many jobs, by local processes or a cluster."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock, Timeout

from vidmatte.core.concurrency import lock_at
from vidmatte.core.frame import Clip
from vidmatte.core.names import absolute_path
from vidmatte.errors import InterruptedRunError, OutputError, UsageError, VidmatteError
from vidmatte.farm.crew import Workers, allow_open_files
from vidmatte.farm.join import join_segments
from vidmatte.farm.plan import Plan, segments_folder
from vidmatte.farm.planning import SEGMENT_FRAMES, local_segment_frames, make_plan, needs_of
from vidmatte.farm.pool import Crew, Step, Task, WorkerPool
from vidmatte.jobs.finished import find_finished
from vidmatte.jobs.report import Progress, Reporter
from vidmatte.jobs.spec import Job, Result
from vidmatte.models.registry import Model
from vidmatte.readers.open import open_reader
from vidmatte.writers.base import as_output_error
from vidmatte.writers.output_paths import output_paths


@dataclass(eq=False)
class _LocalJob:
    """A job, its plan, and how far it is. left: segments that are not done. frames, seconds: of
    those that are, in their processes."""

    job: Job
    plan: Plan
    path: Path
    lock: FileLock
    left: int = 0
    retried: int = 0
    frames: int = 0
    seconds: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    @property
    def folder(self) -> Path:
        """Of its segments."""
        return segments_folder(self.path)

    def close(self, *, keep: bool) -> None:
        """Remove its work folder, unless ``keep``; safe to call twice."""
        if self.lock.is_locked:
            self.lock.release()
            if not keep:
                shutil.rmtree(self.path.parent, ignore_errors=True)


class LocalRun:
    """All jobs of one call over a crew of workers."""

    def __init__(self, workers: Workers, crew: Crew, model: Model, reporter: Reporter) -> None:
        self._workers, self._crew = workers, crew
        self._model, self._reporter = model, reporter
        self._clips: dict[Path, Clip] = {}  # by output: opening a source takes time
        self._rows: list[tuple[str, _LocalJob]] = []
        self._began = time.perf_counter()

    def can_split(self, job: Job, *, is_only: bool) -> bool:
        """Whether a job gains from the workers; else it is run in this process."""
        settings = job.settings
        with open_reader(job.source, settings) as source:
            clip = self._clips[job.output] = source.clip
            if clip.kind == "picture" or settings.cache is not None or clip.source.path is None:
                return False
            if settings.resume and find_finished(
                source, job.output, self._model, settings, is_folder=job.is_folder
            ):
                _remove_unlocked(output_paths(job.output).segments)
                return False
        if self._crew.is_remote or not is_only:
            return True
        frames, count = self._segment_frames(job, clip), clip.frame_count
        return not settings.has_subject and (count is None or round(count / frames) > 1)

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Result | VidmatteError]]:
        """Run all jobs; yields each with its result, or the error that ended it.

        Ctrl+C stops the workers and raises InterruptedRunError.
        """
        self._began = time.perf_counter()
        pool = WorkerPool(self._crew, self._workers.retries, self._reporter.note)
        keep = bool(jobs) and jobs[0].settings.resume
        allow_open_files(len(jobs))
        with ExitStack() as stack:
            try:
                ready = []
                for job in jobs:
                    try:
                        ready.append(self._prepare(job))
                        stack.callback(ready[-1].close, keep=keep)
                    except VidmatteError as error:
                        yield job, error
                self._model.unload()  # the workers have their own
                stack.callback(pool.close)
                yield from self._run_all(ready, pool, keep)
            except KeyboardInterrupt as error:
                hint = "; --resume continues with the segments that are done" if keep else ""
                text = str(error) or "stopped before all segments were made"
                raise InterruptedRunError(f"{text}{hint}") from None

    def table(self) -> list[str]:
        """What the workers have done, a line for each job, and the sum."""
        rows = [("segments", "frames", "retried", "seconds", "")]
        rows += [
            (str(len(one.plan.segments)), str(one.frames), str(one.retried), f"{one.seconds:.1f}",
             f"{how}: {one.job.source}")
            for how, one in self._rows
        ]  # fmt: skip
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = ["  ".join([*map(str.rjust, row[:4], widths), row[4]]).rstrip() for row in rows]
        elapsed = time.perf_counter() - self._began
        busy = sum(one.seconds for _, one in self._rows) / max(elapsed * self._crew.count, 1e-9)
        frames = sum(one.frames for _, one in self._rows)
        lines.append(
            f"{self._crew.count} workers, {100 * busy:.0f} % busy: {frames} frames in"
            f" {elapsed:.1f} s ({frames / max(elapsed, 1e-9):.2f} frames/s)"
        )
        return lines

    def _segment_frames(self, job: Job, clip: Clip) -> int:
        """Frames a segment of a job."""
        if self._workers.segment_frames is not None:
            return self._workers.segment_frames
        if job.settings.has_subject:
            return SEGMENT_FRAMES
        needs = needs_of(clip, self._model, job.settings)
        return local_segment_frames(clip.frame_count, needs, self._crew.count)

    def _prepare(self, job: Job) -> _LocalJob:
        """Plan a job, in a locked work folder beside its output. Raises VidmatteError."""
        work = output_paths(job.output).segments
        lock = lock_at(work / "lock")
        path = absolute_path(work) / "plan.json"
        try:
            work.mkdir(exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise OutputError(
                f"{work} is locked by another vidmatte process: wait for its end"
            ) from None
        except OSError as error:
            raise as_output_error(error, work) from error
        try:
            clip = self._clips[job.output]
            plan = make_plan(
                job,
                clip,
                self._model,
                self._reporter,
                segment_frames=self._segment_frames(job, clip),
                threads=job.settings.threads or self._crew.threads,
            )
            if self._crew.is_remote:
                plan = plan.at_origin()
            ready = _LocalJob(job, plan, path, lock, left=len(plan.segments))
            _clear_for(ready)
            plan.write(path)
        except BaseException:
            lock.release()
            if not (job.settings.resume and path.exists()):
                shutil.rmtree(work, ignore_errors=True)
            raise
        return ready

    def _run_all(
        self, ready: Sequence[_LocalJob], pool: WorkerPool, keep: bool
    ) -> Iterator[tuple[Job, Result | VidmatteError]]:
        """Make the segments of all prepared jobs, and join each job that is complete."""
        tasks = [
            Task(
                one,
                one.path,
                segment.number,
                segment.frames or self._clips[one.job.output].frame_count or SEGMENT_FRAMES,
                readers=self._workers.readers,
            )
            for one in ready
            for segment in one.plan.segments
        ]
        for task in tasks:
            pool.add(task)
        name = Path(ready[0].plan.source.path).name if len(ready) == 1 else f"{len(ready)} inputs"
        progress = Progress(name, sum(task.frames for task in tasks))
        self._about(ready)
        self._reporter.start(progress)
        try:
            for step in pool.run():
                progress.done = sum(task.done for task in tasks)
                self._reporter.advance(progress)
                owner: _LocalJob = step.task.owner
                if (outcome := self._outcome(owner, step)) is not None:
                    if isinstance(outcome, VidmatteError):
                        pool.drop(owner)
                    self._rows.append(
                        ("failed" if isinstance(outcome, VidmatteError) else "done", owner)
                    )
                    owner.close(keep=keep and isinstance(outcome, VidmatteError))
                    yield owner.job, outcome
                    self._about(ready)
        finally:
            self._reporter.finish()

    def _outcome(self, owner: _LocalJob, step: Step) -> Result | VidmatteError | None:
        """What a job has become by a step; None while it goes on."""
        if step.error is not None:
            return step.error
        if not step.is_done:
            return None
        task = step.task
        owner.left -= 1
        owner.retried += task.tries - 1
        owner.frames += task.done
        owner.seconds += task.seconds
        self._reporter.about(str(owner.job.source), str(owner.job.output))
        self._reporter.segment(
            {"segment": task.segment, "frames": task.done, "seconds": task.seconds,
             "tries": task.tries},
            f"segment {task.segment}: {task.done} frames in {task.seconds:.1f} s",
        )  # fmt: skip
        self._reporter.about()
        if owner.left:
            return None
        try:
            result = join_segments(
                owner.plan,
                owner.folder,
                Reporter(),
                job=owner.job,
                command=sys.argv,
                weights=self._model.weights,
                work=owner.path.parent,
            )
        except VidmatteError as error:
            return error
        return replace(result, seconds=time.perf_counter() - owner.began)

    def _about(self, ready: Sequence[_LocalJob]) -> None:
        """Let the progress concern the only job, if there is only one."""
        if len(ready) == 1:
            self._reporter.about(str(ready[0].job.source), str(ready[0].job.output))
        else:
            self._reporter.about()


def _remove_unlocked(work: Path) -> None:
    """Remove the work folder of a run that was killed after its result was complete."""
    lock = lock_at(work / "lock")
    if work.is_dir():
        with suppress(Timeout), lock.acquire(timeout=0):
            shutil.rmtree(work, ignore_errors=True)


def _clear_for(ready: _LocalJob) -> None:
    """Remove what another run has left, but with --resume not the segments of the same plan.

    Raises UsageError where they are of another one, OutputError.
    """
    folder = ready.folder
    if ready.job.settings.resume and ready.path.is_file():
        if Plan.read(ready.path, "plan").digest != ready.plan.digest:
            raise UsageError(
                f"--resume: {ready.path.parent} belongs to a different job (another source, model,"
                " option or version): repeat that job, or remove the folder to start over"
            )
        for path in folder.glob(".*"):
            shutil.rmtree(path, ignore_errors=True)
    elif folder.exists():
        shutil.rmtree(folder)

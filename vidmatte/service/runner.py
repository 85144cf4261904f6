"""Runs the jobs: starts them in the order of the queue, watches them, ends them, records how.

A job is a process of the command line with ``--resume``, which neither needs the server nor
takes it along when it crashes. The server that a job was started by may be killed: the next one
follows the same process, or starts the job again, which goes on from its last finished frame.
A lock on the data folder, which ends with its process however that ends, is the lease on
all jobs: two servers never run the same one.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from vidmatte.errors import UsageError
from vidmatte.service.command import CLIP_ID, JobOutput, job_words
from vidmatte.service.config import ServiceConfig
from vidmatte.service.context import Context, RequestError
from vidmatte.service.job_log import JobLog, Step, end_reason
from vidmatte.service.job_process import EVENTS, LOG, JobProcess, kill_marked
from vidmatte.service.jobs import Jobs
from vidmatte.service.results import described_results

_LOG = logging.getLogger("vidmatte.service")
_POLL_S = 0.25
_IDLE_S = 5.0
_MEASURE_S = 1.0  # between two looks at memory and disk
#: After SIGINT, until SIGTERM (for a process that was started with SIGINT ignored) and SIGKILL.
_TERM_S, _KILL_S = 3.0, 10.0
_HUNG_KILL_S = 2.0
_STOP_S = 8.0
#: How often a job is started again that was killed together with its server: it may be the cause.
_MOST_RESTARTS = 3


@dataclass
class _Running:
    """A job that runs. Times are of ``time.monotonic``. heard: when it last reported anything.
    asked: when it was first asked to stop. kill_after: seconds from then on."""

    job: str
    process: JobProcess
    log: JobLog
    heard: float
    step: Step | None = None
    reason: str | None = None
    asked: float | None = None
    is_termed: bool = False
    kill_after: float = _KILL_S


def lock_data(config: ServiceConfig) -> IO[bytes]:
    """Lock the data folder for as long as the returned file is open. Raises UsageError where
    another server has it."""
    try:
        import fcntl
    except ImportError:
        raise UsageError("vidmatte serve: it runs on Linux and macOS only") from None
    config.data.mkdir(parents=True, exist_ok=True)
    file = (config.data / ".lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise UsageError(f"--data {config.data}: another vidmatte serve uses it") from None
    return file


class Runner:
    """The thread that runs the jobs, from the server's start to its end."""

    def __init__(self, context: Context) -> None:
        self._context, self._config = context, context.config
        self._jobs: Jobs = context.jobs
        self._awake = threading.Event()
        self._running: list[_Running] = []
        self._measured = 0.0
        self._is_disk_low = False
        self._thread = threading.Thread(target=self._run, name="vidmatte-jobs", daemon=True)
        self._jobs.wake = self._awake.set
        context.starting.append(self._thread.start)
        context.ending.append(self._end)

    def _end(self) -> None:
        self._awake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        """The thread: run jobs until the server ends."""
        while not self._context.stopping.is_set():
            self._awake.clear()
            try:
                self._step()
            except Exception:  # noqa: BLE001 (a full disk, say: the next step may succeed)
                _LOG.exception("running jobs")
            self._awake.wait(_POLL_S if self._running else _IDLE_S)
        self._stop_all()

    def _step(self) -> None:
        """Adopt what an earlier server left, or what could not be recorded; look at the jobs that
        run; start others."""
        followed = {one.job for one in self._running}
        for row in self._jobs.running():
            if row["id"] not in followed:
                self._guarded(self._adopt, row)
        self._measure()
        for one in list(self._running):
            self._watch(one)
        self._fill()

    def _guarded(self, step: Any, row: sqlite3.Row) -> None:
        """Do a step for a job; a failure of the step is that job's alone."""
        try:
            step(row)
        except (OSError, RequestError, UsageError) as error:
            self._fail(row["id"], str(error))
        except Exception as error:  # noqa: BLE001 (the other jobs go on)
            _LOG.exception("job %s", row["id"])
            self._fail(row["id"], f"{type(error).__name__}: {error}: an internal error of vidmatte")

    def _fail(self, job: str, reason: str) -> None:
        """Record a failure."""
        kill_marked(job)
        self._running = [one for one in self._running if one.job != job]
        self._jobs.end(job, "failed", error=_without_paths(reason))
        self._purge_removed(job)

    def _purge_removed(self, job: str) -> None:
        """Remove what is left of a job that was removed while it ran."""
        if self._jobs.row(job, with_removed=True)["is_removed"]:
            self._jobs.purge(job)

    def _adopt(self, row: sqlite3.Row) -> None:
        """Follow the process of a job that ran when the server before was killed; settle it if it
        has ended since."""
        job = row["id"]
        log = JobLog(self._jobs.folder(job) / EVENTS, row["log_start"])
        process = JobProcess.find(job)
        if process is not None:
            self._running.append(_Running(job, process, log, time.monotonic()))
            return
        kill_marked(job)  # workers of a process that was killed
        if (self._jobs.folder(job) / EVENTS).exists():
            log.read_all()
        self._settle(row, log, None, was_left=True)

    def _fill(self) -> None:
        """Start jobs until enough of them run."""
        while len(self._running) < self._config.jobs and not self._is_disk_low:
            row = self._jobs.claim()
            if row is None:
                return
            self._guarded(self._launch, row)

    def _launch(self, row: sqlite3.Row) -> None:
        job = row["id"]
        folder = self._jobs.folder(job)
        (folder / "out").mkdir(parents=True, exist_ok=True)
        process = JobProcess.start(job, list(self._words(row)), folder)
        log = JobLog(folder / EVENTS, row["log_start"])
        self._running.append(_Running(job, process, log, time.monotonic()))

    def _words(self, row: sqlite3.Row) -> Iterator[str]:
        """The words of a job's process. Paths are relative to its folder, so that no path of the
        server is in its messages and manifests."""
        clips, config = self._context.clips, self._config

        def name_of(clip: str) -> str:
            return f"../../clips/{clip}/{clips.ready(clip)['name']}"

        settings, output = json.loads(row["settings"]), JobOutput(**json.loads(row["output"]))
        yield from job_words(clips.ready(row["clip"]), settings, output, name_of, "out/")
        yield from ("--json", "--resume", "--overwrite")
        if config.workers != "1":
            yield from ("--workers", config.workers)
        if config.models_dir is not None:
            yield from ("--models-dir", str(Path(config.models_dir).absolute()))
        if settings.get("max_megapixels") is None:
            yield from ("--max-megapixels", f"{config.max_megapixels:.15g}")

    def _measure(self) -> None:
        """Look at the disk, and at the memory of each job, once in a while."""
        now = time.monotonic()
        if now - self._measured < _MEASURE_S:
            return
        self._measured = now
        self._is_disk_low = self._context.disk.free_bytes < self._config.min_free
        for one in self._running:
            most = self._config.job_memory
            if self._is_disk_low:
                floor = self._config.min_free / 1e9
                self._limit(one, f"ended because the disk has less than {floor:.2f} GB free: free"
                                 " some space, then retry")  # fmt: skip
            elif most is not None and (used := one.process.memory()) > most:
                self._limit(one, f"ended because it used {used / 1e9:.2f} GB of memory, and the"
                                 f" limit of a job is {most / 1e9:.2f} GB: use a smaller model or"
                                 " picture, or raise --job-memory", kill_after=0)  # fmt: skip

    def _limit(self, one: _Running, reason: str, kill_after: float = _KILL_S) -> None:
        """Begin to end a job for a reason, which a server that is killed meanwhile also knows."""
        if one.reason is None:
            one.reason = reason
            self._jobs.change(one.job, ending=reason)
            self._ask_to_stop(one, kill_after)

    def _ask_to_stop(self, one: _Running, kill_after: float = _KILL_S) -> None:
        if one.asked is None:
            one.asked, one.kill_after = time.monotonic(), kill_after
            one.process.interrupt()

    def _watch(self, one: _Running) -> None:
        """One look at a job that runs."""
        row = self._jobs.row(one.job, with_removed=True)
        self._guarded(lambda _: self._look(one, row), row)

    def _look(self, one: _Running, row: sqlite3.Row) -> None:
        has_ended, now = one.process.has_ended(), time.monotonic()
        if one.log.read():
            one.heard = now
        if has_ended:
            one.process.close()
            one.log.read_all()
        if (step := one.log.step) is not None and step != one.step:
            one.step = step
            self._jobs.progress(one.job, step.phase, step.done, step.frames, step.fps)
        if has_ended:
            self._running.remove(one)
            self._settle(row, one.log, one.process.returncode)
            return
        if row["is_cancelled"]:
            self._ask_to_stop(one)
        silence = self._config.job_silence
        if now - one.heard > silence:
            reason = (
                f"ended because it reported nothing for {silence:g} s; a retry continues from there"
            )
            self._limit(one, reason, _HUNG_KILL_S)
        self._insist(one, now)

    def _insist(self, one: _Running, now: float) -> None:
        """Be firmer with a job that was asked to stop, and has not."""
        if one.asked is None:
            return
        if now - one.asked >= one.kill_after:
            one.process.kill()
        elif now - one.asked >= _TERM_S and not one.is_termed:
            one.is_termed = True
            one.process.interrupt(signal.SIGTERM)

    def _settle(
        self, row: sqlite3.Row, log: JobLog, returncode: int | None, *, was_left: bool = False
    ) -> None:
        """Record how a job ended. was_left: its server was killed before it."""
        job, folder = row["id"], self._jobs.folder(row["id"])
        row = self._jobs.row(job, with_removed=True)
        shutil.rmtree(folder / "tmp", ignore_errors=True)
        if row["is_removed"]:
            self._jobs.end(job, "cancelled")
            self._purge_removed(job)
        elif log.status == 0 and log.done is not None:
            self._record_result(row, log.done)
        elif row["ending"] is not None:
            self._jobs.end(job, "failed", error=row["ending"])
        elif row["is_cancelled"]:
            self._jobs.end(job, "cancelled")
        elif log.failure is not None:
            self._jobs.end(job, "failed", error=_without_paths(log.failure))
        elif self._context.stopping.is_set() or (was_left and row["restarts"] < _MOST_RESTARTS):
            self._jobs.requeue(job, restarts=row["restarts"] + was_left)
        else:
            reason = end_reason(returncode, folder / LOG)
            if was_left:
                reason = f"it was killed {_MOST_RESTARTS + 1} times together with the server"
            elif log.is_stopped:
                reason = "it was stopped by a signal from outside; a retry continues from there"
            self._jobs.end(job, "failed", error=_without_paths(reason))

    def _record_result(self, row: sqlite3.Row, done: dict[str, Any]) -> None:
        """Record a job's success. done: the facts of its event."""
        results = described_results(self._jobs.folder(row["id"]) / "out", done)
        warnings = [_without_paths(str(line)) for line in done.get("warnings", ())]
        frames = int(done.get("frames") or 0)
        self._jobs.end(
            row["id"], "done", error=None, done=frames, frames=frames, fps=done.get("fps"),
            results=json.dumps(results), warnings=json.dumps(warnings),
            quality=json.dumps(done.get("quality")),
        )  # fmt: skip

    def _stop_all(self) -> None:
        """Stop the jobs with the server; they go on when it starts again."""
        until = time.monotonic() + _STOP_S
        for one in self._running:
            self._ask_to_stop(one, _STOP_S)
        while self._running and time.monotonic() < until + _STOP_S:
            for one in list(self._running):
                if time.monotonic() >= until:
                    one.process.kill()
                self._watch(one)
            time.sleep(0.05)


def _without_paths(text: str) -> str:
    """A message without the folders of this server, so that files have the client's names."""
    return re.sub(rf"(?:\S*/)?clips/{CLIP_ID}/|(?<![\w/])out/", "", text)

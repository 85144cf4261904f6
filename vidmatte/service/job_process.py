"""The process of a job: started, found again by a later server, measured, ended.

It has a session of its own, and a variable in its environment by which it and the processes that
it starts are recognised, whoever their parent is.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

import vidmatte
from vidmatte.service.command_line import inherited_environment

_MARK = "VIDMATTE_SERVICE_JOB"
EVENTS, LOG = "events.jsonl", "log.txt"
_TEMPORARY = "tmp"
_NICENESS = 5  # the server answers while jobs use all cores


class JobProcess:
    """The process of one job. ``returncode`` is None until it has ended, and where an earlier
    server started it."""

    def __init__(
        self, job: str, leader: psutil.Process, started: subprocess.Popen[bytes] | None = None
    ) -> None:
        self._job, self._leader, self._started = job, leader, started
        self.returncode: int | None = None

    @classmethod
    def start(cls, job: str, words: Sequence[str], folder: Path) -> Self:
        """Run ``vidmatte`` with these words in ``folder``; its events are added to a file there and
        its stderr replaces another, so that it does not need this server. Raises OSError."""
        temporary = folder / _TEMPORARY
        temporary.mkdir(parents=True, exist_ok=True)
        package = str(Path(vidmatte.__file__).absolute().parent.parent)
        paths = [package, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        environment = {
            **inherited_environment(),
            _MARK: job,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "TMPDIR": str(temporary.absolute()),
        }
        with (folder / EVENTS).open("ab") as events, (folder / LOG).open("wb") as log:
            started = subprocess.Popen(
                # -P: no module is taken from the folder, in which clients name files.
                [sys.executable, "-P", "-m", "vidmatte", *words],
                cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=events, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        leader = psutil.Process(started.pid)
        with suppress(psutil.Error):  # it may have ended
            leader.nice(_NICENESS)
        return cls(job, leader, started)

    @classmethod
    def find(cls, job: str) -> Self | None:
        """The process of a job that an earlier server started; None where it has ended."""
        for process in _marked(job):
            with suppress(OSError):
                if os.getpgid(process.pid) == process.pid:
                    return cls(job, process)
        return None

    def has_ended(self) -> bool:
        """Whether it has ended."""
        if self._started is not None:
            self.returncode = self._started.poll()
            return self.returncode is not None
        try:
            return not self._leader.is_running() or self._leader.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def memory(self) -> int:
        """Resident memory of it and the processes that it started, in bytes."""
        total = 0
        with suppress(psutil.NoSuchProcess):
            for process in (self._leader, *self._leader.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    total += process.memory_info().rss
        return total

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Ask it to stop, as Ctrl+C does."""
        with suppress(psutil.NoSuchProcess):
            self._leader.send_signal(number)

    def kill(self) -> None:
        """End it and all that it started."""
        kill_marked(self._job)

    def close(self) -> None:
        """After its end: end what it started and left behind."""
        kill_marked(self._job)
        if self._started is not None:
            self._started.wait()


def kill_marked(job: str) -> None:
    """End all processes of a job."""
    for process in _marked(job):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _marked(job: str) -> Iterator[psutil.Process]:
    """The processes that have the mark of a job and run."""
    for process in psutil.process_iter():
        try:
            is_ours = process.environ().get(_MARK) == job
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.Error, OSError):  # another user's, or ended in the meantime
            continue

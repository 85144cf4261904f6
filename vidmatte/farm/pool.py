"""Workers, the queue of segments that they make, and local processes as workers."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from vidmatte import errors
from vidmatte.core.remote import READERS
from vidmatte.errors import VidmatteError

GRACE_SECONDS = 10.0  # for a segment in progress to stop
_PATIENCE_SECONDS = 20.0  # after which a note says that no worker is ready


@dataclass(eq=False)
class Task:
    """A segment to make. owner: what it belongs to. frames: its length, or a guess. done: frames
    of the present try. tries: how often it was begun. seconds: of the try that succeeded.
    readers: see ``core.remote.Staging``. failed_at: places of workers that could not make it."""

    owner: Any
    plan: Path
    segment: int
    frames: int
    done: int = 0
    tries: int = 0
    seconds: float = 0.0
    readers: int = READERS
    failed_at: set[str] = field(default_factory=set)

    @property
    def request(self) -> dict[str, Any]:
        """What ``farm.serve`` is asked for."""
        return {"plan": str(self.plan), "segment": self.segment, "readers": self.readers}


@dataclass(frozen=True)
class Step:
    """Something that happened to a task. error: why it failed for good."""

    task: Task
    is_done: bool = False
    error: VidmatteError | None = None


_Process = subprocess.Popen[str]
#: What a worker answers, see ``farm.serve``; None: its process has ended. With it come the worker
#: and the process, by which answers of an earlier process are told from those of the present one.
Event = dict[str, Any]
Events = SimpleQueue[tuple["Worker", Any, Event | None]]


class Worker(ABC):
    """Makes one segment at a time. task: that one. process: what its answers come from at present.
    is_ready: it can begin a task. place: the machine that it is on; '' for this one."""

    task: Task | None = None
    process: Any = None
    is_ready = True
    place = ""

    @abstractmethod
    def begin(self, task: Task) -> None:
        """Begin to make a task."""

    @abstractmethod
    def ending(self) -> str:
        """How its process has ended."""

    @abstractmethod
    def ask_to_stop(self) -> None:
        """Tell it to stop soon."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it and wait until its process has ended; safe to call twice."""

    @abstractmethod
    def renew(self) -> None:
        """Prepare for further tasks, after its process has ended."""


@dataclass(frozen=True)
class Crew:
    """The workers of a call. threads: of the network of each. is_remote: on other machines."""

    count: int
    threads: int
    new_worker: Callable[[Events], Worker]
    is_remote: bool = False


class WorkerPool:
    """Makes segments by the workers of a crew.

    retries: how often a segment is tried again after a failure. note: takes a line on one.
    """

    def __init__(self, crew: Crew, retries: int, note: Callable[[str], None]) -> None:
        self._events: Events = SimpleQueue()
        self._workers = [crew.new_worker(self._events) for _ in range(crew.count)]
        self._retries = retries
        self._note = note
        self._waiting: list[Task] = []
        self._is_waiting = False  # for room, which was said
        #: Why a machine cannot make any segment of an owner.
        self._unfit: dict[tuple[Any, str], Event] = {}

    def add(self, task: Task) -> None:
        """Queue a task; longer ones are begun first."""
        self._waiting.append(task)
        self._waiting.sort(key=lambda one: one.frames)

    def drop(self, owner: Any) -> None:
        """Forget the waiting tasks of an owner that has failed; stop those in progress."""
        self._waiting = [one for one in self._waiting if one.owner is not owner]
        for worker in self._workers:
            if worker.task is not None and worker.task.owner is owner:
                worker.stop()
                worker.renew()

    def run(self) -> Iterator[Step]:
        """Make all tasks; what happens to them, as it happens. Raises VidmatteError where no
        worker can go on."""
        while True:
            self._begin_tasks()
            if all(worker.task is None for worker in self._workers):
                if not self._waiting:
                    return
                if all(worker.is_ready for worker in self._workers):  # on unfit machines, all
                    task = self._waiting.pop()
                    yield _failed(task, self._unfit[task.owner, self._workers[0].place])
                    continue
            answer = self._next()
            if answer is None:
                yield Step(self._waiting[-1])  # waiting is no silence
                continue
            worker, process, event = answer
            if worker.process is not process:
                continue
            if event is not None and event["event"] == "unusable":
                raise VidmatteError(event["message"])
            if worker.task is not None:
                yield from self._handle(worker, worker.task, event)
            if event is None:
                worker.renew()

    def close(self) -> None:
        """End all processes; safe to call twice."""
        for worker in self._workers:
            worker.ask_to_stop()
        for worker in self._workers:
            worker.stop()

    def _begin_tasks(self) -> None:
        """Give a task to each worker that can begin one."""
        for worker in self._workers:
            if (task := self._next_for(worker)) is not None:
                task.tries += 1
                task.done = 0
                worker.task = task
                worker.begin(task)

    def _next_for(self, worker: Worker) -> Task | None:
        """The next task for a worker, if it can begin one: the longest, but not one that failed on
        its machine while another could make it."""
        if worker.task is not None or not worker.is_ready:
            return None
        places = {one.place for one in self._workers if one.task is not None or one.is_ready}
        for task in reversed(self._waiting):
            fit = {place for place in places if (task.owner, place) not in self._unfit}
            if worker.place in (fit - task.failed_at or fit):
                self._waiting.remove(task)
                return task
        return None

    def _next(self) -> tuple[Worker, Any, Event | None] | None:
        """The next answer of a worker; None where none was ready for some time."""
        if any(worker.task is not None for worker in self._workers):
            return self._events.get()
        with contextlib.suppress(Empty):
            return self._events.get(timeout=_PATIENCE_SECONDS)
        if not self._is_waiting:
            self._is_waiting = True
            self._note("no worker is ready: waiting for room on the cluster")
        return None

    def _handle(self, worker: Worker, task: Task, event: Event | None) -> Iterator[Step]:
        if event is None:
            worker.task = None
            event = {"event": "failed", "error": "VidmatteError", "message": worker.ending()}
        kind = event["event"]
        if kind == "note":
            self._note(f"segment {task.segment}: {event['text']}")
        elif kind == "progress":
            task.done = event["done"]
            yield Step(task)
        elif kind == "done":
            worker.task = None
            task.done, task.seconds = event["frames"], event["seconds"]
            yield Step(task, is_done=True)
        elif kind == "failed":
            if worker.task is not None:  # its process goes on: the next try is for another machine
                task.failed_at.add(worker.place)
            worker.task, task.done = None, 0
            if event.get("is_final"):
                self._unfit[task.owner, worker.place] = event
            yield from self._retry(task, event)

    def _retry(self, task: Task, event: Event) -> Iterator[Step]:
        """Queue a task that failed, if another try makes sense."""
        message = f"segment {task.segment}: {event['message']}"
        is_final = bool(event.get("is_final"))
        if is_final and any(
            not (worker.is_ready or worker.task) or (task.owner, worker.place) not in self._unfit
            for worker in self._workers
        ):
            task.tries -= 1
            self._note(f"{message}: that machine makes no other segment of this job")
        elif not is_final and task.tries <= self._retries:
            self._note(f"{message}: trying again ({task.tries} of {self._retries})")
        else:
            yield _failed(task, event)
            return
        self.add(task)
        yield Step(task)


def _failed(task: Task, event: Event) -> Step:
    """What has become of a task that failed for good."""
    message = f"segment {task.segment}: {event['message']}"
    return Step(task, error=getattr(errors, event["error"], VidmatteError)(message))


class LocalWorker(Worker):
    """A local process, started when it is first needed; see ``farm.serve``."""

    process: _Process | None = None

    def __init__(self, events: Events) -> None:
        self._events = events
        self._readers: list[threading.Thread] = []

    def begin(self, task: Task) -> None:
        """See ``Worker.begin``: in a new process where there is none."""
        if self.process is None or self.process.poll() is not None:
            self._start()
        request = json.dumps(task.request)
        assert self.process is not None
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has just ended, which its reader reports
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()

    def ending(self) -> str:
        """See ``Worker.ending``."""
        assert self.process is not None
        return ending_text(self.process.wait())

    def ask_to_stop(self) -> None:
        """See ``Worker.ask_to_stop``."""
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()

    def stop(self) -> None:
        """See ``Worker.stop``."""
        self.ask_to_stop()
        process, self.process, self.task = self.process, None, None
        if process is None:
            return
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for reader in self._readers:
            reader.join()

    def renew(self) -> None:
        """See ``Worker.renew``: the next task starts a process."""

    def _start(self) -> None:
        # In a session of its own: Ctrl+C reaches only the parent, which then stops it.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vidmatte.farm.serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )
        reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        reader.start()
        self._readers = [*(one for one in self._readers if one.is_alive()), reader]

    def _read(self, process: _Process) -> None:
        """Pass on what a process answers; then that it has ended."""
        assert process.stdout is not None
        with process.stdout as answers:
            for line in answers:
                self._events.put((self, process, json.loads(line)))
        self._events.put((self, process, None))


def ending_text(status: int) -> str:
    """How a process with that exit status has ended."""
    if status < 0:
        return f"its process was killed by signal {-status}"
    return f"its process ended with status {status}"

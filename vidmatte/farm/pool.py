"""Local worker processes, and the queue of segments that they make."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from vidmatte import errors
from vidmatte.errors import VidmatteError

_GRACE_SECONDS = 10.0  # for a segment in progress to stop


@dataclass(eq=False)
class Task:
    """A segment to make. owner: what it belongs to. frames: its length, or a guess. done: frames
    of the present try. tries: how often it was begun. seconds: of the try that succeeded."""

    owner: Any
    plan: Path
    segment: int
    frames: int
    done: int = 0
    tries: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Step:
    """Something that happened to a task. error: why it failed for good."""

    task: Task
    is_done: bool = False
    error: VidmatteError | None = None


_Event = dict[str, Any]
_Process = subprocess.Popen[str]
_Events = SimpleQueue[tuple["_Worker", _Process, _Event | None]]


class WorkerPool:
    """``count`` processes that make segments. They start when they are first needed.

    retries: how often a segment is tried again after a failure. note: takes a line on one.
    """

    def __init__(self, count: int, retries: int, note: Callable[[str], None]) -> None:
        self._events: _Events = SimpleQueue()
        self._workers = [_Worker(self._events) for _ in range(count)]
        self._retries = retries
        self._note = note
        self._waiting: list[Task] = []

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

    def run(self) -> Iterator[Step]:
        """Make all tasks; what happens to them, as it happens."""
        while True:
            for worker in self._workers:
                if worker.task is None and self._waiting:
                    worker.begin(self._waiting.pop())
            if all(worker.task is None for worker in self._workers):
                return
            worker, process, event = self._events.get()
            if worker.task is not None and worker.process is process:
                yield from self._handle(worker, worker.task, event)

    def close(self) -> None:
        """End all processes; safe to call twice."""
        for worker in self._workers:
            worker.ask_to_stop()
        for worker in self._workers:
            worker.stop()

    def _handle(self, worker: _Worker, task: Task, event: _Event | None) -> Iterator[Step]:
        if event is None:
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
            worker.task = None
            yield from self._fail(task, event)

    def _fail(self, task: Task, event: _Event) -> Iterator[Step]:
        task.done = 0
        message = f"segment {task.segment}: {event['message']}"
        if event.get("is_final") or task.tries > self._retries:
            yield Step(task, error=getattr(errors, event["error"], VidmatteError)(message))
            return
        self._note(f"{message}: trying again ({task.tries} of {self._retries})")
        self.add(task)
        yield Step(task)


class _Worker:
    """One process at a time; see ``farm.serve``. events: gets the process's answers, and None when
    it has ended."""

    def __init__(self, events: _Events) -> None:
        self.task: Task | None = None
        self.process: _Process | None = None
        self._events = events
        self._readers: list[threading.Thread] = []

    def begin(self, task: Task) -> None:
        """Make a task, in a new process where there is none."""
        if self.process is None or self.process.poll() is not None:
            self._start()
        self.task = task
        task.tries += 1
        task.done = 0
        request = json.dumps({"plan": str(task.plan), "segment": task.segment})
        assert self.process is not None
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has just ended, which its reader reports
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()

    def ending(self) -> str:
        """How the process has ended, whose answers have."""
        assert self.process is not None
        status = self.process.wait()
        if status < 0:
            return f"its process was killed by signal {-status}"
        return f"its process ended with status {status}"

    def ask_to_stop(self) -> None:
        """Tell the process to stop soon."""
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()

    def stop(self) -> None:
        """Stop the process and wait until it has ended."""
        self.ask_to_stop()
        process, self.process, self.task = self.process, None, None
        if process is None:
            return
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for reader in self._readers:
            reader.join()

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

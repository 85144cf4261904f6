"""Keeps the process that renders views, and the pictures that it has made.

The process starts with the first request and ends after some idle minutes, so that the server is
small. One that dies, hangs or takes too much memory is ended and started again; the request that
did it is answered with an error. Pictures and raw alphas are files under ``--data``'s ``views``, up
to a number of bytes in all; the ones used longest ago go.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, Queue
from typing import Any

import psutil

from vidmatte.service.config import GIB, ServiceConfig
from vidmatte.service.context import Context, RequestError
from vidmatte.service.picture_store import PictureStore

_REQUEST_SECONDS = 90.0
_IDLE_SECONDS = 300.0
_POLL_SECONDS = 0.5
_MOST_WAITING = 64
_MOST_MEMORY, _RESTART_MEMORY = 5 * GIB, 2 * GIB
_LEAST_SPACE, _SPACE_SHARE = GIB // 4, 10


@dataclass(eq=False)
class Task:
    """A request that waits or runs. group: of the view that asks, whose newest request goes
    first."""

    request: dict[str, Any]
    group: Hashable
    answer: Future[dict[str, Any]] = field(default_factory=Future)


class Viewer:
    """Renders by way of one process. idle_seconds: after which it ends without a request;
    request_seconds: after which it is killed within one; limit: bytes of stored files."""

    def __init__(
        self,
        config: ServiceConfig,
        *,
        idle_seconds: float = _IDLE_SECONDS,
        request_seconds: float = _REQUEST_SECONDS,
        limit: int | None = None,
    ) -> None:
        self._idle_seconds, self._request_seconds = idle_seconds, request_seconds
        self.store = PictureStore(
            config.views, limit or max(_LEAST_SPACE, config.max_disk // _SPACE_SHARE)
        )
        self._worker = _Worker(config)
        self._waiting: list[Task] = []
        self._changed = threading.Condition()
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="vidmatte-viewer")

    def start(self) -> None:
        """Begin to answer; the process starts with the first request."""
        self.store.remove_oldest()
        self._thread.start()

    def end(self) -> None:
        """End the process and the thread; waiting requests are answered with an error."""
        with self._changed:
            self._is_ending = True
            self._changed.notify()
        self._worker.kill()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def process_id(self) -> int | None:
        """Of the process, None where none runs."""
        return self._worker.process_id

    def submit(self, request: dict[str, Any], group: Hashable) -> Task:
        """Have a request answered; ``Task.answer`` gets it, or a RequestError. Cancel that to drop
        a request that waits. Raises RequestError (503) where too many wait."""
        task = Task(request, group)
        with self._changed:
            self._waiting = [one for one in self._waiting if not one.answer.cancelled()]
            if len(self._waiting) >= _MOST_WAITING or self._is_ending:
                raise busy()
            self._waiting.append(task)
            self._changed.notify()
        return task

    def _next(self) -> Task | None:
        """The next request; None where the service ends."""
        with self._changed:
            while not self._is_ending:
                while self._waiting:
                    group = self._waiting[0].group
                    newest = [one for one in self._waiting if one.group == group][-1]
                    self._waiting.remove(newest)
                    if newest.answer.set_running_or_notify_cancel():
                        return newest
                if not self._changed.wait(self._idle_seconds):
                    self._worker.stop()
            return None

    def _run(self) -> None:
        while (task := self._next()) is not None:
            try:
                answer = self._answer(task.request)
                task.answer.set_result(answer)
                self.store.added(answer.get("file"))
            except Exception as error:  # noqa: BLE001 (raised again where the answer is awaited)
                if not task.answer.done():
                    task.answer.set_exception(error)
        self._worker.kill()
        for task in self._waiting:
            if task.answer.set_running_or_notify_cancel():
                task.answer.set_exception(busy())

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The worker's answer. Raises RequestError."""
        for _ in range(2):  # it may have been killed before the request came
            answer = self._worker.ask(request, self._request_seconds)
            if answer is not None:
                break
            if self._is_ending:
                raise busy()
        else:
            message = "the process that renders ended twice at this frame: is the clip damaged?"
            raise RequestError(503, "render_failed", message, 10)
        if answer["ok"]:
            return answer
        raise RequestError(
            answer["status"], answer["error"], answer["message"], answer.get("retry_after")
        )


def busy() -> RequestError:
    """503: other frames are being rendered."""
    return RequestError(503, "busy", "other frames are being rendered: try again", 2)


class _Worker:
    """The process, started when it is first asked."""

    def __init__(self, config: ServiceConfig) -> None:
        self._config = config
        self._process: subprocess.Popen[str] | None = None
        self._answers: Queue[str | None] = Queue()
        self._lock = threading.Lock()
        self._is_killed = False

    @property
    def process_id(self) -> int | None:
        """Of the running process."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any] | None:
        """The answer; None where the process ended. Raises RequestError where it takes too long or
        too much memory, and ends it."""
        process = self._started()
        if process is None:
            return None
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        except OSError:
            self.stop()
            return None
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._answers.get(timeout=_POLL_SECONDS)
                break
            except Empty:
                self._check(process, deadline, seconds)
        if line is None:
            self.stop()
            return None
        if _memory_of(process) > _RESTART_MEMORY:
            self.stop()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _check(self, process: subprocess.Popen[str], deadline: float, seconds: float) -> None:
        if _memory_of(process) > _MOST_MEMORY:
            self._end(process)
            message = f"this frame takes more than {_MOST_MEMORY // GIB} GiB of memory"
            raise RequestError(503, "memory", message, 60)
        if time.monotonic() > deadline:
            self._end(process)
            message = f"this frame took more than {seconds:.0f} s: use a faster model"
            raise RequestError(504, "timeout", message)

    def _started(self) -> subprocess.Popen[str] | None:
        with self._lock:
            if self._is_killed:
                return None
            if self._process is not None and self._process.poll() is None:
                return self._process
            config = self._config
            words = [str(config.views), str(config.max_megapixels), config.models_dir or ""]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vidmatte.service.render_worker", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env={**os.environ, "TMPDIR": str(config.temporary)},
            )
            answers: Queue[str | None] = Queue()
            self._answers = answers
            name = "vidmatte-viewer-answers"
            threading.Thread(
                target=_read_answers, args=(self._process, answers), name=name, daemon=True
            ).start()
            return self._process

    def stop(self) -> None:
        """End the process; the next request starts another."""
        with self._lock:
            process = self._process
        if process is not None:
            self._end(process)

    def kill(self) -> None:
        """End the process and start no other."""
        with self._lock:
            self._is_killed = True
        self.stop()

    def _end(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.wait()
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # what was not written any more
            process.stdin.close()


def _read_answers(process: subprocess.Popen[str], answers: Queue[str | None]) -> None:
    """Pass on the lines that a process prints, and None at its end."""
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            answers.put(line)
    answers.put(None)


def _memory_of(process: subprocess.Popen[str]) -> int:
    """Resident bytes of a process."""
    try:
        return int(psutil.Process(process.pid).memory_info().rss)
    except psutil.Error:
        return 0


def viewer_of(context: Context) -> Viewer:
    """The viewer of a service, started and ended with it."""
    if context.viewer is None:
        context.viewer = Viewer(context.config)
        context.starting.append(context.viewer.start)
        context.ending.append(context.viewer.end)
    viewer: Viewer = context.viewer
    return viewer

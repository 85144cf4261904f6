"""A worker's process: makes the segments that its stdin asks for, a line of JSON each.

``{"plan": FILE, "segment": N, "readers": N}`` is answered on stdout with progress events and then
``done`` or ``failed``. The network stays loaded from one segment to the next. When stdin is closed
it ends, also in the middle of a segment: nobody waits for that one any more.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import cv2

from vidmatte.core.memory import is_out_of_memory, oom_error, tune_malloc
from vidmatte.core.remote import Staging
from vidmatte.core.terminal import harden_std_streams
from vidmatte.errors import SourceError, UsageError, VidmatteError
from vidmatte.farm.plan import Plan, segments_folder
from vidmatte.farm.worker import make_segment
from vidmatte.jobs.report import Progress, Reporter, emit
from vidmatte.models.registry import Model, choose_model

_SECONDS_BETWEEN_EVENTS = 0.25


class _EventReporter(Reporter):
    """Passes on what the parent process shows."""

    def __init__(self) -> None:
        self._last = 0.0

    def note(self, line: str) -> None:
        emit({"event": "note", "text": line.removeprefix("vidmatte: ")})

    def advance(self, progress: Progress) -> None:
        if not progress.phase and time.perf_counter() - self._last > _SECONDS_BETWEEN_EVENTS:
            self._last = time.perf_counter()
            emit({"event": "progress", "done": progress.done})


class _Server:
    """Answers requests, with the network of the latest settings loaded."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._reporter = _EventReporter()
        self._loaded: tuple[str, Model] | None = None

    def answer(self, request: dict[str, Any]) -> None:
        """Make one segment. Raises KeyboardInterrupt."""
        try:
            path = Path(request["plan"])
            plan = Plan.read(path, "plan")
            self._staging.share(request["readers"], segments_folder(path))
            found = make_segment(
                plan,
                segments_folder(path),
                request["segment"],
                self._reporter,
                model=self._model(plan),
            )
        except Exception as error:  # noqa: BLE001 (the parent decides what follows)
            emit({"event": "failed", **_failure(error)})
        else:
            emit({"event": "done", "frames": found.frames, "seconds": found.seconds})

    def _model(self, plan: Plan) -> Model:
        key = json.dumps(plan.settings, sort_keys=True)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None
            model = choose_model(plan.make_settings()).fetch(self._reporter.note)
            self._loaded = key, model
        return self._loaded[1]


def _failure(error: Exception) -> dict[str, Any]:
    """An error for the parent. is_final: another try on this machine would fail too. Not so where
    the system could not read what is there: a disk is full, or a server does not answer."""
    cause = error.__cause__
    is_passing = isinstance(cause, OSError) and not isinstance(
        cause, FileNotFoundError | VidmatteError
    )
    if isinstance(error, VidmatteError):
        name, message = type(error).__name__, str(error)
    elif is_out_of_memory(error):
        name, message = "OutOfMemoryError", oom_error(error)
    else:
        name, message = "VidmatteError", f"{type(error).__name__}: {error}"
    return {
        "error": name,
        "message": message,
        "is_final": isinstance(error, UsageError | SourceError) and not is_passing,
    }


def _read_requests(requests: SimpleQueue[str | None]) -> None:
    """Queue the lines of stdin; at its end stop the segment in progress."""
    for line in sys.stdin:
        requests.put(line)
    requests.put(None)
    os.kill(os.getpid(), signal.SIGTERM)


def main(words: list[str]) -> int:
    """Answer requests until stdin ends; the exit status. words: OpenCV's threads, or nothing."""
    harden_std_streams()
    tune_malloc()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if words:
        cv2.setNumThreads(int(words[0]))
    requests: SimpleQueue[str | None] = SimpleQueue()
    try:
        threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
        with Staging() as staging:
            server = _Server(staging)
            while (line := requests.get()) is not None:
                server.answer(json.loads(line))
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    # Threads in native code that were cancelled may still be at work: do not wait for them.
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)

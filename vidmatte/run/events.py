"""What ``--json`` prints: a run's events, a line of JSON each, on stdout.

examples/REFERENCE.md lists the events and their keys.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from vidmatte.run.report import Progress, Reporter
from vidmatte.terminal import silence

SECONDS_BETWEEN_LINES = 1.0


class JsonReporter(Reporter):
    """A line a second while frames go by, and one at each input's end.

    quiet: no more than how inputs and the call ended. verbose: details too. Every event but
    the last one says which input it is about; null is the call as a whole.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._input: str | None = None
        self._output: str | None = None
        self._ends: dict[str, str] = {}
        self._progress: Progress | None = None
        self._told = 0
        self._last = 0.0
        if sys.stdout is None:
            tell_of_loss("it is closed")

    def plan(self, inputs: Sequence[str]) -> None:
        self._ends = dict.fromkeys(inputs, "not_begun")

    def about(self, source: str | None = None, output: str | None = None) -> None:
        self._input, self._output = source, output

    def begin(self) -> None:
        self._end("unfinished")

    def note(self, line: str) -> None:
        if not self._quiet:
            self._tell("note", text=line.removeprefix("vidmatte: "))

    def detail(self, line: str) -> None:
        if self._verbose:
            self._tell("detail", text=line)

    def start(self, progress: Progress) -> None:
        self._progress, self._told, self._last = progress, progress.done, 0.0
        if not self._quiet:
            self._tell("start", frames=progress.total)

    def advance(self, progress: Progress) -> None:
        if time.perf_counter() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.perf_counter()
            self._tell_progress(progress)

    def finish(self) -> None:
        if self._progress is not None and self._told < self._progress.done:
            self._tell_progress(self._progress)
        self._progress = None

    def summary(self, facts: dict[str, Any], line: str) -> None:  # noqa: ARG002
        self._end("done")
        self._tell("done", **{key: facts[key] for key in facts if key not in ("input", "output")})

    def failure(self, error: str, line: str) -> None:
        super().failure(error, line)
        self._end("failed")
        self._tell("failed", error=error, message=line)

    def stopped(self, line: str) -> None:
        self._tell("stopped", message=line)

    def over(self, status: int) -> None:
        ends = {
            end: [name for name, its in self._ends.items() if its == end]
            for end in ("done", "failed", "unfinished", "not_begun")
        }
        emit({"event": "summary", **ends, "status": status})

    def _end(self, how: str) -> None:
        if self._input is not None:
            self._ends[self._input] = how

    def _tell_progress(self, progress: Progress) -> None:
        self._told = progress.done
        if not self._quiet:
            self._tell(
                "progress",
                done=progress.done,
                frames=progress.total,
                fps=round(progress.fps, 3),
                slowest=progress.slowest,
                busy_seconds={name: round(s, 3) for name, s in progress.busy.items()},
            )

    def _tell(self, event: str, **facts: Any) -> None:
        emit({"event": event, "input": self._input, "output": self._output, **facts})


def emit(event: dict[str, Any]) -> None:
    """Print an event. Where nobody reads it any more that is told once, on stderr."""
    out = sys.stdout
    if out is None:
        return
    try:
        out.write(json.dumps(event, default=str) + "\n")
        out.flush()
    except OSError as error:  # the run is not at fault, and its result is still wanted
        silence(out.fileno())
        tell_of_loss(error.strerror or str(error))


def tell_of_loss(reason: str) -> None:
    """Say on stderr that events are not read."""
    sys.stderr.write(f"vidmatte: stdout takes no events ({reason}): the run goes on without\n")

"""What a run tells its user while it works: a bar, JSON lines, or nothing."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any, TextIO

from vidmatte.terminal import progress_bar

SECONDS_BETWEEN_LINES = 1.0


@dataclass
class Progress:
    """Where one job stands. ``before``: frames that were done before it began."""

    name: str
    total: int | None
    done: int = 0
    before: int = 0
    busy: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    def has_worked(self, busy: dict[str, float]) -> None:
        """Seconds of work by stage. What was told once is not taken back: of a thread that is
        between two waits they are an estimate."""
        self.busy = {stage: max(s, self.busy.get(stage, 0.0)) for stage, s in busy.items()}

    @property
    def seconds(self) -> float:
        """Since the first frame was asked for."""
        return time.perf_counter() - self.began

    @property
    def fps(self) -> float:
        """Frames done a second."""
        return (self.done - self.before) / self.seconds if self.done else 0.0

    @property
    def slowest(self) -> str:
        """The stage that has worked longest: the one that sets the pace."""
        return max(self.busy, key=lambda stage: self.busy[stage]) if self.busy else ""


class Reporter:
    """Says only what failed. The others say more on stderr, or as JSON on stdout."""

    is_quiet = True

    def failure(self, name: str, line: str) -> None:  # noqa: ARG002
        """A job has failed; others may go on."""
        sys.stderr.write(f"vidmatte: {line}\n")

    def note(self, line: str) -> None:
        """Something that the user should know."""

    def detail(self, line: str) -> None:
        """Something that only a curious user wants to know."""

    def start(self, progress: Progress) -> None:
        """A job begins."""

    def advance(self, progress: Progress) -> None:
        """A frame is done."""

    def finish(self) -> None:
        """The job that began last is over, whichever way."""

    def summary(self, facts: dict[str, Any], line: str) -> None:
        """A job has ended well: the facts, and the same in one line."""

    def stopped(self, line: str) -> None:
        """The user has stopped the call; what is said of that on stderr."""

    def closing(self, line: str) -> None:
        """How a call with several jobs ended, a line at a time."""


class TextReporter(Reporter):
    """Lines on stderr; with ``bar``, tqdm's bar while frames go by."""

    is_quiet = False

    def __init__(self, *, bar: bool, verbose: bool) -> None:
        self._wants_bar = bar
        self._verbose = verbose
        self._bar: Any = None

    def note(self, line: str) -> None:
        self._say(line)

    def detail(self, line: str) -> None:
        if self._verbose:
            self._say(line)

    def start(self, progress: Progress) -> None:
        if self._wants_bar:
            self._bar = progress_bar(
                total=progress.total, desc=progress.name, unit="f", initial=progress.done
            )

    def advance(self, progress: Progress) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(f"slowest: {progress.slowest}", refresh=False)
            self._bar.update(progress.done - self._bar.n)

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def summary(self, facts: dict[str, Any], line: str) -> None:  # noqa: ARG002
        self._say(line)

    def closing(self, line: str) -> None:
        self._say(line)

    def _say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            sys.stderr.write(line + "\n")


class JsonReporter(Reporter):
    """A line of JSON a second while frames go by, and one at the end, on ``out``."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._last = 0.0

    def note(self, line: str) -> None:
        self._print({"event": "note", "text": line})

    def start(self, progress: Progress) -> None:
        self._print({"event": "start", "input": progress.name, "frames": progress.total})

    def advance(self, progress: Progress) -> None:
        if time.perf_counter() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.perf_counter()
            self._print(
                {
                    "event": "progress",
                    "input": progress.name,
                    "done": progress.done,
                    "frames": progress.total,
                    "fps": round(progress.fps, 3),
                    "slowest": progress.slowest,
                    "busy_seconds": {name: round(s, 3) for name, s in progress.busy.items()},
                }
            )

    def summary(self, facts: dict[str, Any], line: str) -> None:  # noqa: ARG002
        self._print({"event": "done", **facts})

    def failure(self, name: str, line: str) -> None:
        super().failure(name, line)
        self._print({"event": "failed", "input": name, "error": line})

    def stopped(self, line: str) -> None:
        self._print({"event": "stopped", "error": line})

    def _print(self, event: dict[str, Any]) -> None:
        self._out.write(json.dumps(event, default=str) + "\n")
        self._out.flush()

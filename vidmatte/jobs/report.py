"""What a run reports to its user: text and a progress bar, nothing, or JSON.

``--json`` prints a run's events, a line of JSON each, on stdout; examples/REFERENCE.md lists
the events and their keys.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vidmatte.core.terminal import progress_bar, redirect_to_null
from vidmatte.errors import UsageError


@dataclass
class Progress:
    """The progress of one job. ``before``: frames that were done before it began. ``phase``: what
    is done to the frames before they are matted, such as 'subject'; '' while they are. With layers
    it is 'layer NAME' while those of a subject are, and then 'joining layers'."""

    name: str
    total: int | None
    done: int = 0
    before: int = 0
    phase: str = ""
    busy: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    def has_worked(self, busy: dict[str, float]) -> None:
        """Update the seconds of work by stage. They never decrease, although those of a thread
        between two waits are an estimate."""
        self.busy = {stage: max(s, self.busy.get(stage, 0.0)) for stage, s in busy.items()}

    @property
    def seconds(self) -> float:
        """Seconds since the job began."""
        return time.perf_counter() - self.began

    @property
    def fps(self) -> float:
        """Frames per second."""
        return (self.done - self.before) / self.seconds if self.done else 0.0

    @property
    def slowest(self) -> str:
        """The stage that has worked longest: the bottleneck."""
        return max(self.busy, key=lambda stage: self.busy[stage]) if self.busy else ""


class Reporter:
    """Reports only failures. Subclasses report more, on stderr or as JSON on stdout."""

    is_quiet = True

    def plan(self, inputs: Sequence[str]) -> None:
        """The inputs of a call, as they were given."""

    def about(self, source: str | None = None, output: str | None = None) -> None:
        """The input and output that the following reports concern; None: the call itself."""

    def begin(self) -> None:
        """The current job starts; until then it was only checked."""

    def failure(self, error: str, line: str) -> None:  # noqa: ARG002
        """A job has failed. error: the name of its class; other jobs may continue."""
        sys.stderr.write(f"vidmatte: {line}\n")

    def note(self, line: str) -> None:
        """Something that the user should know."""

    def detail(self, line: str) -> None:
        """Something that is shown with ``--verbose`` only."""

    def start(self, progress: Progress) -> None:
        """A job begins."""

    def advance(self, progress: Progress) -> None:
        """A frame is done."""

    def segment(self, facts: dict[str, Any], line: str) -> None:
        """A worker has made a segment: the facts, and the same in one line."""

    def finish(self) -> None:
        """The current job has ended, with or without success."""

    def summary(self, facts: dict[str, Any], line: str) -> None:
        """A job has succeeded: the facts, and the same in one line."""

    def stopped(self, line: str) -> None:
        """The user has stopped the call. line: the message for stderr."""

    def closing(self, line: str) -> None:
        """How a call with several jobs ended, a line at a time."""

    def over(self, status: int) -> None:
        """The call has ended, with that exit status."""


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
            name = f"{progress.name}: {progress.phase}" if progress.phase else progress.name
            self._bar = progress_bar(
                total=progress.total, desc=name, unit="f", initial=progress.done
            )

    def advance(self, progress: Progress) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(f"slowest: {progress.slowest}", refresh=False)
            self._bar.update(progress.done - self._bar.n)

    def segment(self, facts: dict[str, Any], line: str) -> None:  # noqa: ARG002
        self.detail(line)

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


_SECONDS_BETWEEN_LINES = 1.0


class JsonReporter(Reporter):
    """A line a second while frames go by, and one at each input's end.

    quiet: only how each input and the call ended. verbose: details too. Every event but
    the last one names the input that it concerns; null means the call itself.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._input: str | None = None
        self._output: str | None = None
        self._ends: dict[str, str] = {}
        self._progress: Progress | None = None
        self._reported = 0
        self._last = 0.0
        if sys.stdout is None:
            _report_lost_stdout("it is closed")

    def plan(self, inputs: Sequence[str]) -> None:
        self._ends = dict.fromkeys(inputs, "not_begun")

    def about(self, source: str | None = None, output: str | None = None) -> None:
        self._input, self._output = source, output

    def begin(self) -> None:
        self._end("unfinished")

    def note(self, line: str) -> None:
        if not self._quiet:
            self._emit("note", text=line.removeprefix("vidmatte: "))

    def detail(self, line: str) -> None:
        if self._verbose:
            self._emit("detail", text=line)

    def start(self, progress: Progress) -> None:
        self._progress, self._reported, self._last = progress, progress.done, 0.0
        if not self._quiet:
            self._emit("start", frames=progress.total, **_phase_of(progress))

    def advance(self, progress: Progress) -> None:
        if time.perf_counter() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.perf_counter()
            self._emit_progress(progress)

    def segment(self, facts: dict[str, Any], line: str) -> None:  # noqa: ARG002
        if not self._quiet:
            self._emit("segment", **facts)

    def finish(self) -> None:
        if self._progress is not None and self._reported < self._progress.done:
            self._emit_progress(self._progress)
        self._progress = None

    def summary(self, facts: dict[str, Any], line: str) -> None:  # noqa: ARG002
        self._end("done")
        self._emit("done", **{key: facts[key] for key in facts if key not in ("input", "output")})

    def failure(self, error: str, line: str) -> None:
        super().failure(error, line)
        self._end("failed")
        self._emit("failed", error=error, message=line)

    def stopped(self, line: str) -> None:
        self._emit("stopped", message=line)

    def over(self, status: int) -> None:
        ends = {
            end: [name for name, its in self._ends.items() if its == end]
            for end in ("done", "failed", "unfinished", "not_begun")
        }
        emit({"event": "summary", **ends, "status": status})

    def _end(self, how: str) -> None:
        if self._input is not None:
            self._ends[self._input] = how

    def _emit_progress(self, progress: Progress) -> None:
        self._reported = progress.done
        if not self._quiet:
            self._emit(
                "progress",
                done=progress.done,
                frames=progress.total,
                **_phase_of(progress),
                fps=round(progress.fps, 3),
                slowest=progress.slowest,
                busy_seconds={name: round(s, 3) for name, s in progress.busy.items()},
            )

    def _emit(self, event: str, **facts: Any) -> None:
        emit({"event": event, "input": self._input, "output": self._output, **facts})


def _phase_of(progress: Progress) -> dict[str, str]:
    """The key of a phase before the matting; none while frames are matted."""
    return {"phase": progress.phase} if progress.phase else {}


def emit(event: dict[str, Any]) -> None:
    """Print an event. A closed reader is reported once, on stderr."""
    out = sys.stdout
    if out is None:
        return
    try:
        out.write(json.dumps(event, default=str) + "\n")
        out.flush()
    except OSError as error:  # no fault of the run, whose result is still needed
        redirect_to_null(out.fileno())
        _report_lost_stdout(error.strerror or str(error))


def _report_lost_stdout(reason: str) -> None:
    """Report on stderr that stdout cannot be written."""
    sys.stderr.write(
        f"vidmatte: cannot write events to stdout ({reason}): continuing without them\n"
    )


def make_reporter(quiet: bool, verbose: bool, as_json: bool) -> Reporter:
    """The reporter that the command line asks for. Raises UsageError."""
    if quiet and verbose:
        raise UsageError("--quiet and --verbose exclude each other")
    if as_json:
        return JsonReporter(quiet=quiet, verbose=verbose)
    if quiet:
        return Reporter()
    return TextReporter(bar=sys.stderr.isatty(), verbose=verbose)

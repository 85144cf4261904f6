"""What a job's process reports: its events, read from their file while it is written."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STEP = 1 << 20
_LAST_BYTES = 4096
_STOPPED = 130  # exit status


@dataclass(frozen=True)
class Step:
    """How far a job is. phase: what is done to the frames; frames: of all, where it is known."""

    phase: str
    done: int
    frames: int | None
    fps: float


class JobLog:
    """Follows the events of one try of a job.

    done: the facts of its result. failure: why it failed, in one line. status: its exit status
    as it reported it, None before its end. step: how far it is.
    """

    def __init__(self, path: Path, start: int) -> None:
        self._path, self._position, self._rest = path, start, b""
        self.done: dict[str, Any] | None = None
        self.failure: str | None = None
        self.status: int | None = None
        self.is_stopped = False
        self.step: Step | None = None

    def read(self) -> bool:
        """Take in what was written since the last call; returns whether there was anything."""
        with self._path.open("rb") as file:
            file.seek(self._position)
            data = file.read(_STEP)
        self._position += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)
        return bool(data)

    def read_all(self) -> None:
        """Take in all that was written. After the end of the process."""
        while self.read():
            pass

    def _take(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:  # a line of a process that was killed while it wrote it
            return
        if not isinstance(event, dict):
            return
        kind = event.get("event")
        if kind == "start":
            self.step = Step(_phase(event), 0, event.get("frames"), 0.0)
        elif kind == "progress":
            self.step = Step(
                _phase(event), event["done"], event.get("frames"), float(event.get("fps") or 0)
            )
        elif kind == "done":
            self.done = event
        elif kind == "stopped" or (kind == "error" and event.get("status") == _STOPPED):
            self.is_stopped = True
        elif kind in ("failed", "error"):
            self.failure = str(event.get("message"))
        if kind in ("summary", "error"):
            self.status = event.get("status")


def _phase(event: dict[str, Any]) -> str:
    return str(event.get("phase") or "matting")


def end_reason(returncode: int | None, log: Path) -> str:
    """Why a process ended that reported neither a result nor an error, in one line.

    returncode: as ``subprocess`` has it; None where it is not known. log: its stderr.
    """
    line = _last_line(log)
    said = f": {line}" if line else ""
    again = "; a retry continues after its last finished frame"
    if returncode is not None and returncode < 0:
        try:
            name = signal.Signals(-returncode).name
        except ValueError:
            name = f"signal {-returncode}"
        memory = ", as when the machine runs out of memory" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{memory}{said}{again}"
    status = "" if returncode is None else f" with status {returncode}"
    return f"its process ended{status} without a result{said}{again}"


def _last_line(path: Path) -> str:
    """The last line that a file holds, '' where it holds none."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - _LAST_BYTES))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return ""
    return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")

"""Calls of our own command line: in processes of their own, so that the server stays small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vidmatte.service.config import ServiceConfig
from vidmatte.service.context import Context, RequestError


def environment(config: ServiceConfig) -> dict[str, str]:
    """The environment of a subprocess: its temporary files are in the folder of ``--data``."""
    added = {"TMPDIR": str(config.temporary)}
    if config.models_dir is not None:
        added["VIDMATTE_MODELS_DIR"] = config.models_dir
    return {**inherited_environment(), **added}


def inherited_environment() -> dict[str, str]:
    """The environment of this process without the service's secret."""
    return {name: text for name, text in os.environ.items() if name != "VIDMATTE_TOKEN"}


_LOOK_SECONDS = 0.2
_LIST_SECONDS = 120.0


@dataclass(frozen=True)
class Ended:
    """How a call ended. status: its exit status, None where it took too long."""

    status: int | None
    stdout: str
    stderr: str

    @property
    def line(self) -> str:
        """The last line of its messages."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        return (
            lines[-1].removeprefix("vidmatte: ") if lines else f"it ended with status {self.status}"
        )

    @property
    def events(self) -> list[Mapping[str, Any]]:
        """The events that a call with ``--json`` has printed."""
        found: list[Mapping[str, Any]] = []
        for line in self.stdout.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                found.append(event)
        return found


class CommandLine:
    """Runs calls, and ends those that run when the service ends."""

    def __init__(self, context: Context) -> None:
        self._config, self._stopping = context.config, context.stopping

    def call(self, words: Sequence[str], seconds: float) -> Ended:
        """Run ``vidmatte`` with these words, ``seconds`` at most."""
        process = subprocess.Popen(
            [sys.executable, "-m", "vidmatte", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment(self._config),
        )
        with process:
            try:
                return self._ended(process, seconds)
            finally:
                process.kill()  # where it runs no more, nothing happens

    def rows(self, word: str, failed: str = "busy") -> list[dict[str, Any]]:
        """The list that ``vidmatte WORD --json`` prints. Raises RequestError, of the kind
        ``failed`` where the call fails."""
        ended = self.call([word, "--json"], _LIST_SECONDS)
        if ended.status:
            raise RequestError(503, failed, ended.line, 60)
        try:
            found: list[dict[str, Any]] = json.loads(ended.stdout)
        except ValueError:
            raise RequestError(503, "busy", ended.line, 5) from None
        return found

    def _ended(self, process: subprocess.Popen[str], seconds: float) -> Ended:
        """Wait until a call ends, its time is over, or the service ends."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                stdout, stderr = process.communicate(timeout=_LOOK_SECONDS)
                return Ended(process.returncode, stdout, stderr)
            except subprocess.TimeoutExpired:
                if self._stopping.is_set():
                    return Ended(None, "", "the service is stopping")
                if time.monotonic() > deadline:
                    return Ended(None, "", f"it took over {seconds:.0f} s")

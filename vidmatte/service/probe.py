"""What a file is, found out by a process of its own with limits on time and memory.

A file may be built to make a decoder take all memory or never end: that ends the process, not the
server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidmatte.service.command_line import environment
from vidmatte.service.config import ServiceConfig

_SECONDS = 60
_MEMORY = 4 * 2**30  # of address space; libraries take a quarter of it


class Prober:
    """Probes files, a few in one process. seconds, memory: what that may take, of address space
    in bytes."""

    def __init__(
        self, config: ServiceConfig, seconds: int = _SECONDS, memory: int = _MEMORY
    ) -> None:
        self._seconds, self._memory = seconds, memory
        self._max_megapixels, self._environment = config.max_megapixels, environment(config)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def probe(self, files: Sequence[Path]) -> list[dict[str, Any]]:
        """For each file the facts of ``vidmatte info --json``, or {"error": LINE} where it cannot
        be used."""
        facts = self._facts(files)
        if isinstance(facts, list):
            return [_shown(file, one) for file, one in zip(files, facts, strict=True)]
        if len(files) > 1:  # one of them ended the process: find out which
            return [self.probe([file])[0] for file in files]
        return [{"error": f"{files[0].name}: {facts}"}]

    def stop(self) -> None:
        """End the process that runs, and start no other."""
        with self._lock:
            self._is_stopped = True
            if self._process is not None:
                self._process.kill()

    def _facts(self, files: Sequence[Path]) -> list[dict[str, Any]] | str:
        """What the process prints, or why there is nothing."""
        limits = [str(limit) for limit in (self._seconds, self._memory, self._max_megapixels)]
        words = [sys.executable, "-m", __name__, *limits, *(str(file) for file in files)]
        with self._lock:
            if self._is_stopped:
                return "the service is stopping"
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environment,
            )
        with self._process as process:
            try:
                printed, _ = process.communicate(timeout=self._seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                return f"it was refused because reading it took over {self._seconds} s"
        try:
            facts = json.loads(printed)
        except ValueError:
            return "it takes more memory or time to read than is allowed"
        return facts if isinstance(facts, list) else [facts]


def _shown(file: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """The facts without the path on this machine."""
    if "error" in facts:
        return {"error": str(facts["error"]).replace(str(file), file.name)}
    return {**facts, "path": file.name}


def _main(seconds: str, memory: str, max_megapixels: str, *files: str) -> None:
    """Become ``vidmatte info``, within limits that also hold for it."""
    if sys.platform != "win32":  # which has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    words = ["-m", "vidmatte", "info", "--json", "--max-megapixels", max_megapixels, "--", *files]
    os.execv(sys.executable, [sys.executable, *words])


if __name__ == "__main__":
    _main(*sys.argv[1:])

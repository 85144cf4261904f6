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

_SECONDS = 60
_MEMORY = 4 * 2**30  # of address space; libraries take a quarter of it


class Prober:
    """Probes files, a few in one process. temporary: a folder for temporary files."""

    def __init__(self, max_megapixels: float, temporary: Path) -> None:
        self._max_megapixels, self._temporary = max_megapixels, temporary
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
        limit = str(self._max_megapixels)
        words = [sys.executable, "-m", __name__, limit, *(str(file) for file in files)]
        with self._lock:
            if self._is_stopped:
                return "the service ends"
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "TMPDIR": str(self._temporary)},
            )
        with self._process as process:
            try:
                printed, _ = process.communicate(timeout=_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                return f"reading it took over {_SECONDS} s, so it is refused"
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


def _main(max_megapixels: str, *files: str) -> int:
    """Print the facts of files; see ``Prober``."""
    if sys.platform != "win32":  # which has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from vidmatte.cli.info import show_info
    from vidmatte.settings import Settings

    settings = Settings(max_megapixels=float(max_megapixels))
    return show_info([Path(file) for file in files], as_json=True, settings=settings)


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))

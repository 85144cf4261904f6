"""What a file is, found out by a process of its own with limits on time and memory.

A file may be built to make a decoder take all memory or never end: that ends the process, not the
server.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_SECONDS = 60
_MEMORY = 4 * 2**30  # of address space; libraries take a quarter of it


def probe(file: Path, max_megapixels: float) -> dict[str, Any]:
    """The facts of ``vidmatte info --json``, or {"error": LINE} where the file cannot be used."""
    words = [sys.executable, "-m", __name__, str(max_megapixels), str(file)]
    try:
        done = subprocess.run(
            words, capture_output=True, timeout=_SECONDS, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"{file.name}: reading it took over {_SECONDS} s, so it is refused"}
    try:
        facts = json.loads(done.stdout)
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        return {"error": f"{file.name}: it takes more memory or time to read than is allowed"}
    if "error" in facts:
        return {"error": str(facts["error"]).replace(str(file), file.name)}
    return {**facts, "path": file.name}


def _main(max_megapixels: str, file: str) -> int:
    """Print the facts of a file; see ``probe``."""
    if sys.platform != "win32":  # which has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from vidmatte.cli.info import show_info

    return show_info([Path(file)], as_json=True)


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))

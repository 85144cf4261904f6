"""How a manifest is known among the JSON files beside a clip or a result.

Apart from ``sink.manifest``, which writes them: a source asks too, for its pictures may be
results of an earlier run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def manifest_in(path: Path) -> dict[str, Any] | None:
    """The manifest, whole or not, in a file; None where it holds something else or cannot be
    read."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):  # not there, not ours, or still being written
        return None
    return found if isinstance(found, dict) and "vidmatte" in found else None


def is_whole(manifest: dict[str, Any]) -> bool:
    """Whether all is there by which a result, its sides and its source are told again."""
    sides = manifest.get("sides")
    entries = [manifest.get("result"), manifest.get("source")]
    entries += sides if isinstance(sides, list) else [None]
    return all(
        isinstance(entry, dict)
        and isinstance(entry.get("bytes"), int)
        and isinstance(entry.get("sha256"), str)
        and isinstance(entry.get("path", entry.get("name")), str)
        and isinstance(entry.get("files", []), list)
        for entry in entries
    )

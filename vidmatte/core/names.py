"""Names on disk: patterns with a frame number, absolute paths, URLs, manifests."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from vidmatte.errors import OutputError

#: The place of the frame's number in a name.
FRAME_NUMBER = re.compile(r"%0?\d*d")


def pattern_regex(pattern: str) -> re.Pattern[str]:
    """Matches the names that a pattern like ``shot_%06d.png`` gives."""
    return re.compile(r"-?\d+".join(re.escape(part) for part in FRAME_NUMBER.split(pattern)))


def absolute_path(out: Path) -> Path:
    """The same place by an absolute path that ends in a name, as ``.`` and ``..`` do not.

    Raises OutputError where the current folder, to which ``out`` is relative, was removed.
    """
    try:
        return out.resolve() if out.name in ("", "..") else out.absolute()
    except FileNotFoundError as error:
        raise OutputError(
            f"{out}: the current directory no longer exists: cd to another"
        ) from error


def sibling_path(out: Path, name: str) -> Path:
    """A path of that name in the folder that ``out`` lies in; absolute, so that FFmpeg takes
    no colon in it for a protocol's."""
    return absolute_path(out).with_name(name)


#: A scheme has two letters at least, since a drive has one. Path makes one slash of several.
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.IGNORECASE | re.DOTALL)


def as_url(name: str | Path) -> tuple[str, str | None] | None:
    """The URL that a name is, and the path that a ``file:`` one stands for; None for a path.

    A folder whose name ends in a colon may well be there.
    """
    match = _URL.fullmatch(str(name))
    if match is None or os.path.lexists(f"{match[1]}:"):
        return None
    if match[1].lower() == "file":
        return f"{match[1]}:///{match[2]}", f"/{unquote(match[2])}"
    return f"{match[1]}://{match[2]}", None


def manifest_in(path: Path) -> dict[str, Any] | None:
    """The manifest in a file, complete or not; None where the file holds something else or
    cannot be read."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):  # not there, not ours, or still being written
        return None
    return found if isinstance(found, dict) and "vidmatte" in found else None


def is_manifest(manifest: dict[str, Any]) -> bool:
    """Whether a manifest has all fields that identify its result, its extra outputs and its
    source; a source that was not a file has a name, and neither size nor checksum."""
    source, sides = manifest.get("source"), manifest.get("sides")
    entries = [manifest.get("result")] if _was_no_file(source) else [manifest.get("result"), source]
    entries += sides if isinstance(sides, list) else [None]
    return all(
        isinstance(entry, dict)
        and isinstance(entry.get("bytes"), int)
        and isinstance(entry.get("sha256"), str)
        and isinstance(entry.get("path", entry.get("name")), str)
        and isinstance(entry.get("files", []), list)
        for entry in entries
    )


def _was_no_file(source: Any) -> bool:
    """Whether a manifest's source is one without files: it has a name, and null for a checksum."""
    return (
        isinstance(source, dict)
        and isinstance(source.get("name"), str)
        and source.get("sha256", "") is None
    )

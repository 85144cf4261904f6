"""Names on disk: patterns with a frame number, absolute paths, URLs, manifests; counted nouns."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

from pydantic import Field, model_validator

from vidmatte.core.stored import Count, Name, Ratio, StoredModel, Text, checked, read_stored
from vidmatte.errors import OutputError

STANDARD_STREAM = "-"
#: The place of the frame's number in a name.
FRAME_NUMBER = re.compile(r"%0?\d*d")


def pattern_regex(pattern: str) -> re.Pattern[str]:
    """Matches the names that a pattern like ``shot_%06d.png`` gives."""
    return re.compile(r"-?\d+".join(re.escape(part) for part in FRAME_NUMBER.split(pattern)))


def is_standard_stream(name: object) -> bool:
    """Whether a name stands for standard input or output: '-', and not './-'."""
    return str(name) == STANDARD_STREAM


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


def names_folder(output: str | Path) -> bool:
    """Whether a name is a folder's: an existing folder, or a name that ends in a slash."""
    return ends_in_slash(output) or Path(output).is_dir()


def ends_in_slash(output: str | Path) -> bool:
    """Whether a name ends in a slash, as a folder's."""
    return str(output).endswith(("/", os.sep))


def manifest_in(path: Path) -> dict[str, Any] | None:
    """The manifest in a file, complete or not; None where the file holds something else or
    cannot be read."""
    try:
        found = read_stored(path)
    except (OSError, ValueError):  # not there, not ours, or still being written
        return None
    return found if isinstance(found, dict) and "vidmatte" in found else None


class _ResultEntry(StoredModel):
    """A result in a manifest; the names of a sequence's files are in its folder."""

    name: Text
    format: str
    pixel_format: str
    frames: Count
    width: Count
    height: Count
    sound: list[Text]
    bytes: Count
    sha256: str
    files: list[Name]


class _SourceEntry(StoredModel):
    """The source in a manifest: a path, or, if it was not a file, a name, and no checksum."""

    path: Text = ""
    name: Text = ""
    bytes: Count | None
    sha256: str | None
    files: list[Name] = Field([])

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.sha256 is None and not self.name) or (self.sha256 is not None and not self.path):
            raise ValueError("expected a path and a checksum")
        return self


class _ModelEntry(StoredModel):
    """The model in a manifest."""

    name: Text
    sha256: str


class _Manifest(StoredModel):
    """A manifest: what identifies its result, its extra outputs and its source."""

    model: _ModelEntry
    source: _SourceEntry
    result: _ResultEntry
    sides: list[_ResultEntry]
    settings: dict[str, Any]
    rate: Ratio | None  # None: a still
    warnings: list[Text]


def manifest_fault(manifest: dict[str, Any], *, in_folder: bool = False) -> str | None:
    """What is wrong with a manifest, None where it has all fields that are used. in_folder: its
    result may be in a folder below that of the manifest."""
    try:
        result = checked(_Manifest, manifest).result
    except ValueError as error:
        return str(error)
    place = Path(result.name)
    is_beside = place.name == result.name
    is_below = in_folder and not place.is_absolute() and ".." not in place.parts
    return None if is_beside or is_below else "result.name: expected a name"


def counted(count: int, noun: str) -> str:
    """'1 frame', '2 frames'."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

"""The manifest: a JSON file beside a result that says what it is and how it was made.

``out.mov.json`` belongs to ``out.mov``, ``frames.json`` to the folder ``frames``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from vidmatte._version import __version__
from vidmatte.core.frame import Clip
from vidmatte.core.names import FRAME_NUMBER, absolute_path, manifest_fault, manifest_in
from vidmatte.core.remote import Staging, origin_of, remote_url
from vidmatte.core.source import Source, sha256_of, sha256_of_all
from vidmatte.core.stored import plain, read_stored
from vidmatte.errors import OutputExistsError, SourceError, SourceMissingError
from vidmatte.readers.images import STILL_RATE
from vidmatte.writers.base import WriteResult, as_output_error
from vidmatte.writers.extra_outputs import format_of
from vidmatte.writers.format_spec import output_colour
from vidmatte.writers.formats import is_pattern
from vidmatte.writers.output_paths import output_paths, partial_manifest

#: Raised when the meaning of a field changes.
_SCHEMA = 1


@dataclass(frozen=True)
class Provenance:
    """How a result was made, beyond what the output itself records.

    weights: the SHA-256 of the model's file. settings: all by name. alpha: its kind, by name.
    """

    command: Sequence[str]
    model: str
    weights: str
    device: str
    settings: dict[str, Any]
    warnings: Sequence[str] = ()
    alpha: str = "straight"


def describe(
    written: WriteResult, clip: Clip, making: Provenance, folder: Path | None = None
) -> dict[str, Any]:
    """The manifest of a result and of its extra outputs, ready for JSON. folder: what its paths
    are relative to; None for that of the result.

    Reads all files of the source and of the results for their checksums.
    """
    row, folder = format_of(written, clip), folder or absolute_path(written.path).parent
    return {
        "schema": _SCHEMA,
        "vidmatte": __version__,
        "command": list(making.command),
        "model": {"name": making.model, "sha256": making.weights},
        "device": making.device,
        "settings": {name: plain(value) for name, value in sorted(making.settings.items())},
        "source": {
            **_source_entry(clip.source, folder),
            "kind": clip.kind,
            "width": clip.width,
            "height": clip.height,
            "rate": None if clip.kind == "picture" else str(clip.rate),
            "pixel_format": clip.pixel_format,
            "colour": clip.declared_colour.as_names(),
            "rotation": clip.orientation.rotation,
            "mirrored": clip.orientation.mirrored,
        },
        "result": _result_entry(written, folder),
        "frames": written.frames,
        "rate": None if clip.kind == "picture" else str(written.rate),
        "timecode": clip.timecode,
        "reel": clip.reel,
        "colour": output_colour(clip, row).as_names(),
        "alpha": making.alpha if _has_alpha(written.pixel_format) else "none",
        "sides": [_result_entry(side, folder) for side in written.extra_outputs],
        "warnings": list(making.warnings),
    }


#: The fields of a result that its manifest holds.
_ENTRY_FIELDS = ("format", "pixel_format", "frames", "width", "height", "sound", "bytes", "files")


def _has_alpha(pixel_format: str) -> bool:
    parts = av.VideoFormat(pixel_format).components
    return pixel_format == "pal8" or any(part.is_alpha for part in parts)


def _source_entry(source: Source, folder: Path) -> dict[str, Any]:
    """The source's path relative to ``folder``, its size and digest. For one that is not a file
    its name, and null for both; null too where its files have changed since they were opened."""
    if source.path is None:
        return {"name": source.name, "bytes": None, "sha256": None, "files": []}
    names = names_of_source(source)
    place = origin_of(source.path) or os.path.relpath(source.path, folder)
    try:
        facts = {"bytes": size_of(source.path, names), "sha256": source.digest()}
    except OSError:  # removed
        facts = {}
    if not facts or source.has_changed():  # what is there now was not read
        facts = {"bytes": None, "sha256": None, "name": source.name}
    return {"path": place, **facts, "files": names}


def names_of_source(source: Source) -> list[str]:
    """The names of a folder's pictures, as a manifest lists them; empty for a file."""
    return [file.name for file in source.files() if file != source.path]


def _result_entry(written: WriteResult, folder: Path) -> dict[str, Any]:
    """One result: its path relative to ``folder``, its size and digest."""
    facts = written.to_json()
    return {
        "name": Path(os.path.relpath(written.path, folder)).as_posix(),
        **{name: facts[name] for name in _ENTRY_FIELDS},
        "sha256": _digest(written.path, written.files),
    }


def entry_result(path: Path, entry: dict[str, Any], rate: str | None) -> WriteResult:
    """The result at ``path`` from its entry in a manifest with that frame rate; None for a
    still, which has none."""
    rate = rate or str(STILL_RATE)
    seconds = entry["frames"] / Fraction(rate)
    return WriteResult.from_json({**entry, "path": path, "rate": rate, "seconds": seconds})


def write(manifest: dict[str, Any], out: Path) -> Path:
    """Write the manifest of ``out``; an old one is replaced. Raises OutputError."""
    path = output_paths(out).manifest
    partial = partial_manifest(path)
    try:
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        # A file name that is not UTF-8 is written as JSON escapes.
        partial.unlink(missing_ok=True)  # a link there would lead to another file
        partial.write_bytes(text.encode("utf-8", "backslashreplace"))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise as_output_error(error, path) from error
    return path


def read(out: Path) -> dict[str, Any]:
    """The manifest of ``out``. Raises SourceMissingError, SourceError."""
    path = output_paths(out).manifest
    if not path.exists() and not os.path.lexists(out) and not is_pattern(out):
        raise SourceMissingError(f"{out}: no such file or folder, and no manifest of it")
    if not path.exists():
        raise SourceMissingError(
            f"{out.name} has no manifest ({path.name}): it was made with --no-manifest, moved, or"
            " is an extra output, which the main output's manifest lists"
        )
    return _load(path)


def result_of(path: Path) -> Path:
    """``path``, or the result whose manifest it is. Raises SourceError."""
    is_manifest = (
        path.suffix == ".json" and path.is_file() and not output_paths(path).manifest.exists()
    )
    return path.parent / _load(path)["result"]["name"] if is_manifest else path


def _load(path: Path) -> dict[str, Any]:
    """The manifest in an existing file. Raises SourceError."""
    try:
        manifest = read_stored(path)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SourceError(f"{path} is not a manifest: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != _SCHEMA:
        raise SourceError(f"{path}: not a manifest of schema {_SCHEMA}: made by another version?")
    if (fault := manifest_fault(manifest)) is not None:
        raise SourceError(
            f"{path}: incomplete manifest ({fault}): it was changed after it was written"
        )
    return manifest


def check_place(out: Path, overwrite: bool) -> None:
    """Raise OutputExistsError where the manifest of ``out`` would replace another file."""
    path = output_paths(out).manifest
    if path.is_dir():
        raise OutputExistsError(
            f"{path}: the manifest's path is a folder: remove it, or add --no-manifest"
        )
    if overwrite or not path.exists():
        return
    if manifest_in(path) is None:
        raise OutputExistsError(
            f"{path} exists and is not a manifest: --overwrite replaces it, --no-manifest keeps it"
        )


def verify(out: Path, source: Path | None = None) -> list[str]:
    """What differs between a result, its extra outputs, its source and its manifest; empty where
    all match.

    source: its present path, if it was moved. Raises SourceMissingError,
    SourceError.
    """
    return differences(out, read(out), absolute_path(out).parent, source)


def differences(
    out: Path, manifest: dict[str, Any], folder: Path, source: Path | None = None
) -> list[str]:
    """The same for a manifest whose paths are relative to ``folder``. Raises SourceError where a
    source is a URL that cannot be read, UsageError."""
    url = remote_url(manifest["source"].get("path", ""))
    if url is not None and source is None:
        with Staging() as staging:
            return differences(out, manifest, folder, staging.copy_of(url))
    lines = []
    entries = [(out, manifest["result"])]
    entries += [(folder / side["name"], side) for side in manifest["sides"]]
    origin = manifest["source"]
    if origin["sha256"] is not None:
        entries.append((source or folder / origin["path"], origin))
    elif source is not None:
        lines.append(
            f"{source.name} cannot be compared: the source, {origin.get('name') or origin['path']},"
            " was no file or changed during the run: the manifest holds no checksum of it"
        )
    for path, entry in entries:
        files = entry.get("files", ())
        found = size_of(path, files)
        if found == 0:
            lines.append(f"{path.name} is missing")
        elif found != entry["bytes"]:
            lines.append(f"{path.name} has {found} bytes, expected {entry['bytes']}")
        elif _digest(path, files) != entry["sha256"]:
            lines.append(f"{path.name}: checksum mismatch")
    return lines


def unlisted_files(out: Path) -> list[str]:
    """A line on the pictures in the folder of each result that have its suffix but are not in
    its manifest; empty where there are none. Raises SourceMissingError, SourceError.
    """
    manifest, folder = read(out), absolute_path(out).parent
    entries = [(out, manifest["result"])]
    entries += [(folder / side["name"], side) for side in manifest["sides"]]
    known: set[Path] = set()
    if (origin := manifest["source"])["sha256"] is not None:
        read_from = folder / origin["path"]
        known = {absolute_path(file) for file in _counted_files(read_from, origin.get("files", ()))}
        known |= {absolute_path(read_from)}
    for path, entry in entries:
        known |= {absolute_path(file) for file in _counted_files(path, entry.get("files", ()))}
    lines = []
    for path, entry in entries:
        if not (files := entry.get("files")):
            continue
        suffix = Path(files[0]).suffix
        found = [
            file.name
            for file in _counted_files(path)
            if file.suffix == suffix
            and not file.name.startswith(".")
            and absolute_path(file) not in known
        ]
        if found:
            what = "pictures" if len(found) > 1 else "picture"
            lines.append(
                f"{len(found)} {what} not listed in its manifest, like {found[0]}: remove the files"
                " of other runs"
            )
    return lines


def _digest(path: Path, names: Sequence[str] = ()) -> str:
    """SHA-256 of a file; of a folder or pattern, of its files' digests and names in order.

    names: those of the files to include, in order; empty for all.
    """
    if path.is_file():
        return sha256_of(path)
    return sha256_of_all(_counted_files(path, names))


def size_of(path: Path, names: Sequence[str] = ()) -> int:
    """Bytes of a file, or of the files of a folder or pattern; 0 where there is none."""
    files = [path] if path.is_file() else _counted_files(path, names)
    return sum(file.stat().st_size for file in files)


def _counted_files(path: Path, names: Sequence[str] = ()) -> list[Path]:
    """The files of a folder, or of a pattern like ``cut/shot_%06d.png``, by name.

    names: see ``digest``; missing files are skipped.
    """
    if names:
        folder = path.parent if is_pattern(path) else path
        return [file for name in names if (file := folder / name).is_file()]
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file())
    if not is_pattern(path) or not path.parent.is_dir():
        return []
    before, after = FRAME_NUMBER.split(path.name, maxsplit=1)
    return sorted(
        file
        for file in path.parent.iterdir()
        if file.name.startswith(before)
        and file.name.endswith(after)
        and file.name[len(before) : len(file.name) - len(after)].isdigit()
    )

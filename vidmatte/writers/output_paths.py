"""The paths of the files that accompany a result: partial file, lock, work folder, manifest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from vidmatte.core.names import FRAME_NUMBER, absolute_path, sibling_path
from vidmatte.errors import OutputError, OutputExistsError, UsageError
from vidmatte.settings import Settings
from vidmatte.writers.base import not_writable
from vidmatte.writers.formats import is_pattern


@dataclass(frozen=True)
class OutputPaths:
    """The paths that belong to a result.

    partial: the unfinished result. lock: the lock file of the run that writes it. work: the
    folder in which ``--resume`` stores its frames. manifest: the record of how it was made.
    segments: the work folder of ``--workers``.
    """

    partial: Path
    lock: Path
    work: Path
    manifest: Path
    segments: Path


def output_paths(out: Path) -> OutputPaths:
    """The paths that belong to the file, the folder or the pattern ``out``.

    For a pattern like ``cut/shot_%06d.png`` they are beside the pictures' folder, which need
    not exist yet, except for the manifest, which is in that folder. In an existing folder the
    partial folder is inside it: it may be on another file system, to which files cannot be
    renamed. The lock is inside too where its parent is not writable. Raises UsageError for the
    root folder.
    """
    target, name, partial_name = (
        absolute_path(out),
        f".{absolute_path(out).name}",
        f".{absolute_path(out).stem}.partial",
    )
    if not target.name:
        raise UsageError(f"{out}: this is the root folder: choose a folder in it")
    manifest = sibling_path(out, f"{target.name}.json")
    if is_pattern(out):
        target, plain = absolute_path(out.parent), FRAME_NUMBER.sub("", out.name)
        name = f".{target.name}.{plain}"
        partial_name, manifest = f"{name}.partial", sibling_path(out, f"{plain}.json")
    elif not target.is_dir():
        partial_name += out.suffix
    partial, lock = target.parent, target.parent
    if target.is_dir():
        partial = target
        lock = target.parent if _is_writable(target.parent) else target
    return OutputPaths(
        partial=partial / partial_name,
        lock=lock / f"{name}.lock",
        work=target.parent / f"{name}.resume",
        manifest=manifest,
        segments=target.parent / f"{name}.segments",
    )


def partial_manifest(manifest: Path) -> Path:
    """The path of a manifest while it is being written."""
    return manifest.with_name(f".{manifest.name}.partial")


def _is_writable(folder: Path) -> bool:
    """Whether files can be created in a folder."""
    return os.access(folder, os.W_OK | os.X_OK)


def check_creatable(out: Path, folder: Path, is_taken: Callable[[], bool]) -> None:
    """Raise OutputError if ``out`` cannot be created in ``folder``, or OutputExistsError if it
    exists and may not be replaced. Touches nothing.

    is_taken: called only if the folder is readable.
    """
    if not folder.is_dir():
        raise OutputError(f"{folder}: no such folder for {out.name}: create it")
    if not _is_writable(folder):
        raise not_writable(folder)
    if is_taken():
        raise OutputExistsError(f"{out} exists: --overwrite replaces it")


def check_companions(out: Path, settings: Settings) -> None:
    """Raise OutputError if the files beside an existing folder cannot be created."""
    folder = absolute_path(out.parent if is_pattern(out) else out)
    if not folder.is_dir() or _is_writable(folder.parent):
        return
    refused = f"{folder.parent} is not writable"
    if settings.resume:
        raise OutputError(
            f"{folder}: --resume stores its work beside it, and {refused}: run without --resume,"
            " or choose a folder in it"
        )
    if settings.has_manifest and not is_pattern(out):
        raise OutputError(
            f"{folder}: its manifest is written beside it, and {refused}: add --no-manifest, or"
            " choose a folder in it"
        )


#: The longest file name on most file systems, in bytes.
_USUAL_NAME_MAX = 255


def check_lengths(out: Path, settings: Settings | None = None) -> None:
    """Raise OutputError if the name of ``out`` or of a file beside it is too long for its disk.

    settings: of the main output, which also has a manifest and the work of ``--resume``.
    """
    limit = check_new_names(out)
    paths = output_paths(out)
    beside = [paths.partial, paths.lock]
    if settings is not None and settings.has_manifest:
        beside += [paths.manifest, partial_manifest(paths.manifest)]
    if settings is not None and settings.resume:
        beside.append(paths.work)
    over = max(_name_bytes(path.name) for path in beside) - limit
    if over > 0 and is_pattern(out):
        raise OutputError(
            f"{out}: the names of the folder and of its pictures are together {over} bytes too"
            f" long for the files beside them, whose limit is {limit} here: shorten one"
        )
    if over > 0:
        length = _name_bytes(absolute_path(out).name)
        raise OutputError(
            f"{out}: the name has {length} bytes, the limit is {length - over}, so that the files"
            f" beside it have at most {limit}: shorten it"
        )


def check_new_names(out: Path) -> int:
    """The longest name in bytes on the disk of ``out``.

    Raises OutputError if ``out``, or a missing folder above it, has a longer one.
    """
    limit, new = _name_limit(out)
    for name in new:
        if _name_bytes(name) > limit:
            raise OutputError(
                f"{name}: the name has {_name_bytes(name)} bytes, the limit is {limit} here:"
                " shorten it"
            )
    return limit


def check_picture_lengths(folder: Path, names: Iterable[str]) -> None:
    """Raise OutputError if a picture's name is too long for the folder's disk, with the suffix
    that it has while it is written."""
    limit = check_new_names(folder)
    longest = max(names, key=_name_bytes, default="")
    over = _name_bytes(f"{longest}.part") - limit
    if over > 0:
        raise OutputError(
            f"{folder}: the picture name '{longest}' has {_name_bytes(longest)} bytes, the limit is"
            f" {_name_bytes(longest) - over}: shorten it, or name the pictures like -o"
            f" {folder}/f_%06d.png"
        )


def _name_limit(out: Path) -> tuple[int, tuple[str, ...]]:
    """The longest name (bytes) on the disk of ``out``, and the missing parts of its path."""
    target = absolute_path(out)
    existing = next(path for path in (target, *target.parents) if os.path.isdir(path))  # noqa: PTH112
    limit = os.pathconf(existing, "PC_NAME_MAX") if hasattr(os, "pathconf") else _USUAL_NAME_MAX
    return limit if limit > 0 else _USUAL_NAME_MAX, target.relative_to(existing).parts


def _name_bytes(name: str) -> int:
    """The length of a name in bytes; on Windows in UTF-16 units, which its limit counts."""
    return len(os.fsencode(name)) if os.name == "posix" else len(name.encode("utf-16-le")) // 2

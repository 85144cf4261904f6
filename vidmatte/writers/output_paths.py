"""What stands beside a result, for a while or for good, and where."""

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
    """The places that belong to a result.

    partial: its unfinished twin. lock: of the run that writes it. work: the folder in which a
    run with ``--resume`` keeps its frames. manifest: what says how it was made.
    """

    partial: Path
    lock: Path
    work: Path
    manifest: Path


def output_paths(out: Path) -> OutputPaths:
    """The places of the file, the folder or the pattern ``out``.

    Those of a pattern like ``cut/shot_%06d.png`` are beside the pictures' folder, which need
    not be there yet, but for the manifest, which joins the pictures. In a folder that is there
    the pictures are made within it: it may be another file system, into which nothing can be
    renamed. So is the lock where nothing can be made beside the folder. Raises UsageError for
    the root folder.
    """
    place, name, twin = (
        absolute_path(out),
        f".{absolute_path(out).name}",
        f".{absolute_path(out).stem}.partial",
    )
    if not place.name:
        raise UsageError(f"{out}: that is the root folder itself: name a folder in it")
    manifest = sibling_path(out, f"{place.name}.json")
    if is_pattern(out):
        place, plain = absolute_path(out.parent), FRAME_NUMBER.sub("", out.name)
        name = f".{place.name}.{plain}"
        twin, manifest = f"{name}.partial", sibling_path(out, f"{plain}.json")
    elif not place.is_dir():
        twin += out.suffix
    partial, lock = place.parent, place.parent
    if place.is_dir():
        partial = place
        lock = place.parent if _is_writable(place.parent) else place
    return OutputPaths(
        partial=partial / twin,
        lock=lock / f"{name}.lock",
        work=place.parent / f"{name}.resume",
        manifest=manifest,
    )


def partial_manifest(manifest: Path) -> Path:
    """What a manifest is called until it is whole."""
    return manifest.with_name(f".{manifest.name}.partial")


def _is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder."""
    return os.access(folder, os.W_OK | os.X_OK)


def check_creatable(out: Path, folder: Path, is_taken: Callable[[], bool]) -> None:
    """Raise before anything is touched where ``out`` cannot be made in ``folder``: OutputError, or
    OutputExistsError where something is there that is to stay.

    is_taken: asked only of a folder that lets itself be looked into.
    """
    if not folder.is_dir():
        raise OutputError(f"{folder}: there is no such folder for {out.name}: make it")
    if not _is_writable(folder):
        raise not_writable(folder)
    if is_taken():
        raise OutputExistsError(f"{out} exists: --overwrite replaces it")


def check_companions(out: Path, settings: Settings) -> None:
    """Raise OutputError where a folder is there and what belongs beside it cannot be made."""
    folder = absolute_path(out.parent if is_pattern(out) else out)
    if not folder.is_dir() or _is_writable(folder.parent):
        return
    refused = f"{folder.parent} may not be written"
    if settings.resume:
        raise OutputError(
            f"{folder}: --resume keeps its work beside it, and {refused}: leave --resume out, or"
            " name a folder in it"
        )
    if settings.manifest and not is_pattern(out):
        raise OutputError(
            f"{folder}: its manifest goes beside it, and {refused}: add --no-manifest, or name a"
            " folder in it"
        )


#: Bytes of a name on most disks.
_USUAL_NAME_MAX = 255


def check_lengths(out: Path, settings: Settings | None = None) -> None:
    """Raise OutputError where ``out``, or what belongs to it, has a longer name than its disk takes.

    settings: of the main result, with which a manifest and the work of ``--resume`` go.
    """
    limit = check_new_names(out)
    places = output_paths(out)
    beside = [places.partial, places.lock]
    if settings is not None and settings.manifest:
        beside += [places.manifest, partial_manifest(places.manifest)]
    if settings is not None and settings.resume:
        beside.append(places.work)
    over = max(_name_bytes(path.name) for path in beside) - limit
    if over > 0 and is_pattern(out):
        raise OutputError(
            f"{out}: the names of the folder and of its pictures are together {over} bytes too"
            f" long for what stands beside them, which may have {limit} here: shorten one"
        )
    if over > 0:
        has = _name_bytes(absolute_path(out).name)
        raise OutputError(
            f"{out}: the name has {has} bytes, and may have {has - over}, so that what stands"
            f" beside it has {limit} at most: shorten it"
        )


def check_new_names(out: Path) -> int:
    """How many bytes a name may have where ``out`` goes.

    Raises OutputError where ``out``, or a folder on the way that is not there, has more.
    """
    limit, new = _name_limit(out)
    for name in new:
        if _name_bytes(name) > limit:
            raise OutputError(
                f"{name}: a name may have {limit} bytes here, and this has {_name_bytes(name)}:"
                " shorten it"
            )
    return limit


def check_picture_lengths(folder: Path, names: Iterable[str]) -> None:
    """Raise OutputError where the name of a picture is longer than the folder's disk takes, with
    what is added to it until the picture is whole."""
    limit = check_new_names(folder)
    longest = max(names, key=_name_bytes, default="")
    over = _name_bytes(f"{longest}.part") - limit
    if over > 0:
        raise OutputError(
            f"{folder}: the picture '{longest}' has a name of {_name_bytes(longest)} bytes, and it"
            f" may have {_name_bytes(longest) - over}: shorten it, or name them like -o"
            f" {folder}/f_%06d.png"
        )


def _name_limit(out: Path) -> tuple[int, tuple[str, ...]]:
    """How many bytes a name may have where ``out`` goes, and the names that are new there."""
    place = absolute_path(out)
    there = next(path for path in (place, *place.parents) if os.path.isdir(path))  # noqa: PTH112
    limit = os.pathconf(there, "PC_NAME_MAX") if hasattr(os, "pathconf") else _USUAL_NAME_MAX
    return limit if limit > 0 else _USUAL_NAME_MAX, place.relative_to(there).parts


def _name_bytes(name: str) -> int:
    """Bytes of a name; on Windows its UTF-16 units, which count there."""
    return len(os.fsencode(name)) if os.name == "posix" else len(name.encode("utf-16-le")) // 2

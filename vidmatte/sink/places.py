"""What stands beside a result, for a while or for good, and where."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vidmatte.errors import OutputExistsError, SinkError, UsageError
from vidmatte.settings import Settings
from vidmatte.sink.base import not_writable
from vidmatte.sink.formats import is_pattern
from vidmatte.sink.names import NUMBER, beside, whole


@dataclass(frozen=True)
class Places:
    """The places that belong to a result.

    partial: its unfinished twin. lock: of the run that writes it. work: the folder in which a
    run with ``--resume`` keeps its frames. manifest: what says how it was made.
    """

    partial: Path
    lock: Path
    work: Path
    manifest: Path


def places_of(out: Path) -> Places:
    """The places of the file, the folder or the pattern ``out``.

    Those of a pattern like ``cut/shot_%06d.png`` are beside the pictures' folder, which need
    not be there yet, but for the manifest, which joins the pictures. In a folder that is there
    the pictures are made within it: it may be another file system, into which nothing can be
    renamed. So is the lock where nothing can be made beside the folder. Raises UsageError for
    the root folder.
    """
    place, name, twin = whole(out), f".{whole(out).name}", f".{whole(out).stem}.partial"
    if not place.name:
        raise UsageError(f"{out}: that is the root folder itself: name a folder in it")
    manifest = beside(out, f"{place.name}.json")
    if is_pattern(out):
        place, plain = whole(out.parent), NUMBER.sub("", out.name)
        name = f".{place.name}.{plain}"
        twin, manifest = f"{name}.partial", beside(out, f"{plain}.json")
    elif not place.is_dir():
        twin += out.suffix
    partial, lock = place.parent, place.parent
    if place.is_dir():
        partial = place
        lock = place.parent if may_write(place.parent) else place
    return Places(
        partial=partial / twin,
        lock=lock / f"{name}.lock",
        work=place.parent / f"{name}.resume",
        manifest=manifest,
    )


def unfinished(manifest: Path) -> Path:
    """What a manifest is called until it is whole."""
    return manifest.with_name(f".{manifest.name}.partial")


def may_write(folder: Path) -> bool:
    """Whether files can be made in a folder."""
    return os.access(folder, os.W_OK | os.X_OK)


def check_room(out: Path, folder: Path, is_taken: Callable[[], bool]) -> None:
    """Raise before anything is touched where ``out`` cannot be made in ``folder``: SinkError, or
    OutputExistsError where something is there that is to stay.

    is_taken: asked only of a folder that lets itself be looked into.
    """
    if not folder.is_dir():
        raise SinkError(f"{folder}: there is no such folder for {out.name}: make it")
    if not may_write(folder):
        raise not_writable(folder)
    if is_taken():
        raise OutputExistsError(f"{out} exists: --overwrite replaces it")


def check_beside(out: Path, settings: Settings) -> None:
    """Raise SinkError where a folder is there and what belongs beside it cannot be made."""
    folder = whole(out.parent if is_pattern(out) else out)
    if not folder.is_dir() or may_write(folder.parent):
        return
    refused = f"{folder.parent} may not be written"
    if settings.resume:
        raise SinkError(
            f"{folder}: --resume keeps its work beside it, and {refused}: leave --resume out, or"
            " name a folder in it"
        )
    if settings.manifest and not is_pattern(out):
        raise SinkError(
            f"{folder}: its manifest goes beside it, and {refused}: add --no-manifest, or name a"
            " folder in it"
        )

"""What stands beside a result, for a while or for good, and where."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vidmatte.errors import SinkError, UsageError
from vidmatte.settings import Settings
from vidmatte.sink.formats import is_pattern
from vidmatte.sink.names import NUMBER, beside, whole

#: Bytes of one name, in the file systems of Linux, macOS and Windows.
LONGEST_NAME = 255


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


def check_name(out: Path) -> None:
    """Raise UsageError where no file can have the name ``out``, or none what stands beside it,
    and SinkError where its folder cannot be looked at."""
    try:
        size = len(os.fsencode(out.name))
    except UnicodeEncodeError:
        raise UsageError(
            f"{str(out)!r}: no name has half a character in it: leave it out"
        ) from None
    try:
        out.parent.is_dir()
    except OSError as error:
        raise SinkError(f"{out.parent}: {error.strerror}: name another folder") from error
    places = places_of(out)
    unfinished = f".{places.manifest.name}.partial"
    names = (unfinished, *(path.name for path in (places.partial, places.lock, places.work)))
    if (over := max(len(os.fsencode(name)) for name in names) - LONGEST_NAME) > 0:
        raise UsageError(
            f"{out}: its name has {size} bytes, and what stands beside it for a while has longer"
            f" ones: allowed is {size - over}"
        )


def places_of(out: Path) -> Places:
    """The places of the file, the folder or the pattern ``out``.

    Those of a pattern like ``cut/shot_%06d.png`` are beside the pictures' folder, which need
    not be there yet, but for the manifest, which joins the pictures. In a folder that is there
    the pictures are made within it: it may be another file system, into which nothing can be
    renamed. So is the lock where nothing can be made beside the folder.
    """
    place, name, unfinished = whole(out), f".{whole(out).name}", f".{whole(out).stem}.partial"
    manifest = beside(out, f"{place.name}.json")
    if is_pattern(out):
        place, plain = whole(out.parent), NUMBER.sub("", out.name)
        name = f".{place.name}.{plain}"
        unfinished, manifest = f"{name}.partial", beside(out, f"{plain}.json")
    elif not place.is_dir():
        unfinished += out.suffix
    partial, lock = place.parent, place.parent
    if place.is_dir():
        partial = place
        lock = place.parent if may_write(place.parent) else place
    return Places(
        partial=partial / unfinished,
        lock=lock / f"{name}.lock",
        work=place.parent / f"{name}.resume",
        manifest=manifest,
    )


def may_write(folder: Path) -> bool:
    """Whether files can be made in a folder."""
    return os.access(folder, os.W_OK | os.X_OK)


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

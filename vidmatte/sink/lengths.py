"""How long the names of results may be, with all that stands beside them for a while."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from vidmatte.errors import SinkError
from vidmatte.settings import Settings
from vidmatte.sink.formats import is_pattern
from vidmatte.sink.names import whole
from vidmatte.sink.places import places_of, unfinished

#: Bytes of a name on most disks.
USUAL = 255


def check_lengths(out: Path, settings: Settings | None = None) -> None:
    """Raise SinkError where ``out``, or what belongs to it, has a longer name than its disk takes.

    settings: of the main result, with which a manifest and the work of ``--resume`` go.
    """
    limit = check_new_names(out)
    places = places_of(out)
    beside = [places.partial, places.lock]
    if settings is not None and settings.manifest:
        beside += [places.manifest, unfinished(places.manifest)]
    if settings is not None and settings.resume:
        beside.append(places.work)
    over = max(length_of(path.name) for path in beside) - limit
    if over > 0 and is_pattern(out):
        raise SinkError(
            f"{out}: the names of the folder and of its pictures are together {over} bytes too"
            f" long for what stands beside them, which may have {limit} here: shorten one"
        )
    if over > 0:
        has = length_of(whole(out).name)
        raise SinkError(
            f"{out}: the name has {has} bytes, and may have {has - over}, so that what stands"
            f" beside it has {limit} at most: shorten it"
        )


def check_new_names(out: Path) -> int:
    """How many bytes a name may have where ``out`` goes.

    Raises SinkError where ``out``, or a folder on the way that is not there, has more.
    """
    limit, new = place_for(out)
    for name in new:
        if length_of(name) > limit:
            raise SinkError(
                f"{name}: a name may have {limit} bytes here, and this has {length_of(name)}:"
                " shorten it"
            )
    return limit


def check_picture_lengths(folder: Path, names: Iterable[str]) -> None:
    """Raise SinkError where the name of a picture is longer than the folder's disk takes, with
    what is added to it until the picture is whole."""
    limit = check_new_names(folder)
    longest = max(names, key=length_of, default="")
    over = length_of(f"{longest}.part") - limit
    if over > 0:
        raise SinkError(
            f"{folder}: the picture '{longest}' has a name of {length_of(longest)} bytes, and it"
            f" may have {length_of(longest) - over}: shorten it, or name them like -o"
            f" {folder}/f_%06d.png"
        )


def place_for(out: Path) -> tuple[int, tuple[str, ...]]:
    """How many bytes a name may have where ``out`` goes, and the names that are new there."""
    place = whole(out)
    there = next(path for path in (place, *place.parents) if os.path.isdir(path))  # noqa: PTH112
    limit = os.pathconf(there, "PC_NAME_MAX") if hasattr(os, "pathconf") else USUAL
    return limit if limit > 0 else USUAL, place.relative_to(there).parts


def length_of(name: str) -> int:
    """Bytes of a name; on Windows its UTF-16 units, which count there."""
    return len(os.fsencode(name)) if os.name == "posix" else len(name.encode("utf-16-le")) // 2

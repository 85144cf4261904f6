"""What stands beside a result, for a while or for good, and where."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vidmatte.errors import SinkError, UsageError
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
    not be there yet, but for the manifest, which joins the pictures.
    """
    if is_pattern(out):
        folder, plain = out.parent, NUMBER.sub("", out.name)
        name = f".{whole(folder).name}.{plain}"
        return Places(
            partial=beside(folder, f"{name}.partial"),
            lock=beside(folder, f"{name}.lock"),
            work=beside(folder, f"{name}.resume"),
            manifest=beside(out, f"{plain}.json"),
        )
    name, stem = whole(out).name, whole(out).stem
    return Places(
        partial=beside(out, f".{stem}.partial{out.suffix}"),
        lock=beside(out, f".{name}.lock"),
        work=beside(out, f".{name}.resume"),
        manifest=beside(out, f"{name}.json"),
    )

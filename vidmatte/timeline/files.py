"""Timeline files by their suffix: which format they are, whether they may be written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import partial
from pathlib import Path

from vidmatte.core.names import absolute_path
from vidmatte.errors import OutputError, OutputExistsError, SourceError, UsageError
from vidmatte.timeline.model import Medium, Timeline
from vidmatte.writers.base import as_output_error
from vidmatte.writers.output_paths import check_creatable

SUFFIXES = (".fcpxml", ".xml", ".otio", ".edl")


def is_timeline(path: str | Path) -> bool:
    """Whether a path names a timeline, by its suffix."""
    return Path(path).suffix.lower() in SUFFIXES


def read_timeline(path: Path, rate_of: Callable[[Medium], Fraction | None]) -> Timeline:
    """The timeline in a file. rate_of: see ``read_edl``. Raises SourceError, UsageError."""
    from vidmatte.timeline.edl import read_edl
    from vidmatte.timeline.fcp7_read import read_fcp7
    from vidmatte.timeline.fcpxml_read import read_fcpxml
    from vidmatte.timeline.otio_file import read_otio

    suffix = path.suffix.lower()
    try:
        if suffix == ".edl":
            return read_edl(path, rate_of)
        return {".fcpxml": read_fcpxml, ".xml": read_fcp7, ".otio": read_otio}[suffix](path)
    except UsageError as error:
        raise SourceError(f"{path}: {error}") from error
    except OSError as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{path}: {error.strerror}") from error


def write_timelines(timeline: Timeline, files: Iterable[str | Path], *, overwrite: bool) -> None:
    """Write a timeline to each file, in the format of its suffix.

    Raises OutputError, OutputExistsError, and UsageError for what a format cannot express.
    """
    for name in files:
        path = Path(name)
        content = _encoded(timeline, path)
        if not overwrite and os.path.lexists(path):
            raise OutputExistsError(f"{path} exists: --overwrite replaces it")
        # Renamed when it is complete: nobody imports half a timeline.
        unfinished = absolute_path(path).with_name(f".{path.name}.partial")
        try:
            unfinished.write_bytes(content)
            unfinished.replace(path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise as_output_error(error, path) from error


def _encoded(timeline: Timeline, path: Path) -> bytes:
    from vidmatte.timeline.edl import write_edl
    from vidmatte.timeline.fcp7 import write_fcp7
    from vidmatte.timeline.fcpxml import write_fcpxml
    from vidmatte.timeline.otio_file import write_otio

    write = {".fcpxml": write_fcpxml, ".xml": write_fcp7, ".otio": write_otio, ".edl": write_edl}
    return write[path.suffix.lower()](timeline)


def check_timelines(files: Iterable[str], taken: Iterable[Path], *, overwrite: bool) -> None:
    """Check the files of --timeline before a run. taken: other files that it reads or writes.

    Raises UsageError, OutputError, OutputExistsError.
    """
    places = {absolute_path(path) for path in taken}
    for name in files:
        path = Path(name)
        if not is_timeline(path):
            raise UsageError(
                f"--timeline {name}: expected a name that ends in {', '.join(SUFFIXES)}"
            )
        if path.suffix.lower() == ".otio":
            from vidmatte.timeline.otio_file import load_otio

            load_otio()
        place = absolute_path(path)
        if place in places:
            raise UsageError(f"--timeline {name}: this path is used twice in one run")
        places.add(place)
        if place.is_dir():
            raise OutputError(f"--timeline {name}: that is a folder: name a file")
        is_taken = not overwrite and os.path.lexists(place)
        check_creatable(path, place.parent, partial(bool, is_taken))

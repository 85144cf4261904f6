"""What ``--resume`` compares before it goes on with an earlier run's work."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from vidmatte import __version__
from vidmatte.alpha.quality import Quality
from vidmatte.errors import UsageError
from vidmatte.frame import Clip
from vidmatte.network.base import Network
from vidmatte.network.model import Model
from vidmatte.option import NOTHING, names_of
from vidmatte.settings import Settings
from vidmatte.sink.guard import named_to_read
from vidmatte.sink.keep.begun import PICTURES, TOLD, file_fact
from vidmatte.sink.places import places_of
from vidmatte.sink.point import Point
from vidmatte.source.pictures.folder import files_of

#: Options that change how a run goes, not what comes out; the model is told by its weights.
WITHOUT_EFFECT = names_of(Settings, decides=NOTHING)
#: The faults that are counted by the frames that have them.
FAULTS = ("empty", "full", "jumps")


def check_resumable(network: Network, settings: Settings) -> None:
    """Raise UsageError where a run could not be taken up again as it was."""
    if settings.cache is not None:
        raise UsageError("--resume and --cache exclude each other: the work kept is enough")
    if network.states > 1:
        raise UsageError(
            f"--resume with --model {settings.model}: at most one of two models may be recurrent"
        )


def facts_of(clip: Clip, model: Model, settings: Settings) -> dict[str, Any]:
    """What decides a result besides its format: source, weights, options, version.

    Raises UsageError where a run could not be taken up again as it was.
    """
    check_resumable(model.network, settings)
    options = {
        row.name: getattr(settings, row.name)
        for row in fields(settings)
        if row.name not in WITHOUT_EFFECT
    }
    facts: dict[str, Any] = {
        "version": __version__,
        "weights": [[part.family, part.sha256] for part in model.weights],
        "runtime": "; ".join(model.runtimes),
        "settings": options,
        TOLD: {"model": settings.model},
    }
    if clip.kind == "pictures" and clip.names:  # each is a frame
        # Of which kind they become is settled by all of them.
        kind = [clip.working_format, clip.bit_depth, clip.colour.as_names()]
        facts["source"] = [clip.path.resolve().name, *kind]
        facts[PICTURES] = list(states_of_pictures(clip))
    else:
        facts["source"] = state_of(clip.path)
    for name, path in named_to_read(settings):
        facts[file_fact(name)] = state_of(path)
    return facts


def states_of_pictures(clip: Clip) -> Iterator[list[Any]]:
    """Of each picture of a folder between the in and out points: its name, its result's,
    its size and its modification time (ns)."""
    for file, name in zip(clip.files[clip.first :], clip.names, strict=False):
        state = (clip.path / file).stat()
        yield [file, name, state.st_size, state.st_mtime_ns]


def state_of(path: Path) -> list[Any]:
    """Name, number of files read, and a hash of their names, sizes and modification times (ns)."""
    files = files_of(path)
    lines = [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}\n" for file in files]
    names = "".join(lines).encode("utf-8", "surrogateescape")
    return [path.resolve().name, len(files), hashlib.sha256(names).hexdigest()]


def faults_of(index: int, quality: Quality) -> list[str]:
    """Which of the faults counted there are those of frame ``index``, the latest."""
    return [name for name in FAULTS if getattr(quality, name)[-1:] == [index]]


def whole_quality(quality: Quality, point: Point) -> Quality:
    """The faults of all frames: those of this run, and what earlier ones found before it."""
    if not point.first:
        return quality
    again = point.first - point.start
    found = {
        name: [index for index, remarks in point.remarks if name in remarks.get("faults", ())]
        + [index for index in getattr(quality, name) if index >= point.first]
        for name in FAULTS
    }
    return replace(quality, frames=point.first + max(0, quality.frames - again), **found)


def whole_warnings(warnings: list[str], point: Point) -> list[str]:
    """The source's warnings of all frames, each once."""
    earlier = [line for _, remarks in point.remarks for line in remarks.get("warnings", ())]
    return list(dict.fromkeys([*earlier, *warnings]))


def has_manifest(out: Path) -> bool:
    """Whether a finished output has its manifest, written after it."""
    try:
        return places_of(out).manifest.stat().st_mtime_ns >= out.stat().st_mtime_ns
    except FileNotFoundError:
        return False


def leftovers(out: Path) -> Iterator[str]:
    """What to say where an earlier run with ``--resume`` has left its work on an output that
    is finished without it."""
    from vidmatte.sink.keep.workfolder import files_in

    folder = places_of(out).work
    if folder.is_dir():
        size = sum(file.stat().st_size for _, file in files_in(folder))
        yield f"{folder.name}, {size / 1e6:.1f} MB, is left of a run with --resume: remove it"


def forget(out: Path) -> None:
    """Remove what is left of the work folder of a finished output."""
    from vidmatte.sink.keep.workfolder import FINISHED, JOB, LOCK

    folder = places_of(out).work
    if not (folder / FINISHED).is_file():
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # a kill right before left it
        return
    # What says that the output is finished goes last: a kill in between is no loss.
    for name in (LOCK, JOB, FINISHED):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder)  # and what a file browser may have left in it

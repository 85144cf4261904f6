"""What ``--resume`` compares before it goes on with an earlier run's work."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from vidmatte._version import __version__
from vidmatte.alpha.quality import Quality
from vidmatte.core.frame import Clip, Point
from vidmatte.core.names import absolute_path
from vidmatte.errors import SourceError, UsageError
from vidmatte.jobs import manifest
from vidmatte.jobs.check import files_to_read
from vidmatte.jobs.checkpoint.compat import DISPLAYED, PICTURES, file_fact
from vidmatte.models.base import Network
from vidmatte.models.registry import Model
from vidmatte.option import NO_EFFECT, names_of
from vidmatte.readers.image_folder import files_of
from vidmatte.settings import Settings
from vidmatte.writers.base import WriteResult, already_finished_note
from vidmatte.writers.output_paths import check_lengths, output_paths

#: Options that change how a run goes, not what comes out; the model is told by its weights.
EXCLUDED_OPTIONS = names_of(Settings, decides=NO_EFFECT)
#: The faults that are counted by the frames that have them.
_QUALITY_FINDINGS = ("empty", "full", "jumps")


def _check_resumable(network: Network, settings: Settings) -> None:
    """Raise UsageError where a run could not be taken up again as it was."""
    if settings.cache is not None:
        raise UsageError("--resume and --cache exclude each other: the work kept is enough")
    if network.state_count > 1:
        raise UsageError(
            f"--resume with --model {settings.model}: at most one of two models may be recurrent"
        )


def facts_of(clip: Clip, model: Model, settings: Settings) -> dict[str, Any]:
    """What decides a result besides its format: source, weights, options, version.

    Raises UsageError where a run could not be taken up again as it was.
    """
    _check_resumable(model.network, settings)
    options = {
        row.name: getattr(settings, row.name)
        for row in fields(settings)
        if row.name not in EXCLUDED_OPTIONS
    }
    facts: dict[str, Any] = {
        "version": __version__,
        "weights": [[part.family, part.sha256] for part in model.weights],
        "runtime": "; ".join(model.runtimes),
        "settings": options,
        DISPLAYED: {"model": settings.model},
    }
    identity, path = clip.source.identity_for("--resume"), clip.source.path
    if path is not None and clip.kind == "pictures" and clip.output_names:  # each is a frame
        # Of which kind they become is settled by all of them.
        kind = [clip.working_format, clip.bit_depth, clip.colour.as_names()]
        facts["source"] = [path.resolve().name, *kind]
        facts[PICTURES] = list(_states_of_pictures(clip))
    else:
        facts["source"] = identity if path is None else _state_of(path)
    for name, path in files_to_read(settings):
        facts[file_fact(name)] = _state_of(path)
    return facts


def _states_of_pictures(clip: Clip) -> Iterator[list[Any]]:
    """Of each picture of a folder between the in and out points: its name, its result's,
    its size and its modification time (ns)."""
    files = clip.source.files()[clip.first_frame :]
    for file, name in zip(files, clip.output_names, strict=False):
        state = file.stat()
        yield [file.name, name, state.st_size, state.st_mtime_ns]


def _state_of(path: Path) -> list[Any]:
    """Name, number of files read, and a hash of their names, sizes and modification times (ns)."""
    files = files_of(path)
    lines = [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}\n" for file in files]
    names = "".join(lines).encode("utf-8", "surrogateescape")
    return [path.resolve().name, len(files), hashlib.sha256(names).hexdigest()]


def quality_findings(index: int, quality: Quality) -> list[str]:
    """Which of the faults counted there are those of frame ``index``, the latest."""
    return [name for name in _QUALITY_FINDINGS if getattr(quality, name)[-1:] == [index]]


def merged_quality(quality: Quality, point: Point) -> Quality:
    """The faults of all frames: those of this run, and what earlier ones found before it."""
    if not point.first:
        return quality
    again = point.first - point.start
    found = {
        name: [index for index, remarks in point.remarks if name in remarks.get("faults", ())]
        + [index for index in getattr(quality, name) if index >= point.first]
        for name in _QUALITY_FINDINGS
    }
    return replace(quality, frames=point.first + max(0, quality.frames - again), **found)


def merged_warnings(warnings: list[str], point: Point) -> list[str]:
    """The source's warnings of all frames, each once."""
    earlier = [line for _, remarks in point.remarks for line in remarks.get("warnings", ())]
    return list(dict.fromkeys([*earlier, *warnings]))


def has_manifest(out: Path) -> bool:
    """Whether a finished output has its manifest, written after it."""
    try:
        return output_paths(out).manifest.stat().st_mtime_ns >= out.stat().st_mtime_ns
    except FileNotFoundError:
        return False


def leftovers(out: Path) -> Iterator[str]:
    """What to say where an earlier run with ``--resume`` has left its work on an output that
    is finished without it."""
    from vidmatte.jobs.checkpoint.folder import files_in

    folder = output_paths(out).work
    if folder.is_dir():
        size = sum(file.stat().st_size for _, file in files_in(folder))
        yield f"{folder.name}, {size / 1e6:.1f} MB, is left of a run with --resume: remove it"


def remove_checkpoint(out: Path) -> None:
    """Remove what is left of the work folder of a finished output."""
    from vidmatte.jobs.checkpoint.folder import FINISHED, JOB, LOCK

    folder = output_paths(out).work
    if not (folder / FINISHED).is_file():
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # a kill right before left it
        return
    # What says that the output is finished goes last: a kill in between is no loss.
    for name in (LOCK, JOB, FINISHED):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder)  # and what a file browser may have left in it


def manifest_of(out: Path, clip: Clip, settings: Settings) -> dict[str, Any] | None:
    """The manifest of ``out`` where it may be of just this job; no content is read.

    None without ``--resume``, with ``--overwrite`` or ``--no-manifest``, and where work is kept.
    Raises SinkError for a name that is too long.
    """
    if not settings.resume or settings.overwrite or not settings.manifest:
        return None
    if clip.source.path is None:  # no checksum to compare it by
        return None
    check_lengths(out, settings)
    places = output_paths(out)
    if not places.manifest.is_file() or (places.work.is_dir() and any(places.work.iterdir())):
        return None
    try:
        found = manifest.read(out)
    except SourceError:  # it stays refused as an output that exists
        return None
    # How weights are fed is no part of their hash.
    named = {*asdict(settings)} - {*names_of(Settings, decides=NO_EFFECT)} | {"family"}
    begun, now = found.get("settings", {}), asdict(settings)
    is_same = (
        found.get("vidmatte") == __version__
        and all(begun.get(name) == manifest.plain(now[name]) for name in named)
        and found["source"].get("files") == manifest.names_of_source(clip.source)
        and not _changed_since(places.manifest, settings)
    )
    return found if is_same else None


def _changed_since(moment: Path, settings: Settings) -> bool:
    """Whether a mask or background is newer than a file; manifests do not tell."""
    time = moment.stat().st_mtime_ns
    read = (path for _, path in files_to_read(settings))
    return any(file.stat().st_mtime_ns > time for path in read for file in [path, *files_of(path)])


def already_done(out: Path, clip: Clip, model: Model, settings: Settings) -> WriteResult | None:
    """What an earlier run has made of this job, if all of it is there and the source is the
    same, byte for byte."""
    found = manifest_of(out, clip, settings)
    if found is None:
        return None
    weights = "+".join(part.sha256 for part in model.weights)
    if found["model"]["sha256"] != weights or manifest.verify(out, clip.source.path):
        return None
    folder = absolute_path(out).parent
    rate = Fraction(found["rate"])
    sides = tuple(_written_of(folder / side["name"], side, rate) for side in found["sides"])
    notes = (*found["warnings"], already_finished_note(out))
    return _written_of(out, found["result"], rate, notes=notes, sides=sides)


def _written_of(path: Path, entry: dict[str, Any], rate: Fraction, **more: Any) -> WriteResult:
    """A result by its entry in a manifest."""
    names = ("frames", "width", "height", "format", "pixel_format", "bytes")
    return WriteResult(
        path=path,
        rate=rate,
        seconds=entry["frames"] / rate,
        sound=tuple(entry["sound"]),
        files=tuple(entry["files"]),
        **{**{name: entry[name] for name in names}, **more},
    )

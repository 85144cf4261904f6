"""What determines a job's frames, for ``--resume`` to compare, and what earlier runs found."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidmatte._version import __version__
from vidmatte.alpha.quality import Quality
from vidmatte.core.frame import Clip
from vidmatte.core.segment import Findings
from vidmatte.core.stored import plain
from vidmatte.errors import SourceError, UsageError
from vidmatte.jobs import manifest
from vidmatte.jobs.checkpoint.compat import DISPLAYED, PICTURES, file_fact
from vidmatte.jobs.spec import files_to_read
from vidmatte.models.base import Network
from vidmatte.models.registry import Model
from vidmatte.readers.image_folder import files_of
from vidmatte.settings import NO_EFFECT, Settings, names_of
from vidmatte.writers.output_paths import check_lengths, output_paths

#: Options that do not affect the result; the model is compared by its weights.
_EXCLUDED_OPTIONS = names_of(Settings, decides=NO_EFFECT)
#: The faults that are recorded by frame.
_QUALITY_FINDINGS = ("empty", "full", "jumps")


def _check_resumable(network: Network, settings: Settings) -> None:
    """Raise UsageError where a later run could not continue the work unchanged."""
    if network.state_count > 1:
        raise UsageError(
            f"--resume with --model {settings.model}: at most one of two models may be recurrent"
        )


def facts_of(clip: Clip, model: Model, settings: Settings) -> dict[str, Any]:
    """What determines a result besides its format: source, weights, options, version.

    Raises UsageError where a later run could not continue the work unchanged.
    """
    _check_resumable(model.network, settings)
    options = {
        name: value
        for name, value in settings.model_dump(mode="json").items()
        if name not in _EXCLUDED_OPTIONS
    }
    options["combine"] = model.settings.combine  # which --model auto changes
    facts: dict[str, Any] = {
        "version": __version__,
        "weights": [[part.family, part.sha256] for part in model.weights],
        "runtime": "; ".join(model.runtimes),
        "settings": options,
        DISPLAYED: {"model": settings.model},
    }
    identity, path = clip.source.identity_for("--resume"), clip.source.path
    if path is not None and clip.kind == "pictures" and clip.output_names:  # each is a frame
        # The working format is derived from all pictures together.
        kind = [clip.working_format, clip.bit_depth, clip.colour.as_names()]
        facts["source"] = [path.resolve().name, *kind]
        facts[PICTURES] = list(_states_of_pictures(clip))
    else:
        facts["source"] = identity if path is None else _state_of(path)
    for name, path in files_to_read(settings):
        facts[file_fact(name)] = _state_of(path)
    return facts


def _states_of_pictures(clip: Clip) -> Iterator[list[Any]]:
    """For each picture of a folder between the in and out points: its name, that of its
    result, its size and its modification time (ns)."""
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
    """The faults of frame ``index``, the latest that ``quality`` has seen."""
    return [name for name in _QUALITY_FINDINGS if getattr(quality, name)[-1:] == [index]]


def merged_quality(quality: Quality, first: int, start: int, findings: Findings) -> Quality:
    """The faults of all frames: those of this run, which has matted frames from ``start`` and
    written them from ``first`` on, and those that earlier runs found before ``first``."""
    if not first:
        return quality
    found = {
        name: [index for index, its in findings if name in its.get("faults", ())]
        + [index for index in getattr(quality, name) if index >= first]
        for name in _QUALITY_FINDINGS
    }
    return replace(quality, frames=first + max(0, quality.frames - (first - start)), **found)


def merged_warnings(warnings: list[str], findings: Findings) -> list[str]:
    """The source's warnings of all frames, each once. findings: those of earlier runs."""
    earlier = [line for _, its in findings for line in its.get("warnings", ())]
    return list(dict.fromkeys([*earlier, *warnings]))


def missing_frames(clip: Clip, done: int) -> Iterator[str]:
    """A warning where fewer frames were decoded than the container announced."""
    if clip.frame_count is not None and done < clip.frame_count:
        yield f"{clip.source.name}: expected {clip.frame_count} frames, decoded {done}"


def leftovers(out: Path) -> Iterator[str]:
    """A note on the work folder of an earlier run with ``--resume``, beside an output that was
    written without it."""
    from vidmatte.jobs.checkpoint.folder import files_in

    folder = output_paths(out).work
    if folder.is_dir():
        size = sum(file.stat().st_size for _, file in files_in(folder))
        yield (
            f"{folder.name}, {size / 1e6:.1f} MB, is the work of an earlier run with --resume:"
            " remove it"
        )


def remove_checkpoint(out: Path) -> None:
    """Remove the work folder of a finished output."""
    from vidmatte.jobs.checkpoint.folder import FINISHED, remove_folder

    folder = output_paths(out).work
    # An empty one: a run was killed just before its end.
    if (folder / FINISHED).is_file() or (folder.is_dir() and not any(folder.iterdir())):
        remove_folder(folder)


def manifest_of(out: Path, clip: Clip, settings: Settings) -> dict[str, Any] | None:
    """The manifest of ``out`` where it may belong to this job; no other content is read.

    None without ``--resume``, with ``--overwrite`` or ``--no-manifest``, and where the work
    folder is not empty. Raises OutputError for a name that is too long.
    """
    if not settings.resume or settings.overwrite or not settings.has_manifest:
        return None
    if clip.source.path is None:  # no checksum to compare
        return None
    check_lengths(out, settings)
    paths = output_paths(out)
    if not paths.manifest.is_file() or (paths.work.is_dir() and any(paths.work.iterdir())):
        return None
    try:
        found = manifest.read(out)
    except SourceError:  # refused later as an existing output
        return None
    # The family determines how weights are fed, and is not part of their hash.
    named = {*settings.model_dump()} - {*names_of(Settings, decides=NO_EFFECT)} | {"family"}
    recorded, now = found.get("settings", {}), settings.model_dump(mode="json")
    is_same = (
        found.get("vidmatte") == __version__
        and all(recorded.get(name) == plain(now[name]) for name in named)
        and found["source"].get("files") == manifest.names_of_source(clip.source)
        and not _changed_since(paths.manifest, settings)
    )
    return found if is_same else None


def _changed_since(reference: Path, settings: Settings) -> bool:
    """Whether a mask or background is newer than a file: manifests hold no checksum of these."""
    time = reference.stat().st_mtime_ns
    read = (path for _, path in files_to_read(settings))
    return any(file.stat().st_mtime_ns > time for path in read for file in [path, *files_of(path)])

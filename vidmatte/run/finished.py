"""Outputs that an earlier run has finished, by their manifest: a run with ``--resume`` that was
killed after its end has nothing left to do."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

from vidmatte import __version__
from vidmatte.errors import SourceError
from vidmatte.frame import Clip
from vidmatte.network.model import Model
from vidmatte.option import NOTHING, names_of
from vidmatte.settings import Settings
from vidmatte.sink import Written, manifest
from vidmatte.sink.base import finished_earlier
from vidmatte.sink.guard import named_to_read
from vidmatte.sink.lengths import check_lengths
from vidmatte.sink.names import whole
from vidmatte.sink.places import places_of
from vidmatte.source.pictures.folder import files_of


def manifest_of(out: Path, clip: Clip, settings: Settings) -> dict[str, Any] | None:
    """The manifest of ``out`` where it may be of just this job; no content is read.

    None without ``--resume``, with ``--overwrite`` or ``--no-manifest``, and where work is kept.
    Raises SinkError for a name that is too long.
    """
    if not settings.resume or settings.overwrite or not settings.manifest:
        return None
    check_lengths(out, settings)
    places = places_of(out)
    if not places.manifest.is_file() or (places.work.is_dir() and any(places.work.iterdir())):
        return None
    try:
        found = manifest.read(out)
    except SourceError:  # it stays refused as an output that exists
        return None
    # How weights are fed is no part of their hash.
    named = {*asdict(settings)} - {*names_of(Settings, decides=NOTHING)} | {"family"}
    begun, now = found.get("settings", {}), asdict(settings)
    is_same = (
        found.get("vidmatte") == __version__
        and all(begun.get(name) == manifest.plain(now[name]) for name in named)
        and found["source"].get("files") == list(clip.files)
        and not changed_since(places.manifest, settings)
    )
    return found if is_same else None


def changed_since(moment: Path, settings: Settings) -> bool:
    """Whether a mask or background is newer than a file; manifests do not tell."""
    time = moment.stat().st_mtime_ns
    read = (path for _, path in named_to_read(settings))
    return any(file.stat().st_mtime_ns > time for path in read for file in [path, *files_of(path)])


def finished_before(out: Path, clip: Clip, model: Model, settings: Settings) -> Written | None:
    """What an earlier run has made of this job, if all of it is there and the source is the
    same, byte for byte."""
    found = manifest_of(out, clip, settings)
    if found is None:
        return None
    weights = "+".join(part.sha256 for part in model.weights)
    if found["model"]["sha256"] != weights or manifest.verify(out, clip.path):
        return None
    folder = whole(out).parent
    rate = Fraction(found["rate"])
    sides = tuple(written_of(folder / side["name"], side, rate) for side in found["sides"])
    notes = (*found["warnings"], finished_earlier(out))
    return written_of(out, found["result"], rate, notes=notes, sides=sides)


def written_of(path: Path, entry: dict[str, Any], rate: Fraction, **more: Any) -> Written:
    """A result by its entry in a manifest."""
    names = ("frames", "width", "height", "format", "pixel_format", "bytes")
    return Written(
        path=path,
        rate=rate,
        seconds=entry["frames"] / rate,
        sound=tuple(entry["sound"]),
        files=tuple(entry["files"]),
        **{**{name: entry[name] for name in names}, **more},
    )

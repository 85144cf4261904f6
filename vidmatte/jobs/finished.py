"""Whether an earlier run has finished a job: checked once, before a pipeline is built."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vidmatte.alpha.quality import Quality
from vidmatte.core.frame import Clip
from vidmatte.core.names import absolute_path
from vidmatte.core.segment import Findings
from vidmatte.jobs import manifest
from vidmatte.jobs.checkpoint.folder import FINISHED, CheckpointFolder
from vidmatte.jobs.resume import (
    facts_of,
    manifest_of,
    merged_quality,
    merged_warnings,
    missing_frames,
)
from vidmatte.models.registry import Model
from vidmatte.readers.base import Reader
from vidmatte.settings import Settings
from vidmatte.writers.base import WriteResult, already_finished_note
from vidmatte.writers.open import output_specs
from vidmatte.writers.output_paths import output_paths


@dataclass(frozen=True)
class _Finished:
    """The results of an earlier run. warnings: those of its source and its results."""

    written: WriteResult
    quality: Quality
    warnings: tuple[str, ...]
    has_manifest: bool


def find_finished(
    source: Reader, out: Path, model: Model, settings: Settings, *, is_folder: bool = False
) -> _Finished | None:
    """The results of an earlier run with ``--resume``; None where it did not finish this job.

    The note in its work folder records them, or, where that folder was removed, the manifest,
    if the source is unchanged, byte for byte. Raises UsageError that names what differs from
    the job of the work folder, OutputError.
    """
    clip = source.clip
    if not settings.resume:
        return None
    if (output_paths(out).work / FINISHED).is_file():
        facts = facts_of(clip, model, settings)
        noted = _noted_result(out, clip, settings, facts, is_folder=is_folder)
        return None if noted is None else _by_note(source, *noted)
    written = _manifest_result(out, clip, model, settings)
    return None if written is None else _Finished(written, Quality(), written.notes, True)


def _noted_result(
    out: Path, clip: Clip, settings: Settings, facts: dict[str, Any], *, is_folder: bool = False
) -> tuple[WriteResult, Findings] | None:
    """The results that the work folder of ``out`` records, and the findings in their frames;
    None unless all files exist unchanged. The frames in the folder are removed.

    facts: what determines the frames besides the outputs. Raises UsageError, OutputError.
    """
    from vidmatte.jobs.checkpoint.spool import describe_outputs

    specs = list(output_specs(out, clip, settings, is_folder))
    for spec in specs:
        if spec.layer.background is not None:
            spec.layer.background.close()
    folder = CheckpointFolder(output_paths(out).work)
    folder.open_for({**facts, "output": describe_outputs(specs)})
    try:
        if (noted := folder.finished()) is not None:
            folder.clear()
        return noted
    finally:
        folder.release()


def all_notes(written: WriteResult) -> Iterator[str]:
    """The notes of a result, then those that only its extra outputs have."""
    yield from written.notes
    for extra in written.extra_outputs:
        new = (note for note in extra.notes if note not in written.notes)
        yield from (f"{extra.path.name}: {note}" for note in new)


def _by_note(source: Reader, written: WriteResult, findings: Findings) -> _Finished:
    """The results that a work folder records."""
    written = replace(written, notes=(*written.notes, already_finished_note(written.path)))
    source.warnings.extend(missing_frames(source.clip, written.frames))
    warnings = (*merged_warnings(source.warnings, findings), *all_notes(written))
    quality = merged_quality(Quality(), written.frames, 0, findings)
    return _Finished(written, quality, warnings, _has_manifest(written.path))


def _has_manifest(out: Path) -> bool:
    """Whether a finished output has a manifest that was written after it."""
    try:
        return output_paths(out).manifest.stat().st_mtime_ns >= out.stat().st_mtime_ns
    except FileNotFoundError:
        return False


def _manifest_result(out: Path, clip: Clip, model: Model, settings: Settings) -> WriteResult | None:
    """The results that the manifest of ``out`` lists, if all of them exist unchanged."""
    found = manifest_of(out, clip, settings)
    if found is None:
        return None
    weights = "+".join(part.sha256 for part in model.weights)
    if found["model"]["sha256"] != weights or manifest.verify(out, clip.source.path):
        return None
    extra = tuple(
        manifest.entry_result(absolute_path(out).parent / entry["name"], entry, found["rate"])
        for entry in found["sides"]
    )
    written = manifest.entry_result(out, found["result"], found["rate"])
    notes = (*found["warnings"], already_finished_note(out))
    return replace(written, notes=notes, extra_outputs=extra)

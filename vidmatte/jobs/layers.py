"""``--exr-layers``: a run for each subject, joined to pictures with a layer for each."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from vidmatte.alpha.quality import Quality
from vidmatte.core.frame import Clip
from vidmatte.core.names import is_standard_stream
from vidmatte.errors import InterruptedRunError, UsageError
from vidmatte.jobs.report import Progress, Reporter
from vidmatte.jobs.spec import Result
from vidmatte.settings import Settings
from vidmatte.writers.base import already_finished_note
from vidmatte.writers.format_spec import OutputFormat
from vidmatte.writers.formats import is_pattern
from vidmatte.writers.open import output_specs
from vidmatte.writers.output import OutputSpec, partial_of
from vidmatte.writers.output_paths import output_paths

#: Options of one result that several subjects cannot share, or that the join cannot keep.
_EXCLUDED = ("only", "matte", "foreground_file", "comp", "background", "checker", "size", "crop")
_STORED = "layers"  # in the work folder of --resume
_LONGEST_NAME = 200  # bytes of a layer's name, whose channels have at most 255


def check_layers(out: Path, settings: Settings, formats: Sequence[OutputFormat]) -> None:
    """Raise UsageError for a result or for options that layers of subjects do not go with.

    formats: of the result and of its extra outputs.
    """
    names = _subject_names(settings)
    if not names:
        raise UsageError("--exr-layers: it needs --subject or --subjects, with NAME: for each")
    for option in _EXCLUDED:
        if value := getattr(settings, option):
            flag = f"--{option.replace('_', '-')}" + ("" if value is True else f" {value}")
            raise UsageError(f"--exr-layers and {flag} exclude each other: omit one")
    if is_standard_stream(out) or not formats[0].has_compression:
        raise UsageError(
            f"--exr-layers: {formats[0].name} has no layers: write -o FOLDER/ --format exr, exr32"
            " or exr-coded"
        )
    if settings.exr_compression == "dwaa":
        raise UsageError(
            "--exr-compression dwaa: it is lossy, and --exr-layers has ids: choose zip, zips or piz"
        )
    if settings.resume:
        _resumable_work(out)
    longest = max(names, key=lambda name: len(name.encode()))
    if len(longest.encode()) > _LONGEST_NAME:
        raise UsageError(
            f"--exr-layers: the name {longest} has {len(longest.encode())} bytes, and a layer's"
            f" name at most {_LONGEST_NAME}: shorten it"
        )


def _subject_names(settings: Settings) -> list[str]:
    """The names of the chosen subjects, in order. Raises UsageError."""
    from vidmatte.alpha.guidance.subjects_file import subject_names

    return subject_names(settings.subject, settings.subjects)


def settings_of_layer(settings: Settings, name: str) -> Settings:
    """Those of the run that writes the pictures of one subject."""
    return settings.changed(only=name, exr_layers=False, exr_compression=None, manifest="none")


def write_layers(
    out: Path,
    clip: Clip,
    settings: Settings,
    reporter: Reporter,
    make: Callable[[str, Path, bool, Path], Result],
    *,
    is_folder: bool,
) -> dict[str, Any]:
    """Write the pictures of each subject with ``make``, then join them; the facts of a ``Result``.

    make: writes the pictures of a subject: its name, the path, whether that is a folder, and a
    folder for what is known about the subjects. Until the pictures are joined, they lie beside
    the result. Ctrl+C raises InterruptedRunError, and nothing is left, but with ``--resume`` what
    the subjects' runs have stored. Raises the errors of a run.
    """
    spec = next(output_specs(out, clip, settings, is_folder))
    partial, names = partial_of(spec), _subject_names(settings)
    partial.check()
    stored = _resumable_work(out) if settings.resume else None
    target = partial.begin_file() if spec.is_single else partial.begin_folder()
    work = stored or target.with_name(target.name.replace(".partial", ".layers"))
    in_folder = not spec.is_single and not is_pattern(out)
    results: list[Result] = []
    folders: dict[str, Path] = {}
    has_ended = not settings.resume  # what is stored may go
    try:
        if not settings.resume:
            shutil.rmtree(work, ignore_errors=True)
        for number, name in enumerate(names):
            folder = work / str(number)
            folder.mkdir(parents=True, exist_ok=True)
            results.append(make(name, folder / out.name, in_folder, work / "subjects"))
            folders[name] = folder / out.name if in_folder else folder
        size = _join(spec, folders, target, settings, reporter)
        partial.commit()
        has_ended = True
    except KeyboardInterrupt:
        hint = "; --resume continues" if settings.resume else ""
        raise InterruptedRunError(f"stopped: {out} was not written{hint}") from None
    finally:
        partial.discard()
        if has_ended:
            shutil.rmtree(work, ignore_errors=True)
    return _joined_facts(out, size, results)


def _resumable_work(out: Path) -> Path:
    """Where the pictures of subjects stay for ``--resume``. Raises UsageError where the work folder
    holds something else."""
    folder = output_paths(out).work
    found = sorted(one.name for one in folder.iterdir()) if folder.is_dir() else []
    if others := [name for name in found if name != _STORED]:
        raise UsageError(
            f"--resume: the folder {folder} holds {others[0]}, which is not the work of a run with"
            " --exr-layers: move it, or choose another output"
        )
    return folder / _STORED


def _join(
    spec: OutputSpec,
    folders: dict[str, Path],
    target: Path,
    settings: Settings,
    reporter: Reporter,
) -> int:
    """Join the pictures of all subjects; the bytes of the result. Raises OutputError,
    VerificationError."""
    from vidmatte.writers.exr_layers import join_folders

    progress = Progress(spec.clip.source.name, spec.clip.frame_count, phase="joining layers")
    reporter.start(progress)
    size = 0
    try:
        for written in join_folders(
            spec, folders, target, settings.memory_bytes, keep=settings.resume
        ):
            size += written
            progress.done += 1
            reporter.advance(progress)
    finally:
        reporter.finish()
    return size


def _joined_facts(out: Path, size: int, results: Sequence[Result]) -> dict[str, Any]:
    """What the runs of all subjects say together."""
    qualities = [result.quality for result in results]
    found = {
        name: sorted({*chain.from_iterable(getattr(one, name) for one in qualities)})
        for name in ("empty", "full", "jumps", "lost")
    }
    ranks = zip_longest(*(one.doubtful for one in qualities))  # the best of each first
    doubtful = dict.fromkeys(one for rank in ranks for one in rank if one is not None)
    busy: dict[str, float] = {}
    for result in results:
        busy |= {
            stage: busy.get(stage, 0.0) + seconds for stage, seconds in result.busy_seconds.items()
        }
    notes = {already_finished_note(one.written.path) for one in results}  # of a layer alone
    warnings = dict.fromkeys(chain.from_iterable(one.warnings for one in results))
    written = results[0].written
    kept = tuple(note for note in written.notes if note not in notes)
    return {
        "written": replace(written, path=out, bytes=size, notes=kept),
        "quality": Quality(qualities[0].frames, doubtful=[*doubtful], **found),
        "warnings": tuple(line for line in warnings if line not in notes),
        "busy_seconds": busy,
        "carried": sum(result.carried for result in results),
        "resumed_at": min(result.resumed_at for result in results),
    }

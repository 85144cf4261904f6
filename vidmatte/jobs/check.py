"""Everything about a job that can be checked before anything is fetched, loaded or written."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from vidmatte.alpha.foreground import uses_model_foreground
from vidmatte.alpha.masks import check_masks
from vidmatte.alpha.trimap import check_trimap
from vidmatte.core.frame import Clip
from vidmatte.core.names import (
    absolute_path,
    as_url,
    ends_in_slash,
    is_standard_stream,
    names_folder,
    pattern_regex,
)
from vidmatte.core.source import Source
from vidmatte.errors import OutputError, UsageError
from vidmatte.jobs.layers import check_layers
from vidmatte.jobs.resume import manifest_of
from vidmatte.jobs.spec import CheckedJob, Job, files_to_read
from vidmatte.media.exr_writer import missing_method
from vidmatte.models.registry import ModelChoice, choose_model
from vidmatte.readers.base import Reader
from vidmatte.readers.image_folder import files_of
from vidmatte.settings import Settings
from vidmatte.writers.format_spec import OutputFormat
from vidmatte.writers.formats import by_name, check_suffix, is_pattern
from vidmatte.writers.images import DIGITS
from vidmatte.writers.open import output_class, output_specs
from vidmatte.writers.output import OutputSpec

_Inode = tuple[int, int]


#: Disk space that even an empty result takes, in bytes.
_LEAST_RESULT = 1 << 16


def make_job(source: str | Path, output: str | Path, settings: Settings) -> Job:
    """The job of matting ``source`` into ``output``. Raises UsageError, OutputError: see
    ``_settings_for``."""
    if is_standard_stream(output):
        _check_stdout(settings)
        return Job(source, Path(output), settings.changed(manifest="none"))
    adapted = _settings_for(output, settings)
    if settings.manifest == "one":  # of one result, which is its own
        adapted = adapted.changed(manifest="each")
    path = Path(output)
    if is_standard_stream(path):  # a file of that name, written as ./-
        path = absolute_path(path)
    return Job(source, path, adapted, names_folder(output))


def _check_stdout(settings: Settings) -> None:
    """Raise UsageError for an option that a result on standard output cannot have."""
    if settings.manifest == "one":
        raise UsageError("--manifest one: a result on stdout has no manifest: name a file")
    for flag in ("resume", "timeline"):
        if getattr(settings, flag):
            raise UsageError(f"--{flag}: the result goes to stdout: name a file, or omit it")
    check_names(None, settings)


def check_job(job: Job, source: Reader, model: ModelChoice | None = None) -> CheckedJob:
    """Everything about a job that can be checked before anything is fetched, loaded or written:
    names, formats, masks, options, the model, free disk space.

    source: the job's input, opened. model: the one that was chosen for another job with the same
    settings. Raises UsageError, SourceError, OutputExistsError, OutputError, ModelError,
    DeviceError.
    """
    clip, settings = source.clip, job.settings
    if settings.has_subject:
        from vidmatte.jobs.subjects import check_subjects

        check_subjects(source, settings)
    formats: tuple[OutputFormat, ...] = ()
    if manifest_of(job.output, clip, settings) is None:
        formats = _check_outputs(job.output, clip, settings, is_folder=job.is_folder)
    if settings.timeline:
        from vidmatte.timeline.result import check_result

        check_result(job.output, clip, settings, formats)
    if settings.exr_layers and formats:  # else an earlier run has finished it
        check_layers(job.output, settings, formats)
    choice = check_matting(clip, settings, model)
    _check_space(job.output, choice)
    return CheckedJob(job, clip, choice, formats)


def check_matting(clip: Clip, settings: Settings, model: ModelChoice | None = None) -> ModelChoice:
    """Check everything of a job but its outputs; return the model that it will run.

    model: see ``check_job``. Raises UsageError, SourceError, ModelError, DeviceError.
    """
    uses_model_foreground(settings, clip)
    check_masks(settings, clip)
    check_trimap(settings, clip)
    return choose_model(settings) if model is None else model


def _check_space(out: Path, model: ModelChoice) -> None:
    """Raise OutputError where a disk has no room for what is certain to be written: weights,
    whose size is known, and an empty result. The size of the compressed result is not known
    before its frames are."""
    required = {_folder_on_disk(out.parent): _LEAST_RESULT}
    if model.missing_bytes:
        folder = _folder_on_disk(model.store.folder)
        required[folder] = required.get(folder, 0) + model.missing_bytes
    for folder, needed in required.items():
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise OutputError(
                f"{folder}: not enough disk space: {free / 2**20:.1f} MB free, at least"
                f" {needed / 2**20:.1f} MB needed: free some space, or write elsewhere"
            )


def _folder_on_disk(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    full = absolute_path(folder)
    return next(path for path in (full, *full.parents) if os.path.isdir(path))  # noqa: PTH112


def _check_outputs(
    out: Path, clip: Clip, settings: Settings, *, is_folder: bool = False
) -> tuple[OutputFormat, ...]:
    """Check everything about the outputs that needs no file to be written; return their formats,
    the main one's first.

    is_folder: see ``Job``. Raises UsageError (format and clip do not fit, or an input would be
    replaced), OutputExistsError, OutputError.
    """
    from vidmatte.jobs.checkpoint.folder import may_replace_at
    from vidmatte.jobs.manifest import check_place
    from vidmatte.writers.output_paths import check_companions, check_lengths
    from vidmatte.writers.placed import placed_clip

    _check_repeatable(clip.source, settings)
    check_lengths(out, settings)
    for name in _extra_output_names(settings):
        check_lengths(Path(name))
    if settings.has_manifest:
        check_place(out, settings.overwrite)
    inputs = inputs_of(clip.source.path, settings)
    check_companions(out, settings)
    seen: set[Path] = set()
    formats: list[OutputFormat] = []
    has_background = False
    placed = placed_clip(clip, settings)
    for spec in output_specs(out, placed, settings, is_folder, may_replace_at(out, settings)):
        if spec.layer.background is not None:
            has_background = True
            spec.layer.background.close()
        check_replaced(spec.out, _replaced_files(spec), inputs)
        output_class(spec).check(spec)
        path = absolute_path(spec.out)
        path = path.parent.resolve() / path.name
        if path in seen:
            raise UsageError(f"{spec.out}: two outputs share this path")
        seen.add(path)
        formats.append(spec.row)
    _check_needs(settings, formats, has_background=has_background)
    if settings.start_number and not any(is_pattern(path) for path in seen):
        raise UsageError(
            f"--start-number {settings.start_number}: it needs a name like -o 'cut/shot_%06d.png'"
        )
    return tuple(formats)


def _check_needs(settings: Settings, formats: list[OutputFormat], *, has_background: bool) -> None:
    """Raise UsageError for an option that needs an output which the job does not have.

    formats: of the outputs, the main one's first. has_background: whether one lies over a
    background.
    """
    main = formats[0]
    if settings.audio_from is not None and (main.container is None or main.container.sound is None):
        raise UsageError(
            f"--audio-from {settings.audio_from}: {main.name} has no sound: write .mov, .mkv or"
            " .webm"
        )
    if settings.shadow is not None and not has_background:
        raise UsageError(f"--shadow {settings.shadow}: it needs --background, or --comp FILE")
    _check_encoding(settings, formats)


def _check_encoding(settings: Settings, formats: list[OutputFormat]) -> None:
    """Raise UsageError for an option of encoders that no output has, or that needs a package."""
    if settings.quality and not any(row.quality for row in formats):
        raise UsageError(
            f"--quality {settings.quality}: {formats[0].name} has no choice of it: it is for"
            " jpeg, webp, avif, webm and h264"
        )
    method = settings.exr_compression
    if method is None:
        return
    if not any(row.has_compression for row in formats):
        raise UsageError(f"--exr-compression {method}: {formats[0].name} is not OpenEXR")
    if (reason := missing_method(method)) is not None:
        raise UsageError(f"--exr-compression {method}: {reason}")


def _check_repeatable(source: Source, settings: Settings) -> None:
    """Raise UsageError for an option that compares the source with that of an earlier run, where
    the source cannot be read a second time."""
    if settings.resume:
        source.identity_for("--resume")
    if settings.cache is not None:
        source.identity_for("--cache")


def _settings_for(output: str | Path, settings: Settings) -> Settings:
    """The settings for an output by its name as the user wrote it: a folder ``shot.v2/`` holds
    pictures, although its name seems to have a suffix. Raises UsageError for a name that is not
    a path or has another format's suffix, OutputError for one that is too long."""
    if not isinstance(output, str | os.PathLike):
        raise UsageError(f"output {output!r}: expected a path: a str or a pathlib.Path")
    check_names(output, settings)
    chosen = settings.codec or settings.format
    if chosen:
        check_suffix(output, by_name(chosen))
        return settings
    if not Path(output).suffix or not names_folder(output):
        return settings
    return settings.changed(format="png")


def _extra_output_names(settings: Settings) -> list[str]:
    """The names of the requested extra outputs, as the user wrote them."""
    named = (settings.matte, settings.foreground_file, settings.comp)
    return [name for name in named if name is not None]


def check_names(output: str | Path | None, settings: Settings) -> None:
    """Raise UsageError where the name of a result, as the user wrote it, is not a path to a
    file, OutputError where it is too long."""
    from vidmatte.writers.output_paths import check_new_names

    for name in ([] if output is None else [output]) + _extra_output_names(settings):
        try:
            os.fsencode(name)
        except UnicodeEncodeError:
            raise UsageError(
                f"{str(name)!r}: the name contains an unpaired surrogate: remove it"
            ) from None
        if name == "":  # which Path takes for the current folder
            raise UsageError("the output's name is empty: name a file or a folder")
        if "\0" in str(name):
            raise UsageError(f"{str(name)!r}: the name contains a NUL character: remove it")
        if name == "-":
            raise UsageError(
                "-: stdout takes one result, that of -o, of one input: name a file (one of that"
                " name is ./-)"
            )
        if (url := as_url(name)) is not None:
            step = f"use the path, {url[1]}" if url[1] else "name a file on this machine"
            raise UsageError(f"{url[0]}: URLs are not supported as outputs: {step}")
        check_new_names(Path(name))
        if ends_in_slash(name) and is_pattern(Path(name)):
            raise UsageError(
                f"{name}: a folder's name cannot contain a frame number: remove the slash to write"
                " pictures of that name, or rename the folder"
            )


def inputs_of(source: Path | None, settings: Settings) -> dict[_Inode, Path]:
    """Every file that a run reads, and the folders that contain them, by device and inode."""
    named = [source] if source is not None and source.exists() else []
    named += [path for _, path in files_to_read(settings)]
    return {inode_of(file): file for path in named for file in [path, *files_of(path)]}


def inode_of(path: Path) -> _Inode:
    """Device and inode of a file or folder: the same for all its names."""
    status = path.stat()
    return status.st_dev, status.st_ino


def check_replaced(out: Path, files: Iterable[Path], inputs: dict[_Inode, Path]) -> None:
    """Raise UsageError where one of ``files``, which ``out`` replaces, is one of ``inputs``."""
    for path in files:
        if path.exists() and (found := inputs.get(inode_of(path))):
            raise UsageError(
                f"{out}: that would replace {found}, an input itself; name another output"
            )


def _replaced_files(spec: OutputSpec) -> Iterator[Path]:
    """The files, existing or not, that an output would replace."""
    out, suffix = spec.out, spec.row.suffixes[0]
    if is_standard_stream(out):
        return
    if is_pattern(out):
        yield from _found_in(out.parent, pattern_regex(out.name))
        return
    yield out
    if spec.row.container is not None or spec.is_single:
        return
    if spec.clip.output_names:
        yield from (out / (name + suffix) for name in spec.clip.output_names)
    else:
        yield from _found_in(out, re.compile(rf"\d{{{DIGITS},}}{re.escape(suffix)}"))


def _found_in(folder: Path, names: re.Pattern[str]) -> Iterator[Path]:
    """The files of a folder that match ``names``; none where the folder does not exist."""
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if names.fullmatch(path.name))

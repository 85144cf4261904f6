"""The path of each input's result, and of each subject's."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from vidmatte.core.names import absolute_path, names_folder
from vidmatte.errors import UsageError
from vidmatte.jobs.check import check_names, inode_of
from vidmatte.jobs.manifest import check_place
from vidmatte.jobs.spec import Job
from vidmatte.readers.open import is_image
from vidmatte.settings import Settings
from vidmatte.writers.formats import by_name


def plan_outputs(
    inputs: list[Path], output: str | Path | None, settings: Settings
) -> list[tuple[Path, Path]]:
    """(input, output) pairs. Raises UsageError where two outputs share a path or one is an input.

    One input: ``output`` itself; in a folder for one file, the input's name.
    Several: ``output`` is a folder; each result is named after its input. Without
    ``output`` the result is written beside its input, with ``_matte`` added to its name. A name
    that ends in a slash is a folder's, even if it contains dots. Raises OutputError for a name
    that is too long.
    """
    check_names(output, settings)
    is_folder = output is not None and names_folder(output)
    output = None if output is None else Path(output)
    if len(inputs) > 1 and output is not None and output.suffix and not is_folder:
        raise UsageError(
            f"-o {output}: {len(inputs)} inputs need a folder, like -o cuts/ --format mov"
        )
    if len(inputs) > 1:
        for flag in ("matte", "foreground_file", "comp"):
            if getattr(settings, flag) is not None:
                raise UsageError(
                    f"--{flag.replace('_', '-')} {getattr(settings, flag)}: one file for"
                    f" {len(inputs)} inputs; run them one by one"
                )
    if len(inputs) == 1 and output is not None:
        pairs = [(inputs[0], _single_target(inputs[0], output, is_folder, settings))]
    else:
        folders = _result_folders(inputs, output)
        names = _result_names(inputs, folders)
        pairs = [
            (
                source,
                result_path(
                    source, folder / name if output else source.parent / f"{name}_matte", settings
                ),
            )
            for source, folder, name in zip(inputs, folders, names, strict=True)
        ]
    existing = {inode_of(source) for source in inputs if source.exists()}
    for _, target in pairs:
        # A name too long for the file system is reported when its job is checked.
        if os.path.exists(target) and inode_of(target) in existing:  # noqa: PTH110
            raise UsageError(f"-o {target}: that is an input itself; name another output")
    return pairs


def _result_folders(inputs: list[Path], output: Path | None) -> list[Path]:
    """The folder of each input's result: its own without ``output``; in that those of pictures
    from several folders keep their subfolders."""
    parents = [absolute_path(source).parent for source in inputs]
    if output is None:
        return parents
    of_stills = {parent for source, parent in zip(inputs, parents, strict=True) if is_image(source)}
    if len(of_stills) < 2 or len({parent.anchor for parent in of_stills}) > 1:
        return [output] * len(inputs)
    root = os.path.commonpath(of_stills)
    return [
        output / parent.relative_to(root) if is_image(source) else output
        for source, parent in zip(inputs, parents, strict=True)
    ]


def _single_target(source: Path, output: Path, is_folder: bool, settings: Settings) -> Path:
    """The target of a single input; inside ``output`` where that is a folder for one file."""
    single = is_image(source)
    suffix = _file_suffix(single, settings) if single or settings.codec or settings.format else None
    if suffix and (is_folder or not output.suffix):
        return _with_suffix(output / _result_names([source], [output])[0], suffix)
    return output


def result_path(source: Path, target: Path, settings: Settings) -> Path:
    """The path of the result of one of many inputs: ``target`` with the format's suffix, or without
    one for a folder of pictures."""
    return _with_suffix(target, _file_suffix(is_image(source), settings))


def _file_suffix(single: bool, settings: Settings) -> str | None:
    """The suffix of a result that is one file, None for a picture sequence.

    single: whether the input is one picture.
    """
    row = by_name(settings.codec or settings.format or ("png" if single else "prores"))
    return row.suffixes[0] if row.container is not None or single else None


def _with_suffix(target: Path, suffix: str | None) -> Path:
    """``target`` with a suffix added; dots in its name are kept."""
    return target.with_name(target.name + suffix) if suffix else target


def _result_names(inputs: list[Path], folders: list[Path]) -> list[str]:
    """A name for each input's result: its stem, with its suffix where two stems are equal.

    folders: the folder of each result; only names in the same folder must differ. Raises
    UsageError where two inputs share even name and suffix.
    """
    stems = [source.stem if source.suffix else source.resolve().name for source in inputs]
    shared = Counter(zip(folders, stems, strict=True))
    names = [
        stem if shared[folder, stem] == 1 else source.name.replace(".", "_")
        for folder, stem, source in zip(folders, stems, inputs, strict=True)
    ]
    counts = Counter(zip(folders, names, strict=True))
    for (folder, name), count in counts.items():
        if count > 1:
            raise UsageError(
                f"two inputs would both be written as '{name}' in {folder}: run them one by one"
            )
    return names


def job_for_each_subject(job: Job, folder: Path) -> list[Job]:
    """A job for each subject, its name added to the output's. folder: what all of them share.

    Raises UsageError.
    """
    from vidmatte.alpha.guidance.subjects_file import subject_names

    settings, out = job.settings, job.output
    if settings.only is not None:
        raise UsageError(f"--each and --only {settings.only} exclude each other")
    if settings.exr_layers:
        raise UsageError("--each and --exr-layers exclude each other: a file a subject, or layers")
    names = subject_names(settings.subject, settings.subjects)
    if not names:
        raise UsageError("--each: it needs --subject or --subjects with a NAME: for each subject")
    extra = next(
        (one for one in ("matte", "foreground_file", "comp") if getattr(settings, one)), ""
    )
    if extra and len(names) > 1:
        flag = f"--{extra.replace('_', '-')}"
        raise UsageError(f"{flag} {getattr(settings, extra)}: one file for {len(names)} subjects")
    return [
        replace(
            job,
            output=out.with_name(f"{out.stem}_{name}{out.suffix}"),
            settings=settings.changed(only=name),
            subject_folder=folder,
        )
        for name in names
    ]


def call_folder(folder: Path | None, jobs: list[Job]) -> Path | None:
    """The folder whose manifest lists all results; None without ``--manifest one``. Raises
    UsageError, OutputExistsError."""
    settings = jobs[0].settings
    if settings.manifest != "one":
        return None
    if folder is None:
        raise UsageError("--manifest one: it is written beside the folder of the results: add -o")
    if not all(absolute_path(job.output).is_relative_to(absolute_path(folder)) for job in jobs):
        folder = folder.parent
    check_place(folder, settings.overwrite)
    return folder

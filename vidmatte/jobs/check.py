"""Everything about a job that can be checked before anything is fetched, loaded or written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from vidmatte.core.frame import Clip
from vidmatte.core.names import as_url, pattern_regex
from vidmatte.core.source import Source
from vidmatte.errors import UsageError
from vidmatte.option import names_of
from vidmatte.readers.image_folder import files_of
from vidmatte.settings import Settings
from vidmatte.writers.formats import by_name, check_suffix, ends_in_slash, is_pattern, names_folder
from vidmatte.writers.images import DIGITS
from vidmatte.writers.open import output_class, output_specs
from vidmatte.writers.output import OutputSpec

#: The options that name a file or folder which is read.
READ_OPTIONS = names_of(Settings, reads=True)
_Inode = tuple[int, int]


def check_outputs(out: Path, clip: Clip, settings: Settings, *, is_folder: bool = False) -> None:
    """Everything about an output that can be told without touching a file.

    is_folder: see ``open_sink``. Raises UsageError (format and clip do not fit, or an input
    would be replaced), OutputExistsError, SinkError.
    """
    from vidmatte.alpha.foreground import uses_model_foreground
    from vidmatte.core.names import absolute_path
    from vidmatte.jobs.manifest import check_place
    from vidmatte.writers.output_paths import check_companions, check_lengths

    _check_repeatable(clip.source, settings)
    uses_model_foreground(settings, clip)
    check_lengths(out, settings)
    for name in _extra_output_names(settings):
        check_lengths(Path(name))
    if settings.manifest:
        check_place(out, settings.overwrite)
    inputs = inputs_of(clip.source.path, settings)
    check_companions(out, settings)
    seen: set[Path] = set()
    for plan in output_specs(out, clip, settings, is_folder):
        if plan.layer.background is not None:
            plan.layer.background.close()
        check_replaced(plan.out, replaced_files(plan), inputs)
        output_class(plan.row).check(plan)
        place = absolute_path(plan.out)
        place = place.parent.resolve() / place.name
        if place in seen:
            raise UsageError(f"{plan.out}: two results of one run would go there")
        seen.add(place)
    if settings.start_number and not any(is_pattern(path) for path in seen):
        raise UsageError(
            f"--start-number {settings.start_number}: it needs a name like -o 'cut/shot_%06d.png'"
        )


def _check_repeatable(source: Source, settings: Settings) -> None:
    """Raise UsageError for an option that compares the source with an earlier run's, where that
    cannot be read a second time."""
    if settings.resume:
        source.identity_for("--resume")
    if settings.cache is not None:
        source.identity_for("--cache")


def settings_for(output: str | Path, settings: Settings) -> Settings:
    """The settings for an output by its name as it was written: a folder ``shot.v2/`` takes
    pictures, whatever its dot looks like. Raises UsageError for a name that is none or has another
    format's suffix, SinkError for one that is too long."""
    if not isinstance(output, str | os.PathLike):
        raise UsageError(f"output {output!r}: a path is wanted: a str or a pathlib.Path")
    check_names(output, settings)
    chosen = settings.codec or settings.format
    if chosen:
        check_suffix(output, by_name(chosen))
        return settings
    if not Path(output).suffix or not names_folder(output):
        return settings
    return replace(settings, format="png")


def _extra_output_names(settings: Settings) -> list[str]:
    """The names of the side results that are wanted, as they were written."""
    named = (settings.matte, settings.foreground_file, settings.comp)
    return [name for name in named if name is not None]


def check_names(output: str | Path | None, settings: Settings) -> None:
    """Raise UsageError where a result's name, as it was written, is no path to a file, SinkError
    where it is too long."""
    from vidmatte.writers.output_paths import check_new_names

    for name in ([] if output is None else [output]) + _extra_output_names(settings):
        try:
            os.fsencode(name)
        except UnicodeEncodeError:
            raise UsageError(
                f"{str(name)!r}: no name has half a character in it: leave it out"
            ) from None
        if name == "":  # which Path takes for the current folder
            raise UsageError("the output's name is empty: write a file or a folder")
        if "\0" in str(name):
            raise UsageError(f"{str(name)!r}: no name has a NUL character in it: leave it out")
        if name == "-":
            raise UsageError(
                "-: nothing is written to stdout: name a file (a folder of that name is ./-)"
            )
        if (url := as_url(name)) is not None:
            step = f"write the path itself, {url[1]}" if url[1] else "name a file on this machine"
            raise UsageError(f"{url[0]}: nothing is written to URLs: {step}")
        check_new_names(Path(name))
        if ends_in_slash(name) and is_pattern(Path(name)):
            raise UsageError(
                f"{name}: a folder's name takes no frame number: leave the slash out for pictures"
                " of that name, or name the folder otherwise"
            )


def inputs_of(source: Path | None, settings: Settings) -> dict[_Inode, Path]:
    """Every file that a run reads, and the folders that they are named by, by device and inode."""
    named = [source] if source is not None and source.exists() else []
    named += [path for _, path in files_to_read(settings)]
    return {inode_of(file): file for path in named for file in [path, *files_of(path)]}


def files_to_read(settings: Settings) -> Iterator[tuple[str, Path]]:
    """The options that name a file or folder which is there to be read, and what they name; a
    colour is none."""
    for name in READ_OPTIONS:
        text = getattr(settings, name)
        if text and Path(text).exists():
            yield name, Path(text)


def inode_of(path: Path) -> _Inode:
    """What a file or folder is, by whatever name."""
    status = path.stat()
    return status.st_dev, status.st_ino


def check_replaced(out: Path, files: Iterable[Path], inputs: dict[_Inode, Path]) -> None:
    """Raise UsageError where ``files``, which ``out`` replaces, hold one of ``inputs``."""
    for path in files:
        if path.exists() and (found := inputs.get(inode_of(path))):
            raise UsageError(
                f"{out}: that would replace {found}, an input itself; name another output"
            )


def replaced_files(plan: OutputSpec) -> Iterator[Path]:
    """The files, there or not, that an output would replace."""
    out, suffix = plan.out, plan.row.suffixes[0]
    if is_pattern(out):
        yield from _found_in(out.parent, pattern_regex(out.name))
        return
    yield out
    if plan.row.container is not None or plan.is_single:
        return
    if plan.clip.output_names:
        yield from (out / (name + suffix) for name in plan.clip.output_names)
    else:
        yield from _found_in(out, re.compile(rf"\d{{{DIGITS},}}{re.escape(suffix)}"))


def _found_in(folder: Path, names: re.Pattern[str]) -> Iterator[Path]:
    """The files of a folder, which need not be there, with such names."""
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if names.fullmatch(path.name))

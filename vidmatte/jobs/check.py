"""No result may take the place of something that the run reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from vidmatte.core.names import pattern_regex
from vidmatte.errors import UsageError
from vidmatte.option import names_of
from vidmatte.readers.image_folder import files_of
from vidmatte.settings import Settings
from vidmatte.writers.formats import is_pattern
from vidmatte.writers.images import DIGITS
from vidmatte.writers.output import OutputSpec

#: The options that name a file or folder which is read.
READ_OPTIONS = names_of(Settings, reads=True)
_Inode = tuple[int, int]


def inputs_of(source: Path, settings: Settings) -> dict[_Inode, Path]:
    """Every file that a run reads, and the folders that they are named by, by device and inode."""
    named = [source] if source.exists() else []
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

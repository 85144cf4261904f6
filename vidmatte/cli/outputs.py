"""Where each input's result goes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from vidmatte.errors import UsageError
from vidmatte.settings import Settings
from vidmatte.sink.formats import by_name


def plan_outputs(
    inputs: list[Path], output: Path | None, settings: Settings
) -> list[tuple[Path, Path]]:
    """(input, output) pairs. Raises UsageError where two would meet or one is its source.

    One input: ``output`` as it is; a folder for a movie format takes the input's name.
    Several: ``output`` is a folder; each result is called after its input. Without
    ``output`` the result stands beside its input, ``_matte`` added to its name.
    """
    if len(inputs) > 1 and output is not None and output.suffix and not output.is_dir():
        raise UsageError(
            f"-o {output}: for {len(inputs)} inputs give a folder, like -o cuts/ --format mov"
        )
    if len(inputs) > 1:
        for flag in ("matte", "foreground_file", "comp"):
            if getattr(settings, flag) is not None:
                raise UsageError(
                    f"--{flag.replace('_', '-')} {getattr(settings, flag)}: one file for"
                    f" {len(inputs)} inputs; do them one by one"
                )
    if len(inputs) == 1 and output is not None:
        pairs = [(inputs[0], single_target(inputs[0], output, settings))]
    else:
        names = result_names(inputs)
        suffix = movie_suffix(settings.codec or settings.format or "prores")
        pairs = [
            (source, (output / name if output else source.parent / f"{name}_matte"))
            for source, name in zip(inputs, names, strict=True)
        ]
        pairs = [(source, with_suffix(target, suffix)) for source, target in pairs]
    for source, target in pairs:
        if source.exists() and target.exists() and source.samefile(target):
            raise UsageError(f"-o {target}: that is the input itself; name another output")
    return pairs


def single_target(source: Path, output: Path, settings: Settings) -> Path:
    """The target of a single input; inside ``output`` where that is a folder for a movie."""
    chosen = settings.codec or settings.format
    suffix = movie_suffix(chosen) if chosen else None
    if suffix and not output.suffix:
        return with_suffix(output / source.stem, suffix)
    return output


def movie_suffix(format_name: str) -> str | None:
    """The suffix of a format that makes one file, None for picture sequences."""
    row = by_name(format_name)
    return row.suffixes[0] if row.container is not None else None


def with_suffix(target: Path, suffix: str | None) -> Path:
    """``target`` with a suffix added (a dot in its name is no suffix)."""
    return target.with_name(target.name + suffix) if suffix else target


def result_names(inputs: list[Path]) -> list[str]:
    """A name for each input's result: its stem, with its suffix where stems meet.

    Raises UsageError where two inputs share even that.
    """
    stems = [source.stem if source.suffix else source.resolve().name for source in inputs]
    shared = Counter(stems)
    names = [
        stem if shared[stem] == 1 else source.name.replace(".", "_")
        for stem, source in zip(stems, inputs, strict=True)
    ]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(f"two inputs would both be written as '{twice[0]}': do them one by one")
    return names

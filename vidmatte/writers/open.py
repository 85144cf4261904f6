"""Where frames go: movies with alpha, picture sequences, one picture.

``open_sink`` makes a sink (``base``) of what the settings ask for. ``formats`` is the table of
what can be written, each a ``row``; ``sides`` has those of the results beside the main one.
Every result is an ``output``, of pictures that ``make`` makes of a frame and ``encode`` has the
encoders for: a ``movie``, with its ``sound``, or ``pictures``. ``pooled`` feeds all outputs from
one pass over the frames, on a ``pool`` of threads; ``keep`` does so for ``--resume``. ``partial``
has what is unfinished, ``places``, ``names`` and ``lengths`` what stands beside a result,
``guard`` what must not be replaced. ``point`` says where a run begins, ``manifest`` how a result
was made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidmatte.core.frame import Clip
from vidmatte.core.names import as_url
from vidmatte.errors import UsageError
from vidmatte.settings import Settings
from vidmatte.writers.base import Writer, WriteResult
from vidmatte.writers.extra_outputs import ExtraOutputs
from vidmatte.writers.format_spec import OutputFormat
from vidmatte.writers.formats import (
    by_name,
    check_suffix,
    choose,
    ends_in_slash,
    is_pattern,
    names_folder,
)

if TYPE_CHECKING:
    from vidmatte.writers.images import ImageOutput
    from vidmatte.writers.movie import MovieOutput
    from vidmatte.writers.output import OutputSpec

__all__ = [
    "ExtraOutputs",
    "WriteResult",
    "Writer",
    "check_names",
    "check_outputs",
    "choose",
    "open_writer",
    "settings_for",
]  # fmt: skip


def open_writer(
    out: Path,
    clip: Clip,
    settings: Settings,
    facts: dict[str, Any] | None = None,
    *,
    is_folder: bool = False,
) -> Writer:
    """A sink that writes ``clip`` to ``out`` in the format of its suffix or of the settings,
    and the side results with it.

    facts: what decides the result besides its format; ``--resume`` takes up work of the
    same facts alone. is_folder: ``out`` is a folder, though its name may look like a picture's.
    Everything is checked before a file is touched. Raises UsageError (format and clip do not
    fit), OutputExistsError, SinkError.
    """
    from vidmatte.writers.multi_writer import MultiWriter

    check_outputs(out, clip, settings, is_folder=is_folder)
    outputs = [
        _output_class(plan.row)(plan) for plan in _output_specs(out, clip, settings, is_folder)
    ]
    if settings.resume and clip.kind != "picture":
        from vidmatte.jobs.checkpoint.writer import open_checkpoint

        return open_checkpoint(clip, settings, outputs, facts or {})
    return MultiWriter(clip, settings, outputs)


def check_outputs(out: Path, clip: Clip, settings: Settings, *, is_folder: bool = False) -> None:
    """Everything about an output that can be told without touching a file.

    is_folder: see ``open_sink``. Raises UsageError (format and clip do not fit, or an input
    would be replaced), OutputExistsError, SinkError.
    """
    from vidmatte.alpha.foreground import uses_model_foreground
    from vidmatte.core.names import absolute_path
    from vidmatte.jobs.check import check_replaced, inputs_of, replaced_files
    from vidmatte.jobs.manifest import check_place
    from vidmatte.writers.output_paths import check_companions, check_lengths

    uses_model_foreground(settings, clip)
    check_lengths(out, settings)
    for name in _extra_output_names(settings):
        check_lengths(Path(name))
    if settings.manifest:
        check_place(out, settings.overwrite)
    inputs = inputs_of(clip.path, settings)
    check_companions(out, settings)
    seen: set[Path] = set()
    for plan in _output_specs(out, clip, settings, is_folder):
        if plan.layer.background is not None:
            plan.layer.background.close()
        check_replaced(plan.out, replaced_files(plan), inputs)
        _output_class(plan.row).check(plan)
        place = absolute_path(plan.out)
        place = place.parent.resolve() / place.name
        if place in seen:
            raise UsageError(f"{plan.out}: two results of one run would go there")
        seen.add(place)
    if settings.start_number and not any(is_pattern(path) for path in seen):
        raise UsageError(
            f"--start-number {settings.start_number}: it needs a name like -o 'cut/shot_%06d.png'"
        )


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


def _output_specs(
    out: Path, clip: Clip, settings: Settings, is_folder: bool
) -> Iterator[OutputSpec]:
    """The main output and the side ones. Raises UsageError, SourceError."""
    from vidmatte.jobs.checkpoint.folder import may_replace
    from vidmatte.writers.output import Layer, OutputSpec
    from vidmatte.writers.output_paths import output_paths
    from vidmatte.writers.render.background import CHECKER, open_background
    from vidmatte.writers.render.layers import CompLayer, CutoutLayer, ForegroundLayer, MatteLayer

    folder = output_paths(out).work

    def plan(
        path: Path, row: OutputFormat, show: Layer, audio: bool, is_folder: bool
    ) -> OutputSpec:
        return OutputSpec(
            path,
            clip,
            row,
            settings.overwrite or (settings.resume and may_replace(path, folder)),
            audio and settings.audio,
            show,
            start_number=settings.start_number,
            is_folder=is_folder,
        )

    premultiplied = settings.alpha == "premultiplied"
    row = choose(out, settings.codec or settings.format)
    main = plan(out, row, CutoutLayer(premultiplied), True, is_folder)
    yield replace(main, premultiplied=premultiplied)
    sides = ExtraOutputs.of(settings)
    for what, path, row in sides.wanted(clip):
        is_side_folder = what in sides.folders
        if what == "comp":
            background = open_background(sides.background or CHECKER, clip)
            yield plan(path, row, CompLayer(background), True, is_side_folder)
        else:
            # Laid over each other on a timeline: the sound comes with the main result.
            show = MatteLayer() if what == "matte" else ForegroundLayer()
            yield plan(path, row, show, False, is_side_folder)


def _output_class(row: OutputFormat) -> type[MovieOutput] | type[ImageOutput]:
    """The class that writes this format; loaded when the first output is opened."""
    from vidmatte.writers.images import ImageOutput
    from vidmatte.writers.movie import MovieOutput

    return ImageOutput if row.container is None else MovieOutput

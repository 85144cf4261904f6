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
from vidmatte.writers.base import Sink, Written
from vidmatte.writers.extra_outputs import Sides
from vidmatte.writers.format_spec import Format
from vidmatte.writers.formats import (
    by_name,
    check_suffix,
    choose,
    ends_in_slash,
    is_pattern,
    names_folder,
)

if TYPE_CHECKING:
    from vidmatte.writers.images import PictureOutput
    from vidmatte.writers.movie import MovieOutput
    from vidmatte.writers.output import Plan

__all__ = [
    "Sides", "Sink", "Written", "check_names", "check_sink", "choose",
    "open_sink", "settings_for",
]  # fmt: skip


def open_sink(
    out: Path,
    clip: Clip,
    settings: Settings,
    facts: dict[str, Any] | None = None,
    *,
    is_folder: bool = False,
) -> Sink:
    """A sink that writes ``clip`` to ``out`` in the format of its suffix or of the settings,
    and the side results with it.

    facts: what decides the result besides its format; ``--resume`` takes up work of the
    same facts alone. is_folder: ``out`` is a folder, though its name may look like a picture's.
    Everything is checked before a file is touched. Raises UsageError (format and clip do not
    fit), OutputExistsError, SinkError.
    """
    from vidmatte.writers.multi_writer import PooledSink

    check_sink(out, clip, settings, is_folder=is_folder)
    outputs = [kind_of(plan.row)(plan) for plan in plans(out, clip, settings, is_folder)]
    if settings.resume and clip.kind != "picture":
        from vidmatte.jobs.checkpoint.writer import open_kept

        return open_kept(clip, settings, outputs, facts or {})
    return PooledSink(clip, settings, outputs)


def check_sink(out: Path, clip: Clip, settings: Settings, *, is_folder: bool = False) -> None:
    """Everything about an output that can be told without touching a file.

    is_folder: see ``open_sink``. Raises UsageError (format and clip do not fit, or an input
    would be replaced), OutputExistsError, SinkError.
    """
    from vidmatte.alpha.foreground import takes_models_colours
    from vidmatte.core.names import whole
    from vidmatte.jobs.check import check_replaced, inputs_of, replaced
    from vidmatte.jobs.manifest import check_place
    from vidmatte.writers.output_paths import check_beside, check_lengths

    takes_models_colours(settings, clip)
    check_lengths(out, settings)
    for name in side_names(settings):
        check_lengths(Path(name))
    if settings.manifest:
        check_place(out, settings.overwrite)
    inputs = inputs_of(clip.path, settings)
    check_beside(out, settings)
    seen: set[Path] = set()
    for plan in plans(out, clip, settings, is_folder):
        if plan.show.background is not None:
            plan.show.background.close()
        check_replaced(plan.out, replaced(plan), inputs)
        kind_of(plan.row).check(plan)
        place = whole(plan.out)
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


def side_names(settings: Settings) -> list[str]:
    """The names of the side results that are wanted, as they were written."""
    named = (settings.matte, settings.foreground_file, settings.comp)
    return [name for name in named if name is not None]


def check_names(output: str | Path | None, settings: Settings) -> None:
    """Raise UsageError where a result's name, as it was written, is no path to a file, SinkError
    where it is too long."""
    from vidmatte.writers.output_paths import check_new_names

    for name in ([] if output is None else [output]) + side_names(settings):
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


def plans(out: Path, clip: Clip, settings: Settings, is_folder: bool) -> Iterator[Plan]:
    """The main output and the side ones. Raises UsageError, SourceError."""
    from vidmatte.jobs.checkpoint.folder import may_replace
    from vidmatte.writers.output import Plan, Show
    from vidmatte.writers.output_paths import places_of
    from vidmatte.writers.render.background import CHECKER, open_background
    from vidmatte.writers.render.layers import CompShow, CutoutShow, ForegroundShow, MatteShow

    folder = places_of(out).work

    def plan(path: Path, row: Format, show: Show, audio: bool, is_folder: bool) -> Plan:
        return Plan(
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
    main = plan(out, row, CutoutShow(premultiplied), True, is_folder)
    yield replace(main, premultiplied=premultiplied)
    sides = Sides.of(settings)
    for what, path, row in sides.wanted(clip):
        is_side_folder = what in sides.folders
        if what == "comp":
            background = open_background(sides.background or CHECKER, clip)
            yield plan(path, row, CompShow(background), True, is_side_folder)
        else:
            # Laid over each other on a timeline: the sound comes with the main result.
            show = MatteShow() if what == "matte" else ForegroundShow()
            yield plan(path, row, show, False, is_side_folder)


def kind_of(row: Format) -> type[MovieOutput] | type[PictureOutput]:
    """The class that writes this format; loaded when the first output is opened."""
    from vidmatte.writers.images import PictureOutput
    from vidmatte.writers.movie import MovieOutput

    return PictureOutput if row.container is None else MovieOutput

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

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vidmatte.core.frame import Clip
from vidmatte.settings import Settings
from vidmatte.writers.extra_outputs import ExtraOutputs
from vidmatte.writers.format_spec import OutputFormat
from vidmatte.writers.formats import (
    choose,
)

if TYPE_CHECKING:
    from vidmatte.writers.images import ImageOutput
    from vidmatte.writers.movie import MovieOutput
    from vidmatte.writers.output import OutputSpec


def output_specs(
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


def output_class(row: OutputFormat) -> type[MovieOutput] | type[ImageOutput]:
    """The class that writes this format; loaded when the first output is opened."""
    from vidmatte.writers.images import ImageOutput
    from vidmatte.writers.movie import MovieOutput

    return ImageOutput if row.container is None else MovieOutput

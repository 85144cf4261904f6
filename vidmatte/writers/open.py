"""Which outputs a job has: the main one and the extra ones, each with its format and class.

``formats`` is the table of what can be written, ``extra_outputs`` has the formats of the
results beside the main one. An ``Output`` is a ``movie`` or ``images``; ``multi_writer`` feeds
all outputs of a job from one pass over its frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vidmatte.core.frame import Clip
from vidmatte.settings import Settings
from vidmatte.writers.extra_outputs import ExtraOutputs
from vidmatte.writers.format_spec import OutputFormat
from vidmatte.writers.formats import choose

if TYPE_CHECKING:
    from vidmatte.writers.images import ImageOutput
    from vidmatte.writers.movie import MovieOutput
    from vidmatte.writers.output import OutputSpec


def output_specs(
    out: Path,
    clip: Clip,
    settings: Settings,
    is_folder: bool,
    may_replace: Callable[[Path], bool] = lambda _: False,
) -> Iterator[OutputSpec]:
    """The main output and the extra ones.

    may_replace: whether what stands at a path may be replaced without ``--overwrite``.
    Raises UsageError, SourceError.
    """
    from vidmatte.writers.output import Layer, OutputSpec
    from vidmatte.writers.render.background import CHECKER, open_background
    from vidmatte.writers.render.layers import CompLayer, CutoutLayer, ForegroundLayer, MatteLayer

    def plan(
        path: Path, row: OutputFormat, show: Layer, audio: bool, is_folder: bool
    ) -> OutputSpec:
        return OutputSpec(
            path,
            clip,
            row,
            settings.overwrite or may_replace(path),
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

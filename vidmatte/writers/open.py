"""The outputs of a job: the main one and the extra ones, each with its format and class.

``formats`` is the table of output formats, ``extra_outputs`` has those of the extra outputs.
An ``Output`` is a ``MovieOutput`` or an ``ImageOutput``; ``MultiWriter`` feeds all outputs of
a job from one pass over its frames.
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
    """The specs of the main output and the extra ones, in this order.

    may_replace: whether an existing file or folder may be replaced without ``--overwrite``.
    Raises UsageError, SourceError.
    """
    from vidmatte.writers.output import Layer, OutputSpec
    from vidmatte.writers.render.background import CHECKER, open_background
    from vidmatte.writers.render.layers import CompLayer, CutoutLayer, ForegroundLayer, MatteLayer

    def output_spec(
        path: Path, row: OutputFormat, layer: Layer, audio: bool, is_folder: bool
    ) -> OutputSpec:
        return OutputSpec(
            path,
            clip,
            row,
            settings.overwrite or may_replace(path),
            audio and settings.audio,
            layer,
            start_number=settings.start_number,
            is_folder=is_folder,
        )

    row = choose(out, settings.codec or settings.format)
    premultiplied = row.premultiplies(settings.alpha)
    main = output_spec(out, row, CutoutLayer(premultiplied), True, is_folder)
    yield replace(main, premultiplied=premultiplied)
    extras = ExtraOutputs.of(settings)
    for what, path, row in extras.requested(clip):
        is_extra_folder = what in extras.folders
        if what == "comp":
            background = open_background(extras.background or CHECKER, clip)
            yield output_spec(path, row, CompLayer(background), True, is_extra_folder)
        else:
            # Used on a timeline together with the main output, which carries the sound.
            layer = MatteLayer() if what == "matte" else ForegroundLayer()
            yield output_spec(path, row, layer, False, is_extra_folder)


def output_class(row: OutputFormat) -> type[MovieOutput] | type[ImageOutput]:
    """The class that writes this format, imported on first use."""
    from vidmatte.writers.images import ImageOutput
    from vidmatte.writers.movie import MovieOutput

    return ImageOutput if row.container is None else MovieOutput

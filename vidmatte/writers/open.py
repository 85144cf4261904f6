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
from vidmatte.core.names import is_standard_stream
from vidmatte.errors import UsageError
from vidmatte.settings import Settings
from vidmatte.settings.still_values import parse_shadow, parse_size
from vidmatte.writers.extra_outputs import ExtraOutputs, opaque_format
from vidmatte.writers.format_spec import OutputFormat
from vidmatte.writers.formats import choose
from vidmatte.writers.stream_formats import opaque_stream_format, stream_format

if TYPE_CHECKING:
    from vidmatte.writers.output import Output, OutputSpec


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
    from vidmatte.writers.render.background import CHECKER, main_background, open_background
    from vidmatte.writers.render.layers import CompLayer, CutoutLayer, ForegroundLayer, MatteLayer

    def output_spec(
        path: Path, row: OutputFormat, layer: Layer, audio: bool, is_folder: bool
    ) -> OutputSpec:
        return OutputSpec(
            path,
            clip,
            _with_options(row, settings),
            settings.overwrite or may_replace(path),
            audio and settings.audio,
            layer,
            start_number=settings.start_number,
            is_folder=is_folder,
        )

    shadow = None if settings.shadow is None else parse_shadow(settings.shadow)
    extras = ExtraOutputs.of(settings)
    row, is_cutout = _main_format(out, clip, settings, extras)
    premultiplied = is_cutout and row.premultiplies(settings.alpha)
    main: Layer = CutoutLayer(premultiplied) if row.fill_of is None else ForegroundLayer()
    if not is_cutout and row.fill_of is None:
        main = CompLayer(main_background(extras.background, out, row, clip), shadow)
    yield replace(output_spec(out, row, main, True, is_folder), premultiplied=premultiplied)
    for what, path, row in extras.requested(clip):
        is_extra_folder = what in extras.folders
        if what == "comp":
            background = open_background(extras.background or CHECKER, clip)
            layer = CompLayer(background, shadow)
            yield output_spec(path, row, layer, True, is_extra_folder)
        else:
            # Used on a timeline together with the main output, which carries the sound.
            plain = MatteLayer() if what == "matte" else ForegroundLayer()
            yield output_spec(path, row, plain, False, is_extra_folder)


def _main_format(
    out: Path, clip: Clip, settings: Settings, extras: ExtraOutputs
) -> tuple[OutputFormat, bool]:
    """The format of the main output, and whether that shows the cut-out, not a composite. Raises
    UsageError."""
    name = settings.codec or settings.format
    has_background = extras.background is not None and extras.comp is None
    if is_standard_stream(out):
        row = opaque_stream_format(name) if has_background else stream_format(name)
    else:
        row = opaque_format(out, name, clip) if has_background else choose(out, name)
    is_cutout = row.has_alpha and not has_background
    if not is_cutout and row.fill_of is None and settings.alpha == "premultiplied":
        raise UsageError(f"--alpha premultiplied: {out.name} has a background, and no alpha")
    return row, is_cutout


def _with_options(row: OutputFormat, settings: Settings) -> OutputFormat:
    """The row with the quality and the density of the settings, where it has a choice of them."""
    chosen = {}
    if settings.quality and row.quality is not None:
        chosen = row.quality(settings.quality)
    if settings.exr_compression is not None and row.has_compression:
        chosen = {**chosen, "compression": settings.exr_compression}
    dpi = None if settings.size is None else parse_size(settings.size).dpi
    if dpi is not None and row.stores_density:
        chosen = {**chosen, "dpi": str(dpi)}
    return replace(row, options={**row.options, **chosen}) if chosen else row


def output_class(spec: OutputSpec) -> type[Output]:
    """The class that writes this output, imported on first use."""
    from vidmatte.writers.images import ImageOutput
    from vidmatte.writers.movie import MovieOutput
    from vidmatte.writers.stream import PictureStreamOutput, StreamOutput

    is_movie = spec.row.container is not None
    if is_standard_stream(spec.out):
        return StreamOutput if is_movie else PictureStreamOutput
    return MovieOutput if is_movie else ImageOutput

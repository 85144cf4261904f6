"""The options of ``Settings`` as typed keyword arguments.

Written out, because a type checker cannot derive them; a test compares both.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias, TypedDict

from vidmatte.core.prompts import Prompt

#: The types that are converted to an option's text, as on the command line.
Text: TypeAlias = str | os.PathLike[str] | float | Fraction | tuple[float, float]


class StreamOptions(TypedDict, total=False):
    """The keyword options of ``vidmatte.stream``; see ``vidmatte.Settings``."""

    model: Text
    family: str | None
    accept_licence: Text | None
    combine: str
    cache: Text | None
    smooth: str
    smooth_strength: float
    refine: str
    foreground: Text
    normalize: str
    pace: Text
    screen: Text | None
    key: Text | None
    keep_shadows: bool
    clean_plate: Text | None
    like: str | None
    downsample: float
    cuts: bool
    subject: Prompt | str | Sequence[Prompt | str]
    subjects: Text | None
    only: Text | None
    follow: str
    trimap: Text | None
    threshold: Text | None
    gamma: float
    keep_largest: bool
    remove_specks: int
    fill_holes: int
    dilate: float
    erode: float
    feather: float
    garbage_matte: Text | None
    holdout: Text | None
    invert: bool
    despill: str | None
    despill_strength: float
    fps: Text | None
    input_size: Text | None
    input_format: Text | None
    input_fps: Text | None
    video_track: int
    in_point: Text | None
    out_point: Text | None
    handles: int
    conform: Text | None
    deinterlace: str
    colour: Text | None
    max_megapixels: float
    strict: bool
    device: Text
    runtime: str
    batch: int
    threads: int
    memory: Text
    models_dir: Text | None


class Options(StreamOptions, total=False):
    """The keyword options of ``vidmatte.matte``: also those of output files."""

    format: Text | None
    codec: Text | None
    alpha: str
    matte: Text | None
    foreground_file: Text | None
    comp: Text | None
    background: Text | None
    checker: bool
    size: Text | None
    crop: Text | None
    quality: int
    exr_compression: str | None
    exr_layers: bool
    shadow: Text | None
    timeline: Text | Sequence[Text]
    manifest: str | bool
    start_number: int
    audio: bool
    audio_from: Text | None
    audio_tracks: Text | None
    overwrite: bool
    resume: bool

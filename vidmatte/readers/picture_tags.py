"""The colour tags and the ICC profile of a picture file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import av

from vidmatte.core.colour import BT709, FULL, SRGB, UNSPECIFIED, ColourTags, primaries_of
from vidmatte.media.exr import exr_chromaticities
from vidmatte.media.icc import profile_of


def declared_tags(file: Path, frame: av.VideoFrame, stated: Mapping[str, int]) -> ColourTags:
    """The colour tags in a picture's file, and those that ``--colour`` states instead."""
    points = exr_chromaticities(file) if file.suffix.lower() == ".exr" else None
    known = UNSPECIFIED if points is None else primaries_of(points)
    tags = ColourTags(
        chromaticities=points if known == UNSPECIFIED else None,
        matrix=UNSPECIFIED if _is_rgb(frame) else frame.colorspace or UNSPECIFIED,
        range=frame.color_range,
        primaries=frame.color_primaries or UNSPECIFIED if points is None else known,
        transfer=frame.color_trc or UNSPECIFIED,
    )
    return tags.with_stated(stated)


def embedded_profile(file: Path, declared: ColourTags) -> bytes | None:
    """The ICC profile of a picture, unless it has colour tags (PNG's cICP takes precedence)."""
    return profile_of(file) if declared.primaries == UNSPECIFIED else None


def resolved_tags(declared: ColourTags, frame: av.VideoFrame) -> ColourTags:
    """The colour tags of a picture; unspecified ones are those of sRGB, full range."""
    return replace(
        declared,
        range=declared.range or FULL,
        primaries=BT709 if declared.has_no_primaries else declared.primaries,
        transfer=SRGB if declared.transfer == UNSPECIFIED else declared.transfer,
    ).resolved(frame.width, frame.height, _is_rgb(frame))


def _is_rgb(frame: av.VideoFrame) -> bool:
    """True for samples without a matrix: RGB, a palette, or grey."""
    form = frame.format
    return form.is_rgb or form.has_palette or form.name.startswith("gray")

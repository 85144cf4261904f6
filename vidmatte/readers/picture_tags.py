"""What a picture file states beside its samples: colour tags, ICC profile, further pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import av

from vidmatte.core.colour import BT470BG, BT709, FULL, SRGB, UNSPECIFIED, ColourTags, primaries_of
from vidmatte.core.names import counted
from vidmatte.media.exr import exr_chromaticities, left_out_of_exr
from vidmatte.media.heif_items import heif_kind, other_heif_pictures
from vidmatte.media.icc import profile_of
from vidmatte.media.tiff import page_count


def declared_tags(file: Path, frame: av.VideoFrame, stated: Mapping[str, int]) -> ColourTags:
    """The colour tags in a picture's file, and those that ``--colour`` states instead."""
    points = exr_chromaticities(file) if file.suffix.lower() == ".exr" else None
    known = UNSPECIFIED if points is None else primaries_of(points)
    matrix = UNSPECIFIED if _is_rgb(frame) else frame.colorspace or UNSPECIFIED
    if matrix == UNSPECIFIED and frame.format.name.startswith("yuv") and _is_tiff(file):
        matrix = BT470BG  # TIFF 6.0, section 21: the default is that of BT.601
    tags = ColourTags(
        chromaticities=points if known == UNSPECIFIED else None,
        matrix=matrix,
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


def left_out_notes(file: Path) -> Iterator[str]:
    """A line where a file has further pages, layers or pictures than the one that is read.

    Raises SourceError for an OpenEXR without colours.
    """
    suffix = file.suffix.lower()
    if suffix == ".exr" and (clause := left_out_of_exr(file, file.read_bytes())) is not None:
        yield f"{file.name}: {clause}"
    if _is_tiff(file) and (pages := page_count(file.read_bytes())) > 1:
        yield f"{file.name}: it has {pages} pages: the first one is used"
    if heif_kind(file) == "picture" and (others := other_heif_pictures(file)):
        count = counted(others, "other picture")
        yield f"{file.name}: its main picture is used; it has {count}"


def _is_tiff(file: Path) -> bool:
    return file.suffix.lower() in (".tif", ".tiff")

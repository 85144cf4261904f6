"""Colour tags and time, written onto a picture."""

from __future__ import annotations

import av

from vidmatte.colour import ColourTags
from vidmatte.frame import Frame


def tagged(picture: av.VideoFrame, colour: ColourTags, frame: Frame) -> av.VideoFrame:
    """``picture`` with colour tags, and the time of ``frame``."""
    picture.colorspace, picture.color_range = colour.matrix, colour.range
    picture.color_primaries, picture.color_trc = colour.primaries, colour.transfer
    picture.pts, picture.time_base = frame.pts, frame.time_base
    return picture

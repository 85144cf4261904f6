"""Colour tags and time, written onto a picture."""

from __future__ import annotations

import av

from vidmatte.colour import ColourTags
from vidmatte.frame import Frame


def tagged(picture: av.VideoFrame, colour: ColourTags, frame: Frame) -> av.VideoFrame:
    """``picture`` with colour tags, and the time of ``frame``."""
    put_tags(picture, colour)
    picture.pts, picture.time_base = frame.pts, frame.time_base
    return picture


def put_tags(picture: av.VideoFrame, colour: ColourTags) -> None:
    """Write colour tags onto a picture as a file is to say them; what swscale reads there is
    another thing, see ``source.pixels.tag``."""
    picture.colorspace, picture.color_range = colour.matrix, colour.range
    picture.color_primaries, picture.color_trc = colour.primaries, colour.transfer

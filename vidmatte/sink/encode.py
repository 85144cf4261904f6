"""Encoder contexts: one way to set them up, for the muxer's stream and for workers."""

from __future__ import annotations

from fractions import Fraction

import av
from av.video.codeccontext import VideoCodecContext

from vidmatte.colour import (
    BT470BG,
    BT709,
    BT2020,
    BT2020_10,
    BT2020_12,
    BT2020_CONSTANT,
    DCI_P3,
    DISPLAY_P3,
    HLG,
    PQ,
    SMPTE170M,
    SMPTE240M,
    UNSPECIFIED,
    ColourTags,
)
from vidmatte.frame import Clip
from vidmatte.sink.row import Format

#: What a ProRes frame header can say (SMPTE RDD 36); other values are mapped to the
#: one of the same curve or coefficients, else to unspecified. The container's own
#: tags keep the source's numbers.
PRORES_MATRIX = {
    BT709: BT709,
    BT470BG: SMPTE170M,
    SMPTE170M: SMPTE170M,
    BT2020: BT2020,
    BT2020_CONSTANT: BT2020,
}
PRORES_PRIMARIES = {
    BT709: BT709,
    BT470BG: BT470BG,
    SMPTE170M: SMPTE170M,
    SMPTE240M: SMPTE170M,
    BT2020: BT2020,
    DCI_P3: DCI_P3,
    DISPLAY_P3: DISPLAY_P3,
}
PRORES_TRANSFER = {
    BT709: BT709,
    SMPTE170M: BT709,
    BT2020_10: BT709,
    BT2020_12: BT709,
    PQ: PQ,
    HLG: HLG,
}

PROGRESSIVE = 1  # AV_FIELD_PROGRESSIVE
#: Pixels up to which FFmpeg's FFV1 finds no slices for a plane, and writes nothing with them.
NARROW, WITHOUT_SLICES = 3, {"level": "1"}


def frame_colour(row: Format, colour: ColourTags) -> ColourTags:
    """The tags for the codec's own frame headers."""
    if not row.codec.startswith("prores"):
        return colour
    return ColourTags(
        matrix=PRORES_MATRIX.get(colour.matrix, UNSPECIFIED),
        range=colour.range,
        primaries=PRORES_PRIMARIES.get(colour.primaries, UNSPECIFIED),
        transfer=PRORES_TRANSFER.get(colour.transfer, UNSPECIFIED),
    )


def set_up(
    context: VideoCodecContext, row: Format, clip: Clip, colour: ColourTags, time_base: Fraction
) -> None:
    """Give an encoder context its size, time, colours and options; it is not opened."""
    context.width, context.height = clip.width, clip.height
    context.pix_fmt = row.pixel_format(clip)
    context.time_base = time_base
    # Matroska would promise players that every frame lasts the same.
    is_timed = row.container in ("matroska", "webm") and not clip.constant_rate
    context.framerate = Fraction(0) if is_timed else clip.rate
    context.sample_aspect_ratio = clip.sample_aspect_ratio
    context.colorspace, context.color_range = colour.matrix, colour.range
    context.color_primaries, context.color_trc = colour.primaries, colour.transfer
    context.field_order = PROGRESSIVE
    is_narrow = row.codec == "ffv1" and min(clip.width, clip.height) <= NARROW
    context.options = dict(WITHOUT_SLICES if is_narrow else row.options)
    if row.intra:
        context.gop_size = 1
    if row.quantiser is not None:
        context.qscale = True
        context.global_quality = row.quantiser
    if row.codec_tag is not None:
        context.codec_tag = row.codec_tag


def worker_encoder(row: Format, clip: Clip, colour: ColourTags) -> VideoCodecContext:
    """An encoder of its own, one thread, for intra-only codecs.

    Its packets carry the pts of their frames in ``clip.time_base``.
    """
    context = av.CodecContext.create(row.codec, "w")
    assert isinstance(context, VideoCodecContext)
    set_up(context, row, clip, frame_colour(row, colour), clip.time_base)
    context.thread_count = 1
    return context

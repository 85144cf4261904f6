"""Encoders of frames: codec contexts, set up alike for stream and worker threads, and images."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
from av.packet import PacketSideData, packet_sidedata_type_from_literal
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vidmatte.core.colour import ColourTags
from vidmatte.core.concurrency import usable_cores
from vidmatte.core.frame import Clip
from vidmatte.media.exr_writer import ExrWriter
from vidmatte.media.icc import tiff_with_profile
from vidmatte.media.png import PngWriter, png_with_profile
from vidmatte.media.tiff import with_associated_alpha
from vidmatte.pixels import planes
from vidmatte.pixels.convert import set_tags
from vidmatte.writers.format_spec import EncoderSpec, FrameEncoder, OutputFormat, StreamEncoder

_PROGRESSIVE = 1  # AV_FIELD_PROGRESSIVE
#: Pixels of a picture's shorter side up to which a format's ``narrow_options`` are used.
_NARROW = 3


def frame_colour(row: OutputFormat, colour: ColourTags) -> ColourTags:
    """The tags for the codec's own frame headers."""
    tags = row.colour_rules.frame_tags
    return colour if tags is None else tags(colour)


def set_up(
    context: VideoCodecContext,
    row: OutputFormat,
    clip: Clip,
    colour: ColourTags,
    time_base: Fraction,
) -> None:
    """Set an encoder context's size, time base, colours and options; does not open it."""
    context.width, context.height = clip.width, clip.height
    context.pix_fmt = row.pixel_format(clip)
    context.time_base = time_base
    # Given a rate, such containers declare that every frame has the same duration.
    implies_constant = row.container is not None and row.container.states_duration
    context.framerate = clip.rate if clip.constant_rate or not implies_constant else Fraction(0)
    context.sample_aspect_ratio = clip.sample_aspect_ratio
    context.colorspace, context.color_range = colour.matrix, colour.range
    context.color_primaries, context.color_trc = colour.primaries, colour.transfer
    context.field_order = _PROGRESSIVE
    narrow = row.narrow_options if min(clip.width, clip.height) <= _NARROW else None
    context.options = dict(row.options if narrow is None else narrow)
    if row.intra:
        context.gop_size = 1
    if row.quantiser is not None:
        context.qscale = True
        context.global_quality = row.quantiser
    if row.codec_tag is not None:
        context.codec_tag = row.codec_tag


def frame_encoder(spec: EncoderSpec) -> FrameEncoder:
    """The encoder of one worker thread: the format's own, or FFmpeg's."""
    if spec.row.encoder is not None:
        return spec.row.encoder(spec)
    return worker_encoder(spec.row, spec.clip, spec.colour)


def stream_encoder(row: OutputFormat, stream: VideoStream) -> StreamEncoder:
    """The encoder of a movie with inter-frame coding: the format's own, or FFmpeg's."""
    return (row.stream_encoder or _OrderedEncoder)(stream)


def worker_encoder(row: OutputFormat, clip: Clip, colour: ColourTags) -> VideoCodecContext:
    """A separate encoder with one thread, for intra-only codecs.

    Its packets carry the pts of their frames in ``clip.time_base``.
    """
    context = av.CodecContext.create(row.codec, "w")
    assert isinstance(context, VideoCodecContext)
    set_up(context, row, clip, frame_colour(row, colour), clip.time_base)
    context.thread_count = 1
    return context


#: Lossless, at libvpx's fastest settings: a matte is nearly flat, so it stays small.
_ALPHA_OPTIONS = {
    "lossless": "1",
    "deadline": "realtime",
    "cpu-used": "8",
    "row-mt": "1",
    "lag-in-frames": "0",
    "auto-alt-ref": "0",
}
_MAX_THREADS = 16
_KEY_FRAME = 1  # AV_PICTURE_TYPE_I
_BLOCK_ADDITION = packet_sidedata_type_from_literal("matroska_block_additional")
_ALPHA_ADDITION_ID = 1  # BlockAddID of alpha, WebM alpha specification


class _OrderedEncoder:
    """FFmpeg's encoder of the stream, fed in order."""

    def __init__(self, stream: VideoStream) -> None:
        self._stream = stream
        stream.codec_context.thread_count = min(usable_cores(), _MAX_THREADS)

    def encode(self, picture: av.VideoFrame | None) -> list[av.Packet]:
        """See ``StreamEncoder.encode``."""
        return self._stream.encode(picture)


class Vp9AlphaEncoder(_OrderedEncoder):
    """VP9 with alpha as a second VP9 stream in BlockAdditions, as WebM defines it.

    FFmpeg's encoder uses one quality for both, which causes specks where alpha is
    0 or 1. Here the colours are lossy and alpha is lossless, and every colour key
    frame has an alpha key frame, so that players can seek.
    https://www.webmproject.org/docs/container/#alpha
    """

    def __init__(self, stream: VideoStream) -> None:
        super().__init__(stream)
        stream.codec_context.pix_fmt = "yuv420p"
        stream.metadata["alpha_mode"] = "1"
        self._waiting: deque[av.VideoFrame] = deque()
        self._alpha: VideoCodecContext | None = None

    def encode(self, picture: av.VideoFrame | None) -> list[av.Packet]:
        """See ``StreamEncoder.encode``; the input is yuva420p."""
        colour = None
        if picture is not None:
            self._waiting.append(picture)
            colour = picture.reformat(format="yuv420p", threads=1)
            colour.pts, colour.time_base = picture.pts, picture.time_base
        packets = self._stream.encode(colour)
        for packet in packets:
            self._attach(packet, self._waiting.popleft())
        return packets

    def _attach(self, packet: av.Packet, picture: av.VideoFrame) -> None:
        if self._alpha is None:
            self._alpha = self._make_alpha_encoder()
        matte = av.VideoFrame(picture.width, picture.height, "yuv420p")
        luma, *chroma = planes.plane_views(matte)
        np.copyto(luma, planes.plane_views(picture)[3])
        for plane in chroma:
            plane[...] = 128
        matte.pts, matte.time_base = picture.pts, picture.time_base
        matte.pict_type = _KEY_FRAME if packet.is_keyframe else 0
        (coded,) = self._alpha.encode(matte)
        data = struct.pack(">Q", _ALPHA_ADDITION_ID) + bytes(coded)
        addition = PacketSideData(_BLOCK_ADDITION, len(data))  # type: ignore[call-arg]
        addition.update(data)
        packet.set_sidedata(addition)

    def _make_alpha_encoder(self) -> VideoCodecContext:
        colour = self._stream.codec_context
        context = av.CodecContext.create("libvpx-vp9", "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height, context.pix_fmt = colour.width, colour.height, "yuv420p"
        context.time_base = colour.time_base
        context.framerate = colour.framerate or Fraction(0)
        context.options = dict(_ALPHA_OPTIONS)
        context.thread_count = min(usable_cores(), _MAX_THREADS)
        return context


def exr_encoder(kind: int) -> Callable[[EncoderSpec], ExrWriter]:
    """A factory of OpenEXR encoders; kind: ``HALF`` or ``FLOAT`` of ``media.exr_writer``."""

    def make(spec: EncoderSpec) -> ExrWriter:
        alpha = "premultiplied" if spec.premultiplied else "straight"
        compression = spec.row.options.get("compression", "zip")
        return ExrWriter(spec.clip, kind, spec.colour, alpha, compression)

    return make


_SAMPLE_SIDE = 16  # pixels


def png_encoder(spec: EncoderSpec) -> PngWriter:
    """A PNG encoder whose chunks before the samples are FFmpeg's, plus the ICC profile."""
    clip, pixel_format = spec.clip, spec.row.pixel_format(spec.clip)
    sample = replace(clip, width=_SAMPLE_SIDE, height=_SAMPLE_SIDE)  # a full one takes 0.2 s
    picture = av.VideoFrame(_SAMPLE_SIDE, _SAMPLE_SIDE, pixel_format)
    set_tags(picture, spec.colour)
    encoder = worker_encoder(spec.row, sample, spec.colour)
    file = b"".join(map(bytes, encoder.encode(picture)))
    head = file[: file.index(b"IDAT") - 4]
    if spec.profile is not None:
        head = png_with_profile(head, spec.profile)
    return PngWriter(head, clip.width, clip.height, pixel_format)


class TiffEncoder:
    """FFmpeg's encoder; the alpha type and the ICC profile are patched into the file."""

    def __init__(self, spec: EncoderSpec) -> None:
        self._encoder = worker_encoder(spec.row, spec.clip, spec.colour)
        self._premultiplied, self._profile = spec.premultiplied, spec.profile

    def encode(self, picture: av.VideoFrame) -> list[bytes]:
        """The file as one bytes object."""
        data = b"".join(map(bytes, self._encoder.encode(picture)))
        if self._premultiplied:
            data = with_associated_alpha(data)
        if self._profile:
            data = tiff_with_profile(data, self._profile)
        return [data]


def quality_option(quality: int) -> dict[str, str]:
    """The option of an encoder whose quality is 1..100."""
    return {"quality": str(quality)}


def crf_option(largest: int) -> Callable[[int], dict[str, str]]:
    """The option of an encoder with a constant rate factor of 0 (the best) to ``largest``."""
    return lambda quality: {"crf": str(round(largest * (100 - quality) / 100))}

"""Encoders whose frames lean on each other: fed in order, by one thread."""

from __future__ import annotations

import struct
from collections import deque
from fractions import Fraction

import av
import numpy as np
from av.packet import PacketSideData, packet_sidedata_type_from_literal
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vidmatte.cores import usable_cores
from vidmatte.sink.make import planes

#: Lossless, and as quick as libvpx goes: a matte is nearly flat, so it stays small.
ALPHA_OPTIONS = {
    "lossless": "1",
    "deadline": "realtime",
    "cpu-used": "8",
    "row-mt": "1",
    "lag-in-frames": "0",
    "auto-alt-ref": "0",
}
MOST_THREADS = 16
KEY_FRAME = 1  # AV_PICTURE_TYPE_I
BLOCK_ADDITION = packet_sidedata_type_from_literal("matroska_block_additional")
ALPHA_ADDITION_ID = 1  # BlockAddID of alpha, WebM alpha specification


class OrderedEncoder:
    """The stream's own encoder."""

    def __init__(self, stream: VideoStream) -> None:
        self._stream = stream
        stream.codec_context.thread_count = min(usable_cores(), MOST_THREADS)

    def encode(self, picture: av.VideoFrame | None) -> list[av.Packet]:
        """Packets that are ready; None flushes."""
        return self._stream.encode(picture)


class Vp9AlphaEncoder(OrderedEncoder):
    """VP9 with alpha as a second VP9 stream in BlockAdditions, as WebM has it.

    FFmpeg's encoder codes both with one quality, which leaves specks where alpha is
    0 or 1. Here the colours are lossy and alpha is lossless, and an alpha key frame
    stands at every key frame of the colours, so that players can seek.
    https://www.webmproject.org/docs/container/#alpha
    """

    def __init__(self, stream: VideoStream) -> None:
        super().__init__(stream)
        stream.codec_context.pix_fmt = "yuv420p"
        stream.metadata["alpha_mode"] = "1"
        self._waiting: deque[av.VideoFrame] = deque()
        self._alpha: VideoCodecContext | None = None

    def encode(self, picture: av.VideoFrame | None) -> list[av.Packet]:
        """See ``OrderedEncoder.encode``; takes yuva420p."""
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
        luma, *chroma = planes.views(matte)
        np.copyto(luma, planes.views(picture)[3])
        for plane in chroma:
            plane[...] = 128
        matte.pts, matte.time_base = picture.pts, picture.time_base
        matte.pict_type = KEY_FRAME if packet.is_keyframe else 0
        (coded,) = self._alpha.encode(matte)
        data = struct.pack(">Q", ALPHA_ADDITION_ID) + bytes(coded)
        addition = PacketSideData(BLOCK_ADDITION, len(data))  # type: ignore[call-arg]
        addition.update(data)
        packet.set_sidedata(addition)

    def _make_alpha_encoder(self) -> VideoCodecContext:
        own = self._stream.codec_context
        context = av.CodecContext.create("libvpx-vp9", "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height, context.pix_fmt = own.width, own.height, "yuv420p"
        context.time_base = own.time_base
        context.framerate = own.framerate or Fraction(0)
        context.options = dict(ALPHA_OPTIONS)
        context.thread_count = min(usable_cores(), MOST_THREADS)
        return context

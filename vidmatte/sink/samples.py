"""Pieces of decoded sound."""

from __future__ import annotations

from typing import Any

import av
import numpy as np


def part(frame: av.AudioFrame, begin: int, stop: int) -> av.AudioFrame:
    """Samples ``begin`` to ``stop`` (exclusive) of a frame."""
    samples = frame.to_ndarray()
    channels = 1 if frame.format.is_planar else frame.layout.nb_channels
    cut: Any = np.ascontiguousarray(samples[:, begin * channels : stop * channels])
    result = av.AudioFrame.from_ndarray(cut, frame.format.name, frame.layout.name)
    result.sample_rate = frame.sample_rate
    return result


def silence(like: av.AudioFrame, count: int) -> av.AudioFrame:
    """``count`` samples of nothing in the same format."""
    planar = like.format.is_planar
    channels = like.layout.nb_channels
    dtype = like.to_ndarray().dtype
    shape = (channels, count) if planar else (1, channels * count)
    quiet: Any = np.full(shape, 128 if dtype == np.uint8 else 0, dtype)
    result = av.AudioFrame.from_ndarray(quiet, like.format.name, like.layout.name)
    result.sample_rate = like.sample_rate
    return result


def pcm_part(packet: av.Packet, begin: int, stop: int, size: int) -> av.Packet:
    """The samples from ``begin`` to ``stop`` of a PCM packet, each of ``size`` bytes."""
    return av.Packet(bytes(packet)[begin * size : stop * size])


def has_adts_header(packet: av.Packet) -> bool:
    """True where an AAC packet begins with the header that transport streams give each one."""
    head = bytes(packet)[:2]
    return head[:1] == b"\xff" and head[1:] >= b"\xf0"

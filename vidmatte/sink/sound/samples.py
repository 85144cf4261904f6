"""Pieces of decoded sound."""

from __future__ import annotations

from typing import Any

import av
import numpy as np

#: Of a channel in the middle, in each of two: together they are as loud as it was.
MIDDLE = 0.5**0.5


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


def folded(frame: av.AudioFrame) -> av.AudioFrame:
    """A frame of many channels as stereo, no louder than the loudest.

    Every channel is heard: left, right, or in the middle by its place's name, those without
    a place in turns. FFmpeg's own mix leaves out the places that its matrix does not know.
    """
    sides = [side_of(channel.name, index) for index, channel in enumerate(frame.layout.channels)]
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(sides)).T
    zero = 128 if samples.dtype == np.uint8 else 0
    weights = np.array(sides, np.float64).T  # (2, channels)
    weights /= weights.sum(axis=1).max()
    mixed: Any = np.empty((2, samples.shape[1]), samples.dtype)
    sums = weights @ (samples.astype(np.float64) - zero) + zero
    np.copyto(mixed, sums if mixed.dtype.kind == "f" else np.rint(sums), casting="unsafe")
    planar = f"{frame.format.name.removesuffix('p')}p"
    result = av.AudioFrame.from_ndarray(mixed, planar, "stereo")
    result.sample_rate = frame.sample_rate
    return result


def side_of(name: str, index: int) -> tuple[float, float]:
    """How loud a channel is left and right, by FFmpeg's name of its place, like TFL or LFE."""
    if name == "NONE":
        return (0.0, 1.0) if index % 2 else (1.0, 0.0)
    if name.endswith("R") or name == "FRC":
        return 0.0, 1.0
    if name.endswith("L") or name == "FLC":
        return 1.0, 0.0
    return MIDDLE, MIDDLE


def pcm_part(packet: av.Packet, begin: int, stop: int, size: int) -> av.Packet:
    """The samples from ``begin`` to ``stop`` of a PCM packet, each of ``size`` bytes."""
    return av.Packet(bytes(packet)[begin * size : stop * size])


def has_adts_header(packet: av.Packet) -> bool:
    """True where an AAC packet begins with the header that transport streams give each one."""
    head = bytes(packet)[:2]
    return head[:1] == b"\xff" and head[1:] >= b"\xf0"

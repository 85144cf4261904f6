"""Pixel formats into each other, with the matrix and range of both sides given.

swscale resamples chroma and moves YCbCr samples between layouts and depths, as in
FFmpeg's own tools. Where a range or a matrix changes in more than 8 bits, the
formulas of ITU-T H.273 are applied and rounded once: see ``source.exact``.
"""

from __future__ import annotations

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from vidmatte.core.colour import (
    BT470BG,
    FULL,
    LIMITED,
    LUMA_WEIGHTS,
    SMPTE170M,
    ColourTags,
    linear_matrix,
    same_matrix,
)
from vidmatte.core.frame import Frame
from vidmatte.pixels import planes
from vidmatte.pixels.colour_matrix import (
    canonical_format,
    exact_rgb,
    reformatted_picture,
    yuv_matrix,
)
from vidmatte.pixels.formats import ACCURATE, reformatted
from vidmatte.pixels.planes import is_yuv

#: swscale's own numbers of matrices: bt470bg's and smpte170m's are one there.
_SWS_MATRIX = {number: number for number in LUMA_WEIGHTS} | {SMPTE170M: BT470BG}


class Converter:
    """Turns pictures with colours ``source`` into ``target_format`` with ``target``.

    From YCbCr to YCbCr range and layout change and the matrix stays: another one raises
    ValueError, since it takes two steps, over deep RGB.
    Not thread-safe: one for each worker. The alpha of the result is not set.
    """

    def __init__(self, source: ColourTags, target_format: str, target: ColourTags) -> None:
        self._source, self._target = source, target
        self._format = target_format
        self._reformatter = VideoReformatter()

    def __call__(self, picture: av.VideoFrame) -> av.VideoFrame:
        """A new frame of the same size. float sources are clipped to 0..1. Raises ValueError."""
        picture = canonical_format(picture)
        name = picture.format.name
        if is_yuv(name) and is_yuv(self._format):
            return self._moved(picture)
        # swscale takes deep full-range samples for shifted ones: its white is too dark.
        is_plain = self._source.range == LIMITED or planes.sample_type(name) == np.uint8
        if is_yuv(name) and planes.sample_type(self._format) == np.uint8 and is_plain:
            return self._to_rgb_8(picture)
        result = av.VideoFrame(picture.width, picture.height, self._format)
        top = planes.full_scale(self._format)
        if is_yuv(self._format):
            rgb = exact_rgb(picture, self._source, 65535)
            _store_channels(result, self._coded(rgb, top))
        else:
            _store_rgb(result, exact_rgb(picture, self._source, top, self._reformatter))
        return result

    def _moved(self, picture: av.VideoFrame) -> av.VideoFrame:
        """YCbCr to YCbCr of the same matrix."""
        if not same_matrix(self._source.matrix, self._target.matrix):
            matrices = f"{self._source.matrix} to {self._target.matrix}"
            raise ValueError(
                f"matrix {matrices}: YCbCr keeps its matrix; convert to gbrp16le, then from that"
            )
        result = reformatted_picture(picture, self._format, self._reformatter)
        if self._source.range != self._target.range:
            _change_range(result, planes.full_scale(picture.format.name), self._source.range)
        return result

    def _to_rgb_8(self, picture: av.VideoFrame) -> av.VideoFrame:
        matrix = _SWS_MATRIX[linear_matrix(self._source.matrix)]
        return reformatted(
            self._reformatter,
            picture,
            self._format,
            interpolation=ACCURATE,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=self._source.range,
            dst_color_range=FULL,
            threads=1,
        )

    def _coded(self, rgb: np.ndarray, full_scale: int) -> np.ndarray:
        """(H, W, 3) uint16 R'G'B' of 65535 -> Y'CbCr codes of the target's depth."""
        matrix = yuv_matrix(self._target, full_scale + 1, full_scale)
        coded = cv2.transform(rgb, matrix / np.array([65535, 65535, 65535, 1]))
        return np.asarray(np.minimum(coded, full_scale))


def _change_range(frame: av.VideoFrame, source_top: int, source_range: int) -> None:
    """Bring the YCbCr planes of ``frame`` from one range to the other, in place.

    Its samples were shifted up (or down) from a depth whose largest is ``source_top``.
    """
    full_scale = planes.full_scale(frame.format.name)
    codes = full_scale + 1
    top = source_top * codes / (source_top + 1)
    for number, plane in enumerate(planes.plane_views(frame)[:3]):
        limited = (219 if number == 0 else 224) * codes / 256
        zero = 16 * codes / 256 if number == 0 else codes / 2
        centre = 0 if number == 0 else codes / 2
        gain = limited / top if source_range == FULL else full_scale / limited
        start, end = (centre, zero) if source_range == FULL else (zero, centre)
        moved = cv2.addWeighted(plane, gain, plane, 0, end - start * gain)
        np.minimum(moved, full_scale, out=plane)


def _store_rgb(frame: av.VideoFrame, rgb: np.ndarray) -> None:
    """Write (H, W, 3) R, G, B samples into an RGB frame, packed or planar."""
    arrays = planes.plane_views(frame)
    if len(arrays) == 1:
        order = cv2.COLOR_RGB2BGRA if frame.format.name.startswith("bgr") else cv2.COLOR_RGB2RGBA
        packed = cv2.cvtColor(rgb, order)
        arrays[0][...] = packed[..., : arrays[0].shape[2]]
        return
    red, green, blue = cv2.split(rgb)
    for plane, channel in zip(arrays[:3], (green, blue, red), strict=True):
        np.copyto(plane, channel)


def _store_channels(frame: av.VideoFrame, channels: np.ndarray) -> None:
    """Write (H, W, 3) Y'CbCr samples into a planar frame; subsampled chroma takes means."""
    arrays = planes.plane_views(frame)
    for plane, channel in zip(arrays[:3], cv2.split(channels), strict=True):
        np.copyto(plane, planes.mean_of_cells(channel, *planes.subsampling(plane, channel)))


def tagged(picture: av.VideoFrame, colour: ColourTags, frame: Frame) -> av.VideoFrame:
    """``picture`` with colour tags, and the time of ``frame``."""
    set_tags(picture, colour)
    picture.pts, picture.time_base = frame.pts, frame.time_base
    return picture


def set_tags(picture: av.VideoFrame, colour: ColourTags) -> None:
    """Write colour tags onto a picture as a file is to say them; what swscale reads there is
    another thing, see ``source.pixels.tag``."""
    picture.colorspace, picture.color_range = colour.matrix, colour.range
    picture.color_primaries, picture.color_trc = colour.primaries, colour.transfer

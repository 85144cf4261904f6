"""Pixel formats into each other, with the matrix and range of both sides given.

swscale resamples chroma and moves YCbCr samples between layouts and depths, as in
FFmpeg's own tools. Where a range or a matrix changes in more than 8 bits, the
formulas of ITU-T H.273 (section 8.3) are applied here and rounded once: swscale
makes 937 of 10-bit full-range white where 940 is meant, and 65283 of 65535 in
16-bit RGB.
"""

from __future__ import annotations

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from vidmatte.colour import FULL, LIMITED, LUMA_WEIGHTS, STAND_INS, ColourTags, same_matrix
from vidmatte.sink import planes
from vidmatte.sink.row import is_yuv
from vidmatte.source import pixels
from vidmatte.source.pixels import ACCURATE

#: H.273 matrix number -> swscale's.
SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}


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
        self._second = VideoReformatter()

    def __call__(self, picture: av.VideoFrame) -> av.VideoFrame:
        """A new frame of the same size. float sources are clipped to 0..1. Raises ValueError."""
        picture = without_twin(picture)
        name = picture.format.name
        if not is_yuv(name):
            rgb = rgb_of(picture)
            result = av.VideoFrame(picture.width, picture.height, self._format)
            if is_yuv(self._format):
                rgb = scaled(rgb, 65535)
                put_channels(result, self._coded(rgb, planes.full_scale(self._format)))
            else:
                put_rgb(result, scaled(rgb, planes.full_scale(self._format)))
            return result
        if is_yuv(self._format):
            if not same_matrix(self._source.matrix, self._target.matrix):
                matrices = f"{self._source.matrix} to {self._target.matrix}"
                raise ValueError(f"matrix {matrices}: give 'gbrp16le' and convert that")
            result = self._moved(picture, self._format)
            if self._source.range != self._target.range:
                change_range(result, planes.full_scale(name), self._source.range)
            return result
        # swscale takes deep full-range samples for shifted ones: its white is too dark.
        is_plain = self._source.range == LIMITED or planes.sample_type(name) == np.uint8
        if planes.sample_type(self._format) == np.uint8 and is_plain:
            return self._to_rgb_8(picture)
        return self._to_exact_rgb(picture)

    def _moved(self, picture: av.VideoFrame, target: str) -> av.VideoFrame:
        """YCbCr to YCbCr. One range and matrix is given for both sides, so that samples
        are only shifted between depths."""
        return self._reformatter.reformat(
            picture,
            format=target,
            interpolation=ACCURATE,
            src_colorspace=1,
            dst_colorspace=1,
            src_color_range=LIMITED,
            dst_color_range=LIMITED,
            threads=1,
        )

    def _to_rgb_8(self, picture: av.VideoFrame) -> av.VideoFrame:
        matrix = SWS_MATRIX[STAND_INS.get(self._source.matrix, self._source.matrix)]
        return self._reformatter.reformat(
            picture,
            format=self._format,
            interpolation=ACCURATE,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=self._source.range,
            dst_color_range=FULL,
            threads=1,
        )

    def _to_exact_rgb(self, picture: av.VideoFrame) -> av.VideoFrame:
        full = self._moved(picture, "yuv444p16le")
        # Shifted up to 16 bits, the largest sample is not 65535 but this.
        top = planes.full_scale(picture.format.name)
        while top < 32768:
            top *= 2
        coded = cv2.merge(planes.views(full))
        to_rgb = rgb_matrix(self._source, 65536, top, planes.full_scale(self._format))
        result = av.VideoFrame(picture.width, picture.height, self._format)
        rgb = np.minimum(cv2.transform(coded, to_rgb), planes.full_scale(self._format))
        put_rgb(result, rgb.astype(planes.sample_type(self._format), copy=False))
        return result

    def _coded(self, rgb: np.ndarray, full_scale: int) -> np.ndarray:
        """(H, W, 3) uint16 R'G'B' of 65535 -> Y'CbCr codes of the target's depth."""
        matrix = yuv_matrix(self._target, full_scale + 1, full_scale)
        coded = cv2.transform(rgb, matrix / np.array([65535, 65535, 65535, 1]))
        return np.asarray(np.minimum(coded, full_scale))


def without_twin(picture: av.VideoFrame) -> av.VideoFrame:
    """The picture; a yuvj420p and its like under the plain name of the same samples, since
    swscale makes their range limited whatever it is told."""
    name = picture.format.name
    if not name.startswith("yuvj"):
        return picture
    plain = av.VideoFrame(picture.width, picture.height, name.replace("yuvj", "yuv"))
    pixels.copy_planes(picture, plain)
    return plain


def yuv_matrix(colour: ColourTags, codes: int, top: int) -> np.ndarray:
    """(3, 4): R'G'B' in 0..1 and 1 -> Y'CbCr codes, ITU-T H.273 equations 20 to 31, 38.

    codes: the number of codes (1024 for 10 bits); top: the code of full-range white.
    """
    kr, kb = LUMA_WEIGHTS[STAND_INS.get(colour.matrix, colour.matrix)]
    luma = np.array([kr, 1 - kr - kb, kb])
    red, blue = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])
    rows = np.stack([luma, (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))])
    unit = codes / 256
    full = colour.range == FULL
    scale = np.array([top, top, top] if full else [219 * unit, 224 * unit, 224 * unit])
    zero = np.array([0 if full else 16 * unit, codes / 2, codes / 2])
    return np.asarray(np.hstack([rows * scale[:, None], zero[:, None]]))


def rgb_matrix(colour: ColourTags, codes: int, top: int, full_scale: int) -> np.ndarray:
    """(3, 4): Y'CbCr codes and 1 -> R'G'B' in 0..full_scale; the inverse of the above."""
    forward = yuv_matrix(colour, codes, top)
    inverse = np.linalg.inv(forward[:, :3]) * full_scale
    return np.asarray(np.hstack([inverse, -inverse @ forward[:, 3:]]))


def change_range(frame: av.VideoFrame, source_top: int, source_range: int) -> None:
    """Bring the YCbCr planes of ``frame`` from one range to the other, in place.

    Its samples were shifted up (or down) from a depth whose largest is ``source_top``.
    """
    full_scale = planes.full_scale(frame.format.name)
    codes = full_scale + 1
    top = source_top * codes / (source_top + 1)
    for number, plane in enumerate(planes.views(frame)[:3]):
        limited = (219 if number == 0 else 224) * codes / 256
        zero = 16 * codes / 256 if number == 0 else codes / 2
        centre = 0 if number == 0 else codes / 2
        gain = limited / top if source_range == FULL else full_scale / limited
        start, end = (centre, zero) if source_range == FULL else (zero, centre)
        moved = cv2.addWeighted(plane, gain, plane, 0, end - start * gain)
        np.minimum(moved, full_scale, out=plane)


def rgb_of(picture: av.VideoFrame) -> np.ndarray:
    """(H, W, 3) R, G, B samples of an RGB or grey picture, full range.

    uint8 of 255 for 8-bit formats, else uint16 of 65535. float is clipped to 0..1.
    """
    arrays = planes.views(picture)
    if len(arrays) == 1 and arrays[0].ndim == 3:
        rgb = arrays[0][..., :3]
    elif len(arrays) == 1:
        rgb = np.asarray(cv2.merge([arrays[0]] * 3))
    else:
        green, blue, red = arrays[:3]
        rgb = np.asarray(cv2.merge([red, green, blue]))
    if rgb.dtype == np.float32:
        return np.asarray(np.rint(np.clip(rgb, 0, 1) * 65535).astype(np.uint16))
    top = planes.full_scale(picture.format.name)
    if top in (255, 65535):
        return np.asarray(np.ascontiguousarray(rgb))
    return np.asarray(cv2.multiply(rgb, (65535 / top,) * 4))


def scaled(rgb: np.ndarray, full_scale: int) -> np.ndarray:
    """Samples of ``rgb_of`` in 0..full_scale, rounded to nearest; the type that holds it."""
    top = int(np.iinfo(rgb.dtype).max)
    if top == full_scale:
        return rgb
    kind = cv2.CV_8U if full_scale <= 255 else cv2.CV_16U
    return np.asarray(cv2.multiply(rgb, (full_scale / top,) * 4, dtype=kind))


def put_rgb(frame: av.VideoFrame, rgb: np.ndarray) -> None:
    """Write (H, W, 3) R, G, B samples into an RGB frame, packed or planar."""
    arrays = planes.views(frame)
    if len(arrays) == 1:
        order = cv2.COLOR_RGB2BGRA if frame.format.name.startswith("bgr") else cv2.COLOR_RGB2RGBA
        packed = cv2.cvtColor(rgb, order)
        arrays[0][...] = packed[..., : arrays[0].shape[2]]
        return
    red, green, blue = cv2.split(rgb)
    for plane, channel in zip(arrays[:3], (green, blue, red), strict=True):
        np.copyto(plane, channel)


def put_channels(frame: av.VideoFrame, channels: np.ndarray) -> None:
    """Write (H, W, 3) Y'CbCr samples into a planar frame; subsampled chroma takes means."""
    arrays = planes.views(frame)
    for plane, channel in zip(arrays[:3], cv2.split(channels), strict=True):
        size = (plane.shape[1], plane.shape[0])
        fits = plane.shape == channel.shape
        np.copyto(
            plane, channel if fits else cv2.resize(channel, size, interpolation=cv2.INTER_AREA)
        )

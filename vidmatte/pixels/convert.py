"""Pixel formats into each other, with the matrix and range of both sides given.

swscale resamples chroma and moves YCbCr samples between layouts and depths, as in
FFmpeg's own tools. Where a range or a matrix changes in more than 8 bits, the
formulas of ITU-T H.273 are applied and rounded once: see ``exact_rgb``.
"""

from __future__ import annotations

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from vidmatte.core.colour import (
    BT470BG,
    BT709,
    FULL,
    LIMITED,
    LUMA_WEIGHTS,
    SMPTE170M,
    ColourTags,
    linear_matrix,
    same_matrix,
    to_bt709,
)
from vidmatte.core.frame import Frame
from vidmatte.pixels import planes
from vidmatte.pixels.formats import ACCURATE, copy_planes, full_scale, plane_arrays, reformatted
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
        picture = _canonical_format(picture)
        if self._target.chromaticities is None:
            picture = in_bt709(picture, self._source)
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
        result = _reformatted_picture(picture, self._format, self._reformatter)
        if result is picture:
            result = av.VideoFrame(picture.width, picture.height, self._format)
            copy_planes(picture, result)
        if self._source.range != self._target.range:
            _change_range(result, planes.full_scale(picture.format.name), self._source.range)
        return result

    def _to_rgb_8(self, picture: av.VideoFrame) -> av.VideoFrame:
        matrix = _SWS_MATRIX[linear_matrix(self._source.matrix)]
        is_packed = planes.is_rgb(self._format) and self._format != PLANAR_RGB
        made = reformatted(
            self._reformatter,
            picture,
            PLANAR_RGB if is_packed else self._format,
            interpolation=ACCURATE,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=self._source.range,
            dst_color_range=FULL,
            threads=1,
        )
        if not is_packed:
            return made
        result = av.VideoFrame(picture.width, picture.height, self._format)
        (packed,) = plane_arrays(result)
        pack_rgb(made, packed, self._format.startswith("bgr"))
        return result

    def _coded(self, rgb: np.ndarray, full_scale: int) -> np.ndarray:
        """(H, W, 3) uint16 R'G'B' of 65535 -> Y'CbCr codes of the target's depth."""
        matrix = yuv_matrix(self._target, full_scale + 1, full_scale)
        coded = cv2.transform(rgb, matrix / np.array([65535, 65535, 65535, 1]))
        return np.asarray(np.minimum(coded, full_scale))


#: 8-bit RGB to which swscale converts YCbCr fastest: its accurate conversion has vector code for
#: planar formats only. The samples equal those of packed formats.
PLANAR_RGB = "gbrp"


def pack_rgb(planar: av.VideoFrame, out: np.ndarray, is_bgr: bool = False) -> None:
    """Write a ``PLANAR_RGB`` picture into ``out``, (H, W, 3) or, opaque, (H, W, 4) uint8."""
    green, blue, red = plane_arrays(planar)
    channels = [blue, green, red] if is_bgr else [red, green, blue]
    if out.shape[2] == 4:
        channels.append(np.full_like(green, 255))
    cv2.merge(channels, out)


def in_bt709(picture: av.VideoFrame, colour: ColourTags) -> av.VideoFrame:
    """The picture with bt709's primaries where ``colour`` has chromaticities, else itself.

    Only float pictures (OpenEXR's) have some; their light is linear, see ``check_fit``. Light
    outside bt709's colours has samples below 0 or above 1. Grey has no primaries.
    """
    planar = plane_arrays(picture) if colour.chromaticities is not None else []
    if colour.chromaticities is None or len(planar) < 3:
        return picture
    order = [1, 2, 0]  # planes of gbrp lie as G, B, R
    matrix = to_bt709(colour.chromaticities)[np.ix_(order, order)].astype(np.float32)
    result = av.VideoFrame(picture.width, picture.height, picture.format.name)
    result.color_range = picture.color_range
    light = cv2.transform(cv2.merge(planar[:3]), matrix)
    for target, plane in zip(plane_arrays(result), cv2.split(light), strict=True):
        np.copyto(target, plane)
    return result


def _change_range(frame: av.VideoFrame, source_top: int, source_range: int) -> None:
    """Bring the YCbCr planes of ``frame`` from one range to the other, in place; see
    ``range_change``."""
    full_scale = planes.full_scale(frame.format.name)
    for number, plane in enumerate(planes.plane_views(frame)[:3]):
        gain, shift = range_change(full_scale, source_top, source_range, is_luma=not number)
        moved = cv2.addWeighted(plane, gain, plane, 0, shift)
        np.minimum(moved, full_scale, out=plane)


def range_change(
    full_scale: int, source_top: int, source_range: int, *, is_luma: bool
) -> tuple[float, float]:
    """What YCbCr codes are multiplied by, and what is added then, to go from ``source_range`` to
    the other one.

    full_scale: the largest code. The codes were shifted up from a depth whose largest is
    ``source_top``.
    """
    codes = full_scale + 1
    top = source_top * codes / (source_top + 1)
    limited = (219 if is_luma else 224) * codes / 256
    zero = 16 * codes / 256 if is_luma else codes / 2
    centre = 0 if is_luma else codes / 2
    gain = limited / top if source_range == FULL else full_scale / limited
    start, end = (centre, zero) if source_range == FULL else (zero, centre)
    return gain, end - start * gain


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


def exact_rgb(
    picture: av.VideoFrame,
    colour: ColourTags,
    top: int,
    reformatter: VideoReformatter | None = None,
) -> np.ndarray:
    """(H, W, 3) R, G, B of a picture, full range: uint8 where ``top``, the code of white, is
    255 or less, else uint16.

    picture: RGB, grey, or Y'CbCr that is coded as ``colour`` says. float is clipped to 0..1.
    RGB that has the depth already may come as a view of the picture. reformatter: one to
    use again for pictures of one kind.
    """
    if not picture.format.name.startswith("yuv"):
        return _scaled_rgb(_rgb_of(picture), top)
    full = _reformatted_picture(
        _canonical_format(picture), "yuv444p16le", reformatter or VideoReformatter()
    )
    # Shifted up to 16 bits, the largest sample is not 65535 but this.
    largest = full_scale(picture.format.name)
    while largest < 32768:
        largest *= 2
    to_rgb = _rgb_matrix(colour, 65536, largest, top)
    rgb = np.minimum(cv2.transform(cv2.merge(plane_arrays(full)), to_rgb), top)
    return np.asarray(rgb.astype(np.uint8 if top <= 255 else np.uint16, copy=False))


def _reformatted_picture(
    picture: av.VideoFrame, pixel_format: str, reformatter: VideoReformatter
) -> av.VideoFrame:
    """YCbCr to YCbCr. One range and matrix is given for both sides, so that samples
    are only shifted between depths."""
    return reformatted(
        reformatter,
        picture,
        pixel_format,
        interpolation=ACCURATE,
        src_colorspace=BT709,
        dst_colorspace=BT709,
        src_color_range=LIMITED,
        dst_color_range=LIMITED,
        threads=1,
    )


def _canonical_format(picture: av.VideoFrame) -> av.VideoFrame:
    """The picture; a yuvj420p and its like under the plain name of the same samples, since
    swscale makes their range limited whatever its options say."""
    name = picture.format.name
    if not name.startswith("yuvj"):
        return picture
    plain = av.VideoFrame(picture.width, picture.height, name.replace("yuvj", "yuv"))
    copy_planes(picture, plain)
    return plain


def yuv_matrix(colour: ColourTags, codes: int, top: int) -> np.ndarray:
    """(3, 4): R'G'B' in 0..1 and 1 -> Y'CbCr codes, ITU-T H.273 equations 20 to 31, 38.

    codes: the number of codes (1024 for 10 bits); top: the code of full-range white.
    """
    kr, kb = LUMA_WEIGHTS[linear_matrix(colour.matrix)]
    luma = np.array([kr, 1 - kr - kb, kb])
    red, blue = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])
    rows = np.stack([luma, (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))])
    unit = codes / 256
    full = colour.range == FULL
    scale = np.array([top, top, top] if full else [219 * unit, 224 * unit, 224 * unit])
    zero = np.array([0 if full else 16 * unit, codes / 2, codes / 2])
    return np.asarray(np.hstack([rows * scale[:, None], zero[:, None]]))


def _rgb_matrix(colour: ColourTags, codes: int, top: int, white: int) -> np.ndarray:
    """(3, 4): Y'CbCr codes and 1 -> R'G'B' in 0..white; the inverse of the above."""
    forward = yuv_matrix(colour, codes, top)
    inverse = np.linalg.inv(forward[:, :3]) * white
    return np.asarray(np.hstack([inverse, -inverse @ forward[:, 3:]]))


def _rgb_of(picture: av.VideoFrame) -> np.ndarray:
    """(H, W, 3) R, G, B samples of an RGB or grey picture, full range.

    uint8 of 255 for 8-bit formats, else uint16 of 65535. float is clipped to 0..1; what is
    no number becomes 0.
    """
    arrays = plane_arrays(picture)
    if len(arrays) == 1 and arrays[0].ndim == 3:
        rgb = arrays[0][..., :3]
    elif len(arrays) == 1:
        rgb = np.asarray(cv2.merge([arrays[0]] * 3))
    else:
        green, blue, red = arrays[:3]
        rgb = np.asarray(cv2.merge([red, green, blue]))
    if rgb.dtype == np.float32:
        clipped = np.clip(np.nan_to_num(rgb, nan=0.0), 0, 1)
        return np.asarray(np.rint(clipped * 65535).astype(np.uint16))
    top = full_scale(picture.format.name)
    if top in (255, 65535):
        return np.asarray(np.ascontiguousarray(rgb))
    return np.asarray(cv2.multiply(rgb, (65535 / top,) * 4))


def _scaled_rgb(rgb: np.ndarray, wanted: int) -> np.ndarray:
    """Samples of ``_rgb_of`` in 0..wanted, rounded to nearest; the type that holds it."""
    top = int(np.iinfo(rgb.dtype).max)
    if top == wanted:
        return rgb
    kind = cv2.CV_8U if wanted <= 255 else cv2.CV_16U
    return np.asarray(cv2.multiply(rgb, (wanted / top,) * 4, dtype=kind))

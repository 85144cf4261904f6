"""R'G'B' of any picture at any bit depth, and the formulas between it and Y'CbCr.

swscale loses the last part of a deep range: it makes 937 of 10-bit full-range white where
940 is meant, and 65283 of 65535 in 16-bit RGB. So here it only resamples chroma and shifts
samples between layouts and depths; the formulas of ITU-T H.273 (section 8.3) are applied
apart, and rounded once.
"""

from __future__ import annotations

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from vidmatte.core.colour import BT709, FULL, LIMITED, LUMA_WEIGHTS, ColourTags, linear_matrix
from vidmatte.pixels.formats import ACCURATE, copy_planes, full_scale, plane_arrays, reformatted


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
    full = reformatted_picture(
        canonical_format(picture), "yuv444p16le", reformatter or VideoReformatter()
    )
    # Shifted up to 16 bits, the largest sample is not 65535 but this.
    largest = full_scale(picture.format.name)
    while largest < 32768:
        largest *= 2
    to_rgb = _rgb_matrix(colour, 65536, largest, top)
    rgb = np.minimum(cv2.transform(cv2.merge(plane_arrays(full)), to_rgb), top)
    return np.asarray(rgb.astype(np.uint8 if top <= 255 else np.uint16, copy=False))


def reformatted_picture(
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


def canonical_format(picture: av.VideoFrame) -> av.VideoFrame:
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
    """Samples of ``rgb_of`` in 0..wanted, rounded to nearest; the type that holds it."""
    top = int(np.iinfo(rgb.dtype).max)
    if top == wanted:
        return rgb
    kind = cv2.CV_8U if wanted <= 255 else cv2.CV_16U
    return np.asarray(cv2.multiply(rgb, (wanted / top,) * 4, dtype=kind))

"""What networks and filters see of a picture: 8-bit RGB in the range they learned.

Pictures for display (bt709, sRGB and their like) are taken as they are. PQ, HLG and
linear light are brought to a similar look by a fixed curve, for the network's eyes
only: the picture that is written out never passes through here.
"""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vidmatte.core.colour import FULL, HLG, LINEAR, LOG100, LOG316, PQ, ColourTags, is_convertible
from vidmatte.core.frame import Clip
from vidmatte.errors import UsageError
from vidmatte.pixels.convert import PLANAR_RGB, exact_rgb, in_bt709, pack_rgb
from vidmatte.pixels.formats import ACCURATE, bit_depth, plane_arrays, reformatted
from vidmatte.pixels.planes import is_yuv

_WHITE_NITS = 203.0  # ITU-R BT.2408: diffuse white of HDR programmes
_PEAK_NITS = 1000.0
_LOG_DECADES = {LOG100: 2.0, LOG316: 2.5}
#: Transfers of which ``curve_for`` gives a curve: networks see other codes than the picture's.
CURVED = frozenset({PQ, HLG, LINEAR, *_LOG_DECADES})


class NetworkRgb:
    """Fills (H, W, 3) uint8 RGB arrays from pictures of one clip. Raises UsageError."""

    def __init__(self, clip: Clip) -> None:
        check_convertible(clip)
        self._curve = _curve_for(clip.colour.transfer)
        self._colour = clip.colour
        self._range = clip.colour.range
        self._reformatter = VideoReformatter()

    def of(self, picture: av.VideoFrame) -> np.ndarray:
        """The picture's view, a new array."""
        rgb = np.empty((picture.height, picture.width, 3), np.uint8)
        self.view(picture, rgb)
        return rgb

    def view(self, picture: av.VideoFrame, out: np.ndarray) -> None:
        """Write the picture's view into ``out``, (H, W, 3) uint8."""
        planar = self._curve is None and is_yuv(picture.format.name)
        rgb = reformatted(
            self._reformatter,
            in_bt709(picture, self._colour),
            PLANAR_RGB if planar else "rgb24" if self._curve is None else "rgb48le",
            interpolation=ACCURATE,
            threads=1,
            src_color_range=self._range,
            dst_color_range=FULL,
        )
        if planar:
            pack_rgb(rgb, out)
        elif self._curve is None:
            np.copyto(out, plane_arrays(rgb)[0])
        else:
            np.take(self._curve, plane_arrays(rgb)[0], out=out)


def check_convertible(clip: Clip) -> None:
    """Raise UsageError where the pictures of a clip cannot become RGB."""
    if clip.working_format.startswith("yuv") and not is_convertible(clip.colour.matrix):
        raise UsageError(
            f"{clip.source.name}: its colour matrix is {clip.colour.as_names()['matrix']}, which"
            " cannot be turned into the RGB that networks see: convert it to bt709 first"
        )


def full_range_rgb(picture: av.VideoFrame) -> np.ndarray:
    """A picture's own colours as (H, W, 3) RGB, full range, a new array.

    uint8 for sources of 8 bits, uint16 (0..65535) for deeper ones. Its tags say how it is
    coded.
    """
    if bit_depth(picture.format.name) > 8:
        tags = ColourTags(int(picture.colorspace), int(picture.color_range))
        return np.array(exact_rgb(picture, tags, 65535))
    rgb = reformatted(
        VideoReformatter(),
        picture,
        "rgb24",
        interpolation=ACCURATE,
        threads=1,
        dst_color_range=FULL,
    )
    return np.array(plane_arrays(rgb)[0])


def _curve_for(transfer: int) -> np.ndarray | None:
    """A table from 16-bit code values to 8-bit display values, or None for none.

    PQ (SMPTE ST 2084) and HLG (ITU-R BT.2100, system gamma 1.2 at 1000 nits) are
    decoded to light; light is divided by diffuse white, brought under 1 by the
    extended operator of Reinhard et al. 2002 (peak 1000 nits), and encoded as sRGB.
    Logarithmic transfers are decoded to light; camera logs that no tag names pass as
    they are.
    """
    code = np.arange(65536) / 65535.0
    if transfer == PQ:
        light = _pq_to_nits(code) / _WHITE_NITS
    elif transfer == HLG:
        light = _PEAK_NITS * _hlg_to_scene(code) ** 1.2 / _WHITE_NITS
    elif transfer == LINEAR:
        light = code
    elif transfer in _LOG_DECADES:
        light = np.where(code > 0, 10.0 ** (_LOG_DECADES[transfer] * (code - 1.0)), 0.0)
    else:
        return None
    if transfer in (PQ, HLG):
        light = light * (1.0 + light * (_WHITE_NITS / _PEAK_NITS) ** 2) / (1.0 + light)
    return np.round(255.0 * _srgb_encode(np.clip(light, 0.0, 1.0))).astype(np.uint8)


def _pq_to_nits(code: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084: code value 0..1 to cd/m2."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = code ** (1 / m2)
    return 10000.0 * (np.maximum(power - c1, 0.0) / (c2 - c3 * power)) ** (1 / m1)


def _hlg_to_scene(code: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100 HLG: code value 0..1 to scene light 0..1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(code <= 0.5, code**2 / 3.0, (np.exp((code - c) / a) + b) / 12.0)


def _srgb_encode(light: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1: light 0..1 to code value 0..1."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)

"""R'G'B' to the code values of a pixel format, written out from ITU-T H.273.

Independent of the package, so that the expected values do not come from the code
under test.
"""

from __future__ import annotations

from collections.abc import Sequence

import av
import numpy as np

from vidmatte.core.colour import FULL, ColourTags

#: Kr and Kb, ITU-T H.273 table 4; 10 (constant luminance) is coded as 9.
KR_KB = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
KR_KB[10] = KR_KB[9]


def code_planes(rgb: np.ndarray, pixel_format: str, colour: ColourTags) -> list[np.ndarray]:
    """R'G'B' (H, W, 3) in 0..1 -> code values, one (h, w) array for each plane.

    ITU-T H.273 equations 20 to 31; a chroma sample of 4:2:0 and 4:2:2 is
    the mean of the pixels that it covers. Planar YCbCr and RGB formats of 8 to 16 bits
    without alpha.
    """
    fmt = av.VideoFormat(pixel_format)
    bits = fmt.components[0].bits
    kind, peak = (np.uint8 if bits == 8 else np.uint16), 2**bits - 1
    if fmt.is_rgb:
        planes = [np.empty(0)] * 3
        for channel, component in enumerate(fmt.components):
            planes[component.plane] = np.round(rgb[..., channel] * peak).astype(kind)
        return planes
    height, width = rgb.shape[:2]
    matrix = colour.resolved(width, height, False).matrix
    kr, kb = KR_KB[matrix]
    red, green, blue = np.moveaxis(rgb.astype(np.float64), -1, 0)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    differences = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    unit = 2 ** (bits - 8)
    full = colour.range == FULL
    y_scale, y_zero, c_scale = (peak, 0, peak) if full else (219 * unit, 16 * unit, 224 * unit)
    planes = [np.round(luma * y_scale + y_zero).astype(kind)]
    for difference in differences if len(fmt.components) > 1 else ():
        small = shrink(difference, fmt.chroma_width(width), fmt.chroma_height(height))
        planes.append(np.clip(np.round(small * c_scale + 128 * unit), 0, peak).astype(kind))
    return planes


def shrink(plane: np.ndarray, width: int, height: int) -> np.ndarray:
    """The box mean of ``plane`` at half or full width and height; an odd edge repeats."""
    down = 1 + (height < plane.shape[0])
    across = 1 + (width < plane.shape[1])
    rim = ((0, height * down - plane.shape[0]), (0, width * across - plane.shape[1]))
    blocks = np.pad(plane, rim, mode="edge").reshape(height, down, width, across)
    return blocks.mean(axis=(1, 3))


def frame_of(planes: Sequence[np.ndarray], pixel_format: str) -> av.VideoFrame:
    """A frame that holds copies of ``planes``."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, pixel_format)
    for plane, values in zip(frame.planes, planes, strict=True):
        line = np.zeros((plane.height, plane.line_size), np.uint8)
        rows = np.ascontiguousarray(values).view(np.uint8)
        line[:, : rows.shape[1]] = rows
        plane.update(line)
    return frame

"""Cut-outs that are not integer planes: floats for OpenEXR, a palette for GIF."""

from __future__ import annotations

from dataclasses import replace

import av
import numpy as np

from vidmatte.core.colour import LINEAR, TO_LINEAR, ColourTags
from vidmatte.core.frame import Clip
from vidmatte.pixels import planes
from vidmatte.pixels.convert import tagged
from vidmatte.writers.format_spec import OutputFormat, always
from vidmatte.writers.formats import EXR_CODED, PNG
from vidmatte.writers.output import RenderContext, Renderer
from vidmatte.writers.render.despill import despilled_floats

#: The integer picture that the floats are computed from.
_BASE = replace(EXR_CODED, name="exr base", pixel_format=always("gbrap16le"))
_FULL_SCALE = 65535

#: Steps of red, green and blue in the palette, and the index that is transparent.
_STEPS = (6, 7, 6)
_CLEAR = 252


class FloatCutout(Renderer):
    """gbrapf32le: colours as they are or in linear light, alpha as float32, clipped to 0..1.

    Opaque pixels of a float source keep their own floats, also above 1 and below 0; its
    soft pixels are estimated in 16 bits, in 0..1.
    """

    def __init__(
        self, clip: Clip, row: OutputFormat, colour: ColourTags, premultiplied: bool
    ) -> None:
        self._colour, self._premultiplied = colour, premultiplied
        codes = np.arange(_FULL_SCALE + 1) / _FULL_SCALE
        is_coded = not row.colour_rules.linear or clip.colour.transfer not in TO_LINEAR
        curve = codes if is_coded else TO_LINEAR[clip.colour.transfer](codes)
        self._curve = curve.astype(np.float32)
        self._keeps_floats = clip.working_format in ("gbrpf32le", "grayf32le") and (
            is_coded or clip.colour.transfer == LINEAR
        )

    def render(self, context: RenderContext) -> av.VideoFrame:
        """See ``Renderer.render``."""
        frame, base = context.frame, context.picture(_BASE)
        frame.to_host()
        assert frame.alpha is not None
        picture = av.VideoFrame(base.width, base.height, "gbrapf32le")
        *targets, alpha = planes.plane_views(picture)
        *codes, levels = planes.plane_views(base)
        np.clip(frame.alpha, 0, 1, out=alpha)
        floats = self._own_floats(context) if self._keeps_floats else None
        for number, (target, code) in enumerate(zip(targets, codes, strict=True)):
            np.take(self._curve, code, out=target)
            if floats is not None:
                np.copyto(target, floats[number], where=levels == _FULL_SCALE)
            if self._premultiplied:
                target *= alpha
        return tagged(picture, self._colour, frame)

    @staticmethod
    def _own_floats(context: RenderContext) -> list[np.ndarray]:
        """The source's own planes G, B, R, despilled where the context has ``despill``."""
        own = planes.plane_views(context.frame.picture)
        green, blue, red = own if len(own) == 3 else own * 3  # grey is the same in all
        if context.despill is not None:
            red, green, blue = despilled_floats([red, green, blue], context.despill)
        return [green, blue, red]


class PaletteCutout(Renderer):
    """pal8 of 6x7x6 colours and a transparent one, used where alpha is below half.

    The palette is the same for all frames and the dither is ordered, so that static
    parts do not flicker (Bayer 1973, "An optimum method for two-level rendition of
    continuous-tone pictures").
    """

    def __init__(self, colour: ColourTags) -> None:
        self._colour = colour
        self._palette = _make_palette()
        self._dither = _bayer(8)

    def render(self, context: RenderContext) -> av.VideoFrame:
        """See ``Renderer.render``."""
        (rgba,) = planes.plane_views(context.picture(PNG))
        height, width = rgba.shape[:2]
        rows, columns = -(-height // 8), -(-width // 8)
        dither = np.tile(self._dither, (rows, columns))[:height, :width]
        index = np.zeros((height, width), np.uint8)
        for channel, steps in enumerate(_STEPS):
            level = rgba[..., channel] * np.float32((steps - 1) / 255) + dither
            index = index * np.uint8(steps) + level.astype(np.uint8)
        index[rgba[..., 3] < 128] = _CLEAR
        picture = av.VideoFrame(width, height, "pal8")
        plane = picture.planes[0]
        stored = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        stored[:height, :width] = index
        picture.planes[1].update(self._palette)
        return tagged(picture, self._colour, context.frame)


def _make_palette() -> bytes:
    """256 entries of B, G, R, A."""
    entries = np.zeros((256, 4), np.uint8)
    for index in range(_CLEAR):
        red, rest = divmod(index, _STEPS[1] * _STEPS[2])
        green, blue = divmod(rest, _STEPS[2])
        shares = zip((blue, green, red), reversed(_STEPS), strict=True)
        entries[index] = [*(round(255 * level / (steps - 1)) for level, steps in shares), 255]
    return entries.tobytes()


def _bayer(size: int) -> np.ndarray:
    """(size, size) float32 thresholds between 0 and 1; ``size`` is a power of 2."""
    matrix = np.zeros((1, 1))
    while len(matrix) < size:
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    return ((matrix + 0.5) / size**2).astype(np.float32)

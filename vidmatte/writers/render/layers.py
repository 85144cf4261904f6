"""What an output can show: the cut-out, its matte, its colours alone, or a composite."""

from __future__ import annotations

import av
import cv2
import numpy as np

from vidmatte.core.colour import FULL, LIMITED, ColourTags
from vidmatte.core.frame import Clip
from vidmatte.pixels import planes
from vidmatte.pixels.convert import Converter, tagged
from vidmatte.pixels.planes import is_yuv
from vidmatte.settings.still_values import Shadow
from vidmatte.writers.format_spec import OutputFormat, output_colour
from vidmatte.writers.formats import PRORES, by_name
from vidmatte.writers.output import Layer, RenderContext, Renderer
from vidmatte.writers.render.background import Background
from vidmatte.writers.render.cutout import black, quantised
from vidmatte.writers.render.palette_and_float import FloatCutout, PaletteCutout

_SIGMA_REDUCED = 6  # pixels of a wide blur's sigma once it is reduced


class CutoutLayer(Layer):
    """The subject with its alpha: straight, or multiplied into the colours."""

    def __init__(self, premultiplied: bool = False) -> None:
        self.premultiplied = premultiplied

    def renderer(self, clip: Clip, row: OutputFormat) -> Renderer:
        """See ``Layer.renderer``."""
        colour, pixel_format = output_colour(clip, row), row.pixel_format(clip)
        if pixel_format == "gbrapf32le":
            return FloatCutout(clip, row, colour, self.premultiplied)
        if pixel_format == "pal8":
            return PaletteCutout(colour)
        return _CutoutRenderer(row, colour, self.premultiplied)


class _CutoutRenderer(Renderer):
    """See ``CutoutLayer``."""

    def __init__(self, row: OutputFormat, colour: ColourTags, premultiplied: bool) -> None:
        self._row, self._colour, self._premultiplied = row, colour, premultiplied

    def render(self, context: RenderContext) -> av.VideoFrame:
        """See ``Renderer.render``."""
        picture = context.picture(self._row)
        if not self._premultiplied:
            return picture
        return tagged(_premultiplied(picture, self._colour), self._colour, context.frame)


class MatteLayer(Layer):
    """Alpha as a grey picture: full scale in grey formats, the luma range in YCbCr."""

    in_colour = False

    def renderer(self, clip: Clip, row: OutputFormat) -> Renderer:
        """See ``Layer.renderer``."""
        return _MatteRenderer(row.pixel_format(clip), output_colour(clip, row))


class _MatteRenderer(Renderer):
    """See ``MatteLayer``."""

    def __init__(self, pixel_format: str, colour: ColourTags) -> None:
        self._format, self._colour = pixel_format, colour

    def render(self, context: RenderContext) -> av.VideoFrame:
        """See ``Renderer.render``."""
        frame = context.frame
        frame.to_host()
        assert frame.alpha is not None
        working = planes.to_native_order(self._format)
        picture = av.VideoFrame(frame.picture.width, frame.picture.height, working)
        full_scale = planes.full_scale(working)
        if is_yuv(working):
            low, *neutral = black(working, self._colour.range)
            span = full_scale if self._colour.range == FULL else 219 * (full_scale + 1) // 256
            luma, *chroma = planes.plane_views(picture)
            np.copyto(luma, quantised(frame.alpha, span) + luma.dtype.type(low), casting="unsafe")
            for plane, middle in zip(chroma, neutral, strict=True):
                plane[...] = middle
        else:
            np.copyto(planes.plane_views(picture)[0], quantised(frame.alpha, full_scale))
        return tagged(planes.to_stored_order(picture, self._format), self._colour, frame)


class ForegroundLayer(Layer):
    """The foreground colours of the full picture, without alpha."""

    def renderer(self, clip: Clip, row: OutputFormat) -> Renderer:
        """See ``Layer.renderer``."""
        return _ForegroundRenderer(
            row.fill_of or by_name(row.name), row.pixel_format(clip), output_colour(clip, row)
        )


class _ForegroundRenderer(Renderer):
    """See ``ForegroundLayer``."""

    def __init__(self, with_alpha: OutputFormat, pixel_format: str, colour: ColourTags) -> None:
        self._with_alpha, self._format, self._colour = with_alpha, pixel_format, colour

    def render(self, context: RenderContext) -> av.VideoFrame:
        """See ``Renderer.render``."""
        cutout = context.picture(self._with_alpha)
        picture = av.VideoFrame(cutout.width, cutout.height, self._format)
        for plane, given in zip(
            planes.plane_views(picture), planes.plane_views(cutout), strict=False
        ):
            np.copyto(plane, given[..., : plane.shape[2]] if plane.ndim == 3 else given)
        return tagged(picture, self._colour, context.frame)


class CompLayer(Layer):
    """The subject over a background, opaque."""

    def __init__(self, background: Background, shadow: Shadow | None = None) -> None:
        self.background: Background = background
        self.shadow = shadow

    def renderer(self, clip: Clip, row: OutputFormat) -> Renderer:
        """See ``Layer.renderer``."""
        return _CompRenderer(clip, row, self.background.blur, self.shadow)


class _CompRenderer(Renderer):
    """See ``CompLayer``. Mixes in 10-bit Y'CbCr as editors do, then converts to the format."""

    def __init__(self, clip: Clip, row: OutputFormat, blur: float, shadow: Shadow | None) -> None:
        self._blur, self._shadow = blur, shadow
        self._own_ground = Converter(clip.colour, "yuv444p10le", output_colour(clip, PRORES))
        self._colour, self._format = output_colour(clip, row), row.pixel_format(clip)
        working = planes.to_native_order(self._format)
        self._convert = Converter(output_colour(clip, PRORES), working, self._colour)

    def render(self, context: RenderContext) -> av.VideoFrame:
        """See ``Renderer.render``."""
        cutout = context.picture(PRORES)
        *colours, alpha = planes.plane_views(cutout)
        mixed = av.VideoFrame(cutout.width, cutout.height, "yuv444p10le")
        share = alpha.astype(np.float32) * np.float32(1 / planes.full_scale(cutout.format.name))
        grounds = self._grounds(context, share)
        for plane, subject, ground in zip(planes.plane_views(mixed), colours, grounds, strict=True):
            difference = cv2.subtract(subject, ground, dtype=cv2.CV_32F)
            np.multiply(difference, share, out=difference)
            np.copyto(plane, cv2.add(difference, ground, dtype=cv2.CV_16U))
        picture = planes.to_stored_order(self._convert(mixed), self._format)
        return tagged(picture, self._colour, context.frame)

    def _grounds(self, context: RenderContext, share: np.ndarray) -> list[np.ndarray]:
        """The planes behind the subject, 10 bits, limited range; share: alpha in 0..1."""
        if self._blur:
            own = planes.plane_views(self._own_ground(context.frame.picture))
            grounds = _blurred_without(own, share, self._blur)
        else:
            assert context.background is not None
            grounds = planes.plane_views(context.background)
        if self._shadow is None:
            return grounds
        light = 1 - np.float32(self._shadow.opacity) * _cast_shadow(share, self._shadow)
        zeros = black("yuv444p10le", LIMITED)
        return [
            np.rint((plane.astype(np.float32) - zero) * light + zero).astype(np.uint16)
            for plane, zero in zip(grounds, zeros, strict=True)
        ]


def _blurred_without(
    grounds: list[np.ndarray], share: np.ndarray, sigma: float
) -> list[np.ndarray]:
    """(H, W) uint16 planes blurred by ``sigma`` pixels, without the subject, whose colours would
    shine around it: each pixel weighs as much as it is background (normalised convolution, Knutsson
    and Westin 1993). share: (H, W) float32, alpha in 0..1."""
    weight = np.maximum(1 - share, np.float32(1e-3))
    total = gaussian(weight, sigma)
    return [
        np.rint(gaussian(plane.astype(np.float32) * weight, sigma) / total).astype(np.uint16)
        for plane in grounds
    ]


def _cast_shadow(share: np.ndarray, shadow: Shadow) -> np.ndarray:
    """Where the shadow of ``share``, (H, W) float32 alpha, falls: float32 in 0..1."""
    height, width = share.shape
    moved = np.array([[1, 0, shadow.right], [0, 1, shadow.down]], np.float32)
    cast = np.asarray(cv2.warpAffine(share, moved, (width, height)))
    return gaussian(cast, shadow.blur) if shadow.blur else cast


def gaussian(plane: np.ndarray, sigma: float) -> np.ndarray:
    """A float32 plane blurred by ``sigma`` pixels; wide ones at a reduced size."""
    step = max(1, min(int(sigma / _SIGMA_REDUCED), *plane.shape))
    if step == 1:
        return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma))
    height, width = plane.shape
    size = (-(-width // step), -(-height // step))
    small = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), sigma / step)
    return np.asarray(cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR))


def _premultiplied(cutout: av.VideoFrame, colour: ColourTags) -> av.VideoFrame:
    """A copy whose colours are multiplied by alpha, around black; opaque pixels unchanged.

    Subsampled chroma is multiplied by the mean alpha of the pixels that it covers.
    """
    pixel_format = cutout.format.name
    cutout = planes.to_stored_order(cutout, planes.to_native_order(pixel_format))
    picture = av.VideoFrame(cutout.width, cutout.height, cutout.format.name)
    given, target = planes.plane_views(cutout), planes.plane_views(picture)
    alpha = given[-1][..., 3] if given[-1].ndim == 3 else given[-1]
    share = alpha.astype(np.float32) * np.float32(1 / planes.full_scale(cutout.format.name))
    if len(given) == 1:
        scaled = given[0][..., :3] * share[..., None]
        target[0][..., :3], target[0][..., 3] = np.rint(scaled), alpha
    else:
        zeros = black(cutout.format.name, colour.range)
        for plane, source, zero in zip(target[:3], given[:3], zeros, strict=True):
            part = planes.mean_of_cells(share, *planes.subsampling(plane, share))
            plane[...] = np.rint((source.astype(np.float32) - zero) * part + zero)
        target[3][...] = alpha
    return planes.to_stored_order(picture, pixel_format)

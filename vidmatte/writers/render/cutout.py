"""Renders the cut-out picture of a frame with alpha, in the encoder's pixel format.

If source and output are both YCbCr, swscale converts the planes with the same matrix
and, except for ProRes from full range, the same range: no conversion through RGB. So an
opaque pixel equals FFmpeg's conversion of the source; as in its tools, subsampled chroma
is centred on the pixels that it covers (stretched at odd sizes).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import av
import cv2
import numpy as np

from vidmatte.alpha.box import ROW
from vidmatte.alpha.foreground import estimate_planes
from vidmatte.core.colour import FULL, IDENTITY, LINEAR, TO_LINEAR, ColourTags
from vidmatte.core.frame import Clip, Frame
from vidmatte.core.orientation import UPRIGHT
from vidmatte.errors import UsageError
from vidmatte.pixels import planes
from vidmatte.pixels.convert import Converter, tagged
from vidmatte.pixels.formats import chroma_steps
from vidmatte.pixels.network_rgb import check_convertible
from vidmatte.pixels.planes import ALIGN, Canvas, Rectangle, is_yuv
from vidmatte.writers.format_spec import LARGEST, OutputFormat, output_colour, profile_notes
from vidmatte.writers.render.despill import Despill, SpillRemover
from vidmatte.writers.render.extension import extend


class CutoutPicture:
    """Renders the cut-outs of one output. Not thread-safe: one for each worker.

    In ``intra`` formats a picture is valid until the next one is rendered: frames are encoded at
    once there; other encoders keep them for a while.

    foreground: ``estimate``, ``source``, ``model`` or ``auto``, see the settings.
    despill: spill to remove from visible pixels, after the foreground.
    """

    def __init__(
        self, clip: Clip, row: OutputFormat, foreground: str, despill: Despill | None = None
    ) -> None:
        self.pixel_format = row.pixel_format(clip)
        self._source, self.colour = clip.colour, output_colour(clip, row)
        self.policy = foreground
        self._working = planes.to_native_order(self.pixel_format)
        self._full_scale = planes.full_scale(self._working)
        empty = black(self._working, self.colour.range)
        self._canvas = Canvas(self._working, empty, is_reused=row.intra)
        self._convert = Converter(clip.colour, self._working, self.colour)
        # The subject's colours are worked on in planes.
        self._colours = colours = planes.planar_colours(self._working)
        self._device_cutout: Any = None  # a ``DeviceCutout``, once there is a device
        self._convert_colours = Converter(clip.colour, colours, self.colour)
        handled = self._working if foreground == "source" else colours
        self._remove_spill = despill and SpillRemover(despill, handled, self.colour)
        # 4:4:4, as the estimated foreground.
        full_chroma = re.sub("yuv4..p", "yuv444p", colours)
        self._convert_model = Converter(ColourTags(IDENTITY, FULL), full_chroma, self.colour)

    def render(self, frame: Frame) -> av.VideoFrame:
        """The output picture with tags, pts and time base. The frame is not changed. Raises
        ValueError for a frame without alpha."""
        # Despill, and adding nothing but alpha to the source, are for the CPU.
        on_host = self.policy == "source" or self._remove_spill or frame.on_device is None
        picture = self._on_host(frame) if on_host else self._on_device(frame)
        return tagged(planes.to_stored_order(picture, self.pixel_format), self.colour, frame)

    def _on_host(self, frame: Frame) -> av.VideoFrame:
        """The picture, drawn from pixels in host memory."""
        frame.to_host()
        if frame.alpha is None:
            raise ValueError(f"{frame!r} reached the output without alpha")
        levels = quantised(frame.alpha, self._full_scale)
        if self.policy == "source":
            return self._with_source(frame, levels)
        return self._with_foreground(frame, frame.alpha, levels)

    def _on_device(self, frame: Frame) -> av.VideoFrame:
        """The picture, drawn on the device that has the frame's alpha."""
        from vidmatte.writers.render.torch_cutout import DeviceCutout

        if self._device_cutout is None:
            formats = frame.picture.format.name, self._working, self._colours
            device, convert = frame.on_device.device, self._convert_colours
            self._device_cutout = DeviceCutout(
                device, self._source, self.colour, *formats, convert=convert
            )
        picture, empty = self._canvas.blank(frame.picture)
        visible = Rectangle(*frame.on_device.summary.visible_box(self._full_scale))
        box = _widened(visible, picture.height, picture.width)
        self._canvas.has_drawn(picture, box)
        if box.width:
            around = box.snapped(_TAPS, _GRID, picture.width, picture.height)
            uses_model = self.policy != "estimate"
            self._device_cutout.draw(picture, frame, box, around, empty, uses_model=uses_model)
        return picture

    def _with_source(self, frame: Frame, levels: np.ndarray) -> av.VideoFrame:
        """The picture with the source's colours everywhere."""
        picture = self._convert(frame.picture)
        if self._remove_spill:
            self._despill(picture, levels, self._remove_spill)
        plane = planes.plane_views(picture)[-1]
        np.copyto(plane if plane.ndim == 2 else plane[..., 3], levels)
        return picture

    def _with_foreground(
        self, frame: Frame, alpha: np.ndarray, levels: np.ndarray
    ) -> av.VideoFrame:
        """The picture whose soft pixels have foreground colours and whose transparent ones have
        their neighbours', or far from them are black."""
        picture, empty = self._canvas.blank(frame.picture)
        visible = np.asarray(cv2.compare(levels, 0, cv2.CMP_GT))
        box = _box_of(visible)
        self._canvas.has_drawn(picture, box)
        if not box.width:
            return picture
        visible, levels = visible[box.slices], levels[box.slices]
        changed = np.asarray(cv2.compare(levels, self._full_scale, cv2.CMP_LT))
        own = self._converted(frame.picture, box)
        colours = [planes.repeated(plane, own[0]) for plane in own]
        targets = planes.full_planes(picture, box, empty)
        has_model = frame.foreground is not None and self.policy != "estimate"
        if has_model:
            self._put_model_colours(colours, frame, box, changed & visible)
        else:
            estimate_planes(colours, alpha[box.slices], self._full_scale, changed)
        if self._remove_spill:
            colour, spilled = self._remove_spill(np.asarray(cv2.merge(colours)))
            colours = [np.asarray(plane) for plane in cv2.split(colour)]
            changed |= spilled & visible
        extend(colours, visible, empty, targets)
        planes.store(picture, box, (*targets, levels), own, changed)
        return picture

    def _converted(self, picture: av.VideoFrame, box: Rectangle) -> list[np.ndarray]:
        """The three planes of a box of the picture in the output's colours, new ones."""
        around = box.snapped(_TAPS, _GRID, picture.width, picture.height)
        made = self._convert_colours(planes.cropped(picture, around))
        arrays = planes.plane_views(made)
        inner = replace(box, x=box.x - around.x, y=box.y - around.y)
        return [
            plane[inner.scaled(*planes.subsampling(plane, arrays[0])).slices] for plane in arrays
        ]

    def _put_model_colours(
        self, colours: list[np.ndarray], frame: Frame, box: Rectangle, soft: np.ndarray
    ) -> None:
        """Write the network's own colours into the planes of a box where ``soft`` is not 0."""
        assert frame.foreground is not None
        where = soft.astype(bool)
        rgb = frame.foreground[box.slices][where]
        rows = -(-len(rgb) // ROW)
        if not rows:
            return
        strip = np.zeros((rows * ROW, 3), np.uint8)
        strip[: len(rgb)] = rgb
        given = av.VideoFrame.from_ndarray(strip.reshape(rows, ROW, 3), "rgb24")
        for plane, values in zip(
            colours, planes.plane_views(self._convert_model(given)), strict=True
        ):
            plane[where] = values.reshape(-1)[: len(rgb)]

    @staticmethod
    def _despill(picture: av.VideoFrame, levels: np.ndarray, remove: SpillRemover) -> None:
        """Remove spill from visible pixels; others keep the source's values."""
        visible = np.asarray(cv2.compare(levels, 0, cv2.CMP_GT))
        box = _box_of(visible)
        if not box.width:
            return
        colour, spilled = remove(planes.read_colours(picture, box))
        # Pixels that share a chroma sample with a visible one change too.
        sharing = cv2.dilate(
            visible[box.slices], np.ones(planes.subsampling_reach(picture), np.uint8)
        )
        planes.write_colours(picture, spilled & sharing, colour, box)


def quantised(alpha: np.ndarray, full_scale: int) -> np.ndarray:
    """(H, W) float32 in 0..1 -> uint8 or uint16 in 0..full_scale, rounded to nearest.

    Values outside 0..1 are clipped.
    """
    kind = cv2.CV_8U if full_scale <= 255 else cv2.CV_16U
    levels = cv2.multiply(alpha, float(full_scale), dtype=kind)
    return np.asarray(cv2.min(levels, float(full_scale)) if full_scale < 65535 else levels)


def black(pixel_format: str, range_: int) -> tuple[int, int, int]:
    """Black in the channel order of ``planes.read_colours``."""
    if not is_yuv(pixel_format):
        return 0, 0, 0
    top = planes.full_scale(pixel_format) + 1
    return (0 if range_ == FULL else top // 16), top // 2, top // 2


def colour_notes(clip: Clip, row: OutputFormat) -> Iterator[str]:
    """Notes for the user on a clip's colours in a format."""
    pixel_format = row.pixel_format(clip)
    yield from profile_notes(clip, row)
    yield from _display_notes(clip, row)
    keeps_layout = row.colour_rules.keeps_layout and row.has_alpha
    if keeps_layout and clip.pixel_format.startswith("yuv"):
        source_steps, output_steps = (
            chroma_steps(name) for name in (clip.pixel_format, pixel_format)
        )
        if source_steps != output_steps:
            layout = ":".join(clip.pixel_format.removeprefix("yuvj").removeprefix("yuv")[:3])
            yield f"{row.name} keeps the luma unchanged; chroma is resampled from {layout} to 4:4:4"
    if clip.colour.chromaticities is not None and not row.colour_rules.chromaticities:
        space = clip.colour.as_names()["primaries"]
        yield f"{row.name} cannot store {space} primaries: colours become bt709; exr keeps them"
    if "f32" in pixel_format:
        if row.colour_rules.linear and clip.colour.transfer not in (LINEAR, *TO_LINEAR):
            curve = clip.colour.as_names()["transfer"]
            yield f"{row.name} stores the code values of {curve} unchanged, not linear light"
        return
    if clip.colour.transfer == LINEAR:
        yield (
            f"{row.name} stores the source's linear light unchanged, which players and editors show"
            " too dark: write exr, or convert the source to sRGB or bt709 first"
        )
    depth = planes.full_scale(pixel_format).bit_length()
    if clip.colour.is_hdr and depth < clip.bit_depth:
        yield f"{row.name} has {depth} bits: PQ and HLG need 10 to avoid banding"


def _display_notes(clip: Clip, row: OutputFormat) -> Iterator[str]:
    """Notes on HDR metadata and a clean aperture that the format does not hold."""
    facts, container = clip.display, row.container
    if facts.mastering is not None or facts.content_light is not None:
        if container is None or not container.hdr_metadata:
            yield f"{row.name} does not store the source's mastering display and content light"
        elif not output_colour(clip, row).is_hdr:
            yield f"{row.name}: the source's HDR metadata is for PQ or HLG and is left out"
    if facts.clean_aperture is not None and (
        container is None or not container.clean_aperture or clip.orientation != UPRIGHT
    ):
        width, height = (float(value) for value in facts.clean_aperture[:2])
        yield f"{row.name}: the source's clean aperture, {width:g}x{height:g}, is not stored"


def alpha_notes(row: OutputFormat, premultiplied: bool) -> Iterator[str]:
    """A note if programs that read the format assume the other kind of alpha."""
    if row.associated and not premultiplied:
        yield (
            f"{row.name} is read as premultiplied alpha: multiply the colours by alpha in the"
            " program that opens it, or edges are too bright"
        )
    if row.straight_only and premultiplied:
        yield (
            f"{row.name} is read as straight alpha: set the program that opens it to"
            " premultiplied, or edges are too dark"
        )


def check_fit(clip: Clip, row: OutputFormat) -> None:
    """Raise UsageError if a clip cannot be written in this format."""
    name, width, height, limits = clip.source.name, clip.width, clip.height, row.limits
    if max(width, height) == 1:
        raise UsageError(
            f"{name}: a single pixel has no subject to cut out: choose a larger picture or clip"
        )
    if max(width, height) > limits.max_size:
        raise UsageError(
            f"{name}: {width}x{height} exceeds the {limits.max_size} pixels a side of {row.name}:"
            f" {'write png, or ' if limits.max_size < LARGEST else ''}make it smaller"
        )
    if limits.max_rate is not None and clip.rate > limits.max_rate:
        raise UsageError(
            f"{name}: {clip.rate} frames per second exceed the {limits.max_rate} that"
            f" {row.name} supports: add --conform 50, or write webp"
        )
    if width % limits.width_multiple:
        raise UsageError(
            f"{name}: its width {width} is not a multiple of {limits.width_multiple}, which"
            f" {row.name} needs: write prores"
        )
    if height % limits.height_multiple:
        raise UsageError(
            f"{name}: its height {height} is not a multiple of {limits.height_multiple}, which"
            f" {row.name} needs: write prores"
        )
    if height < limits.min_height:
        raise UsageError(
            f"{name}: its height {height} is less than the {limits.min_height} that {row.name}"
            " needs: write prores"
        )
    if clip.colour.chromaticities is not None and clip.colour.transfer != LINEAR:
        colour = clip.colour.as_names()
        raise UsageError(
            f"{name}: its chromaticities ({colour['primaries']}) are for linear light, and it is"
            f" read as {colour['transfer']}: state both, as in --colour primaries=bt709"
        )
    if (reason := row.missing()) is not None:
        raise UsageError(f"{row.name} cannot be written here: {reason}")
    check_convertible(clip)


#: Pixels by which the subject's box is widened, for the rings and the estimate's reach.
_BOX_MARGIN = 96
#: Pixels around a box that the scaler's filters read, and the grid that the converted part is
#: snapped to: each new size sets the scaler up again.
_TAPS, _GRID = 16, 128


def _box_of(visible: np.ndarray) -> Rectangle:
    """The box of the non-zero pixels of a (H, W) uint8 mask, widened by ``_BOX_MARGIN``."""
    return _widened(Rectangle(*cv2.boundingRect(visible)), *visible.shape)


def _widened(box: Rectangle, height: int, width: int) -> Rectangle:
    return box.snapped(_BOX_MARGIN, ALIGN, width, height) if box.width else box

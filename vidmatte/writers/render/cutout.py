"""Renders the cut-out picture of a frame with alpha, in the encoder's pixel format.

If source and output are both YCbCr, swscale converts the planes with the same matrix
and, except for ProRes from full range, the same range: no conversion through RGB. So an
opaque pixel equals FFmpeg's conversion of the source; as in its tools, subsampled chroma
is centred on the pixels that it covers (stretched at odd sizes).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import av
import cv2
import numpy as np

from vidmatte.alpha.box import ROW
from vidmatte.alpha.foreground import estimate
from vidmatte.core.colour import FULL, IDENTITY, LINEAR, TO_LINEAR, ColourTags
from vidmatte.core.frame import Clip, Frame
from vidmatte.core.orientation import UPRIGHT
from vidmatte.errors import UsageError
from vidmatte.pixels import planes
from vidmatte.pixels.convert import Converter, tagged
from vidmatte.pixels.formats import chroma_steps
from vidmatte.pixels.network_rgb import check_convertible
from vidmatte.pixels.planes import ALIGN, Rectangle, is_yuv
from vidmatte.writers.format_spec import LARGEST, OutputFormat, output_colour, profile_notes
from vidmatte.writers.render.despill import Despill, SpillRemover


class CutoutPicture:
    """Renders the cut-outs of one output. Not thread-safe: one for each worker.

    foreground: ``estimate``, ``source``, ``model`` or ``auto``, see the settings.
    despill: spill to remove from visible pixels, after the foreground.
    """

    def __init__(
        self, clip: Clip, row: OutputFormat, foreground: str, despill: Despill | None = None
    ) -> None:
        self.pixel_format = row.pixel_format(clip)
        self.colour = output_colour(clip, row)
        self.policy = foreground
        self._working = planes.to_native_order(self.pixel_format)
        self._full_scale = planes.full_scale(self._working)
        self._convert = Converter(clip.colour, self._working, self.colour)
        self._remove_spill = despill and SpillRemover(despill, self._working, self.colour)
        # 4:4:4, as the estimated foreground.
        full_chroma = re.sub("yuva4..p", "yuva444p", self._working)
        self._convert_model = Converter(ColourTags(IDENTITY, FULL), full_chroma, self.colour)

    def render(self, frame: Frame) -> av.VideoFrame:
        """The output picture with tags, pts and time base. The frame is not changed. Raises
        ValueError for a frame without alpha."""
        if frame.alpha is None:
            raise ValueError(f"{frame!r} reached the output without alpha")
        picture = self._convert(frame.picture)
        levels = quantised(frame.alpha, self._full_scale)
        if self.policy != "source":
            self._apply_foreground(picture, frame, frame.alpha, levels)
        elif self._remove_spill:
            self._despill(picture, levels, self._remove_spill)
        plane = planes.plane_views(picture)[-1]
        np.copyto(plane if plane.ndim == 2 else plane[..., 3], levels)
        return tagged(planes.to_stored_order(picture, self.pixel_format), self.colour, frame)

    def _apply_foreground(
        self, picture: av.VideoFrame, frame: Frame, alpha: np.ndarray, levels: np.ndarray
    ) -> None:
        """Give soft pixels foreground colours and transparent ones their neighbours'."""
        visible = np.asarray(cv2.compare(levels, 0, cv2.CMP_GT))
        box = _box_of(visible)
        empty = black(self._working, self.colour.range)
        planes.fill_outside(picture, box, empty)
        if not box.width:
            return
        window = box.slices
        visible = visible[window]
        changed = np.asarray(cv2.compare(levels[window], self._full_scale, cv2.CMP_LT))
        colour = planes.read_colours(picture, box)
        if frame.foreground is not None and self.policy != "estimate":
            soft = np.flatnonzero(changed & visible)
            given = frame.foreground[window].reshape(-1, 3)[soft]
            colour.reshape(-1, 3)[soft] = self._model_colours(given)
        elif frame.on_device is not None and not self._remove_spill:
            extended = _on_device(colour, frame, box, self._full_scale, empty)
            planes.write_colours(picture, changed, extended, box)
            return
        else:
            colour = estimate(colour, np.ascontiguousarray(alpha[window]), self._full_scale)
        if self._remove_spill:
            colour, spilled = self._remove_spill(colour)
            changed |= spilled & visible
        planes.write_colours(picture, changed, _extend(colour, visible, empty), box)

    def _model_colours(self, rgb: np.ndarray) -> np.ndarray:
        """Convert (N, 3) uint8 R, G, B of a network to samples of the output, (N, 3)."""
        rows = -(-len(rgb) // ROW)
        strip = np.zeros((rows * ROW, 3), np.uint8)
        strip[: len(rgb)] = rgb
        if not rows:
            return strip
        given = av.VideoFrame.from_ndarray(strip.reshape(rows, ROW, 3), "rgb24")
        return planes.read_colours(self._convert_model(given)).reshape(-1, 3)[: len(rgb)]

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


#: Pixels a side of a cell of the coarse grid that gives transparent pixels their colour.
_CELL = 8
#: Rings of cells around the subject to which its colours are extended.
_RINGS = 3
#: Pixels by which the subject's box is widened, for the rings and the estimate's reach.
_BOX_MARGIN = 96


def _box_of(visible: np.ndarray) -> Rectangle:
    """The box of the non-zero pixels of a (H, W) uint8 mask, widened by ``_BOX_MARGIN``."""
    x, y, width, height = cv2.boundingRect(visible)
    if not width:
        return Rectangle(0, 0, 0, 0)
    left, top = max(0, x - _BOX_MARGIN) // ALIGN * ALIGN, max(0, y - _BOX_MARGIN) // ALIGN * ALIGN
    right = min(visible.shape[1], -(-(x + width + _BOX_MARGIN) // ALIGN) * ALIGN)
    bottom = min(visible.shape[0], -(-(y + height + _BOX_MARGIN) // ALIGN) * ALIGN)
    return Rectangle(left, top, right - left, bottom - top)


def _on_device(
    colour: np.ndarray, frame: Frame, box: Rectangle, full_scale: int, empty: tuple[int, ...]
) -> np.ndarray:
    """``estimate`` and ``_extend`` on the device that has the frame's alpha."""
    from vidmatte.writers.render.torch_cutout import subject_colours

    return subject_colours(colour, frame, box, full_scale, empty, cell=_CELL, rings=_RINGS)


def _extend(colour: np.ndarray, visible: np.ndarray, empty: tuple[int, ...]) -> np.ndarray:
    """Extend the colours of the subject to the invisible pixels beside it.

    colour: (h, w, 3) uint8 or uint16. visible: (h, w) uint8, non-zero where alpha is
    above 0. empty: the colour of pixels farther away, black.
    Returns an array like ``colour``; visible pixels are unchanged.

    The mean of the visible pixels of each cell of 8x8 spreads over three rings of
    cells by normalised averaging (Knutsson and Westin 1993, "Normalized and
    differential convolution"), and fades to ``empty`` between the last ring and the
    next cell. So a player that scales the picture blends edges with the subject's colours, and
    everything farther away is one colour, which compresses to almost nothing.
    """
    height, width = visible.shape
    size = (-(-width // _CELL), -(-height // _CELL))
    weight = (visible > 0).astype(np.float32)
    # INTER_AREA supports non-integer ratios; the grid then stretches by less than a cell.
    shown = cv2.copyTo(colour, visible).astype(np.float32)
    sums = cv2.resize(shown, size, interpolation=cv2.INTER_AREA)
    weights = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    for _ in range(_RINGS):
        spread, spread_weights = cv2.blur(sums, (3, 3)), cv2.blur(weights, (3, 3))
        newly_filled = (weights == 0) & (spread_weights > 0)
        sums[newly_filled], weights[newly_filled] = (
            spread[newly_filled],
            spread_weights[newly_filled],
        )
    coarse = np.empty_like(sums)
    coarse[:] = empty
    known = weights > 0
    coarse[known] = sums[known] / weights[known, None]
    limits = np.iinfo(colour.dtype)
    coarse = np.clip(np.rint(coarse), limits.min, limits.max).astype(colour.dtype)
    filled = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.copyTo(colour, visible, filled))

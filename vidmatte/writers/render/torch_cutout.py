"""Cut-outs drawn on a torch device: from the source's planes to the encoder's, one copy each way.

The same formulas as on the CPU, over the box of the picture that they concern. Converted samples
are the CPU's own; estimated and extended ones are these or one code beside them, where sums lie on
a half, and rarely two. Sources in RGB, of more bits than the output, or of another matrix or layout
of chroma than it, are converted on the CPU first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import av
import numpy as np
import torch

from vidmatte.alpha.box import Box
from vidmatte.alpha.foreground import COLOUR_MARGIN
from vidmatte.alpha.torch_foreground import estimated
from vidmatte.core.colour import ColourTags, same_matrix
from vidmatte.core.frame import Frame
from vidmatte.models.runtimes.torch_device import TorchDevice
from vidmatte.pixels import planes
from vidmatte.pixels.convert import Converter, range_change, yuv_matrix
from vidmatte.pixels.formats import chroma_steps
from vidmatte.pixels.planes import Rectangle, is_yuv
from vidmatte.pixels.torch_chroma import enlarge_chroma
from vidmatte.pixels.torch_ops import (
    Tensor,
    bordered,
    box_mean,
    resize,
    resize_codes,
)
from vidmatte.writers.render.extension import CELL, RINGS

#: Waits for a copy in host memory, uint8, and how many samples of each plane are in it.
_Download = tuple[Callable[[], np.ndarray], list[int]]
_DEEPEST = (1 << 14) - 1  # of chroma that ``enlarge_chroma`` makes


class DeviceCutout:
    """Draws the cut-outs of one output on a device. Not thread-safe: one for each worker.

    source, colour: the tags of the frames' pictures and of the output. given: the pixel format of
    these pictures; working, colours: the output's, and that of its colours in planes. convert: from
    the one to the colours, where that is not done here.
    """

    def __init__(
        self,
        device: TorchDevice,
        source: ColourTags,
        colour: ColourTags,
        given: str,
        working: str,
        colours: str,
        *,
        convert: Converter,
    ) -> None:
        self._device, self._source, self._colour = device, source, colour
        self._given, self._working, self._colours = given, working, colours
        self._full_scale = planes.full_scale(working)
        self._convert = None if _can_convert(source, colour, given, colours) else convert
        self._staging: dict[str, np.ndarray] = {}

    def draw(
        self,
        picture: av.VideoFrame,
        frame: Frame,
        box: Rectangle,
        around: Rectangle,
        empty: tuple[int, ...],
        *,
        uses_model: bool,
    ) -> None:
        """Write colours and alpha into ``box`` of a picture in the ``working`` format.

        around: what is converted for it, which holds the box. empty: the colour far from the
        subject. uses_model: whether soft pixels get the network's own colours, where it gives some.
        """
        given = self._given_planes(frame.picture, around)
        # The steps of several frames would wait for each other on the device, and take its memory.
        with self._device.drawing:
            found, parts = self._drawn(given, frame, box, around, empty, uses_model=uses_model)
        self._put(picture, box, found(), parts)

    def _drawn(
        self,
        given: list[np.ndarray],
        frame: Frame,
        box: Rectangle,
        around: Rectangle,
        empty: tuple[int, ...],
        *,
        uses_model: bool,
    ) -> _Download:
        """The samples of the box, on their way down; see ``draw``."""
        pixels = frame.on_device
        own = self._own(given, box, around)
        alpha = pixels.alpha[box.slices]
        levels = torch.round(alpha * self._full_scale).clamp_(0, self._full_scale)
        visible, changed = levels > 0, levels < self._full_scale
        shown = torch.stack([_repeated(plane, own[0]) for plane in own])
        if uses_model and pixels.foreground is not None:
            colours = self._model_colours(pixels.foreground[:, box.slices[0], box.slices[1]])
            found = torch.where(visible & changed, colours, shown)
        else:
            found = self._with_estimate(shown, alpha, frame, box)
        extended = _extended(found, visible, self._full_scale, empty)
        drawn = torch.where(changed, extended, shown)
        return self._sent([*drawn, levels], own, changed)

    def _with_estimate(self, shown: Tensor, alpha: Tensor, frame: Frame, box: Rectangle) -> Tensor:
        """The colours with estimated ones in soft pixels."""
        x, y, width, height = frame.on_device.summary.soft_box
        here = Box(0, 0, box.height, box.width)
        soft = Box(y, x, y + height, x + width).moved(-box.y, -box.x).common(here)
        if soft.is_empty:
            return shown
        around = soft.grown(COLOUR_MARGIN, box.height, box.width)
        return estimated(shown, alpha, around, self._full_scale)

    def _given_planes(self, picture: av.VideoFrame, around: Rectangle) -> list[np.ndarray]:
        """The planes of a part of a picture: its own, or converted where that is the CPU's."""
        part = planes.cropped(picture, around)
        return planes.plane_views(part if self._convert is None else self._convert(part))

    def _own(self, given: list[np.ndarray], box: Rectangle, around: Rectangle) -> list[Tensor]:
        """The planes of the box in the output's colours, whole codes as float32."""
        arrays = self._uploaded(given)
        if self._convert is None:
            arrays = self._converted(arrays)
        inner = replace(box, x=box.x - around.x, y=box.y - around.y)
        size = (around.height, around.width)
        return [plane[inner.scaled(*_steps(plane, size)).slices] for plane in arrays]

    def _uploaded(self, given: Sequence[np.ndarray]) -> list[Tensor]:
        """Planes on the device as float32, in one copy."""
        kind = given[0].dtype
        sizes = [plane.size for plane in given]
        packed = self._host("up", sum(sizes) * kind.itemsize).view(kind)
        parts = np.split(packed, np.cumsum(sizes)[:-1])
        for part, plane in zip(parts, given, strict=True):
            np.copyto(part.reshape(plane.shape), plane)
        if kind == np.uint8:
            codes = self._device.upload(packed).float()
        else:  # torch does little with uint16
            codes = (self._device.upload(packed.view(np.int16)).int() & 0xFFFF).float()
        shapes = [plane.shape for plane in given]
        return [part.view(shape) for part, shape in zip(codes.split(sizes), shapes, strict=True)]

    def _converted(self, arrays: list[Tensor]) -> list[Tensor]:
        """Planes of the source's format in that of the output's colours; see ``Converter``."""
        top, most = planes.full_scale(self._given), self._full_scale
        steps, wanted = (chroma_steps(name) for name in (self._given, self._colours))
        height, width = arrays[0].shape
        if wanted == steps:
            made = [plane * ((most + 1) // (top + 1)) for plane in arrays]
        else:
            both = torch.stack(arrays[1:])
            chroma = enlarge_chroma(both, steps, top.bit_length(), most.bit_length())
            made = [arrays[0] * ((most + 1) // (top + 1)), *chroma[:, :height, :width]]
        if self._source.range == self._colour.range:
            return made
        for number, codes in enumerate(made):
            gain, shift = range_change(most, top, self._source.range, is_luma=not number)
            made[number] = (codes * gain + shift).round_().clamp_(0, most)
        return made

    def _model_colours(self, rgb: Tensor) -> Tensor:
        """The network's colours, (3, h, w) uint8, as codes of the output's; see ``Converter``."""
        scaled = rgb.float() * (1 / 255)
        if not is_yuv(self._colours):
            return torch.round(scaled[[1, 2, 0]] * self._full_scale)
        rows = _rows_of(yuv_matrix(self._colour, self._full_scale + 1, self._full_scale))
        red, green, blue = scaled
        made = [r * red + g * green + b * blue + zero for r, g, b, zero in rows]
        return torch.stack(made).round_().clamp_(0, self._full_scale)

    def _sent(self, samples: list[Tensor], own: list[Tensor], changed: Tensor) -> _Download:
        """Three colours and alpha in the layout of the ``working`` format, in one download."""
        sample = av.VideoFormat(self._working)
        if len({one.plane for one in sample.components}) == 1:
            order = (1, 0, 2, 3) if self._working.startswith("bgr") else (2, 0, 1, 3)
            results = [torch.stack([samples[place] for place in order], -1)]
        else:
            steps = [_steps(plane, tuple(changed.shape)) for plane in (*own, changed)]
            results = [
                one if step == (1, 1) else _subsampled(one, own[number], changed, *step)
                for number, (one, step) in enumerate(zip(samples, steps, strict=True))
            ]
        codes = torch.cat([plane.reshape(-1) for plane in results])
        is_8_bit = planes.sample_type(self._working) == np.uint8
        codes = codes.to(torch.uint8) if is_8_bit else codes.int().to(torch.int16)
        flat = codes.view(torch.uint8)
        found = self._device.start_download(flat, self._host("down", flat.numel()))
        return found, [plane.numel() for plane in results]

    def _put(
        self, picture: av.VideoFrame, box: Rectangle, found: np.ndarray, parts: list[int]
    ) -> None:
        """Write what ``_sent`` gave into a box of a picture."""
        arrays = planes.plane_views(picture)
        samples = np.split(found.view(arrays[0].dtype), np.cumsum(parts)[:-1])
        for plane, part in zip(arrays, samples, strict=True):
            target = plane[box.scaled(*planes.subsampling(plane, arrays[0])).slices]
            np.copyto(target, part.reshape(target.shape))

    def _host(self, name: str, size: int) -> np.ndarray:
        """(size,) uint8 in host memory, used again by the next frame: its copies are over then."""
        if len(self._staging.get(name, ())) < size:
            self._staging[name] = self._device.host_array((size,), np.uint8)
        return self._staging[name][:size]


def _can_convert(source: ColourTags, colour: ColourTags, given: str, colours: str) -> bool:
    """Whether pictures become the output's colours by moved samples, of no fewer bits, with chroma
    as it was or at full resolution."""
    if not (is_yuv(given) and is_yuv(colours) and same_matrix(source.matrix, colour.matrix)):
        return False
    steps, wanted = chroma_steps(given), chroma_steps(colours)
    top, most = planes.full_scale(given), planes.full_scale(colours)
    fits = steps == wanted or (wanted == (1, 1) and most <= _DEEPEST)
    return source.chromaticities is None and fits and top <= most


def _steps(plane: Tensor, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a picture of that size that a sample of the plane stands for."""
    return -(-size[0] // plane.shape[0]), -(-size[1] // plane.shape[1])


def _repeated(plane: Tensor, full: Tensor) -> Tensor:
    """``planes.repeated``."""
    for dim, step in zip((-2, -1), _steps(plane, tuple(full.shape)), strict=True):
        if step > 1:
            plane = plane.repeat_interleave(step, dim)
    return plane[: full.shape[0], : full.shape[1]]


def _subsampled(plane: Tensor, own: Tensor, changed: Tensor, down: int, across: int) -> Tensor:
    """Means of the cells of a plane (h, w) that are changed entirely, else its own samples."""
    height, width = own.shape
    below, right = height * down - plane.shape[0], width * across - plane.shape[1]
    both = torch.stack([plane, changed.float()])
    if below or right:
        both = bordered(both, below, right, replicate=True)[:, below:, right:]
    means = resize_codes(both[:1], height, width, "area")[0]
    is_full = resize(both[1:], height, width, "area")[0] > 1 - 1 / (2 * down * across)
    return torch.where(is_full, means, own)


def _rows_of(matrix: np.ndarray) -> list[list[float]]:
    found: list[list[float]] = matrix.tolist()
    return found


def _extended(shown: Tensor, visible: Tensor, full_scale: int, empty: tuple[int, ...]) -> Tensor:
    """The subject's colours extended to the invisible pixels beside it; see ``extension``."""
    height, width = visible.shape
    down, across = -(-height // CELL), -(-width // CELL)
    seen = torch.cat([shown * visible, visible[None]])
    cells = resize(seen, down, across, "area")
    for _ in range(RINGS):
        spread = box_mean(cells, 3)
        cells = torch.where((cells[3] == 0) & (spread[3] > 0), spread, cells)
    sums, weights = cells[:3], cells[3]
    far = _colour(empty, shown.device)
    coarse = torch.where(weights > 0, sums / weights.clamp(min=1e-12), far)
    coarse = coarse.round_().clamp_(0, full_scale)
    if full_scale <= 255:
        return torch.where(visible, shown, resize_codes(coarse, height, width, "linear"))
    return torch.where(visible, shown, resize(coarse, height, width, "linear").round_())


@lru_cache(maxsize=16)
def _colour(codes: tuple[int, ...], device: Any) -> Tensor:
    """(3, 1, 1) float32, made once: another one would be copied to the device each time."""
    return torch.tensor(codes, dtype=torch.float32, device=device)[:, None, None]

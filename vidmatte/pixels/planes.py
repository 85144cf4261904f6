"""A picture's samples as numpy arrays, and back: the layouts that outputs have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import av
import cv2
import numpy as np

from vidmatte.pixels import formats as pixels

sample_type = pixels.sample_type
full_scale = pixels.full_scale
plane_views = pixels.plane_arrays

#: Boxes begin and end on multiples of this, or at the picture's edge, so that no
#: chroma sample lies across their border.
ALIGN = 16


def to_native_order(pixel_format: str) -> str:
    """The format of the same samples as numpy has them: those of deep PNGs are big-endian."""
    is_swapped = pixel_format.endswith(("16be", "48be", "64be"))
    return f"{pixel_format[:-2]}le" if is_swapped else pixel_format


def to_stored_order(picture: av.VideoFrame, pixel_format: str) -> av.VideoFrame:
    """The picture as ``pixel_format``, whose samples it has, in either order."""
    if picture.format.name == pixel_format:
        return picture
    return picture.reformat(format=pixel_format, threads=1)


@dataclass(frozen=True)
class Rectangle:
    """A part of a picture, in pixels; no pixels at all when the width is 0."""

    x: int
    y: int
    width: int
    height: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """To cut the box out of an array (rows, columns, ...)."""
        return np.s_[self.y : self.y + self.height, self.x : self.x + self.width]

    def snapped(self, margin: int, grid: int, width: int, height: int) -> Rectangle:
        """Larger by ``margin`` pixels, then snapped outwards to multiples of ``grid``, inside a
        picture of width x height."""
        left, top = (max(0, at - margin) // grid * grid for at in (self.x, self.y))
        right, bottom = (
            min(size, -(-(end + margin) // grid) * grid)
            for end, size in ((self.x + self.width, width), (self.y + self.height, height))
        )
        return Rectangle(left, top, right - left, bottom - top)

    def scaled(self, step_y: int, step_x: int) -> Rectangle:
        """The same box in a plane that is subsampled by these steps."""
        return Rectangle(
            self.x // step_x, self.y // step_y, -(-self.width // step_x), -(-self.height // step_y)
        )


def read_colours(frame: av.VideoFrame, box: Rectangle | None = None) -> np.ndarray:
    """(h, w, 3) copy of the three colour channels in a box, subsampled chroma repeated.

    The order of channels is that of the planes (Y Cb Cr, G B R, R G B or B G R). box: with
    its corner on multiples of ``ALIGN``; None for the full picture.
    """
    arrays = plane_views(frame)
    box = box or Rectangle(0, 0, frame.width, frame.height)
    if len(arrays) == 1:
        return np.asarray(cv2.cvtColor(arrays[0][box.slices], cv2.COLOR_RGBA2RGB))
    parts = [plane[box.scaled(*subsampling(plane, arrays[0])).slices] for plane in arrays[:3]]
    return np.asarray(cv2.merge([repeated(part, parts[0]) for part in parts]))


def repeated(plane: np.ndarray, full: np.ndarray) -> np.ndarray:
    """A plane with its subsampled samples repeated up to the size of ``full``: a new one, or
    itself if it has that size."""
    if plane.shape == full.shape:
        return plane
    step_y, step_x = subsampling(plane, full)
    size = (plane.shape[1] * step_x, plane.shape[0] * step_y)
    large = cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(large[: full.shape[0], : full.shape[1]])


def subsampling(plane: np.ndarray, full: np.ndarray) -> tuple[int, int]:
    """Rows and columns of the full-size plane that one sample of ``plane`` stands for."""
    return -(-full.shape[0] // plane.shape[0]), -(-full.shape[1] // plane.shape[1])


def subsampling_reach(frame: av.VideoFrame) -> tuple[int, int]:
    """Rows and columns of the window around a pixel that holds all which share its chroma."""
    arrays = plane_views(frame)
    down, across = subsampling(arrays[1], arrays[0]) if len(arrays) > 1 else (1, 1)
    return 2 * down - 1, 2 * across - 1


def planar_colours(pixel_format: str) -> str:
    """The planar format of the same colour samples, without alpha."""
    packed = {"rgba": "gbrp", "bgra": "gbrp", "rgba64le": "gbrp16le"}
    return packed.get(pixel_format, pixel_format.replace("yuva", "yuv").replace("gbrap", "gbrp"))


def cropped(frame: av.VideoFrame, box: Rectangle) -> av.VideoFrame:
    """The part of a picture that lies in a box whose corner is on multiples of ``ALIGN``: a copy,
    or the picture itself where the box holds all of it."""
    if (box.width, box.height) == (frame.width, frame.height):
        return frame
    part = av.VideoFrame(box.width, box.height, frame.format.name)
    part.colorspace, part.color_range = frame.colorspace, frame.color_range
    arrays = plane_views(frame)
    for target, plane in zip(plane_views(part), arrays, strict=True):
        np.copyto(target, plane[box.scaled(*subsampling(plane, arrays[0])).slices])
    return part


def fill(frame: av.VideoFrame, colour: tuple[int, ...], box: Rectangle | None = None) -> None:
    """Paint a picture, or a box of it, in one colour, transparent. Packed formats: in black."""
    arrays = plane_views(frame)
    box = box or Rectangle(0, 0, frame.width, frame.height)
    for plane, sample in zip(arrays, (*colour, 0) if len(arrays) > 1 else (0,), strict=True):
        plane[box.scaled(*subsampling(plane, arrays[0])).slices] = sample


class Canvas:
    """Transparent pictures of one format to draw on, painted in a colour.

    is_reused: each is the one before, of which only what was drawn is painted again: it takes no
    new memory, and whoever got the last one is done with it.
    """

    def __init__(self, pixel_format: str, colour: tuple[int, int, int], *, is_reused: bool) -> None:
        self._format, self._colour, self._is_reused = pixel_format, colour, is_reused
        self._last: av.VideoFrame | None = None
        self._drawn = Rectangle(0, 0, 0, 0)

    def blank(self, size: av.VideoFrame) -> tuple[av.VideoFrame, tuple[int, int, int]]:
        """A picture of the size of another, and the colour."""
        picture, self._last = self._last, None
        if picture is not None and (picture.width, picture.height) == (size.width, size.height):
            fill(picture, self._colour, self._drawn)
        else:
            picture = av.VideoFrame(size.width, size.height, self._format)
            fill(picture, self._colour)
        return picture, self._colour

    def has_drawn(self, picture: av.VideoFrame, box: Rectangle) -> None:
        """Take note that a picture of ``blank`` is painted in the colour outside of a box."""
        if self._is_reused:
            self._last, self._drawn = picture, box


def full_planes(frame: av.VideoFrame, box: Rectangle, colour: tuple[int, ...]) -> list[np.ndarray]:
    """Planes (h, w) for the three colours of a box, for ``store``: views of the frame's own where
    these have full resolution, else new ones of the one colour."""
    arrays = plane_views(frame)
    shape, kind = (box.height, box.width), arrays[0].dtype
    if len(arrays) == 1:
        return [np.full(shape, sample, kind) for sample in colour]
    return [
        plane[box.slices] if plane.shape == arrays[0].shape else np.full(shape, sample, kind)
        for plane, sample in zip(arrays, colour, strict=False)
    ]


def store(
    frame: av.VideoFrame,
    box: Rectangle,
    samples: Sequence[np.ndarray],
    own: Sequence[np.ndarray],
    changed: np.ndarray,
) -> None:
    """Write three colours, from ``full_planes``, and alpha, (h, w) each, into a box of a frame.

    RGB comes as G, B, R. own: the planes of the box as they were. A subsampled chroma sample takes
    the mean of its pixels where all of them are ``changed``, (h, w) uint8 not 0, and else its own:
    it belongs to an opaque pixel then.
    """
    arrays = plane_views(frame)
    if len(arrays) == 1:
        order = (1, 0, 2, 3) if frame.format.name.startswith("bgr") else (2, 0, 1, 3)
        arrays[0][box.slices] = cv2.merge([samples[place] for place in order])
        return
    for plane, full, before in zip(arrays, samples, own, strict=False):
        steps = subsampling(plane, arrays[0])
        if steps != (1, 1):
            means, cells = _subsampled(full, changed, *steps)
            target = plane[box.scaled(*steps).slices]
            np.copyto(target, before)
            cv2.copyTo(means, cells, target)
    arrays[3][box.slices] = samples[3]


def write_colours(
    frame: av.VideoFrame, changed: np.ndarray, colour: np.ndarray, box: Rectangle
) -> None:
    """Write ``colour`` (h, w, 3) into ``box`` where ``changed`` (h, w) uint8 is not 0.

    A subsampled chroma sample takes the mean of its pixels where all of them are
    changed, and stays as it was where one is not: it belongs to an opaque pixel
    then. The alpha of packed formats is overwritten too: write it after.
    """
    arrays = plane_views(frame)
    if len(arrays) == 1:
        rgba = cv2.cvtColor(colour, cv2.COLOR_RGB2RGBA)
        _paste(arrays[0], box, rgba, changed)
        return
    for plane, channel in zip(arrays[:3], cv2.split(colour), strict=True):
        step_y, step_x = subsampling(plane, arrays[0])
        if step_y == step_x == 1:
            _paste(plane, box, channel, changed)
        else:
            _paste(
                plane, box.scaled(step_y, step_x), *_subsampled(channel, changed, step_y, step_x)
            )


def _paste(plane: np.ndarray, box: Rectangle, samples: np.ndarray, changed: np.ndarray) -> None:
    """Copy ``samples`` into the box where ``changed`` is not 0."""
    target = plane[box.slices]
    target[...] = cv2.copyTo(samples, changed, np.ascontiguousarray(target))


def _subsampled(
    channel: np.ndarray, changed: np.ndarray, step_y: int, step_x: int
) -> tuple[np.ndarray, np.ndarray]:
    """Means of the cells of a channel, and the mask of cells that are changed entirely."""
    changed = _full_cells(changed, step_y, step_x)
    rows, columns = changed.shape[0] // step_y, changed.shape[1] // step_x
    cells = changed.reshape(rows, step_y, columns, step_x).min(axis=(1, 3))
    return mean_of_cells(channel, step_y, step_x), cells


def mean_of_cells(channel: np.ndarray, step_y: int, step_x: int) -> np.ndarray:
    """The mean of each cell of ``step_y`` rows and ``step_x`` columns of a channel (h, w): what
    a subsampled plane has for it. Cells at the end may be cut off by the picture's edge."""
    if step_y == step_x == 1:
        return channel
    channel = _full_cells(channel, step_y, step_x)
    size = (channel.shape[1] // step_x, channel.shape[0] // step_y)
    return np.asarray(cv2.resize(channel, size, interpolation=cv2.INTER_AREA))


def _full_cells(channel: np.ndarray, step_y: int, step_x: int) -> np.ndarray:
    """A channel (h, w) whose last row and column go on to the end of their cells."""
    below, right = -channel.shape[0] % step_y, -channel.shape[1] % step_x
    return np.pad(channel, ((0, below), (0, right)), "edge") if below or right else channel


def is_yuv(pixel_format: str) -> bool:
    """True for YCbCr formats; grey is none."""
    return pixel_format.startswith("yuv")


def is_rgb(pixel_format: str) -> bool:
    """True for RGB formats, planar or packed."""
    return not is_yuv(pixel_format) and not pixel_format.startswith(("gray", "ya"))

"""A picture's samples as numpy arrays, and back: the layouts that outputs have."""

from __future__ import annotations

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
    repeated = []
    for plane in arrays[:3]:
        step_y, step_x = subsampling(plane, arrays[0])
        part = plane[box.scaled(step_y, step_x).slices]
        if step_y > 1 or step_x > 1:
            size = (part.shape[1] * step_x, part.shape[0] * step_y)
            part = cv2.resize(part, size, interpolation=cv2.INTER_NEAREST_EXACT)
        repeated.append(part[: box.height, : box.width])
    return np.asarray(cv2.merge(repeated))


def subsampling(plane: np.ndarray, full: np.ndarray) -> tuple[int, int]:
    """Rows and columns of the full-size plane that one sample of ``plane`` stands for."""
    return -(-full.shape[0] // plane.shape[0]), -(-full.shape[1] // plane.shape[1])


def subsampling_reach(frame: av.VideoFrame) -> tuple[int, int]:
    """Rows and columns of the window around a pixel that holds all which share its chroma."""
    arrays = plane_views(frame)
    down, across = subsampling(arrays[1], arrays[0]) if len(arrays) > 1 else (1, 1)
    return 2 * down - 1, 2 * across - 1


def fill_outside(frame: av.VideoFrame, box: Rectangle, colour: tuple[int, ...]) -> None:
    """Paint everything but ``box`` in one colour; the alpha of packed formats becomes 0."""
    arrays = plane_views(frame)
    samples = [(*colour, 0)] if len(arrays) == 1 else colour
    for plane, sample in zip(arrays, samples, strict=False):
        area = box.scaled(*subsampling(plane, arrays[0]))
        bottom, right = area.y + area.height, area.x + area.width
        plane[: area.y] = sample
        plane[bottom:] = sample
        plane[area.y : bottom, : area.x] = sample
        plane[area.y : bottom, right:] = sample


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

"""Frames at the working scale, rectangles of their pixels, and lists of those that need work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

ROW = 1024  # sparse pixels travel through cv2.remap as rows of this length
SOFT_LOW, SOFT_HIGH = 0.05, 0.95  # alpha between these is soft
_WHOLE_SIDE = 800  # pictures with a shorter longer side are worked on as they are,
_WORKING_SIDE = 960  # larger ones at half, or so that theirs is about this


@dataclass(frozen=True)
class Box:
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right``, the ends exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def is_empty(self) -> bool:
        """True where it holds no pixel."""
        return self.bottom <= self.top or self.right <= self.left

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.bottom - self.top, self.right - self.left

    def crop(self, picture: np.ndarray) -> np.ndarray:
        """The view of a (H, W) or (H, W, C) array that lies in the box."""
        return picture[self.top : self.bottom, self.left : self.right]

    def union(self, other: Box) -> Box:
        """The smallest box that holds both."""
        if self.is_empty or other.is_empty:
            return other if self.is_empty else self
        return Box(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def common(self, other: Box) -> Box:
        """What lies in both."""
        return Box(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    def grown(self, margin: int, height: int, width: int) -> Box:
        """Larger by ``margin`` on every side, inside a picture of height x width."""
        if self.is_empty:
            return self
        return Box(
            max(self.top - margin, 0),
            max(self.left - margin, 0),
            min(self.bottom + margin, height),
            min(self.right + margin, width),
        )

    def times(self, side: int) -> Box:
        """The same box at ``side`` times the scale."""
        return Box(*(side * end for end in (self.top, self.left, self.bottom, self.right)))

    def moved(self, down: int, right: int) -> Box:
        """The same box further down and to the right."""
        return Box(self.top + down, self.left + right, self.bottom + down, self.right + right)

    def enlarged(self, working: tuple[int, ...], height: int, width: int) -> Box:
        """What it covers of a picture of height x width that is ``working`` at its own scale."""
        down, across = height / working[0], width / working[1]
        return Box(
            int(self.top * down),
            int(self.left * across),
            min(int(np.ceil(self.bottom * down)), height),
            min(int(np.ceil(self.right * across)), width),
        )


NOTHING = Box(0, 0, 0, 0)


def box_around(mask: np.ndarray) -> Box:
    """The smallest box around the nonzero pixels of a (H, W) uint8 or bool mask."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return Box(top, left, top + height, left + width)


def boxes_over(mask: np.ndarray, rows: int, gap: int) -> list[Box]:
    """Boxes that together hold every True of a (H, W) bool mask.

    Each lies in one band of ``rows`` rows; boxes of a band are at least ``gap`` columns apart.
    """
    found = []
    for top in range(0, len(mask), rows):
        bottom = min(top + rows, len(mask))
        columns = np.flatnonzero(mask[top:bottom].any(axis=0))
        if not len(columns):
            continue
        breaks = np.flatnonzero(np.diff(columns) > gap)
        firsts, lasts = np.append(0, breaks + 1), np.append(breaks, len(columns) - 1)
        found += [
            Box(top, int(columns[first]), bottom, int(columns[last]) + 1)
            for first, last in zip(firsts, lasts, strict=True)
        ]
    return found


class Pixels:
    """The nonzero pixels of a mask that covers ``box`` of a picture, as flat lists.

    ``index`` (N,) picks them from a flattened picture of ``width`` columns; ``x``
    and ``y`` (N,) float32 are their columns and rows in it. step: rows and columns of the picture
    that each pixel of the mask and of the box stands for. Such a block has ``block`` pixels: the
    lists have the first pixel of every block, then the second of every block, up to the last.
    """

    def __init__(
        self, mask: np.ndarray, box: Box, width: int, step: tuple[int, int] = (1, 1)
    ) -> None:
        points = cv2.findNonZero(mask) if mask.size else None
        flat = np.zeros((0, 2), np.int32) if points is None else points.reshape(-1, 2)
        columns, rows = flat[:, 0] + np.int32(box.left), flat[:, 1] + np.int32(box.top)
        self.block = step[0] * step[1]
        if self.block > 1:
            within = np.indices(step, np.int32).reshape(2, -1, 1)
            rows, columns = (
                (firsts * np.int32(side) + more).ravel()
                for firsts, side, more in zip((rows, columns), step, within, strict=True)
            )
        self.index = rows.astype(np.intp) * width + columns
        self.x, self.y = columns.astype(np.float32), rows.astype(np.float32)

    def __len__(self) -> int:
        return len(self.index)

    def of(self, picture: np.ndarray) -> np.ndarray:
        """The values (N,) or (N, C) of a full C-contiguous picture at these pixels."""
        flat = picture.reshape(-1, *picture.shape[2:])
        return np.asarray(flat.take(self.index, axis=0))

    def put(self, picture: np.ndarray, values: np.ndarray) -> None:
        """Write (N,) values into a full C-contiguous (H, W) picture, in place."""
        picture.reshape(-1)[self.index] = values


def pixels_under(
    mask: np.ndarray,
    box: Box,
    working: tuple[int, ...],
    height: int,
    width: int,
    blocks: int = 1,
) -> Pixels:
    """The full-resolution pixels whose working pixel in ``box`` is set.

    mask: uint8 of the shape of ``box``. blocks: into how many a working pixel is divided along
    each side, in a picture that can be.
    """
    if box.is_empty:
        return Pixels(np.zeros((0, 0), np.uint8), box, width)
    if height % (blocks * working[0]) == 0 and width % (blocks * working[1]) == 0:
        full = Box(*(blocks * end for end in (box.top, box.left, box.bottom, box.right)))
        step = height // (blocks * working[0]), width // (blocks * working[1])
    else:
        full, step = box.enlarged(working, height, width), (1, 1)
    rows, columns = full.shape
    mask = np.asarray(cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_NEAREST))
    return Pixels(mask, full, width, step)


def to_working(
    x: np.ndarray, y: np.ndarray, full: Sequence[float], working: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows at the working scale of the centres of pixels at x and y, float32."""
    across, down = working[1] / full[1], working[0] / full[0]
    return (
        (x + np.float32(0.5)) * np.float32(across) - np.float32(0.5),
        (y + np.float32(0.5)) * np.float32(down) - np.float32(0.5),
    )


def in_rows(values: np.ndarray) -> np.ndarray:
    """(..., N) values as (..., rows, ``ROW``) float32, the last row filled up with zeros."""
    *before, count = values.shape
    rows = np.zeros((*before, -(-max(count, 1) // ROW), ROW), np.float32)
    rows.reshape(*before, -1)[..., :count] = values
    return rows


def sample(
    picture: np.ndarray, x: np.ndarray, y: np.ndarray, border: int = cv2.BORDER_REPLICATE
) -> np.ndarray:
    """Bilinear samples of a (H, W) or (H, W, C) picture at (N,) float32 places.

    Returns (N,) or (N, C). ``border`` as in cv2.remap; constant means zero.
    """
    values = cv2.remap(picture, in_rows(x), in_rows(y), cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(values.reshape(-1, *picture.shape[2:])[: len(x)])


def _working_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) at which motion and fits are computed: full size over an integer."""
    side = max(height, width)
    factor = 1 if side < _WHOLE_SIDE else max(2, round(side / _WORKING_SIDE))
    return max(1, round(height / factor)), max(1, round(width / factor))


@dataclass
class WorkingFrame:
    """A frame at the working scale.

    rgb: (h, w, 3) uint8; alpha: (h, w) float32 in 0..1, (0, 0) where it was dropped; box: where it
    is not zero.
    """

    rgb: np.ndarray
    alpha: np.ndarray
    box: Box

    @property
    def shape(self) -> tuple[int, int]:
        """h, w."""
        height, width = self.rgb.shape[:2]
        return height, width

    def drop_alpha(self) -> None:
        """Free the alpha: the average of the frame and its neighbours changes it, and frames wait
        long for that."""
        self.alpha = np.zeros((0, 0), np.float32)

    @classmethod
    def of(cls, rgb: np.ndarray, alpha: np.ndarray) -> WorkingFrame:
        """Reduce a frame: rgb (H, W, 3) uint8 and alpha (H, W) float32."""
        height, width = _working_size(*alpha.shape)
        small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
        small_alpha = reduce_alpha(alpha, height, width)
        return cls(small, small_alpha, box_around(small_alpha > SOFT_LOW / 5))


def reduce_alpha(alpha: np.ndarray, height: int, width: int) -> np.ndarray:
    """Area mean of alpha at height x width."""
    return np.asarray(cv2.resize(alpha, (width, height), interpolation=cv2.INTER_AREA))


def soft_or_edge(alpha: np.ndarray, low: float, high: float) -> np.ndarray:
    """1 where alpha is from low to high, or beside a hard edge: (h, w) uint8."""
    solid = (alpha > 0.5).astype(np.uint8)
    hard = cv2.morphologyEx(solid, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    return np.asarray((cv2.inRange(alpha, low, high) | hard) > 0).view(np.uint8)

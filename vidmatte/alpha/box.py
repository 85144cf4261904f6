"""Rectangles of pixels, and lists of the pixels in them that need work."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

ROW = 1024  # sparse pixels travel through cv2.remap as rows of this length


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


class Pixels:
    """The nonzero pixels of a mask that covers ``box`` of a picture, as flat lists.

    ``index`` (N,) picks them from a flattened picture of ``width`` columns; ``x``
    and ``y`` (N,) float32 are their columns and rows in it.
    """

    def __init__(self, mask: np.ndarray, box: Box, width: int) -> None:
        points = cv2.findNonZero(mask) if mask.size else None
        flat = np.zeros((0, 2), np.int32) if points is None else points.reshape(-1, 2)
        columns, rows = flat[:, 0] + np.int32(box.left), flat[:, 1] + np.int32(box.top)
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


def in_rows(values: np.ndarray) -> np.ndarray:
    """(N,) values as (rows, ``ROW``) float32, the last row filled up with zeros."""
    rows = np.zeros((-(-max(len(values), 1) // ROW), ROW), np.float32)
    rows.reshape(-1)[: len(values)] = values
    return rows


def sample(
    picture: np.ndarray, x: np.ndarray, y: np.ndarray, border: int = cv2.BORDER_REPLICATE
) -> np.ndarray:
    """Bilinear samples of a (H, W) or (H, W, C) picture at (N,) float32 places.

    Returns (N,) or (N, C). ``border`` as in cv2.remap; constant means zero.
    """
    values = cv2.remap(picture, in_rows(x), in_rows(y), cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(values.reshape(-1, *picture.shape[2:])[: len(x)])

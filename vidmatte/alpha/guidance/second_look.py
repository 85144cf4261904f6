"""A subject that the network ignores is shown to it again, alone.

A salient network marks what stands out. Where that is another, it sees little of the chosen
subject: the frame is cropped to the subject's place, the others are painted out with what is
around them, and the network runs on that. Both alphas count, under the subject's field.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

_LEAST_SEEN = 0.6  # share of the field's inside that the network marks; below it looks again
_SPREAD = 4  # frames before and after such a frame that are shown again too, where as much as
_PARTLY = 0.2  # of the inside is unseen: the matte should not change at once
_MARGIN = 0.3  # of the subject's box, to each side
_LEAST_SIDE = 24  # pixels of the work picture
_OTHER = 0.3  # alpha less twice the field from which a pixel is another's
_SIGMAS = (1.5, 4.0, 12.0, 40.0)  # of the blurs that replace others, finest first
_PAINT_SCALE = 8  # they are computed at so much less than the frame's size
_LEAST_DATA = 0.05  # weight below which a blur has nothing to say
_WIDEST = 512  # pixels of a stored alpha's longer side


class Crop(NamedTuple):
    """A part of a frame, in its pixels; right and bottom are outside."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def within(cls, sides: tuple[float, float, float, float], width: int, height: int) -> Crop:
        """Left, top, right and bottom, rounded, in a frame of width x height: at least a pixel."""
        left = min(max(0, round(sides[0])), width - 1)
        top = min(max(0, round(sides[1])), height - 1)
        right, bottom = min(width, round(sides[2])), min(height, round(sides[3]))
        return cls(left, top, max(left + 1, right), max(top + 1, bottom))

    def scaled(self, x: float, y: float) -> Crop:
        """The same place in a frame of another size, so many times as wide and as high."""
        sides = self.left * x, self.top * y, self.right * x, self.bottom * y
        return Crop(*map(round, sides))

    @property
    def part(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def is_ignored(unseen: float) -> bool:
    """Whether a network sees too little of a subject; see ``gate.unseen_share``."""
    return 1 - unseen < _LEAST_SEEN


def frames_to_show(unseen: Sequence[float]) -> list[int]:
    """The frames to show again, and some around each, by the share that is unseen on each."""
    missed = [index for index, share in enumerate(unseen) if is_ignored(share)]
    near = {
        index
        for frame in missed
        for index in range(max(0, frame - _SPREAD), min(len(unseen), frame + _SPREAD + 1))
        if unseen[index] > _PARTLY
    }
    return sorted(near)


def crop_of(field: np.ndarray, width: int, height: int) -> Crop | None:
    """The subject's place and some around it in a frame of width x height; None without any.

    field: (h, w) float32 0..1 at the work size.
    """
    x, y, w, h = cv2.boundingRect((field > 0.5).astype(np.uint8))
    if not w:
        return None
    across = max(w * (1 + 2 * _MARGIN), _LEAST_SIDE) / 2
    down = max(h * (1 + 2 * _MARGIN), _LEAST_SIDE) / 2
    scale = width / field.shape[1], height / field.shape[0]
    sides = (
        (x + w / 2 - across) * scale[0],
        (y + h / 2 - down) * scale[1],
        (x + w / 2 + across) * scale[0],
        (y + h / 2 + down) * scale[1],
    )
    return Crop.within(sides, width, height)


def without_others(rgb: np.ndarray, field: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """A frame (H, W, 3) uint8 with what the network marks and is not the subject painted out.

    field, alpha: (h, w) float32 0..1 at the work size, the latter the network's.
    """
    reach = max(1, round(0.01 * field.shape[1]))
    grow = np.ones((2 * reach + 1,) * 2, np.uint8)
    others = cv2.dilate((alpha - 2 * field > _OTHER).astype(np.uint8), grow)
    others[cv2.dilate((field > 0.5).astype(np.uint8), grow) > 0] = 0
    if not others.any():
        return rgb
    height, width = rgb.shape[:2]
    size = max(1, width // _PAINT_SCALE), max(1, height // _PAINT_SCALE)
    known = 1 - cv2.resize(others.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    known = (known > 0.99).astype(np.float32)
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    total = cv2.GaussianBlur(small, (0, 0), max(size))
    for sigma in reversed(_SIGMAS):
        weight = cv2.GaussianBlur(known, (0, 0), sigma)
        filled = cv2.GaussianBlur(small * known[..., None], (0, 0), sigma)
        filled /= np.maximum(weight, np.float32(1e-6))[..., None]
        total = np.where((weight > _LEAST_DATA)[..., None], filled, total)
    paint = cv2.resize(total, (width, height))
    share = cv2.resize(others.astype(np.float32), (width, height))[..., None]
    return np.asarray(np.clip(np.rint(rgb + share * (paint - rgb)), 0, 255), np.uint8)


class LookStore:
    """The alphas of crops, one file a frame in a folder, each with the key of what it was made of;
    an alpha whose key differs does not count."""

    def __init__(self, folder: Path, prefix: str) -> None:
        """prefix: of the names of the files."""
        self._folder, self._prefix = folder, prefix

    def has(self, index: int, key: str) -> bool:
        """Whether a frame's alpha is there."""
        try:
            with np.load(self._path(index)) as stored:
                return str(stored["key"]) == key
        except (OSError, ValueError, KeyError):
            return False

    def put(
        self, index: int, key: str, crop: Crop, size: tuple[int, int], alpha: np.ndarray
    ) -> None:
        """Store the alpha (h, w) float32 0..1 of a crop of a frame of ``size`` (width, height).
        Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        scale = min(1.0, _WIDEST / max(alpha.shape))
        stored = max(1, round(alpha.shape[1] * scale)), max(1, round(alpha.shape[0] * scale))
        codes = np.rint(255 * cv2.resize(alpha, stored, interpolation=cv2.INTER_AREA))
        place = np.array([crop.left, crop.top, crop.right, crop.bottom, *size])
        partial = self._path(index).with_suffix(".part")
        with partial.open("wb") as file:
            np.savez_compressed(file, key=key, place=place, alpha=codes.astype(np.uint8))
        partial.replace(self._path(index))

    def seen(self, index: int, alpha: np.ndarray) -> np.ndarray:
        """The network's alpha of a frame, (H, W) float32 of any size, and what the crop adds."""
        try:
            with np.load(self._path(index)) as stored:
                left, top, right, bottom, width, height = (int(one) for one in stored["place"])
                codes = stored["alpha"]
        except (OSError, ValueError, KeyError):
            return alpha
        x, y = alpha.shape[1] / width, alpha.shape[0] / height
        part = Crop(left, top, right, bottom).scaled(x, y).part
        seen = alpha.copy()
        place = seen[part]
        if place.size:
            found = cv2.resize(codes, (place.shape[1], place.shape[0])).astype(np.float32)
            seen[part] = np.maximum(place, found / np.float32(255))
        return seen

    def keep_only(self, indices: Sequence[int]) -> None:
        """Remove the alphas of all other frames."""
        kept = {self._path(index).name for index in indices}
        for path in self._folder.glob(f"{self._prefix}-*.npz"):
            if path.name not in kept:
                path.unlink()

    def _path(self, index: int) -> Path:
        return self._folder / f"{self._prefix}-{index:06d}.npz"

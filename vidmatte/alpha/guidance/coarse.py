"""A frame as the guidance sees it: small, with the network's alpha and its features.

Everything here works at about 320 x 180, whatever the frame's size and shape, so that the
cost a frame is the same for 360p and for 8K.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np

from vidmatte.alpha.guidance.coarse_features import CoarseFeatures

_WORK_AREA = 320 * 180  # pixels of the work picture
FEWEST_PIXELS = 15  # of it: a mask of fewer shows nothing
_FLOW_SCALE = 1.5  # motion is searched at so many times the work size


def work_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of the work picture of a frame, even numbers, never larger than it."""
    scale = min(1.0, (_WORK_AREA / (width * height)) ** 0.5)
    return max(2 * round(width * scale / 2), 16), max(2 * round(height * scale / 2), 16)


class SmallPicture(NamedTuple):
    """A frame's picture (h, w, 3) uint8 RGB at the work size, and 1.5 times as large in grey."""

    picture: np.ndarray
    grey: np.ndarray

    @property
    def lab(self) -> np.ndarray:
        """(h, w, 3) float32: L 0..100, a and b about -128..127."""
        return np.asarray(cv2.cvtColor(self.picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))


def small_picture(rgb: np.ndarray) -> SmallPicture:
    """Of a frame (H, W, 3) uint8."""
    width, height = work_size(rgb.shape[1], rgb.shape[0])
    middle = reduced(rgb, round(_FLOW_SCALE * width), round(_FLOW_SCALE * height))
    grey = np.asarray(cv2.cvtColor(middle, cv2.COLOR_RGB2GRAY))
    return SmallPicture(reduced(middle, width, height), grey)


@dataclass(frozen=True)
class CoarseFrame:
    """What is kept of a frame, in about 0.9 MB with a network's features.

    picture: (h, w, 3) uint8 RGB at the work size. grey: uint8, 1.5 times as large.
    alpha_codes: (h, w) uint8, the network's alpha. tensors: projected, (C, h', w') float16.
    detail: (H', W', 3) uint8, a larger picture, where a network needs one; see ``propagator``.
    index: its number in a store; None of a frame that is in none.
    """

    picture: np.ndarray
    grey: np.ndarray
    alpha_codes: np.ndarray
    tensors: tuple[np.ndarray, ...] = ()
    detail: np.ndarray | None = None
    index: int | None = None

    @property
    def height(self) -> int:
        return int(self.picture.shape[0])

    @property
    def width(self) -> int:
        return int(self.picture.shape[1])

    @cached_property
    def alpha(self) -> np.ndarray:
        """The network's alpha, (h, w) float32 0..1."""
        return self.alpha_codes.astype(np.float32) / np.float32(255)

    @cached_property
    def lab(self) -> np.ndarray:
        """(h, w, 3) float32: L 0..100, a and b about -128..127."""
        return SmallPicture(self.picture, self.grey).lab

    @cached_property
    def features(self) -> CoarseFeatures:
        """Its features, at half the work size."""
        return CoarseFeatures(self.lab, self.tensors)

    def with_planes(self, planes: np.ndarray) -> CoarseFrame:
        """The same frame with further features (h / 2, w / 2, K) float32."""
        more = replace(self)
        vars(more)["features"] = self.features.with_planes(planes)
        return more


class CoarseFrameMaker:
    """Makes coarse frames of one clip; the first frame's tensors set their projection.

    detail: the size (width, height) of their detail pictures; None for none.
    """

    def __init__(self, detail: tuple[int, int] | None = None) -> None:
        self._detail = detail
        self._projection: _TensorProjection | None = None

    def make(
        self, rgb: np.ndarray, alpha: np.ndarray, tensors: Sequence[np.ndarray] = ()
    ) -> CoarseFrame:
        """A coarse frame.

        rgb: (H, W, 3) uint8. alpha: (H', W') float32 0..1 of any size, covering the full
        frame, before any filter. tensors: (C, h', w'), covering the full frame, the same ones
        each time.
        """
        small = small_picture(rgb)
        height, width = small.picture.shape[:2]
        if self._projection is None:
            self._projection = _TensorProjection(tensors)
        codes = np.rint(np.clip(reduced(alpha, width, height), 0, 1) * 255).astype(np.uint8)
        return CoarseFrame(
            picture=small.picture,
            grey=small.grey,
            alpha_codes=codes,
            tensors=self._projection(tensors),
            detail=None if self._detail is None else reduced(rgb, *self._detail),
        )


def reduced(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """A picture at another size: the mean of what falls together, or bilinear if larger."""
    smaller = width <= picture.shape[1] and height <= picture.shape[0]
    way = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=way))


_PACKED_SCALE, _PACKED_LEVELS = 2, 15  # size and values of a packed map


def packed(values: np.ndarray) -> bytes:
    """A map (h, w) float32 0..1 in 16 levels at half its size, in some KB; see ``unpacked``."""
    width, height = _packed_size(values.shape)
    small = cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA)
    return zlib.compress(np.rint(_PACKED_LEVELS * small).astype(np.uint8).tobytes(), 1)


def unpacked(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The map of the shape (h, w) that was packed, float32 0..1."""
    width, height = _packed_size(shape)
    levels = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, width)
    small = levels.astype(np.float32) / np.float32(_PACKED_LEVELS)
    return np.asarray(cv2.resize(small, (shape[1], shape[0])))


def _packed_size(shape: tuple[int, ...]) -> tuple[int, int]:
    return max(1, shape[1] // _PACKED_SCALE), max(1, shape[0] // _PACKED_SCALE)


# Channels kept of a tensor. More are reduced.
_MOST_CHANNELS = 128
# Mean squared length of a tensor's vectors after scaling; of the finest tensor it is less.
_LENGTH, _FINEST_LENGTH = 40.0, 24.0


class _TensorProjection:
    """Reduces tensors (C, h, w) to few, evenly scaled channels; fitted on one frame."""

    def __init__(self, tensors: Sequence[np.ndarray], most: int = _MOST_CHANNELS) -> None:
        self._bases: list[np.ndarray | None] = []
        self._scales: list[np.float32] = []
        finest = max((t.shape[1] for t in tensors), default=0)
        for tensor in tensors:
            flat = tensor.reshape(len(tensor), -1).astype(np.float32)
            basis = None if len(tensor) <= most else _principal_axes(flat, most)
            reduced = flat if basis is None else basis @ flat
            wanted = _FINEST_LENGTH if tensor.shape[1] == finest and len(tensors) > 1 else _LENGTH
            length = float(np.square(reduced).sum(0).mean())
            self._bases.append(basis)
            self._scales.append(np.float32(np.sqrt(wanted / max(length, 1e-12))))

    def __call__(self, tensors: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Tensors like those it was fitted on, reduced and scaled, (C', h, w) float16."""
        reduced = []
        for tensor, basis, scale in zip(tensors, self._bases, self._scales, strict=True):
            if basis is not None:
                flat = tensor.reshape(len(tensor), -1).astype(np.float32)
                tensor = (basis @ flat).reshape(-1, *tensor.shape[1:])
            reduced.append(np.multiply(tensor, scale, dtype=np.float32).astype(np.float16))
        return tuple(reduced)


def _principal_axes(flat: np.ndarray, most: int) -> np.ndarray:
    """The ``most`` strongest axes of (C, n) float32 vectors, (most, C) float32."""
    second = flat @ flat.T / np.float32(flat.shape[1])
    _, axes = np.linalg.eigh(second.astype(np.float64))  # ascending
    return np.ascontiguousarray(axes[:, ::-1][:, :most].T, np.float32)


class ColourGuide:
    """A guide (h, w, 3) float32, about -2..2, prepared once for several pictures."""

    def __init__(self, guide: np.ndarray, radius: int = 6, eps: float = 2e-3) -> None:
        self._size = (2 * radius + 1, 2 * radius + 1)
        self._planes = [np.ascontiguousarray(guide[..., i]) for i in range(3)]
        self._means = [self._box(plane) for plane in self._planes]
        self._inverse = self._inverse_covariance(eps)

    def _box(self, plane: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.blur(plane, self._size))

    def _inverse_covariance(self, eps: float) -> dict[tuple[int, int], np.ndarray]:
        """The inverse of covariance + eps at each pixel, by row and column."""
        s = {}
        for i in range(3):
            for j in range(i, 3):
                product = self._box(self._planes[i] * self._planes[j])
                s[i, j] = product - self._means[i] * self._means[j] + (eps if i == j else 0)
        c00 = s[1, 1] * s[2, 2] - s[1, 2] ** 2
        c01 = s[0, 2] * s[1, 2] - s[0, 1] * s[2, 2]
        c02 = s[0, 1] * s[1, 2] - s[0, 2] * s[1, 1]
        c11 = s[0, 0] * s[2, 2] - s[0, 2] ** 2
        c12 = s[0, 1] * s[0, 2] - s[0, 0] * s[1, 2]
        c22 = s[0, 0] * s[1, 1] - s[0, 1] ** 2
        determinant = s[0, 0] * c00 + s[0, 1] * c01 + s[0, 2] * c02
        one = 1 / np.maximum(determinant, 1e-12)
        upper = {(0, 0): c00, (0, 1): c01, (0, 2): c02, (1, 1): c11, (1, 2): c12, (2, 2): c22}
        return {place: value * one for place, value in upper.items()}

    def smooth(self, picture: np.ndarray) -> np.ndarray:
        """A picture (h, w) float32 smoothed along the guide's edges."""
        mean = self._box(picture)
        pairs = zip(self._planes, self._means, strict=True)
        cross = [self._box(plane * picture) - m * mean for plane, m in pairs]
        slopes = []
        for i in range(3):
            terms = [self._inverse[min(i, j), max(i, j)] * cross[j] for j in range(3)]
            slopes.append(terms[0] + terms[1] + terms[2])
        offset = mean - sum(a * m for a, m in zip(slopes, self._means, strict=True))
        result = self._box(offset)
        for slope, plane in zip(slopes, self._planes, strict=True):
            result += self._box(slope) * plane
        return result

    def weighted(self, picture: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """The same where each pixel counts by its weight (h, w) float32, above 0."""
        return np.asarray(
            self.smooth(picture * weight) / np.maximum(self.smooth(weight), np.float32(1e-4))
        )

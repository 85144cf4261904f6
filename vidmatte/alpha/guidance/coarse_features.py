"""What a place of a small frame looks like: its colours, and a network's tensors around it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import cv2
import numpy as np

_LAB_SCALE = np.array([25, 15, 15], np.float32)


class CoarseFeatures:
    """Features at half the work size, D a pixel. A network's are coarser: they are enlarged last.

    lab: (h, w, 3) float32 (OpenCV's float Lab). tensors: as _TensorProjection gives them;
    without any, local contrast and wider surroundings replace them, which distinguish less.
    """

    def __init__(self, lab: np.ndarray, tensors: Sequence[np.ndarray]) -> None:
        self.shape = lab.shape[0] // 2, lab.shape[1] // 2
        near = lab / _LAB_SCALE
        planes = [near, cv2.GaussianBlur(near, (0, 0), 3)]
        if not tensors:
            planes += _colour_texture(near)
        size = self.shape[::-1]
        small = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in planes]
        self._colour = np.concatenate(small, axis=2)
        self._tensors = [_channels_last(tensor) for tensor in tensors]

    def with_planes(self, planes: np.ndarray) -> CoarseFeatures:
        """With further ones (h / 2, w / 2, K) float32 behind."""
        more = copy(self)
        more._tensors = [*self._tensors, planes]
        return more

    def joined(self) -> np.ndarray:
        """(h / 2, w / 2, D) float32."""
        large = [cv2.resize(tensor, self.shape[::-1]) for tensor in self._tensors]
        return np.concatenate([self._colour, *large], axis=2)

    def pooled(self) -> np.ndarray:
        """At half that size: (h / 4, w / 4, D) float32, the mean of each 2 x 2.

        What is coarser than that is enlarged to it at once.
        """
        rows, columns = self.shape[0] // 2, self.shape[1] // 2
        parts = [mean_of_four(self._colour)]
        for tensor in self._tensors:
            if tensor.shape[0] <= rows and tensor.shape[1] <= columns:
                parts.append(cv2.resize(tensor, (columns, rows)))
            else:
                parts.append(mean_of_four(cv2.resize(tensor, self.shape[::-1])))
        return np.concatenate(parts, axis=2)

    def projected(self, axes: np.ndarray) -> np.ndarray:
        """(h / 2, w / 2, K) float32: the features times the axes (D, K).

        The same as of the joined ones, as enlarging is linear, in a part of the time.
        """
        height, width = self.shape
        depth, count = self._colour.shape[2], axes.shape[1]
        found = self._colour.reshape(height * width, depth) @ axes[:depth]
        for tensor in self._tensors:
            h, w, channels = tensor.shape
            some = axes[depth : depth + channels]
            flat = tensor.reshape(h * w, channels)
            if channels < count:
                large = cv2.resize(tensor, (width, height))
                found += large.reshape(height * width, channels) @ some
            else:
                part = (flat @ some).reshape(h, w, count)
                found += cv2.resize(part, (width, height)).reshape(height * width, count)
            depth += channels
        return np.asarray(found.reshape(height, width, count))


def _channels_last(tensor: np.ndarray) -> np.ndarray:
    """(C, h, w) as (h, w, C) float32."""
    return np.ascontiguousarray(tensor.transpose(1, 2, 0), np.float32)


def mean_of_four(planes: np.ndarray) -> np.ndarray:
    """The mean of each 2 x 2 of (h, w, C) float32, (h / 2, w / 2, C)."""
    height, width = (size // 2 * 2 for size in planes.shape[:2])
    total = planes[:height:2, :width:2] + planes[1:height:2, :width:2]
    total += planes[:height:2, 1:width:2]
    total += planes[1:height:2, 1:width:2]
    total *= np.float32(0.25)
    return np.asarray(total)


def squared_length(vectors: np.ndarray) -> np.ndarray:
    """Of vectors (h, w, C) float32 of up to four components, (h, w) float32."""
    ones = np.ones((1, vectors.shape[2]), np.float32)
    return np.asarray(cv2.transform(np.square(vectors), ones))


def _colour_texture(near: np.ndarray) -> list[np.ndarray]:
    """Local contrast of scaled Lab (h, w, 3) at two scales, and its wider surroundings."""
    planes = []
    for sigma in (2, 5):
        mean = cv2.GaussianBlur(near, (0, 0), sigma)
        square = cv2.GaussianBlur(np.square(near), (0, 0), sigma)
        planes.append(2 * np.sqrt(np.maximum(square - mean**2, 0)))
    planes.append(cv2.GaussianBlur(near, (0, 0), 8))
    return planes

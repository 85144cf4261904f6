"""What a pixel looks like, as numbers: colours, and inner tensors of networks.

Any network's tensors serve whose maps lie over the frame: a segmentation network's own, which
come with its alpha, or the backbone of another. A tensor of many channels is reduced by
the principal components of the first frame it is seen on, then scaled so that none rules.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

_LAB_SCALE = np.array([25, 15, 15], np.float32)
# Channels kept of a tensor. More are reduced.
_MOST_CHANNELS = 128
# Mean squared length of a tensor's vectors after scaling; of the finest tensor it is less.
_LENGTH, _FINEST_LENGTH = 40.0, 24.0


class TensorProjection:
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
            flat = tensor.reshape(len(tensor), -1).astype(np.float32)
            flat = scale * (flat if basis is None else basis @ flat)
            reduced.append(flat.reshape(-1, *tensor.shape[1:]).astype(np.float16))
        return tuple(reduced)


def _principal_axes(flat: np.ndarray, most: int) -> np.ndarray:
    """The ``most`` strongest axes of (C, n) float32 vectors, (most, C) float32."""
    second = flat @ flat.T / np.float32(flat.shape[1])
    _, axes = np.linalg.eigh(second.astype(np.float64))  # ascending
    return np.ascontiguousarray(axes[:, ::-1][:, :most].T, np.float32)


def stack_features(lab: np.ndarray, tensors: Sequence[np.ndarray]) -> np.ndarray:
    """Features at half the work size: (h // 2, w // 2, D) float32.

    lab: (h, w, 3) float32 (OpenCV's float Lab). tensors: as TensorProjection gives them;
    without any, the local contrast and wider surroundings stand in, which tell less.
    """
    height, width = lab.shape[0] // 2, lab.shape[1] // 2
    size = (width, height)
    near = lab / _LAB_SCALE
    planes = [near, cv2.GaussianBlur(near, (0, 0), 3)]
    if not tensors:
        planes += _colour_texture(near)
    parts = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in planes]
    for tensor in tensors:
        last = np.ascontiguousarray(tensor.transpose(1, 2, 0), np.float32)
        parts.append(cv2.resize(last, size, interpolation=cv2.INTER_LINEAR))
    return np.concatenate(parts, axis=2)


def _colour_texture(near: np.ndarray) -> list[np.ndarray]:
    """Local contrast of scaled Lab (h, w, 3) at two scales, and its wider surroundings."""
    planes = []
    for sigma in (2, 5):
        mean = cv2.GaussianBlur(near, (0, 0), sigma)
        square = cv2.GaussianBlur(np.square(near), (0, 0), sigma)
        planes.append(2 * np.sqrt(np.maximum(square - mean**2, 0)))
    planes.append(cv2.GaussianBlur(near, (0, 0), 8))
    return planes

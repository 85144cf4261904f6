"""The subject's own colours in soft pixels, without the old background's.

A soft pixel shows I = alpha F + (1 - alpha) B. As in blur fusion (Forte, Pitie,
"Approximate Fast Foreground Colour Estimation", ICIP 2021) F and B are first local
means, weighted by alpha and 1 - alpha, then corrected by the residual of this equation. Here the
means are refined from coarse to fine, and the residual is distributed between F and B by
least squares.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from vidmatte.alpha.box import Box, box_around, boxes_over, in_rows
from vidmatte.core.frame import Clip
from vidmatte.errors import UsageError
from vidmatte.pixels.network_rgb import CURVED
from vidmatte.settings import Settings

# Halvings of the frame and radius of the means at that scale, coarse to fine.
LEVELS = ((3, 11), (2, 3), (1, 2), (1, 1))
COARSEST = 2 ** LEVELS[0][0]
COLOUR_MARGIN = 96  # pixels around the soft ones whose colours are looked at
LEAST, MOST = 1 / 4096, 1 - 1 / 4096  # alpha beyond: the colour is as good as the source's
REGULAR = 0.01  # trust in the local means against the pixel itself
TINY = 1e-5

_FINEST = LEVELS[-1][0]
_FINE_RADII = [radius for halvings, radius in LEVELS if halvings == _FINEST]
# The finest means are computed in boxes of tiles around soft pixels: the boxes fit a core's cache
# and are few enough that calls do not dominate.
_TILE = 16  # pixels a side at the finest scale
_TILE_ROWS = 6  # a box is at most this high
_TILE_GAP = 3  # tiles between two boxes of a row


class _SoftPixels:
    """The nonzero pixels of a mask (h, w), and their values in planes of that size."""

    def __init__(self, mask: np.ndarray) -> None:
        points = np.asarray(cv2.findNonZero(mask)).reshape(-1, 2)
        self.columns, self.rows = points[:, 0], points[:, 1]
        self._indices: dict[int, np.ndarray] = {}

    def of(self, plane: np.ndarray) -> np.ndarray:
        """(N,) values in a plane whose rows are contiguous."""
        flat, index = self._flat(plane)
        return flat.take(index)

    def put(self, plane: np.ndarray, values: np.ndarray) -> None:
        """Write (N,) values into a plane whose rows are contiguous."""
        flat, index = self._flat(plane)
        flat[index] = values

    def _flat(self, plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The plane's memory as one row, and the indices of the pixels in it."""
        step = plane.strides[0] // plane.itemsize
        size = (len(plane) - 1) * step + plane.shape[1]
        if step not in self._indices:
            self._indices[step] = self.rows.astype(np.intp) * step + self.columns
        flat = np.lib.stride_tricks.as_strided(plane, (size,), (plane.itemsize,))
        return flat, self._indices[step]


def uses_model_foreground(settings: Settings, clip: Clip) -> bool:
    """Whether the foreground that a network gives, if it gives one, is what is to be shown.

    It is the subject's, in 8-bit R'G'B' as displays show it. Raises UsageError where it is
    asked for by name and is not.
    """
    reason = None
    if settings.invert:
        reason = "--invert shows the background, and the model gives the subject's colours"
    elif clip.colour.transfer in CURVED:
        curve = clip.colour.as_names()["transfer"]
        reason = f"{clip.source.name} is {curve}, and the model's colours are as displays show them"
    if reason is not None and settings.foreground == "model":
        raise UsageError(f"--foreground model: {reason}; use estimate")
    return reason is None


def estimate(colours: np.ndarray, alpha: np.ndarray, full_scale: int | None = None) -> np.ndarray:
    """Colours in which soft pixels show the subject alone; all others bit for bit.

    colours: (H, W, 3) uint8 or uint16, three planes in which light mixes linearly
    enough (R'G'B', or Y'CbCr at full resolution). alpha: (H, W) float32 in 0..1.
    full_scale: the largest code allowed; without it no code outside the picture's own
    range is made. Returns a new array of the same type; where nothing is soft, the
    given one. Raises ValueError where the shapes do not fit.
    """
    if colours.shape != (*alpha.shape, 3):
        raise ValueError(f"colours are {colours.shape} and alpha is {alpha.shape}: equal sizes")
    planes = [np.asarray(plane) for plane in cv2.split(colours)]
    is_changed = estimate_planes(planes, np.ascontiguousarray(alpha), full_scale)
    return np.asarray(cv2.merge(planes)) if is_changed else colours


def estimate_planes(
    planes: Sequence[np.ndarray],
    alpha: np.ndarray,
    full_scale: int | None = None,
    where: np.ndarray | None = None,
) -> bool:
    """``estimate`` in place; False where nothing is soft.

    planes: three of (H, W), their rows contiguous, as alpha's are. where: (H, W) uint8, not 0 where
    soft pixels may change; None for all.
    """
    soft = np.asarray(cv2.inRange(alpha, LEAST, MOST))
    box = box_around(soft)
    if box.is_empty:
        return False
    around = box.grown(COLOUR_MARGIN, *alpha.shape)
    near = [around.crop(plane) for plane in planes]
    weight = around.crop(alpha)
    low, high = 0, full_scale
    if not full_scale:
        low, high = min(int(plane.min()) for plane in near), max(int(plane.max()) for plane in near)
    if where is not None:
        soft = np.asarray(cv2.copyTo(soft, where))
        if not soft.any():
            return False
    pixels = _SoftPixels(around.crop(soft))
    means = _local_means([_padded(plane) for plane in near], _padded(weight), pixels)
    for plane, found in zip(near, _subject_at(means, near, weight, pixels), strict=True):
        np.clip(np.rint(found, out=found), low, high, out=found)
        pixels.put(plane, found.astype(plane.dtype))
    return True


def _padded(picture: np.ndarray) -> np.ndarray:
    """Repeat the last row and column up to full pixels of the coarsest scale."""
    below, right = (-size % COARSEST for size in picture.shape[:2])
    if not (below or right):
        return picture
    return np.asarray(cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE))


def _local_means(colours: list[np.ndarray], alpha: np.ndarray, pixels: _SoftPixels) -> np.ndarray:
    """Layers at the finest scale of LEVELS, valid only around the soft pixels.

    Layers are local mean colours of the subject and of the background, (2, 3, h, w) float32.
    colours: three of (h, w) and alpha: (h, w), both sides multiples of COARSEST.
    """
    scales = [(colours, alpha)]
    for _ in range(LEVELS[0][0]):
        planes, weight = scales[-1]
        scales.append(([_halved(plane) for plane in planes], _halved(weight)))
    layers: np.ndarray | None = None
    for halvings, radius in LEVELS[: -len(_FINE_RADII)]:
        planes, weight = scales[halvings]
        if layers is not None:
            layers = _enlarged(layers, *weight.shape)
        layers = _refined(np.stack(planes).astype(np.float32), weight, layers, radius)
    if layers is None:
        raise RuntimeError("LEVELS has one scale only")
    planes, weight = scales[_FINEST]
    found = np.empty((2, 3, *weight.shape), np.float32)
    for box in _boxes_around(pixels, *weight.shape):
        around = box.grown(sum(_FINE_RADII), *weight.shape)
        picture = np.stack([around.crop(plane) for plane in planes]).astype(np.float32)
        here, part = np.ascontiguousarray(around.crop(weight)), _doubled(layers, around)
        for radius in _FINE_RADII:
            part = _refined(picture, here, part, radius)
        _crop(found, box)[:] = _crop(part, box.moved(-around.top, -around.left))
    return found


def _crop(layers: np.ndarray, box: Box) -> np.ndarray:
    """The view of what lies in a box."""
    return layers[..., box.top : box.bottom, box.left : box.right]


def _doubled(layers: np.ndarray, box: Box) -> np.ndarray:
    """A box of the layers enlarged to twice the size, bilinear."""
    small = Box(box.top // 2, box.left // 2, -(-box.bottom // 2), -(-box.right // 2))
    small = small.grown(1, *layers.shape[2:])
    large = _enlarged(_crop(layers, small), *(2 * side for side in small.shape))
    return _crop(large, box.moved(-2 * small.top, -2 * small.left))


def _boxes_around(pixels: _SoftPixels, height: int, width: int) -> list[Box]:
    """Boxes at the finest scale, height x width, that hold every soft pixel's neighbours there."""
    bits = _TILE.bit_length() - 1 + _FINEST  # of the side in pixels of the full scale
    tiles = np.zeros((-(-height // _TILE), -(-width // _TILE)), bool)
    tiles[pixels.rows >> bits, pixels.columns >> bits] = True
    boxes = boxes_over(tiles, _TILE_ROWS, _TILE_GAP)
    return [box.times(_TILE).grown(1, height, width) for box in boxes]


def _refined(
    picture: np.ndarray, alpha: np.ndarray, layers: np.ndarray | None, radius: int
) -> np.ndarray:
    """The layers of the next level; None starts from the picture. ``layers`` is overwritten."""
    if layers is None:
        layers = np.stack([picture, picture])
    else:
        _explain(picture, alpha, layers)
    return _weighted_mean(layers, np.stack([alpha, 1 - alpha]), radius)


def _halved(picture: np.ndarray) -> np.ndarray:
    """Mean of each 2x2 pixels."""
    size = (picture.shape[1] // 2, picture.shape[0] // 2)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def _weighted_mean(layers: np.ndarray, weights: np.ndarray, radius: int) -> np.ndarray:
    """Mean of the layers in a square window, each weighted by one of (2, h, w)."""
    weighted = layers * weights[:, None]
    means, total = (np.empty(one.shape, np.float32) for one in (weighted, weights))
    size = (2 * radius + 1,) * 2
    shape = (-1, *weights.shape[1:])
    for given, target in ((weighted, means), (weights, total)):
        for plane, mean in zip(given.reshape(shape), target.reshape(shape), strict=True):
            cv2.blur(plane, size, mean)
    total += np.float32(TINY)
    means *= np.divide(1, total, out=total)[:, None]
    return means


def _shares(alpha: np.ndarray) -> np.ndarray:
    """How much of the unexplained rest goes to the subject, and to the background: (2, ...).

    The least-squares solution for F and B around their means, both as uncertain.
    """
    rest = 1 - alpha
    scale = 1 / (alpha * alpha + rest * rest + np.float32(REGULAR))
    return np.stack([alpha * scale, rest * scale])


def _explain(picture: np.ndarray, alpha: np.ndarray, layers: np.ndarray) -> None:
    """Distribute each pixel's unexplained residual to the layers, in place."""
    subject, background = layers
    rest = subject - background
    rest *= alpha
    rest += background
    np.subtract(picture, rest, out=rest)
    layers += _shares(alpha)[:, None] * rest


def _subject_at(
    means: np.ndarray, colours: list[np.ndarray], alpha: np.ndarray, pixels: _SoftPixels
) -> list[np.ndarray]:
    """The subject's colours at the pixels of the full scale, (N,) float32 of each plane."""
    scale = np.float32(0.5**_FINEST)
    x, y = (
        in_rows((places.astype(np.float32) + np.float32(0.5)) * scale - np.float32(0.5))
        for places in (pixels.columns, pixels.rows)
    )
    here = pixels.of(alpha)
    to_subject, _ = _shares(here)
    found = []
    for plane, *layers in zip(colours, *means, strict=True):
        subject, background = (
            cv2.remap(layer, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            .reshape(-1)[: len(here)]
            for layer in layers
        )  # fmt: skip
        rest = pixels.of(plane) - background - here * (subject - background)
        found.append(subject + to_subject * rest)
    return found


def _enlarged(layers: np.ndarray, height: int, width: int) -> np.ndarray:
    """Layers at another size, bilinear."""
    large = np.empty((*layers.shape[:2], height, width), layers.dtype)
    for target, planes in zip(large, layers, strict=True):
        for one, plane in zip(target, planes, strict=True):
            cv2.resize(plane, (width, height), one, interpolation=cv2.INTER_LINEAR)
    return large

"""The subject's own colours in soft pixels, without the old background's.

A soft pixel shows I = alpha F + (1 - alpha) B. As in blur fusion (Forte, Pitie,
"Approximate Fast Foreground Colour Estimation", ICIP 2021) F and B are first local
means, weighted by alpha and 1 - alpha, then corrected by the residual of this equation. Here the
means are refined from coarse to fine, and the residual is distributed between F and B by
least squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.alpha.box import Box, Pixels, box_around, sample
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


_Planes = list[np.ndarray]  # of the three channels, each (h, w) float32


@dataclass
class _Layers:
    """Local mean colours of subject and background."""

    subject: _Planes
    background: _Planes

    def scaled(self, height: int, width: int) -> _Layers:
        """The same at another size."""
        if self.subject[0].shape == (height, width):
            return self
        return _Layers(
            _enlarged(self.subject, height, width), _enlarged(self.background, height, width)
        )


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
    soft = cv2.inRange(alpha, LEAST, MOST)
    box = box_around(soft)
    if box.is_empty:
        return colours
    around = box.grown(COLOUR_MARGIN, *alpha.shape)
    near = _padded(around.crop(colours))
    means = _local_means(near, _padded(around.crop(alpha)))
    pixels = Pixels(box.crop(soft), box, alpha.shape[1])
    found = _at_pixels(means, around, colours, alpha, pixels)
    low, high = (0, full_scale) if full_scale else (near.min(), near.max())
    np.clip(np.rint(found, out=found), low, high, out=found)
    result = colours.copy()
    result.reshape(-1, 3)[pixels.index] = found
    return result


def _padded(picture: np.ndarray) -> np.ndarray:
    """Repeat the last row and column up to full pixels of the coarsest scale."""
    below, right = (-size % COARSEST for size in picture.shape[:2])
    return np.asarray(cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE))


def _local_means(colours: np.ndarray, alpha: np.ndarray) -> _Layers:
    """Layers at the finest scale of LEVELS.

    colours: (h, w, 3) and alpha: (h, w), both sides multiples of COARSEST.
    """
    scales = [(colours, alpha)]
    for _ in range(LEVELS[0][0]):
        scales.append((_halved(scales[-1][0]), _halved(scales[-1][1])))
    layers: _Layers | None = None
    pictures: dict[int, _Planes] = {}
    for halvings, radius in LEVELS:
        small, weight = scales[halvings]
        if halvings not in pictures:
            pictures[halvings] = [plane.astype(np.float32) for plane in cv2.split(small)]
        picture = pictures[halvings]
        if layers is None:
            layers = _Layers(picture, picture)
        else:
            layers = _explained(picture, weight, layers.scaled(*weight.shape))
        layers = _Layers(
            _weighted_mean(layers.subject, weight, radius),
            _weighted_mean(layers.background, 1 - weight, radius),
        )
    if layers is None:
        raise RuntimeError("LEVELS is empty")
    return layers


def _halved(picture: np.ndarray) -> np.ndarray:
    """Mean of each 2x2 pixels."""
    size = (picture.shape[1] // 2, picture.shape[0] // 2)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def _weighted_mean(planes: _Planes, weight: np.ndarray, radius: int) -> _Planes:
    """Mean of the planes in a square window, weighted by (h, w)."""
    size = (2 * radius + 1,) * 2
    total = 1 / (cv2.blur(weight, size) + np.float32(TINY))
    means = [cv2.blur(plane * weight, size) for plane in planes]
    for mean in means:
        mean *= total
    return means


def _shares(alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much of the unexplained rest goes to the subject, and to the background.

    The least-squares solution for F and B around their means, both as uncertain.
    """
    rest = 1 - alpha
    scale = 1 / (alpha * alpha + rest * rest + np.float32(REGULAR))
    return alpha * scale, rest * scale


def _explained(picture: _Planes, alpha: np.ndarray, means: _Layers) -> _Layers:
    """The layers after each pixel's unexplained rest was shared out; ``means`` is used up."""
    to_subject, to_background = _shares(alpha)
    share = np.empty_like(alpha)
    for shown, subject, background in zip(picture, means.subject, means.background, strict=True):
        rest = subject - background
        rest *= alpha
        rest += background
        np.subtract(shown, rest, out=rest)
        subject += np.multiply(to_subject, rest, out=share)
        background += np.multiply(to_background, rest, out=share)
    return means


def _at_pixels(
    means: _Layers, around: Box, colours: np.ndarray, alpha: np.ndarray, pixels: Pixels
) -> np.ndarray:
    """The subject's colour (N, 3) float32 at pixels of the full frame; means cover ``around``."""
    scale = np.float32(0.5 ** LEVELS[-1][0])
    x = (pixels.x - np.float32(around.left - 0.5)) * scale - np.float32(0.5)
    y = (pixels.y - np.float32(around.top - 0.5)) * scale - np.float32(0.5)
    here = pixels.of(alpha)
    to_subject, _ = _shares(here)
    shown = pixels.of(colours)
    found = np.empty(shown.shape, np.float32)
    for channel in range(3):
        subject = sample(means.subject[channel], x, y)
        background = sample(means.background[channel], x, y)
        rest = shown[:, channel] - background - here * (subject - background)
        found[:, channel] = subject + to_subject * rest
    return found


def _enlarged(planes: _Planes, height: int, width: int) -> _Planes:
    """The planes at another size, bilinear."""
    size = (width, height)
    return [np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR)) for plane in planes]

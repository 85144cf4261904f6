"""``foreground.estimate`` on torch tensors, on any device: the subject's colours in soft pixels."""

from __future__ import annotations

import torch

from vidmatte.alpha import foreground
from vidmatte.alpha.box import Box
from vidmatte.pixels.torch_ops import Tensor, bordered, box_mean, resize, resize_codes

_Layers = tuple[Tensor, Tensor]  # of the subject and the background, (3, h, w) each


def estimated(shown: Tensor, alpha: Tensor, around: Box, full_scale: int) -> Tensor:
    """``foreground.estimate``: planes (3, h, w) with the subject's colours in soft pixels."""
    near, weight = _padded(_cropped(shown, around)), _padded(around.crop(alpha)[None])
    subject, background = _scaled(_local_means(near, weight), near.shape[1], near.shape[2])
    height, width = around.shape
    subject, background = subject[:, :height, :width], background[:, :height, :width]
    here, seen = around.crop(alpha), _cropped(shown, around)
    to_subject, _ = _shares(here)
    rest = seen - background - here * (subject - background)
    found = (subject + to_subject * rest).round_().clamp_(0, full_scale)
    soft = (here >= foreground.LEAST) & (here <= foreground.MOST)
    result = shown.clone()
    _cropped(result, around)[:] = torch.where(soft, found, seen)
    return result


def _padded(planes: Tensor) -> Tensor:
    """The last row and column repeated up to full pixels of the coarsest scale."""
    below, right = (-size % foreground.COARSEST for size in planes.shape[-2:])
    return bordered(planes, below, right, replicate=True)[..., below:, right:]


def _local_means(near: Tensor, alpha: Tensor) -> _Layers:
    """Local mean colours of subject and background, at the finest of ``foreground.LEVELS``."""
    scales = [(near, alpha)]
    for _ in range(foreground.LEVELS[0][0]):
        colours, weight = scales[-1]
        height, width = weight.shape[1] // 2, weight.shape[2] // 2
        smaller = resize_codes(colours, height, width, "area")
        scales.append((smaller, resize(weight, height, width, "area")))
    layers: _Layers | None = None
    for halvings, radius in foreground.LEVELS:
        colours, weight = scales[halvings]
        if layers is None:
            subject = background = colours
        else:
            subject, background = _scaled(layers, weight.shape[1], weight.shape[2])
            to_subject, to_background = _shares(weight)
            rest = colours - (background + weight * (subject - background))
            subject, background = subject + to_subject * rest, background + to_background * rest
        side = 2 * radius + 1
        layers = _mean(subject, weight, side), _mean(background, 1 - weight, side)
    assert layers is not None
    return layers


def _scaled(layers: _Layers, height: int, width: int) -> _Layers:
    subject, background = (resize(planes, height, width, "linear") for planes in layers)
    return subject, background


def _mean(planes: Tensor, weight: Tensor, side: int) -> Tensor:
    """Mean of planes in a square window, weighted by (1, h, w)."""
    return box_mean(planes * weight, side) / (box_mean(weight, side) + foreground.TINY)


def _shares(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """How much of the unexplained rest goes to the subject, and to the background."""
    rest = 1 - alpha
    scale = 1 / (alpha * alpha + rest * rest + foreground.REGULAR)
    return alpha * scale, rest * scale


def _cropped(planes: Tensor, box: Box) -> Tensor:
    return planes[:, box.top : box.bottom, box.left : box.right]

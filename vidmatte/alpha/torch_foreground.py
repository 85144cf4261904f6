"""``foreground.estimate`` on torch tensors, on any device: the subject's colours in soft pixels."""

from __future__ import annotations

import torch

from vidmatte.alpha import foreground
from vidmatte.alpha.box import Box
from vidmatte.pixels.torch_ops import Tensor, bordered, box_mean, resize, resize_codes


def estimated(shown: Tensor, alpha: Tensor, around: Box, full_scale: int) -> Tensor:
    """``foreground.estimate``: planes (3, h, w) with the subject's colours in soft pixels."""
    near, weight = _padded(_cropped(shown, around)), _padded(around.crop(alpha)[None])
    layers = resize(_local_means(near, weight), near.shape[1], near.shape[2], "linear")
    height, width = around.shape
    subject, background = layers[:, :, :height, :width]
    here, seen = around.crop(alpha), _cropped(shown, around)
    rest = seen - torch.lerp(background, subject, here)
    found = torch.addcmul(subject, _shares(here)[0], rest).round_().clamp_(0, full_scale)
    soft = (here >= foreground.LEAST) & (here <= foreground.MOST)
    result = shown.clone()
    _cropped(result, around)[:] = torch.where(soft, found, seen)
    return result


def _padded(planes: Tensor) -> Tensor:
    """The last row and column repeated up to full pixels of the coarsest scale."""
    below, right = (-size % foreground.COARSEST for size in planes.shape[-2:])
    return bordered(planes, below, right, replicate=True)[..., below:, right:]


def _local_means(near: Tensor, alpha: Tensor) -> Tensor:
    """Local mean colours of subject and background, (2, 3, h, w), at the finest of
    ``foreground.LEVELS``."""
    scales = [(near, alpha)]
    for _ in range(foreground.LEVELS[0][0]):
        colours, weight = scales[-1]
        height, width = weight.shape[1] // 2, weight.shape[2] // 2
        smaller = resize_codes(colours, height, width, "area")
        scales.append((smaller, resize(weight, height, width, "area")))
    layers: Tensor | None = None
    for halvings, radius in foreground.LEVELS:
        colours, weight = scales[halvings]
        if layers is None:
            layers = colours.expand(2, *colours.shape)
        else:
            layers = resize(layers, weight.shape[1], weight.shape[2], "linear")
            rest = colours - torch.lerp(layers[1], layers[0], weight)
            layers = torch.addcmul(layers, _shares(weight), rest)
        layers = _mean(layers, torch.stack([weight, 1 - weight]), 2 * radius + 1)
    assert layers is not None
    return layers


def _mean(layers: Tensor, weights: Tensor, side: int) -> Tensor:
    """Mean of layers in a square window, each weighted by one of (2, 1, h, w)."""
    means = box_mean(torch.cat([layers * weights, weights], 1), side)
    return means[:, :3] / (means[:, 3:] + foreground.TINY)


def _shares(alpha: Tensor) -> Tensor:
    """How much of the unexplained rest goes to the subject, and to the background: (2, ...)."""
    both = torch.stack([alpha, 1 - alpha])
    return both / ((both * both).sum(0) + foreground.REGULAR)


def _cropped(planes: Tensor, box: Box) -> Tensor:
    return planes[:, box.top : box.bottom, box.left : box.right]

"""The subject's own colours on a torch device: ``foreground.estimate`` and the colours around it.

The same formulas as on the CPU, over the box of the picture that they concern. The samples are the
output's own, before and after: they travel to the device and back.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from vidmatte.alpha import foreground
from vidmatte.alpha.box import Box, box_around
from vidmatte.core.frame import Frame
from vidmatte.models.runtimes.torch_device import TorchDevice
from vidmatte.pixels.planes import Rectangle
from vidmatte.pixels.torch_ops import Tensor, bordered, box_mean, resize, resize_codes
from vidmatte.writers.render.extension import CELL, RINGS

_Layers = tuple[Tensor, Tensor]  # of the subject and the background, (3, h, w) each


def subject_colours(
    colours: np.ndarray,
    frame: Frame,
    box: Rectangle,
    full_scale: int,
    empty: tuple[int, ...],
) -> np.ndarray:
    """Estimated colours of soft pixels, those of opaque ones, and around them the subject's.

    colours: (h, w, 3) uint8 or uint16 in ``box`` of the frame, whose alpha is on the device and in
    host memory. full_scale: the largest code. empty: the colour far from the subject. Returns an
    array like ``colours``.
    """
    assert frame.alpha is not None
    device: TorchDevice = frame.on_device.device
    shown = _codes(device, colours)
    alpha = frame.on_device.alpha[box.slices]
    here = np.ascontiguousarray(frame.alpha[box.slices])
    soft = box_around(cv2.inRange(here, foreground.LEAST, foreground.MOST))
    if not soft.is_empty:
        around = soft.grown(foreground.COLOUR_MARGIN, *here.shape)
        shown = _estimated(shown, alpha, around, full_scale)
    extended = _extended(shown, torch.round(alpha * full_scale) > 0, full_scale, empty)
    return _as_codes(device, extended, colours)


def _codes(device: TorchDevice, colours: np.ndarray) -> Tensor:
    """(h, w, 3) codes as planes (3, h, w) float32 on the device."""
    if colours.dtype == np.uint8:
        return device.upload(colours).permute(2, 0, 1).float()
    words = device.upload(colours.view(np.int16))  # torch does little with uint16
    return (words.permute(2, 0, 1).int() & 0xFFFF).float()


def _as_codes(device: TorchDevice, planes: Tensor, like: np.ndarray) -> np.ndarray:
    """Planes of whole codes as an array like ``like``."""
    codes = planes.permute(1, 2, 0).int()
    if like.dtype == np.uint8:
        return device.download(codes.to(torch.uint8).contiguous())
    signed = torch.where(codes > 0x7FFF, codes - 0x10000, codes).to(torch.int16)
    return device.download(signed.contiguous()).view(np.uint16)


def _estimated(shown: Tensor, alpha: Tensor, around: Box, full_scale: int) -> Tensor:
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


def _cropped(planes: Tensor, box: Box) -> Tensor:
    return planes[:, box.top : box.bottom, box.left : box.right]


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


def _extended(shown: Tensor, visible: Tensor, full_scale: int, empty: tuple[int, ...]) -> Tensor:
    """The subject's colours extended to the invisible pixels beside it; see ``extension``."""
    height, width = visible.shape
    down, across = -(-height // CELL), -(-width // CELL)
    sums = resize(shown * visible, down, across, "area")
    weights = resize(visible[None].float(), down, across, "area")
    for _ in range(RINGS):
        spread, spread_weights = box_mean(sums, 3), box_mean(weights, 3)
        filled = (weights == 0) & (spread_weights > 0)
        sums = torch.where(filled, spread, sums)
        weights = torch.where(filled, spread_weights, weights)
    far = torch.tensor(empty, dtype=torch.float32, device=shown.device)[:, None, None]
    coarse = torch.where(weights > 0, sums / weights.clamp(min=1e-12), far)
    coarse = coarse.round_().clamp_(0, full_scale)
    if full_scale <= 255:
        return torch.where(visible, shown, resize_codes(coarse, height, width, "linear"))
    return torch.where(visible, shown, resize(coarse, height, width, "linear").round_())

"""``guided_edges``, ``confidence`` and the filter's levels on torch tensors, on any device.

The same formulas with the same constants, over the entire picture: a device does that faster than
it would wait for the boxes and lists of pixels to which the CPU keeps its work.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from vidmatte.alpha import confidence, guided_edges
from vidmatte.alpha.box import SOFT_HIGH, SOFT_LOW
from vidmatte.core.families import FilterProfile
from vidmatte.pixels.torch_ops import (
    Tensor,
    bordered,
    box_mean,
    box_sum,
    extreme,
    gaussian,
    resize,
    resize_codes,
    sample_grid,
)

_STEP, _SIDE = guided_edges.STEP, 2 * guided_edges.RADIUS + 1


@dataclass
class DeviceView:
    """A frame at the working scale; see ``box.WorkingFrame``.

    rgb: (3, h, w) codes as float32, alpha: (h, w) float32, on the device. grey: (h, w) uint8 in
    host memory, where motion is found.
    """

    rgb: Tensor
    alpha: Tensor
    grey: np.ndarray


def working_rgb(rgb: Tensor, height: int, width: int) -> Tensor:
    """A frame's colours, (3, H, W) uint8, at the working scale: (3, h, w) codes as float32."""
    return resize_codes(rgb.float(), height, width, "area")


def refine_edges(rgb: Tensor, alpha: Tensor, view: DeviceView, share: Tensor = None) -> Tensor:
    """Alpha (H, W) with its edge band redrawn; see ``guided_edges.refine_edges``.

    rgb: (3, H, W) uint8. share: (h, w) in 0..1 at the working scale; None is wholly.
    """
    weight = _edge_band(view.alpha)
    if share is not None:
        weight = weight * share
    height, width = alpha.shape
    models = _at_pixels(_fit_models(view), view.alpha.shape, height, width)
    drawn = models[3].clone()
    for slope, colour in zip(models, rgb, strict=False):
        drawn.addcmul_(slope, colour.float())
    mix = models[4] * resize(weight, height, width, "linear")
    drawn = alpha + (drawn.clamp_(0, 1) - alpha) * mix
    return torch.where(pixels_under(weight > 1 / 255, height, width), drawn, alpha)


def pixels_under(mask: Tensor, height: int, width: int) -> Tensor:
    """The full-resolution pixels whose working pixel is set: bool."""
    return resize(mask.float(), height, width, "nearest") > 0


def _edge_band(alpha: Tensor) -> Tensor:
    """The weight (h, w) with which the edge is redrawn, at the working scale."""
    soft = _soft_or_edge(alpha, SOFT_LOW, SOFT_HIGH)
    side = 2 * guided_edges.BAND_REACH + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return gaussian(extreme(soft.float(), kernel, largest=True), guided_edges.BAND_SIGMA)


def _soft_or_edge(alpha: Tensor, low: float, high: float) -> Tensor:
    """Where alpha is from low to high, or beside a hard edge: bool."""
    solid = (alpha > 0.5).float()[None, None]
    share = F.avg_pool2d(solid, 3, 1, 1, count_include_pad=False)[0, 0]
    return ((alpha >= low) & (alpha <= high)) | ((share > 0) & (share < 1))


def _fit_models(view: DeviceView) -> Tensor:
    """(5, h, w) in cells: a for r, g and b, then b of alpha = a . rgb + b, and how far that is to
    be followed."""
    height, width = view.alpha.shape
    rows, columns = -(-height // _STEP), -(-width // _STEP)
    margin = guided_edges.AROUND // 2  # cells, which the picture goes on in, mirrored
    below, right = -height % _STEP, -width % _STEP  # to full cells
    planes = torch.cat([view.rgb, view.alpha[None]])
    planes = bordered(planes, margin * _STEP + below, margin * _STEP + right)
    planes = planes[:, below:, right:]
    one, other, *_ = _factors(planes.device)
    products = planes.index_select(0, one) * planes.index_select(0, other)
    size = rows + 2 * margin, columns + 2 * margin
    cells = resize(torch.cat([planes, products]), size[0], size[1], "area")
    fits = _solved(box_mean(cells, _SIDE))
    means = box_sum(fits, _SIDE)[:, margin:-margin, margin:-margin]
    models = means[:5] / means[5]
    models[4] = torch.exp(models[4] * (-1 / guided_edges.POOR_FIT))
    return models


def _at_pixels(models: Tensor, working: tuple[int, ...], height: int, width: int) -> Tensor:
    """Planes in cells of the working scale, at the pixels of the picture."""
    grid = _cell_grid(*models.shape[-2:], *working, height, width, models.device)
    return sample_grid(models, grid)


@lru_cache(maxsize=4)
def _cell_grid(
    rows: int, columns: int, down: int, across: int, height: int, width: int, device: Any
) -> Tensor:
    """Where pixels (height, width) are in cells (rows, columns) of a working scale (down, across),
    for ``sample_grid``."""
    x = (torch.arange(width, device=device) + 0.5) * (across / _STEP / width / columns * 2) - 1
    y = (torch.arange(height, device=device) + 0.5) * (down / _STEP / height / rows * 2) - 1
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([x, y], dim=-1)


@lru_cache(maxsize=4)
def _factors(device: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of r, g, b and alpha (p), those of rr, rg, rb, gg, gb, bb, rp, gp, bp and pp; where these are
    in a matrix of r, g, b and p; and what the regulariser adds to it, (16, 1, 1)."""
    one = torch.tensor([0, 0, 0, 1, 1, 2, 0, 1, 2, 3], device=device)
    other = torch.tensor([0, 1, 2, 1, 2, 2, 3, 3, 3, 3], device=device)
    matrix = torch.tensor([0, 1, 2, 6, 1, 3, 4, 7, 2, 4, 5, 8, 6, 7, 8, 9], device=device)
    ridge = torch.zeros(16, 1, 1, device=device)
    ridge[[0, 5, 10]] = guided_edges.EPSILON
    return one, other, matrix, ridge


def _solved(means: Tensor) -> Tensor:
    """The models of all windows, each times its weight, and the weights: (6, h, w).

    means: (14, h, w), of r, g, b and p and of their products; see ``guided_edges._solve``. The
    matrix is eliminated at once for all windows, a row a step.
    """
    one, other, places, ridge = _factors(means.device)
    means, products = means[:4], means[4:]
    covariances = torch.addcmul(
        products, means.index_select(0, one), means.index_select(0, other), value=-1
    )
    matrix = (covariances.index_select(0, places) + ridge).unflatten(0, (4, 4))
    rows = []
    for step in range(3):
        rows.append(matrix[step] / matrix[step, step])
        matrix = torch.addcmul(matrix, matrix[:, step, None], rows[step][None], value=-1)
    left = matrix[3, 3].clamp_(min=0)
    a_b = rows[2][3]
    a_g = rows[1][3] - rows[1][2] * a_b
    a_r = rows[0][3] - rows[0][1] * a_g - rows[0][2] * a_b
    slopes = torch.stack([a_r, a_g, a_b])
    constant = means[3] - (slopes * means[:3]).sum(0)
    weight = 1 / (left + guided_edges.GOOD_FIT)
    fits = torch.stack([a_r, a_g, a_b, constant, left])
    return torch.cat([fits * weight, weight[None]])


def stretch_levels(
    alpha: Tensor, view: DeviceView, profile: FilterProfile, *, redraws: bool
) -> Tensor:
    """Alpha (H, W) with grey areas decided and its levels stretched.

    redraws: without it no grey is decided; with it the view's alpha becomes that of the result.
    """
    height, width = alpha.shape
    working = view.grey.shape
    if redraws and profile.decides:
        gain = _resolved_grey(resize(alpha, working[0], working[1], "area"))
        alpha = alpha * resize(gain, height, width, "linear")
    scale = 1 / (profile.white - profile.black)
    alpha = (alpha * scale - profile.black * scale).clamp_(0, 1)
    if redraws:
        view.alpha = resize(alpha, working[0], working[1], "area")
    return alpha


def _resolved_grey(alpha: Tensor) -> Tensor:
    """What alpha (h, w) is to be multiplied by, at half its size; see ``confidence``."""
    height, width = (max(1, size // 2) for size in alpha.shape)
    coarse = resize(alpha, height, width, "area")
    mean = box_mean(coarse, confidence.WINDOW)
    softness = box_mean(coarse * (1 - coarse), confidence.WINDOW)
    softness /= mean * (1 - mean) + confidence.TINY
    flat = 1 / (confidence.SURELY_FLAT - confidence.FLAT)
    weight = _smooth_step((softness - confidence.FLAT) * flat)
    side = confidence.OPACITY_WINDOW
    opacity = box_mean(coarse * coarse, side) / (box_mean(coarse, side) + confidence.TINY / 10)
    decided = _smooth_step((opacity - confidence.MIDDLE) * (1 / confidence.WIDTH) + 0.5)
    change = weight * (decided / opacity.clamp(min=0.05) - 1)
    return torch.where(change.abs().max() > confidence.LEAST, change, 0) + 1


def _smooth_step(value: Tensor) -> Tensor:
    """0 below 0, 1 above 1, with no corner between."""
    value = value.clamp(0, 1)
    return value * value * (3 - 2 * value)

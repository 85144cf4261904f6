"""OpenCV's resizing, blurring, morphology and sampling on torch tensors, on any device.

Planes are float32 tensors (..., H, W). Borders, centres and kernels are those of the OpenCV
functions named in each docstring, so that both give the same values to within rounding. No
convolution of torch is used: on a GPU it may round its factors to 11 bits (TF32).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

Tensor = Any  # torch's types are not checked: torch is optional

_Table = list[tuple[Tensor, Tensor]]  # for each tap: where to read, and by how much it counts
_Taps = tuple[np.ndarray, np.ndarray]  # (n, K) int64 and float32: the same as arrays


def resize(planes: Tensor, height: int, width: int, kind: str) -> Tensor:
    """``cv2.resize`` of float32 planes. kind: ``area``, ``linear`` or ``cubic``."""
    if planes.shape[-2:] == (height, width):
        return planes
    if kind == "area":
        rows, columns = planes.shape[-2:]
        if rows % height == 0 and columns % width == 0:
            return _summed(planes, rows // height, columns // width) * (
                height * width / (rows * columns)
            )
        kind = "area" if height <= rows and width <= columns else "area_up"
    return _resampled(_resampled(planes, width, kind, -1), height, kind, -2)


def resize_codes(planes: Tensor, height: int, width: int, kind: str) -> Tensor:
    """The same of planes of 8-bit codes (as float32), rounded to codes as OpenCV does."""
    rows, columns = planes.shape[-2:]
    if kind == "area" and (rows, columns) == (2 * height, 2 * width):
        return torch.floor((_summed(planes, 2, 2) + 2) / 4)  # halves are rounded up
    if kind == "linear" and (rows, columns) != (height, width):
        return _linear_codes(planes, height, width)
    return resize(planes, height, width, kind).round_().clamp_(0, 255)


def _linear_codes(planes: Tensor, height: int, width: int) -> Tensor:
    """Linear between 8-bit codes: OpenCV has weights of 11 bits and cuts what they give."""
    (left, one), (right, other) = _table("linear", planes.shape[-1], width, planes.device)
    (top, upper), (bottom, lower) = _table("linear", planes.shape[-2], height, planes.device)
    one, other, upper, lower = (
        (weight * 2048).round().int() for weight in (one, other, upper, lower)
    )
    codes = planes.int()
    codes = codes.index_select(-1, left) * one + codes.index_select(-1, right) * other
    above, below = (
        (codes.index_select(-2, rows) >> 4) * weight[:, None] >> 16
        for rows, weight in ((top, upper), (bottom, lower))
    )
    return ((above + below + 2) >> 2).float()


def _summed(planes: Tensor, down: int, across: int) -> Tensor:
    """Sums of cells of down x across pixels; exact for codes."""
    flat = planes.reshape(-1, 1, *planes.shape[-2:])
    sums = F.avg_pool2d(flat, (down, across), divisor_override=1)
    return sums.reshape(*planes.shape[:-2], *sums.shape[-2:])


def _resampled(planes: Tensor, size: int, kind: str, dim: int) -> Tensor:
    """Planes at another size along one dimension."""
    result = None
    for index, weight in _table(kind, planes.shape[dim], size, planes.device):
        part = planes.index_select(dim, index)
        part *= weight if dim == -1 else weight[:, None]
        result = part if result is None else result.add_(part)
    return result


@lru_cache(maxsize=256)
def _table(kind: str, given: int, wanted: int, device: Any) -> _Table:
    """How each of ``wanted`` pixels is made of ``given`` ones, tap by tap."""
    index, weight = _KINDS[kind](given, wanted)
    index = np.clip(index, 0, given - 1)
    return [
        (
            torch.from_numpy(np.ascontiguousarray(index[:, tap])).to(device),
            torch.from_numpy(np.ascontiguousarray(weight[:, tap], np.float32)).to(device),
        )
        for tap in range(index.shape[1])
    ]


def _area(given: int, wanted: int) -> _Taps:
    """The mean over what each pixel covers."""
    scale = given / wanted
    begin = np.arange(wanted) * scale
    end = np.minimum(begin + scale, given)
    first = np.floor(begin + 1e-9).astype(np.int64)
    index = first[:, None] + np.arange(int(np.ceil(scale)) + 1)
    covered = np.minimum(index + 1, end[:, None]) - np.maximum(index, begin[:, None])
    weight = np.clip(covered, 0, None)
    return index, weight / weight.sum(axis=1, keepdims=True)


def _area_up(given: int, wanted: int) -> _Taps:
    """INTER_AREA where a side grows: linear between pixels, only across their borders."""
    place = np.arange(wanted)
    before = np.floor(place * (given / wanted)).astype(np.int64)
    share = (place + 1) - (before + 1) * (wanted / given)
    share = np.where(share <= 0, 0, share - np.floor(share))
    return np.stack([before, before + 1], 1), np.stack([1 - share, share], 1)


def _linear(given: int, wanted: int) -> _Taps:
    """Between the two nearest centres."""
    place = np.clip((np.arange(wanted) + 0.5) * (given / wanted) - 0.5, 0, given - 1)
    before = np.floor(place).astype(np.int64)
    share = place - before
    return np.stack([before, before + 1], 1), np.stack([1 - share, share], 1)


def _cubic(given: int, wanted: int) -> _Taps:
    """By Keys' kernel with a = -0.75, OpenCV's."""
    place = (np.arange(wanted) + 0.5) * (given / wanted) - 0.5
    before = np.floor(place).astype(np.int64)
    share, sharpness = (place - before)[:, None], -0.75
    away = np.abs(np.concatenate([share + 1, share, 1 - share, 2 - share], 1))
    near = ((sharpness + 2) * away - (sharpness + 3)) * away * away + 1
    far = ((sharpness * away - 5 * sharpness) * away + 8 * sharpness) * away - 4 * sharpness
    return before[:, None] + np.arange(-1, 3), np.where(away <= 1, near, far)


def _nearest(given: int, wanted: int) -> _Taps:
    """INTER_NEAREST: the pixel that holds the left edge."""
    place = np.floor(np.arange(wanted) * (given / wanted)).astype(np.int64)
    return place[:, None], np.ones((wanted, 1))


_KINDS: dict[str, Callable[[int, int], _Taps]] = {
    "area": _area,
    "area_up": _area_up,
    "linear": _linear,
    "cubic": _cubic,
    "nearest": _nearest,
}


def bordered(planes: Tensor, down: int, across: int, *, replicate: bool = False) -> Tensor:
    """Planes with a border: reflected without the last pixel (BORDER_REFLECT_101, OpenCV's
    default), or the last pixel repeated."""
    for dim, reach in ((-2, down), (-1, across)):
        if reach:
            index = _border(planes.shape[dim], reach, replicate, planes.device)
            planes = planes.index_select(dim, index)
    return planes


@lru_cache(maxsize=256)
def _border(size: int, reach: int, replicate: bool, device: Any) -> Tensor:
    place = np.arange(-reach, size + reach)
    if replicate or size == 1:
        place = np.clip(place, 0, size - 1)
    else:
        place = np.abs(place) % (2 * size - 2)
        place = np.where(place < size, place, 2 * size - 2 - place)
    return torch.from_numpy(place).to(device)


def box_sum(planes: Tensor, side: int) -> Tensor:
    """``side`` squared times ``cv2.blur`` of planes; exact for whole numbers below 2^24."""
    wide = bordered(planes, side // 2, side // 2)
    flat = wide.reshape(-1, 1, *wide.shape[-2:])
    sums = F.avg_pool2d(flat, (side, 1), 1, divisor_override=1)
    sums = F.avg_pool2d(sums, (1, side), 1, divisor_override=1)
    return sums.reshape(planes.shape)


def box_mean(planes: Tensor, side: int) -> Tensor:
    """``cv2.blur`` of planes by a square window."""
    return box_sum(planes, side) * (1 / side**2)


def gaussian(planes: Tensor, sigma: float, *, replicate: bool = False) -> Tensor:
    """``cv2.GaussianBlur`` of float32 planes, its window chosen by ``sigma``."""
    taps = _gaussian_taps(sigma)
    reach = len(taps) // 2
    for dim in (-1, -2):
        size = planes.shape[dim]
        across, down = (reach, 0) if dim == -1 else (0, reach)
        wide = bordered(planes, down, across, replicate=replicate)
        total = wide.narrow(dim, 0, size) * taps[0]
        for place, tap in enumerate(taps[1:], 1):
            total.add_(wide.narrow(dim, place, size), alpha=tap)
        planes = total
    return planes


@lru_cache(maxsize=32)
def _gaussian_taps(sigma: float) -> Sequence[float]:
    length = round(sigma * 8 + 1) | 1  # OpenCV's for float pictures
    return [float(tap) for tap in cv2.getGaussianKernel(length, sigma, cv2.CV_32F)[:, 0]]


def extreme(planes: Tensor, kernel: np.ndarray, *, largest: bool) -> Tensor:
    """``cv2.dilate`` (largest) or ``cv2.erode`` by a kernel of odd sides; outside is nothing."""
    reach_y, reach_x = (side // 2 for side in kernel.shape)
    nothing, choose = (-np.inf, torch.maximum) if largest else (np.inf, torch.minimum)
    wide = F.pad(planes, (reach_x, reach_x, reach_y, reach_y), value=nothing)
    height, width = planes.shape[-2:]
    result = None
    for y, x in np.argwhere(kernel).tolist():
        part = wide[..., y : y + height, x : x + width]
        result = part if result is None else choose(result, part)
    return result


def sample(planes: Tensor, x: Tensor, y: Tensor, *, replicate: bool) -> Tensor:
    """``cv2.remap``, bilinear: planes (C, H, W) at places (h, w), as (C, h, w).

    Outside lies the border pixel, or zero.
    """
    height, width = planes.shape[-2:]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    mode = "border" if replicate else "zeros"
    return F.grid_sample(planes[None], grid[None], "bilinear", mode, align_corners=False)[0]

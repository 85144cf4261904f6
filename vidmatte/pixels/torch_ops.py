"""OpenCV's resizing, blurring, morphology and sampling on torch tensors, on any device.

Planes are float32 tensors (..., H, W). Borders, centres and kernels are those of the OpenCV
functions named in each docstring, so that both give the same values to within rounding. No
convolution of torch is used: on a GPU it may round its factors to 11 bits (TF32).
"""

from __future__ import annotations

from collections.abc import Callable
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
    """``cv2.resize`` of float32 planes. kind: ``area``, ``linear``, ``cubic`` or
    ``nearest``."""
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
    flat = planes.reshape(1, -1, *planes.shape[-2:])
    aligned = {} if kind == "nearest" else {"align_corners": False}
    made = F.interpolate(flat, (height, width), mode=_MODES[kind], **aligned)
    return made.reshape(*planes.shape[:-2], height, width)


def resize_codes(planes: Tensor, height: int, width: int, kind: str) -> Tensor:
    """The same of planes of 8-bit codes (as float32), rounded to codes as OpenCV does."""
    rows, columns = planes.shape[-2:]
    if kind == "area" and (rows, columns) == (2 * height, 2 * width):
        return torch.floor((_summed(planes, 2, 2) + 2) / 4)  # halves are rounded up
    if (rows, columns) == (height, width):
        return planes
    if kind == "linear":
        return _linear_codes(planes, height, width, kind)
    if kind == "area" and (height > rows or width > columns):
        return _linear_codes(planes, height, width, "area_up")
    return resize(planes, height, width, kind).round_().clamp_(0, 255)


def _linear_codes(planes: Tensor, height: int, width: int, kind: str) -> Tensor:
    """Linear between 8-bit codes: OpenCV has weights of 11 bits and cuts what they give."""
    (left, one), (right, other) = _table(kind, planes.shape[-1], width, planes.device)
    (top, upper), (bottom, lower) = _table(kind, planes.shape[-2], height, planes.device)
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
    before = np.floor(place * (1 / (wanted / given))).astype(np.int64)
    # In 24 bits, of which a share just below 1 is 1, and so 0.
    share = ((place + 1) - (before + 1) * (wanted / given)).astype(np.float32)
    share = np.where(share <= 0, 0, share - np.floor(share))
    return np.stack([before, before + 1], 1), np.stack([1 - share, share], 1)


def _linear(given: int, wanted: int) -> _Taps:
    """Between the two nearest centres."""
    place = np.clip((np.arange(wanted) + 0.5) * (given / wanted) - 0.5, 0, given - 1)
    before = np.floor(place).astype(np.int64)
    share = place - before
    return np.stack([before, before + 1], 1), np.stack([1 - share, share], 1)


_KINDS: dict[str, Callable[[int, int], _Taps]] = {
    "area": _area,
    "area_up": _area_up,
    "linear": _linear,
}
#: torch's names of what it computes as OpenCV does.
_MODES = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}


def bordered(planes: Tensor, down: int, across: int, *, replicate: bool = False) -> Tensor:
    """Planes with a border: reflected without the last pixel (BORDER_REFLECT_101, OpenCV's
    default), or the last pixel repeated."""
    height, width = planes.shape[-2:]
    if planes.ndim > 2 and (replicate or (down < height and across < width)):
        flat = planes.reshape(-1, *planes.shape[-3:])
        mode = "replicate" if replicate else "reflect"
        flat = F.pad(flat, (across, across, down, down), mode)
        return flat.reshape(*planes.shape[:-2], *flat.shape[-2:])
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
    flat = planes.reshape(1, -1, *planes.shape[-2:])
    flat = bordered(flat, side // 2, side // 2)
    if side <= _SMALL_SIDE:
        return F.avg_pool2d(flat, side, 1, divisor_override=1).reshape(planes.shape)
    sums = F.avg_pool2d(flat, (side, 1), 1, divisor_override=1)
    sums = F.avg_pool2d(sums, (1, side), 1, divisor_override=1)
    return sums.reshape(planes.shape)


_SMALL_SIDE = 5  # pixels of a window that is summed in one step


def box_mean(planes: Tensor, side: int) -> Tensor:
    """``cv2.blur`` of planes by a square window."""
    return box_sum(planes, side) * (1 / side**2)


def gaussian(planes: Tensor, sigma: float, *, replicate: bool = False) -> Tensor:
    """``cv2.GaussianBlur`` of float32 planes, its window chosen by ``sigma``."""
    taps = _gaussian_taps(sigma, planes.device)
    reach = len(taps) // 2
    for dim in (-1, -2):
        size = planes.shape[dim]
        across, down = (reach, 0) if dim == -1 else (0, reach)
        wide = bordered(planes, down, across, replicate=replicate)
        if len(taps) <= _FEW_TAPS:
            planes = torch.matmul(wide.unfold(dim, len(taps), 1), taps)
            continue
        total = wide.narrow(dim, 0, size) * taps[0]
        for place in range(1, len(taps)):
            total.addcmul_(wide.narrow(dim, place, size), taps[place])
        planes = total
    return planes


_FEW_TAPS = 32  # that are summed in one product, for which each is copied


@lru_cache(maxsize=32)
def _gaussian_taps(sigma: float, device: Any) -> Tensor:
    length = round(sigma * 8 + 1) | 1  # OpenCV's for float pictures
    return torch.from_numpy(cv2.getGaussianKernel(length, sigma, cv2.CV_32F)[:, 0]).to(device)


def extreme(planes: Tensor, kernel: np.ndarray, *, largest: bool) -> Tensor:
    """``cv2.dilate`` (largest) or ``cv2.erode``; outside is nothing.

    kernel: of odd sides, the same mirrored either way, its rows without gaps and not longer away
    from the middle, as ellipses have them: a few rectangles around its centre.
    """
    flat = planes.reshape(-1, 1, *planes.shape[-2:])
    flat = flat if largest else -flat
    result = None
    for down, across in _rectangles(kernel):
        sides = 2 * down + 1, 2 * across + 1
        if sides[0] * sides[1] > _LARGE_WINDOW:
            part = F.max_pool2d(flat, (1, sides[1]), 1, (0, across))
            part = F.max_pool2d(part, (sides[0], 1), 1, (down, 0))
        else:
            part = F.max_pool2d(flat, sides, 1, (down, across))
        result = part if result is None else torch.maximum(result, part)
    assert result is not None
    return (result if largest else -result).reshape(planes.shape)


_LARGE_WINDOW = 64  # pixels of a rectangle that is looked through along one side, then the other


def _rectangles(kernel: np.ndarray) -> list[tuple[int, int]]:
    """How far the rectangles reach down and across that make up a kernel."""
    middle = kernel.shape[0] // 2
    reaches = [(down, int(row.sum()) // 2) for down, row in enumerate(kernel[middle:]) if row.any()]
    later = [across for _, across in reaches[1:]] + [-1]
    return [one for one, after in zip(reaches, later, strict=True) if one[1] > after]


def sample(planes: Tensor, x: Tensor, y: Tensor, *, replicate: bool) -> Tensor:
    """``cv2.remap``, bilinear: planes (C, H, W) at places (h, w), as (C, h, w).

    Outside lies the border pixel, or zero.
    """
    return sample_at(planes, torch.stack([x, y], dim=-1), replicate=replicate)


def sample_at(
    planes: Tensor, places: Tensor, left: int = 0, top: int = 0, *, replicate: bool = True
) -> Tensor:
    """The same at places (h, w, 2), x and y, in a picture of which the planes are a part."""
    height, width = planes.shape[-2:]
    scale = pair(2 / width, 2 / height, planes.device)
    shift = pair((1 - 2 * left) / width - 1, (1 - 2 * top) / height - 1, planes.device)
    return sample_grid(planes, torch.addcmul(shift, places, scale), replicate=replicate)


def sample_grid(planes: Tensor, grid: Tensor, *, replicate: bool = True) -> Tensor:
    """The same at places (h, w, 2) from -1 at one edge of the picture to 1 at the other."""
    mode = "border" if replicate else "zeros"
    return F.grid_sample(planes[None], grid[None], "bilinear", mode, align_corners=False)[0]


@lru_cache(maxsize=1024)
def pair(x: float, y: float, device: Any) -> Tensor:
    """Two numbers as a tensor, made once: another one would be copied to the device each time."""
    return torch.tensor([x, y], dtype=torch.float32, device=device)


@lru_cache(maxsize=64)
def places(left: int, top: int, right: int, bottom: int, device: Any) -> Tensor:
    """Columns and rows of the pixels in a box: (h, w, 2) float32."""
    rows = torch.arange(top, bottom, device=device, dtype=torch.float32)
    columns = torch.arange(left, right, device=device, dtype=torch.float32)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], dim=-1)

"""FFmpeg's own enlarging of chroma on torch tensors, on any device: the samples are the same."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from vidmatte.pixels.torch_ops import Tensor


def enlarge_chroma(planes: Tensor, steps: tuple[int, int], bits: int, wanted: int) -> Tensor:
    """Planes of codes (..., h, w) enlarged by whole steps, down and across, as FFmpeg's swscale
    does.

    bits, wanted: of the codes before and after, 8 to 14. In swscale's own integers: weights of 14
    bits across and 12 down, 15 bits in between.
    """
    codes = planes.int()
    codes = (_cubic_sum(codes, steps[1], 14, -1) >> (bits - 1)).clamp_(max=32767)
    shift = 27 - wanted
    codes = _cubic_sum(codes, steps[0], 12, -2).add_(1 << (shift - 1)) >> shift
    return codes.clamp_(0, (1 << wanted) - 1).float()


def _cubic_sum(codes: Tensor, step: int, bits: int, dim: int) -> Tensor:
    """Sums of codes (int32) times weights whose sum is 1 << bits."""
    if step == 1:
        return codes << bits
    total = None
    for index, weight in _cubic_table(codes.shape[dim], step, bits, codes.device):
        part = codes.index_select(dim, index)
        part *= weight if dim == -1 else weight[:, None]
        total = part if total is None else total.add_(part)
    return total


@lru_cache(maxsize=64)
def _cubic_table(given: int, step: int, bits: int, device: Any) -> list[tuple[Tensor, Tensor]]:
    """The taps of a cubic whose slope is 0.6, not OpenCV's 0.75; the border pixel goes on.

    What a weight loses when it is rounded goes to the next one.
    """
    place = (np.arange(given * step) + 0.5) / step - 0.5
    index = np.floor(place).astype(np.int64)[:, None] + np.arange(-1, 3)
    away = np.abs(place[:, None] - index)
    near = 1.4 * away**3 - 2.4 * away**2 + 1
    exact = np.where(away < 1, near, -0.6 * away**3 + 3 * away**2 - 4.8 * away + 2.4)
    exact[(index < 0) & (away > 1.5)] = 0  # swscale leaves these out, but not at the other end
    exact *= (1 << bits) / exact.sum(axis=1, keepdims=True)
    weight = np.diff(np.rint(np.cumsum(exact, axis=1)), axis=1, prepend=0)
    index = np.clip(index, 0, given - 1)
    return [
        (
            torch.from_numpy(np.ascontiguousarray(index[:, tap])).to(device),
            torch.from_numpy(np.ascontiguousarray(weight[:, tap], np.int32)).to(device),
        )
        for tap in range(4)
    ]

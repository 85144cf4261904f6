"""``accumulate`` on torch tensors, on any device: the mean of a frame's alpha and its neighbours'.

The same formulas with the same constants, over the entire picture, and over all neighbours on one
side of it at once: on a device, a step over eight of them takes as long to start as one over a
single neighbour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from vidmatte.alpha import accumulate, flow
from vidmatte.alpha.accumulate import SURE_HIGH, SURE_LOW, Neighbour
from vidmatte.alpha.box import Box
from vidmatte.alpha.flow import CoarseFrame
from vidmatte.alpha.torch_edges import pixels_under
from vidmatte.models.augment import agreement
from vidmatte.models.runtimes.torch_device import TorchDevice
from vidmatte.pixels.torch_ops import Tensor, extreme, pair, places, resize, sample_at


@dataclass
class Sample:
    """A matte as its neighbours need it; see ``accumulate.MatteSample``.

    alpha: (H, W), 0 where the subject is not. coarse_alpha: (h, w), as in ``coarse``, which is in
    host memory.
    """

    alpha: Tensor
    coarse_alpha: Tensor
    coarse: CoarseFrame
    mirrored: bool = False
    augment_phase: int = 0


@dataclass
class Field:
    """A ``FlowField`` on the device: motion (3, h, w): x, y and trust.

    far_reach: how fast trust falls with the motion, see ``FlowField.with_lower_trust``; None where
    it does not. That, and where trust is too low to go on, is computed for all neighbours at once.
    """

    box: Box
    motion: Tensor
    far_reach: float | None = None

    def after(self, first: Field) -> Field:
        """See ``FlowField.after``."""
        box = first.box
        here = places(box.left, box.top, box.right, box.bottom, self.motion.device)
        arrivals = here + first.motion[:2].permute(1, 2, 0)
        onward = sample_at(self.motion, arrivals, self.box.left, self.box.top)
        trust = onward[2] * first.motion[2]
        way = onward.add_(first.motion)
        way[2] = trust
        return Field(box, way)

    def with_lower_trust(self, length: float) -> Field:
        """See ``FlowField.with_lower_trust``."""
        return Field(self.box, self.motion, length)

    def is_worth_sampling(self) -> bool:
        """True: one that is not, and those further on, get no trust and add nothing."""
        return True


class _Sums:
    """The weighted sums over the straight frames, or over the mirrored ones: full and coarse.

    full, coarse: (2, ...), of alpha and of its weight.
    """

    def __init__(self, full: Tensor, coarse: Tensor) -> None:
        self.full = full.new_zeros(2, *full.shape)
        self.coarse = coarse.new_zeros(2, *coarse.shape)

    def mean(self) -> tuple[Tensor, Tensor]:
        """The mean, and 0..1 for how well it is supported."""
        return _mean_of(self.full)


def _mean_of(sums: Tensor) -> tuple[Tensor, Tensor]:
    """The mean, and 0..1 for how well it is supported."""
    return sums[0] / sums[1].clamp(min=1e-6), (sums[1] * (1 / accumulate.ENOUGH)).clamp(max=1)


class _Group:
    """Neighbours whose fields have one box, those further away later: one side of the window.

    They are brought to the order of ``seen``: those that the network saw as the present frame come
    first, ``same`` of them. motion: (N, 2, h, w). trust: (N, h, w), with their gains. moved: their
    coarse alpha where the present frame's pixels are then, (N, h, w).
    """

    def __init__(self, group: list[Neighbour], mirrored: bool) -> None:
        fields: list[Any] = [neighbour.field for neighbour in group]
        self.box: Box = fields[0].box
        order = sorted(range(len(group)), key=lambda at: group[at].seen.mirrored != mirrored)
        self.seen: list[Any] = [group[at].seen for at in order]
        self.same = sum(seen.mirrored == mirrored for seen in self.seen)
        motion = torch.stack([field.motion for field in fields])
        trust = _with_lower_trust(motion, fields)
        trust = trust * _column(tuple(neighbour.gain for neighbour in group), motion.device)
        index = _places(tuple(order), motion.device)
        self.motion, self.trust = motion[:, :2].index_select(0, index), trust.index_select(0, index)
        box, coarse = self.box, torch.stack([seen.coarse_alpha for seen in self.seen])
        here = places(box.left, box.top, box.right, box.bottom, motion.device)
        height, width = coarse.shape[-2:]
        scale = pair(2 / width, 2 / height, motion.device)
        shift = pair(1 / width - 1, 1 / height - 1, motion.device)
        grid = torch.addcmul(shift, here + self.motion.permute(0, 2, 3, 1), scale)
        self.moved = _sampled(coarse, grid)

    def add_coarse(self, own: _Sums, other: _Sums) -> None:
        """Add what the neighbours have at the coarse scale."""
        both = torch.stack([self.moved * self.trust, self.trust])
        for sums, part in ((own, both[:, : self.same]), (other, both[:, self.same :])):
            if part.shape[1]:
                _crop(sums.coarse, self.box).add_(part.sum(1))

    def add_full(self, own: _Sums, other: _Sums) -> None:
        """Add their alphas (H, W), as many at once as there is memory for."""
        height, width = own.full.shape[-2:]
        rows, columns = own.coarse.shape[-2:]
        box = self.box
        around = (box.left, columns - box.right, box.top, rows - box.bottom)
        ways = F.pad(torch.cat([self.motion, self.trust[:, None]], 1), around, "replicate")
        # From coarse pixels to parts of the picture, whose sides are 2 long to grid_sample.
        scale = pair(2 / columns, 2 / rows, ways.device)
        at_once = max(1, _MOST_PIXELS // (height * width))
        for sums, begin, end in ((own, 0, self.same), (other, self.same, len(self.seen))):
            for first in range(begin, end, at_once):
                last = min(first + at_once, end)
                way = _enlarged(ways[first:last], height, width)
                grid = torch.addcmul(
                    _grid(height, width, way.device), way[:, :2].permute(0, 2, 3, 1), scale
                )
                there = torch.stack([seen.alpha for seen in self.seen[first:last]])
                moved = _sampled(there, grid).mul_(way[:, 2])
                sums.full.add_(torch.stack([moved.sum(0), way[:, 2].sum(0)]))


_MOST_PIXELS = 1 << 23  # of the neighbours' alphas that are sampled at once


def _with_lower_trust(motion: Tensor, fields: list[Any]) -> Tensor:
    """The trust of fields, (N, h, w), lower for those far away, and none from where it is too low
    to go on; motion: (N, 3, h, w)."""
    near = sum(field.far_reach is None for field in fields)
    trust = motion[:, 2]
    if near == len(fields):
        return trust
    away = torch.hypot(motion[near:, 0], motion[near:, 1])
    far = trust[near:] * torch.exp(away * (-1 / fields[-1].far_reach))
    reached = (far.amax((1, 2)) >= flow.LEAST_TRUST).float().cumprod(0)
    return torch.cat([trust[:near], far * reached[:, None, None]])


def _sampled(planes: Tensor, grid: Tensor) -> Tensor:
    """Planes (N, H, W) at places (N, h, w, 2) of ``sample_grid``, each its own: (N, h, w)."""
    found = F.grid_sample(planes[:, None], grid, "bilinear", "border", align_corners=False)
    return found[:, 0]


def _crop(planes: Tensor, box: Box) -> Tensor:
    return planes[..., box.top : box.bottom, box.left : box.right]


@lru_cache(maxsize=256)
def _column(values: tuple[float, ...], device: Any) -> Tensor:
    """(N, 1, 1), made once: another one would be copied to the device each time."""
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]


@lru_cache(maxsize=256)
def _places(numbers: tuple[int, ...], device: Any) -> Tensor:
    """An index, made once."""
    return torch.tensor(numbers, device=device)


def _sides(neighbours: list[Neighbour]) -> Iterator[list[Neighbour]]:
    """The neighbours, those of one box and one side of the window together, nearest first."""
    side: list[Neighbour] = []
    for neighbour in neighbours:
        field: Any = neighbour.field
        if side:
            last: Any = side[-1].field
            is_nearer = field.far_reach is None and last.far_reach is not None
            if field.box != last.box or is_nearer:
                yield side
                side = []
        side.append(neighbour)
    if side:
        yield side


def average(now: Sample, neighbours: list[Neighbour], alpha: Tensor, device: TorchDevice) -> Tensor:
    """Mean of ``alpha`` (H, W), which is ``now``'s, and its neighbours'; see
    ``accumulate.average``."""
    height, width = alpha.shape
    own = _Sums(alpha, now.coarse_alpha)
    own.full[0], own.coarse[0] = alpha, now.coarse_alpha
    own.full[1], own.coarse[1] = 1, 1
    changes = any(neighbour.seen.mirrored != now.mirrored for neighbour in neighbours)
    other = _Sums(alpha, now.coarse_alpha) if changes else own
    change, total = torch.zeros_like(now.coarse_alpha), torch.ones_like(now.coarse_alpha)
    box = now.coarse.box
    for together in _sides(neighbours):
        group = _Group(together, now.mirrored)
        around, box = group.box, box.union(group.box)
        here = _crop(now.coarse_alpha, around)
        _crop(total, around).add_(group.trust.sum(0))
        _crop(change, around).add_(((group.moved - here).abs_() * group.trust).sum(0))
        if changes:
            group.add_coarse(own, other)
        group.add_full(own, other)
    soft = (now.coarse_alpha >= SURE_LOW) & (now.coarse_alpha <= SURE_HIGH)
    undecided = soft | (change > total * accumulate.CHANGES)
    inside = torch.zeros_like(undecided)
    box.grown(1, *inside.shape).crop(inside)[:] = True
    wide = extreme(undecided.float(), np.ones((3, 3), np.uint8), largest=True) > 0
    result = _interpolated(now, own, other, device) if changes else own.mean()[0]
    return torch.where(pixels_under(wide & inside, height, width), result, alpha)


def _enlarged(coarse: Tensor, height: int, width: int) -> Tensor:
    """Coarse planes at the pixels of the picture, of which blocks share a value."""
    rows, columns = (side * accumulate.BLOCKS for side in coarse.shape[-2:])
    if height % rows or width % columns:
        return resize(coarse, height, width, "linear")
    return resize(resize(coarse, rows, columns, "linear"), height, width, "nearest")


@lru_cache(maxsize=4)
def _grid(height: int, width: int, device: Any) -> Tensor:
    """Where the pixels of a picture are, for ``sample_grid``."""
    scale = pair(2 / width, 2 / height, device)
    return (places(0, 0, width, height, device) + 0.5) * scale - 1


def _interpolated(now: Sample, own: _Sums, other: _Sums, device: TorchDevice) -> Tensor:
    """One alpha (H, W) of both sides; see ``augment.agreement``."""
    (mean, _), (there, share) = own.mean(), other.mean()
    there = torch.lerp(mean, there, share)
    straight, mirrored = (there, mean) if now.mirrored else (mean, there)
    sides, shares = _mean_of(torch.stack([own.coarse, other.coarse], 1))
    # Where one side has little weight, the other's mean.
    small = device.download(torch.lerp(sides.flip(0), sides, shares))
    maps = agreement(*(small[::-1] if now.mirrored else small))
    middle = 0.5 * (mean + there)
    if maps is None:
        return middle
    height, width = mean.shape
    larger, straightest = _enlarged(device.upload(np.stack(maps)), height, width)
    middle = middle + larger * (torch.maximum(straight, mirrored) - middle)
    return middle + straightest * (straight - 0.5 * (mean + there))

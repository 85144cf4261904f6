"""``accumulate`` on torch tensors, on any device: the mean of a frame's alpha and its neighbours'.

The same formulas with the same constants, over the entire picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from vidmatte.alpha import accumulate, flow
from vidmatte.alpha.accumulate import SURE_HIGH, SURE_LOW, Neighbour
from vidmatte.alpha.box import Box
from vidmatte.alpha.flow import CoarseFrame
from vidmatte.alpha.torch_edges import pixels_under
from vidmatte.models.augment import agreement
from vidmatte.models.runtimes.torch_device import TorchDevice
from vidmatte.pixels.torch_ops import Tensor, extreme, pair, places, resize, sample_at, sample_grid


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

    gate: 1, or 0 from where the trust was too low to go on; the host does not wait to know.
    way: the field that this one is, with lower trust.
    """

    box: Box
    motion: Tensor
    gate: Tensor | float = 1.0
    way: Field | None = None

    @property
    def trust(self) -> Tensor:
        """(h, w)."""
        return self.motion[2]

    def arrivals(self) -> Tensor:
        """Columns and rows, in the full picture, that the box's pixels move to: (h, w, 2)."""
        box = self.box
        here = places(box.left, box.top, box.right, box.bottom, self.motion.device)
        return here + self.motion[:2].permute(1, 2, 0)

    def after(self, first: Field) -> Field:
        """See ``FlowField.after``."""
        onward = sample_at(self.motion, first.arrivals(), self.box.left, self.box.top)
        trust = onward[2] * first.motion[2]
        way = onward.add_(first.motion)
        way[2] = trust
        return Field(first.box, way, first.gate)

    def with_lower_trust(self, length: float) -> Field:
        """See ``FlowField.with_lower_trust``."""
        motion = self.motion.clone()
        motion[2] *= torch.exp(torch.hypot(motion[0], motion[1]) * (-1 / length))
        return Field(self.box, motion, self.gate, self)

    def is_worth_sampling(self) -> bool:
        """True: one that is not, and those further on, have no trust and add nothing."""
        reached = (self.motion[2].max() >= flow.LEAST_TRUST).float()
        self.gate = self.gate * reached
        self.motion[2] *= self.gate
        if self.way is not None:
            self.way.gate = self.gate
        return True


class _Sums:
    """The weighted sums over the straight frames, or over the mirrored ones: full and coarse."""

    def __init__(self, full: Tensor, coarse: Tensor) -> None:
        self.total, self.weight = torch.zeros_like(full), torch.zeros_like(full)
        self.coarse, self.coarse_weight = torch.zeros_like(coarse), torch.zeros_like(coarse)

    def mean(self) -> tuple[Tensor, Tensor]:
        """The mean, and 0..1 for how well it is supported."""
        share = (self.weight * (1 / accumulate.ENOUGH)).clamp(max=1)
        return self.total / self.weight.clamp(min=1e-6), share

    def coarse_mean(self, otherwise: _Sums) -> Tensor:
        """The mean at the coarse scale; the other side's where this one has little weight."""
        share = (self.coarse_weight * (1 / accumulate.ENOUGH)).clamp(max=1)
        mean = self.coarse / self.coarse_weight.clamp(min=1e-6)
        other = otherwise.coarse / otherwise.coarse_weight.clamp(min=1e-6)
        return other + share * (mean - other)


def average(now: Sample, neighbours: list[Neighbour], alpha: Tensor, device: TorchDevice) -> Tensor:
    """Mean of ``alpha`` (H, W), which is ``now``'s, and its neighbours'; see
    ``accumulate.average``."""
    height, width = alpha.shape
    own = _Sums(alpha, now.coarse_alpha)
    own.total += alpha
    own.weight += 1
    own.coarse += now.coarse_alpha
    own.coarse_weight += 1
    changes = any(neighbour.seen.mirrored != now.mirrored for neighbour in neighbours)
    other = _Sums(alpha, now.coarse_alpha) if changes else own
    change, total = torch.zeros_like(now.coarse_alpha), torch.ones_like(now.coarse_alpha)
    box = now.coarse.box
    for neighbour in neighbours:
        to_it: Any = neighbour.field
        seen: Any = neighbour.seen
        around = to_it.box
        box = box.union(around)
        moved = sample_at(seen.coarse_alpha[None], to_it.arrivals())[0]
        trust = to_it.trust * neighbour.gain
        around.crop(total).add_(trust)
        around.crop(change).add_((moved - around.crop(now.coarse_alpha)).abs() * trust)
        side = own if seen.mirrored == now.mirrored else other
        _add(side, to_it, seen.alpha, neighbour.gain)
        if changes:
            around.crop(side.coarse_weight).add_(trust)
            around.crop(side.coarse).add_(trust * moved)
    soft = (now.coarse_alpha >= SURE_LOW) & (now.coarse_alpha <= SURE_HIGH)
    undecided = soft | (change > total * accumulate.CHANGES)
    inside = torch.zeros_like(undecided)
    box.grown(1, *inside.shape).crop(inside)[:] = True
    wide = extreme(undecided.float(), np.ones((3, 3), np.uint8), largest=True) > 0
    result = _interpolated(now, own, other, device) if changes else own.mean()[0]
    return torch.where(pixels_under(wide & inside, height, width), result, alpha)


def _add(side: _Sums, to_it: Field, there: Tensor, gain: float) -> None:
    """Add a neighbour's alpha ``there`` (H, W), weighted by the trust in the flow to it."""
    height, width = there.shape
    rows, columns = side.coarse.shape
    box = to_it.box
    wide = torch.nn.functional.pad(
        to_it.motion[None], (box.left, columns - box.right, box.top, rows - box.bottom), "replicate"
    )[0]
    way = _enlarged(wide, height, width)
    # From coarse pixels to parts of the picture, whose sides are 2 long to grid_sample.
    scale = pair(2 / columns, 2 / rows, way.device)
    grid = torch.addcmul(_grid(height, width, way.device), way[:2].permute(1, 2, 0), scale)
    side.total.addcmul_(sample_grid(there[None], grid)[0], way[2], value=gain)
    side.weight.add_(way[2], alpha=gain)


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
    there = mean + share * (there - mean)
    sides = [own.coarse_mean(other), other.coarse_mean(own)]
    straight, mirrored = (there, mean) if now.mirrored else (mean, there)
    small = device.download(torch.stack(sides[::-1] if now.mirrored else sides))
    maps = agreement(*small)
    middle = 0.5 * (mean + there)
    if maps is None:
        return middle
    height, width = mean.shape
    larger, straightest = _enlarged(device.upload(np.stack(maps)), height, width)
    middle = middle + larger * (torch.maximum(straight, mirrored) - middle)
    return middle + straightest * (straight - 0.5 * (mean + there))

"""The temporal filter on a torch device: ``track`` and ``accumulate`` over tensors.

Motion is found on the CPU, at its coarse size, from the frames' own greys and from the one coarse
alpha that is downloaded for it. All else stays on the device: edges, the alphas of the window,
their motion from frame to frame once it is uploaded, averaging and levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch

from vidmatte.alpha import accumulate, flow, guided_edges, temporal_filter
from vidmatte.alpha.accumulate import SURE_HIGH, SURE_LOW, Neighbour
from vidmatte.alpha.box import NOTHING, Box, box_around
from vidmatte.alpha.flow import CoarseFrame, FlowField
from vidmatte.alpha.temporal_filter import TemporalFilter
from vidmatte.alpha.torch_edges import (
    DeviceView,
    pixels_under,
    refine_edges,
    stretch_levels,
    working_rgb,
)
from vidmatte.alpha.track import TrackedFrame, with_motion
from vidmatte.core.concurrency import map_in_order
from vidmatte.core.frame import Frame
from vidmatte.models.augment import agreement
from vidmatte.models.runtimes.onnx_file import check_numbers
from vidmatte.models.runtimes.torch_device import TorchDevice
from vidmatte.models.torch_networks import uploaded
from vidmatte.pixels.torch_ops import Tensor, resize, sample


@dataclass
class _Sample:
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
class _Field:
    """A ``FlowField`` on the device: motion (3, h, w): x, y and trust.

    gate: 1, or 0 from where the trust was too low to go on; the host does not wait to know.
    way: the field that this one is, with lower trust.
    """

    box: Box
    motion: Tensor
    gate: Tensor | float = 1.0
    way: _Field | None = None

    @property
    def trust(self) -> Tensor:
        """(h, w)."""
        return self.motion[2]

    def arrivals(self) -> tuple[Tensor, Tensor]:
        """Columns and rows, in the full picture, that the box's pixels move to."""
        place = self.motion.device
        columns = torch.arange(self.box.left, self.box.right, device=place)
        rows = torch.arange(self.box.top, self.box.bottom, device=place)
        return self.motion[0] + columns, self.motion[1] + rows[:, None]

    def after(self, first: _Field) -> _Field:
        """See ``FlowField.after``."""
        x, y = first.arrivals()
        onward = sample(self.motion, x - self.box.left, y - self.box.top, replicate=True)
        way = onward + first.motion
        way[2] = onward[2] * first.motion[2]
        return _Field(first.box, way, first.gate)

    def with_lower_trust(self, length: float) -> _Field:
        """See ``FlowField.with_lower_trust``."""
        motion = self.motion.clone()
        motion[2] *= torch.exp(torch.hypot(motion[0], motion[1]) * (-1 / length))
        return _Field(self.box, motion, self.gate, self)

    def is_worth_sampling(self) -> bool:
        """True: one that is not, and those further on, have no trust and add nothing."""
        reached = (self.motion[2].max() >= flow.LEAST_TRUST).float()
        self.gate = self.gate * reached
        self.motion[2] *= self.gate
        if self.way is not None:
            self.way.gate = self.gate
        return True


@dataclass(frozen=True)
class DeviceFilter(TemporalFilter):
    """``TemporalFilter`` for frames whose alpha is on ``device`` (``Frame.on_device``).

    Not for ``refine`` best, whose equations are solved on the CPU.
    """

    device: TorchDevice = field(kw_only=True)

    @classmethod
    def like(cls, how: TemporalFilter, device: TorchDevice) -> DeviceFilter:
        """The same filter, on a device."""
        return cls(how.window, how.refine, how.strength, how.profile, how.threads, device=device)

    def track_stage(self, frames: Iterable[Any]) -> Iterator[TrackedFrame[Any]]:
        """See ``TemporalFilter.track_stage``."""
        mix = bool(self.window.before or self.window.after)
        prepare = partial(self._prepared, mix=mix)
        prepared = map_in_order(prepare, frames, self.threads, name="motion")
        if not mix:
            return prepared
        return map(self._with_fields, with_motion(prepared, self.threads))

    def _prepared(self, frame: Frame, *, mix: bool) -> TrackedFrame[Frame]:
        """One frame alone: its edges redrawn, and what its neighbours need of it."""
        pixels = frame.on_device
        if pixels is None or pixels.alpha is None:
            raise ValueError("the frame has no alpha yet: the network comes before the filter")
        if not (self.redraws or mix):
            return TrackedFrame(frame=frame)
        height, width = guided_edges.working_size(*frame.rgb.shape[:2])
        small = cv2.resize(frame.rgb, (width, height), interpolation=cv2.INTER_AREA)
        if pixels.rgb is None:
            uploaded(frame, self.device)
        view = DeviceView(
            working_rgb(pixels.rgb, height, width),
            resize(pixels.alpha, height, width, "area"),
            cv2.cvtColor(small, cv2.COLOR_RGB2GRAY),
        )
        rows, columns = _covered(view.alpha)
        if self.redraws:
            pixels.alpha = refine_edges(pixels.rgb, pixels.alpha, view)
            view.alpha = resize(pixels.alpha, height, width, "area")
        found = self._sample(frame, small, view, rows, columns) if mix else None
        return TrackedFrame(frame=frame, view=view, sample=found)  # type: ignore[arg-type]

    def _sample(
        self, frame: Frame, small: np.ndarray, view: DeviceView, rows: Tensor, columns: Tensor
    ) -> _Sample:
        """What a frame's neighbours need of its alpha. small: the frame at the working scale.

        rows, columns: of the working scale, where there was alpha before edges were redrawn.
        """
        alpha = frame.on_device.alpha
        height, width = (-(-side // 2) for side in small.shape[:2])
        coarse_alpha = resize(view.alpha, height, width, "area")
        coarse = CoarseFrame(
            cv2.resize(small, (width, height), interpolation=cv2.INTER_AREA),
            self.device.download(coarse_alpha),
            NOTHING,
        )
        check_numbers(replace(frame, alpha=coarse.alpha, return_slot=None))
        coarse.box = box_around(coarse.alpha > flow.PRESENT)
        there = alpha * _enlarged_box(rows, alpha.shape[0])[:, None]
        there *= _enlarged_box(columns, alpha.shape[1])
        return _Sample(there, coarse_alpha, coarse, frame.mirrored, frame.augment_phase)

    def _with_fields(self, item: TrackedFrame[Frame]) -> TrackedFrame[Frame]:
        """The frame with its motion on the device."""
        for name in ("from_last", "to_last"):
            found: FlowField | None = getattr(item, name)
            if found is not None and not found.box.is_empty:
                planes = found.motion[..., :3].transpose(2, 0, 1)
                setattr(item, name, _Field(found.box, self.device.upload(planes)))
        return item

    def _finished(self, item: temporal_filter._Averaging[Any]) -> Any:
        """See ``TemporalFilter._finished``."""
        frame, place = item._frame, item._place
        view: Any = item._view
        seen: Any = item._tracked[place].sample
        pixels = frame.on_device
        if view is None:
            return frame
        alpha = pixels.alpha
        if seen is not None:
            alpha = _average(seen, list(item._neighbours(place)), alpha, self.device)
        alpha = stretch_levels(alpha, view, self.profile, redraws=self.redraws)
        if seen is not None and self.redraws:
            share = self.profile.redrawn * _pace(item, seen, view)
            alpha = refine_edges(pixels.rgb, alpha, view, share)
        pixels.alpha = alpha
        return frame


def _covered(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """The rows and the columns from the first to the last that has alpha: (h,) and (w,) bool."""
    there = alpha > guided_edges.SOFT_LOW / 5
    return _between(there.any(1)), _between(there.any(0))


def _between(there: Tensor) -> Tensor:
    """From the first to the last that is set, all set."""
    counted = there.cumsum(0)
    return (counted > 0) & ((counted < counted[-1]) | there)


def _enlarged_box(there: Tensor, size: int) -> Tensor:
    """The same of the full resolution, two pixels wider on either side, as 0 and 1.

    See ``Box.enlarged``, of which this is one side.
    """
    places = torch.arange(size, device=there.device)
    scale = size / len(there)
    working = torch.arange(len(there), device=there.device)
    first = torch.where(there, working, len(there)).min()
    last = torch.where(there, working, -1).max() + 1
    begin, end = torch.floor(first * scale) - 2, torch.ceil(last * scale) + 2
    return ((places >= begin) & (places < end) & there.any()).float()


def _pace(item: temporal_filter._Averaging[Any], seen: _Sample, view: DeviceView) -> Tensor | float:
    """0 where nothing moves now, 1 where something does, (h, w); see ``_Averaging._pace``."""
    tracked, place = item._tracked, item._place
    motion: Any = tracked[place].to_last
    if motion is None and place + 1 < len(tracked):
        motion = tracked[place + 1].from_last
    if motion is None or motion.box.is_empty:
        return 1.0
    coarse = torch.zeros_like(seen.coarse_alpha)
    speed = torch.hypot(*motion.motion[:2])
    motion.box.crop(coarse)[:] = (speed * (1 / temporal_filter._MOVING)).clamp_(max=1)
    return resize(coarse, view.grey.shape[0], view.grey.shape[1], "linear")


class _Sums:
    """The weighted sums over the straight frames, or over the mirrored ones: full and coarse."""

    def __init__(self, full: Tensor, coarse: Tensor) -> None:
        self.total, self.weight = torch.zeros_like(full), torch.zeros_like(full)
        self.coarse, self.coarse_weight = torch.zeros_like(coarse), torch.zeros_like(coarse)

    def mean(self) -> tuple[Tensor, Tensor]:
        """The mean, and 0..1 for how well it is supported."""
        share = (self.weight * (1 / accumulate._ENOUGH)).clamp(max=1)
        return self.total / self.weight.clamp(min=1e-6), share

    def coarse_mean(self, otherwise: _Sums) -> Tensor:
        """The mean at the coarse scale; the other side's where this one has little weight."""
        share = (self.coarse_weight * (1 / accumulate._ENOUGH)).clamp(max=1)
        mean = self.coarse / self.coarse_weight.clamp(min=1e-6)
        other = otherwise.coarse / otherwise.coarse_weight.clamp(min=1e-6)
        return other + share * (mean - other)


def _average(
    now: _Sample, neighbours: list[Neighbour], alpha: Tensor, device: TorchDevice
) -> Tensor:
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
    undecided = (now.coarse_alpha >= SURE_LOW) & (now.coarse_alpha <= SURE_HIGH)
    box = now.coarse.box
    for neighbour in neighbours:
        to_it: Any = neighbour.field
        seen: Any = neighbour.seen
        around = to_it.box
        box = box.union(around)
        x, y = to_it.arrivals()
        moved = sample(seen.coarse_alpha[None], x, y, replicate=True)[0]
        apart = (moved - around.crop(now.coarse_alpha)).abs() > accumulate._DIFFERS
        around.crop(undecided)[:] |= apart
        side = own if seen.mirrored == now.mirrored else other
        _add(side, to_it, seen.alpha, neighbour.gain)
        if changes:
            trust = to_it.trust * neighbour.gain
            around.crop(side.coarse_weight)[:] += trust
            around.crop(side.coarse)[:] += trust * moved
    inside = torch.zeros_like(undecided)
    box.crop(inside)[:] = True
    result = _interpolated(now, own, other, device) if changes else own.mean()[0]
    return torch.where(pixels_under(undecided & inside, height, width), result, alpha)


def _add(side: _Sums, to_it: _Field, there: Tensor, gain: float) -> None:
    """Add a neighbour's alpha ``there`` (H, W), weighted by the trust in the flow to it."""
    height, width = there.shape
    rows, columns = side.coarse.shape
    box = to_it.box
    wide = torch.nn.functional.pad(
        to_it.motion[None], (box.left, columns - box.right, box.top, rows - box.bottom), "replicate"
    )[0]
    x, y, weight = resize(wide, height, width, "linear")
    x = (x * (width / columns)).add_(torch.arange(width, device=x.device)).clamp_(0, width - 1)
    y = (y * (height / rows)).add_(torch.arange(height, device=y.device)[:, None])
    y = y.clamp_(0, height - 1)
    weight = weight * gain
    side.total.addcmul_(sample(there[None], x, y, replicate=False)[0], weight)
    side.weight.add_(weight)


def _interpolated(now: _Sample, own: _Sums, other: _Sums, device: TorchDevice) -> Tensor:
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
    larger, straightest = resize(device.upload(np.stack(maps)), height, width, "linear")
    middle = middle + larger * (torch.maximum(straight, mirrored) - middle)
    return middle + straightest * (straight - 0.5 * (mean + there))

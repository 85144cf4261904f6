"""The temporal filter on a torch device: ``track`` and ``accumulate`` over tensors.

Motion is found on the CPU, at its coarse size, from the frames' own greys and from the one coarse
alpha that is downloaded for it. All else stays on the device: edges, the alphas of the window,
their motion from frame to frame once it is uploaded, averaging and levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import cv2
import numpy as np
import torch

from vidmatte.alpha.box import SOFT_LOW, WorkingFrame, box_around
from vidmatte.alpha.flow import PRESENT, CoarseFrame, FlowField
from vidmatte.alpha.matting_laplacian import solve_doubt
from vidmatte.alpha.temporal_filter import MOVING, Averaging, TemporalFilter
from vidmatte.alpha.torch_average import Field, Sample, average
from vidmatte.alpha.torch_edges import (
    DeviceView,
    refine_edges,
    stretch_levels,
    working_rgb,
)
from vidmatte.alpha.track import TrackedFrame, with_motion
from vidmatte.core.concurrency import map_in_order
from vidmatte.core.frame import Frame
from vidmatte.models.runtimes.onnx_file import check_numbers
from vidmatte.models.runtimes.torch_device import TorchDevice
from vidmatte.models.torch_networks import uploaded
from vidmatte.pixels.torch_ops import Tensor, resize


@dataclass(frozen=True)
class DeviceFilter(TemporalFilter):
    """``TemporalFilter`` for frames whose alpha is on ``device`` (``Frame.on_device``).

    With ``refine`` best the alpha comes to host memory between both averages, as the equations are
    solved on the CPU.
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
        # Colours alone: its alpha is on the device.
        seen = WorkingFrame.of(frame.rgb, np.zeros(frame.rgb.shape[:2], np.uint8))
        height, width = seen.rgb.shape[:2]
        if pixels.rgb is None:
            uploaded(frame, self.device)
        view = DeviceView(
            working_rgb(pixels.rgb, height, width),
            resize(pixels.alpha, height, width, "area"),
            cv2.cvtColor(seen.rgb, cv2.COLOR_RGB2GRAY),
        )
        rows, columns = _covered(view.alpha)
        if self.redraws:
            pixels.alpha = refine_edges(pixels.rgb, pixels.alpha, view)
            view.alpha = resize(pixels.alpha, height, width, "area")
        found = self._sample(frame, seen, view, rows, columns) if mix else None
        return TrackedFrame(frame=frame, view=view, sample=found)  # type: ignore[arg-type]

    def _sample(
        self, frame: Frame, seen: WorkingFrame, view: DeviceView, rows: Tensor, columns: Tensor
    ) -> Sample:
        """What a frame's neighbours need of its alpha. seen: the frame's colours.

        rows, columns: of the working scale, where there was alpha before edges were redrawn.
        """
        alpha = frame.on_device.alpha
        coarse = CoarseFrame.of(seen)
        coarse_alpha = resize(view.alpha, coarse.alpha.shape[0], coarse.alpha.shape[1], "area")
        coarse.alpha = self.device.download(coarse_alpha)
        check_numbers(replace(frame, alpha=coarse.alpha, return_slot=None))
        coarse.box = box_around(coarse.alpha > PRESENT)
        there = alpha * _enlarged_box(rows, alpha.shape[0])[:, None]
        there *= _enlarged_box(columns, alpha.shape[1])
        return Sample(there, coarse_alpha, coarse, frame.mirrored, frame.augment_phase)

    def _solve(self, frame: Any) -> None:
        """See ``TemporalFilter._solve``."""
        pixels = frame.on_device
        pixels.lower(frame.writable_alpha())
        solve_doubt(frame.rgb, frame.alpha)
        pixels.alpha = None
        pixels.lift(frame.alpha)
        frame.alpha = None

    def _with_fields(self, item: TrackedFrame[Frame]) -> TrackedFrame[Frame]:
        """The frame with its motion on the device."""
        for name in ("from_last", "to_last"):
            found: FlowField | None = getattr(item, name)
            if found is not None and not found.box.is_empty:
                planes = found.motion[..., :3].transpose(2, 0, 1)
                setattr(item, name, Field(found.box, self.device.upload(planes)))
        return item

    def _finished(self, item: Averaging[Any]) -> Any:
        """See ``TemporalFilter._finished``."""
        frame = item.frame
        view: Any = item.view
        seen: Any = item.sample
        pixels = frame.on_device
        if view is None:
            return frame
        alpha = pixels.alpha
        if seen is not None:
            alpha = average(seen, list(item.neighbours()), alpha, self.device)
        alpha = stretch_levels(alpha, view, self.profile, redraws=self.redraws)
        if seen is not None and self.redraws:
            share = self.profile.redrawn * _pace(item, seen, view)
            alpha = refine_edges(pixels.rgb, alpha, view, share)
        pixels.alpha = alpha
        return frame


def _covered(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """The rows and the columns that have alpha: (h,) and (w,) bool."""
    there = alpha > SOFT_LOW / 5
    return there.any(1), there.any(0)


def _enlarged_box(there: Tensor, size: int) -> Tensor:
    """From the first to the last that is set, at the full resolution, two pixels wider on either
    side, as 0 and 1.

    See ``Box.enlarged``, of which this is one side.
    """
    working, places = _counted(len(there), there.device), _counted(size, there.device)
    scale = size / len(there)
    first = torch.where(there, working, size).amin()
    last = torch.where(there, working, -size).amax()
    begin, end = torch.floor(first * scale) - 2, torch.ceil((last + 1) * scale) + 2
    return ((places >= begin) & (places < end)).float()


@lru_cache(maxsize=16)
def _counted(size: int, device: Any) -> Tensor:
    """0 to size - 1."""
    return torch.arange(size, device=device)


def _pace(item: Averaging[Any], seen: Sample, view: DeviceView) -> Tensor | float:
    """0 where nothing moves now, 1 where something does, (h, w); see ``Averaging._pace``."""
    motion: Any = item.motion
    if motion is None or motion.box.is_empty:
        return 1.0
    coarse = torch.zeros_like(seen.coarse_alpha)
    speed = torch.hypot(*motion.motion[:2])
    motion.box.crop(coarse)[:] = (speed * (1 / MOVING)).clamp_(max=1)
    return resize(coarse, view.grey.shape[0], view.grey.shape[1], "linear")

"""The steps of a device on frames with known mattes: against the CPU's, their time and kernels."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
from torch_frames import on_device, shot

from vidmatte.alpha import adjustments, torch_adjust
from vidmatte.alpha.adjustments import Adjustments
from vidmatte.alpha.temporal_filter import TemporalFilter
from vidmatte.alpha.torch_filter import DeviceFilter
from vidmatte.alpha.track import WINDOWS
from vidmatte.core.colour import LIMITED, ColourTags
from vidmatte.core.families import PER_FRAME
from vidmatte.core.frame import Clip, Frame
from vidmatte.core.source import Source
from vidmatte.models.runtimes.torch_device import DeviceFrame, TorchDevice
from vidmatte.pixels.formats import plane_arrays, set_colour
from vidmatte.writers.formats import by_name
from vidmatte.writers.render.cutout import CutoutPicture

_SIZE = (270, 480)
_FRAMES = 8  # that are compared
_TIMED = 24
_COLOUR = ColourTags(1, LIMITED, 1, 1)
_CONTROLS = Adjustments(threshold=(0.1, 0.9), gamma=1.4, dilate=3.5, feather=6)


def compare_steps(device: TorchDevice) -> dict[str, Any]:
    """The largest differences from the CPU's, in parts of 255 or in codes."""
    frames = shot(_FRAMES, _SIZE, 5.0)
    how = TemporalFilter(WINDOWS["on"], "fast", 1.0, PER_FRAME)
    copies = [replace(frame, alpha=_alpha(frame).copy()) for frame in frames]
    expected = [_alpha(frame) for frame in how.average_stage(how.track_stage(copies))]
    given = [replace(frame, alpha=_alpha(frame).copy()) for frame in frames]
    same = DeviceFilter.like(how, device)
    done = list(same.average_stage(same.track_stage(on_device(given, device))))
    found = [device.download(frame.on_device.alpha) for frame in done]
    filtered = max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))
    alpha = expected[0]
    adjusted = device.download(torch_adjust.apply(device.upload(alpha), _CONTROLS))
    controls = float(np.abs(adjusted - adjustments.apply(alpha.copy(), _CONTROLS)).max())
    codes = {name: _cutout_apart(name, frames[0], device) for name in ("prores", "webm", "png")}
    is_same = 255 * max(filtered, controls) < 1 and max(codes.values()) <= 2
    return {
        "filter of 255": round(255 * filtered, 3),
        "controls of 255": round(255 * controls, 3),
        "cut-out codes": codes,
        "same": is_same,
    }


def measure_stages(device: TorchDevice, size: str) -> dict[str, Any]:
    """Milliseconds and MB copied a frame of the steps, on one thread, at a size."""
    _timed(_Steps(device, size), device)  # the first time sizes and tables are new
    return _timed(_Steps(device, size), device)


def count_kernels(device: TorchDevice, size: str) -> dict[str, str]:
    """Kernels and copies a frame of the steps, and their milliseconds on the device; on the CPU
    operators, views included."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    kind = ProfilerActivity.CUDA if device.is_cuda else ProfilerActivity.CPU
    found, steps = {}, _Steps(device, size)
    for name, step in steps.all().items():
        with profile(activities=[kind]) as seen:
            step()
            device.wait()
        events = [
            one
            for one in seen.events() or ()
            if (one.device_type == DeviceType.CUDA if device.is_cuda else one.cpu_parent is None)
        ]
        milliseconds = sum(one.time_range.elapsed_us() for one in events) / 1000
        found[name] = f"{len(events) / steps.count:.0f} ({milliseconds / steps.count:.2f} ms)"
    return found


class _Steps:
    """What is done to each frame of a clip, step by step."""

    def __init__(self, device: TorchDevice, size: str) -> None:
        width, height = map(int, size.split("x"))
        self.count = _TIMED if device.is_cuda else 4
        given = shot(self.count, (height, width), 5.0)
        self._device = device
        self._cutout = CutoutPicture(_clip(given[0]), by_name("prores"), "estimate")
        self._filter = DeviceFilter(WINDOWS["on"], "fast", 1.0, PER_FRAME, device=device)
        self._frames = [_as_yuv(frame) for frame in on_device(given, device)]
        self._tracked: list[Any] = []

    def all(self) -> dict[str, Callable[[], object]]:
        """The steps by name, in order."""
        return {
            "motion": self._motion,
            "steady": lambda: list(self._filter.average_stage(self._tracked)),
            "summary": self._summary,
            "cut-out": lambda: [self._cutout.render(frame) for frame in self._frames],
        }

    def _motion(self) -> None:
        self._tracked = list(self._filter.track_stage(self._frames))

    def _summary(self) -> None:
        for frame in self._frames:
            pixels = frame.on_device
            pixels.summary = torch_adjust._summary_of(pixels.alpha, self._device)


def _timed(steps: _Steps, device: TorchDevice) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for name, step in steps.all().items():
        before, begin = replace(device.copies), time.perf_counter()
        step()
        device.wait()
        facts[f"{name} ms"] = round(1000 * (time.perf_counter() - begin) / steps.count, 2)
        copied = device.copies.up + device.copies.down - before.up - before.down
        facts[f"{name} MB"] = round(copied / steps.count / 1e6, 2)
    return facts


def _alpha(frame: Frame) -> np.ndarray:
    assert frame.alpha is not None
    return frame.alpha


def _as_yuv(frame: Frame) -> Frame:
    """The frame with a picture in YCbCr, of other colours."""
    height, width = frame.rgb.shape[:2]
    picture = av.VideoFrame(width, height, "yuv420p")
    set_colour(picture, _COLOUR)
    for plane in plane_arrays(picture):
        np.copyto(plane, frame.rgb[: plane.shape[0], : plane.shape[1], 0])
    return replace(frame, picture=picture)


def _clip(frame: Frame) -> Clip:
    height, width = frame.rgb.shape[:2]
    return Clip(
        source=Source("steps"),
        kind="movie",
        width=width,
        height=height,
        rate=Fraction(25),
        time_base=Fraction(1, 25),
        pixel_format="yuv420p",
        working_format="yuv420p",
        bit_depth=8,
        colour=_COLOUR,
        declared_colour=_COLOUR,
    )


def _cutout_apart(name: str, frame: Frame, device: TorchDevice) -> int:
    """The largest difference of a cut-out's samples from the CPU's."""
    given, clip = _as_yuv(frame), _clip(frame)
    pixels = DeviceFrame(device, alpha=device.upload(_alpha(frame)))
    pixels.summary = torch_adjust._summary_of(pixels.alpha, device)
    there = replace(given, on_device=pixels, alpha=None)
    found, expected = (
        plane_arrays(CutoutPicture(clip, by_name(name), "estimate").render(one))
        for one in (there, given)
    )
    apart = [np.abs(a.astype(int) - b).max() for a, b in zip(found, expected, strict=True)]
    return int(max(apart))

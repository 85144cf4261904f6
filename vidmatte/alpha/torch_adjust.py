"""The controls on torch tensors, and what leaves the device of a frame's finished alpha.

Those that compute each pixel from its surroundings: threshold, gamma, dilate, erode, feather and
invert. Where one that follows regions or a mask from a file is set, all of them run on the CPU, as
their order counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import sqrt

import numpy as np
import torch

from vidmatte.alpha import wide_windows
from vidmatte.alpha.adjustments import Adjustments, disc
from vidmatte.alpha.foreground import LEAST, MOST
from vidmatte.alpha.masks import adjusted_frames, controls_of
from vidmatte.alpha.shot_detection import THUMBNAIL
from vidmatte.core.frame import Clip, Frame
from vidmatte.models.runtimes.onnx_file import check_numbers
from vidmatte.models.runtimes.torch_device import AlphaSummary, DeviceFrame, TorchDevice
from vidmatte.pixels.torch_ops import Tensor, bordered, extreme, gaussian, resize
from vidmatte.settings import AdjustOptions

_SQUARE = np.ones((3, 3), np.uint8)


def downloaded_frames(
    frames: Iterable[Frame],
    settings: AdjustOptions,
    clip: Clip,
    device: TorchDevice,
    *,
    stays: bool,
) -> Iterator[Frame]:
    """``masks.adjusted_frames`` of frames whose alpha is on the device; it comes to host memory.

    stays: whether it stays on the device instead, with its summary, for a writer, which draws its
    pictures there or calls ``Frame.to_host``; no one may change it then.
    Raises UsageError, SourceError, ModelError for an alpha that contains NaN.
    """
    controls = controls_of(settings)
    is_here = settings.garbage_matte is None and settings.holdout is None and _is_local(controls)
    for frame in _controlled(frames, settings, clip, controls if is_here else None):
        if not stays:
            frame.to_host()
            check_numbers(frame)
            frame.on_device = None
        else:
            pixels = frame.on_device = frame.on_device or DeviceFrame(device)
            pixels.lift(frame.alpha, frame.foreground)
            pixels.check()
            pixels.rgb = None  # nothing looks at the colours again
            pixels.summary = _summary_of(pixels.alpha, device)
            check_numbers(replace(frame, alpha=pixels.summary.thumbnail, return_slot=None))
        yield frame


def _controlled(
    frames: Iterable[Frame], settings: AdjustOptions, clip: Clip, controls: Adjustments | None
) -> Iterator[Frame]:
    """The frames after the controls, each where it is; None: those that are for the CPU."""
    if controls is None:
        yield from adjusted_frames(_lowered(frames), settings, clip)
        return
    for frame in frames:
        pixels = frame.on_device
        if pixels is None or pixels.alpha is None:  # it comes from a step on the CPU
            yield from adjusted_frames([frame], settings, clip)
            continue
        pixels.alpha = apply(pixels.alpha, controls)
        yield frame


def _lowered(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The frames, all that they are in host memory alone."""
    for frame in frames:
        frame.to_host()
        check_numbers(frame)
        frame.on_device = None
        yield frame


def _summary_of(alpha: Tensor, device: TorchDevice) -> AlphaSummary:
    """What is looked at of a finished alpha (H, W), in one small download."""
    width, height = THUMBNAIL
    soft = ((alpha >= LEAST) & (alpha <= MOST)).float()
    parts = [
        resize(alpha, height, width, "area").reshape(-1),
        *(plane.amax(dim) for plane in (alpha, soft) for dim in (1, 0)),
    ]
    found = device.download(torch.cat(parts))
    ends = np.cumsum([len(part) for part in parts])[:-1]
    thumbnail, rows, columns, soft_rows, soft_columns = np.split(found, ends)
    return AlphaSummary(
        thumbnail.reshape(height, width), rows, columns, soft_rows > 0, soft_columns > 0
    )


def _is_local(controls: Adjustments) -> bool:
    """Whether ``apply`` has all controls that are set."""
    unset = Adjustments()
    rest = replace(
        controls,
        threshold=unset.threshold,
        gamma=unset.gamma,
        dilate=unset.dilate,
        erode=unset.erode,
        feather=unset.feather,
        invert=unset.invert,
    )
    return rest == unset


def apply(alpha: Tensor, controls: Adjustments) -> Tensor:
    """Alpha (H, W) float32 in 0..1 after the controls, which ``_is_local``; see
    ``adjustments.apply``."""
    if controls.threshold != (0.0, 1.0):
        low, high = controls.threshold
        alpha = ((alpha - low) * (1 / (high - low))).clamp(0, 1)
    if controls.gamma != 1:
        alpha = alpha ** (1 / controls.gamma)
    if controls.dilate:
        alpha = _morph(alpha, controls.dilate, largest=True)
    if controls.erode:
        alpha = _morph(alpha, controls.erode, largest=False)
    if controls.feather:
        alpha = _wide_gaussian(alpha, controls.feather / 2).clamp(0, 1)
    return 1 - alpha if controls.invert else alpha


def _morph(alpha: Tensor, pixels: float, *, largest: bool) -> Tensor:
    """Grey morphology with a disc whose radius may be a fraction."""
    steps, rest = divmod(int(pixels), wide_windows.RADIUS)
    if steps:
        alpha = _discs(alpha, steps, largest=largest)
    if rest > 1:
        alpha = extreme(alpha, disc(rest), largest=largest)
    for part in (1.0 if rest == 1 else 0.0, pixels - int(pixels)):
        if part:
            alpha = alpha + part * (_one_step(alpha, largest=largest) - alpha)
    return alpha


def _one_step(alpha: Tensor, *, largest: bool) -> Tensor:
    """Alpha with its edges moved by one pixel."""
    cross = extreme(alpha, disc(1), largest=largest)
    square = extreme(alpha, _SQUARE, largest=largest)
    return cross + (sqrt(2) - 1) * (square - cross)


def _discs(alpha: Tensor, times: int, *, largest: bool) -> Tensor:
    """``wide_windows.discs``: ``times`` erosions or dilations by the disc of ``RADIUS``."""
    choose, nothing = (torch.maximum, -np.inf) if largest else (torch.minimum, np.inf)
    reach = (wide_windows.RADIUS * times,) * 4
    found = torch.nn.functional.pad(alpha, reach, value=nothing)
    for (down, right), steps in wide_windows.ROWS:
        seen, wanted = 1, times * steps + 1
        while seen < wanted:
            more = min(seen, wanted - seen)
            y, x = more * down, more * right
            height, width = found.shape[0] - y, found.shape[1] - abs(x)
            one, other = max(-x, 0), max(x, 0)
            found = choose(found[:height, one : one + width], found[y:, other : other + width])
            seen += more
    return found


def _wide_gaussian(alpha: Tensor, sigma: float) -> Tensor:
    """``wide_windows.gaussian``: (H, W) softened; its borders go on outside."""
    if sigma < wide_windows.WIDEST_EXACT:
        return gaussian(alpha, sigma, replicate=True)
    height, width = alpha.shape
    margin = wide_windows.BORDER
    even = alpha[torch.arange(height + height % 2, device=alpha.device).clamp(max=height - 1)][
        :, torch.arange(width + width % 2, device=alpha.device).clamp(max=width - 1)
    ]
    framed = gaussian(
        bordered(even, margin, margin, replicate=True), wide_windows.BEFORE_HALVING, replicate=True
    )
    rows, columns = framed.shape
    half = resize(framed, rows // 2, columns // 2, "area")
    half = _wide_gaussian(half, sqrt(sigma**2 - wide_windows.OF_HALVING) / 2)
    full = resize(half, rows, columns, "linear")
    return full[margin : margin + height, margin : margin + width]

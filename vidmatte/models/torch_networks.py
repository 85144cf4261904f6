"""Networks whose pictures and alphas stay on a torch device, from the upload to the alpha.

One upload a frame, its 8-bit RGB; resizing, normalisation and the batch on the device; the network
bound to tensors there; its alpha enlarged there. Where the next stage works on the device too the
alpha stays (``Frame.on_device``), else it is the one download. What they compute is what
``segmentation`` and ``rvm`` compute.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
import torch

from vidmatte.core.families import Family
from vidmatte.core.frame import Clip, Frame
from vidmatte.models.augment import View, agreement, mark_views, views_of
from vidmatte.models.base import Normalization
from vidmatte.models.runtimes.device import Runner
from vidmatte.models.runtimes.onnx_file import alpha_shape, check_range
from vidmatte.models.runtimes.torch_device import DeviceFrame, TorchDevice
from vidmatte.models.rvm import RecurrentNetwork
from vidmatte.models.segmentation import RECONCILE_SIDE, SegmentationNetwork
from vidmatte.pixels.torch_ops import Tensor, bordered, resize, resize_codes
from vidmatte.settings import Settings

_CHECKED = 8  # of a clip's frames, at least, are computed in both precisions
_NEVER = -1  # instead of how many are still to be checked
_SAME = 1 / 255  # the mean difference of alpha up to which that is one, as of bfloat16


def uploaded(frame: Frame, device: TorchDevice) -> DeviceFrame:
    """The frame's pixels on the device, with ``rgb``; those it asks to keep where it does."""
    pixels: DeviceFrame = frame.on_device or DeviceFrame(device)
    pixels.rgb = device.upload(frame.rgb).permute(2, 0, 1).contiguous()
    return pixels


def _finish(frame: Frame, pixels: DeviceFrame, alpha: Tensor, device: TorchDevice) -> None:
    """Leave the alpha (H, W) on the device where the frame asks for it, else download it."""
    if frame.on_device is not None:
        pixels.alpha = alpha
    else:
        device.download(alpha, frame.writable_alpha())


class DeviceSegmentation(SegmentationNetwork):
    """See ``SegmentationNetwork``; not for ``as_rembg``.

    output_name: of the alpha. half: the network in half precision, used for a clip where its first
    frames have the same alpha in it. report: gets one line where they have not.
    """

    def __init__(
        self,
        runner: Runner,
        family: Family,
        *,
        device: TorchDevice,
        output_name: str,
        half: Runner | None = None,
        report: Callable[[str], None] = lambda _: None,
        **how: Any,
    ) -> None:
        super().__init__(runner, family, **how)
        self._half, self._report = half, report
        self._to_check = 0 if half is None else _CHECKED
        self._check = Lock()
        self.keeps_on = self._device = device
        self._kept = (output_name,)
        self._scale, self._offset = _factors(self._normalize, device)

    def begin(self, clip: Clip, settings: Settings) -> None:  # noqa: ARG002
        """See ``Network.begin``: the precision is chosen for each clip."""
        self._to_check = 0 if self._half is None else _CHECKED

    def cancel(self) -> None:
        super().cancel()
        if self._half is not None:
            self._half.cancel()

    def _matte(self, batch: list[Frame]) -> list[Frame]:
        pixels = [uploaded(frame, self._device) for frame in batch]
        views = [views_of(frame, self._schedule) for frame in batch]
        seen = [self._seen(pixels, each) for each in zip(*views, strict=True)]
        for number, frame in enumerate(batch):
            mark_views(frame, [self._schedule])
            alphas = [self._stretched_on_device(part[number]) for part in seen]
            coarse = alphas[0] if len(alphas) == 1 else self._merged(*alphas)
            height, width = frame.rgb.shape[:2]
            alpha = resize(coarse.clamp(0, 1), height, width, self._enlarged_by)
            _finish(frame, pixels[number], alpha.clamp_(0, 1), self._device)
        return batch

    def _seen(self, pixels: list[DeviceFrame], views: tuple[View, ...]) -> list[Tensor]:
        """The network's alpha of one view of each frame, mapped back to the frame."""
        height, width = pixels[0].rgb.shape[-2:]
        width, height = self._size.of(width, height)
        inputs = torch.stack(
            [_apply(view, one.rgb, width, height) for view, one in zip(views, pixels, strict=True)]
        )
        alphas = self._in_best_precision(inputs.mul_(self._scale).sub_(self._offset))
        return [_undo(view, alpha) for view, alpha in zip(views, alphas, strict=True)]

    def _in_best_precision(self, inputs: Tensor) -> Tensor:
        """``_alphas`` in half precision, or in float32 until that is known to give the same."""
        if self._half is None:
            return self._alphas(self._runner, inputs)
        with self._check:
            if self._to_check > 0:
                return self._checked(self._half, inputs)
        return self._alphas(self._runner if self._to_check else self._half, inputs)

    def _checked(self, half: Runner, inputs: Tensor) -> Tensor:
        """The alphas in float32; whether those in half precision are the same is noted."""
        alphas = self._alphas(self._runner, inputs)
        apart = (self._alphas(half, inputs) - alphas).abs().mean(dim=(1, 2)).max().item()
        self._to_check = max(0, self._to_check - len(inputs))
        if not apart <= _SAME:  # nor is it where one is not a number
            self._to_check = _NEVER
            self._report(
                f"half precision changes the alpha by {255 * apart:.2g} of 255 on average:"
                " computing in float32"
            )
        return alphas

    def _alphas(self, runner: Runner, inputs: Tensor) -> Tensor:
        """The network's alphas of pictures (B, 3, H, W): (B, h, w) float32."""
        with self._turns:
            found = runner.run({self._input_name: inputs}, self._kept)
        output = found[self._kept[0]]
        alphas = output.float().reshape(alpha_shape(output.shape, len(inputs), self._family))
        if self._family.class_count:
            shares = torch.softmax(alphas, dim=1)
            return shares[:, list(self._family.subject_classes)].sum(dim=1)
        if self._family.logits:
            return torch.sigmoid(alphas)
        if not self._minmax:
            check_range(np.float32(output.max().item()))
        return alphas

    def _stretched_on_device(self, alpha: Tensor) -> Tensor:
        if not self._minmax:
            return alpha
        low, high = alpha.min(), alpha.max()
        return (alpha - low) / (high - low).clamp(min=float(np.finfo(np.float32).tiny))

    def _merged(self, straight: Tensor, mirrored: Tensor) -> Tensor:
        """One alpha of a picture's and its mirror image's; see ``augment.agreement``."""
        sizes = straight.shape, mirrored.shape
        height, width = max(tuple(size) for size in sizes)
        straight, mirrored = (
            resize(alpha, height, width, "linear") for alpha in (straight, mirrored)
        )
        small = torch.stack([straight, mirrored])
        small = resize(small, RECONCILE_SIDE, RECONCILE_SIDE, "area")
        maps = agreement(*self._device.download(small))
        mean = 0.5 * (straight + mirrored)
        if maps is None:
            return mean
        larger, own = resize(self._device.upload(np.stack(maps)), height, width, "linear")
        return mean + larger * (torch.maximum(straight, mirrored) - mean) + own * (straight - mean)


def _factors(normalize: Normalization, device: TorchDevice) -> tuple[Tensor, Tensor]:
    """What codes are multiplied by, and what is subtracted then: (3, 1, 1) each."""
    both = (normalize.scale, normalize.offset)
    scale, offset = (torch.from_numpy(one).to(device.place) for one in both)
    return scale, offset


def _apply(view: View, rgb: Tensor, width: int, height: int) -> Tensor:
    """``View.apply``: (3, H, W) uint8 -> codes (3, height, width) float32."""
    across, down = view.margin(width), view.margin(height)
    shrinks = rgb.shape[-1] > width - 2 * across or rgb.shape[-2] > height - 2 * down
    size = height - 2 * down, width - 2 * across
    picture = resize_codes(rgb.float(), *size, "area" if shrinks else "linear")
    picture = bordered(picture, down, across)
    return picture.flip(-1) if view.mirrored else picture


def _undo(view: View, matte: Tensor) -> Tensor:
    """``View.undo``."""
    height, width = matte.shape
    across, down = view.margin(width), view.margin(height)
    inner = matte[down : height - down, across : width - across]
    return inner.flip(-1) if view.mirrored else inner


class DeviceRecurrent(RecurrentNetwork):
    """See ``RecurrentNetwork``; its states, alpha and foreground are made on the device."""

    def __init__(
        self, runner: Runner, family: Family, downsample: float, *, device: TorchDevice
    ) -> None:
        super().__init__(runner, family, downsample)
        self.keeps_on = self._device = device
        self._kept = (*self._names.state_outputs, *self._names.results)
        self._scale, self._offset = _factors(self._normalize, device)

    def _picture(self, frame: Frame) -> Tensor:
        pixels = uploaded(frame, self._device)
        return (pixels.rgb.float().mul_(self._scale).sub_(self._offset))[None]

    def _store(self, frame: Frame, outputs: dict[str, Any]) -> Frame:
        alpha = outputs[self._names.alpha][0, 0].float()
        alpha = torch.sigmoid(alpha) if self._logits else alpha
        if self._names.foreground is not None:
            codes = outputs[self._names.foreground][0].float() * 255
            codes = codes.round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()
            frame.foreground = self._device.download(codes)
        pixels = frame.on_device or DeviceFrame(self._device)
        _finish(frame, pixels, alpha.clamp(0, 1), self._device)
        return frame

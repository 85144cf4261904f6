"""Networks whose pictures and alphas stay on a torch device, from the upload to the alpha.

One upload a frame, its 8-bit RGB; resizing, normalisation and the batch on the device; the network
bound to tensors there; its alpha enlarged there. Where the next stage works on the device too the
alpha stays (``Frame.on_device``), else it is the one download. What they compute is what
``segmentation`` computes; recurrent ones are in ``torch_recurrent``. The alphas of two networks are
combined there too. Views and sizes are made for all frames of a batch at once: on a device, a step
over eight pictures takes as long to start as one over a single picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from threading import Lock
from typing import Any

import cv2
import numpy as np
import torch

from vidmatte.core.families import Family
from vidmatte.core.frame import Clip, Frame
from vidmatte.models.augment import View, agreement, mark_views, views_of
from vidmatte.models.base import Normalization
from vidmatte.models.ensemble import EDGE_SHARE
from vidmatte.models.runtimes.device import Runner
from vidmatte.models.runtimes.onnx_file import alpha_shape, check_range, first_line
from vidmatte.models.runtimes.torch_device import DeviceFrame, TorchDevice
from vidmatte.models.segmentation import RECONCILE_SIDE, SegmentationNetwork
from vidmatte.pixels.torch_ops import Tensor, bordered, extreme, gaussian, resize, resize_codes
from vidmatte.settings import Settings

_CHECKED = 8  # of a clip's frames, at least, are computed in both precisions
_MOST_PIXELS = 1 << 24  # of the pictures that are resized at once: their planes are float32
_NEVER = -1  # instead of how many are still to be checked
_SAME = 1 / 255  # the mean difference of alpha up to which that is one, as of bfloat16


def uploaded(frame: Frame, device: TorchDevice) -> DeviceFrame:
    """The frame's pixels on the device, with ``rgb``; those it asks to keep where it does."""
    pixels: DeviceFrame = frame.on_device or DeviceFrame(device)
    if pixels.device is not device:  # of several it asked for another
        pixels = frame.on_device = DeviceFrame(device)
    if pixels.rgb is None:
        pixels.rgb = device.upload(frame.rgb).permute(2, 0, 1).contiguous()
    return pixels


def leave_alpha(frame: Frame, pixels: DeviceFrame, alpha: Tensor) -> None:
    """Leave the alpha (H, W) on the device where the frame asks for it, else download it. Raises
    ModelError."""
    pixels.alpha = alpha
    if frame.on_device is None:
        pixels.lower(frame.writable_alpha())


class Precision:
    """Half precision, where the first frames of a clip have the same alpha in it.

    half: the network in half precision, None for float32 alone. report: gets one line where the
    alpha is another.
    """

    def __init__(self, half: Runner | None, report: Callable[[str], None]) -> None:
        self.half, self._report = half, report
        self._check = Lock()
        self.begin()

    def begin(self) -> None:
        """A new clip: its first frames are still to be compared."""
        self._to_check = 0 if self.half is None else _CHECKED

    def cancel(self) -> None:
        """See ``Runner.cancel``."""
        if self.half is not None:
            self.half.cancel()

    def choose(self, full: Callable[[Runner | None], Tensor], count: int) -> Tensor:
        """The alphas (B, h, w) of ``count`` frames in the precision of the clip.

        full: computes them with the runner in half precision, or with None in float32.
        """
        if self.half is None:
            return full(None)
        with self._check:
            if self._to_check > 0:
                return self._checked(full, count)
        return full(None if self._to_check else self.half)

    def _checked(self, full: Callable[[Runner | None], Tensor], count: int) -> Tensor:
        """The alphas in float32; whether those in half precision are the same is noted."""
        alphas = full(None)
        try:
            apart = (full(self.half) - alphas).abs().mean(dim=(1, 2)).max().item()
        except Exception as error:  # noqa: BLE001 (of any runtime; it is reported)
            self._give_up(f"half precision does not work ({first_line(error)})")
            return alphas
        self._to_check = max(0, self._to_check - count)
        if not apart <= _SAME:  # nor is it where one is not a number
            change = f"{255 * apart:.2g} of 255 on average"
            self._give_up(f"half precision changes the alpha by {change}")
        return alphas

    def _give_up(self, reason: str) -> None:
        self._to_check = _NEVER
        self._report(f"{reason}: computing in float32")


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
        self._precision = Precision(half, report)
        self.keeps_on = self._device = device
        self._kept = (output_name,)
        self._scale, self._offset = factors(self._normalize, device)

    def begin(self, clip: Clip, settings: Settings) -> None:  # noqa: ARG002
        """See ``Network.begin``: the precision is chosen for each clip."""
        self._precision.begin()

    def cancel(self) -> None:
        super().cancel()
        self._precision.cancel()

    def matte_batch(self, batch: list[Frame]) -> list[Frame]:
        """See ``SegmentationNetwork.matte_batch``."""
        pixels = [uploaded(frame, self._device) for frame in batch]
        views = [views_of(frame, self._schedule) for frame in batch]
        seen = [self._seen(pixels, each) for each in zip(*views, strict=True)]
        height, width = batch[0].rgb.shape[:2]
        coarse = seen[0] if len(seen) == 1 else map(self._merged, *seen)
        alphas = _each_by_size(coarse, lambda part: self._enlarged(part, height, width))
        for frame, one, alpha in zip(batch, pixels, alphas, strict=True):
            mark_views(frame, [self._schedule])
            leave_alpha(frame, one, alpha)
        return batch

    def _enlarged(self, coarse: Tensor, height: int, width: int) -> Tensor:
        """Alphas (B, h, w) at the frame's size."""
        return resize(coarse.clamp(0, 1), height, width, self._enlarged_by).clamp_(0, 1)

    def _seen(self, pixels: list[DeviceFrame], views: tuple[View, ...]) -> list[Tensor]:
        """The network's alpha of one view of each frame, mapped back to the frame."""
        rgb = torch.stack([one.rgb for one in pixels])
        height, width = rgb.shape[-2:]
        width, height = self._size.of(width, height)
        inputs = _apply(views, rgb, width, height).mul_(self._scale).sub_(self._offset)
        alphas = self._precision.choose(lambda half: self._alphas(half, inputs), len(inputs))
        if not (self._minmax or self._family.class_count or self._family.logits):
            # Waiting for it here would leave the device idle.
            highest = self._device.start_download(alphas.max())
            pixels[0].checks.append(lambda: check_range(np.float32(highest())))
        return [
            _undo(view, self._stretched_on_device(alpha))
            for view, alpha in zip(views, alphas, strict=True)
        ]

    def _alphas(self, half: Runner | None, inputs: Tensor) -> Tensor:
        """The network's alphas of pictures (B, 3, H, W): (B, h, w) float32. half: see
        ``Precision``."""
        with self._turns:
            found = (half or self._runner).run({self._input_name: inputs}, self._kept)
        output = found[self._kept[0]]
        alphas = output.float().reshape(alpha_shape(output.shape, len(inputs), self._family))
        if self._family.class_count:
            shares = torch.softmax(alphas, dim=1)
            return shares[:, list(self._family.subject_classes)].sum(dim=1)
        return torch.sigmoid(alphas) if self._family.logits else alphas

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


def factors(normalize: Normalization, device: TorchDevice) -> tuple[Tensor, Tensor]:
    """What codes are multiplied by, and what is subtracted then: (3, 1, 1) each."""
    both = (normalize.scale, normalize.offset)
    scale, offset = (torch.from_numpy(one).to(device.place) for one in both)
    return scale, offset


def _each_by_size(planes: Iterable[Tensor], made: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """What ``made`` makes of stacks of planes (h, w), those of one size together, in order."""
    groups: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    planes = list(planes)
    for number, plane in enumerate(planes):
        groups[tuple(plane.shape)].append(number)
    done: dict[int, Tensor] = {}
    for numbers in groups.values():
        together = torch.stack([planes[number] for number in numbers])
        done |= zip(numbers, made(together), strict=True)
    return [done[number] for number in range(len(planes))]


def _apply(views: tuple[View, ...], rgb: Tensor, width: int, height: int) -> Tensor:
    """``View.apply`` of a view of each picture: (B, 3, H, W) uint8 -> codes (B, 3, height, width)
    float32."""
    made = torch.empty(len(views), 3, height, width, device=rgb.device)
    at_once = max(1, _MOST_PIXELS // (rgb.shape[-2] * rgb.shape[-1]))
    for is_inset in (False, True):
        all_of_them = [number for number, view in enumerate(views) if view.inset == is_inset]
        for begin in range(0, len(all_of_them), at_once):
            numbers = all_of_them[begin : begin + at_once]
            view = views[numbers[0]]
            across, down = view.margin(width), view.margin(height)
            shrinks = rgb.shape[-1] > width - 2 * across or rgb.shape[-2] > height - 2 * down
            size = height - 2 * down, width - 2 * across
            picture = rgb.index_select(0, _places(tuple(numbers), rgb.device)).float()
            picture = resize_codes(picture, *size, "area" if shrinks else "linear")
            for number, one in zip(numbers, bordered(picture, down, across), strict=True):
                made[number] = one.flip(-1) if views[number].mirrored else one
    return made


@lru_cache(maxsize=64)
def _places(numbers: tuple[int, ...], device: Any) -> Tensor:
    """An index, made once: another one would be copied to the device each time."""
    return torch.tensor(numbers, device=device)


def _undo(view: View, matte: Tensor) -> Tensor:
    """``View.undo``."""
    height, width = matte.shape
    across, down = view.margin(width), view.margin(height)
    inner = matte[down : height - down, across : width - across]
    return inner.flip(-1) if view.mirrored else inner


_SQUARE = np.ones((3, 3), np.uint8)


def combine(first: DeviceFrame, second: DeviceFrame, how: str) -> None:
    """Bring the first network's alpha and foreground into what the second one left of a frame.

    how: a name in ``ensemble.COMBINATIONS``.
    """
    first = first.moved_to(second.device)
    second.alpha = _COMBINATIONS[how](first.alpha, second.alpha)
    second.checks.extend(first.checks)
    if second.foreground is None:
        second.foreground = first.foreground


def _edges(first: Tensor, second: Tensor) -> Tensor:
    """See ``ensemble``."""
    reach = max(2, round(EDGE_SHARE * min(first.shape)))
    subject = (first > 0.5).float()
    outline = extreme(subject, _SQUARE, largest=True) - extreme(subject, _SQUARE, largest=False)
    undecided = ((first > 0.05) & (first < 0.95)).float()
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    band = extreme(torch.maximum(outline, undecided), disc, largest=True)
    return first + gaussian(band, max(0.5, reach / 4)) * (second - first)


_COMBINATIONS = {
    "max": torch.maximum,
    "min": torch.minimum,
    "mean": lambda first, second: 0.5 * (first + second),
    "edges": _edges,
}

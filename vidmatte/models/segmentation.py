"""Per-frame networks, such as IS-Net, U2-Net and BiRefNet, in batches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from threading import Semaphore

import cv2
import numpy as np

from vidmatte.core.concurrency import map_in_order
from vidmatte.core.families import Family, InputSize
from vidmatte.core.frame import Frame
from vidmatte.models.augment import View, agreement, mark_views, reconcile, views_of
from vidmatte.models.base import Network, Normalization, sigmoid
from vidmatte.models.runtimes.device import Runner
from vidmatte.models.runtimes.onnx_file import alphas_of, check_range
from vidmatte.pixels.lanczos import resize_lanczos

_SMALL_NET = 512
RECONCILE_SIDE = 288  # of the reduced mattes that are compared


class SegmentationNetwork(Network):
    """One alpha per frame, from that frame alone.

    ``batch`` counts the frames that it processes at once: those of one run of the network,
    times the concurrent runs that the runner allows.
    size: of the input pictures.
    schedule: the test-time augmentation, a name in ``augment.SCHEDULES``. Where it has two
    views of a frame, a straight and a mirrored one, their alphas are merged.
    minmax: each alpha is stretched to 0..1 by its own extremes, as rembg does; on
    video that changes the gain from frame to frame.
    as_rembg: besides, every other step is rembg's too: Lanczos reduction, division by the reduced
    picture's own maximum, 8 bits cut off, Lanczos enlargement.
    """

    recurrent = False
    is_shareable = True

    def __init__(
        self,
        runner: Runner,
        family: Family,
        *,
        size: InputSize,
        input_name: str,
        batch: int = 1,
        schedule: str = "plain",
        minmax: bool = False,
        as_rembg: bool = False,
    ) -> None:
        self.batch = batch * runner.streams
        self.description = runner.description
        self._frames_per_run = batch
        self._runner, self.streams = runner, runner.streams
        self._turns = Semaphore(runner.streams)  # where several jobs share the network
        self._family = family
        self._size = size
        self._input_name = input_name
        self._schedule = schedule
        self._minmax, self._as_rembg = minmax or as_rembg, as_rembg
        self._normalize = Normalization(family)
        # Cubic for small networks, where its MAD and Grad are lower.
        self._enlarged_by = "cubic" if size.side < _SMALL_NET else "linear"
        self.filter_profile = family.filter_profile

    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for batch in map_in_order(self.matte_batch, self.batches(frames), self.streams):
            yield from batch

    def batches(self, frames: Iterator[Frame]) -> Iterator[list[Frame]]:
        """The frames of each run of the network."""
        return iter(lambda: list(islice(frames, self._frames_per_run)), [])

    def matte_batch(self, batch: list[Frame]) -> list[Frame]:
        """The same frames, each with its alpha; for as many threads at once as ``streams``."""
        for frame, coarse in zip(batch, self._run(batch), strict=True):
            mark_views(frame, [self._schedule])
            self._upsample(coarse, frame)
        return batch

    def cancel(self) -> None:
        self._runner.cancel()

    def _run(self, batch: list[Frame]) -> list[np.ndarray]:
        """Each frame's alpha at about the network's size, (h, w) float32 in 0..1."""
        views = [views_of(frame, self._schedule) for frame in batch]
        alphas = [self._viewed(batch, each) for each in zip(*views, strict=True)]
        single = alphas[0] if len(alphas) == 1 else map(merge_mirrored, *alphas)
        return [np.clip(self._stretched(alpha), 0.0, 1.0) for alpha in single]

    def _viewed(self, batch: list[Frame], views: tuple[View, ...]) -> list[np.ndarray]:
        """The network's alpha of one view of each frame, mapped back to the frame."""
        alphas = self._infer(self._prepare(batch, views))
        return [view.undo(alpha) for view, alpha in zip(views, alphas, strict=True)]

    def _stretched(self, alpha: np.ndarray) -> np.ndarray:
        """The alpha, stretched to 0..1 with ``minmax``."""
        if not self._minmax:
            return alpha
        low, high = alpha.min(), alpha.max()
        return np.asarray((alpha - low) / max(high - low, np.finfo(np.float32).tiny))

    def _infer(self, inputs: np.ndarray) -> np.ndarray:
        with self._turns:
            output = next(iter(self._runner.run({self._input_name: inputs}).values()))
        alphas = alphas_of(output, len(inputs), self._family)
        if self._family.class_count:
            return _share_of(alphas, self._family.subject_classes)
        if self._family.logits:
            return sigmoid(alphas)
        if not self._minmax:
            check_range(output)
        return alphas

    def _prepare(self, batch: list[Frame], views: tuple[View, ...]) -> np.ndarray:
        """One view of each frame: (B, 3, H, W) float32, normalized."""
        height, width = batch[0].rgb.shape[:2]
        width, height = self._size.of(width, height)
        inputs = np.empty((len(batch), 3, height, width), np.float32)
        for frame, view, target in zip(batch, views, inputs, strict=True):
            if self._as_rembg:
                small = resize_lanczos(frame.rgb, width, height)
                scaled = small / max(int(small.max()), 1e-6) - np.array(self._family.mean)
                target[...] = (scaled / np.array(self._family.std)).transpose(2, 0, 1)
                continue
            self._normalize(view.apply(frame.rgb, width, height), target)
        return inputs

    def _upsample(self, coarse: np.ndarray, frame: Frame) -> None:
        """Write the network's alpha into the frame's, at the frame's size."""
        height, width = frame.rgb.shape[:2]
        if self._as_rembg:
            levels = resize_lanczos((coarse * np.float32(255)).astype(np.uint8), width, height)
            np.multiply(levels, np.float32(1 / 255), out=frame.writable_alpha())
            return
        kind = cv2.INTER_CUBIC if self._enlarged_by == "cubic" else cv2.INTER_LINEAR
        alpha = frame.writable_alpha()
        cv2.resize(np.ascontiguousarray(coarse), (width, height), alpha, interpolation=kind)
        np.clip(alpha, 0.0, 1.0, out=alpha)


def _share_of(logits: np.ndarray, classes: tuple[int, ...]) -> np.ndarray:
    """The share of ``classes`` in the softmax of (B, C, H, W) logits: (B, H, W) in 0..1."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shares[:, list(classes)].sum(axis=1) / shares.sum(axis=1))


def merge_mirrored(straight: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """One alpha of a picture's and its mirror image's (unmirrored), float32, the larger's size."""
    straight, mirrored = _at_largest_size(straight, mirrored)
    small = [
        cv2.resize(alpha, (RECONCILE_SIDE,) * 2, interpolation=cv2.INTER_AREA)
        for alpha in (straight, mirrored)
    ]
    maps = agreement(*small)
    if maps is None:
        return np.asarray(np.float32(0.5) * (straight + mirrored))
    larger, own = (
        cv2.resize(part, straight.shape[::-1], interpolation=cv2.INTER_LINEAR) for part in maps
    )
    return reconcile(straight, mirrored, larger, own)


def _at_largest_size(*alphas: np.ndarray) -> list[np.ndarray]:
    """The alphas, resized to the largest size."""
    height, width = max(alpha.shape for alpha in alphas)
    same = map(np.ascontiguousarray, alphas)
    return [cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR) for alpha in same]

"""Per-frame networks: ISNet, U2-Net, BiRefNet and their kin, batched."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

import cv2
import numpy as np

from vidmatte.frame import Frame
from vidmatte.network.base import Network
from vidmatte.network.device import Runner
from vidmatte.network.families import Family
from vidmatte.network.threads import in_order

SMALL_NET = 512


class SalientNetwork(Network):
    """One alpha a frame, from that frame alone.

    ``batch`` counts the frames in its hands at once: those of one run of the network,
    times the runs at once that the runner allows.
    mirrored: each frame is also run mirrored, and the two alphas are averaged.
    minmax: each alpha is stretched to 0..1 by its own extremes, as rembg does; on
    video that changes the gain from frame to frame.
    """

    recurrent = False

    def __init__(
        self,
        runner: Runner,
        family: Family,
        *,
        size: int,
        input_name: str,
        batch: int = 1,
        mirrored: bool = False,
        minmax: bool = False,
    ) -> None:
        self.batch = batch * runner.streams
        self.about = runner.about
        self._frames_a_run = batch
        self._runner = runner
        self._family = family
        self._size = size
        self._input_name = input_name
        self._mirrored = mirrored
        self._minmax = minmax
        scale = 1.0 / (255.0 * np.array(family.std, np.float32))
        self._scale = scale.astype(np.float32).reshape(3, 1, 1)
        offset = np.array(family.mean, np.float32) / np.array(family.std, np.float32)
        self._offset = offset.reshape(3, 1, 1)

    def mattes(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        batches = iter(lambda: list(islice(frames, self._frames_a_run)), [])
        streams = self._runner.streams
        done = in_order(self._matte, batches, streams) if streams > 1 else map(self._matte, batches)
        return chain.from_iterable(done)

    def _matte(self, batch: list[Frame]) -> list[Frame]:
        """The same frames, each with its alpha."""
        for frame, coarse in zip(batch, self._run(batch), strict=True):
            self._upsample(coarse, frame)
        return batch

    def cancel(self) -> None:
        self._runner.cancel()

    def _run(self, batch: list[Frame]) -> np.ndarray:
        """Alphas at the network's size, (B, S, S) float32 in 0..1."""
        inputs = self._prepare([frame.rgb for frame in batch])
        alphas = self._infer(inputs)
        if self._mirrored:
            mirrored = self._infer(np.ascontiguousarray(inputs[..., ::-1]))
            alphas = np.float32(0.5) * (alphas + mirrored[..., ::-1])
        if self._minmax:
            low = alphas.min(axis=(1, 2), keepdims=True)
            high = alphas.max(axis=(1, 2), keepdims=True)
            alphas = (alphas - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
        return np.asarray(np.clip(alphas, 0.0, 1.0))

    def _infer(self, inputs: np.ndarray) -> np.ndarray:
        output = next(iter(self._runner.run({self._input_name: inputs}).values()))
        alphas = np.asarray(output, np.float32).reshape(len(inputs), *output.shape[-2:])
        return np.asarray(1.0 / (1.0 + np.exp(-alphas)) if self._family.logits else alphas)

    def _prepare(self, pictures: list[np.ndarray]) -> np.ndarray:
        """(H, W, 3) uint8 pictures -> (B, 3, S, S) float32, normalized."""
        inputs = np.empty((len(pictures), 3, self._size, self._size), np.float32)
        for picture, target in zip(pictures, inputs, strict=True):
            resized = resize(picture, self._size, self._size)
            np.multiply(resized.transpose(2, 0, 1), self._scale, out=target)
            np.subtract(target, self._offset, out=target)
        return inputs

    def _upsample(self, coarse: np.ndarray, frame: Frame) -> None:
        """Write the network's alpha into the frame's, at the frame's size.

        Cubic for small networks, where it is the better one by MAD and Grad.
        """
        height, width = frame.rgb.shape[:2]
        kind = cv2.INTER_CUBIC if self._size < SMALL_NET else cv2.INTER_LINEAR
        alpha = cv2.resize(np.ascontiguousarray(coarse), (width, height), interpolation=kind)
        if frame.alpha is None:
            frame.alpha = np.empty((height, width), np.float32)
        np.clip(alpha, 0.0, 1.0, out=frame.alpha)


def resize(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize (H, W, 3) uint8 without aliasing: by area where it shrinks, else linear."""
    shrinks = picture.shape[1] > width or picture.shape[0] > height
    kind = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=kind))

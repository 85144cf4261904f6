"""Frames with mattes of known shapes, in host memory and on torch's CPU device."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np

from vidmatte.core.frame import Frame
from vidmatte.models.runtimes.torch_device import DeviceFrame, TorchDevice

#: (height, width, pixels a frame): worked on as it is, at half its size, and at odd sizes.
CLIPS = [(120, 200, 3.0), (272, 808, 7.0), (233, 805, 0.0)]


def shot(count: int, size: tuple[int, int], speed: float, *, noise: float = 0.15) -> list[Frame]:
    """A textured disc with a grey hole that moves over another texture, with a noisy matte, seen
    straight and mirrored in turn."""
    height, width = size
    rng = np.random.default_rng(height)
    ground, skin = (_texture(rng, height, width) for _ in range(2))
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    frames = []
    for number in range(count):
        x = width * 0.35 + speed * number
        distance = np.hypot(columns - x, rows - height * 0.48)
        alpha = np.clip((height * 0.3 - distance) / 7 + 0.5, 0, 1)
        moved = np.roll(skin, round(speed * number), axis=1)
        rgb = moved * alpha[..., None] + ground * (1 - alpha[..., None])
        soft = (alpha > 0) & (alpha < 1)
        guess = np.clip(alpha + soft * rng.normal(0, noise, alpha.shape), 0, 1)
        guess[distance < height * 0.12] = 0.6 + 0.2 * (number % 2)
        frames.append(frame_of(rgb.astype(np.uint8), number, guess.astype(np.float32)))
        frames[-1].mirrored = bool(number % 2)
        frames[-1].augment_phase = number % 2
    return frames


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    cells = rng.integers(0, 256, (max(2, height // 8), max(2, width // 8), 3), np.uint8)
    return cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)


def frame_of(rgb: np.ndarray, index: int = 0, alpha: np.ndarray | None = None) -> Frame:
    """A frame of a clip of one shot."""
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    return Frame(index, index, 1, Fraction(1, 25), picture, rgb, alpha, new_shot=index == 0)


def on_device(frames: list[Frame], device: TorchDevice) -> Iterator[Frame]:
    """The frames with their alpha on the device and nowhere else."""
    for frame in frames:
        assert frame.alpha is not None
        frame.on_device = DeviceFrame(device, alpha=device.upload(frame.alpha))
        frame.alpha = None
        yield frame


def alphas_from(frames: Any, device: TorchDevice) -> list[np.ndarray]:
    """The alphas that frames have on the device."""
    return [device.download(frame.on_device.alpha) for frame in frames]

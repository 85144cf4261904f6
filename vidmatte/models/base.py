"""The interface of all networks that give frames their alpha."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from vidmatte.core.families import PER_FRAME, Family, FilterProfile
from vidmatte.core.frame import Clip, Frame
from vidmatte.settings import Settings


class Network(ABC):
    """A loaded network.

    recurrent: whether it takes consecutive frames in order and has a state that a new shot
    resets; else frames are independent and run ``batch`` at a time.
    description: runtime, precision and threads, for the user.
    state_count: how many recurrent networks are in it; see ``Frame.state``.
    is_shareable: whether several threads may call ``predict`` at once, each for its own frames.
    filter_profile: the temporal filter's parameters for its mattes.
    look_ahead: how many frames after one its alpha may depend on, besides those of its batch.
    keeps_on: the device (a ``TorchDevice``, the first of several) on which it leaves the alpha of
    frames that ask for it (``Frame.on_device``); None where all alphas come to host memory, as of
    networks that carry, choose or store alphas there: paced, cached, ``--model auto`` and keyers.
    """

    recurrent: bool
    description: str = ""
    state_count: int = 0
    batch: int = 1
    is_shareable: bool = False
    filter_profile: FilterProfile = PER_FRAME
    look_ahead: int = 0
    keeps_on: Any = None

    def begin(self, clip: Clip, settings: Settings) -> None:  # noqa: B027 (most need nothing)
        """Prepare for a clip, whose frames come next. Raises UsageError, SourceError."""

    @property
    def batch_stride(self) -> int:
        """Frames from the start of one batch to the next, counted from the first frame."""
        return self.batch

    @abstractmethod
    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Write each frame's alpha into its ``Frame.writable_alpha`` (and set its
        ``foreground`` where the network gives one).

        Frames come out in the order in which they went in.
        """

    @abstractmethod
    def cancel(self) -> None:
        """Make a run in progress end soon; safe from another thread."""


class WrappedNetwork(Network):
    """A network around another one, with the properties of that one."""

    def __init__(self, network: Network) -> None:
        self.recurrent, self.state_count = network.recurrent, network.state_count
        self.batch, self.description = network.batch, network.description
        self.filter_profile, self.look_ahead = network.filter_profile, network.look_ahead
        self._network = network

    def begin(self, clip: Clip, settings: Settings) -> None:
        self._network.begin(clip, settings)

    @property
    def batch_stride(self) -> int:
        return self._network.batch_stride

    def cancel(self) -> None:
        self._network.cancel()


class SharedNetwork(WrappedNetwork):
    """A network for several jobs at once: one that ends early does not cancel the others' runs."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.keeps_on = network.keeps_on

    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        return self._network.predict(frames)

    def cancel(self) -> None:
        """Does nothing: a run of the network takes a second at most."""


class Normalization:
    """Brings frames to the range that a family was trained on: (R'G'B' / 255 - mean) / std.

    scale, offset: (3, 1, 1) float32; the result is code * scale - offset.
    """

    def __init__(self, family: Family) -> None:
        std = np.array(family.std, np.float32)
        scale = 1.0 / (255.0 * std)
        self.scale = scale.astype(np.float32).reshape(3, 1, 1)
        self.offset = (np.array(family.mean, np.float32) / std).reshape(3, 1, 1)

    def __call__(self, rgb: np.ndarray, out: np.ndarray) -> None:
        """Write (H, W, 3) uint8 into ``out``, (3, H, W) float32."""
        np.multiply(rgb.transpose(2, 0, 1), self.scale, out=out)
        if self.offset.any():
            np.subtract(out, self.offset, out=out)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), of the same shape and type."""
    with np.errstate(
        over="ignore"
    ):  # exp(89) overflows to infinity, and alpha is 0 as it should be
        return np.asarray(1.0 / (1.0 + np.exp(-logits)))

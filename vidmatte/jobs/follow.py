"""How a chosen subject is followed, by ``--follow``: what makes key masks and what carries them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from vidmatte.alpha.guidance.key_masks import MaskMaker, PromptedMasks
from vidmatte.alpha.guidance.propagator import CutiePropagator, FlowPropagator, MakePropagator
from vidmatte.alpha.guidance.store import FlowStore
from vidmatte.models.cutie import Cutie, CutieFiles, find_cutie
from vidmatte.models.efficient_sam import SOURCE, EfficientSam, find_efficient_sam
from vidmatte.models.features import load_features
from vidmatte.models.registry import Model
from vidmatte.models.runtimes.device import Device
from vidmatte.models.weights.store import Store
from vidmatte.settings import Settings


@dataclass(frozen=True)
class Follower:
    """What ``--follow`` stands for in a run; networks are loaded on first use.

    cutie, sam: the files of the networks; None where they are not used.
    """

    device: Device
    threads: int
    cutie: CutieFiles | None = None
    sam: Path | None = None

    @property
    def label(self) -> str:
        """A name for the small frames and fields that it needs and makes; '' for motion's."""
        if self.cutie is None:
            return ""
        masks = "" if self.sam is None else f"-{self.sam.stem}"
        return f".cutie-{self.cutie.width}x{self.cutie.height}{masks}"

    def features(
        self, model: Model, report: Callable[[str], None], *, quiet: bool
    ) -> Callable[[np.ndarray], list[np.ndarray]]:
        """See ``load_features``; without tensors where it looks at none."""
        if self.cutie is not None and self.sam is not None:
            return _no_tensors
        return load_features(model, report, quiet=quiet)

    def detail_size(self, width: int, height: int) -> tuple[int, int] | None:
        """The size of the detail pictures of a clip's frames; None where none are needed."""
        if self.cutie is None:
            return None
        size = self.cutie.fitted(width, height)
        return min(size, (width, height))

    def propagator(self, folder: Path) -> MakePropagator:
        """What carries masks; loads its network. folder: of the clip's small frames, where flows
        are kept. Raises ModelError, DeviceError."""
        if self._cutie is None:
            return partial(FlowPropagator, flows=FlowStore(folder))
        return partial(CutiePropagator, self._cutie)

    @cached_property
    def _cutie(self) -> Cutie | None:
        return None if self.cutie is None else Cutie(self.cutie, self.device, self.threads)

    @cached_property
    def masks(self) -> MaskMaker:
        """What makes masks from points and boxes. Raises ModelError, DeviceError."""
        if self.sam is None:
            return MaskMaker()
        return PromptedMasks(EfficientSam(self.sam, self.device, self.threads))


def _no_tensors(_: np.ndarray) -> list[np.ndarray]:
    return []


def choose_follower(
    settings: Settings, device: Device, report: Callable[[str], None] = lambda _: None
) -> Follower:
    """What the settings ask for. report: takes a line for the user. Raises WeightsError where
    files are missing."""
    threads = settings.threads
    if settings.follow == "flow":
        return Follower(device, threads)
    folder = Store(settings.models_dir).folder
    cutie, sam = find_cutie(folder), find_efficient_sam(folder)
    if sam is None:
        report(
            f"--follow cutie: masks of points and boxes are made without EfficientSAM: {folder} has"
            f" no image_segmentation_efficientsam*.onnx; it is in {SOURCE}"
        )
    return Follower(device, threads, cutie, sam)

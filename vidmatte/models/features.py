"""What a place of a frame looks like: tensors from inside a network, for following a subject."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from vidmatte.core.families import FAMILY_TABLE, Family
from vidmatte.errors import WeightsError
from vidmatte.models.base import Normalization
from vidmatte.models.registry import Model
from vidmatte.models.runtimes.device import Device, Runner
from vidmatte.models.runtimes.onnx_file import recurrence_of
from vidmatte.models.runtimes.onnx_loader import load_part
from vidmatte.models.weights.catalogue import lookup
from vidmatte.models.weights.store import Store

_WIDTH = 480  # pixels of the picture that the backbone sees
_LEAST_HEIGHT = 32  # pixels
_SOURCE = "rvm"  # whose backbone is used where the chosen model has none


class FrameFeatures:
    """Backbone features of frames; a call gives the tensors of one frame, finest first."""

    def __init__(self, runner: Runner | None, family: Family) -> None:
        self._runner, self._family = runner, family
        self._normalize = Normalization(family)

    def __call__(self, rgb: np.ndarray) -> list[np.ndarray]:
        """(C, h, w) float32 tensors over the whole frame, of (H, W, 3) uint8; an empty list
        where only colours are available."""
        if self._runner is None:
            return []
        names = recurrence_of(self._family)
        height = max(_LEAST_HEIGHT, round(_WIDTH * rgb.shape[0] / rgb.shape[1]))
        seen = cv2.resize(rgb, (_WIDTH, height), interpolation=cv2.INTER_AREA)
        picture = np.empty((1, 3, height, _WIDTH), np.float32)
        self._normalize(seen, picture[0])
        inputs = {names.picture: picture}
        if names.coarse is not None:
            inputs[names.coarse.input] = np.ones(1, np.float32)
        found = self._runner.run(inputs)
        return [np.asarray(found[name])[0] for name in names.features]


def load_features(model: Model, report: Callable[[str], None], *, quiet: bool) -> FrameFeatures:
    """The features for a model: of its own network where its family has some, else rvm's, whose
    weights are fetched if missing. Where they cannot be had, colours alone, which ``report`` gets
    as one line. Raises ModelError, DeviceError."""
    weights = next((part for part in model.weights if _has_features(part.family)), None)
    family = FAMILY_TABLE[_SOURCE if weights is None else weights.family]
    path = _backbone(model, report, quiet) if weights is None else weights.path
    runner = None
    if path is not None:
        names = recurrence_of(family).features
        runner = load_part(path, names, Device(), model.settings.threads or 1)
    if runner is None:
        report(
            "following the subject by colour and motion alone, which is less sure: the weights of"
            f" {_SOURCE} are missing or do not have the expected tensors"
        )
    return FrameFeatures(runner, family)


def _has_features(family: str) -> bool:
    recurrence = FAMILY_TABLE[family].recurrence
    return recurrence is not None and bool(recurrence.features)


def _backbone(model: Model, report: Callable[[str], None], quiet: bool) -> Path | None:
    """The file of the network whose backbone is used; None where it cannot be fetched."""
    folder = model.settings.models_dir
    try:
        return Store(Path(folder) if folder else None).ensure(
            lookup(_SOURCE), report=report, quiet=quiet
        )
    except WeightsError as error:
        report(f"{error}")
        return None

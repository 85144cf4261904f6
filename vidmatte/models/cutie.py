"""Cutie, a network that follows a mask through a video, from its four ONNX graphs.

Cheng et al., "Putting the Object Back into Video Object Segmentation" (CVPR 2024),
https://github.com/hkchengrex/Cutie. The graphs are exported for one picture size and one object:
a picture's features (encode-key), a mask's value (encode-value), what a memory of earlier frames
says about a picture (memory-readout), and the new mask (decode).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidmatte.errors import ModelError, WeightsError
from vidmatte.models.runtimes.device import Device, Runner
from vidmatte.models.runtimes.onnx_loader import load_runner

_RELEASE = "https://github.com/OpenShot/openshot-onnx/releases/tag/v0.2.0"
_KINDS = ("encode-key", "encode-value", "memory-readout", "decode")
_NAMED = re.compile(r"cutie-(encode-key|encode-value|memory-readout|decode)-.*?(\d+)x(\d+)\b.*")
_MEMORY_EVERY = 5  # frames from one that is remembered to the next, as its authors have it
#: Inputs and outputs that each graph must have; what an export has simplified away may be missing.
_INPUTS = {
    "encode-key": {"image"},
    "encode-value": {"image", "mask", "sensory"},
    "memory-readout": {"query_key", "memory_key", "memory_value", "object_memory", "last_mask"},
    "decode": {"memory_readout", "sensory"},
}
_OUTPUTS = {
    "encode-key": {"pix_feat", "key", "shrinkage", "selection"},
    "encode-value": {"mask_value", "new_sensory", "object_memory"},
    "memory-readout": {"memory_readout"},
    "decode": {"new_sensory", "prob"},
}


@dataclass(frozen=True)
class CutieFiles:
    """The four files of one size, by kind. width, height: of the pictures, in pixels."""

    width: int
    height: int
    paths: dict[str, Path]

    def fitted(self, width: int, height: int) -> tuple[int, int]:
        """The size of a picture of width x height within the graphs' pictures, its shape kept."""
        scale = min(self.width / width, self.height / height)
        return max(1, round(width * scale)), max(1, round(height * scale))


def find_cutie(folder: Path) -> CutieFiles:
    """The files in a folder, those of the largest size. Raises WeightsError where some are
    missing, with where they come from."""
    found: dict[tuple[int, int], dict[str, Path]] = {}
    for path in sorted(folder.glob("cutie-*.onnx")):
        if match := _NAMED.fullmatch(path.stem):
            found.setdefault((int(match[2]), int(match[3])), {})[match[1]] = path
    full = {size: paths for size, paths in found.items() if len(paths) == len(_KINDS)}
    if full:
        (width, height), paths = max(full.items(), key=lambda item: item[0][0] * item[0][1])
        return CutieFiles(width, height, paths)
    missing = [kind for kind in _KINDS if not any(kind in paths for paths in found.values())]
    what = ", ".join(f"cutie-{kind}-*.onnx" for kind in missing) or "a graph of the same size"
    raise WeightsError(
        f"--follow cutie: {folder} has no {what}: unpack cutie-opencv-medium-640x368.zip there,"
        f" from {_RELEASE} (code MIT; the weights have the terms of their authors, see"
        " https://github.com/hkchengrex/Cutie), or name another folder with --models-dir"
    )


class Cutie:
    """The loaded graphs. Not for use by two threads at once.

    files: theirs. slots: how many frames the memory holds. sensory_shape: of that state.
    """

    def __init__(self, files: CutieFiles, device: Device, threads: int = 0) -> None:
        """Load them. Raises ModelError, DeviceError."""
        self.files = files
        self._runners: dict[str, Runner] = {}
        shapes: dict[str, Any] = {}
        for kind, path in files.paths.items():
            loaded = load_runner(path, device, threads, outputs=None)
            _check_names(path, _INPUTS[kind] - set(loaded.inputs), "input")
            _check_names(path, _OUTPUTS[kind] - set(loaded.outputs), "output")
            self._runners[kind], shapes[kind] = loaded.runner, loaded.inputs
        self.slots = int(shapes["memory-readout"]["memory_key"][2])
        self.sensory_shape = tuple(int(side) for side in shapes["encode-value"]["sensory"])

    def run(self, kind: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of one of the graphs, by name."""
        return {name: np.asarray(value) for name, value in self._runners[kind].run(inputs).items()}

    def image(self, picture: np.ndarray) -> np.ndarray:
        """A picture (H, W, 3) uint8 RGB as the graphs take it: (1, 3, height, width) in 0..1, at
        the top left, black beside it."""
        size = self.files.fitted(picture.shape[1], picture.shape[0])
        way = cv2.INTER_AREA if size[0] < picture.shape[1] else cv2.INTER_LINEAR
        image = np.zeros((1, 3, self.files.height, self.files.width), np.float32)
        sized = cv2.resize(picture, size, interpolation=way)
        image[0, :, : size[1], : size[0]] = sized.transpose(2, 0, 1) / np.float32(255)
        return image

    def mask(self, mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """A mask (h, w) float32 0..1 of a picture that is fitted into ``size`` (width, height), as
        they take it: (1, 1, height, width)."""
        image = np.zeros((1, 1, self.files.height, self.files.width), np.float32)
        image[0, 0, : size[1], : size[0]] = cv2.resize(mask.astype(np.float32), size)
        return image


def _check_names(path: Path, missing: set[str], what: str) -> None:
    if missing:
        raise ModelError(
            f"{path}: it has no {what} named {', '.join(sorted(missing))}: it is not a graph of"
            f" Cutie as published at {_RELEASE}"
        )


@dataclass(frozen=True)
class _Memory:
    """One remembered frame: key, shrinkage and mask value."""

    key: np.ndarray  # (1, C, h, w)
    shrinkage: np.ndarray  # (1, 1, h, w)
    value: np.ndarray  # (1, 1, C, h, w)


class CutieTracker:
    """One object, followed from a seed in one direction. Its memory is bounded: the seeds stay,
    of the later frames the newest ones do."""

    def __init__(self, cutie: Cutie, seeds: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """seeds: pictures (H, W, 3) uint8 RGB with masks (h, w) float32 in 0..1; it goes on from
        the first, the nearest of the others come next."""
        self._cutie, self._count = cutie, 0
        self._objects: np.ndarray | None = None
        self._kept: list[_Memory] = []
        self._recent: list[_Memory] = []
        self._room = cutie.slots
        first, *others = seeds[: max(1, cutie.slots - 1)]
        for picture, mask in (*others, first):
            self._sensory = np.zeros(cutie.sensory_shape, np.float32)
            self._size = cutie.files.fitted(*picture.shape[1::-1])
            image, self._last = cutie.image(picture), cutie.mask(mask, self._size)
            key = cutie.run("encode-key", {"image": image})
            self._kept.append(self._remembered(image, key))

    def step(self, picture: np.ndarray) -> np.ndarray:
        """The object on the next picture (H, W, 3) uint8: (h, w) float32 in 0..1, of the size
        that the picture is fitted into."""
        cutie, image = self._cutie, self._cutie.image(picture)
        key = cutie.run("encode-key", {"image": image})
        seen = {"query_key": key["key"], "query_selection": key["selection"]}
        seen |= {"pix_feat": key["pix_feat"], "sensory": self._sensory, "last_mask": self._last}
        assert self._objects is not None  # there is at least one seed
        found = cutie.run(
            "memory-readout", seen | self._memories() | {"object_memory": self._objects}
        )
        decoded = cutie.run("decode", key | found | {"sensory": self._sensory})
        self._sensory = decoded["new_sensory"]
        self._last = decoded["prob"][:, 1:2]  # 0 is the background
        self._count += 1
        if self._count % _MEMORY_EVERY == 0:
            self._recent.append(self._remembered(image, key))
            del self._recent[: max(0, len(self._recent) + len(self._kept) - self._room)]
        width, height = self._size
        return np.asarray(np.clip(self._last[0, 0, :height, :width], 0, 1), np.float32)

    def _remembered(self, image: np.ndarray, key: dict[str, np.ndarray]) -> _Memory:
        """A frame's memory; updates the sensory state and the object's summary."""
        inputs = {"image": image, "mask": self._last, "sensory": self._sensory}
        found = self._cutie.run("encode-value", inputs | {"pix_feat": key["pix_feat"]})
        self._sensory = found["new_sensory"]
        # Sums over frames: the last channel counts, and the network divides by it.
        summary = found["object_memory"].reshape(1, 1, 1, *found["object_memory"].shape[-2:])
        self._objects = summary if self._objects is None else self._objects + summary
        return _Memory(key["key"], key["shrinkage"], found["mask_value"])

    def _memories(self) -> dict[str, np.ndarray]:
        """The memory's inputs: each slot a frame, empty ones marked as not valid."""
        frames = [*self._kept, *self._recent]
        keys, shrinkages = (
            np.stack(planes, axis=2)
            for planes in ([one.key for one in frames], [one.shrinkage for one in frames])
        )
        values = np.stack([one.value for one in frames], axis=3)
        valid = np.ones((1, 1, len(frames), *keys.shape[-2:]), np.float32)
        filled = {"memory_key": keys, "memory_shrinkage": shrinkages, "memory_valid": valid}
        padded = {name: self._padded(array, 2) for name, array in filled.items()}
        return padded | {"memory_value": self._padded(values, 3)}

    def _padded(self, array: np.ndarray, axis: int) -> np.ndarray:
        """With zeros for the empty slots."""
        widths = [(0, 0)] * array.ndim
        widths[axis] = (0, self._cutie.slots - array.shape[axis])
        return np.pad(array, widths)

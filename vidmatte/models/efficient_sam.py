"""EfficientSAM, a network that makes a mask from points and boxes, from its one ONNX graph.

Xiong et al., "EfficientSAM: Leveraged Masked Image Pretraining for Efficient Segment Anything"
(CVPR 2024), https://github.com/yformer/EfficientSAM.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from vidmatte.errors import ModelError
from vidmatte.models.runtimes.device import Device
from vidmatte.models.runtimes.onnx_loader import load_runner

#: Where its file is published, for a line to the user.
SOURCE = (
    "efficient-sam-tiny-1024.zip from https://github.com/OpenShot/openshot-onnx/releases/tag/v0.2.0"
    " (Apache-2.0)"
)
_PICTURE, _POINTS, _LABELS = "batched_images", "batched_point_coords", "batched_point_labels"
_MASKS, _SCORES = "output_masks", "iou_predictions"
_SUBJECT, _UNUSED, _TOP_LEFT, _BOTTOM_RIGHT = 1.0, -1.0, 2.0, 3.0
_Place = tuple[float, float]


def find_efficient_sam(folder: Path) -> Path | None:
    """Its file in a folder, the tiny one first; None where there is none."""
    found = sorted(folder.glob("image_segmentation_efficientsam*.onnx"))
    return next((path for path in found if "_ti_" in path.name), found[0] if found else None)


class EfficientSam:
    """The loaded graph."""

    def __init__(self, path: Path, device: Device, threads: int = 0) -> None:
        """Load it. Raises ModelError, DeviceError."""
        loaded = load_runner(path, device, threads, outputs=None)
        missing = {_PICTURE, _POINTS, _LABELS} - set(loaded.inputs)
        missing |= {_MASKS, _SCORES} - set(loaded.outputs)
        if missing:
            raise ModelError(
                f"{path}: it has nothing named {', '.join(sorted(missing))}: it is not {SOURCE}"
            )
        self._runner = loaded.runner
        *_, self._height, self._width = (int(side) for side in loaded.inputs[_PICTURE])
        self._slots = int(loaded.inputs[_POINTS][2])

    def mask(
        self,
        picture: np.ndarray,
        wanted: Sequence[_Place],
        unwanted: Sequence[_Place] = (),
        box: tuple[float, float, float, float] | None = None,
    ) -> np.ndarray:
        """The mask of what points and a box mean, (H, W) float32 0 or 1.

        picture: (H, W, 3) uint8 RGB; places in its pixels; box: left, top, right, bottom. The
        graph takes as many prompts as it has slots: of more points the first ones. Of its masks
        the one that it believes most is taken, of those without an unwanted point if there are any.
        """
        height, width = picture.shape[:2]
        scale = np.array([self._width / width, self._height / height], np.float32)
        prompts = [(place, _SUBJECT) for place in wanted]
        if box is not None:
            prompts = [(box[:2], _TOP_LEFT), (box[2:], _BOTTOM_RIGHT), *prompts]
        points = np.zeros((1, 1, self._slots, 2), np.float32)
        labels = np.full((1, 1, self._slots, 1), _UNUSED, np.float32)
        for slot, (place, label) in enumerate(prompts[: self._slots]):
            points[0, 0, slot], labels[0, 0, slot] = np.array(place, np.float32) * scale, label
        sized = cv2.resize(picture, (self._width, self._height))
        image = np.ascontiguousarray(sized.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
        found = self._runner.run({_PICTURE: image, _POINTS: points, _LABELS: labels})
        masks = np.asarray(found[_MASKS])[0, 0]
        order = np.argsort(-np.asarray(found[_SCORES])[0, 0], kind="stable")
        avoided = [np.array(place, np.float32) * scale for place in unwanted]
        free = [one for one in order if not _covers(masks[one], avoided)]
        chosen = masks[free[0] if free else order[0]]
        return np.asarray(cv2.resize(chosen, (width, height)) >= 0, np.float32)


def _covers(logits: np.ndarray, places: Sequence[np.ndarray]) -> bool:
    """Whether a mask (h, w), logits, has one of the places (x, y) in it."""
    height, width = logits.shape
    return any(
        logits[min(max(int(y), 0), height - 1), min(max(int(x), 0), width - 1)] >= 0
        for x, y in places
    )

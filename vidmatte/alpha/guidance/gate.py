"""What the field does with the network's alpha: others vanish, hair stays the network's.

The gate multiplies the network's alpha; its verdict on soft pixels is carried outward from
what the network surely marks, so that a strand goes with its owner. The core makes opaque
what the field is sure of, a little inside its edge, where the network sees nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.alpha.guidance.coarse import ColourGuide

_CORE_INSET = 2  # pixels of the work picture
_CORE_SIGMA = 1.2  # pixels of the work picture


@dataclass(frozen=True)
class Gate:
    """A frame's gate and core at the work size, (h, w) float32 0..1."""

    gate: np.ndarray
    core: np.ndarray

    def apply(self, alpha: np.ndarray) -> np.ndarray:
        """The wanted subject's alpha, (H, W) float32, of the network's alpha of any size."""
        height, width = alpha.shape
        size = (width, height)
        gate = cv2.resize(self.gate, size, interpolation=cv2.INTER_LINEAR)
        core = cv2.resize(self.core, size, interpolation=cv2.INTER_LINEAR)
        sigma = _CORE_SIGMA * width / self.gate.shape[1]
        core = np.minimum(cv2.GaussianBlur(core, (0, 0), sigma), 1)
        return np.asarray(np.maximum(alpha * gate, core))


def make_gate(field: np.ndarray, alpha: np.ndarray, *, core: bool = True) -> Gate:
    """The gate of a field and the network's alpha, both (h, w) float32 at the work size."""
    weight = np.clip(alpha - 0.4, 0, 1) + np.float32(1e-3)
    outward = cv2.GaussianBlur(field * weight, (0, 0), 3) / cv2.GaussianBlur(weight, (0, 0), 3)
    inner = np.clip((alpha - 0.4) / 0.2, 0, 1)
    verdict = outward + inner * (field - outward)
    inside = np.zeros_like(field)
    if core:
        side = 2 * _CORE_INSET + 1
        shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        inside = cv2.erode((field > 0.8).astype(np.uint8), shape).astype(np.float32)
    return Gate(np.clip((verdict - 0.3) / 0.4, 0, 1).astype(np.float32), inside)


def unseen_share(field: np.ndarray, alpha: np.ndarray) -> float:
    """How much of the field's sure inside the network does not mark, 0..1; 0 without any."""
    inside = field > 0.8
    if not inside.any():
        return 0.0
    return float((alpha[inside] < 0.5).mean())


def fill_unseen(
    result: np.ndarray, field: np.ndarray, alpha: np.ndarray, picture: np.ndarray
) -> np.ndarray:
    """With the field itself, sharpened along edges, where the network sees nothing of it.

    result: (H, W) float32, a gated alpha. alpha: the network's at the work size. picture: the
    frame, (H, W, 3) uint8 RGB.
    """
    inside = np.clip((field - 0.6) / 0.2, 0, 1)
    unseen = inside * np.clip(0.8 - alpha, 0, 1)
    near = cv2.GaussianBlur(inside, (0, 0), 8)
    missing = cv2.GaussianBlur(unseen, (0, 0), 8) / np.maximum(near, 1e-3)
    share = np.clip((missing - 0.15) / 0.25, 0, 1) * (near > 0.01)
    if not share.any():
        return result
    height, width = result.shape
    size = (width, height)
    share = cv2.resize(share.astype(np.float32), size)
    lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    guide = ColourGuide(lab / 50, radius=max(4, width // 160))
    sharp = np.clip((guide.smooth(cv2.resize(field, size)) - 0.15) / 0.7, 0, 1)
    return np.asarray(np.maximum(result, share * sharp), np.float32)

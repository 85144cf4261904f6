"""The combinations of ``ensemble`` on torch tensors, for two networks that leave alphas there."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from vidmatte.models.ensemble import EDGE_SHARE
from vidmatte.models.runtimes.torch_device import DeviceFrame
from vidmatte.pixels.torch_ops import Tensor, extreme, gaussian

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

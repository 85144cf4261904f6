"""A mask of one frame from a box: the region that fits it best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from vidmatte.alpha.guidance.classifier import Classifier, Lesson
from vidmatte.alpha.guidance.coarse import CoarseFrame
from vidmatte.alpha.guidance.selection import place_planes

_FITS = 0.3  # how well a region must fit a box to be taken


class Box(NamedTuple):
    """A box of the work picture, in its pixels; right and bottom are outside."""

    left: float
    top: float
    right: float
    bottom: float


def mask_from_box(frame: CoarseFrame, box: Box, close_ups: Sequence[np.ndarray] = ()) -> np.ndarray:
    """The mask of the subject that a box of the work picture frames, (h, w) float32 0 or 1.

    close_ups: alphas (h, w) float32 0..1, see ``close_ups``. Of them and the network's the one is
    taken whose region fits the box best; where none fits, what looks like the box's middle.
    """
    inside = np.zeros(frame.alpha.shape, bool)
    columns = slice(max(int(box.left), 0), max(int(np.ceil(box.right)), 1))
    rows = slice(max(int(box.top), 0), max(int(np.ceil(box.bottom)), 1))
    inside[rows, columns] = True
    fitting = max((_fit(alpha, inside) for alpha in (frame.alpha, *close_ups)), key=lambda f: f[0])
    if fitting[0] > _FITS:
        return fitting[1].astype(np.float32)
    middle = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    x = (np.arange(frame.width) - middle[0]) / max((box.right - box.left) / 2, 1)
    y = (np.arange(frame.height) - middle[1]) / max((box.bottom - box.top) / 2, 1)
    mine = (np.hypot(x[None, :], y[:, None]) < 0.6) & inside
    taught = _taught_map(frame, mine, ~inside)
    mask = taught & inside
    return _largest(mask if mask.any() else inside).astype(np.float32)


def _fit(alpha: np.ndarray, inside: np.ndarray) -> tuple[float, np.ndarray]:
    """The largest piece of an alpha inside a box (h, w) bool, and how well it fits: how much of the
    box its own box covers, less the share of its region that lies outside."""
    marked = alpha > 0.5
    if not (marked & inside).any():
        return -1.0, marked
    piece = _largest(marked & inside)
    _, _, width, height = cv2.boundingRect(piece.astype(np.uint8))
    _, labels = cv2.connectedComponents(marked.astype(np.uint8))
    region = labels == labels[piece][0]
    outside = (region & ~inside).sum() / region.sum()
    return float(width * height / inside.sum() - outside), piece


def _taught_map(frame: CoarseFrame, mine: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """A classifier's verdict over the frame, taught by two masks (h, w) bool."""
    features = frame.features
    height, width = features.shape
    features = features.with_planes(place_planes(height, width))
    size = (width, height)
    small = [
        cv2.resize(m.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.4
        for m in (mine, rest)
    ]
    near = cv2.resize(frame.alpha, size, interpolation=cv2.INTER_AREA)
    lesson = Lesson(
        features.joined().reshape(height * width, -1),
        small[0].ravel().astype(np.float32),
        (small[0] | small[1]).ravel().astype(np.float32),
        near.ravel(),
    )
    judge = Classifier()
    judge.learn(lesson, key=True)
    logits = cv2.resize(judge.logits(features), (frame.width, frame.height))
    return np.asarray(logits > 0)


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest piece, (h, w) bool."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return np.asarray(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))

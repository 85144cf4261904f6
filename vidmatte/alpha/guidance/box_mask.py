"""A mask of one frame from a box: the region that fits it best, and moves as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from vidmatte.alpha.guidance.classifier import Classifier, Lesson
from vidmatte.alpha.guidance.coarse import CoarseFrame
from vidmatte.alpha.guidance.mask_parts import largest_piece
from vidmatte.alpha.guidance.near_motion import NearMotion
from vidmatte.alpha.guidance.selection import Chooser, Click, place_planes

_FITS = 0.3  # how well a region must fit a box to be taken
_MOVER_FITS = 0.5  # the same of what moves as one
_CELLS = 3  # in each direction: a place in each part of the box is asked who moves with it
_SHALLOW = 2.0  # pixels from the edge of what is marked that a place must have
_FEWEST_MOVING = 30  # pixels
_AGREEMENT, _OUTSIDE = 1.7, -8.0  # logits of the region that fits, and of what is out of the box


class Box(NamedTuple):
    """A box of the work picture, in its pixels; right and bottom are outside."""

    left: float
    top: float
    right: float
    bottom: float


def mask_from_box(
    frame: CoarseFrame,
    box: Box,
    close_ups: Sequence[np.ndarray] = (),
    motions: Sequence[NearMotion] = (),
) -> np.ndarray:
    """The mask of the subject that a box of the work picture frames, (h, w) float32 0 or 1.

    close_ups: alphas (h, w) float32 0..1, see ``close_ups``. Of them and the network's the one is
    taken whose region fits the box best; where none fits, what looks like the box's middle.
    motions: to frames around, see ``near_motion``. What moves as one and fits the box is taken of
    that, so that who stands before the subject, and out of the box, is not.
    """
    inside = np.zeros(frame.alpha.shape, bool)
    columns = slice(max(int(box.left), 0), max(int(np.ceil(box.right)), 1))
    rows = slice(max(int(box.top), 0), max(int(np.ceil(box.bottom)), 1))
    inside[rows, columns] = True
    alphas = (frame.alpha, *close_ups)
    fitting = max(((*_fit(alpha, inside), alpha) for alpha in alphas), key=lambda found: found[0])
    if fitting[0] > _FITS:
        mask, agreed = fitting[1], fitting[2] * inside
    else:
        mask = _like_middle(frame, box, inside)
        agreed = mask.astype(np.float32)
    if not motions:
        return mask.astype(np.float32)
    chooser = Chooser(frame, close_ups, motions)
    place = _mover(chooser, np.max(alphas, axis=0) > 0.5, inside)
    if place is not None:
        known = np.where(inside, _AGREEMENT * (2 * agreed - 1), _OUTSIDE).astype(np.float32)
        mask = chooser.moving_alike(Click(place[1], place[0]), known) & inside
    return mask.astype(np.float32)


def _mover(chooser: Chooser, marked: np.ndarray, inside: np.ndarray) -> tuple[int, int] | None:
    """The row and column of what moves as one and fits a box best; None where nothing does.

    marked: by any network, (h, w) bool. inside: of the box, (h, w) bool.
    """
    best, found = _MOVER_FITS, None
    shown = marked & inside if (marked & inside).any() else inside
    padded = cv2.distanceTransform(np.pad(shown, 1).astype(np.uint8), cv2.DIST_L2, 5)
    depth = padded[1:-1, 1:-1]
    left, top, width, height = cv2.boundingRect(inside.astype(np.uint8))
    for row in range(_CELLS):
        for column in range(_CELLS):
            cell = np.zeros_like(depth)
            rows = slice(top + row * height // _CELLS, top + (row + 1) * height // _CELLS)
            columns = slice(left + column * width // _CELLS, left + (column + 1) * width // _CELLS)
            cell[rows, columns] = depth[rows, columns]
            place = divmod(int(cell.argmax()), cell.shape[1])
            if cell[place] < _SHALLOW:
                continue
            evidence = chooser.motion.evidence(place)
            moves = (evidence > 1) & (marked | (evidence > 3))
            if moves.sum() < _FEWEST_MOVING:  # it moves like the background
                moves = (evidence > -0.5) & marked
            fit = _covered(moves & inside, inside) - (moves & ~inside).sum() / max(moves.sum(), 1)
            if moves.sum() >= _FEWEST_MOVING and fit > best:
                best, found = fit, place
    return found


def _covered(mask: np.ndarray, inside: np.ndarray) -> float:
    """How much of a box the mask's own box covers."""
    _, _, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return float(width * height / inside.sum())


def _like_middle(frame: CoarseFrame, box: Box, inside: np.ndarray) -> np.ndarray:
    """What looks like the middle of a box, (h, w) bool."""
    middle = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    x = (np.arange(frame.width) - middle[0]) / max((box.right - box.left) / 2, 1)
    y = (np.arange(frame.height) - middle[1]) / max((box.bottom - box.top) / 2, 1)
    mine = (np.hypot(x[None, :], y[:, None]) < 0.6) & inside
    mask = _taught_map(frame, mine, ~inside) & inside
    return largest_piece(mask if mask.any() else inside)


def _fit(alpha: np.ndarray, inside: np.ndarray) -> tuple[float, np.ndarray]:
    """The largest piece of an alpha inside a box (h, w) bool, and how well it fits: how much of the
    box its own box covers, less the share of its region that lies outside."""
    marked = alpha > 0.5
    if not (marked & inside).any():
        return -1.0, marked
    piece = largest_piece(marked & inside)
    _, labels = cv2.connectedComponents(marked.astype(np.uint8))
    region = labels == labels[piece][0]
    outside = (region & ~inside).sum() / region.sum()
    return float(_covered(piece, inside) - outside), piece


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

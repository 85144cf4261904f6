"""A mask of one frame from clicks and boxes.

Where the network marks the subject alone, its region is the mask. Where subjects touch, three
guesses vote: flooding from the clicks over an edge map (Beucher and Meyer, watershed from
markers), growth by geodesic distance, and a classifier on the features and the place.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from vidmatte.alpha.guidance.classifier import Classifier, Lesson
from vidmatte.alpha.guidance.coarse import CoarseFrame

_MARK_RADIUS = 4  # pixels around a click that are surely what it says
_TAUGHT_RADIUS = 10  # pixels around a click that teach the classifier
_REACH = 60  # pixels: a subject that the network does not see ends within
_PLACE_GAIN = 4.0  # of x and y (0..1) among the features
_STEP_COST = 0.03  # of a pixel without an edge
_FILLED_BOX = 0.4  # share of a box that the network's region fills to be taken


class Click(NamedTuple):
    """A pixel of the work picture and whether it is the subject's."""

    x: float
    y: float
    wanted: bool = True


def mask_from_clicks(frame: CoarseFrame, clicks: Sequence[Click]) -> np.ndarray:
    """The subject's mask, (h, w) float32 0 or 1. Raises ValueError without a wanted click."""
    wanted = [c for c in clicks if c.wanted]
    if not wanted:
        raise ValueError("no click on the subject")
    if len(wanted) == len(clicks):
        region = _marked_region(frame.alpha, wanted)
        if region is not None:
            return region
    positive, negative = _seeds(frame, clicks)
    cost = _edge_cost(frame)
    votes = np.zeros(frame.alpha.shape, np.uint8)
    votes += _grown(cost, positive, negative, widest=True)
    votes += _grown(cost, positive, negative, widest=False)
    votes += _classified(frame, clicks, positive, negative)
    mask = (votes >= 2) | _disc(frame, wanted, _MARK_RADIUS)
    return _pieces_at(mask & ~_disc(frame, [c for c in clicks if not c.wanted], 2), wanted)


def mask_from_box(
    frame: CoarseFrame, left: float, top: float, right: float, bottom: float
) -> np.ndarray:
    """The mask of the subject that a box of the work picture frames, (h, w) float32 0 or 1."""
    inside = np.zeros(frame.alpha.shape, bool)
    columns = slice(max(int(left), 0), max(int(np.ceil(right)), 1))
    rows = slice(max(int(top), 0), max(int(np.ceil(bottom)), 1))
    inside[rows, columns] = True
    marked = ((frame.alpha > 0.5) & inside).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(marked)
    if len(stats) > 1:
        largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        if stats[largest, cv2.CC_STAT_AREA] > _FILLED_BOX * inside.sum():
            return np.asarray(labels == largest, np.float32)
    x = (np.arange(frame.width) - (left + right) / 2) / max((right - left) / 2, 1)
    y = (np.arange(frame.height) - (top + bottom) / 2) / max((bottom - top) / 2, 1)
    radius = np.hypot(x[None, :], y[:, None])
    mine = (radius < 0.6) & inside
    taught = _taught_map(frame, mine, ~inside)
    mask = taught & inside
    return _largest(mask if mask.any() else inside)


def _edge_cost(frame: CoarseFrame) -> np.ndarray:
    """How much a border lies at a pixel, (h, w) float32, 0 and up: features, colours, alpha."""
    size = (frame.width, frame.height)
    features = frame.features.joined()
    across = np.square(np.diff(features, axis=1, append=features[:, -1:])).sum(-1)
    down = np.square(np.diff(features, axis=0, append=features[-1:])).sum(-1)
    feature = cv2.resize(np.sqrt(across + down), size)
    colour = np.zeros(frame.alpha.shape, np.float32)
    for plane in cv2.split(cv2.GaussianBlur(frame.lab, (0, 0), 0.8)):
        colour += np.square(cv2.Sobel(plane, cv2.CV_32F, 1, 0))
        colour += np.square(cv2.Sobel(plane, cv2.CV_32F, 0, 1))
    alpha = np.hypot(
        cv2.Sobel(frame.alpha, cv2.CV_32F, 1, 0), cv2.Sobel(frame.alpha, cv2.CV_32F, 0, 1)
    )
    return np.asarray(_relative(feature) + 0.5 * _relative(np.sqrt(colour)) + alpha, np.float32)


def _relative(values: np.ndarray) -> np.ndarray:
    """Values by their 95th percentile, at most 1.5."""
    return np.asarray(np.clip(values / max(float(np.percentile(values, 95)), 1e-6), 0, 1.5))


def _marked_region(alpha: np.ndarray, clicks: Sequence[Click]) -> np.ndarray | None:
    """The network's regions under the clicks; None where one is on nothing that it marks."""
    _, labels = cv2.connectedComponents((alpha > 0.5).astype(np.uint8))
    height, width = alpha.shape
    found = {int(labels[_row(c, height), _column(c, width)]) for c in clicks}
    if 0 in found:
        return None
    return np.isin(labels, list(found)).astype(np.float32)


def _seeds(frame: CoarseFrame, clicks: Sequence[Click]) -> tuple[np.ndarray, np.ndarray]:
    """What is surely the subject and surely not it, (h, w) bool."""
    wanted = [c for c in clicks if c.wanted]
    positive = _disc(frame, wanted, _MARK_RADIUS)
    negative = _disc(frame, [c for c in clicks if not c.wanted], _MARK_RADIUS)
    first = wanted[0]
    seen = frame.alpha[_row(first, frame.height), _column(first, frame.width)] >= 0.3
    if seen:
        negative |= frame.alpha < 0.08
    else:  # the network does not see it: what it does see is another
        negative |= ~_disc(frame, wanted, _REACH) | (frame.alpha > 0.6)
    negative &= ~positive
    return positive, negative


def _row(click: Click, height: int) -> int:
    return int(np.clip(click.y, 0, height - 1))


def _column(click: Click, width: int) -> int:
    return int(np.clip(click.x, 0, width - 1))


def _disc(frame: CoarseFrame, clicks: Sequence[Click], radius: float) -> np.ndarray:
    """Pixels within a radius of any of the clicks, (h, w) bool."""
    mask = np.zeros(frame.alpha.shape, np.uint8)
    for click in clicks:
        place = _column(click, frame.width), _row(click, frame.height)
        cv2.circle(mask, place, round(radius), 1, -1)
    return mask > 0


def _grown(
    cost: np.ndarray, positive: np.ndarray, negative: np.ndarray, *, widest: bool
) -> np.ndarray:
    """Pixels that are nearer to the positive seeds, (h, w) bool, found at half that size.

    widest: a path is as long as its highest cost (a watershed), then as the sum of its costs.
    """
    height, width = cost.shape
    size = (width // 2, height // 2)
    small = cv2.resize(cost, size, interpolation=cv2.INTER_AREA)
    mine, rest = (
        cv2.resize(seed.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.4
        for seed in (positive, negative)
    )
    owner = _nearest_seed(small, np.where(mine, 1, np.where(rest, 2, 0)), widest)
    grown = (owner == 1).astype(np.float32)
    return np.asarray(cv2.resize(grown, (width, height)) > 0.5)


def _nearest_seed(cost: np.ndarray, seeds: np.ndarray, widest: bool) -> np.ndarray:
    """The label of the nearest seed for each pixel, by Dijkstra's algorithm."""
    height, width = cost.shape
    costs: list[float] = cost.ravel().tolist()
    owner: list[int] = seeds.ravel().tolist()
    best = [(0.0, 0.0) if label else (float("inf"), 0.0) for label in owner]
    queue = [(0.0, 0.0, place) for place, label in enumerate(owner) if label]
    while queue:
        highest, length, place = heapq.heappop(queue)
        if best[place] < (highest, length):
            continue
        column = place % width
        for there, allowed in (
            (place - 1, column > 0),
            (place + 1, column < width - 1),
            (place - width, place >= width),
            (place + width, place < (height - 1) * width),
        ):
            if not allowed:
                continue
            longer = length + costs[there] + _STEP_COST
            path = (max(highest, costs[there]) if widest else 0.0, longer)
            if path < best[there]:
                best[there], owner[there] = path, owner[place]
                heapq.heappush(queue, (*path, there))
    return np.array(owner).reshape(height, width)


def _classified(
    frame: CoarseFrame, clicks: Sequence[Click], positive: np.ndarray, negative: np.ndarray
) -> np.ndarray:
    """What looks and lies like the clicks on the subject, (h, w) bool."""
    mine = _disc(frame, [c for c in clicks if c.wanted], _TAUGHT_RADIUS)
    rest = _disc(frame, [c for c in clicks if not c.wanted], _TAUGHT_RADIUS)
    mine, rest = (mine & ~rest) | positive, (rest & ~mine) | negative
    return _taught_map(frame, mine, rest & ~mine)


def _taught_map(frame: CoarseFrame, mine: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """A classifier's verdict over the frame, taught by two masks (h, w) bool."""
    features = frame.features
    height, width = features.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    place = np.stack([x / width, y / height], -1) * np.float32(_PLACE_GAIN)
    features = features.with_planes(place)
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


def _pieces_at(mask: np.ndarray, clicks: Sequence[Click]) -> np.ndarray:
    """Only the pieces that hold a click, (h, w) float32 0 or 1."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8))
    height, width = mask.shape
    kept = {int(labels[_row(c, height), _column(c, width)]) for c in clicks} - {0}
    return np.isin(labels, list(kept)).astype(np.float32)


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest piece, (h, w) float32 0 or 1."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return np.asarray(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()), np.float32)

"""The mask of one frame after one to six clicks, and that of a box, against the true mask.

    python tests/measure_clicks.py [--cutouts DIR] [--background FILE ...] [--keep DIR]
        [--model u2netp|isnet] [--clips NAME ...]

Frames of the scenes of guidance_clips.py: of each the one on which the wanted subject and the
others have the longest border in common, and the one where they touch least. The first click lies
in the middle of the wanted subject, each further one in the middle of the largest error, with its
sign. Printed: the IoU of the mask with the visible subject after each click, and that of the mask
from the subject's box, in means over frames where subjects touch and where they stand apart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from composites import painted_background, read_backgrounds
from guidance_clips import Stage, read_cast, scenes
from measure_guidance import Networks, Prepared, prepared

from vidmatte.alpha.guidance.coarse import CoarseFrame, CoarseFrameMaker
from vidmatte.alpha.guidance.selection import Click, mask_from_box, mask_from_clicks
from vidmatte.models.weights.store import _default_folder as default_folder

CLICKS = 6
SEEN = 300  # pixels of the coarse frame: of less of a subject nobody makes a mask
TOUCHING = 12  # pixels of common border from which subjects touch


@dataclass(frozen=True)
class Case:
    """One frame: its subject's true mask (h, w) bool, and the length of the border in common
    with others, in pixels."""

    name: str
    index: int
    frame: CoarseFrame
    truth: np.ndarray
    border: int

    @property
    def touches(self) -> bool:
        return self.border >= TOUCHING


def common_border(mine: np.ndarray, others: np.ndarray) -> int:
    """Pixels of one mask (h, w) bool that lie beside the other."""
    near = cv2.dilate(others.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return int((mine & near).sum())


def cases(clip: Prepared) -> Iterator[Case]:
    """The frames of a clip on which the subject touches others most, and least."""
    found = []
    for index in range(clip.count):
        mine, others = clip.wanted(index), clip.others(index)
        truth = (mine > others) & (mine > 0.5)
        if truth.sum() >= SEEN:
            found.append((common_border(truth, others > 0.5), index, truth))
    for border, index, truth in (max(found), min(found, key=lambda one: one[:2])):
        yield Case(clip.clip.scene.name, index, clip.frames[index], truth, border)


def middle(area: np.ndarray) -> tuple[int, int]:
    """x, y of the pixel of an area (h, w) bool that is farthest from its border."""
    depth = cv2.distanceTransform(np.pad(area, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(column), int(row)


def next_click(mask: np.ndarray, truth: np.ndarray) -> Click:
    """In the middle of the largest piece of what is wrong."""
    largest, size = np.zeros_like(truth), 0
    for wrong in (truth & ~mask, mask & ~truth):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(wrong.astype(np.uint8))
        for label in range(1, count):
            if stats[label, cv2.CC_STAT_AREA] > size:
                largest, size = labels == label, int(stats[label, cv2.CC_STAT_AREA])
    x, y = middle(largest)
    return Click(x, y, bool(truth[y, x]))


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    """IoU of two masks."""
    return float((mask & truth).sum() / max((mask | truth).sum(), 1))


def click_series(case: Case, count: int = CLICKS) -> list[float]:
    """The IoU after each click."""
    clicks = [Click(*middle(case.truth))]
    scores = []
    for _ in range(count):
        mask = mask_from_clicks(case.frame, clicks) > 0.5
        scores.append(overlap(mask, case.truth))
        if (mask != case.truth).any():
            clicks.append(next_click(mask, case.truth))
    return scores


def box_score(case: Case) -> float:
    """The IoU of the mask from the subject's box."""
    x, y, w, h = cv2.boundingRect(case.truth.astype(np.uint8))
    return overlap(mask_from_box(case.frame, x, y, x + w, y + h) > 0.5, case.truth)


def row(name: str, values: list[float]) -> str:
    return f"{name:24s}" + "".join(f"{value:7.3f}" for value in values)


def summary(name: str, found: list[tuple[list[float], float]]) -> str:
    if not found:
        return f"{name}: none"
    each = np.array([[*series, box] for series, box in found])
    return row(f"{name} ({len(found)})", list(each.mean(0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cutouts", type=Path, help="folder of RGBA PNGs (default: drawn balls)")
    parser.add_argument("--background", type=Path, nargs="*", default=[], help="pictures, movies")
    parser.add_argument("--keep", type=Path, default=Path("guidance-clips"))
    parser.add_argument("--features", choices=("rvm", "own", "colour"), default="rvm")
    parser.add_argument("--clips", nargs="*", help="only these scenes")
    options = parser.parse_args()

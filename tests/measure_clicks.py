"""The mask of one frame after one to six clicks, and that of a box, against the true mask.

    python tests/measure_clicks.py [--cutouts DIR] [--background FILE ...] [--keep DIR]
        [--model isnet|u2netp] [--clips NAME ...]

Frames of the scenes of guidance_clips.py: of each the one on which the wanted subject and the
others have the longest border in common, and the one where they touch least. The first click lies
in the middle of the wanted subject, each further one in the middle of the largest error, with its
sign. Printed: the IoU of the mask with the visible subject after each click, and that of the mask
from the subject's box, in means over frames where subjects touch and where they stand apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from guidance_drawn import overlap
from measure_guidance import Prepared, chosen_scenes, material, prepared, scene_parser

from vidmatte.alpha.guidance.box_mask import Box, mask_from_box
from vidmatte.alpha.guidance.coarse import CoarseFrame, SmallPicture, reduced, small_picture
from vidmatte.alpha.guidance.near_motion import DISTANCES
from vidmatte.alpha.guidance.selection import Click, mask_from_clicks
from vidmatte.core import prompts
from vidmatte.jobs.key_looks import KeyLooker, alpha_of_picture
from vidmatte.models.base import Network
from vidmatte.models.registry import find_model
from vidmatte.settings import Settings

CLICKS = 6
SEEN = 300  # pixels of the coarse frame: of less of a subject nobody makes a mask
TOUCHING = 12  # pixels of common border from which subjects touch


@dataclass(frozen=True)
class Case:
    """One frame: its subject's true mask (h, w) bool, the length of the border in common
    with others, in pixels, the picture (H, W, 3) uint8, and those around it, by distance."""

    name: str
    index: int
    frame: CoarseFrame
    truth: np.ndarray
    border: int
    rgb: np.ndarray
    around: dict[int, SmallPicture]

    @property
    def touches(self) -> bool:
        return self.border >= TOUCHING


def common_border(mine: np.ndarray, others: np.ndarray) -> int:
    """Pixels of one mask (h, w) bool that lie beside the other."""
    near = cv2.dilate(others.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return int((mine & near).sum())


def cases(clip: Prepared, network: Network | None) -> Iterator[Case]:
    """The frames of a clip on which the subject touches others most, and least."""
    found = []
    for index in range(clip.count):
        mine, others = clip.wanted(index), clip.others(index)
        truth = (mine > others) & (mine > 0.5)
        if truth.sum() >= SEEN:
            found.append((common_border(truth, others > 0.5), index, truth))
    for border, index, truth in (max(found), min(found, key=lambda one: one[:2])):
        rgb, frame = clip.clip.rgb[index], clip.frames[index]
        if network is not None:
            alpha = alpha_of_picture(rgb, network)
            codes = np.rint(255 * reduced(alpha, frame.width, frame.height)).astype(np.uint8)
            frame = replace(frame, alpha_codes=codes)
        around = {
            distance: small_picture(clip.clip.rgb[index + distance])
            for distance in DISTANCES
            if 0 <= index + distance < clip.count
        }
        yield Case(clip.clip.scene.name, index, frame, truth, border, rgb, around)


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


def click_series(case: Case, looker: KeyLooker) -> list[float]:
    """The IoU after each click."""
    clicks = [Click(*middle(case.truth))]
    scale = case.rgb.shape[1] / case.frame.width
    point = prompts.Point(clicks[0].x * scale, clicks[0].y * scale)
    looks = looker.looks(case.index, case.frame, [point], lambda: case.rgb, lambda: case.around)
    scores = []
    for _ in range(CLICKS):
        mask = mask_from_clicks(case.frame, clicks, looks.close_ups, looks.motions) > 0.5
        scores.append(overlap(mask, case.truth))
        if (mask != case.truth).any():
            clicks.append(next_click(mask, case.truth))
    return scores


def box_score(case: Case, looker: KeyLooker) -> float:
    """The IoU of the mask from the subject's box."""
    x, y, w, h = cv2.boundingRect(case.truth.astype(np.uint8))
    scale = case.rgb.shape[1] / case.frame.width
    prompt = prompts.Box(x * scale, y * scale, (x + w) * scale, (y + h) * scale)
    looks = looker.looks(case.index, case.frame, [prompt], lambda: case.rgb, lambda: case.around)
    mask = mask_from_box(case.frame, Box(x, y, x + w, y + h), looks.of_boxes[prompt], looks.motions)
    return overlap(mask, case.truth)


def row(name: str, values: list[float]) -> str:
    return f"{name:24s}" + "".join(f"{value:7.3f}" for value in values)


def summary(name: str, found: list[tuple[list[float], float]]) -> str:
    if not found:
        return f"{name}: none"
    each = np.array([[*series, box] for series, box in found])
    return row(f"{name} ({len(found)})", list(each.mean(0)))


def main() -> None:
    parser = scene_parser(__doc__)
    parser.add_argument("--model", default="isnet", help="whose alpha and close-ups are used")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    stage, nets = material(options)
    settings = Settings(model=options.model, smooth="off")
    model = find_model(settings, print)
    looker, network = KeyLooker(model, settings, print), model.per_frame_network()
    touching: list[tuple[list[float], float]] = []
    apart: list[tuple[list[float], float]] = []
    print(f"{'IoU after clicks':24s}" + "".join(f"{n + 1:7d}" for n in range(CLICKS)) + "    box")
    for scene in chosen_scenes(options):
        for case in cases(prepared(scene, stage, nets, options), network):
            found = click_series(case, looker), box_score(case, looker)
            (touching if case.touches else apart).append(found)
            print(
                row(f"{case.name} {case.index}{' touches' * case.touches}", [*found[0], found[1]])
            )
    print(summary("touching", touching), summary("apart", apart), sep="\n")


if __name__ == "__main__":
    main()

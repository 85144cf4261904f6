"""Who could be meant, where nobody clicks: the regions that the network marks on a frame.

They are numbered from 1, the largest first, so that a number from a contact sheet means the
same region as long as the frame and the network are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.errors import UsageError

_LEAST_SHARE = 0.002  # of the picture: smaller regions are no subjects
_LEAST_PERSON = 0.3  # mean of a person network's alpha over a region that is one
#: Of what is kept or selected, R'G'B': a colour for each subject; and of outlines.
TINTS = ((255, 64, 32), (48, 128, 255), (255, 200, 0), (200, 64, 255), (0, 200, 160))
YELLOW = (255, 255, 0)
_TINTED = 0.45
_Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Candidate:
    """One region. number: from 1. left, top, right, bottom: work pixels, right and bottom
    outside. mask: (h, w) bool."""

    number: int
    left: int
    top: int
    right: int
    bottom: int
    mask: np.ndarray

    @property
    def area(self) -> int:
        """Pixels of the work picture."""
        return int(self.mask.sum())


def find_candidates(alpha: np.ndarray) -> list[Candidate]:
    """The regions of the network's alpha (h, w) float32, the largest first."""
    marked = (alpha > 0.5).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(marked)
    order = sorted(range(1, count), key=lambda i: (-int(stats[i, cv2.CC_STAT_AREA]), i))
    kept = [i for i in order if stats[i, cv2.CC_STAT_AREA] >= _LEAST_SHARE * alpha.size]
    found = []
    for number, label in enumerate(kept, 1):
        x, y, w, h = (int(v) for v in stats[label, :4])
        found.append(Candidate(number, x, y, x + w, y + h, labels == label))
    return found


def choose(
    candidates: Sequence[Candidate], rule: str | int, person: np.ndarray | None = None
) -> np.ndarray:
    """The mask that a rule or a number chooses, (h, w) float32 0 or 1.

    rule: one of ``core.prompts.RULES``. largest: number 1. centre: the one nearest to the
    picture's centre. all: all of them. person: of those that ``person`` (h, w), a person network's
    alpha, marks, the largest. Raises UsageError where there is none, or none of that number.
    """
    if not candidates:
        raise UsageError("the network marks nothing there: choose another frame, or give a point")
    if rule == "all":
        return np.asarray(np.any([c.mask for c in candidates], axis=0), np.float32)
    if rule == "largest":
        return candidates[0].mask.astype(np.float32)
    if rule == "centre":
        return min(candidates, key=_from_centre).mask.astype(np.float32)
    if rule == "person":
        if person is None:
            raise ValueError("rule 'person' needs a person network's alpha")
        people = [c for c in candidates if person[c.mask].mean() >= _LEAST_PERSON]
        if not people:
            raise UsageError("there is no person: choose another frame, or give a point")
        return people[0].mask.astype(np.float32)
    for candidate in candidates:
        if candidate.number == rule:
            return candidate.mask.astype(np.float32)
    raise UsageError(
        f"no candidate {rule}: choose 1 to {len(candidates)}, as 'vidmatte subjects' numbers them"
    )


def _from_centre(candidate: Candidate) -> float:
    """Distance of its nearest pixel from the picture's centre."""
    height, width = candidate.mask.shape
    rows, columns = np.nonzero(candidate.mask)
    return float(np.hypot(rows - height / 2, columns - width / 2).min())


def contact_sheet(picture: np.ndarray, candidates: Sequence[Candidate]) -> np.ndarray:
    """The frame with its candidates outlined and numbered, (H, W, 3) uint8 RGB.

    picture: (H, W, 3) uint8 RGB, of any size.
    """
    sheet = picture // 2 + 64
    height, width = picture.shape[:2]
    thick = max(1, width // 400)
    for candidate in candidates:
        shape = candidate.mask.shape
        mask = cv2.resize(candidate.mask.astype(np.uint8), (width, height))
        sheet = np.where(mask[..., None] > 0, picture, sheet)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        sheet = np.ascontiguousarray(sheet)
        cv2.drawContours(sheet, outlines, -1, YELLOW, thick)
        place = _label_place(candidate, width / shape[1], height / shape[0])
        size = max(0.5, width / 800)
        for colour, extra in (((0, 0, 0), 3), (YELLOW, 0)):
            text = str(candidate.number)
            font = cv2.FONT_HERSHEY_SIMPLEX
            cv2.putText(sheet, text, place, font, size, colour, thick + extra, cv2.LINE_AA)
    return sheet


def tinted(
    rgb: np.ndarray, mask: np.ndarray, tint: _Colour = TINTS[0], outline: _Colour | None = None
) -> np.ndarray:
    """A picture (H, W, 3) uint8 RGB with a mask (h, w) float32 0..1 tinted, and outlined if a
    colour for that is given."""
    height, width = rgb.shape[:2]
    if mask.shape != (height, width):
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
    share = np.asarray(mask, np.float32) * np.float32(_TINTED)
    result = np.asarray(cv2.blendLinear(np.full_like(rgb, tint), rgb, share, 1 - share))
    if outline is not None:
        inside = (mask > 0.5).astype(np.uint8)
        lines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(result, lines, -1, outline, max(1, width // 640))
    return result


def _label_place(candidate: Candidate, scale_x: float, scale_y: float) -> tuple[int, int]:
    """Where its number stands: the deepest point inside it."""
    depth = cv2.distanceTransform(candidate.mask.astype(np.uint8), cv2.DIST_L2, 3)
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(column * scale_x), int(row * scale_y)

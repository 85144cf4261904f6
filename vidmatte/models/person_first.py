"""Which of two networks to believe where: a person network where it clearly sees a person.

A network trained on people gives a better alpha of people than a salient one does, and nothing,
or shreds, of anything else. It shows by itself which: where it sees a person, its region is
opaque with a narrow edge; shreds are neither. So each region that either network marks gets a
trust in the person network, 0..1. Trust changes slowly from frame to frame.
"""

from __future__ import annotations

import cv2
import numpy as np

_SIDE = 256  # pixels of the longer side of the maps that are compared
_FEWEST = 8  # of their pixels that make a region
_OPAQUE = (0.88, 0.94)  # mean alpha within the person's region: shreds, a person
_UNDECIDED = (0.35, 0.22)  # mean of 4 alpha (1 - alpha) in it and at its edge: shreds, a person
# The same where the salient network marks less than _ALONE of what the person network does: small
# people are never so sharp, and nothing else is meant.
_ALONE, _OPAQUE_ALONE, _UNDECIDED_ALONE = 0.6, (0.55, 0.65), (0.70, 0.50)
_AGREED = (0.75, 0.90)  # IoU of both regions from which they are the same thing
_LEAST_SHARE = (0.05, 0.10)  # of the salient region that is the person's, to be what is meant
_ELSEWHERE = 0.2  # of the person's area that is salient elsewhere: a passer-by
_LIMB = 0.15  # of the height: an arm whose shoulder is outside the frame ends so near to its person
_RATE = 0.35  # of a change of trust that one frame brings
_SMALL_PART, _ALL_PARTS = 0.2, 0.5  # of the person's area, that only the other network marks
_NEAR = 0.04  # of the height: beyond the person's region, where the larger alpha counts
_MISSED = (0.05, 0.20)  # blurred difference of the alphas: an edge apart by little, a part missed
# IoU of all that both mark, from which both count alike: their errors at the edge are not the same.
_ALIKE = (0.88, 0.94)
_GROWN = np.ones((9, 9), np.uint8)  # trust reaches beyond a region's soft edge


class PersonFirst:
    """Combines alphas of consecutive frames of a shot: the first of a salient network, the second
    of a person network.

    trust: the state, (h, w) float32 0..1; None at the start of a shot.
    """

    def __init__(self) -> None:
        self.trust: np.ndarray | None = None

    def combined(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """One alpha of both, all (H, W) float32 0..1. Where there is no trust it is the first's,
        bit for bit."""
        salient, person = _reduced(first), _reduced(second)
        trust, filled = self._maps(salient, person)
        self.trust = trust
        if not trust.any():
            return first
        size = first.shape[::-1]
        share = np.float32(1 - 0.5 * _step(_overlap(salient > 0.5, person > 0.5), *_ALIKE))
        weight = share * cv2.resize(cv2.GaussianBlur(trust, (0, 0), 2), size)
        fill = cv2.resize(cv2.GaussianBlur(filled, (0, 0), 1), size)
        believed = second + fill * np.maximum(first - second, 0)
        return np.asarray(first + weight * (believed - first))

    def _maps(self, salient: np.ndarray, person: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The new trust, and where what only the salient network marks belongs to the person."""
        marked = (salient > 0.5) | (person > 0.5)
        count, labels = cv2.connectedComponents(marked.astype(np.uint8))
        trust, filled = np.zeros_like(salient), np.zeros_like(salient)
        for label in range(1, count):
            region = labels == label
            found = self._region_trust(region, salient, person)
            trust[region] = found
            if found > 0:
                filled = np.maximum(filled, _filled(region, salient, person))
        known = cv2.dilate(marked.astype(np.uint8), _GROWN) > 0
        trust = np.where(marked, trust, cv2.dilate(trust, _GROWN))
        trust = np.where(known, trust, self._usual(trust, marked)).astype(np.float32)
        return trust, filled * _missed(salient, person)

    def _region_trust(self, region: np.ndarray, salient: np.ndarray, person: np.ndarray) -> float:
        """The trust in a region, slowed down."""
        now = _evidence(region, salient, person)
        if self.trust is None:
            return now
        last = float(self.trust[region].mean())
        return last + _RATE * (now - last)

    def _usual(self, trust: np.ndarray, marked: np.ndarray) -> float:
        """The trust where neither network marks anything."""
        if marked.any():
            return float(trust[marked].mean())
        return 0.0 if self.trust is None else float(self.trust.mean())


def _evidence(region: np.ndarray, salient: np.ndarray, person: np.ndarray) -> float:
    """How surely the person network sees a person in a region (h, w) bool, 0..1."""
    mine, theirs = region & (salient > 0.5), region & (person > 0.5)
    size, area = int(theirs.sum()), int((salient > 0.5).sum())
    if size < _FEWEST:
        return 0.0
    is_elsewhere = not mine.any() and area > _ELSEWHERE * size
    if is_elsewhere and not _near(theirs, (salient > 0.5) & (person > 0.5)):
        return 0.0
    is_alone = area < _ALONE * (person > 0.5).sum()
    opaque = _OPAQUE_ALONE if is_alone else _OPAQUE
    edge = _UNDECIDED_ALONE if is_alone else _UNDECIDED
    around = cv2.dilate(theirs.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    undecided = float((4 * person * (1 - person))[around].mean())
    sure = _step(float(person[theirs].mean()), *opaque) * _step(undecided, *edge)
    sure *= _step(size / max(int(mine.sum()), 1), *_LEAST_SHARE)
    return max(sure, _step(_overlap(mine, theirs), *_AGREED))


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """IoU of two masks (h, w) bool."""
    return float((one & other).sum() / max(int((one | other).sum()), 1))


def _near(part: np.ndarray, people: np.ndarray) -> bool:
    """Whether a part (h, w) bool lies close to people that both networks mark."""
    reach = max(1, round(_LIMB * part.shape[0]))
    around = cv2.dilate(part.astype(np.uint8), np.ones((2 * reach + 1,) * 2, np.uint8))
    return bool((people & (around > 0)).any())


def _filled(region: np.ndarray, salient: np.ndarray, person: np.ndarray) -> np.ndarray:
    """(h, w) float32 0 or 1: where the larger alpha counts. Near the person, and in small parts
    beside it that only the salient network marks, such as a bag; not where that network marks
    much else with it: then it knows nothing about the person."""
    theirs = (region & (person > 0.5)).astype(np.uint8)
    area = int(theirs.sum())
    more = region & (salient > 0.5) & (theirs == 0)
    if not area or more.sum() > _ALL_PARTS * area:
        return np.zeros_like(salient)
    reach = max(1, round(_NEAR * salient.shape[0]))
    near = np.asarray(cv2.dilate(theirs, np.ones((2 * reach + 1,) * 2, np.uint8)), np.float32)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(more.astype(np.uint8))
    for label in range(1, count):
        part = labels == label
        if stats[label, cv2.CC_STAT_AREA] <= _SMALL_PART * area:
            near[part] = 1
        else:
            near[cv2.dilate(part.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0] = 0
    return near


def _missed(salient: np.ndarray, person: np.ndarray) -> np.ndarray:
    """(h, w) float32 0..1: where the person network lacks more than an edge apart by little: the
    larger alpha of two soft edges would be too wide."""
    more = cv2.GaussianBlur(np.maximum(salient - person, 0), (0, 0), 1)
    more = cv2.dilate(more, np.ones((5, 5), np.uint8))
    return np.asarray(np.clip((more - _MISSED[0]) / (_MISSED[1] - _MISSED[0]), 0, 1), np.float32)


def _step(value: float, low: float, high: float) -> float:
    """0 at low, 1 at high, linear between; low may be above high."""
    return float(np.clip((value - low) / (high - low), 0, 1))


def _reduced(alpha: np.ndarray) -> np.ndarray:
    """An alpha (H, W) float32 reduced to ``_SIDE``, the mean of what falls together."""
    scale = min(1.0, _SIDE / max(alpha.shape))
    size = max(1, round(alpha.shape[1] * scale)), max(1, round(alpha.shape[0] * scale))
    return np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA), np.float32)

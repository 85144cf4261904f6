"""Which of two networks to believe where: a person network where it clearly sees a person.

A network trained on people gives a better alpha of people than a salient one does, and nothing,
or shreds, of anything else. It shows by itself which: where it sees a person, its region is
opaque with a narrow edge; shreds are neither, and where they end within what is surely salient,
they dissolve. So each region that either network marks gets a trust in the person network, 0..1.
Trust changes slowly from frame to frame.

Where both networks mark the same, both count, the salient one more, since the other's edge is
rougher; unless the picture's colours follow the person network's edge much better. A person of few
pixels is the salient network's, if that sees the person.
"""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np

_SIDE = 256  # pixels of the longer side of the maps that are compared
_FEWEST = 8  # of their pixels that make a region
# What a region of the person network is judged by, as (shreds, a person). An edge _EDGE pixels wide
# is an edge of a small region as of a large one: it counts as neither.
_EDGE = 2.0
_OPAQUE = (0.92, 0.96)  # mean alpha within it
_UNDECIDED = (0.25, 0.15)  # mean of 4 alpha (1 - alpha) in it and at its edge
_TORN = (3.5, 2.5)  # width in pixels of its edge where it runs through what is surely salient
# The same where the salient network marks less than _ALONE of what the person network does: then
# nothing else is meant, and all regions are judged together.
_ALONE, _OPAQUE_ALONE, _UNDECIDED_ALONE = 0.6, (0.75, 0.85), (1.0, 0.7)
_AGREED = (0.75, 0.90)  # IoU of both regions from which they are the same thing
# Mean width in pixels, twice area over outline, of a region that is large enough, too small for the
# person network; from which IoU on, edges a pixel apart aside, the salient network sees as much.
_WIDTH, _SEEN = (8.7, 6.7), (0.75, 0.90)
_LEAST_SHARE = (0.05, 0.10)  # of the salient region that is the person's, to be what is meant
_ELSEWHERE = 0.2  # of the person's area that is salient elsewhere: a passer-by
# Of the height: an arm whose shoulder is outside the frame ends so near to its person; the same
# where one side of the frame cuts off both.
_LIMB, _CUT_OFF = 0.15, 0.30
_SIDES = (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1])  # of the frame
_RATE = 0.35  # of a change of trust that one frame brings
_SMALL_PART, _ALL_PARTS = 0.2, 0.5  # of the person's area, that only the other network marks
_NEAR = 0.04  # of the height: beyond the person's region, where the larger alpha counts
_MISSED = (0.08, 0.25)  # blurred difference of the alphas: an edge apart by little, a part missed
_SHARE = 0.25  # of the person network where both mark the same: their errors are not the same
_ALIKE = (0.90, 0.95)  # IoU of both regions from which all of it is the same, parts apart too
_DECIDED = (0.86, 0.94)  # the same of the alphas: lower where one of them is grey all over
# What the picture's colours leave unexplained of the person network's edge where the two differ,
# against the salient one's, as a natural logarithm: no sign of a better edge, a sure one.
_FINER = (-0.55, -0.80)
_DIFFERENT = 0.1  # of the alphas, to be compared so
_WINDOW, _NOISE = 5, 1e-4  # pixels; variance of colours 0..1 that explains nothing
_AROUND = np.ones((5, 5), np.uint8)  # the edge of a region, and its soft side
_NEXT = np.ones((3, 3), np.uint8)  # a region with the next pixels
_GROWN = np.ones((9, 9), np.uint8)  # trust reaches beyond a region's soft edge


class PersonFirst:
    """Combines alphas of consecutive frames of a shot: the first of a salient network, the second
    of a person network.

    trust: the state, (h, w) float32 0..1; None at the start of a shot.
    """

    def __init__(self) -> None:
        self.trust: np.ndarray | None = None

    def combined(self, first: np.ndarray, second: np.ndarray, rgb: np.ndarray) -> np.ndarray:
        """One alpha of both, all (H, W) float32 0..1, of a frame (H, W, 3) uint8. Where there is no
        trust it is the first's, bit for bit."""
        pair = _Pair(_reduced(first), _reduced(second))
        trust, filled, alike = self._maps(pair)
        self.trust = trust
        if not trust.any():
            return first
        size = first.shape[::-1]
        finer = pair.finer(rgb) if alike else np.zeros_like(trust)
        apart = _apart(np.abs(pair.salient - pair.person)) * np.float32(1 - alike)
        apart[cv2.dilate(pair.marks.astype(np.uint8), _GROWN) == 0] = 1
        apart = cv2.GaussianBlur(np.maximum(apart, finer), (0, 0), 1)
        share = np.float32(_SHARE) + np.float32(1 - _SHARE) * apart
        weight = cv2.resize(np.minimum(cv2.GaussianBlur(trust, (0, 0), 2), share), size)
        filled = filled * (1 - finer) * _grown(pair.marks)
        fill = cv2.resize(cv2.GaussianBlur(filled, (0, 0), 1), size)
        believed = second + fill * np.maximum(first - second, 0)
        return np.asarray(first + weight * (believed - first))

    def _maps(self, pair: _Pair) -> tuple[np.ndarray, np.ndarray, float]:
        """The new trust; where what only the salient network marks belongs to the person; and how
        alike the trusted regions are, 0..1."""
        salient, person = pair.salient, pair.person
        marked = pair.marks | pair.people
        count, labels = cv2.connectedComponents(marked.astype(np.uint8))
        trust, filled = np.zeros_like(salient), np.zeros_like(salient)
        for label in range(1, count):
            region = labels == label
            found = self._slowed(region, pair.evidence(region))
            trust[region] = found
            if found > 0:
                filled = np.maximum(filled, _filled(region, salient, person))
        alike = pair.alike(trust > 0)
        known = cv2.dilate(marked.astype(np.uint8), _GROWN) > 0
        trust = np.where(marked, trust, cv2.dilate(trust, _GROWN))
        trust = np.where(known, trust, self._usual(trust, marked)).astype(np.float32)
        return trust, filled * _apart(np.maximum(salient - person, 0)), alike

    def _slowed(self, region: np.ndarray, now: float) -> float:
        """The trust in a region that has this evidence now."""
        if self.trust is None:
            return now
        last = float(self.trust[region].mean())
        return last + _RATE * (now - last)

    def _usual(self, trust: np.ndarray, marked: np.ndarray) -> float:
        """The trust where neither network marks anything."""
        if marked.any():
            return float(trust[marked].mean())
        return 0.0 if self.trust is None else float(self.trust.mean())


class _Pair:
    """The reduced alphas of a frame, (h, w) float32 0..1, and what its regions are judged by."""

    def __init__(self, salient: np.ndarray, person: np.ndarray) -> None:
        self.salient, self.person = salient, person
        self.marks, self.people = salient > 0.5, person > 0.5
        self.area, self.people_area = int(self.marks.sum()), int(self.people.sum())
        self._grey = 4 * person * (1 - person)
        self._inside = cv2.erode((salient > 0.9).astype(np.uint8), _AROUND) > 0

    def evidence(self, region: np.ndarray) -> float:
        """How surely the person network sees a person in a region (h, w) bool, 0..1; at least
        ``_SHARE`` where both mark the same."""
        mine, theirs = region & self.marks, region & self.people
        size = int(theirs.sum())
        share = _step(size / max(int(mine.sum()), 1), *_LEAST_SHARE)
        is_alone = self.area < _ALONE * self.people_area
        if not share or (self.people_area if is_alone else size) < _FEWEST:
            return 0.0
        is_elsewhere = not mine.any() and self.area > _ELSEWHERE * size
        if is_elsewhere and not _is_limb(theirs, self.marks & self.people):
            return 0.0
        opaque, undecided, torn = self._looks_of_all if is_alone else self._looks(theirs)
        sure = share * _step(torn, *_TORN)
        sure *= _step(opaque, *(_OPAQUE_ALONE if is_alone else _OPAQUE))
        sure *= _step(undecided, *(_UNDECIDED_ALONE if is_alone else _UNDECIDED))
        overlap = _overlap(mine, theirs)
        too_small = _step(2 * size / max(_outline(theirs), 1.0), *_WIDTH)
        too_small *= _step(_overlap_of_shapes(mine, theirs), *_SEEN)
        return max(sure, _SHARE * _step(overlap, *_AGREED)) * (1 - too_small)

    def alike(self, people: np.ndarray) -> float:
        """Whether both mark the same where there is trust, (h, w) bool: 0..1."""
        if not people.any():
            return 0.0
        shared = np.minimum(self.salient, self.person)[people].sum()
        ratio = float(shared / np.maximum(self.salient, self.person)[people].sum())
        found = _step(_overlap(people & self.marks, people & self.people), *_ALIKE)
        return found * _step(ratio, *_DECIDED)

    def finer(self, rgb: np.ndarray) -> np.ndarray:
        """(h, w) float32 0..1: whether the colours of the frame, (H, W, 3) uint8, follow the person
        network's edge much better, near edges of both."""
        height, width = self.salient.shape
        colours = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
        edges = _beside_edge(self.marks) & _beside_edge(self.people)
        where = edges & (np.abs(self.salient - self.person) > _DIFFERENT)
        rests = _unexplained(np.float32(1 / 255) * colours, (self.person, self.salient), where)
        ratio = float(np.log(max(rests[0], _NOISE) / max(rests[1], _NOISE)))
        return np.asarray(edges * np.float32(_step(ratio, *_FINER)))

    @cached_property
    def _looks_of_all(self) -> tuple[float, float, float]:
        return self._looks(self.people)

    def _looks(self, theirs: np.ndarray) -> tuple[float, float, float]:
        """How opaque, undecided and torn the person network is in a region (h, w) bool, not empty:
        see ``_OPAQUE``, ``_UNDECIDED`` and ``_TORN``.

        An edge whose alpha rises linearly over w pixels has 2/3 w of 4 alpha (1 - alpha), and w/8
        of 1 - alpha within the region, per pixel of its length.
        """
        size, length = int(theirs.sum()), _outline(theirs)
        around = cv2.dilate(theirs.astype(np.uint8), _AROUND) > 0
        undecided = max(0.0, float(self._grey[around].sum()) - 2 / 3 * _EDGE * length) / size
        lacking = float((1 - self.person)[theirs].sum()) - _EDGE / 8 * length
        inside = self._inside & (cv2.dilate(theirs.astype(np.uint8), _GROWN) > 0)
        torn = 3 / 2 * float(self._grey[inside].sum()) / max(length, 1.0)
        return 1 - max(0.0, lacking) / size, undecided, torn


def _unexplained(
    colours: np.ndarray, alphas: tuple[np.ndarray, ...], where: np.ndarray
) -> list[float]:
    """The sum over pixels, (h, w) bool, of the variance of each alpha (h, w) in the window around a
    pixel that is not linear in the colours (h, w, 3) float32 0..1, as the guided filter has it (He,
    Sun and Tang, ECCV 2010)."""
    centre = _window_mean(colours)[where]
    products = (colours[..., :, None] * colours[..., None, :]).reshape(*where.shape, 9)
    spread = _window_mean(products)[where].reshape(-1, 3, 3)
    spread += (
        np.float32(_NOISE) * np.eye(3, dtype=np.float32) - centre[:, :, None] * centre[:, None, :]
    )
    rests = []
    for alpha in alphas:
        level = _window_mean(alpha)[where]
        shared = _window_mean(colours * alpha[..., None])[where] - centre * level[:, None]
        slopes = np.linalg.solve(spread, shared[..., None])[..., 0]
        rest = _window_mean(alpha * alpha)[where] - level * level - (slopes * shared).sum(axis=1)
        rests.append(float(np.maximum(rest, 0).sum()))
    return rests


def _beside_edge(mask: np.ndarray) -> np.ndarray:
    """(h, w) bool: within two pixels of the edge of a mask (h, w) bool."""
    ring = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, _AROUND)
    return np.asarray(ring > 0)


def _window_mean(values: np.ndarray) -> np.ndarray:
    """The mean around each pixel of values (h, w, ...)."""
    return np.asarray(cv2.blur(values, (_WINDOW, _WINDOW)))


def _outline(mask: np.ndarray) -> float:
    """The length in pixels of the edge of a mask (h, w) bool within the frame, about: steps along
    rows and columns are 4 / pi as long on average."""
    steps = (mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum()
    return float(steps) * np.pi / 4


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """IoU of two masks (h, w) bool."""
    return float((one & other).sum() / max(int((one | other).sum()), 1))


def _overlap_of_shapes(one: np.ndarray, other: np.ndarray) -> float:
    """IoU of two masks (h, w) bool where edges a pixel apart are no difference: they are most of
    what there is of a region a few pixels wide."""
    apart = (one & ~_grown(other)) | (other & ~_grown(one))
    return 1 - float(apart.sum() / max(int((one | other).sum()), 1))


def _grown(mask: np.ndarray) -> np.ndarray:
    """A mask (h, w) bool with the next pixels."""
    return np.asarray(cv2.dilate(mask.astype(np.uint8), _NEXT) > 0)


def _is_limb(part: np.ndarray, people: np.ndarray) -> bool:
    """Whether a part (h, w) bool may belong to people that both networks mark: it lies close to
    them, or is smaller than they are and cut off by the same side of the frame, not far away."""
    is_cut = part.sum() < people.sum() and any(
        part[side].any() and people[side].any() for side in _SIDES
    )
    reach = max(1, round((_CUT_OFF if is_cut else _LIMB) * part.shape[0]))
    around = cv2.dilate(part.astype(np.uint8), np.ones((2 * reach + 1,) * 2, np.uint8))
    return bool((people & (around > 0)).any())


def _filled(region: np.ndarray, salient: np.ndarray, person: np.ndarray) -> np.ndarray:
    """(h, w) float32 0 or 1: where the larger alpha may count. Near the person, and in small parts
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
            near[cv2.dilate(part.astype(np.uint8), _AROUND) > 0] = 0
    return near


def _apart(difference: np.ndarray) -> np.ndarray:
    """(h, w) float32 0..1: where the alphas, by their difference 0..1, are apart by more than edges
    by little: the larger alpha of two soft edges would be too wide."""
    more = cv2.GaussianBlur(difference, (0, 0), 1)
    more = cv2.dilate(more, _AROUND)
    return np.asarray(np.clip((more - _MISSED[0]) / (_MISSED[1] - _MISSED[0]), 0, 1), np.float32)


def _step(value: float, low: float, high: float) -> float:
    """0 at low, 1 at high, linear between; low may be above high."""
    return float(np.clip((value - low) / (high - low), 0, 1))


def _reduced(alpha: np.ndarray) -> np.ndarray:
    """An alpha (H, W) float32 reduced to ``_SIDE``, the mean of what falls together."""
    scale = min(1.0, _SIDE / max(alpha.shape))
    size = max(1, round(alpha.shape[1] * scale)), max(1, round(alpha.shape[0] * scale))
    return np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA), np.float32)

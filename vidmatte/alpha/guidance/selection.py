"""A mask of one frame from clicks.

The first click takes what moves with it (see ``near_motion``), within the region around it on
which those agree who mark that place: the network, and the close-ups of the click (see
``close_ups``). Each further click adds a piece to the mask or takes one away. What all clicks say
is spread over the frame up to its edges (see ``random_walk``), with what looks like them; the mask
before remains likely, the more the farther from the click.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np

from vidmatte.alpha.guidance.appearance import Appearance
from vidmatte.alpha.guidance.coarse import CoarseFrame, ColourGuide
from vidmatte.alpha.guidance.mask_parts import depth_at, pieces_at, solid_piece, with_its_rim
from vidmatte.alpha.guidance.near_motion import ClickMotion, NearMotion
from vidmatte.alpha.guidance.random_walk import bonds, random_walk

_MARK_RADIUS = 4  # pixels around a click that are surely what it says
_KEPT_RADIUS, _CUT_RADIUS = 3, 2  # pixels around clicks that are in the mask, and that are not
_TAUGHT_RADIUS = 10  # pixels around a click that teach what its side looks like
_REACH = 60  # pixels: a subject that the network does not see ends within
_PLACE_GAIN = 4.0  # of x and y (0..1) among the features
_OPINION_GAIN = 4.0  # of alphas among the features
_AGREED = 0.25  # quantile of the alphas that mark the first click
_ALMOST = 0.85  # of a region: a mask that covers so much of it is of the same subject
_OTHERWISE = 1.0  # logit of motion against a click, from which a pixel moves otherwise
_FEWEST = 30  # pixels of a first region
_BACKGROUND, _SEEN = 0.08, 0.3  # alpha of what is surely no subject; and of what the network sees
_ANOTHER = 0.6  # alpha of another subject, where the network does not see the wanted one
_LOOK_WEIGHT, _SURE_WEIGHT, _LEAST_WEIGHT = 0.02, 5.0, 0.002  # of targets against neighbours
_AGREEMENT = 2.5  # logit of what those agree on who mark the first click
_HALF_SURE = 0.5  # their agreement where only looks and edges tell
_LOOKS = 0.7  # of looks against motion and agreement
_MOST_LOOKS = 2.0  # logit of looks: taught by a few places, they are no surer
_SURE_MOTION, _FEWEST_MOVING = 2.0, 30  # logit and pixels of what surely moves so
_CONFUSED = 0.3  # error of looks that tell none
_DEEP = 12.0  # pixels to the mask's edge from which a click's own motion is known: edges blur it
_CONTRADICTED, _LEAST_CONTRADICTED = 1.5, 6.0  # depths of a click around which it overrules motion
_GUIDE_RADIUS, _GUIDE_SCALE = 8, 50  # pixels; of Lab
_ROUNDS, _SURE = 2, 0.85  # what is so sure after a round teaches the next one
# Logits of the mask before: near the click, and more for each of the click's distance to the mask's
# edge beyond so many of them.
_KEPT_HERE, _KEPT_THERE, _KEPT_MOST, _NEAR = 0.5, 1.0, 4.0, 2.0


class Click(NamedTuple):
    """A pixel of the work picture and whether it is the subject's."""

    x: float
    y: float
    wanted: bool = True


def mask_from_clicks(
    frame: CoarseFrame,
    clicks: Sequence[Click],
    close_ups: Sequence[np.ndarray] = (),
    motions: Sequence[NearMotion] = (),
) -> np.ndarray:
    """The subject's mask, (h, w) float32 0 or 1. Raises ValueError without a wanted click.

    clicks: in their order. close_ups: alphas (h, w) float32 0..1, see ``close_ups``. motions: to
    frames around, see ``near_motion``.
    """
    first = next((click for click in clicks if click.wanted), None)
    if first is None:
        raise ValueError("no click on the subject")
    chooser = Chooser(frame, close_ups, motions)
    mask, known = chooser.region(first), [first]
    for click in clicks:
        if click is not first:
            known.append(click)
            mask = chooser.corrected(mask, known)
    return mask.astype(np.float32)


class Chooser:
    """The masks of clicks on one frame, one after another.

    motion: around the frame.
    """

    def __init__(
        self,
        frame: CoarseFrame,
        close_ups: Sequence[np.ndarray],
        motions: Sequence[NearMotion],
    ) -> None:
        self._alphas = [frame.alpha, *close_ups]
        self.motion = ClickMotion(motions, self._alphas)
        height, width = frame.features.shape
        self._size = width, height
        halved = np.stack([self._half(alpha) for alpha in self._alphas], -1)
        planes = [place_planes(height, width), _OPINION_GAIN * halved]
        self._frame = frame.with_planes(np.concatenate(planes, -1, dtype=np.float32))
        lab, features = self._half(frame.lab), frame.features.joined()
        self._across, self._down = (
            bonds(lab, features, halved, axis, self.motion.bonds(width, height, axis))
            for axis in (1, 0)
        )
        self._depths: dict[Click, float] = {}

    def region(self, click: Click) -> np.ndarray:
        """What the first click takes, (h, w) bool."""
        agreed, marked = self._agreement(click)
        return self._with_ends(self.moving_alike(click, agreed) if self.motion else marked, click)

    def moving_alike(self, click: Click, known: np.ndarray) -> np.ndarray:
        """What moves with a first click and looks like it, (h, w) bool.

        known: logits (h, w) float32 of belonging to it.
        """
        frame, place, moves = self._frame, _place(self._frame, click), self._moves([click])
        mark, known = _disc(frame, [click], _MARK_RADIUS), known + moves
        spread = self._settled(known, mark)
        looks = self._looks((spread > _SURE) | mark, (spread < 1 - _SURE) & ~mark)
        known = known + _LOOKS * self._distinctness(looks, moves) * looks
        return self._edged(solid_piece((self._settled(known, mark) > 0.5) | mark, place), [click])

    def _with_ends(self, mask: np.ndarray, click: Click) -> np.ndarray:
        """With hands and feet: what little a mask (h, w) bool lacks of the region that one in four
        mark of those who mark the click. A mask that lacks more has another one beside it.
        """
        place = _place(self._frame, click)
        if not (marking := self._marking(place)):
            return mask
        whole = pieces_at(np.quantile(marking, 1 - _AGREED, axis=0) > 0.5, place)
        if (mask & whole).sum() < _ALMOST * whole.sum():
            return mask
        return np.asarray(mask | (whole & (self._moves([click]) > -_OTHERWISE)))

    def corrected(self, mask: np.ndarray, clicks: Sequence[Click]) -> np.ndarray:
        """The mask (h, w) bool of all clicks but the last, after the last."""
        frame, place = self._frame, _place(self._frame, clicks[-1])
        self._depths[clicks[-1]] = depth_at(mask, place)
        mark = _disc(frame, clicks[-1:], _MARK_RADIUS)
        spread = self._spread(clicks, _kept(mask, place) + self._moves(clicks))
        if clicks[-1].wanted:
            mask = mask | solid_piece(((spread > 0.5) & ~mask) | mark, place)
        else:
            away = with_its_rim(((spread < 0.5) & mask) | mark, mask)
            mask = mask & ~solid_piece(away, place)
        return self._edged(self._as_said(mask, clicks), clicks)

    @cached_property
    def _guide(self) -> ColourGuide:
        return ColourGuide(self._frame.lab / _GUIDE_SCALE, _GUIDE_RADIUS)

    def _as_said(self, mask: np.ndarray, clicks: Sequence[Click]) -> np.ndarray:
        """The pieces of a mask (h, w) bool at the wanted clicks, with and without the pixels around
        clicks."""
        frame, (wanted, unwanted) = self._frame, _sides(clicks)
        mask = mask | _disc(frame, wanted, _KEPT_RADIUS)
        mask = mask & ~_disc(frame, unwanted, _CUT_RADIUS)
        return pieces_at(mask, *(_place(frame, click) for click in wanted))

    def _edged(self, mask: np.ndarray, clicks: Sequence[Click]) -> np.ndarray:
        """With its edge where colours change, as motion alone places it a little outside."""
        if not self.motion:
            return mask
        return self._as_said(self._guide.smooth(mask.astype(np.float32)) > 0.5, clicks)

    def _agreement(self, click: Click) -> tuple[np.ndarray, np.ndarray]:
        """Logits (h, w) float32 of what those agree on who mark a first click, and its region,
        (h, w) bool; where nobody marks it, the region that looks like it."""
        place, frame = _place(self._frame, click), self._frame
        marking = self._marking(place)
        agreed = np.quantile(marking, _AGREED, axis=0) if marking else np.zeros(frame.alpha.shape)
        region = pieces_at(agreed > 0.5, place)
        if region.sum() < _FEWEST:
            spread = self._spread([click], np.zeros(frame.alpha.shape, np.float32))
            region = pieces_at((spread > 0.5) | _disc(frame, [click], _MARK_RADIUS), place)
            agreed = _HALF_SURE * region
        logits = _AGREEMENT * (2 * agreed - 1)
        return np.asarray(np.where(region, logits, np.minimum(logits, 0)), np.float32), region

    def _marking(self, place: tuple[int, int]) -> list[np.ndarray]:
        """The alphas (h, w) float32 of those who mark a place."""
        return [alpha for alpha in self._alphas if alpha[place] > 0.5]

    def _moves(self, clicks: Sequence[Click]) -> np.ndarray:
        """Logits (h, w) float32 of moving with the first click, and not with unwanted ones.

        Clicks count for more where they say the contrary.
        """
        frame, (wanted, unwanted) = self._frame, _sides(clicks)
        deep = [click for click in unwanted if self._depths.get(click, _DEEP) >= _DEEP]
        logits = self.motion.evidence(
            _place(frame, wanted[0]), [_place(frame, click) for click in deep]
        )
        rows, columns = np.ogrid[: frame.height, : frame.width]
        for click in clicks:
            place = _place(frame, click)
            if click is not wanted[0] and (logits[place] < 0) == click.wanted:
                depth = self._depths.get(click, 0.0)
                reach = max(_LEAST_CONTRADICTED, _CONTRADICTED * depth)
                away = np.square(rows - click.y) + np.square(columns - click.x)
                logits = logits * (1 - np.exp(-away / (2 * reach**2)).astype(np.float32))
        return logits

    def _distinctness(self, looks: np.ndarray, moves: np.ndarray) -> float:
        """How well looks distinguish the subject from what moves otherwise, 0..1; 1 where nothing
        marked does."""
        marked = np.max(self._alphas, axis=0) > 0.5
        mine, others = (marked & (way * moves > _SURE_MOTION) for way in (1, -1))
        if min(mine.sum(), others.sum()) <= _FEWEST_MOVING:
            return 1.0
        error = ((looks[mine] < 0).mean() + (looks[others] > 0).mean()) / 2
        return float(np.clip(1 - error / _CONFUSED, 0, 1))

    def _settled(self, logits: np.ndarray, mark: np.ndarray) -> np.ndarray:
        """What is known, spread along edges: (h, w) float32 0..1. mark: surely the subject's."""
        likely = 1 / (1 + np.exp(-logits))
        weight = _LOOK_WEIGHT * np.abs(2 * likely - 1) + _LEAST_WEIGHT
        weight[mark] = _SURE_WEIGHT
        return self._walked(np.where(mark, 1, likely), weight)

    def _spread(self, clicks: Sequence[Click], kept: np.ndarray) -> np.ndarray:
        """How surely each pixel is the subject's, (h, w) float32 0..1.

        kept: logits (h, w) float32 of what was known before.
        """
        frame, (wanted, unwanted) = self._frame, _sides(clicks)
        positive = _disc(frame, wanted, _MARK_RADIUS)
        negative = _disc(frame, unwanted, _MARK_RADIUS) & ~positive
        background = self._background(wanted) & ~positive
        like = _disc(frame, wanted, _TAUGHT_RADIUS)
        unlike = _disc(frame, unwanted, _TAUGHT_RADIUS)
        mine, rest = (like & ~unlike) | positive, (unlike & ~like) | negative | background
        spread = np.zeros(frame.alpha.shape, np.float32)
        for _ in range(_ROUNDS):
            likely = 1 / (1 + np.exp(-self._looks(mine, rest & ~mine) - kept))
            weight = _LOOK_WEIGHT * np.abs(2 * likely - 1) + _LEAST_WEIGHT
            weight[background] = 2 * _LOOK_WEIGHT
            weight[positive | negative] = _SURE_WEIGHT
            target = np.where(positive, 1, np.where(negative | background, 0, likely))
            spread = self._walked(target, weight)
            mine = ((spread > _SURE) | positive) & ~negative
            rest = ((spread < 1 - _SURE) | negative) & ~positive
        return spread

    def _looks(self, mine: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """Logits (h, w) of looking like what is known to be the subject, against the rest."""
        judge = Appearance([])
        judge.learn(self._frame, mine.astype(np.float32), (mine | rest).astype(np.float32))
        logits = judge.judge(self._frame, np.zeros(()), -1)[0]
        return np.asarray(np.clip(logits, -_MOST_LOOKS, _MOST_LOOKS))

    def _walked(self, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """``random_walk`` at the features' size, (h, w) float32."""
        shares = self._half(weight)
        found = random_walk(self._across, self._down, self._half(target * weight) / shares, shares)
        return np.asarray(cv2.resize(found, (self._frame.width, self._frame.height)))

    def _background(self, wanted: Sequence[Click]) -> np.ndarray:
        """What is surely not the subject, (h, w) bool."""
        frame = self._frame
        if any(alpha[_place(frame, wanted[0])] >= _SEEN for alpha in self._alphas):
            background = np.max(self._alphas, axis=0) < _BACKGROUND
        else:  # nothing shows it: what the network does see is another
            background = ~_disc(frame, wanted, _REACH) | (frame.alpha > _ANOTHER)
        return np.asarray(background & ~_disc(frame, wanted, 3 * _MARK_RADIUS))

    def _half(self, values: np.ndarray) -> np.ndarray:
        """Values (h, w) or (h, w, 3) at the features' size."""
        values = np.asarray(values, np.float32)
        return np.asarray(cv2.resize(values, self._size, interpolation=cv2.INTER_AREA))


def _kept(mask: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """Logits (h, w) float32 of a mask (h, w) bool that a click at a place corrects.

    What is wrong reaches from the click about as far as the mask's edge is away.
    """
    depth = depth_at(mask, place)
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    away = np.hypot(rows - place[0], columns - place[1]) / max(depth, _MARK_RADIUS)
    sure = np.minimum(_KEPT_HERE + _KEPT_THERE * np.maximum(away - _NEAR, 0), _KEPT_MOST)
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.5)
    return np.asarray(sure * (2 * soft - 1), np.float32)


def _sides(clicks: Sequence[Click]) -> tuple[list[Click], list[Click]]:
    """The wanted and the unwanted ones."""
    return [c for c in clicks if c.wanted], [c for c in clicks if not c.wanted]


def _place(frame: CoarseFrame, click: Click) -> tuple[int, int]:
    """A click's row and column."""
    row, column = np.clip([click.y, click.x], 0, [frame.height - 1, frame.width - 1])
    return int(row), int(column)


def place_planes(height: int, width: int) -> np.ndarray:
    """x and y of pixels as features, (height, width, 2) float32."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.asarray(_PLACE_GAIN * np.stack([x / width, y / height], -1), np.float32)


def _disc(frame: CoarseFrame, clicks: Sequence[Click], radius: float) -> np.ndarray:
    """Pixels within a radius of any of the clicks, (h, w) bool."""
    mask = np.zeros(frame.alpha.shape, np.uint8)
    for click in clicks:
        cv2.circle(mask, _place(frame, click)[::-1], round(radius), 1, -1)
    return mask > 0

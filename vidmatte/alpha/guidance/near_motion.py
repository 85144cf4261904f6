"""Which pixels move with a click, from the frames around its own.

Two subjects that touch seldom move alike. From a click the area grows in which the motion to the
neighbouring frames differs little from that of what is already in it, so that an arm that swings
is followed from the shoulder on, and what passes in front is not. How far each pixel's motion is
from that, and how far from the background's, speaks for and against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from vidmatte.alpha.guidance.coarse import CoarseFrame, SmallPicture
from vidmatte.alpha.guidance.motion import Motion, MotionSearch, blurred, one_motion

#: Frames from a key frame to those that its motion is searched in.
DISTANCES = (-3, -1, 1, 3)
_CUT = 0.3  # mean trust in motion below which there is a cut in between
_TRUSTED = 0.3
_BACKGROUND = 0.1  # alpha up to which all networks see none
_FEWEST_GROUND = 200  # pixels that the background's motion is found from
# Pixels by which motion in one subject may differ: a fixed part, for each frame of distance, and of
# its speed against the background.
_TOLERANCE, _PER_FRAME, _PER_SPEED = 0.5, 0.1, 0.1
_SEED_RADIUS, _FEWEST_SEEDS = 5, 8
_ROUNDS, _STEP = 10, 12  # of growth, and pixels of each
_SIGMA = 8.0  # pixels around a pixel from which the motion that it should have is taken
_LOCAL = 0.02  # weight of the whole area's motion against what is near
_STIFFNESS, _UNIT = 0.1, 30.0  # of the area's affine motion; pixels
_MOST_SAMPLES = 600
_ALIKE, _STRANGE = 2.0, 4.0  # tolerances from the background and from the subject that count
_GAIN = 2.0
_REACH = 0.05  # how much of an area is near where it counts
_HALO = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))  # motion is blurred by so much
_STEP_SCALE, _MOST_STEP, _BOND_GAIN = 0.8, 2.0, 1.5  # of steps between neighbouring pixels


class NearMotion(NamedTuple):
    """Motion from a frame to the one ``distance`` frames later."""

    distance: int
    motion: Motion


class _Flow(NamedTuple):
    """The same in pixels from where each pixel is: x, y, and trust 0..1, (h, w) float32."""

    x: np.ndarray
    y: np.ndarray
    trust: np.ndarray


class _Follow(NamedTuple):
    """What moves with a place, (h, w) each: how many tolerances each pixel's motion is from its
    motion and from the background's, float32; how well its motion is known, 0..1; the area."""

    own: np.ndarray
    ground: np.ndarray
    known: np.ndarray
    area: np.ndarray


def near_motions(frame: CoarseFrame, nearby: Mapping[int, SmallPicture]) -> list[NearMotion]:
    """Motion to the frames around. nearby: those, by their distance. None beyond a cut."""
    search, found = MotionSearch(), []
    for way in (-1, 1):
        for distance in sorted((d for d in nearby if d * way > 0), key=abs):
            other = nearby[distance]
            motion = search.between(frame.grey, other.grey, frame.lab, other.lab)
            if motion.trust.mean() < _CUT:
                break
            found.append(NearMotion(distance, motion))
    return found


class ClickMotion:
    """Evidence from motion for what belongs to clicks on a frame; none where none is known."""

    def __init__(self, motions: Sequence[NearMotion], alphas: Sequence[np.ndarray]) -> None:
        """alphas: all that networks see of the frame, (h, w) float32 0..1 each."""
        most = np.max(alphas, axis=0)
        self._marked = most > _TRUSTED
        height, width = most.shape
        self._y, self._x = np.mgrid[0:height, 0:width].astype(np.float32)
        self._flows: dict[int, _Flow] = {}
        self._grounds: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for distance, motion in motions:
            flow = _Flow(motion.x - self._x, motion.y - self._y, motion.trust)
            self._flows[distance] = flow
            background = (most < _BACKGROUND) & (motion.trust > 0.5)
            ground = one_motion(motion, background, _FEWEST_GROUND)
            if ground is not None:
                self._grounds[distance] = ground[0] - self._x, ground[1] - self._y
        self._follows: dict[tuple[int, int], _Follow | None] = {}

    def __bool__(self) -> bool:
        """Whether any motion is known."""
        return bool(self._flows)

    def evidence(
        self, wanted: tuple[int, int], unwanted: Sequence[tuple[int, int]] = ()
    ) -> np.ndarray:
        """Logits (h, w) float32 for moving with a place (row, column) of the subject, and against
        moving with the background or with other places."""
        follow = self._follow(wanted)
        if follow is None:
            return np.zeros_like(self._x)
        other = np.minimum(follow.ground, _ALIKE)
        for found in map(self._follow, unwanted):
            if found is not None:
                near = blurred(found.area.astype(np.float32), _SIGMA) > _REACH
                other = np.where(near, np.minimum(other, found.own), other)
        logits = _GAIN * follow.known * (other - np.minimum(follow.own, _STRANGE))
        sure = np.maximum(cv2.erode(logits, _HALO), 0) + np.minimum(cv2.dilate(logits, _HALO), 0)
        return np.asarray(sure, np.float32)

    def bonds(self, width: int, height: int, axis: int) -> np.ndarray:
        """How much neighbours along an axis move alike, 0..1, of the maps at width x height."""
        total, shares = np.float32(0), np.float32(1e-3)
        for distance, flow in self._flows.items():
            x, y, trust = (
                cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in flow
            )
            step = np.hypot(np.diff(x, axis=axis), np.diff(y, axis=axis))
            pair = (trust[:, 1:], trust[:, :-1]) if axis else (trust[1:], trust[:-1])
            weight = np.minimum(*pair) + np.float32(0.05)
            scale = _STEP_SCALE + _PER_FRAME * abs(distance)
            total = total + weight * np.clip(step / scale, 0, _MOST_STEP)
            shares = shares + weight
        return np.asarray(np.exp(-_BOND_GAIN * total / shares), np.float32)

    def _follow(self, place: tuple[int, int]) -> _Follow | None:
        """What moves with a place; None where its own motion is not known."""
        if place not in self._follows:
            self._follows[place] = self._grown(place)
        return self._follows[place]

    def _grown(self, place: tuple[int, int]) -> _Follow | None:
        away = np.hypot(self._x - place[1], self._y - place[0])
        seed, inside = away <= _SEED_RADIUS, self._marked | (away < _UNIT)
        tolerances = self._tolerances(seed, place)
        if not tolerances:
            return None
        ground = self._errors(self._grounds, tolerances)[0]
        area = seed
        for _ in range(_ROUNDS):
            expected = {d: self._expected(self._flows[d], area) for d in tolerances}
            own, known = self._errors(expected, tolerances)
            joins = (own < 1) & (own < ground) & (known > 0.2) & inside
            joins &= cv2.dilate(area.astype(np.uint8), np.ones((2 * _STEP + 1,) * 2)) > 0
            _, labels = cv2.connectedComponents((joins | seed).astype(np.uint8))
            area = labels == labels[place]
        return _Follow(own, ground, known, area)

    def _tolerances(self, seed: np.ndarray, place: tuple[int, int]) -> dict[int, float]:
        """Pixels that count as one, by distance, where the seed's motion is known."""
        found = {}
        for distance, flow in self._flows.items():
            seen = seed & (flow.trust > _TRUSTED)
            if seen.sum() < _FEWEST_SEEDS:
                continue
            x, y = float(np.median(flow.x[seen])), float(np.median(flow.y[seen]))
            ground = self._grounds.get(distance)
            if ground is not None:
                x, y = x - float(ground[0][place]), y - float(ground[1][place])
            speed = float(np.hypot(x, y))
            found[distance] = _TOLERANCE + _PER_FRAME * abs(distance) + _PER_SPEED * speed
        return found

    def _expected(self, flow: _Flow, area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The motion x, y (h, w) of what moves with an area: its affine motion, and what that of
        its near parts differs from it."""
        weight = area * flow.trust
        rows, columns = np.nonzero(weight > _TRUSTED)
        step = max(1, len(rows) // _MOST_SAMPLES)
        rows, columns = rows[::step], columns[::step]
        left, top = columns.mean(), rows.mean()
        ones = np.ones(len(rows))
        matrix = np.stack([ones, (columns - left) / _UNIT, (rows - top) / _UNIT], 1)
        stiff = np.diag([1e-3, _STIFFNESS * len(rows), _STIFFNESS * len(rows)])
        there = np.stack([flow.x[rows, columns], flow.y[rows, columns]], 1)
        slopes = np.linalg.solve(matrix.T @ matrix + stiff, matrix.T @ there).astype(np.float32)
        x, y = (self._x - np.float32(left)) / _UNIT, (self._y - np.float32(top)) / _UNIT
        share = blurred(weight, _SIGMA) + np.float32(_LOCAL)
        planes = []
        for plane, (shift, by_x, by_y) in zip((flow.x, flow.y), slopes.T, strict=True):
            affine = np.asarray(shift + by_x * x + by_y * y, np.float32)
            planes.append(affine + blurred(weight * (plane - affine), _SIGMA) / share)
        return planes[0], planes[1]

    def _errors(
        self, expected: Mapping[int, tuple[np.ndarray, np.ndarray]], tolerances: dict[int, float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """How many tolerances each pixel's motion is from the expected, and how well that is known,
        0..1; many where it is expected nowhere."""
        total, shares = np.zeros_like(self._x), np.full_like(self._x, 1e-3)
        known = [distance for distance in tolerances if distance in expected]
        for distance in known:
            flow, (x, y) = self._flows[distance], expected[distance]
            away = np.sqrt(np.square(flow.x - x) + np.square(flow.y - y))
            total += flow.trust * away / np.float32(tolerances[distance])
            shares += flow.trust
        if not known:
            return total + np.float32(_STRANGE), total
        return total / shares, np.minimum(shares, 1)

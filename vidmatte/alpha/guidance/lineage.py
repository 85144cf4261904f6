"""Where a field's pixels come from: followed from the key frame, or new, and what became of them.

A pixel that motion has followed from a key frame is what the key says. A pixel that has just
come to light has no such history: whether it is the subject rests on its looks, and on what
it does next. What comes to light behind a subject that walks on, and stays with the
background, is background, however alike it looks; what comes to light while most of the
subject is hidden, looks like it and is nobody else's, is the subject coming back.
"""

from __future__ import annotations

import cv2
import numpy as np

from vidmatte.alpha.guidance.motion import Motion

_SIGMA = 12  # pixels: around a pixel whose subject's motion is asked for
_GROUND_SHARE = 0.02  # weight of the subject's usual motion where none of it is near
_APART, _APART_RANGE = 0.7, 1.0  # pixels a frame: subject against background
_FEWEST_GROUND, _MOST_GROUND = 200, 500  # pixels that the background's motion is found from
_GROWTH = 0.15  # of history a frame, where looks agree
_FOUND = 0.6  # history of what a search has found
_MOST_STRAYED = 2.0
_STRAY_LOGIT, _RETURN_LOGIT = 2.5, 2.0
_WHOLE, _HIDDEN_RANGE = 0.85, 0.35  # share of the usual area below which some of it is hidden


class Lineage:
    """Keeps (h, w) float32 maps beside the field: history, strayed, returned."""

    def __init__(self, height: int, width: int) -> None:
        self.history: np.ndarray = np.ones((height, width), np.float32)
        self._strayed: np.ndarray = np.zeros((height, width), np.float32)
        self._returned: np.ndarray = np.zeros((height, width), np.float32)
        self._stray_now = self._strayed
        self._velocity: np.ndarray | None = None
        self._y, self._x = np.mgrid[0:height, 0:width].astype(np.float32)

    def advance(self, motion: Motion, moved: np.ndarray, alpha: np.ndarray, area: float) -> None:
        """Carry the maps to the next frame and look what moves with the background.

        moved: the last field, carried. alpha: the network's. area: the subject's usual one.
        """
        self.history = motion.carry(self.history) * motion.trust
        self._stray_now = self._moves_with_ground(motion, moved, alpha, area)
        strayed = motion.carry(self._strayed) * motion.trust + self._stray_now * (1 - self.history)
        self._strayed = np.minimum(strayed, np.float32(_MOST_STRAYED))
        self._returned = motion.carry(self._returned) * motion.trust

    def evidence(self, alike: np.ndarray, visible: float, told_apart: float) -> np.ndarray:
        """Logits for and against what is new.

        alike: 0..1, looks like the subject and is marked by the network. visible: share of the
        subject's usual area in the last frame. told_apart: whether looks tell it from others.
        """
        hidden = np.float32(np.clip((_WHOLE - visible) / _HIDDEN_RANGE, 0, 1))
        self._returned = np.minimum(self._returned + hidden * (1 - self.history) * alike, 1)
        gain = np.float32(_RETURN_LOGIT * (2 - told_apart))
        return np.asarray(gain * self._returned - np.float32(_STRAY_LOGIT) * self._strayed)

    def found(self, field: np.ndarray) -> None:
        """After a search: what was found has a history from here on."""
        self.history = np.maximum(self.history, np.float32(_FOUND) * (field > 0.5))

    def settle(self, field: np.ndarray, look: np.ndarray, told_apart: float) -> None:
        """Let what is new gain history where looks (or time, where they tell nothing) agree."""
        mine = field > 0.5
        told = np.float32(told_apart)
        agree = told * np.clip(np.where(mine, look, -look) / 3, 0, 1) + (1 - told)
        agree = agree * np.where(mine, 1 - self._stray_now, 1)
        self.history = self.history + (1 - self.history) * np.float32(_GROWTH) * agree

    def _moves_with_ground(
        self, motion: Motion, moved: np.ndarray, alpha: np.ndarray, area: float
    ) -> np.ndarray:
        """0..1: how much a pixel moves with the background and not with the subject."""
        flow_x, flow_y = motion.x - self._x, motion.y - self._y
        ground = self._ground_flow(motion, (alpha < 0.3) & (moved < 0.2) & (motion.trust > 0.5))
        if ground is None:
            return np.zeros_like(moved)
        ground_x, ground_y = ground
        own = moved * np.clip((self.history - 0.4) / 0.4, 0, 1)
        total = float(own.sum())
        if total > 0.15 * area:
            drift = [(own * (flow_x - ground_x)).sum(), (own * (flow_y - ground_y)).sum()]
            now = np.array(drift, np.float32) / np.float32(total)
            last = now if self._velocity is None else self._velocity
            self._velocity = np.float32(0.8) * last + np.float32(0.2) * now
        if self._velocity is None:
            return np.zeros_like(moved)
        weight = moved * self.history * motion.trust
        share = np.float32(_GROUND_SHARE)
        near = _blurred(weight) + share
        own_x = (_blurred(weight * flow_x) + share * (ground_x + self._velocity[0])) / near
        own_y = (_blurred(weight * flow_y) + share * (ground_y + self._velocity[1])) / near
        apart = np.hypot(own_x - ground_x, own_y - ground_y)
        to_own = np.hypot(flow_x - own_x, flow_y - own_y)
        to_ground = np.hypot(flow_x - ground_x, flow_y - ground_y)
        nearer = np.clip((to_own - to_ground) / np.maximum(apart, np.float32(1e-3)), 0, 1)
        return np.asarray(nearer * np.clip((apart - _APART) / _APART_RANGE, 0, 1) * motion.trust)

    def _ground_flow(
        self, motion: Motion, ground: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """The background's motion as a shift, turn and scale; None where too little is seen."""
        rows, columns = np.nonzero(ground)
        if len(rows) < _FEWEST_GROUND:
            return None
        step = max(1, len(rows) // _MOST_GROUND)
        rows, columns = rows[::step], columns[::step]
        here = np.stack([columns, rows], 1).astype(np.float32)
        there = np.stack([motion.x[rows, columns], motion.y[rows, columns]], 1)
        found, _ = cv2.estimateAffinePartial2D(
            here, there, method=cv2.RANSAC, ransacReprojThreshold=1.0
        )
        if found is None:
            return None
        m = found.astype(np.float32)
        x = m[0, 0] * self._x + m[0, 1] * self._y + m[0, 2] - self._x
        y = m[1, 0] * self._x + m[1, 1] * self._y + m[1, 2] - self._y
        return x, y


def _blurred(values: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), _SIGMA))

"""What was where: how far each pixel's side goes back to the key, and what motion gets wrong.

``Lineage`` remembers how the subject moved; ``Uncovered`` finds the background that it uncovers.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from vidmatte.alpha.guidance.coarse_features import squared_length
from vidmatte.alpha.guidance.motion import Motion, blurred, one_motion

_NOISE_GAIN, _NOISE_FLOOR = 4.0, 4.0  # of squared Lab differences that noise alone makes
_BETTER = 1.5  # times: so much worse must the subject's motion predict a pixel
_SPEED, _SPEED_RANGE = 0.3, 0.5  # pixels a frame, the subject against the background
_EXPLAINED, _EXPLAINED_RANGE = 0.2, 0.5  # of 1 a frame that the background explains
_PREDICTS, _PREDICTS_RANGE = 0.8, 0.2  # the most error of the subject's motion, of the other's
_MARKED, _MARKED_RANGE = 0.8, 0.2  # the network's alpha from which a pixel is no background


class Inside(NamedTuple):
    """Of a frame, (h, w) float32 0..1: the moved field, what is surely the subject, the alpha."""

    moved: np.ndarray
    sure: np.ndarray
    alpha: np.ndarray


class Uncovered:
    """The background that a subject has left behind and that motion still counts as its own.

    Optical flow drags along, with full trust, what is about as dark or as plain as the subject.
    Here both motions predict the frame from the last one: such a pixel is explained by the
    background's frame after frame, and not by the subject's, and its place has changed since the
    field came there: parts of the subject that rest have not. Maps move with the background.
    """

    def __init__(self, like: np.ndarray) -> None:
        """like: (h, w) float32."""
        self._found = self._explained = self._changed = np.zeros_like(like)

    def take(self) -> np.ndarray:
        """0..1, how surely each pixel is such, (h, w) float32, of the last ``update`` once."""
        found, self._found = self._found, np.zeros_like(self._found)
        return found

    def update(
        self,
        labs: tuple[np.ndarray, np.ndarray],
        inside: Inside,
        flows: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
        apart: np.ndarray,
        speed: float,
    ) -> None:
        """labs: the colours of the frame and the last one. flows: x and y of the background's
        motion and of the subject's. apart: how far apart these two are, (h, w) float32. speed: of
        the subject against the background."""
        ground, own = (_Warp(*flow) for flow in flows)
        as_ground, as_own = (
            cv2.blur(squared_length(warp(labs[1]) - labs[0]), (5, 5)) for warp in (ground, own)
        )
        moved, alpha = inside.moved, inside.alpha
        outside = as_ground[(alpha < 0.3) & (moved < 0.2)]
        noise = np.float32(_NOISE_GAIN * float(np.median(outside)) + _NOISE_FLOOR)
        changes = np.clip(as_ground / (2 * noise) - 1, 0, 1) * (moved > 0.3)
        self._changed = np.maximum(ground(self._changed), changes)
        moves = _ramp(apart, _SPEED, _SPEED_RANGE) * _ramp(speed, _SPEED, _SPEED_RANGE)
        better = np.clip((as_own - np.float32(_BETTER) * as_ground) / noise, -1, 1) * moves
        same = np.clip(2 - 2 * as_ground / noise, 0, 1)
        self._explained = np.clip((ground(self._explained) + better) * same, 0, 2)
        errors = [float((inside.sure * one).sum()) for one in (as_own, as_ground)]
        wrong = errors[0] / max(errors[1], 1.0)
        known = 1 - _ramp(wrong, _PREDICTS, _PREDICTS_RANGE)
        found = _ramp(self._explained, _EXPLAINED, _EXPLAINED_RANGE) * self._changed * known
        found *= (moved > 0.1) * (1 - _ramp(alpha, _MARKED, _MARKED_RANGE))
        self._found = found.astype(np.float32)


class _Warp:
    """Carries maps of the last frame along a flow x, y (h, w) float32."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        columns = np.arange(x.shape[1], dtype=np.float32)
        rows = np.arange(x.shape[0], dtype=np.float32)[:, None]
        self._x, self._y = x + columns, y + rows

    def __call__(self, values: np.ndarray) -> np.ndarray:
        warped = cv2.remap(
            values, self._x, self._y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(warped)


def _ramp(values: np.ndarray | float, start: float, width: float) -> np.ndarray:
    """0 up to ``start``, 1 from ``start`` + ``width`` on, float32."""
    return np.asarray(np.clip((np.asarray(values, np.float32) - start) / width, 0, 1), np.float32)


_SIGMA = 12  # pixels: around a pixel whose subject's motion is asked for
_GROUND_SHARE = 0.02  # weight of the subject's usual motion where none of it is near
_APART, _APART_RANGE = 0.7, 1.0  # pixels a frame: two motions that can be told apart
_FEWEST_GROUND = 200  # pixels that the background's motion is found from
_GROWTH = 0.15  # of history a frame, where looks agree
_FOUND = 0.6  # history of what a search has found
_MOST_STRAYED = 2.0
_STRAY_LOGIT, _RETURN_LOGIT = 2.5, 2.0
_JOIN_LOGIT = 3.0
_NEAR = 0.05  # of the pixels around, weighed, that are the subject, or another one
_WITH_OTHER = 0.2  # from here on what moves like another one is theirs
_NO_HISTORY = 1.5  # times its history less is how new a pixel is
_WHOLE, _HIDDEN_RANGE = 0.85, 0.35  # share of the usual area below which some of it is hidden
_Flow = tuple[np.ndarray, np.ndarray]  # x and y, (h, w) float32, pixels a frame


class Lineage:
    """Keeps (h, w) float32 maps beside the field.

    history: how well a pixel's side is established; it grows where looks agree. unbroken: trust
    in its motion all the way back to the key, where its side was given. key: that side, the key's
    mask carried by motion alone. Further ones say what strayed, moving with the background
    or with another one, what returned, and what joined: new in the picture, marked, moving with
    the subject beside it.
    """

    def __init__(self, mask: np.ndarray, lab: np.ndarray) -> None:
        """Begin at a key's mask (h, w) float32 0..1 and the frame's colours (h, w, 3) float32."""
        self.last_lab = lab
        self.restart(mask)
        height, width = mask.shape
        self._stray_now = self._joins_now = self._strayed
        self._velocity: np.ndarray | None = None
        self._y, self._x = np.mgrid[0:height, 0:width].astype(np.float32)

    def restart(self, mask: np.ndarray) -> None:
        """Go on from a further key's mask (h, w) float32 0..1; the subject's speed is kept."""
        self.key = mask
        self.history: np.ndarray = np.ones_like(mask)
        self.unbroken: np.ndarray = np.ones_like(mask)
        self._strayed: np.ndarray = np.zeros_like(mask)
        self._returned: np.ndarray = np.zeros_like(mask)
        self._entered: np.ndarray = np.zeros_like(mask)
        self._joined: np.ndarray = np.zeros_like(mask)
        self._uncovered = Uncovered(mask)

    def advance(
        self, motion: Motion, moved: np.ndarray, alpha: np.ndarray, area: float, lab: np.ndarray
    ) -> None:
        """Carry the maps to the next frame and look what moves with the subject, and what does not.

        moved: the last field, carried. alpha: the network's. area: the subject's usual one.
        lab: the frame's colours (h, w, 3) float32.
        """
        self._labs, self.last_lab = (lab, self.last_lab), lab
        self.history = motion.carry(self.history) * motion.trust
        self.unbroken = motion.carry(self.unbroken) * motion.trust
        self.key = motion.carry(self.key)
        self._entered = motion.carry(self._entered, outside=1)
        self._joined = motion.carry(self._joined) * motion.trust
        away = self._moves_apart(motion, moved, alpha, area)
        self._joins_now = np.maximum(-away, 0) * np.clip(2 * alpha - 0.5, 0, 1)
        left = self._uncovered.take()
        self.history, self.unbroken = self.history * (1 - left), self.unbroken * (1 - left)
        self._stray_now = np.maximum(away, left)
        strayed = motion.carry(self._strayed) * motion.trust + self._stray_now * (1 - self.history)
        strayed -= np.maximum(-away, 0)
        self._strayed = np.clip(strayed, 0, np.float32(_MOST_STRAYED))
        self._returned = motion.carry(self._returned) * motion.trust

    def evidence(self, alike: np.ndarray, visible: float, distinctness: float) -> np.ndarray:
        """Logits for and against what is new.

        alike: 0..1, looks like the subject and is marked by the network. visible: share of the
        subject's usual area in the last frame. distinctness: 0..1, how well looks
        distinguish it from others.
        """
        hidden = np.float32(np.clip((_WHOLE - visible) / _HIDDEN_RANGE, 0, 1))
        self._returned = np.minimum(self._returned + hidden * (1 - self.history) * alike, 1)
        new = np.maximum(1 - np.float32(_NO_HISTORY) * self.history, 0) * alike
        joins = self._joins_now * np.maximum(self._entered, new)
        self._joined = np.minimum(self._joined + joins, 1)
        gain = np.float32(_RETURN_LOGIT * (2 - distinctness))
        joined = np.float32(_JOIN_LOGIT) * self._joined
        return np.asarray(joined + gain * self._returned - np.float32(_STRAY_LOGIT) * self._strayed)

    def found(self, field: np.ndarray) -> None:
        """After a search: what was found has a history from here on."""
        self.history = np.maximum(self.history, np.float32(_FOUND) * (field > 0.5))

    def settle(self, field: np.ndarray, look: np.ndarray, distinctness: float) -> None:
        """Let what is new gain history where looks agree, or with time where looks do not help."""
        mine = field > 0.5
        weight = np.float32(distinctness)
        agree = weight * np.clip(np.where(mine, look, -look) / 3, 0, 1) + (1 - weight)
        agree = agree * np.where(mine, 1 - self._stray_now, 1)
        agree = np.maximum(agree, self._joined * mine)
        self.history = self.history + (1 - self.history) * np.float32(_GROWTH) * agree

    def _moves_apart(
        self, motion: Motion, moved: np.ndarray, alpha: np.ndarray, area: float
    ) -> np.ndarray:
        """From 1, a pixel moves with the background or with another one near it, to -1, it moves
        with the subject around."""
        flow = motion.x - self._x, motion.y - self._y
        outside = (alpha < 0.3) & (moved < 0.2) & (motion.trust > 0.5)
        found = one_motion(motion, outside, _FEWEST_GROUND)
        if found is None:
            return np.zeros_like(moved)
        ground = found[0] - self._x, found[1] - self._y
        sure = moved * np.clip((self.history - 0.4) / 0.4, 0, 1)
        if (velocity := self._velocity_now(sure, flow, ground, area)) is None:
            return np.zeros_like(moved)
        weight, share = moved * self.history * motion.trust, np.float32(_GROUND_SHARE)
        near = blurred(weight, _SIGMA) + share
        own_x, own_y = (
            (blurred(weight * one, _SIGMA) + share * (usual + speed)) / near
            for one, usual, speed in zip(flow, ground, velocity, strict=True)
        )
        own = own_x, own_y
        apart, to_own, to_ground = _apart(own, ground), _apart(flow, own), _apart(flow, ground)
        here, speed = Inside(moved, sure, alpha), float(np.hypot(*velocity))
        self._uncovered.update(self._labs, here, (ground, own), apart, speed)
        away = _nearer(to_own, to_ground, apart)
        away = np.where(near > _NEAR, away, np.maximum(away, 0))
        weight = np.square(1 - moved) * np.clip(2 * alpha - 0.5, 0, 1) * motion.trust
        weight = weight * _ramp(to_ground, _APART, _APART_RANGE)
        with_other = _with_other(weight, flow, own, to_own)
        away = np.where(with_other > _WITH_OTHER, np.maximum(with_other, away), away)
        return np.asarray(away * motion.trust)

    def _velocity_now(
        self, sure: np.ndarray, flow: _Flow, ground: _Flow, area: float
    ) -> np.ndarray | None:
        """The subject's usual speed against the background, (2,) float32; None until it is known.

        sure: (h, w) float32 0..1, what is surely the subject."""
        total = float(sure.sum())
        if total > 0.15 * area:
            pairs = zip(flow, ground, strict=True)
            now = np.array([(sure * (one - other)).sum() for one, other in pairs], np.float32)
            now /= np.float32(total)
            last = now if self._velocity is None else self._velocity
            self._velocity = np.float32(0.8) * last + np.float32(0.2) * now
        return self._velocity


def _with_other(weight: np.ndarray, flow: _Flow, own: _Flow, to_own: np.ndarray) -> np.ndarray:
    """How surely a pixel moves like another one near it and not like the subject, up to 1.

    weight: (h, w) float32 0..1, what is another one. own: the subject's motion around each pixel.
    to_own: from the pixel's motion to that, (h, w) float32.
    """
    near = blurred(weight, _SIGMA)
    x, y = (blurred(weight * one, _SIGMA) / np.maximum(near, np.float32(1e-3)) for one in flow)
    found = _nearer(to_own, _apart(flow, (x, y)), _apart(own, (x, y)))
    return np.asarray(found * _ramp(near, 0, _NEAR))


def _nearer(to_one: np.ndarray, to_other: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Whose motion a pixel's is: from -1, the one's, to 1, the other's; 0 where they are alike.

    Distances (h, w) float32, pixels a frame: of the pixel's motion to both, and between both.
    """
    between = np.clip((to_one - to_other) / np.maximum(apart, np.float32(1e-3)), -1, 1)
    return np.asarray(between * _ramp(apart, _APART, _APART_RANGE))


def _apart(one: _Flow, other: _Flow) -> np.ndarray:
    """The distance of two motions, float32. OpenCV's own depends on where arrays lie in memory."""
    return np.asarray(np.sqrt(np.square(one[0] - other[0]) + np.square(one[1] - other[1])))

"""Where each pixel of a small frame lies in its neighbour, and how far that can be trusted.

Dense inverse search (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV
2016, as in OpenCV) both ways between two grey pictures, then a round trip and a look at the
colours: what does not come back to itself, or arrives at another colour, is not trusted.
``Lineage`` remembers how the subject moved.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.alpha.guidance.coarse_features import squared_length
from vidmatte.alpha.guidance.store import FlowStore
from vidmatte.alpha.guidance.uncovered import Inside, Uncovered

# Pixels of round-trip error that are normal: of a still pixel, and more for each pixel moved.
_ROUND_TRIP, _ROUND_TRIP_PER_PIXEL = 0.8, 0.1
# Squared Lab distance that noise alone makes, and the deviation beyond it.
_COLOUR_NOISE, _COLOUR_SIGMA = 30.0, 14.0


@dataclass(frozen=True)
class Motion:
    """Motion from a frame to its neighbour, at the work size.

    x, y: (h, w) float32, where each pixel lies in the neighbour. trust: (h, w) float32, 0..1.
    """

    x: np.ndarray
    y: np.ndarray
    trust: np.ndarray

    def carry(self, values: np.ndarray) -> np.ndarray:
        """The neighbour's values (h, w) float32 moved to this frame, 0 from outside of it."""
        moved = cv2.remap(
            values, self.x, self.y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
        )
        return np.asarray(moved)


_FLOW_STEPS = 64  # of a pixel, in which flow is kept


class MotionSearch:
    """Finds motion between small frames. Not for use by two threads at once.

    flows: remembers what was found; None to find it each time.
    """

    def __init__(self, flows: FlowStore | None = None) -> None:
        self._flows = flows
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._search.setFinestScale(1)

    def flow(self, grey: np.ndarray, other: np.ndarray, width: int, height: int) -> np.ndarray:
        """Flow from grey to other, both (H, W) uint8, as (height, width, 2) float32 pixels."""
        found = self._search.calc(grey, other, None)
        small = cv2.resize(found, (width, height), interpolation=cv2.INTER_AREA)
        scale = np.array([width / grey.shape[1], height / grey.shape[0]], np.float32)
        return np.asarray(small * scale)

    def between(
        self,
        grey: np.ndarray,
        other_grey: np.ndarray,
        lab: np.ndarray,
        other_lab: np.ndarray,
        pair: tuple[int, int] | None = None,
    ) -> Motion:
        """Motion from a frame to another one.

        grey, other_grey: (H, W) uint8. lab, other_lab: (h, w, 3) float32 at the work size.
        pair: the two frames' numbers, if they are neighbours in the clip of ``flows``.
        """
        height, width = lab.shape[:2]
        codes = self._flows.get(*pair, (height, width)) if self._flows and pair else None
        if codes is None:
            ways = (grey, other_grey), (other_grey, grey)
            found = np.stack([self.flow(one, other, width, height) for one, other in ways])
            steps = np.rint(found * np.float32(_FLOW_STEPS))
            codes = np.clip(steps, -(1 << 15), (1 << 15) - 1).astype(np.int16)
            if self._flows and pair:
                self._flows.put(*pair, codes)
        flow, back = codes * np.float32(1 / _FLOW_STEPS)
        return _trusted_motion(lab, other_lab, flow, back)


def _trusted_motion(
    lab: np.ndarray, other_lab: np.ndarray, flow: np.ndarray, back: np.ndarray
) -> Motion:
    """Motion along ``flow`` (h, w, 2), trusted where ``back`` returns and colours agree."""
    height, width = lab.shape[:2]
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]

    def at(values: np.ndarray) -> np.ndarray:
        return np.asarray(
            cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        )

    trip = squared_length(flow + at(back))
    normal = np.sqrt(squared_length(flow))
    normal *= np.float32(_ROUND_TRIP_PER_PIXEL)
    normal += np.float32(_ROUND_TRIP)
    trip /= np.square(normal)
    colour = cv2.blur(squared_length(at(other_lab) - lab), (3, 3))
    colour -= np.float32(_COLOUR_NOISE)
    np.maximum(colour, 0, out=colour)
    colour *= np.float32(1 / _COLOUR_SIGMA**2)
    trust = cv2.exp(np.float32(-0.5) * (trip + colour))
    trust *= (x >= 0) & (x < width - 1) & (y >= 0) & (y < height - 1)
    return Motion(x, y, np.asarray(trust))


_OWN_TRUST = 0.5  # of flow: from there on it is not replaced
_OWN_INSIDE = 0.7  # the moved field from which a pixel shows the subject's motion
_FEWEST_OWN, _MOST_OWN = 50, 500  # pixels that the subject's motion is found from
_OWN_GAIN = 1.2  # times: so much worse must flow predict a pixel's colour
_OWN_NOISE = 10.0  # and by so much, of squared Lab distance


def with_own_motion(
    motion: Motion, field: np.ndarray, lab: np.ndarray, last_lab: np.ndarray
) -> Motion:
    """The motion where flow fails on the subject: there, that of the subject as one body.

    Flow goes from coarse to fine, and loses what is thin and moves far: arms. Where it is not
    trusted, and a shift, turn and scale found from the rest of the subject leads to the subject
    and predicts the colour better, that is taken. field: the neighbour's (h, w) float32 0..1.
    lab, last_lab: colours (h, w, 3) float32 of the frame and of its neighbour.
    """
    moved = motion.carry(field)
    doubted = motion.trust < _OWN_TRUST
    own = _body_motion(motion, (moved > _OWN_INSIDE) & ~doubted)
    if own is None:
        return motion
    arrives = own.carry(field) > 0.5
    errors = [_colour_error(one, lab, last_lab) for one in (motion, own)]
    better = np.float32(_OWN_GAIN) * errors[1] + np.float32(_OWN_NOISE) < errors[0]
    taken = doubted & arrives & better
    trust = _colour_trust(errors[1])
    pairs = (motion.x, own.x), (motion.y, own.y), (motion.trust, trust)
    return Motion(*(np.where(taken, new, old) for old, new in pairs))


def _body_motion(motion: Motion, body: np.ndarray) -> Motion | None:
    """The one shift, turn and scale that most of a mask (h, w) follows; None of a small one."""
    found = _one_motion(motion, body, _FEWEST_OWN, _MOST_OWN)
    if found is None:
        return None
    height, width = body.shape
    columns = np.arange(width, dtype=np.float32)
    rows = np.arange(height, dtype=np.float32)[:, None]
    x, y = (m[0] * columns + m[1] * rows + m[2] for m in found)
    return Motion(x, y, motion.trust)


def _one_motion(
    motion: Motion, mask: np.ndarray, fewest: int, most: int
) -> np.ndarray | None:
    """The matrix (2, 3) float32 of the motion that most of a mask follows; None if too small."""
    rows, columns = np.nonzero(mask)
    if len(rows) < fewest:
        return None
    step = max(1, len(rows) // most)
    rows, columns = rows[::step], columns[::step]
    here = np.stack([columns, rows], 1).astype(np.float32)
    there = np.stack([motion.x[rows, columns], motion.y[rows, columns]], 1)
    found, _ = cv2.estimateAffinePartial2D(
        here, there, method=cv2.RANSAC, ransacReprojThreshold=1.0
    )
    return None if found is None else found.astype(np.float32)


def _colour_error(motion: Motion, lab: np.ndarray, other_lab: np.ndarray) -> np.ndarray:
    """Squared Lab distance of where each pixel leads to, mean of 3 x 3, (h, w) float32."""
    there = cv2.remap(
        other_lab, motion.x, motion.y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(cv2.blur(squared_length(there - lab), (3, 3)))


def _colour_trust(error: np.ndarray) -> np.ndarray:
    excess = np.maximum(error - np.float32(_COLOUR_NOISE), 0)
    return np.asarray(cv2.exp(excess * np.float32(-0.5 / _COLOUR_SIGMA**2)))


_SIGMA = 12  # pixels: around a pixel whose subject's motion is asked for
_GROUND_SHARE = 0.02  # weight of the subject's usual motion where none of it is near
_APART, _APART_RANGE = 0.7, 1.0  # pixels a frame: subject against background
_FEWEST_GROUND, _MOST_GROUND = 200, 500  # pixels that the background's motion is found from
_GROWTH = 0.15  # of history a frame, where looks agree
_FOUND = 0.6  # history of what a search has found
_MOST_STRAYED = 2.0
_STRAY_LOGIT, _RETURN_LOGIT = 2.5, 2.0
_JOIN_LOGIT = 3.0
_JOIN_NEAR = 0.05
_JOIN_GROWTH = 0.15
_WHOLE, _HIDDEN_RANGE = 0.85, 0.35  # share of the usual area below which some of it is hidden


class Lineage:
    """Keeps (h, w) float32 maps beside the field: history, unbroken, key, strayed, returned.

    history: how well a pixel's side is established; it grows where looks agree. unbroken: trust
    in its motion all the way back to the key, where its side was given. key: that side, the key's
    mask carried by motion alone.
    """

    def __init__(self, mask: np.ndarray, lab: np.ndarray) -> None:
        """Begin at a key's mask (h, w) float32 0..1 and the frame's colours (h, w, 3) float32."""
        self.last_lab = lab
        self.restart(mask)
        height, width = mask.shape
        self._stray_now = self._strayed
        self._entered = np.zeros_like(mask)
        self._fate = self._joined = np.zeros_like(mask)
        self._velocity: np.ndarray | None = None
        self._y, self._x = np.mgrid[0:height, 0:width].astype(np.float32)

    def restart(self, mask: np.ndarray) -> None:
        """Go on from a further key's mask (h, w) float32 0..1; the subject's speed is kept."""
        self.key = mask
        self.history: np.ndarray = np.ones_like(mask)
        self.unbroken: np.ndarray = np.ones_like(mask)
        self._strayed: np.ndarray = np.zeros_like(mask)
        self._returned: np.ndarray = np.zeros_like(mask)
        self._uncovered = Uncovered(mask)

    def advance(
        self, motion: Motion, moved: np.ndarray, alpha: np.ndarray, area: float, lab: np.ndarray
    ) -> None:
        """Carry the maps to the next frame and look what moves with the background.

        moved: the last field, carried. alpha: the network's. area: the subject's usual one.
        lab: the frame's colours (h, w, 3) float32.
        """
        self._labs, self.last_lab = (lab, self.last_lab), lab
        self.history = motion.carry(self.history) * motion.trust
        self.unbroken = motion.carry(self.unbroken) * motion.trust
        self.key = motion.carry(self.key)
        self._entered = cv2.remap(self._entered, motion.x, motion.y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=1)
        self._joined = motion.carry(self._joined) * motion.trust
        self._fate = np.zeros_like(moved)
        stray = self._moves_with_ground(motion, moved, alpha, area)
        left = self._uncovered.take()
        self.history, self.unbroken = self.history * (1 - left), self.unbroken * (1 - left)
        self._stray_now = np.maximum(stray, left)
        strayed = motion.carry(self._strayed) * motion.trust + self._stray_now * (1 - self.history)
        self._strayed = np.minimum(strayed, np.float32(_MOST_STRAYED))
        self._returned = motion.carry(self._returned) * motion.trust

    def evidence(self, alike: np.ndarray, visible: float, distinctness: float) -> np.ndarray:
        """Logits for and against what is new.

        alike: 0..1, looks like the subject and is marked by the network. visible: share of the
        subject's usual area in the last frame. distinctness: 0..1, how well looks
        distinguish it from others.
        """
        hidden = np.float32(np.clip((_WHOLE - visible) / _HIDDEN_RANGE, 0, 1))
        self._returned = np.minimum(self._returned + hidden * (1 - self.history) * alike, 1)
        self._joined = np.minimum(self._joined + self._fate, 1)
        joined = np.float32(_JOIN_LOGIT) * self._joined
        gain = np.float32(_RETURN_LOGIT * (2 - distinctness))
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
        agree = np.maximum(agree * np.float32(_GROWTH), np.float32(_JOIN_GROWTH) * self._joined * mine)
        self.history = self.history + (1 - self.history) * agree

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
        apart = _length(own_x - ground_x, own_y - ground_y)
        to_own = _length(flow_x - own_x, flow_y - own_y)
        to_ground = _length(flow_x - ground_x, flow_y - ground_y)
        here = Inside(moved, own, alpha)
        motions = (ground_x, ground_y), (own_x, own_y)
        speed = float(np.hypot(*self._velocity))
        self._uncovered.update(self._labs, here, motions, apart, speed)
        with_own = np.clip((to_ground - to_own) / np.maximum(apart, np.float32(1e-3)), 0, 1)
        with_own *= np.clip((apart - _APART) / _APART_RANGE, 0, 1) * motion.trust
        self._fate = with_own * self._entered * (near > _JOIN_NEAR) * np.clip(2 * alpha - 0.5, 0, 1)
        nearer = np.clip((to_own - to_ground) / np.maximum(apart, np.float32(1e-3)), 0, 1)
        return np.asarray(nearer * np.clip((apart - _APART) / _APART_RANGE, 0, 1) * motion.trust)

    def _ground_flow(
        self, motion: Motion, ground: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """The background's motion as a shift, turn and scale; None where too little is seen."""
        m = _one_motion(motion, ground, _FEWEST_GROUND, _MOST_GROUND)
        if m is None:
            return None
        x = m[0, 0] * self._x + m[0, 1] * self._y + m[0, 2] - self._x
        y = m[1, 0] * self._x + m[1, 1] * self._y + m[1, 2] - self._y
        return x, y


def _length(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of vectors (x, y), float32. OpenCV's own depends on where the arrays lie in memory."""
    return np.asarray(np.sqrt(np.square(x) + np.square(y)))


def _blurred(values: np.ndarray) -> np.ndarray:
    """Blurred by ``_SIGMA``, at a quarter of the size: so soft, nothing is lost there."""
    height, width = values.shape
    quarter = -(-width // 4), -(-height // 4)
    small = cv2.resize(values, quarter, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), _SIGMA / 4)
    return np.asarray(cv2.resize(small, (width, height)))

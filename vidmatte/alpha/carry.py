"""Mattes carried along the motion to the frames between two key frames.

A network decides nearly the same in every frame; what changes is where things are. Between two
frames that it ran on, a frame's alpha is taken from both sides: each key frame's matte is
sampled where the motion says that a pixel was or will be, and the nearer one counts more. The
temporal filter, which comes next, redraws the edge by the frame's own colours.

How far a carried matte can be trusted is judged at the coarse scale: see ``_Doubts``. Everything
here depends on the frames from one key frame to the next and on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np

from vidmatte.alpha.box import Box, Pixels, box_around, pixels_under, sample, to_working
from vidmatte.alpha.flow import CoarseFrame, FlowField, MotionEstimator, remap, squared_length
from vidmatte.core.concurrency import map_in_order
from vidmatte.core.frame import Frame

_SIDE = 320  # of a reduced frame's longer side, about
_FULL_SCALE = 65535
_PRESENT = 0.01  # alpha that counts as subject
_SURE_LOW, _SURE_HIGH = 0.005, 0.985  # outside, the coarse alpha is enough
_DIFFERS = 0.004  # between the two sides: there, too, alpha is sampled at full resolution
_LEAST_WEIGHT = 1e-3  # of a side that is not trusted: where neither is, the nearer one counts
#: Of the further key frame, seen in another view: the filter weighs views against each other.
_OTHER_VIEW = 0.02
_EDGE_REACH = 4  # coarse pixels around the edge whose colours are compared
_PATCH = 9  # coarse pixels, a side of what is judged together
_COLOUR_SIGMA, _COLOUR_NOISE = 12.0, 12.0  # of 8-bit codes; variance that noise explains


@dataclass(frozen=True)
class ReducedFrame:
    """A frame as the search for motion needs it.

    grey: (h, w) uint8. rgb: (h, w, 3) uint8.
    """

    grey: np.ndarray
    rgb: np.ndarray

    @classmethod
    def of(cls, rgb: np.ndarray) -> ReducedFrame:
        """Reduce a picture (H, W, 3) uint8."""
        height, width = rgb.shape[:2]
        factor = max(1, round(max(height, width) / _SIDE))
        coarse = tuple(max(1, -(-side // factor)) for side in (width, height))
        small = cv2.resize(rgb, coarse, interpolation=cv2.INTER_AREA)
        return cls(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), small)


@dataclass(frozen=True)
class KeyMatte:
    """The matte of a frame that the network ran on, to be carried to others.

    codes: alpha, 0..65535, (H', W') uint16 within ``box`` of the frame; alpha is 0 outside.
    coarse: alpha at the coarse scale, (h, w) float32. mirrored, augment_phase: see ``Frame``.
    """

    codes: np.ndarray
    box: Box
    coarse: np.ndarray
    mirrored: bool
    augment_phase: int

    @classmethod
    def of_frame(cls, frame: Frame, reduced: ReducedFrame) -> KeyMatte:
        """Keep a copy of a frame's alpha."""
        assert frame.alpha is not None
        return cls.of_alpha(frame.alpha, reduced, frame.mirrored, frame.augment_phase)

    @classmethod
    def of_alpha(
        cls, alpha: np.ndarray, reduced: ReducedFrame, mirrored: bool = False, phase: int = 0
    ) -> KeyMatte:
        """Keep a copy of alpha (H, W) float32."""
        height, width = reduced.rgb.shape[:2]
        coarse = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_AREA)
        box = box_around(coarse > _PRESENT / 2).grown(2, height, width)
        box = box.enlarged(coarse.shape, *alpha.shape)
        part = box.crop(alpha)
        codes = cv2.multiply(part, float(_FULL_SCALE), dtype=cv2.CV_16U) if part.size else part
        return cls(codes, box, coarse, mirrored, phase)


@dataclass(frozen=True)
class _Doubts:
    """Why a carried matte may be wrong: the worst place's mean over a patch, 0 where all is well.

    disagreement: of the two sides' alpha, 0..1. colour: of the edge's colours, the share that
    neither side explains, 0..1. motion: the same of the trust in its motion. speed: of the
    subject, in longer sides of the frame per frame. share: of the subject where the sides differ.
    """

    disagreement: float
    colour: float
    motion: float
    speed: float
    share: float


@dataclass(frozen=True)
class Limits(_Doubts):
    """The most doubt with which a matte is still carried."""

    def exceeded_by(self, doubts: _Doubts) -> bool:
        """Whether any doubt is larger than its limit."""
        return any(getattr(doubts, name) > limit for name, limit in vars(self).items())


STRICT = Limits(disagreement=0.8, colour=0.9, motion=0.9, speed=0.009, share=0.08)
LOOSE = Limits(disagreement=0.5, colour=0.9, motion=0.7, speed=0.02, share=1.0)
STILL = replace(STRICT, disagreement=1.0)  # of mattes from one view each


@dataclass
class _Side:
    """What a key frame says of a frame: the way there, and within the way's box its alpha, (h, w)
    float32, and its colours, (h, w, 3) uint8. nearness: its weight, by the frames between them."""

    key: KeyMatte
    way: FlowField
    alpha: np.ndarray
    rgb: np.ndarray
    nearness: np.float32

    def weight(self, trust: np.ndarray) -> np.ndarray:
        """How much it counts where its way has that trust."""
        return np.asarray(self.nearness * np.maximum(trust, np.float32(_LEAST_WEIGHT)))


class Stretch:
    """The frames from one key frame to the next.

    frames: all of them, the two key frames first and last. Both have mattes.
    """

    def __init__(
        self, frames: Sequence[ReducedFrame], first: KeyMatte, last: KeyMatte, threads: int = 1
    ) -> None:
        self._frames, self._threads = frames, threads
        self._keys = {0: first, len(frames) - 1: last}
        # Only what is subject in both is followed: there, no background motion is meant.
        both = cv2.min(first.coarse, last.coarse)
        box = box_around(cv2.max(first.coarse, last.coarse) > _PRESENT)
        self.is_empty = box.is_empty
        if box.is_empty:
            return
        seen = [CoarseFrame(frame.rgb, frame.grey, both, box) for frame in frames]
        self._links = list(map_in_order(_motion, pairwise(seen), threads, name="carry"))

    def add_key(self, place: int, key: KeyMatte) -> None:
        """The matte of the frame at ``place``, on which the network ran meanwhile."""
        self._keys[place] = key

    def doubtful_places(self, limits: Limits) -> list[int]:
        """Where the network has to run, so that the matte of no frame between is in doubt: halfway
        between two key frames. Empty where no carried matte exceeds the limits."""
        if self.is_empty:
            return []
        return [
            (before + after) // 2
            for before, after in pairwise(sorted(self._keys))
            if any(limits.exceeded_by(self.doubts(at)) for at in range(before + 1, after))
        ]

    def carried(self, frames: Sequence[Frame]) -> Iterator[Frame]:
        """The frames between the first and the last of the stretch, each given its alpha."""

        def carry(place: int) -> Frame:
            frame = frames[place - 1]
            if place in self._keys:  # the network ran
                return frame
            alpha, key = frame.writable_alpha(), self._keys[0]
            if self.is_empty:
                alpha.fill(0)
            else:
                key = self._carry(place, alpha)
            frame.mirrored, frame.augment_phase = key.mirrored, key.augment_phase
            frame.carried = True
            return frame

        return map_in_order(carry, range(1, len(self._frames) - 1), self._threads, name="carry")

    def doubts(self, place: int) -> _Doubts:
        """Of the matte carried to the frame at ``place``."""
        before, after = self._sides(place)
        here = before.way.box.crop(self._frames[place].rgb)
        unlike = [_colour_doubt(side.rgb, here) for side in (before, after)]
        alphas = before.alpha, after.alpha
        edge = _edge(*alphas) * cv2.min(*alphas) ** 4
        apart, either = cv2.absdiff(*alphas), cv2.max(*alphas)
        lost = 1 - np.maximum(before.way.trust, after.way.trust)
        return _Doubts(
            disagreement=_worst(apart * np.maximum(*unlike)),
            colour=_worst(np.minimum(*unlike) * edge),
            motion=_worst(lost * edge),
            speed=self._speed(place, either),
            share=float(apart.sum() / max(either.sum(), 1)),
        )

    def _carry(self, place: int, alpha: np.ndarray) -> KeyMatte:
        """Write the matte of the frame at ``place`` into alpha (H, W) float32, C-contiguous.

        Returns the key frame's that counts most in it.
        """
        sides, shape = self._sides(place), self._frames[place].rgb.shape[:2]
        box = sides[0].way.box
        coarse, undecided = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
        ours, total = box.crop(coarse), np.zeros(box.shape, np.float32)
        for side in sides:
            weight = side.weight(side.way.trust)
            ours += weight * side.alpha
            total += weight
        ours /= total
        differs = cv2.absdiff(sides[0].alpha, sides[1].alpha) > _DIFFERS
        soft = cv2.inRange(ours, _SURE_LOW, _SURE_HIGH)
        box.crop(undecided)[:] = soft | differs.view(np.uint8)
        cv2.resize(coarse, alpha.shape[::-1], dst=alpha, interpolation=cv2.INTER_LINEAR)
        pixels = pixels_under(box.crop(undecided), box, shape, *alpha.shape)
        if len(pixels):
            pixels.put(alpha, _blended(sides, pixels, alpha.shape, shape))
        np.minimum(alpha, 1, out=alpha)  # weighted means are above by a rounding
        return max(sides, key=lambda side: side.nearness).key

    def _sides(self, place: int) -> tuple[_Side, _Side]:
        """What the key frames before and after the frame at ``place`` say of it."""
        before = max(at for at in self._keys if at < place)
        after = min(at for at in self._keys if at > place)
        back, forth = self._links[place - 1][1], self._links[place][0]
        for at in range(place - 2, before - 1, -1):
            back = self._links[at][1].after(back)
        for at in range(place + 1, after):
            forth = self._links[at][0].after(forth)
        sides = self._side(before, back, place), self._side(after, forth, place)
        if sides[0].key.augment_phase != sides[1].key.augment_phase:
            further = min(sides, key=lambda side: (side.nearness, side is sides[0]))
            further.nearness *= np.float32(_OTHER_VIEW)
        return sides

    def _side(self, at: int, way: FlowField, place: int) -> _Side:
        key = self._keys[at]
        x, y = way.arrivals
        return _Side(
            key,
            way,
            remap(key.coarse, x, y, cv2.BORDER_REPLICATE),
            remap(self._frames[at].rgb, x, y, cv2.BORDER_REPLICATE),
            np.float32(1 / abs(place - at)),
        )

    def _speed(self, place: int, alpha: np.ndarray) -> float:
        """Of the subject's fastest part, to the frames around the one at ``place``. alpha: where it
        is, (h, w) within the ways' box."""
        ways = self._links[place - 1][1], self._links[place][0]
        planes = [cv2.split(way.motion)[:2] for way in ways]
        away = np.sqrt(np.maximum(*(squared_length(x, y) for x, y in planes)))
        return _worst(away * alpha) / float(max(self._frames[place].rgb.shape[:2]))


def _motion(pair: tuple[CoarseFrame, CoarseFrame]) -> tuple[FlowField, FlowField]:
    """The motion from one frame to the next, and back."""
    return MotionEstimator().between(*pair)


def _edge(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """1 along the edge of either of two mattes and a little around it: (h, w) float32."""
    soft = cv2.inRange(one, _SURE_LOW, _SURE_HIGH) | cv2.inRange(other, _SURE_LOW, _SURE_HIGH)
    solid = ((one > 0.5) ^ (other > 0.5)).view(np.uint8) * 255
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _EDGE_REACH + 1,) * 2)
    return np.asarray(cv2.dilate(soft | solid, disc) > 0).astype(np.float32)


def _worst(doubt: np.ndarray) -> float:
    """The largest mean over a patch of doubts (h, w) float32."""
    return float(cv2.blur(doubt, (_PATCH, _PATCH)).max())


def _colour_doubt(there: np.ndarray, here: np.ndarray) -> np.ndarray:
    """How unlike two pictures (h, w, 3) uint8 are: (h, w) float32 in 0..1."""
    difference = cv2.absdiff(there, here).astype(np.float32)
    difference *= difference
    excess = cv2.blur(cv2.transform(difference, np.full((1, 3), 1 / 3, np.float32)), (3, 3))
    excess = np.maximum(excess - np.float32(_COLOUR_NOISE), 0)
    return np.asarray(1 - np.exp(excess * np.float32(-0.5 / _COLOUR_SIGMA**2)))


def _blended(
    sides: Sequence[_Side], pixels: Pixels, full: tuple[int, ...], coarse: tuple[int, ...]
) -> np.ndarray:
    """The alpha (N,) float32 of some pixels, from both sides at full resolution."""
    x, y = to_working(pixels.x, pixels.y, full, coarse)
    box = sides[0].way.box
    x, y = x - np.float32(box.left), y - np.float32(box.top)
    down, across = (np.float32(all_ / part) for all_, part in zip(full, coarse, strict=True))
    total, sum_of_weights = np.zeros((2, len(pixels)), np.float32)
    for side in sides:
        motion = sample(side.way.motion, x, y)
        key = side.key
        columns = np.clip(pixels.x + motion[:, 0] * across, 0, full[1] - 1)
        rows = np.clip(pixels.y + motion[:, 1] * down, 0, full[0] - 1)
        weight = side.weight(motion[:, 2])
        sum_of_weights += weight
        if key.box.is_empty:
            continue
        codes = sample(
            key.codes,
            columns - np.float32(key.box.left),
            rows - np.float32(key.box.top),
            cv2.BORDER_CONSTANT,
        )
        total += weight * codes
    return np.asarray(total / sum_of_weights * np.float32(1 / _FULL_SCALE))

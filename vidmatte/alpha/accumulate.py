"""The mean of a frame's alpha and its neighbours', moved to where the subject is now.

Where some frames were seen mirrored, straight and mirrored ones are averaged apart
first and then weigh the same, whatever the motion lets through of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.alpha.box import ROW, Box, Pixels, in_rows, sample
from vidmatte.alpha.flow import CoarseFrame, FlowField, remap
from vidmatte.alpha.guided_edges import pixels_under, to_working
from vidmatte.models.augment import agreement, reconcile

SURE_LOW, SURE_HIGH = 0.005, 0.985  # outside, and unless a neighbour differs, nothing is mixed
_DIFFERS = 0.004  # of alpha, about one 8-bit code
_ENOUGH = 0.3  # weight from which one side counts in full
_FULL_SCALE = 65535
_ROWS_AT_ONCE = 32  # of ROW pixels


@dataclass(kw_only=True)
class MatteSample:
    """A matte as its neighbours need it.

    codes: alpha, refined, 0..65535, (H', W') uint16 within ``box`` of the full
    resolution; outside it is nothing. mirrored, turn: how the network saw it, see ``Frame``.
    """

    codes: np.ndarray
    box: Box
    coarse: CoarseFrame
    mirrored: bool = False
    augment_phase: int = 0

    @staticmethod
    def coded(alpha: np.ndarray) -> np.ndarray:
        """Alpha as ``codes``."""
        return np.asarray(cv2.multiply(alpha, float(_FULL_SCALE), dtype=cv2.CV_16U))


@dataclass(frozen=True)
class Neighbour:
    """A neighbour: the way to it, what it saw, and how much it counts where it is trusted."""

    field: FlowField
    seen: MatteSample
    gain: float


class _Accumulator:
    """What the straight, or the mirrored, frames say together.

    total, weight: at the pixels, in rows of ``ROW``. coarse, coarse_weight: (h, w).
    """

    def __init__(self, rows: int, coarse: tuple[int, ...]) -> None:
        self.total, self.weight = np.zeros((2, rows, ROW), np.float32)
        self.coarse, self.coarse_weight = np.zeros((2, *coarse), np.float32)

    def mean(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The mean at the first ``count`` pixels, and 0..1 for how much there is to it."""
        weight = self.weight.reshape(-1)[:count]
        mean = self.total.reshape(-1)[:count] / np.maximum(weight, np.float32(1e-6))
        return mean, np.minimum(weight * np.float32(1 / _ENOUGH), 1)

    def coarse_mean(self, otherwise: _Accumulator) -> np.ndarray:
        """The mean at the coarse scale; what the other side says where this one says little."""
        share = np.minimum(self.coarse_weight * np.float32(1 / _ENOUGH), 1)
        mean = self.coarse / np.maximum(self.coarse_weight, np.float32(1e-6))
        other = otherwise.coarse / np.maximum(otherwise.coarse_weight, np.float32(1e-6))
        return np.asarray(other + share * (mean - other))


def average(now: MatteSample, voices: list[Neighbour], alpha: np.ndarray) -> None:
    """Mean of ``alpha`` (H, W) float32, which is ``now``'s, and its neighbours', in place."""
    moved = [
        remap(voice.seen.coarse.alpha, *voice.field.arrivals(), cv2.BORDER_REPLICATE)
        for voice in voices
    ]
    pixels = _undecided_pixels(now, voices, moved, alpha.shape)
    if not len(pixels):
        return
    coarse = now.coarse.alpha.shape
    x, y = to_working(pixels, alpha.shape, coarse)
    own = _Accumulator(-(-len(pixels) // ROW), coarse)
    own.total.reshape(-1)[: len(pixels)] = pixels.of(alpha)
    own.weight += 1
    own.coarse += now.coarse.alpha
    own.coarse_weight += 1
    other = _Accumulator(len(own.total), coarse) if _changes_anything(now, voices) else None
    ear = _Sampler(x, y, alpha.shape, coarse)
    for voice, there in zip(voices, moved, strict=True):
        side = own if other is None or voice.seen.mirrored == now.mirrored else other
        ear.sample(voice, side)
        if other is not None:
            trust = voice.field.trust * np.float32(voice.gain)
            voice.field.box.crop(side.coarse_weight)[:] += trust
            trust *= there
            voice.field.box.crop(side.coarse)[:] += trust
    result = own.mean(len(x))[0] if other is None else _interpolated(now, own, other, x, y)
    pixels.put(alpha, result)


def _changes_anything(now: MatteSample, voices: list[Neighbour]) -> bool:
    """Whether some frames were seen mirrored and some not."""
    return any(voice.seen.mirrored != now.mirrored for voice in voices)


@dataclass(frozen=True)
class _Grid:
    """A coarse box, its centres' places in the full picture, and where in it to look.

    centres: (h, w, 4) float32: x, y, zeros. x, y: in rows of ``ROW``.
    """

    box: Box
    centres: np.ndarray
    x: np.ndarray
    y: np.ndarray


class _Sampler:
    """Asks neighbours for their alpha at the same pixels, again and again.

    x, y: (N,), the pixels' places at the coarse scale. shape, coarse: (height, width) of
    the two scales.
    """

    def __init__(
        self, x: np.ndarray, y: np.ndarray, shape: tuple[int, ...], coarse: tuple[int, ...]
    ) -> None:
        self._shape = shape
        self._down, self._across = (a / b for a, b in zip(shape, coarse, strict=True))
        self._x, self._y = in_rows(x), in_rows(y)
        top, left, bottom, right = y.min(), x.min(), y.max() + 2, x.max() + 2
        self._around = Box(int(np.floor(top)), int(np.floor(left)), int(bottom), int(right))
        self._grids: dict[Box, _Grid] = {}
        # Few places at a time, so that all that they need stays in the core's cache.
        places = (min(_ROWS_AT_ONCE, len(self._x)), ROW)
        self._planes = np.empty((4, *places), np.float32)
        self._told = np.empty((*places, 4), np.float32)
        self._codes = np.empty(places, np.uint16)

    def sample(self, voice: Neighbour, side: _Accumulator) -> None:
        """Add to ``side`` what a neighbour says, as far as it is trusted.

        What comes into the picture is taken to have looked like its border.
        """
        seen, box = voice.seen, voice.field.box
        grid = self._grids.get(box)
        if grid is None:
            grid = self._grids[box] = self._grid(box)
        ways = self._ways(voice, grid)
        for start in range(0, len(self._x), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            self._read(seen, ways, grid.x[rows], grid.y[rows], side.total[rows], side.weight[rows])

    def _read(
        self,
        seen: MatteSample,
        ways: np.ndarray,
        coarse_x: np.ndarray,
        coarse_y: np.ndarray,
        total: np.ndarray,
        sum_of_weights: np.ndarray,
    ) -> None:
        """Do so for a few rows of places."""
        rows = len(coarse_x)
        told = remap(ways, coarse_x, coarse_y, cv2.BORDER_REPLICATE, self._told[:rows])
        x, y, weight, alpha = self._planes[:, :rows]
        cv2.mixChannels([told], [x, y, weight], [0, 0, 1, 1, 2, 2])
        cv2.add(sum_of_weights, weight, sum_of_weights)
        if seen.box.is_empty:
            return
        np.clip(x, -seen.box.left, self._shape[1] - 1 - seen.box.left, out=x)
        np.clip(y, -seen.box.top, self._shape[0] - 1 - seen.box.top, out=y)
        codes = remap(seen.codes, x, y, cv2.BORDER_CONSTANT, self._codes[:rows])
        cv2.multiply(codes, weight, alpha, 1 / _FULL_SCALE, cv2.CV_32F)
        cv2.add(total, alpha, total)

    def _grid(self, box: Box) -> _Grid:
        """The places as seen from ``box``, which is made to hold all of them."""
        wide = box.union(self._around)
        centres = np.zeros((*wide.shape, 4), np.float32)
        centres[..., 0] = (np.arange(wide.left, wide.right) + 0.5) * self._across - 0.5
        centres[..., 1] = ((np.arange(wide.top, wide.bottom) + 0.5) * self._down - 0.5)[:, None]
        left, top = np.float32(wide.left), np.float32(wide.top)
        return _Grid(wide, centres, self._x - left, self._y - top)

    def _ways(self, voice: Neighbour, grid: _Grid) -> np.ndarray:
        """Where in the neighbour's codes each coarse pixel's centre moves to, and its weight.

        (h, w, 4) float32. Places grow evenly from one centre to the next, so those of the
        pixels between can be interpolated as the motion itself.
        """
        box, wide, seen = voice.field.box, grid.box, voice.seen.box
        motion = cv2.copyMakeBorder(
            voice.field.motion,
            box.top - wide.top,
            wide.bottom - box.bottom,
            box.left - wide.left,
            wide.right - box.right,
            cv2.BORDER_REPLICATE,
        )
        to_codes = np.zeros((4, 5), np.float32)
        to_codes[(0, 1, 2), (0, 1, 2)] = self._across, self._down, voice.gain
        to_codes[:2, 4] = -seen.left, -seen.top
        motion = cv2.transform(motion, to_codes, motion)
        return np.asarray(cv2.add(motion, grid.centres, motion))


def _interpolated(
    now: MatteSample, own: _Accumulator, other: _Accumulator, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """One alpha (N,) of both sides, at the coarse places x and y."""
    (mean, _), (there, share) = own.mean(len(x)), other.mean(len(x))
    there = mean + share * (there - mean)
    sides = own.coarse_mean(other), other.coarse_mean(own)
    straight, mirrored = (there, mean) if now.mirrored else (mean, there)
    maps = agreement(*(reversed(sides) if now.mirrored else sides))
    if maps is None:
        return np.asarray(np.float32(0.5) * (mean + there))
    larger, straightest = (sample(part, x, y) for part in maps)
    return reconcile(straight, mirrored, larger, straightest)


def _undecided_pixels(
    now: MatteSample, voices: list[Neighbour], moved: list[np.ndarray], shape: tuple[int, ...]
) -> Pixels:
    """The pixels, in a picture of ``shape``, that are soft now or that a neighbour disputes.

    moved: the neighbours' coarse alpha where the subject is now.
    """
    alpha, box = now.coarse.alpha, now.coarse.box
    mask = np.asarray(cv2.inRange(alpha, SURE_LOW, SURE_HIGH))
    for voice, there in zip(voices, moved, strict=True):
        around = voice.field.box
        box = box.union(around)
        disputed = cv2.absdiff(there, around.crop(alpha)) > _DIFFERS
        np.bitwise_or(around.crop(mask), disputed.view(np.uint8), out=around.crop(mask))
    return pixels_under(box.crop(mask), box, alpha.shape, *shape)

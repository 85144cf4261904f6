"""The mean of a frame's alpha and its neighbours', warped to where the subject is now.

Where the network saw some frames mirrored, straight and mirrored ones are averaged separately
first and then have the same weight, however much of each the motion lets through.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.alpha.box import ROW, Box, Pixels, in_rows, sample
from vidmatte.alpha.flow import CoarseFrame, FlowField, remap
from vidmatte.alpha.guided_edges import pixels_under, to_working
from vidmatte.models.augment import agreement, reconcile

SURE_LOW, SURE_HIGH = 0.005, 0.985  # outside, unless a neighbour differs, nothing is averaged
_DIFFERS = 0.004  # of alpha, about one 8-bit code
_ENOUGH = 0.3  # weight from which one side has its full share
_FULL_SCALE = 65535
_ROWS_AT_ONCE = 32  # of ROW pixels


@dataclass(kw_only=True)
class MatteSample:
    """A matte as its neighbours need it.

    codes: refined alpha, 0..65535, (H', W') uint16 within ``box`` of the full resolution;
    alpha is 0 outside. mirrored, augment_phase: how the network saw it, see ``Frame``.
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
    """A neighbour: the flow to it, its matte, and its weight where the flow is trusted."""

    field: FlowField
    seen: MatteSample
    gain: float


class _Accumulator:
    """The weighted sum over the straight frames, or over the mirrored ones.

    total, weight: at the pixels, in rows of ``ROW``. coarse, coarse_weight: (h, w).
    """

    def __init__(self, rows: int, coarse: tuple[int, ...]) -> None:
        self.total, self.weight = np.zeros((2, rows, ROW), np.float32)
        self.coarse, self.coarse_weight = np.zeros((2, *coarse), np.float32)

    def mean(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The mean at the first ``count`` pixels, and 0..1 for how well it is supported."""
        weight = self.weight.reshape(-1)[:count]
        mean = self.total.reshape(-1)[:count] / np.maximum(weight, np.float32(1e-6))
        return mean, np.minimum(weight * np.float32(1 / _ENOUGH), 1)

    def coarse_mean(self, otherwise: _Accumulator) -> np.ndarray:
        """The mean at the coarse scale; the other side's where this one has little weight."""
        share = np.minimum(self.coarse_weight * np.float32(1 / _ENOUGH), 1)
        mean = self.coarse / np.maximum(self.coarse_weight, np.float32(1e-6))
        other = otherwise.coarse / np.maximum(otherwise.coarse_weight, np.float32(1e-6))
        return np.asarray(other + share * (mean - other))


def average(now: MatteSample, neighbours: list[Neighbour], alpha: np.ndarray) -> None:
    """Mean of ``alpha`` (H, W) float32, which is ``now``'s, and its neighbours', in place."""
    moved = [
        remap(neighbour.seen.coarse.alpha, *neighbour.field.arrivals(), cv2.BORDER_REPLICATE)
        for neighbour in neighbours
    ]
    pixels = _undecided_pixels(now, neighbours, moved, alpha.shape)
    if not len(pixels):
        return
    coarse = now.coarse.alpha.shape
    x, y = to_working(pixels, alpha.shape, coarse)
    own = _Accumulator(-(-len(pixels) // ROW), coarse)
    own.total.reshape(-1)[: len(pixels)] = pixels.of(alpha)
    own.weight += 1
    own.coarse += now.coarse.alpha
    own.coarse_weight += 1
    other = _Accumulator(len(own.total), coarse) if _changes_anything(now, neighbours) else None
    sampler = _Sampler(x, y, alpha.shape, coarse)
    for neighbour, there in zip(neighbours, moved, strict=True):
        side = own if other is None or neighbour.seen.mirrored == now.mirrored else other
        sampler.sample(neighbour, side)
        if other is not None:
            trust = neighbour.field.trust * np.float32(neighbour.gain)
            neighbour.field.box.crop(side.coarse_weight)[:] += trust
            trust *= there
            neighbour.field.box.crop(side.coarse)[:] += trust
    result = own.mean(len(x))[0] if other is None else _interpolated(now, own, other, x, y)
    pixels.put(alpha, result)


def _changes_anything(now: MatteSample, neighbours: list[Neighbour]) -> bool:
    """Whether some frames were seen mirrored and some not."""
    return any(neighbour.seen.mirrored != now.mirrored for neighbour in neighbours)


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
    """Samples the alpha of several neighbours at the same pixels.

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
        # Few places at a time, so that everything they need stays in the core's cache.
        places = (min(_ROWS_AT_ONCE, len(self._x)), ROW)
        self._planes = np.empty((4, *places), np.float32)
        self._sampled = np.empty((*places, 4), np.float32)
        self._codes = np.empty(places, np.uint16)

    def sample(self, neighbour: Neighbour, side: _Accumulator) -> None:
        """Add a neighbour's alpha to ``side``, weighted by the trust in its flow.

        What enters the picture is taken to have looked like its border.
        """
        seen, box = neighbour.seen, neighbour.field.box
        grid = self._grids.get(box)
        if grid is None:
            grid = self._grids[box] = self._grid(box)
        flow = self._flow_to_codes(neighbour, grid)
        for start in range(0, len(self._x), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            self._read(seen, flow, grid.x[rows], grid.y[rows], side.total[rows], side.weight[rows])

    def _read(
        self,
        seen: MatteSample,
        flow: np.ndarray,
        coarse_x: np.ndarray,
        coarse_y: np.ndarray,
        total: np.ndarray,
        sum_of_weights: np.ndarray,
    ) -> None:
        """Sample and add a few rows of places."""
        rows = len(coarse_x)
        sampled = remap(flow, coarse_x, coarse_y, cv2.BORDER_REPLICATE, self._sampled[:rows])
        x, y, weight, alpha = self._planes[:, :rows]
        cv2.mixChannels([sampled], [x, y, weight], [0, 0, 1, 1, 2, 2])
        cv2.add(sum_of_weights, weight, sum_of_weights)
        if seen.box.is_empty:
            return
        np.clip(x, -seen.box.left, self._shape[1] - 1 - seen.box.left, out=x)
        np.clip(y, -seen.box.top, self._shape[0] - 1 - seen.box.top, out=y)
        codes = remap(seen.codes, x, y, cv2.BORDER_CONSTANT, self._codes[:rows])
        cv2.multiply(codes, weight, alpha, 1 / _FULL_SCALE, cv2.CV_32F)
        cv2.add(total, alpha, total)

    def _grid(self, box: Box) -> _Grid:
        """The places relative to ``box``, grown so that it holds all of them."""
        wide = box.union(self._around)
        centres = np.zeros((*wide.shape, 4), np.float32)
        centres[..., 0] = (np.arange(wide.left, wide.right) + 0.5) * self._across - 0.5
        centres[..., 1] = ((np.arange(wide.top, wide.bottom) + 0.5) * self._down - 0.5)[:, None]
        left, top = np.float32(wide.left), np.float32(wide.top)
        return _Grid(wide, centres, self._x - left, self._y - top)

    def _flow_to_codes(self, neighbour: Neighbour, grid: _Grid) -> np.ndarray:
        """Where in the neighbour's codes each coarse pixel's centre moves to, and its weight.

        (h, w, 4) float32. Places grow evenly from one centre to the next, so those of the
        pixels between can be interpolated as the motion itself.
        """
        box, wide, seen = neighbour.field.box, grid.box, neighbour.seen.box
        motion = cv2.copyMakeBorder(
            neighbour.field.motion,
            box.top - wide.top,
            wide.bottom - box.bottom,
            box.left - wide.left,
            wide.right - box.right,
            cv2.BORDER_REPLICATE,
        )
        to_codes = np.zeros((4, 5), np.float32)
        to_codes[(0, 1, 2), (0, 1, 2)] = self._across, self._down, neighbour.gain
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
    now: MatteSample, neighbours: list[Neighbour], moved: list[np.ndarray], shape: tuple[int, ...]
) -> Pixels:
    """The pixels, in a picture of ``shape``, that are soft now or differ in a neighbour.

    moved: the neighbours' coarse alpha where the subject is now.
    """
    alpha, box = now.coarse.alpha, now.coarse.box
    mask = np.asarray(cv2.inRange(alpha, SURE_LOW, SURE_HIGH))
    for neighbour, there in zip(neighbours, moved, strict=True):
        around = neighbour.field.box
        box = box.union(around)
        differing = cv2.absdiff(there, around.crop(alpha)) > _DIFFERS
        np.bitwise_or(around.crop(mask), differing.view(np.uint8), out=around.crop(mask))
    return pixels_under(box.crop(mask), box, alpha.shape, *shape)

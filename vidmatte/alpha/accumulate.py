"""The mean of a frame's alpha and its neighbours', warped to where the subject is now.

Where the network saw some frames mirrored, straight and mirrored ones are averaged separately
first and then have the same weight, however much of each the motion lets through.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.alpha.box import ROW, Box, Pixels, in_rows, pixels_under, to_working
from vidmatte.alpha.flow import CoarseFrame, FlowField, remap
from vidmatte.models.augment import agreement, reconcile

SURE_LOW, SURE_HIGH = 0.005, 0.985  # outside, unless neighbours differ, nothing is averaged
CHANGES = 0.003  # of alpha, 3/4 of an 8-bit code: what the mean changes by less is left out
ENOUGH = 0.3  # weight from which one side has its full share
_FULL_SCALE = 65535
BLOCKS = 2  # of pixels with one flow, along each side of a coarse pixel
_AT_ONCE = 32  # rows of ROW pixels


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

    total: of codes, at the pixels. weight: at their blocks, (rows, ``ROW``) float32. coarse,
    coarse_weight: of all coarse pixels.
    """

    def __init__(self, places: _Places, coarse: tuple[int, ...]) -> None:
        self.total = np.zeros(places.pixels.shape[1:], np.float32)
        self.weight = np.zeros(places.x.shape, np.float32)
        self.coarse, self.coarse_weight = np.zeros((2, *coarse), np.float32)

    def mean(self, places: _Places) -> tuple[np.ndarray, np.ndarray]:
        """The mean at the pixels (block, N), and 0..1 for how well it is supported (N,)."""
        weight = self.weight.reshape(-1)[: places.count]
        scale = np.float32(1 / _FULL_SCALE) / np.maximum(weight, np.float32(1e-6))
        mean = self.total.reshape(len(self.total), -1)[:, : places.count] * scale
        return mean, np.minimum(weight * np.float32(1 / ENOUGH), 1)

    def coarse_mean(self, otherwise: _Accumulator) -> np.ndarray:
        """The mean at the coarse scale; the other side's where this one has little weight."""
        share = np.minimum(self.coarse_weight * np.float32(1 / ENOUGH), 1)
        mean = self.coarse / np.maximum(self.coarse_weight, np.float32(1e-6))
        other = otherwise.coarse / np.maximum(otherwise.coarse_weight, np.float32(1e-6))
        return np.asarray(other + share * (mean - other))


def average(now: MatteSample, neighbours: list[Neighbour], alpha: np.ndarray) -> None:
    """Mean of ``alpha`` (H, W) float32, which is ``now``'s, and its neighbours', in place."""
    moved = [
        remap(neighbour.seen.coarse.alpha, *neighbour.field.arrivals, cv2.BORDER_REPLICATE)
        for neighbour in neighbours
    ]
    pixels = _undecided_pixels(now, neighbours, moved, alpha.shape)
    if not len(pixels):
        return
    coarse = now.coarse.alpha.shape
    places = _Places(pixels, alpha.shape, coarse)
    own = _Accumulator(places, coarse)
    own.total += in_rows(pixels.of(alpha).reshape(pixels.block, -1) * np.float32(_FULL_SCALE))
    own.weight += 1
    if all(neighbour.seen.mirrored == now.mirrored for neighbour in neighbours):
        places.add([(neighbour, own) for neighbour in neighbours])
        pixels.put(alpha, own.mean(places)[0].ravel())
        return
    other = _Accumulator(places, coarse)
    own.coarse += now.coarse.alpha
    own.coarse_weight += 1
    sides = [own if one.seen.mirrored == now.mirrored else other for one in neighbours]
    for neighbour, there, side in zip(neighbours, moved, sides, strict=True):
        trust = neighbour.field.trust * np.float32(neighbour.gain)
        neighbour.field.box.crop(side.coarse_weight)[:] += trust
        trust *= there
        neighbour.field.box.crop(side.coarse)[:] += trust
    places.add(list(zip(neighbours, sides, strict=True)))
    pixels.put(alpha, _interpolated(now, own, other, places).ravel())


@dataclass(frozen=True)
class _Leg:
    """The way to a neighbour's codes.

    motion: of its field. offset: from the area to the field's box, columns and rows. scales,
    firsts: what its x, y and weight are multiplied by and what is added, for x and y to lead to
    the codes, in pixels of the picture. reach: bounds of that x, and of that y. picture: the first
    and the last column, and row, of the picture, counted from the codes' first.
    """

    motion: np.ndarray
    offset: tuple[int, int]
    scales: tuple[float, float, float]
    firsts: tuple[int, int]
    reach: list[tuple[float, float]]
    picture: list[tuple[int, int]]
    seen: MatteSample
    side: _Accumulator

    def sample(
        self, x: np.ndarray, y: np.ndarray, sampled: np.ndarray, flows: np.ndarray
    ) -> np.ndarray:
        """x, y and weight at places (h, w) of the area, as ``flows`` (3, h, w) float32.

        sampled: (h, w, 4) float32, overwritten.
        """
        right, down = self.offset
        x, y = (x + right if right else x), (y + down if down else y)
        remap(self.motion, x, y, cv2.BORDER_REPLICATE, sampled)
        cv2.mixChannels([sampled], list(flows), [0, 0, 1, 1, 2, 2])
        for plane, scale in zip(flows, self.scales, strict=True):
            if scale != 1:
                plane *= np.float32(scale)
        for plane, first in zip(flows, self.firsts, strict=False):
            plane += np.float32(first)
        return flows


class _Places:
    """Pixels at which the alphas of several neighbours are added up, in blocks with one flow.

    shape, coarse: (height, width) of the picture and of the coarse scale. area: a box of coarse
    pixels with all the blocks. x, y: where in it their centres are, in rows of ``ROW``. pixels:
    columns and rows of the first pixel of each, of the second and so on: (2, block, rows, ROW).
    """

    def __init__(self, pixels: Pixels, shape: tuple[int, ...], coarse: tuple[int, ...]) -> None:
        each = np.stack([pixels.x, pixels.y]).reshape(2, pixels.block, -1)
        centres = (each[:, 0] + each[:, -1]) * np.float32(0.5)
        x, y = to_working(centres[0], centres[1], shape, coarse)
        self.count, self._shape = len(x), shape
        self._down, self._across = (a / b for a, b in zip(shape, coarse, strict=True))
        left, top = max(int(x.min()), 0), max(int(y.min()), 0)
        self.area = Box(
            top, left, min(int(y.max()) + 2, coarse[0]), min(int(x.max()) + 2, coarse[1])
        )
        self.x, self.y = in_rows(x - np.float32(left)), in_rows(y - np.float32(top))
        self.pixels = in_rows(each)

    def sampled(self, picture: np.ndarray) -> np.ndarray:
        """A picture (h, w) of the area at the blocks: (N,)."""
        values = remap(picture, self.x, self.y, cv2.BORDER_REPLICATE)
        return np.asarray(values.reshape(-1)[: self.count])

    def add(self, neighbours: list[tuple[Neighbour, _Accumulator]]) -> None:
        """Add the neighbours' alpha to their sides, weighted by the trust in the flow to them.

        What enters the picture is taken to have looked like its border.
        """
        legs = [self._leg(neighbour, side) for neighbour, side in neighbours]
        legs = [leg for leg in legs if not leg.seen.box.is_empty]
        # Few places at a time, so that everything they need stays in the core's cache.
        at_once = max(1, _AT_ONCE // self.pixels.shape[1])
        for start in range(0, len(self.x), at_once):
            self._add_rows(legs, slice(start, start + at_once))

    def _add_rows(self, legs: list[_Leg], rows: slice) -> None:
        """Add the neighbours' alpha at some rows of blocks."""
        centres, pixels = (self.x[rows], self.y[rows]), self.pixels[:, :, rows]
        flows = np.empty((3, *centres[0].shape), np.float32)
        sampled = np.empty((*flows[0].shape, 4), np.float32)
        moved = np.empty(pixels.shape, np.float32)
        tall = moved.reshape(2, -1, ROW)
        codes, alpha = np.empty(tall.shape[1:], np.uint16), np.empty(pixels.shape[1:], np.float32)
        ends = [(float(places.min()), float(places.max())) for places in pixels]
        for leg in legs:
            leg.sample(*centres, sampled, flows)
            leg.side.weight[rows] += flows[2]
            for axis, plane in enumerate(moved):
                np.add(pixels[axis], flows[axis], out=plane)
                (low, high), (least, most) = ends[axis], leg.reach[axis]
                first, last = leg.picture[axis]
                if low + least < first or high + most > last:
                    np.clip(plane, first, last, out=plane)
            remap(leg.seen.codes, tall[0], tall[1], cv2.BORDER_CONSTANT, codes)
            np.multiply(codes.reshape(alpha.shape), flows[2], out=alpha)
            leg.side.total[:, rows] += alpha

    def _leg(self, neighbour: Neighbour, side: _Accumulator) -> _Leg:
        """The flow to a neighbour."""
        seen, field = neighbour.seen, neighbour.field
        firsts = -seen.box.left, -seen.box.top
        scales = self._across, self._down, neighbour.gain
        reach, picture = [], []
        for axis, (first, scale) in enumerate(zip(firsts, scales, strict=False)):
            least, most, *_ = cv2.minMaxLoc(field.planes[axis])
            reach.append((least * scale + first, most * scale + first))
            picture.append((first, first + self._shape[1 - axis] - 1))
        offset = self.area.left - field.box.left, self.area.top - field.box.top
        return _Leg(field.motion, offset, scales, firsts, reach, picture, seen, side)


def _interpolated(
    now: MatteSample, own: _Accumulator, other: _Accumulator, places: _Places
) -> np.ndarray:
    """One alpha (block, N) of both sides."""
    (mean, _), (there, share) = own.mean(places), other.mean(places)
    there = mean + share * (there - mean)
    sides = own.coarse_mean(other), other.coarse_mean(own)
    straight, mirrored = (there, mean) if now.mirrored else (mean, there)
    maps = agreement(*(reversed(sides) if now.mirrored else sides))
    if maps is None:
        return np.asarray(np.float32(0.5) * (mean + there))
    larger, straightest = (places.sampled(places.area.crop(part)) for part in maps)
    return reconcile(straight, mirrored, larger, straightest)


def _undecided_pixels(
    now: MatteSample, neighbours: list[Neighbour], moved: list[np.ndarray], shape: tuple[int, ...]
) -> Pixels:
    """The pixels, in a picture of ``shape``, that are soft now or that the mean may change, and
    those of one coarse pixel more around.

    moved: the neighbours' coarse alpha where the subject is now.
    """
    alpha, box = now.coarse.alpha, now.coarse.box
    change, total = np.zeros(alpha.shape, np.float32), np.ones(alpha.shape, np.float32)
    for neighbour, there in zip(neighbours, moved, strict=True):
        around = neighbour.field.box
        box = box.union(around)
        weight = neighbour.field.trust * np.float32(neighbour.gain)
        around.crop(total)[:] += weight
        cv2.accumulateProduct(cv2.absdiff(there, around.crop(alpha)), weight, around.crop(change))
    total *= np.float32(CHANGES)
    mask = np.asarray(cv2.compare(change, total, cv2.CMP_GT))
    cv2.bitwise_or(mask, cv2.inRange(alpha, SURE_LOW, SURE_HIGH), mask)
    mask, box = cv2.dilate(mask, np.ones((3, 3), np.uint8)), box.grown(1, *alpha.shape)
    return pixels_under(box.crop(mask), box, alpha.shape, shape[0], shape[1], BLOCKS)

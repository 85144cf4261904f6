"""The mean of a frame's alpha and its neighbours', moved to where the subject is now.

Where some frames were seen mirrored, straight and mirrored ones are averaged apart
first and then weigh the same, whatever the motion lets through of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.alpha.box import Box, Pixels, sample
from vidmatte.alpha.flow import Field, Glance, remap
from vidmatte.alpha.mirrored import reconcile, verdict
from vidmatte.alpha.refine import pixels_under, to_working

SURE_LOW, SURE_HIGH = 0.005, 0.985  # outside, and unless a neighbour differs, nothing is mixed
DIFFERS = 0.004  # of alpha, about one 8-bit code
ENOUGH = 0.3  # weight from which one side counts in full
FULL_SCALE = 65535


@dataclass(kw_only=True)
class Seen:
    """A matte as its neighbours need it.

    codes: alpha, refined, 0..65535, (H', W') uint16 within ``box`` of the full
    resolution; outside it is nothing. mirrored: the network saw the mirror image.
    """

    codes: np.ndarray
    box: Box
    glance: Glance
    mirrored: bool = False

    @staticmethod
    def coded(alpha: np.ndarray) -> np.ndarray:
        """Alpha as ``codes``."""
        return np.asarray(cv2.multiply(alpha, float(FULL_SCALE), dtype=cv2.CV_16U))


@dataclass(frozen=True)
class Voice:
    """A neighbour: the way to it, what it saw, and how much it counts where it is trusted."""

    field: Field
    seen: Seen
    gain: float


class Side:
    """What the straight, or the mirrored, frames say together."""

    def __init__(self, pixels: int, coarse: tuple[int, ...]) -> None:
        self.total, self.weight = np.zeros(pixels, np.float32), np.zeros(pixels, np.float32)
        self.coarse, self.coarse_weight = np.zeros((2, *coarse), np.float32)

    def mean(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean at the pixels, and 0..1 for how much there is to it."""
        mean = self.total / np.maximum(self.weight, np.float32(1e-6))
        return mean, np.minimum(self.weight * np.float32(1 / ENOUGH), 1)

    def coarse_mean(self, otherwise: Side) -> np.ndarray:
        """The mean at the coarse scale; what the other side says where this one says little."""
        share = np.minimum(self.coarse_weight * np.float32(1 / ENOUGH), 1)
        mean = self.coarse / np.maximum(self.coarse_weight, np.float32(1e-6))
        other = otherwise.coarse / np.maximum(otherwise.coarse_weight, np.float32(1e-6))
        return np.asarray(other + share * (mean - other))


def average(now: Seen, voices: list[Voice], alpha: np.ndarray) -> None:
    """Mean of ``alpha`` (H, W) float32, which is ``now``'s, and its neighbours', in place."""
    moved = [
        remap(voice.seen.glance.alpha, *voice.field.arrivals(), cv2.BORDER_REPLICATE)
        for voice in voices
    ]
    pixels = unsettled(now, voices, moved, alpha.shape)
    if not len(pixels):
        return
    coarse = now.glance.alpha.shape
    x, y = to_working(pixels, alpha.shape, coarse)
    own = Side(len(pixels), coarse)
    own.total += pixels.of(alpha)
    own.weight += 1
    own.coarse += now.glance.alpha
    own.coarse_weight += 1
    other = Side(len(pixels), coarse) if mixes(now, voices) else None
    for voice, there in zip(voices, moved, strict=True):
        field = voice.field
        motion = sample(field.motion, x - field.box.left, y - field.box.top)
        weight = motion[:, 2] * np.float32(voice.gain)
        side = own if other is None or voice.seen.mirrored == now.mirrored else other
        side.weight += weight
        side.total += weight * codes_at(voice.seen, pixels, motion, alpha.shape, coarse)
        if other is not None:
            trust = field.trust * np.float32(voice.gain)
            field.box.crop(side.coarse_weight)[:] += trust
            field.box.crop(side.coarse)[:] += trust * there
    result = own.mean()[0] if other is None else of_both(now, own, other, x, y)
    pixels.put(alpha, result)


def mixes(now: Seen, voices: list[Voice]) -> bool:
    """Whether some frames were seen mirrored and some not."""
    return any(voice.seen.mirrored != now.mirrored for voice in voices)


def codes_at(
    seen: Seen,
    pixels: Pixels,
    motion: np.ndarray,
    shape: tuple[int, ...],
    coarse: tuple[int, ...],
) -> np.ndarray:
    """A neighbour's alpha, (N,) in 0..1, where the pixels of a picture of ``shape`` move to.

    motion: (N, 3) in coarse pixels. What comes into the picture is taken to have looked
    like its border.
    """
    if seen.box.is_empty:
        return np.zeros(len(pixels), np.float32)
    down, across = (np.float32(a / b) for a, b in zip(shape, coarse, strict=True))
    x = np.clip(pixels.x + motion[:, 0] * across, 0, shape[1] - 1) - np.float32(seen.box.left)
    y = np.clip(pixels.y + motion[:, 1] * down, 0, shape[0] - 1) - np.float32(seen.box.top)
    codes = sample(seen.codes, x, y, cv2.BORDER_CONSTANT)
    return np.asarray(codes * np.float32(1 / FULL_SCALE))


def of_both(now: Seen, own: Side, other: Side, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """One alpha (N,) of both sides, at the coarse places x and y."""
    (mean, _), (there, share) = own.mean(), other.mean()
    there = mean + share * (there - mean)
    sides = own.coarse_mean(other), other.coarse_mean(own)
    straight, mirrored = (there, mean) if now.mirrored else (mean, there)
    maps = verdict(*(reversed(sides) if now.mirrored else sides))
    if maps is None:
        return np.asarray(np.float32(0.5) * (mean + there))
    larger, straightest = sample(np.dstack(maps), x, y).T
    return reconcile(straight, mirrored, larger, straightest)


def unsettled(
    now: Seen, voices: list[Voice], moved: list[np.ndarray], shape: tuple[int, ...]
) -> Pixels:
    """The pixels, in a picture of ``shape``, that are soft now or that a neighbour disputes.

    moved: the neighbours' coarse alpha where the subject is now.
    """
    alpha, box = now.glance.alpha, now.glance.box
    mask = np.asarray(cv2.inRange(alpha, SURE_LOW, SURE_HIGH))
    for voice, there in zip(voices, moved, strict=True):
        around = voice.field.box
        box = box.union(around)
        around.crop(mask)[cv2.absdiff(there, around.crop(alpha)) > DIFFERS] = 1
    return pixels_under(box.crop(mask), box, alpha.shape, *shape)

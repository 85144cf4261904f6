"""Drawn clips for the guidance tests: textured discs over a textured background, no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import cv2
import numpy as np

from vidmatte.alpha.guidance.coarse import CoarseFrame, CoarseFrameMaker

WIDTH, HEIGHT = 320, 180
Place = tuple[float, float]


def texture(seed: int, colour: Sequence[float], grain: float = 25) -> np.ndarray:
    """A texture larger than any picture here, (H, W, 3) float32."""
    return np.clip(np.array(colour) + grain * _noise(seed), 0, 255).astype(np.float32)


@cache  # several files draw with the same seeds, and all are imported by each process of a run
def _noise(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return sum(
        cv2.GaussianBlur(random.normal(size=(600, 900, 3)), (0, 0), sigma) * sigma * gain
        for sigma, gain in ((1.5, 1.0), (5, 2.0))
    )


GROUND = texture(0, (90, 120, 90), 15)
RED, BLUE = texture(1, (190, 60, 60)), texture(2, (60, 80, 190))
STRIPED = RED.copy()
STRIPED[::9] = STRIPED[1::9] = STRIPED[2::9] = 245


def disc(picture: np.ndarray, place: Place, radius: float, pattern: np.ndarray) -> np.ndarray:
    """Draw a disc whose pattern moves with it; its mask (h, w) bool."""
    y, x = np.mgrid[0 : picture.shape[0], 0 : picture.shape[1]].astype(np.float32)
    mask = np.hypot(x - place[0], y - place[1]) < radius
    moved = cv2.remap(pattern, x - np.float32(place[0]) + 300, y - np.float32(place[1]) + 300, 1)
    picture[mask] = moved[mask]
    return mask


class Drawn:
    """Coarse frames of discs, back to front, and each one's visible mask (T, N, h, w)."""

    def __init__(
        self,
        discs: Sequence[tuple[Callable[[int], Place | None], float, np.ndarray]],
        count: int,
        ground: Callable[[int], np.ndarray] = lambda index: GROUND,
        unmarked: Sequence[int] = (),
    ) -> None:
        """unmarked: discs that the network would miss."""
        maker, random = CoarseFrameMaker(), np.random.default_rng(7)
        self.frames: list[CoarseFrame] = []
        self.masks: list[list[np.ndarray]] = []
        self.pictures: list[np.ndarray] = []
        for index in range(count):
            picture = ground(index)[:HEIGHT, :WIDTH].copy()
            masks: list[np.ndarray] = []
            for where, radius, pattern in discs:
                place = where(index)
                mask = np.zeros((HEIGHT, WIDTH), bool)
                if place is not None:
                    mask = disc(picture, place, radius, pattern)
                for below in masks:
                    below &= ~mask
                masks.append(mask)
            noisy = picture + random.normal(0, 2, picture.shape)
            rgb = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
            marked = [mask for i, mask in enumerate(masks) if i not in unmarked]
            alpha = np.any(marked or [np.zeros((HEIGHT, WIDTH), bool)], axis=0).astype(np.float32)
            self.frames.append(maker.make(rgb, cv2.GaussianBlur(alpha, (0, 0), 1)))
            self.masks.append(masks)
            self.pictures.append(rgb)

    def mask(self, index: int, which: int) -> np.ndarray:
        """(h, w) float32 0 or 1."""
        return self.masks[index][which].astype(np.float32)


def moving(start: Place, step: Place) -> Callable[[int], Place | None]:
    return lambda index: (start[0] + step[0] * index, start[1] + step[1] * index)


def choice(field: np.ndarray, wanted: np.ndarray, others: np.ndarray) -> float:
    """S: IoU of the field > 0.5 with the wanted mask, within the pixels of any subject."""
    some = (wanted > 0.5) | (others > 0.5)
    mine, true = (field > 0.5) & some, wanted > 0.5
    union = (mine | true).sum()
    return float((mine & true).sum() / union) if union else 1.0


def touching_discs() -> Drawn:
    """A red and a blue disc that touch."""
    return Drawn([(moving((120, 90), (0, 0)), 36, RED), (moving((185, 90), (0, 0)), 36, BLUE)], 1)


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    """The IoU of two masks, above 0.5."""
    one, two = mask > 0.5, truth > 0.5
    return float((one & two).sum() / max((one | two).sum(), 1))

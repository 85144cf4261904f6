"""Shot detection: hard cuts are found; pans, flashes, exposure changes and noise are not cuts."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vidmatte.alpha.shot_detection import _LONGEST_FLASH, CutDetector


def scene(seed: int, height: int = 288, width: int = 512) -> np.ndarray:
    """A picture with structure at many scales, (height, width, 3) uint8."""
    random = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float32)
    for cells in (4, 8, 16, 32):
        coarse = random.normal(0, 30, (cells, cells * 2, 3)).astype(np.float32)
        picture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(picture + 118, 0, 255).astype(np.uint8)


def window(picture: np.ndarray, x: int, width: int = 256) -> np.ndarray:
    return np.ascontiguousarray(picture[:, x : x + width])


def cuts_in(frames: list[np.ndarray]) -> list[int]:
    detector = CutDetector()
    return [index for index, frame in enumerate(frames) if detector.is_new_shot(frame)]


def noisy(frame: np.ndarray, seed: int, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, frame.shape)
    return np.clip(frame + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_every_hard_cut_is_found_and_nothing_else(gain: float) -> None:
    frames = []
    for seed in range(5):
        wide = (scene(seed) * gain).astype(np.uint8)
        frames += [noisy(window(wide, 12 * step), 100 * seed + step, 4) for step in range(6)]
    assert cuts_in(frames) == [0, 6, 12, 18, 24]


def test_a_fast_pan_is_not_a_cut() -> None:
    wide = scene(1)
    frames = [cv2.blur(window(wide, 50 * step), (25, 1)) for step in range(5)]
    assert cuts_in(frames) == [0]


def test_a_flash_is_not_a_cut_but_a_cut_behind_it_is() -> None:
    before, after = window(scene(1), 0), window(scene(2), 0)
    flash = np.full_like(before, 255)
    assert cuts_in([before, before, flash, before, before]) == [0]
    assert cuts_in([before, before, flash, flash, after, after]) == [0, 4]


def test_white_that_stays_is_a_cut() -> None:
    picture = window(scene(1), 0)
    frames = [picture, picture] + [np.full_like(picture, 255)] * 8
    assert cuts_in(frames) == [0, 2 + _LONGEST_FLASH]


def test_exposure_and_fades_are_not_cuts() -> None:
    picture = window(scene(3), 0)
    exposures = [np.clip(picture * gain, 0, 255).astype(np.uint8) for gain in (1, 1.4, 0.7, 1)]
    assert cuts_in(exposures) == [0]
    fade = [(picture * gain).astype(np.uint8) for gain in np.linspace(1, 0, 12)]
    assert cuts_in(fade) == [0]


def test_flat_colours_are_distinguished() -> None:
    dark, bright = np.full((40, 60, 3), 20, np.uint8), np.full((40, 60, 3), 150, np.uint8)
    assert cuts_in([dark, dark, bright, bright]) == [0, 2]


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 7, 3), (5, 1001, 3)])
def test_any_size_works(shape: tuple[int, int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert cuts_in([frame, frame, frame]) == [0]

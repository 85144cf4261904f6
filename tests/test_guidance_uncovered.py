"""Background that a moving subject uncovers is told from the subject by its motion."""

from __future__ import annotations

import numpy as np
import pytest

from vidmatte.alpha.guidance.lineage import Inside, Uncovered

HEIGHT, WIDTH, STEP = 60, 120, 4


def textured(seed: int) -> np.ndarray:
    """Colours (HEIGHT, WIDTH, 3) float32 in dark tones."""
    return np.random.default_rng(seed).uniform(10, 40, (HEIGHT, WIDTH, 3)).astype(np.float32)


def scene(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Colours and mask of a square that moves to the right by STEP a frame."""
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    mask[15:45, 20 + STEP * index : 50 + STEP * index] = 1
    subject = np.roll(textured(1), STEP * index, 1)
    return np.where(mask[..., None] > 0, subject, textured(0)), mask


def found_after(frames: int, alpha: float, subject_flow: float) -> tuple[float, float]:
    """How much is found of the background behind the subject, and of the subject itself.

    The field stays where the subject has been, as if optical flow had dragged background along.
    """
    first = scene(0)[1]
    uncovered, shape = Uncovered(first), first.shape
    ground = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    own = np.full(shape, subject_flow, np.float32), ground[1]
    for index in range(1, frames + 1):
        (lab, mask), (last, _) = scene(index), scene(index - 1)
        moved = np.maximum(mask, first)
        inside = Inside(moved, mask, np.float32(alpha) * moved)
        uncovered.update((lab, last), inside, (ground, own), np.abs(own[0]), abs(subject_flow))
    found = uncovered.take()
    behind = (first > 0) & (mask == 0)
    behind[:, 20 + STEP * (frames - 2) :] = False  # uncovered just now
    assert uncovered.take().max() == 0
    return float(found[17:43][behind[17:43]].mean()), float(found[mask > 0].mean())


def test_uncovered_background_is_found_and_the_subject_is_not():
    behind, subject = found_after(6, alpha=0.1, subject_flow=-STEP)
    assert behind > 0.9
    assert subject < 0.02


@pytest.mark.parametrize(("alpha", "flow"), [(1.0, -STEP), (0.1, 0.0), (0.1, 3.0 * STEP)])
def test_nothing_is_found_where_the_network_marks_or_motion_says_nothing(alpha: float, flow: float):
    behind, subject = found_after(6, alpha, flow)
    assert behind < 0.1
    assert subject < 0.1

"""Test-time augmentation: how plain and mirrored mattes of one picture are reconciled."""

from __future__ import annotations

import numpy as np
import pytest
from test_temporal_filter import Picture, filter_frames, shot, texture

from vidmatte.models.augment import agreement, reconcile
from vidmatte.models.segmentation import merge_mirrored

BODY, ARM, STONE = np.s_[40:160, 100:180], np.s_[60:90, 180:230], np.s_[120:160, 20:60]


def matte(*parts: tuple[slice, slice]) -> np.ndarray:
    """1 inside the parts, 0 elsewhere: (180, 320) float32."""
    alpha = np.zeros((180, 320), np.float32)
    for part in parts:
        alpha[part] = 1
    return alpha


def reconciled(straight: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    maps = agreement(straight, mirrored)
    assert maps is not None
    return reconcile(straight, mirrored, *maps)


@pytest.mark.parametrize("swap", [False, True])
def test_a_part_attached_to_the_common_subject_is_taken(swap: bool) -> None:
    pair = [matte(BODY, ARM), matte(BODY)]
    alpha = reconciled(*(reversed(pair) if swap else pair))
    assert alpha[62:88, 185:225].min() > 0.8
    assert (alpha[50:150, 110:170] == 1).all()
    assert alpha[STONE].max() == 0


def test_the_plain_view_decides_separate_regions() -> None:
    inner = np.s_[126:154, 26:54]
    assert reconciled(matte(BODY), matte(BODY, STONE))[inner].max() < 0.05
    assert reconciled(matte(BODY, STONE), matte(BODY))[inner].min() > 0.95


def test_a_picture_that_is_all_subject() -> None:
    everything = np.ones_like(matte(BODY))
    with np.errstate(all="raise"):
        alpha = reconciled(everything, matte(BODY))
    assert np.isfinite(alpha).all()


def test_edges_are_averaged() -> None:
    straight, mirrored = matte(BODY), matte(BODY)
    mirrored[40:160, 180] = 0.5
    assert agreement(straight, mirrored) is None
    np.testing.assert_array_equal(merge_mirrored(straight, mirrored), (straight + mirrored) / 2)


def test_no_subject_in_either_view() -> None:
    nothing = matte()
    assert agreement(nothing, nothing) is None


def filtered(mattes: list[np.ndarray]) -> list[np.ndarray]:
    """The mattes after the filter on a still picture; every other one is from a mirrored view."""
    rgb = texture(4, 180, 320)
    frames = [
        Picture(rgb.copy(), alpha, number == 0, number, number % 2 == 1)
        for number, alpha in enumerate(mattes)
    ]
    return [frame.alpha for frame in filter_frames(frames, refine="off")]


def test_differences_between_the_views_do_not_flicker() -> None:
    arm = np.s_[66:84, 190:220]
    for alpha in filtered([matte(BODY, ARM), matte(BODY)] * 5):
        assert alpha[arm].min() > 0.8
    stone = np.s_[130:150, 30:50]
    for alpha in filtered([matte(BODY), matte(BODY, STONE)] * 5):
        assert alpha[stone].max() < 0.05


def test_a_subject_at_the_frames_border_stays_complete() -> None:
    for up in (False, True):
        frames = list(shot(9))
        for frame in frames:
            shift = (-1 if up else 1) * 3 * frame.number
            row = 60 + shift
            frame.alpha = np.zeros((120, 200), np.float32)
            frame.alpha[row:, 60:140] = 1
            frame.rgb = np.ascontiguousarray(np.roll(texture(7, 240, 200), shift, axis=0)[60:180])
        for frame in filter_frames(frames):
            assert frame.alpha[-6:, 66:134].min() > 0.99

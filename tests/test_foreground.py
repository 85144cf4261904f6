"""The foreground estimate: what may change, that it helps, and that all else stays exact."""

from __future__ import annotations

import numpy as np
import pytest
from composites import Scene, furry_ball, painted_background

from vidmatte.alpha import foreground
from vidmatte.alpha.box import Box, boxes_over
from vidmatte.alpha.foreground import estimate


def smooth_ball() -> np.ndarray:
    """A ball of fur, coloured by a soft gradient: (h, w, 4) float32."""
    ball = furry_ball(3, side=300, strokes=2500)
    rows, columns = np.mgrid[:300, :300] / 300
    ball[..., :3] = np.stack([200 - 60 * rows, 90 + 80 * columns, 60 + 40 * rows], axis=-1)
    return ball


@pytest.fixture(scope="module")
def composite() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Picture (uint8), alpha, premultiplied colours, background of a furry ball, noise of 2."""
    scene = Scene("ball", smooth_ball(), painted_background(2), 640, 360, speed=3, noise=2)
    return (scene.picture(0), *scene.layers(0))


def band_error(colours: np.ndarray, scene: tuple[np.ndarray, ...], ground: float) -> float:
    """Squared error in the soft band over a flat new background, codes squared."""
    _, alpha, own, _ = scene
    new = alpha[..., None] * colours + (1 - alpha[..., None]) * ground
    soft = (alpha > 0) & (alpha < 1)
    return float(np.square(new - own - (1 - alpha[..., None]) * ground)[soft].mean())


@pytest.mark.parametrize("scale", [1, 4, 257])
def test_the_old_background_does_not_show_over_a_new_one(composite, scale: int) -> None:
    picture, alpha = composite[:2]
    deep = (picture.astype(np.uint16) * scale) if scale > 1 else picture
    found = estimate(deep, alpha)
    assert found.dtype == deep.dtype
    for ground in (0, 128, 255):
        before = band_error(picture.astype(np.float32), composite, ground)
        after = band_error(found / scale, composite, ground)
        assert after < 0.25 * before


def test_only_soft_pixels_change(composite) -> None:
    picture, alpha = composite[:2]
    found = estimate(picture, alpha)
    sure = (alpha == 0) | (alpha == 1)
    np.testing.assert_array_equal(found[sure], picture[sure])
    assert (found[~sure] != picture[~sure]).any()


def test_the_input_is_not_modified(composite) -> None:
    picture, alpha = composite[0].copy(), composite[1].copy()
    estimate(picture, alpha)
    np.testing.assert_array_equal(picture, composite[0])
    np.testing.assert_array_equal(alpha, composite[1])


def test_codes_stay_within_their_range() -> None:
    random = np.random.default_rng(0)
    picture = random.integers(64, 941, (90, 110, 3), np.uint16)
    alpha = random.random((90, 110), np.float32)
    narrow = estimate(picture, alpha)
    assert narrow.min() >= 64
    assert narrow.max() <= 940
    wide = estimate(picture, alpha, full_scale=1023)
    assert wide.max() <= 1023


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_without_soft_pixels_nothing_changes(value: float) -> None:
    picture = painted_background(1, 40, 60)
    assert estimate(picture, np.full((40, 60), value, np.float32)) is picture


@pytest.mark.parametrize("size", [(1, 1), (1, 17), (5, 3), (67, 129)])
def test_any_size_works(size: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    picture = random.integers(0, 256, (*size, 3), np.uint8)
    found = estimate(picture, np.full(size, 0.5, np.float32))
    assert found.shape == picture.shape


def test_colours_are_the_same_however_the_soft_pixels_are_divided(composite, monkeypatch) -> None:
    picture, alpha = composite[:2]
    deep = picture.astype(np.uint16) * 4
    divided = estimate(deep, alpha, 1023)

    def undivided(mask: np.ndarray, _rows: int, _gap: int) -> list[Box]:
        return [Box(0, 0, *mask.shape)]

    monkeypatch.setattr(foreground, "boxes_over", undivided)
    apart = np.abs(divided.astype(int) - estimate(deep, alpha, 1023))
    assert apart.max() <= 1, "sums in another order round differently, and hardly ever"
    assert (apart > 0).mean() < 1e-4


def test_boxes_hold_all_that_is_marked() -> None:
    mask = np.random.default_rng(2).random((37, 61)) > 0.97
    boxes = boxes_over(mask, 8, 3)
    held = np.zeros(mask.shape, int)
    for box in boxes:
        held[box.top : box.bottom, box.left : box.right] += 1
        assert box.top % 8 == 0 and mask[:, [box.left, box.right - 1]].any(axis=0).all()
    assert held[mask].all() and held.max() == 1 and held.sum() < mask.size
    assert boxes_over(np.zeros((5, 5), bool), 8, 3) == []


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="equal sizes"):
        estimate(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.float32))

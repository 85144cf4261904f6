"""The adjustments of the matte: each alone on a known case, and all in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from vidmatte.alpha import adjustments, wide_windows
from vidmatte.alpha.adjustments import Adjustments

DISC = 0.12  # how much a digital disc of two pixels deviates from a circle


def square(size: int = 40, low: int = 10, high: int = 30) -> np.ndarray:
    alpha = np.zeros((size, size), np.float32)
    alpha[low:high, low:high] = 1
    return alpha


def test_defaults_change_nothing() -> None:
    alpha = np.random.default_rng(0).random((5, 7), np.float32)
    assert adjustments.apply(alpha, Adjustments()) is alpha


def test_threshold_is_linear_between_its_ends() -> None:
    alpha = np.float32([[0, 0.1, 0.2, 0.5, 0.8, 0.9, 1]])
    np.testing.assert_allclose(
        adjustments._threshold(alpha, 0.2, 0.8), [[0, 0, 0, 0.5, 1, 1, 1]], atol=1e-6
    )


@pytest.mark.parametrize("pair", [(0.5, 0.5), (0.8, 0.2), (-0.1, 1), (0, 1.1)])
def test_an_invalid_threshold_is_refused(pair: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="LOW < HIGH"):
        adjustments.apply(square(), Adjustments(threshold=pair))


def test_gamma_keeps_the_ends() -> None:
    alpha = np.float32([[0, 0.25, 1]])
    np.testing.assert_allclose(adjustments._gamma(alpha, 2), [[0, 0.5, 1]], atol=1e-6)
    with pytest.raises(ValueError, match="gamma"):
        adjustments._gamma(alpha, 0)


@pytest.mark.parametrize("pixels", [0.25, 0.5, 1, 1.75, 3, 7.5])
def test_edges_move_by_fractions_of_a_pixel(pixels: float) -> None:
    alpha = square(60, 20, 40)
    across = adjustments._erode(alpha, pixels)[30].sum()
    assert across == pytest.approx(20 - 2 * pixels, abs=1e-4)
    across = adjustments._dilate(alpha, pixels)[30].sum()
    assert across == pytest.approx(20 + 2 * pixels, abs=1e-4)


@pytest.mark.parametrize("angle", [15, 30, 45, 60, 80])
@pytest.mark.parametrize("pixels", [0.1, 0.5, 1, 1.5, 2, 4, 12.3])
@pytest.mark.parametrize("move", [adjustments._dilate, adjustments._erode])
def test_slanting_edges_move_nearly_as_far(angle: int, pixels: float, move: Any) -> None:
    turn = np.radians(angle)
    y, x = np.mgrid[-40:40, -40:40] + 0.5
    across = x * np.cos(turn) + y * np.sin(turn)
    alpha = np.clip(0.5 - across, 0, 1).astype(np.float32)
    near = np.abs(x * np.sin(turn) - y * np.cos(turn)) < 15  # a strip across the edge
    gone = np.abs((move(alpha, pixels) - alpha)[near].sum()) / 30
    assert gone == pytest.approx(pixels, rel=DISC, abs=0.01)


def test_feather_softens_but_keeps_the_coverage() -> None:
    soft = adjustments._feather(square(), 4)
    assert soft.sum() == pytest.approx(square().sum(), rel=1e-3)
    assert soft[20, 20] == pytest.approx(1, abs=1e-3)
    assert 0.3 < soft[20, 10] < 0.7


def test_holes_are_filled_up_to_their_area_with_their_soft_rim() -> None:
    alpha = square()
    alpha[14:18, 14:18] = 0.4
    alpha[15:17, 15:17] = 0
    alpha[22:28, 22:28] = 0
    filled = adjustments._fill_holes(alpha, 20)
    assert (filled[12:20, 12:20] == 1).all()
    assert (filled[22:28, 22:28] == 0).all()
    assert (adjustments._fill_holes(alpha, 36) == square()).all()


def test_holes_and_specks_in_haze_take_its_level() -> None:
    alpha = np.float32(0.01) + square() * np.float32(0.978)
    alpha[18:21, 18:21] = 0
    alpha[2:6, 2:6] = 1
    alpha[1, 2:6] = 0.1  # a soft rim
    clean = adjustments.apply(alpha, Adjustments(remove_specks=50, fill_holes=50))
    assert (clean[18:21, 18:21] > 0.97).all()
    assert (clean[1:6, 2:6] < 0.02).all()
    assert (clean[30:] == alpha[30:]).all()


def test_background_at_the_border_is_not_a_hole() -> None:
    alpha = 1 - square(20, 0, 4)
    assert (adjustments._fill_holes(alpha, 100) == alpha).all()


def test_specks_up_to_the_area_are_removed_and_nothing_else() -> None:
    alpha = square()
    alpha[2:5, 2:5] = 0.6
    alpha[3, 3] = 1
    assert (adjustments._remove_specks(alpha, 9) == square()).all()
    assert (adjustments._remove_specks(alpha, 8)[2:5, 2:5] > 0).all()


def test_untouched_pixels_keep_their_precision() -> None:
    alpha = np.random.default_rng(0).random((30, 40), np.float32) * 0.1 + 0.45
    assert (adjustments._fill_holes(alpha, 0) == alpha).all()
    assert (adjustments._remove_specks(alpha, 0) == alpha).all()


def test_the_largest_region_keeps_its_soft_edge() -> None:
    alpha = square()
    alpha[9, 10:30] = 0.3
    alpha[33:38, 33:38] = 1
    alpha[32, 33:38] = 0.3
    kept = adjustments._keep_largest(alpha)
    assert (kept[31:, 31:] == 0).all()
    assert (kept[:30] == alpha[:30]).all()


def test_the_largest_region_is_kept_where_others_are_faint() -> None:
    alpha = square()
    alpha[2:6, 2:6] = 0.45
    alpha[30, 15:25] = 0.3  # the region's own soft edge
    alpha[35, 20] = 0.3  # a stray hair of it
    kept = adjustments._keep_largest(alpha)
    assert (kept[:8] == 0).all()
    assert (kept[8:] == alpha[8:]).all()
    halved = adjustments._keep_largest(alpha * np.float32(0.4))  # nothing is solid
    assert (halved[:8] == 0).all()
    assert (halved[10:30] == np.float32(0.4) * alpha[10:30]).all()


def test_masks_override_the_matte() -> None:
    garbage, holdout = np.zeros((40, 40), np.float32), np.zeros((40, 40), np.float32)
    garbage[:, :20] = 1
    holdout[:2] = 1
    alpha = adjustments.apply(square(), Adjustments(feather=3, garbage=garbage, holdout=holdout))
    assert (alpha[2:, :20] == 0).all()
    assert (alpha[:2] == 1).all()
    assert alpha[20, 25] > 0.9
    with pytest.raises(ValueError, match="equal sizes"):
        adjustments.apply(square(), Adjustments(garbage=np.zeros((3, 3), np.float32)))


def test_the_order_is_the_documented_one() -> None:
    """Invert comes last, thresholds come before the edge moves."""
    soft = adjustments._feather(square(), 4)
    settings = Adjustments(threshold=(0.2, 0.6), erode=1.5, invert=True)
    expected = 1 - adjustments._erode(adjustments._threshold(soft, 0.2, 0.6), 1.5)
    np.testing.assert_array_equal(adjustments.apply(soft, settings), expected)


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 1), (np.uint16, 257)])
def test_despill_limits_the_screen_channel_to_the_others(dtype: type, scale: int) -> None:
    rgb = (np.array([[[100, 200, 60], [100, 50, 60]]]) * scale).astype(dtype)
    clean = adjustments.despill(rgb, "green")
    assert clean.dtype == dtype
    np.testing.assert_array_equal(clean[0, 0], np.array([100, 80, 60]) * scale)
    np.testing.assert_array_equal(clean[0, 1], rgb[0, 1])
    half = adjustments.despill(rgb, "green", 0.5)
    assert half[0, 0, 1] == 140 * scale
    with pytest.raises(ValueError, match="choose from"):
        adjustments.despill(rgb, "mauve")


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (7, 3)])
def test_any_size_works(size: tuple[int, int]) -> None:
    alpha = np.full(size, 0.7, np.float32)
    everything = Adjustments((0.1, 0.9), 1.2, True, 3, 3, 1.5, 0.5, 2, True)
    out = adjustments.apply(alpha, everything)
    assert out.shape == size
    assert out.dtype == np.float32


def hard_cases(height: int, width: int) -> Iterator[np.ndarray]:
    """Mattes that reveal a coarser grid: noise, lines at the border, stripes of many widths
    that invert in the middle."""
    column = np.arange(width, dtype=np.float32) * np.ones((height, 1), np.float32)
    yield np.random.default_rng(0).random((height, width), np.float32)
    yield np.float32(column < 1)
    yield np.float32(column >= width - 1)
    yield np.pad(np.ones((1, 1), np.float32), ((0, height - 1), (0, width - 1)))
    for period in (2, 3, 8, 16, 31):
        yield np.float32((column % period < period / 2) ^ (column > width // 2))


@pytest.mark.parametrize("size", [(201, 300), (64, 37), (1, 1)])
@pytest.mark.parametrize("sigma", [32, 50, 125, 250])
def test_a_wide_feather_is_the_exact_gaussian_within_a_hundredth_of_a_code(
    sigma: float, size: tuple[int, int]
) -> None:
    for alpha in hard_cases(*size):
        exact = cv2.GaussianBlur(alpha, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        found = adjustments._feather(alpha, 2 * sigma)
        assert np.abs(found - exact).max() < 0.01 / 255


def test_a_narrower_feather_is_the_exact_gaussian_bit_for_bit() -> None:
    for alpha in hard_cases(40, 70):
        for sigma in (0.5, 5, wide_windows.WIDEST_EXACT - 0.5):
            exact = cv2.GaussianBlur(alpha, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
            assert np.array_equal(adjustments._feather(alpha, 2 * sigma), np.clip(exact, 0, 1))


@pytest.mark.parametrize("size", [(201, 300), (64, 37), (1, 1)])
@pytest.mark.parametrize("move", [adjustments._erode, adjustments._dilate])
def test_many_steps_at_once_equal_single_steps(
    move: object, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for alpha in hard_cases(*size):
        for pixels in (48.5, 62, 100):
            together = move(alpha, pixels)
            monkeypatch.setattr(adjustments, "_MANY_STEPS", 1000)
            assert np.array_equal(together, move(alpha, pixels))
            monkeypatch.undo()


@pytest.mark.parametrize("move", [adjustments._erode, adjustments._dilate])
def test_moving_an_edge_five_times_as_far_takes_few_more_passes(
    move: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[tuple[Any, ...]] = []
    for name in ("morphologyEx", "min", "max"):
        note_calls(name, passes, monkeypatch)
    move(square(), 100)
    near = len(passes)
    move(square(), 500)
    far = len(passes) - near
    # Each pass doubles the length of a row of pixels, and 5 < 2 ** 3.
    assert 0 < far <= near + 3 * len(wide_windows.ROWS)


def test_a_wide_feather_uses_no_wide_gaussian(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    note_calls("GaussianBlur", calls, monkeypatch)
    adjustments._feather(square(), 500)
    assert 0 < max(sigma for _, _, sigma, *_ in calls) < wide_windows.WIDEST_EXACT


def note_calls(name: str, calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Record the arguments of each call of an OpenCV function in ``calls``."""
    original = getattr(cv2, name)

    def noted(*words: Any, **named: Any) -> Any:
        calls.append(words)
        return original(*words, **named)

    monkeypatch.setattr(cv2, name, noted)

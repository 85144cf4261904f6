"""The metrics, each on a case with a known answer or against a plain implementation."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from composites import FLOW_STEPS, FLOW_ZERO, Scene, encode_motion, furry_ball, painted_background

from vidmatte.tools import metrics
from vidmatte.tools.metrics import Score


def blob(x: float, size: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return np.clip(1.5 - np.hypot(columns - x, rows - size / 2) / 12, 0, 1).astype(np.float32)


def shift(x: float, size: int = 64) -> np.ndarray:
    motion = np.zeros((size, size, 2), np.float32)
    motion[..., 0] = x
    return motion


def test_differences_by_hand() -> None:
    truth = np.zeros((2, 2), np.float32)
    prediction = np.float32([[0, 0.5], [0, 0]])
    assert metrics.mad(prediction, truth) == pytest.approx(125)
    assert metrics.mse(prediction, truth) == pytest.approx(62.5)


def test_gradient_is_that_of_a_gaussian_derivative() -> None:
    """Compared with the definition's sum at one pixel of an edge."""
    alpha = blob(32)
    at = np.arange(-4, 5)
    bell, slope = np.exp(-(at**2) / 3.92), -at * np.exp(-(at**2) / 3.92)
    kernel = np.outer(bell, slope)
    kernel /= np.sqrt((kernel**2).sum())
    patch = alpha[28:37, 20:29]
    across, down = (patch * kernel).sum(), (patch * kernel.T).sum()
    assert metrics._gradient_length(alpha)[32, 24] == pytest.approx(np.hypot(across, down), 1e-4)


def test_gradient_error_is_stretch_invariant_and_finds_blur() -> None:
    alpha = blob(32)
    assert metrics._gradient_error(alpha * 0.5, alpha) == pytest.approx(0, abs=1e-6)
    assert metrics._gradient_error(cv2.GaussianBlur(alpha, (0, 0), 3), alpha) > 0.001
    assert metrics._gradient_error(np.zeros_like(alpha), np.zeros_like(alpha)) == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (4, 1)])
def test_connectivity_of_the_smallest_mattes(size: tuple[int, int]) -> None:
    full, empty = np.ones(size, np.float32), np.zeros(size, np.float32)
    assert metrics._connectivity_error(full, full) == 0
    assert metrics._connectivity_error(full, empty) == pytest.approx(full.size / 1e3)


def test_connectivity_counts_detached_regions() -> None:
    truth = np.zeros((20, 40), np.float32)
    truth[5:15, 5:15] = 1
    loose = truth.copy()
    loose[8:10, 30:32] = 1  # an island of four pixels
    assert metrics._connectivity_error(truth, truth) == 0
    assert metrics._connectivity_error(loose, truth) == pytest.approx(0.004)
    within = truth.copy()
    within[6, 6] = 0.95  # inside the tolerance
    assert metrics._connectivity_error(within, truth) == 0


def test_dtssd_measures_change_that_the_truth_does_not_have() -> None:
    truth = blob(32)
    assert metrics.dtssd(truth, truth, truth, truth) == 0
    assert metrics.dtssd(truth * 0.9, truth, truth * 0.9, truth) == 0
    flat = np.full_like(truth, 0.1)
    assert metrics.dtssd(flat, truth, flat * 0, truth) == pytest.approx(10, rel=1e-5)


def test_flicker_ignores_an_error_that_moves_with_the_subject() -> None:
    """dtSSD counts it; both count one that comes and goes."""
    last, now = blob(30), blob(33)
    missing_last, missing_now = last.copy(), now.copy()
    missing_last[25:35, 20:24] = 0
    missing_now[25:35, 23:27] = 0
    travels = (missing_now, now, missing_last, last)
    assert metrics.flicker(*travels, shift(-3)) == pytest.approx(0, abs=1e-4)
    assert metrics.messd_dt(*travels, shift(-3)) == pytest.approx(0, abs=1e-4)
    assert metrics.dtssd(*travels) > 5
    comes = (missing_now, now, last, last)
    assert metrics.flicker(*comes, shift(-3)) > 5
    assert metrics.messd_dt(*comes, shift(-3)) > 5


def test_motion_from_outside_the_frame_is_left_out() -> None:
    truth, wrong = np.zeros((8, 8), np.float32), np.ones((8, 8), np.float32)
    assert metrics.flicker(wrong, truth, truth, truth, shift(-100, 8)) == 0


def test_a_score_is_the_mean_over_frames_and_pairs() -> None:
    truth = [blob(30 + n) for n in range(3)]
    predictions = [np.clip(alpha + 0.1, 0, 1) for alpha in truth]
    score = Score()
    for prediction, alpha in zip(predictions, truth, strict=True):
        score.add(prediction, alpha, shift(-1))
    means = score.means()
    assert set(means) == {"mad", "mse", "grad", "conn", "dtssd", "messd_dt", "flicker"}
    expected = np.mean([metrics.mad(p, t) for p, t in zip(predictions, truth, strict=True)])
    assert means["mad"] == pytest.approx(expected)
    pairs = [
        metrics.dtssd(predictions[n], truth[n], predictions[n - 1], truth[n - 1]) for n in (1, 2)
    ]
    assert means["dtssd"] == pytest.approx(np.mean(pairs))


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="equal sizes"):
        Score().add(blob(30), blob(30, 32))


def test_estimated_motion_follows_a_shift() -> None:
    picture = painted_background(4, 120, 200)
    motion = metrics._estimated_motion(np.roll(picture, 4, axis=1), picture)
    np.testing.assert_allclose(np.median(motion, axis=(0, 1)), (-4, 0), atol=0.2)


def test_known_motion_of_a_composite_warps_its_alpha() -> None:
    """The basis of the flicker metric: the warped truth nearly equals the truth."""
    scene = Scene("ball", furry_ball(0, 200, 1500), painted_background(0), 400, 225, speed=6)
    last, now = scene.layers(3)[0], scene.layers(4)[0]
    motion = scene.motion(4)
    moved, inside = metrics.follow(last, motion)
    still = np.abs(now - last)[inside].mean()
    assert np.abs(now - moved)[inside].mean() < 0.3 * still
    steps = encode_motion(motion)[..., :0:-1].astype(np.float32)
    np.testing.assert_allclose((steps - FLOW_ZERO) / FLOW_STEPS, motion, atol=0.51 / FLOW_STEPS)


def test_a_composite_equals_its_layers() -> None:
    scene = Scene("ball", furry_ball(0, 200, 1500), painted_background(0), 320, 180, noise=0)
    alpha, colour, ground = scene.layers(2)
    assert alpha.max() == 1
    assert alpha.min() == 0
    picture = colour + (1 - alpha[..., None]) * ground
    np.testing.assert_allclose(scene.picture(2), np.clip(picture, 0, 255), atol=0.51)


def test_connectivity_follows_its_definition() -> None:
    """Against a plain implementation, for random mattes and for round values."""

    def by_definition(prediction: np.ndarray, truth: np.ndarray) -> float:
        steps, connected = np.arange(0, 1.05, 0.1), np.full(truth.shape, -1.0)
        for low, high in pairwise(steps):
            both = ((prediction >= high) & (truth >= high)).astype(np.uint8)
            count, labels = cv2.connectedComponents(both, connectivity=4)
            sizes = np.bincount(labels.ravel(), minlength=count)[1:]
            largest = labels == 1 + sizes.argmax() if count > 1 else np.zeros_like(both, bool)
            connected[(connected < 0) & ~largest] = low
        connected[connected < 0] = 1
        degrees = [1 - (a - connected) * (a - connected >= 0.15) for a in (prediction, truth)]
        return float(np.abs(degrees[0] - degrees[1]).sum()) / 1e3

    random = np.random.default_rng(1)
    for number in range(60):
        size = random.integers(3, 40, 2)
        noise = cv2.GaussianBlur(random.random(size, np.float32), (0, 0), 1.5)
        truth = np.clip(noise * 4 - 1.5, 0, 1)
        prediction = np.clip(truth + random.normal(0, 0.2, size).astype(np.float32), 0, 1)
        if number % 3 == 0:
            truth, prediction = (np.round(one * 4) / 4 for one in (truth, prediction))
        assert metrics._connectivity_error(prediction, truth) == pytest.approx(
            by_definition(prediction, truth), rel=1e-5, abs=1e-6
        )


def test_motion_of_mattes_is_searched_around_them() -> None:
    now, last = (np.pad(blob(x), ((60, 90), (200, 80))) for x in (33, 30))
    motion = metrics._motion_of_mattes(now, last)
    edge = (now > 0.1) & (now < 0.9)
    assert np.median(motion[edge][:, 0]) == pytest.approx(-3, abs=0.5)
    assert not motion[:, :160].any()
    assert not metrics._motion_of_mattes(now * 0, last * 0).any()


def test_motion_of_tiny_mattes_is_zero() -> None:
    assert not metrics._estimated_motion(np.zeros((12, 40), np.uint8), np.eye(12, 40)).any()

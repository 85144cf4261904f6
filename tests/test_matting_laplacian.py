"""Uncertain areas are solved from the colours; edges and certain areas stay."""

from __future__ import annotations

import numpy as np
import pytest
from test_temporal_filter import disc, filter_frames, shot, texture

from vidmatte.alpha.matting_laplacian import solve, solve_doubt

HEIGHT, WIDTH = 240, 400


def red_disc_on_blue() -> tuple[np.ndarray, np.ndarray]:
    """A picture of a reddish disc on bluish ground, both a little textured, and its alpha."""
    truth = disc(HEIGHT, WIDTH, 200, 90)
    grain = texture(3, HEIGHT, WIDTH).astype(np.float32) / 255 - 0.5
    subject = np.array([200, 60, 50], np.float32) + 24 * grain
    ground = np.array([40, 70, 190], np.float32) + 24 * grain
    rgb = subject * truth[..., None] + ground * (1 - truth[..., None])
    return np.rint(rgb).astype(np.uint8), truth


@pytest.mark.parametrize(("rows", "columns"), [(slice(90, 150), slice(180, 250))])
def test_a_half_transparent_part_of_the_subject_becomes_subject(rows: slice, columns: slice):
    rgb, truth = red_disc_on_blue()
    alpha = truth.copy()
    alpha[rows, columns] = 0.45
    solve_doubt(rgb, alpha)
    assert alpha[rows, columns].mean() > 0.7


def test_a_half_transparent_ghost_on_the_background_is_removed() -> None:
    rgb, truth = red_disc_on_blue()
    alpha = truth.copy()
    alpha[90:150, 295:350] = 0.45
    solve_doubt(rgb, alpha)
    assert alpha[95:145, 300:345].mean() < 0.27


def test_a_good_edge_and_certain_areas_stay() -> None:
    rgb, truth = red_disc_on_blue()
    alpha = truth.copy()
    solve_doubt(rgb, alpha)
    assert np.abs(alpha - truth).mean() < 0.001
    for value in (0.0, 1.0):
        sure = np.full((HEIGHT, WIDTH), value, np.float32)
        solve_doubt(rgb, sure)
        assert (sure == value).all()


def test_the_solution_follows_the_colours() -> None:
    """From two fixed strokes alone, as in closed-form matting."""
    rgb, truth = red_disc_on_blue()
    hold = np.full(truth.shape, 1e-4, np.float32)
    guess = np.full(truth.shape, 0.5, np.float32)
    for rows, columns, value in (
        (slice(100, 140), slice(150, 250), 1),
        (slice(None), slice(40), 0),
    ):
        hold[rows, columns], guess[rows, columns] = 10, value
    before = np.abs(guess - truth).mean()
    assert np.abs(solve(rgb, guess, hold) - truth).mean() < 0.55 * before


@pytest.mark.parametrize("mode", ["off", "live", "on"])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 41), (120, 200)])
def test_best_yields_every_frame_in_order(mode: str, size: tuple[int, int]) -> None:
    out = list(filter_frames(shot(7, size=size, noise=0.1), mode=mode, refine="best"))
    assert [frame.number for frame in out] == list(range(7))
    for frame in out:
        assert frame.alpha.shape == size
        assert np.isfinite(frame.alpha).all()
        assert frame.alpha.min() >= 0
        assert frame.alpha.max() <= 1


def test_best_is_steadier_than_fast() -> None:
    def deviation(refine: str) -> float:
        alphas = [
            frame.alpha for frame in filter_frames(shot(16, speed=0, noise=0.25), refine=refine)
        ]
        return float(np.std(alphas, axis=0).mean())

    assert deviation("best") < 0.8 * deviation("fast")

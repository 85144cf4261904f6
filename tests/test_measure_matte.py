"""The scripts that measure mattes, on one small composite with a network of a few kilobytes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from clip_cache import CachedClip, Footage, as_codes, as_float, cache_scene, run_network
from composites import Scene, furry_ball, painted_background
from measure_cases import codes_apart, edge_error
from measure_matte import MEASURES, MODES, by_size, filtered, measure, rembgs, score, show, summary
from tiny_onnx import make_salient

from vidmatte.models.augment import View
from vidmatte.models.chosen_weights import Weights
from vidmatte.settings import Settings

FRAMES = 8  # a multiple of the number of augmentation phases


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> CachedClip:
    """A light ball on a darker background: the tiny network's idea of a subject."""
    ball = furry_ball(1, side=96, strokes=600)
    ball[..., :3] = 0.5 * ball[..., :3] + 127
    ground = painted_background(1, 90, 160) // 3
    scene = Scene("ball", ball, ground, 192, 108, noise=2, frames=FRAMES)
    return cache_scene(scene, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    path = make_salient(tmp_path_factory.mktemp("weights") / "tiny.onnx", 64)
    return Weights("tiny", "isnet", path)


def test_every_mode_of_isnet_is_measured_against_raw(
    clip: CachedClip, weights: Weights, capsys: pytest.CaptureFixture[str]
) -> None:
    found = measure([clip], weights, MODES["isnet"])
    assert set(found) == {"raw", *MODES["isnet"]}
    raw = found["raw"].scores["ball"]
    assert 2 < raw["mad"] < 100, "the network found no subject, or nothing but it"
    for name in MODES["isnet"]:
        assert set(found[name].scores["ball"]) == set(MEASURES)
        assert all(np.isfinite(list(found[name].scores["ball"].values())))
        table = summary(found[name], found["raw"])
        flicker = found[name].scores["ball"]["flicker"] / raw["flicker"]
        assert table["ratio of means"]["flicker"] == pytest.approx(flicker)
        assert table["worst clip"]["mad"] == "ball"
        assert by_size(found[name], [clip])["192x108"].ms > 0
    capsys.readouterr()
    show("tiny", found, [clip])
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*MODES["isnet"], *MEASURES, "192x108"))


def test_the_ground_truth_scores_nearly_zero(clip: CachedClip) -> None:
    truth = [clip.truth(index) for index in range(FRAMES)]
    found = score(clip, truth)
    assert found["mad"] < 1
    assert found["mse"] < 0.01
    worse = score(clip, [np.clip(alpha + 0.1, 0, 1) for alpha in truth])
    assert worse["mad"] > 50


def test_a_cached_output_is_the_networks(clip: CachedClip, weights: Weights) -> None:
    view = View(mirrored=True, inset=True)
    np.testing.assert_array_equal(clip.output(weights, view), run_network(clip.rgb, weights, view))
    part = CachedClip(clip.folder, length=2)
    assert len(part.output(weights)) == 2


def test_cached_outputs_are_replayed_in_the_right_order(clip: CachedClip, weights: Weights) -> None:
    plain = np.stack([np.full((8, 8), number, np.uint16) for number in range(FRAMES)])
    outputs = {
        view: plain + 100 * view.mirrored + 200 * view.inset
        for view in (View(*of) for of in product((False, True), repeat=2))
    }
    footage = Footage(clip.rgb, outputs)
    replayed = {
        mode: [
            round(float(frame.alpha[0, 0]) * 65535, 1)
            for frame in footage.mattes(weights, Settings(smooth=mode))
        ]
        for mode in ("off", "live", "on", "strong")
    }
    assert replayed["off"] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert replayed["live"] == [200, 101, 202, 103, 204, 105, 206, 107]
    assert replayed["on"] == [200, 101, 2, 303, 204, 105, 6, 307]
    assert replayed["strong"] == [150, 151, 152, 153, 154, 155, 156, 157]


def test_joined_clips_are_filtered_separately(clip: CachedClip, weights: Weights) -> None:
    settings = Settings()
    footage = clip.footage(weights, settings)
    outputs = {view: codes[:, ::-1] for view, codes in footage.outputs.items()}
    other = Footage(255 - footage.pictures, outputs)
    joined = filtered(footage.then(other), weights, settings)[0]
    alone = [*filtered(footage, weights, settings)[0], *filtered(other, weights, settings)[0]]
    assert codes_apart(joined, alone).max() < 0.01


def test_rembgs_post_processing_stretches_and_resizes() -> None:
    output = np.full((32, 32), 0.2, np.float32)
    output[8:24, 8:24] = 0.6
    finished = rembgs(output, 48, 64)
    assert finished.shape == (48, 64)
    assert finished[24, 32] == 1
    assert finished[0, 0] == 0
    assert np.allclose(finished * 255, np.rint(finished * 255), atol=1e-3)
    assert finished.mean() == pytest.approx(0.25, abs=0.01)


def test_true_colours_have_no_error(clip: CachedClip) -> None:
    _, colours, ground = next(clip.layers())
    alpha = clip.truth(4)[..., None]
    true = np.where(alpha > 0, colours / np.maximum(alpha, 1e-6), 0)
    assert edge_error(true, colours, alpha[..., 0]) < 0.01
    assert edge_error(colours + (1 - alpha) * ground, colours, alpha[..., 0]) > 10


def test_alpha_survives_conversion_to_codes() -> None:
    codes = np.arange(0, 65536, 7, dtype=np.uint16)
    np.testing.assert_array_equal(as_codes(as_float(codes)), codes)

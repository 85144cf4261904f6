"""The benchmark of the guidance measures correctly, on small drawn scenes."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from composites import furry_ball, painted_background
from guidance_clips import (
    Actor,
    Clip,
    Scene,
    Shot,
    Stage,
    line,
    make_clip,
    scenes,
    still,
)
from guidance_pairs import pair_scenes
from measure_guidance import METHODS, Prepared, by_region, by_truth, measure, polygon, table


@pytest.fixture(scope="module")
def stage() -> Stage:
    """Two balls on painted backgrounds."""
    cast = {
        role: cv2.resize(furry_ball(seed=seed), (120, 120), interpolation=cv2.INTER_AREA)
        for role, seed in (("side", 5), ("fur", 8))
    }
    return Stage(cast, [painted_background(n, 120, 200) for n in range(2)])


@pytest.fixture(scope="module")
def clip(stage: Stage) -> Clip:
    """One ball passes before another."""
    actors = (
        Actor("a", "side", line((0, 0.25, 0.9, 0.75), (1, 0.75, 0.9, 0.75))),
        Actor("b", "fur", still(0.55, 0.8, 0.4)),
    )
    return make_clip(stage, Scene("small", "a", (Shot(actors, 6, 0),), 192, 108))


def test_visible_alphas_add_up(stage: Stage, clip: Clip):
    assert clip.rgb.shape == (6, 108, 192, 3)
    total = clip.wanted.astype(int) + clip.others
    assert total.max() <= 256
    assert (clip.wanted[0] > 127).sum() > 1.15 * (clip.wanted[3] > 127).sum() > 0  # hidden in part
    shot = clip.scene.shots[0]
    rendered = stage.render(clip.scene, shot, 2)
    alone = Shot(shot.actors[1:], shot.frames, shot.ground)
    assert np.allclose(
        rendered.alphas["b"], stage.render(clip.scene, alone, 2).alphas["b"], atol=0.08
    )


def test_a_scene_is_the_same_each_time(stage: Stage, clip: Clip):
    again = make_clip(stage, clip.scene)
    assert np.array_equal(again.wanted, clip.wanted)
    assert np.array_equal(again.rgb, clip.rgb)


def test_every_scene_shows_its_wanted_actor_first_and_has_its_own_name():
    all_scenes = [*scenes(), *pair_scenes()]
    assert len({scene.name for scene in all_scenes}) == len(all_scenes) >= 17
    assert sum(scene.held_out for scene in all_scenes) >= 3
    for scene in all_scenes:
        first = next(a for a in scene.shots[0].actors if a.name == scene.wanted).at(0)
        assert 0 <= first.x <= 1, scene.name
        assert all({a.name for a in shot.actors} >= {scene.wanted} for shot in scene.shots)


def prepared(clip: Clip) -> Prepared:
    """The clip with a network that marks every subject, and colour features."""
    alpha = np.maximum(clip.wanted, clip.others)
    return Prepared(clip, {"alpha": alpha}, "colour")


def test_the_measures_rank_the_methods(clip: Clip):
    row = measure(prepared(clip), corrections=True)
    scores = row.scores
    assert set(scores) == set(METHODS)
    assert scores["true choice"]["S"] > 0.97
    assert scores["ours"]["S"] > 0.8 > scores["network"]["S"]
    assert scores["ours"]["MAD"] < 0.8 * scores["network"]["MAD"]
    assert scores["network"]["leak"] > 0.9 > 0.1 > scores["ours"]["leak"]
    assert row.corrected[3] >= row.corrected[0] - 0.01
    assert list(row.corrected) == [0, 1, 2, 3]
    assert row.core_ms > 0


def test_touching_subjects_are_tracked_as_one_region(clip: Clip):
    ready = prepared(clip)
    fields = by_region(ready)
    others = ready.others(5) > 0.5
    assert (fields[5][others] > 0.5).mean() > 0.9


def test_the_true_choice_is_the_wanted_alone(clip: Clip):
    ready = prepared(clip)
    fields = by_truth(ready)
    wanted, others = ready.wanted(3) > 0.7, ready.others(3) > 0.7
    assert fields[3][wanted].min() == 1
    assert fields[3][others].max() == 0


def test_polygon_keeps_the_shape_within_two_pixels():
    mask = np.zeros((100, 100), np.uint8)
    cv2.circle(mask, (50, 50), 30, 255, -1)
    drawn = polygon(mask)
    assert set(np.unique(drawn)) == {0, 255}
    assert cv2.distanceTransform((mask == 0).astype(np.uint8), cv2.DIST_L2, 5)[drawn > 0].max() <= 2
    assert ((drawn > 0) & (mask > 0)).sum() > 0.93 * (mask > 0).sum()


def test_the_table_has_a_column_for_each_clip_and_both_means(clip: Clip):
    row = measure(prepared(clip), corrections=False)
    lines = list(table([row, replace(row, name="other", held_out=True)], "MAD"))
    assert lines[0] == "| MAD | small | other | mean | held out |"
    assert len(lines) == 2 + len(METHODS)
    cells = lines[2].split(" | ")
    assert cells[0] == "| network"
    assert len(cells) == 5

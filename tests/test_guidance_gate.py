"""Gating the network's alpha with a field."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from guidance_drawn import HEIGHT, RED, WIDTH, Drawn, moving

from vidmatte.alpha.guidance.appearance import edge_logits
from vidmatte.alpha.guidance.coarse import ColourGuide, packed, unpacked
from vidmatte.alpha.guidance.gate import make_gate, unseen_share
from vidmatte.alpha.guidance.pieces import Evidence, drop_enclosed, fill_gaps


def soft_disc(x: float, y: float, radius: float, edge: float = 4) -> np.ndarray:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    return np.clip((radius - np.hypot(columns - x, rows - y)) / edge + 0.5, 0, 1)


MINE, OTHER = soft_disc(90, 90, 40), soft_disc(230, 90, 40)
ALPHA = np.maximum(MINE, OTHER)
FIELD = (MINE > 0.5).astype(np.float32)
GROWN = (MINE > 0.02).astype(np.float32)  # including the soft edge


def full(values: np.ndarray, scale: int = 4) -> np.ndarray:
    return cv2.resize(values, (WIDTH * scale, HEIGHT * scale), interpolation=cv2.INTER_LINEAR)


def test_the_other_vanishes_and_the_wanted_edge_stays_the_networks():
    result = make_gate(GROWN, ALPHA, core=False).apply(full(ALPHA))
    inside = cv2.erode((full(OTHER) > 0.5).astype(np.uint8), np.ones((9, 9))) > 0
    assert result[inside].max() < 0.02
    near = full(soft_disc(90, 90, 60)) > 0.5
    assert np.abs(result - full(ALPHA))[near].max() <= 1 / 255


def test_hair_outside_the_field_belongs_to_its_subject():
    alpha = ALPHA.copy()
    alpha[88:90, 130:140] = 0.35  # a strand that the field does not cover
    result = make_gate(GROWN, alpha).apply(full(alpha))
    strand = np.s_[88 * 4 + 2 : 90 * 4 - 2, 132 * 4 : 136 * 4]
    assert np.allclose(result[strand], full(alpha)[strand], atol=0.02)


def test_the_core_adds_what_the_network_misses():
    nothing = np.zeros_like(ALPHA)
    gate = make_gate(FIELD, nothing)
    result = gate.apply(full(nothing))
    assert result[90 * 4, 90 * 4] == pytest.approx(1)
    assert make_gate(FIELD, nothing, core=False).apply(full(nothing)).max() == 0
    outside = full((MINE <= 0).astype(np.float32)) > 0.99
    assert result[outside].max() < 0.02


def test_an_empty_field_gives_an_empty_matte():
    assert make_gate(np.zeros_like(FIELD), ALPHA).apply(full(ALPHA)).max() < 1e-3


def test_unseen_share():
    assert unseen_share(FIELD, ALPHA) < 0.05
    assert unseen_share(FIELD, np.zeros_like(ALPHA)) == 1
    assert unseen_share(np.zeros_like(FIELD), ALPHA) == 0


def test_colours_place_the_edge_that_the_network_misses():
    clip = Drawn([(moving((90, 90), (0, 0)), 40, RED)], 1, unmarked=[0])
    truth, nothing = clip.mask(0, 0), np.zeros((HEIGHT, WIDTH), np.float32)
    wide = cv2.GaussianBlur(cv2.dilate(truth, np.ones((5, 5), np.uint8)), (0, 0), 1)
    gate = make_gate(wide, clip.frames[0].alpha)
    own, solved = gate.apply(nothing), gate.apply(nothing, clip.pictures[0])
    assert np.abs(own - truth).mean() > 1.5 * np.abs(solved - truth).mean()
    assert ((solved > 0.5) & (truth > 0.5)).sum() > 0.95 * ((solved > 0.5) | (truth > 0.5)).sum()


def test_the_middle_of_a_thin_part_survives_where_the_network_misses_it():
    picture = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    picture[60:64, 40:200] = 200
    field = np.zeros((HEIGHT, WIDTH), np.float32)
    field[60:64, 40:200] = 1
    nothing = np.zeros_like(field)
    gate = make_gate(field, nothing)
    for result in (gate.apply(nothing), gate.apply(nothing, picture)):
        assert result[61:63, 50:190].min() > 0.9
        assert result[70:].max() < 0.01


def test_the_networks_edge_holds_where_it_sees_the_subject():
    """A field that is too narrow or too wide there changes nothing."""
    narrow, wide = soft_disc(90, 90, 38), soft_disc(90, 90, 42)
    near = full(soft_disc(90, 90, 60)) > 0.5
    for field in (narrow, wide):
        result = make_gate((field > 0.5).astype(np.float32), ALPHA).apply(full(ALPHA))
        assert np.abs(result - full(ALPHA))[near].max() < 0.1


def test_what_the_network_sees_does_not_depend_on_the_picture():
    random = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    gate = make_gate(FIELD, MINE)
    assert np.allclose(gate.apply(MINE, random), gate.apply(MINE), atol=0.02)


def test_an_alpha_that_has_passed_is_not_filled_again():
    small = soft_disc(90, 90, 25)
    first = make_gate(FIELD, small).apply(small)
    again = make_gate(FIELD, small, fill=False).apply(small)
    assert first[90, 129] > 0.9  # within the field, by its edge
    assert again[90, 129] < 0.5


@pytest.mark.parametrize("radius", [3, 6])
def test_smoothing_preserves_the_guides_edges(radius: int):
    guide = np.zeros((60, 80, 3), np.float32)
    guide[:, 40:] = (1, 0.5, -0.5)
    random = np.random.default_rng(0)
    picture = (guide[..., 0] + random.normal(0, 0.3, (60, 80))).astype(np.float32)
    smooth = ColourGuide(guide, radius).smooth(picture)
    assert np.abs(smooth - guide[..., 0]).mean() < 0.4 * np.abs(picture - guide[..., 0]).mean()
    assert smooth[:, 41].mean() - smooth[:, 38].mean() > 0.9


def test_weighted_smoothing_ignores_pixels_without_weight():
    guide = np.zeros((40, 40, 3), np.float32)
    picture, weight = np.ones((40, 40), np.float32), np.ones((40, 40), np.float32)
    picture[10:14, 10:14], weight[10:14, 10:14] = 50, 1e-3
    smooth = ColourGuide(guide).weighted(picture, weight)
    assert abs(smooth[12, 12] - 1) < 0.05


def test_colours_place_the_edge_where_the_field_is_too_wide():
    lab = np.zeros((60, 80, 3), np.float32)
    lab[:, :40] = (60, 20, 20)
    field = np.zeros((60, 80), np.float32)
    field[:, :43] = 1  # three columns too many
    logits = edge_logits(lab, field)
    assert logits[30, 39] > 1
    assert logits[30, 41] < -1
    assert abs(logits[30, 75]) < 0.01


def evidence(alpha: np.ndarray, look: np.ndarray) -> Evidence:
    return Evidence(alpha, np.zeros_like(alpha), look, np.zeros_like(alpha))


def test_a_part_of_another_that_looks_alike_is_dropped():
    face = soft_disc(230, 90, 15)
    unknown, seen = np.zeros_like(face), evidence(ALPHA, 6 * face - 3)
    for searching in (False, True):
        dropped = drop_enclosed(face, seen, unknown, 5000, searching=searching)
        assert not (dropped > 0.5).any()
    assert np.array_equal(drop_enclosed(face, seen, unknown + 1, 5000, searching=False), face)
    alone = evidence(face, 6 * face - 3)  # nothing is marked around it
    assert np.array_equal(drop_enclosed(face, alone, unknown, 5000, searching=False), face)
    alike = evidence(ALPHA, np.ones_like(face))  # what surrounds it may be more of it
    assert np.array_equal(drop_enclosed(face, alike, unknown, 5000, searching=True), face)


def test_a_gap_is_filled_unless_another_is_seen_through_it():
    ring = MINE - soft_disc(90, 90, 8, 1)
    unknown = np.zeros_like(ring)
    alike, unlike = evidence(ALPHA, unknown), evidence(ALPHA, unknown - 2)
    assert fill_gaps(ring, alike, unknown, ring.sum())[90, 90] > 0.8
    assert np.array_equal(fill_gaps(ring, alike, unknown + 1, ring.sum()), ring)
    assert np.array_equal(fill_gaps(ring, unlike, unknown, ring.sum()), ring)


def test_a_map_is_packed_small():
    data = packed(MINE)
    assert len(data) < 2000
    assert np.abs(unpacked(data, MINE.shape) - MINE).mean() < 0.02

"""Close-ups of points and boxes, and the masks that are made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from guidance_drawn import Drawn, overlap, touching_discs
from tiny_onnx import make_salient

from vidmatte.alpha.guidance.box_mask import Box, mask_from_box
from vidmatte.alpha.guidance.close_ups import crops_around, crops_of_box, placed
from vidmatte.alpha.guidance.random_walk import random_walk
from vidmatte.alpha.guidance.second_look import Crop
from vidmatte.alpha.guidance.selection import Click, mask_from_clicks
from vidmatte.core import prompts
from vidmatte.jobs.key_looks import KeyLooker
from vidmatte.models.registry import find_model
from vidmatte.settings import Settings


@pytest.fixture(scope="module")
def touching() -> Drawn:
    return touching_discs()


def test_close_ups_stay_in_the_frame():
    sizes = [(1920, 1080), (1080, 1920), (64, 48), (3, 2)]
    for width, height in sizes:
        for x, y in ((0, 0), (width - 1, height - 1), (width / 2, height / 3)):
            for crop in crops_around(x, y, width, height):
                assert 0 <= crop.left < crop.right <= width
                assert 0 <= crop.top < crop.bottom <= height
                assert crop.left <= x < crop.right
                assert crop.top <= y < crop.bottom
    for crop in crops_of_box(-40, 10.2, 2.4, 10.3, 64, 48):
        assert 0 <= crop.left < crop.right <= 64
        assert 0 <= crop.top < crop.bottom <= 48


def test_a_close_up_lies_where_it_was_taken(touching: Drawn):
    frame = touching.frames[0]
    full = placed(np.ones((50, 60), np.float32), Crop(320, 90, 480, 270), 640, 360, frame)
    expected = np.zeros((frame.height, frame.width), np.float32)
    expected[45:135, 160:240] = 1
    assert np.array_equal(full, expected)


def test_a_walk_solves_its_equations():
    random = np.random.default_rng(0)
    across, down = random.uniform(0.01, 1, (5, 6)), random.uniform(0.01, 1, (4, 7))
    target, weight = random.uniform(0, 1, (5, 7)), random.uniform(0.01, 0.5, (5, 7))
    place = np.arange(35).reshape(5, 7)
    matrix = np.diag(weight.ravel())
    for bonds, one, two in ((across, place[:, :-1], place[:, 1:]), (down, place[:-1], place[1:])):
        for bond, i, j in zip(bonds.ravel(), one.ravel(), two.ravel(), strict=True):
            matrix[[i, j], [i, j]] += bond
            matrix[[i, j], [j, i]] -= bond
    exact = np.linalg.solve(matrix, (weight * target).ravel()).reshape(5, 7)
    arrays = [np.float32(one) for one in (across, down, target, weight)]
    assert np.abs(random_walk(*arrays) - exact).max() < 1e-3


def test_the_first_click_takes_what_its_close_ups_agree_on(touching: Drawn):
    frame, click = touching.frames[0], [Click(120, 90)]
    both = mask_from_clicks(frame, click)
    assert overlap(both, touching.mask(0, 0)) < 0.6  # the network marks both as one
    alone = mask_from_clicks(frame, click, [touching.mask(0, 0).astype(np.float32)] * 2)
    assert overlap(alone, touching.mask(0, 0)) > 0.98


def test_the_first_click_takes_ends_that_few_close_ups_mark_and_no_other_subject(touching: Drawn):
    frame, click = touching.frames[0], [Click(120, 90)]
    body = touching.mask(0, 0)
    hand, other = body.copy(), np.maximum(body, touching.mask(0, 1))
    hand[44:60, 115:125] = 1
    for more, taken in ((hand, True), (other, False)):
        mask = mask_from_clicks(frame, click, [body, body, body, more, more]) > 0.5
        extra = (more > 0.5) & (body < 0.5)
        assert (mask[extra].mean() > 0.9) == taken
        assert overlap(mask & ~extra, body > 0.5) > 0.97


def test_a_wanted_click_only_adds_and_an_unwanted_one_only_removes(touching: Drawn):
    frame, clicks = touching.frames[0], [Click(120, 90), Click(185, 90, False)]
    whole, less = (mask_from_clicks(frame, clicks[:count]) > 0.5 for count in (1, 2))
    more = mask_from_clicks(frame, [*clicks, Click(60, 40)]) > 0.5
    assert not (less & ~whole).any()
    assert not (less & ~more).any()
    assert more[40, 60]
    assert overlap(less, touching.mask(0, 0)) > 0.9


def test_a_box_takes_the_close_up_that_fits_it(touching: Drawn):
    frame, box = touching.frames[0], Box(84, 54, 157, 127)
    alone = touching.mask(0, 0).astype(np.float32)
    found = mask_from_box(frame, box, [frame.alpha, alone, np.zeros_like(alone)])
    assert overlap(found, touching.mask(0, 0)) > 0.98


def test_networks_see_close_ups_once_for_a_prompt(touching: Drawn, tmp_path: Path):
    settings = Settings(model=str(make_salient(tmp_path / "tiny.onnx", 160)), family="isnet")
    looker = KeyLooker(find_model(settings, print), settings)
    asked = []

    def rgb() -> np.ndarray:
        asked.append(0)
        white = (255 * touching.mask(0, 0)).astype(np.uint8)
        return np.repeat(np.repeat(white, 2, 0), 2, 1)[..., None].repeat(3, 2)

    given = [prompts.Point(370, 180, wanted=False), prompts.Point(240, 180)]
    box = prompts.Box(168, 108, 314, 254)
    frame = touching.frames[0]
    looks = looker.looks(0, frame, [*given, box], rgb)
    again = looker.looks(0, frame, [*given, box], rgb)
    assert len(asked) == 2
    assert again.close_ups is looks.close_ups
    assert len(looks.close_ups) == 7  # a frame of a network of people, three parts for each of two
    assert [alpha.shape for alpha in looks.of_boxes[box]] == [(180, 320)] * 5
    seen = [overlap(alpha, touching.mask(0, 0)) > 0.9 for alpha in looks.close_ups]
    assert sum(seen) >= 2  # of the parts, whole or nearly so
    other = looker.looks(0, frame, [prompts.Point(370, 180)], rgb)
    assert len(asked) == 3
    assert not other.of_boxes
    assert (
        KeyLooker(find_model(settings, print), settings, close_ups=False)
        .looks(0, frame, given, rgb)
        .close_ups
        == ()
    )

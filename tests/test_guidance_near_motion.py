"""Clicks with motion around their frame: who moves with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from guidance_drawn import BLUE, RED, Drawn, moving, overlap
from media import make_movie
from scene import Picture
from tiny_onnx import make_salient

from vidmatte.alpha.guidance.box_mask import Box, mask_from_box
from vidmatte.alpha.guidance.coarse import SmallPicture
from vidmatte.alpha.guidance.near_motion import DISTANCES, ClickMotion, near_motions
from vidmatte.alpha.guidance.selection import Click, mask_from_clicks
from vidmatte.jobs.key_looks import KeyPictures, alpha_of_frame
from vidmatte.models.registry import find_model
from vidmatte.settings import Settings

KEY = 3


@pytest.fixture(scope="module")
def crossing() -> Drawn:
    """Two discs of one texture that the network marks as one, on frame ``KEY``."""
    left, right = moving((108, 90), (4, 0)), moving((178, 80), (-4, 1))
    return Drawn([(left, 36, RED), (right, 36, RED)], 7)


def brighter(position: float, width: int, height: int, lit: bool = False) -> Picture:
    """Each frame a tenth brighter than the last."""
    grey = np.full((height, width, 3), position / 10, np.float32)
    return Picture(grey, np.ones((height, width), np.float32))


def around(drawn: Drawn) -> dict[int, SmallPicture]:
    frames = {d: drawn.frames[KEY + d] for d in DISTANCES}
    return {d: SmallPicture(frame.picture, frame.grey) for d, frame in frames.items()}


def test_one_click_takes_one_of_two_that_touch_and_look_alike(crossing: Drawn):
    frame, motions = crossing.frames[KEY], near_motions(crossing.frames[KEY], around(crossing))
    assert [motion.distance for motion in motions] == [-1, -3, 1, 3]
    for which, click in enumerate((Click(120, 90), Click(170, 84))):
        truth = crossing.mask(KEY, which)
        assert overlap(mask_from_clicks(frame, [click]), truth) < 0.7
        assert overlap(mask_from_clicks(frame, [click], motions=motions), truth) > 0.95


def test_an_unwanted_click_tells_motion_that_is_alike(crossing: Drawn):
    frame = crossing.frames[KEY]
    motion = ClickMotion(near_motions(frame, around(crossing)), [frame.alpha])
    alone = motion.evidence((90, 120))
    assert alone[90, 120] > 2
    assert alone[84, 170] < -2
    assert alone[20, 20] < -2  # the background
    against_itself = motion.evidence((90, 120), [(90, 125)])
    assert abs(against_itself[90, 120]) < 1


def test_nothing_is_known_beyond_a_cut(crossing: Drawn):
    frame, near = crossing.frames[KEY], around(crossing)
    other = Drawn([], 1, lambda index: BLUE[200:]).frames[0]
    near[1] = SmallPicture(other.picture, other.grey)
    assert [motion.distance for motion in near_motions(frame, near)] == [-1, -3]
    assert not ClickMotion([], [frame.alpha])
    assert not ClickMotion([], [frame.alpha]).evidence((90, 120)).any()


def test_still_pictures_say_nothing(crossing: Drawn):
    frame = crossing.frames[KEY]
    still = dict.fromkeys(DISTANCES, SmallPicture(frame.picture, frame.grey))
    evidence = ClickMotion(near_motions(frame, still), [frame.alpha]).evidence((90, 120))
    assert np.abs(evidence).max() < 0.5


def test_the_frames_around_come_whatever_the_range(tmp_path: Path):
    clip = make_movie(tmp_path / "a clip.mp4", frames=9, draw=brighter).path
    for number, expected in (
        (4, {-3: 1, -1: 3, 1: 5, 3: 7}),
        (0, {1: 1, 3: 3}),
        (8, {-3: 5, -1: 7}),
    ):
        seen = KeyPictures(clip, number, Settings(in_point="f4", out_point="f5"))
        found = seen.nearby()
        assert round(float(seen.rgb().mean()) / 25.5) == number
        assert {d: round(float(one.picture.mean()) / 25.5) for d, one in found.items()} == expected


def test_a_key_frame_is_the_picture_that_a_run_sees(tmp_path: Path):
    clip = make_movie(tmp_path / "clip.mp4", frames=6).path
    settings = Settings(model=make_salient(tmp_path / "tiny.onnx", 16), family="isnet")
    rgb, _ = alpha_of_frame(clip, 4, find_model(settings, print), settings)
    assert np.array_equal(KeyPictures(clip, 4, settings).rgb(), rgb)


def test_a_box_takes_who_moves_within_it(crossing: Drawn):
    frame, motions = crossing.frames[KEY], near_motions(crossing.frames[KEY], around(crossing))
    left = crossing.mask(KEY, 0)
    rows, columns = np.nonzero(left)
    box = Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert overlap(mask_from_box(frame, box), left) < 0.9
    assert overlap(mask_from_box(frame, box, motions=motions), left) > 0.95

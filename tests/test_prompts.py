"""Prompts as texts, as values and as a file."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from test_cutout import make_clip

from vidmatte.alpha.guidance.subjects_file import read_subjects, subjects_text
from vidmatte.core.frame import Clip
from vidmatte.core.prompts import (
    Box,
    Choice,
    Mask,
    Moment,
    Point,
    Prompt,
    _parse_moment,
    parse_prompt,
    prompt_text,
)
from vidmatte.errors import UsageError


def clip_of(width: int, height: int, pixel_aspect: Fraction = Fraction(1)) -> Clip:
    """A clip of that size, not backed by a file."""
    return make_clip("yuv420p", width=width, height=height, sample_aspect_ratio=pixel_aspect)


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("640,300", Point(640, 300)),
        ("640.5, 300", Point(640.5, 300)),
        ("640,300@00:00:01:05", Point(640, 300, Moment("timecode", "00:00:01:05"))),
        ("640,300@1.5", Point(640, 300, Moment("seconds", "1.5"))),
        ("100,50,400,700@f0", Box(100, 50, 400, 700, Moment("frame", "0"))),
        ("largest", Choice("largest")),
        ("!2@f7", Choice(2, Moment("frame", "7"), wanted=False)),
        ("!100,50,400,700", Box(100, 50, 400, 700, wanted=False)),
        ("mask.png@f12", Mask(Path("mask.png"), Moment("frame", "12"))),
        ("a@b/mask.png", Mask(Path("a@b/mask.png"))),
        ("a@b/mask.png@f3", Mask(Path("a@b/mask.png"), Moment("frame", "3"))),
        ("actor:640,300", Point(640, 300, subject="actor")),
        ("actor:!640,300", Point(640, 300, wanted=False, subject="actor")),
        ("!actor:mask.png@f2", Mask(Path("mask.png"), Moment("frame", "2"), False, "actor")),
        ("actor:/a/mask.png", Mask(Path("/a/mask.png"), subject="actor")),
        ("C:\\masks\\one.png", Mask(Path("C:\\masks\\one.png"))),
        ("./actor:1.png", Mask(Path("./actor:1.png"))),
    ],
)
def test_a_text_is_read(text: str, prompt: object):
    assert parse_prompt(text) == prompt


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names nothing"),
        ("!", "names nothing"),
        ("@f3", "names nothing"),
        ("1,2,3", "3 numbers"),
        ("6400", "1 number: write"),
        ("400,50,100,700", "LEFT < RIGHT"),
        ("640,", "write X,Y for a point"),
        ("the dog:640,300", "'the dog' is not a name"),
        ("d:largest", "a name has two or more letters"),
        ("640,300@later", "'later' is not a time"),
    ],
)
def test_a_wrong_text_is_one_clear_line(text: str, said: str):
    with pytest.raises(UsageError, match=said) as caught:
        parse_prompt(text)
    assert "\n" not in str(caught.value)


def test_moments():
    assert _parse_moment("f12") == Moment("frame", "12")
    assert _parse_moment("3/2") == Moment("seconds", "3/2")
    assert _parse_moment("01:02:03;04") == Moment("timecode", "01:02:03;04")
    for text in ("", "f", "f-1", "-1", "12s", "1/0", "1:2:3:4"):
        assert _parse_moment(text) is None


@pytest.mark.parametrize(
    ("moment", "point"),
    [
        (Moment(), None),
        (Moment("frame", "7"), "f7"),
        (Moment("pts", "1500"), "3/2"),
        (Moment("seconds", "3/2"), "3/2"),
        (Moment("timecode", "00:00:01:05"), "00:00:01:05"),
    ],
)
def test_a_moment_as_in_points_are_written(moment: Moment, point: str | None):
    assert moment.point(Fraction(1, 1000)) == point


@pytest.mark.parametrize(
    "prompt",
    [
        Point(640.25, 300, Moment("seconds", "1.5"), subject="actor"),
        Box(100, 50, 400, 700, wanted=False),
        Mask(Path("masks/a b.png"), Moment("timecode", "00:00:01:05")),
        Choice("person", Moment("frame", "3")),
        Choice(2),
    ],
)
def test_a_prompt_as_text_is_the_same_prompt(prompt: Prompt):
    assert parse_prompt(prompt_text(prompt)) == prompt


def test_a_mask_in_memory_has_no_text():
    with pytest.raises(UsageError, match="save it as a picture"):
        prompt_text(Mask(np.ones((2, 2), np.uint8)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Point(float("nan"), 1),
        lambda: Point("left", 1),
        lambda: Box(5, 5, 5, 9),
        lambda: Point(1, 2, subject="1st"),
        lambda: Point(1, 2, subject="x"),
        lambda: Mask(7),
    ],
)
def test_wrong_values_are_refused_when_made(make):
    with pytest.raises(ValidationError):
        make()


def test_places_outside_the_frame_are_refused():
    Point(639, 359).check(640, 360)
    Box(-5, -5, 1, 1).check(640, 360)
    for prompt in (Point(640, 10), Point(-1, 10), Point(3, 360)):
        with pytest.raises(UsageError, match="outside the frame"):
            prompt.check(640, 360)
    with pytest.raises(UsageError, match="outside the frame of 640x360"):
        Box(640, 0, 700, 50).check(640, 360)


FULL = [
    Point(640, 300, Moment("pts", "1024"), subject="actor"),
    Box(100, 50, 400.5, 700, Moment("seconds", "1.5"), wanted=False),
    Mask(Path("mask.png"), Moment("timecode", "00:00:01:05")),
    Choice("centre", wanted=False),
    Point(1, 2),
]


def test_a_file_gives_back_what_was_written(tmp_path: Path):
    path = tmp_path / "clip.json"
    path.write_text(subjects_text(FULL, 1920, 1080))
    read = read_subjects(path, clip_of(1920, 1080))
    assert read[:2] + read[3:] == FULL[:2] + FULL[3:]
    assert read[2] == Mask(tmp_path / "mask.png", Moment("timecode", "00:00:01:05"))


def test_positions_are_scaled_to_the_clip(tmp_path: Path):
    path = tmp_path / "clip.json"
    path.write_text(subjects_text(FULL[:2], 1920, 1080))
    point, box = read_subjects(path, clip_of(960, 540))
    assert (point.x, point.y) == (320, 150)
    assert (box.left, box.top, box.right, box.bottom) == (50, 25, 200.25, 350)


@pytest.mark.parametrize(
    ("clip", "scale"),
    [
        (clip_of(854, 480), (854 / 1920, 480 / 1080)),  # rounded
        (clip_of(1920, 1088), (1, 1088 / 1080)),  # filled up to whole blocks
        (clip_of(1440, 1080, Fraction(4, 3)), (0.75, 1)),  # displayed as 1920x1080
    ],
)
def test_sizes_of_the_same_aspect_ratio_fit(clip: Clip, scale: tuple[float, float], tmp_path: Path):
    path = tmp_path / "clip.json"
    path.write_text(subjects_text([Point(640, 300)], 1920, 1080))
    (point,) = read_subjects(path, clip)
    assert (point.x, point.y) == pytest.approx((640 * scale[0], 300 * scale[1]))


@pytest.mark.parametrize("size", [(960, 270), (1080, 1920), (1440, 1080), (2048, 1080)])
def test_a_file_for_another_aspect_ratio_is_refused(size: tuple[int, int], tmp_path: Path):
    path = tmp_path / "clip.json"
    path.write_text(subjects_text([Point(64, 30)], 1920, 1080))
    said = (
        f"--subjects '{path}' is for frames of 1920x1080 and the clip's are {size[0]}x{size[1]},"
        " another aspect ratio: choose the subject on this clip, or correct 'width' and 'height'"
        " of the file"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
        read_subjects(path, clip_of(*size))


POINT = {"kind": "point", "x": 1, "y": 2}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"version": 2, "prompts": []}, "version"),
        ({"version": 1}, "prompts"),
        ({"version": 1, "prompts": [], "wide": 3}, "wide"),
        ({"version": 1, "prompts": [], "width": 3}, "give width and height"),
        ({"version": 1, "prompts": [{"kind": "circle"}]}, "prompt 1: Input tag"),
        ({"version": 1, "prompts": [{"kind": "point", "x": 1}]}, "prompt 1: y: Field required"),
        ({"version": 1, "prompts": [POINT | {"at": {"frame": -1}}]}, "prompt 1: frame: Input"),
        (
            {"version": 1, "prompts": [POINT, {"kind": "region", "choose": "biggest"}]},
            "prompt 2: choose: expected 'largest', 'centre', 'person', 'all' or a number",
        ),
        ({"version": 1, "prompts": [POINT | {"at": {}}]}, "give one of"),
        ({"version": 1, "prompts": [POINT | {"at": {"frame": 1, "pts": 2}}]}, "give one of"),
        (
            {"version": 1, "prompts": [POINT | {"subject": "?"}]},
            "prompt 1: subject: '.' is not a name",
        ),
        (
            {
                "version": 1,
                "prompts": [{"kind": "box", "left": 9, "top": 0, "right": 3, "bottom": 9}],
            },
            "left must be below right",
        ),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, content: dict, said: str):
    path = tmp_path / "clip.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=said) as caught:
        read_subjects(path, clip_of(10, 10))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_missing_or_no_json(tmp_path: Path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_subjects(tmp_path / "none.json", clip_of(10, 10))
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UsageError, match="not a subjects file"):
        read_subjects(tmp_path / "bad.json", clip_of(10, 10))


def test_a_mask_in_memory_cannot_be_written():
    with pytest.raises(UsageError, match="save it as a picture"):
        subjects_text([Mask(np.ones((2, 2), np.uint8))], 2, 2)

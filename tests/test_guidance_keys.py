"""Key masks from prompts; stores on disk; several subjects at once."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from guidance_drawn import (
    BLUE,
    HEIGHT,
    RED,
    WIDTH,
    Drawn,
    moving,
    overlap,
    touching_discs,
)  # fmt: skip

from vidmatte.alpha.guidance.appearance import KeyFrame
from vidmatte.alpha.guidance.coarse import CoarseFrameMaker, work_size
from vidmatte.alpha.guidance.key_masks import check_keys, key_mask
from vidmatte.alpha.guidance.motion import Motion, MotionSearch
from vidmatte.alpha.guidance.store import CoarseStore, FieldStore, FlowStore, SpilledMaps
from vidmatte.alpha.guidance.tracker import SubjectTracker, shared_fields
from vidmatte.core.prompts import Box, Mask, Point
from vidmatte.errors import UsageError

SIZE = 2 * WIDTH, 2 * HEIGHT  # of the frame; the coarse frame has half the size


@pytest.fixture(scope="module")
def apart() -> Drawn:
    return Drawn([(moving((80, 90), (4, 0)), 34, RED), (moving((240, 90), (-4, 0)), 34, BLUE)], 5)


@pytest.fixture(scope="module")
def touching() -> Drawn:
    return touching_discs()


def test_one_click_takes_an_isolated_subject(apart: Drawn):
    mask = key_mask(apart.frames[0], [Point(160, 180)], *SIZE)
    assert overlap(mask, apart.mask(0, 0)) > 0.96


def test_an_unwanted_click_alone_takes_everything_else(apart: Drawn):
    mask = key_mask(apart.frames[0], [Point(160, 180, wanted=False)], *SIZE)
    assert overlap(mask, apart.mask(0, 1)) > 0.96


def test_clicks_of_both_signs_separate_touching_subjects(touching: Drawn):
    clicks = [Point(240, 180), Point(370, 180, wanted=False)]
    assert overlap(key_mask(touching.frames[0], clicks, *SIZE), touching.mask(0, 0)) > 0.85
    swapped = [Point(370, 180), Point(240, 180, wanted=False)]
    assert overlap(key_mask(touching.frames[0], swapped, *SIZE), touching.mask(0, 1)) > 0.85


def test_a_click_where_the_network_finds_nothing():
    hidden, seen = (moving((80, 90), (0, 0)), 30, RED), (moving((240, 90), (0, 0)), 34, BLUE)
    clip = Drawn([hidden, seen], 1, unmarked=[0])
    mask = key_mask(clip.frames[0], [Point(160, 180), Point(160, 330, wanted=False)], *SIZE)
    assert overlap(mask, clip.mask(0, 0)) > 0.6


def test_a_box_takes_the_region_it_frames(apart: Drawn):
    mask = key_mask(apart.frames[0], [Box(400, 100, 560, 260)], *SIZE)
    assert overlap(mask, apart.mask(0, 1)) > 0.96


def test_an_unwanted_box_is_subtracted(apart: Drawn):
    prompts = [Box(0, 0, 640, 360), Box(380, 0, 640, 360, wanted=False)]
    both = key_mask(apart.frames[0], prompts[1:], *SIZE)
    assert overlap(both, apart.mask(0, 0)) > 0.96


def test_a_painted_mask_of_another_size_and_depth_is_fitted(apart: Drawn, tmp_path: Path):
    truth = apart.mask(0, 0)
    cv2.imwrite(str(tmp_path / "a.png"), cv2.resize(truth * 65535, (960, 540)).astype(np.uint16))
    clear = np.dstack([np.full((HEIGHT, WIDTH, 3), 255, np.uint8), (truth * 255).astype(np.uint8)])
    cv2.imwrite(str(tmp_path / "b.png"), clear)
    for source in (tmp_path / "a.png", tmp_path / "b.png", truth, truth > 0.5):
        mask = key_mask(apart.frames[0], [Mask(source)], *SIZE)
        assert overlap(mask, truth) > 0.97


def test_a_black_mask_means_no_subject(apart: Drawn):
    black = np.zeros((HEIGHT, WIDTH), np.uint8)
    empty = key_mask(apart.frames[0], [Mask(black)], *SIZE)
    assert empty.max() == 0
    check_keys([empty, apart.mask(0, 0)], "actor")
    with pytest.raises(UsageError, match="all masks of 'actor' are black"):
        check_keys([empty], "actor")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Point(640, 10), "outside the frame"),
        (Mask(np.full((HEIGHT, WIDTH), 255, np.uint8)), "all white"),
        (
            Mask(np.zeros((HEIGHT, HEIGHT), np.uint8)),
            r"^a mask is 180x180 and the frame is 640x360, another shape: draw it over a frame",
        ),
        (Mask(np.zeros((3, 4, 5, 6), np.uint8)), "shape"),
        (Mask(Path("none.png")), "cannot be read"),
        (Mask(Path(__file__)), "not a picture"),
    ],
)
def test_an_invalid_prompt_is_reported_in_one_line(apart: Drawn, prompt, message: str):
    with pytest.raises(UsageError, match=message) as caught:
        key_mask(apart.frames[0], [prompt], *SIZE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920), (7680, 4320), (640, 480), (64, 48)])
def test_coarse_frames_have_the_same_area_for_all_sizes(size: tuple[int, int]):
    width, height = work_size(*size)
    assert width % 2 == 0
    assert height % 2 == 0
    assert width * height < 1.02 * 320 * 180
    if size[0] > 320:
        assert width * height > 0.97 * 320 * 180
        assert abs(width / height / (size[0] / size[1]) - 1) < 0.02


def test_coarse_frames_come_back_from_disk(apart: Drawn, tmp_path: Path):
    random = np.random.default_rng(0)
    tensors = [random.normal(size=(8, 20, 30)), random.normal(size=(200, 10, 15))]
    maker = CoarseFrameMaker()
    made = [maker.make(picture, apart.frames[0].alpha, tensors) for picture in apart.pictures]
    store = CoarseStore(tmp_path / "store")
    for frame in made[:3]:
        store.append(frame)
    with (tmp_path / "store" / "coarse.bin").open("ab") as file:
        file.write(b"a piece of a frame")  # as after a killed run
    store = CoarseStore(tmp_path / "store")
    assert len(store) == 3
    store.append(made[3])
    assert len(store) == 4
    for index, frame in enumerate(made[:4]):
        back = store[index]
        assert np.array_equal(back.picture, frame.picture)
        assert np.array_equal(back.features.joined(), frame.features.joined())
        assert np.array_equal(back.alpha, frame.alpha)
    assert [t.shape[0] for t in store[0].tensors] == [8, 128]
    with pytest.raises(IndexError):
        store[4]


def test_features_are_projected_as_if_they_had_been_joined(apart: Drawn):
    random = np.random.default_rng(0)
    tensors = [random.normal(size=shape) for shape in ((8, 60, 100), (40, 20, 30), (5, 90, 160))]
    features = CoarseFrameMaker().make(apart.pictures[0], apart.frames[0].alpha, tensors).features
    joined = features.joined()
    assert joined.shape == (HEIGHT // 2, WIDTH // 2, 6 + 8 + 40 + 5)
    axes = random.normal(size=(joined.shape[2], 16)).astype(np.float32)
    assert np.abs(features.projected(axes) - joined @ axes).max() < 1e-3 * np.abs(joined).max()
    four = joined.reshape(HEIGHT // 4, 2, WIDTH // 4, 2, -1).mean((1, 3))
    pooled = features.pooled()
    fine = [*range(14), *range(54, 59)]  # all but the tensor that is coarser than that
    assert np.abs(pooled[..., fine] - four[..., fine]).max() < 1e-4
    assert np.abs(pooled - four).mean() < 0.05 * np.abs(four).mean()


def test_a_flow_that_is_known_is_not_searched_again(
    apart: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one, other = apart.frames[1], apart.frames[2]

    def both_ways() -> list[Motion]:
        search = MotionSearch(FlowStore(tmp_path))
        return [
            search.between(a.grey, b.grey, a.lab, b.lab, pair)
            for a, b, pair in ((one, other, (1, 2)), (other, one, (2, 1)))
        ]

    found = both_ways()
    alone = MotionSearch().between(one.grey, other.grey, one.lab, other.lab)
    assert np.array_equal(found[0].x, alone.x)
    with monkeypatch.context() as patched:
        patched.setattr(MotionSearch, "flow", None)
        again = both_ways()
    assert all(np.array_equal(a.y, b.y) for a, b in zip(found, again, strict=True))
    file = tmp_path / "flows.bin"
    file.write_bytes(file.read_bytes()[:-9])  # as after a killed run
    assert np.array_equal(both_ways()[1].x, found[1].x)


def test_fields_come_back_from_disk(tmp_path: Path):
    store = FieldStore(tmp_path / "fields.bin", 3, 4, 6)
    field = np.random.default_rng(0).random((4, 6)).astype(np.float32)
    store[1] = field
    again = FieldStore(tmp_path / "fields.bin", 3, 4, 6)
    assert np.abs(again[1] - field).max() <= 0.5 / 255 + 1e-6
    assert again[0].max() == again[2].max() == 0
    with pytest.raises(IndexError):
        again[3]
    with pytest.raises(ValueError, match="a field of"):
        again[0] = np.zeros((6, 4), np.float32)


def test_shared_fields_do_not_overlap():
    one, two = np.full((2, 2), 0.9, np.float32), np.full((2, 2), 0.6, np.float32)
    shared = shared_fields({"a": one, "b": two})
    assert np.allclose(shared["a"] + shared["b"], 1)
    assert (shared["a"] > shared["b"]).all()
    alone = shared_fields({"a": one, "b": 0 * two})
    assert np.array_equal(alone["a"], one)


def test_subjects_that_share_a_frame_do_not_overlap(apart: Drawn):
    trackers = [SubjectTracker(KeyFrame(apart.frames[0], apart.mask(0, one))) for one in range(2)]
    search = MotionSearch()
    for index in range(1, 5):
        frame, last = apart.frames[index], apart.frames[index - 1]
        motion = search.between(frame.grey, last.grey, frame.lab, last.lab)
        steps = [tracker.step(frame, motion) for tracker in trackers]
        shared = shared_fields({str(which): step.field for which, step in enumerate(steps)})
        assert sum(shared.values()).max() < 1.001
        for which, step in enumerate(steps):
            assert overlap(shared[str(which)], apart.mask(index, which)) > 0.9
            assert not step.lost


def test_spilled_maps_come_back_from_any_frame():
    with SpilledMaps() as maps:
        maps[3], maps[1], maps[2] = b"three", b"1", None
        assert (maps.get(1), maps.get(2), maps.get(3)) == (b"1", None, b"three")

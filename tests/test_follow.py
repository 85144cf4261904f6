"""``--follow``: propagators, and networks with the published inputs and outputs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from guidance_drawn import BLUE, RED, Drawn, choice, moving
from tiny_objects import SAM_RADII, SAM_SIDE, make_cutie, make_efficient_sam
from tiny_onnx import make_salient

import vidmatte
from vidmatte.alpha.guidance.appearance import KeyFrame
from vidmatte.alpha.guidance.coarse import CoarseFrame, CoarseFrameMaker
from vidmatte.alpha.guidance.key_masks import PromptedMasks, key_mask
from vidmatte.alpha.guidance.passes import solve
from vidmatte.alpha.guidance.propagator import CutiePropagator, FlowPropagator, MakePropagator
from vidmatte.alpha.guidance.store import CoarseStore
from vidmatte.core.prompts import Box, Point
from vidmatte.errors import ModelError, UsageError, WeightsError
from vidmatte.models.cutie import Cutie, CutieTracker, find_cutie
from vidmatte.models.efficient_sam import EfficientSam, find_efficient_sam
from vidmatte.models.runtimes.device import Device

COUNT = 14
SIZE = (96, 54)  # of the detail pictures


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    """A red disc goes right, behind a blue one that goes left."""
    discs = [(moving((60, 100), (12, 0)), 34, RED), (moving((250, 80), (-12, 0)), 34, BLUE)]
    return Drawn(discs, COUNT)


@pytest.fixture(scope="module")
def frames(drawn: Drawn) -> list[CoarseFrame]:
    maker = CoarseFrameMaker(SIZE)
    pairs = zip(drawn.pictures, drawn.frames, strict=True)
    return [maker.make(rgb, frame.alpha) for rgb, frame in pairs]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_cutie(tmp_path_factory.mktemp("cutie"))
    make_efficient_sam(folder)
    return folder


@pytest.fixture(scope="module")
def cutie(folder: Path) -> Cutie:
    return Cutie(find_cutie(folder), Device(), 1)


def propagators(cutie: Cutie) -> list[MakePropagator]:
    return [FlowPropagator, partial(CutiePropagator, cutie)]


@pytest.mark.parametrize("which", [0, 1])
def test_every_propagator_follows_the_seeded_disc(
    which: int, drawn: Drawn, frames: list[CoarseFrame], cutie: Cutie
) -> None:
    """The contract: a soft mask of the work size for each frame, of the seed and not the other."""
    make = propagators(cutie)[which]
    carrier = make(KeyFrame(frames[0], drawn.mask(0, 0)), [])
    assert carrier.first_doubt >= 0
    scores = []
    for index in range(1, COUNT):
        step = carrier.step(frames[index])
        assert step.field.shape == frames[0].alpha.shape
        assert step.field.dtype == np.float32
        assert 0 <= step.field.min() <= step.field.max() <= 1
        scores.append(choice(step.field, drawn.mask(index, 0), drawn.mask(index, 1)))
    assert np.mean(scores) > 0.8


def test_both_directions_and_a_second_key(
    drawn: Drawn, frames: list[CoarseFrame], cutie: Cutie
) -> None:
    keys = {3: drawn.mask(3, 1), 10: drawn.mask(10, 1)}
    fields: dict[int, np.ndarray] = {}
    make = partial(CutiePropagator, cutie)
    reports = {one.index: one for one in solve(frames, keys, fields, propagator=make)}
    assert sorted(reports) == sorted(fields) == list(range(COUNT))
    assert np.array_equal(fields[3], keys[3])
    found = [choice(fields[i], drawn.mask(i, 1), drawn.mask(i, 0)) for i in range(COUNT)]
    assert min(found) > 0.7
    assert not any(one.lost for one in reports.values())


def test_a_subject_that_is_gone_is_lost(frames: list[CoarseFrame], cutie: Cutie) -> None:
    """The seed's colour is nowhere in the later frames."""
    blank = [CoarseFrameMaker(SIZE).make(np.full((180, 320, 3), 90, np.uint8), np.zeros((9, 16)))]
    mask = np.zeros(frames[0].alpha.shape, np.float32)
    mask[70:130, 30:90] = 1
    carrier = CutiePropagator(cutie, KeyFrame(frames[0], mask), [])
    steps = [carrier.step(blank[0]) for _ in range(4)]
    assert [step.lost for step in steps] == [False, False, True, True]


def test_memory_is_bounded_and_keeps_the_seeds(
    drawn: Drawn, frames: list[CoarseFrame], cutie: Cutie
) -> None:
    seeds = [(frame.detail, drawn.mask(0, 0)) for frame in frames]
    tracker = CutieTracker(cutie, seeds)  # type: ignore[arg-type]
    assert len(tracker._kept) == cutie.slots - 1
    for _ in range(60):
        tracker.step(seeds[0][0])  # type: ignore[arg-type]
    assert len(tracker._kept) + len(tracker._recent) == cutie.slots
    memories = tracker._memories()
    assert memories["memory_key"].shape[2] == cutie.slots
    assert memories["memory_valid"].min() == 1


def test_empty_slots_are_not_valid(drawn: Drawn, frames: list[CoarseFrame], cutie: Cutie) -> None:
    tracker = CutieTracker(cutie, [(frames[0].detail, drawn.mask(0, 0))])  # type: ignore[list-item]
    valid = tracker._memories()["memory_valid"][0, 0]
    assert [float(slot.mean()) for slot in valid] == [1, 0, 0, 0, 0, 0]


def test_a_portrait_picture_keeps_its_shape(cutie: Cutie) -> None:
    """It is fitted at the top left of the graphs' wide picture, and its mask is cut out again."""
    picture = np.zeros((180, 90, 3), np.uint8)
    picture[60:120, 20:70] = 250
    mask = (picture[..., 0] > 0).astype(np.float32)
    tracker = CutieTracker(cutie, [(picture, mask)])
    found = tracker.step(picture)
    assert found.shape == (64, 32)
    enlarged = cv2.resize(found, (90, 180))
    assert enlarged[80:100, 30:60].min() > 0.9
    assert enlarged[:30].max() < 0.1


def test_the_largest_published_size_is_taken(tmp_path: Path) -> None:
    for width, height in ((96, 64), (128, 96), (64, 48)):
        make_cutie(tmp_path, width, height)
    assert (find_cutie(tmp_path).width, find_cutie(tmp_path).height) == (128, 96)


def test_missing_files_say_where_they_come_from(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        find_cutie(tmp_path)
    line = str(caught.value)
    assert "\n" not in line
    for word in ("encode-key", "decode", "640x368.zip", "github.com", "MIT", "--models-dir"):
        assert word in line
    make_cutie(tmp_path)
    next(tmp_path.glob("*decode*")).unlink()
    with pytest.raises(WeightsError, match=r"has no cutie-decode-\*\.onnx:"):
        find_cutie(tmp_path)


def test_another_graph_under_its_name_is_refused(tmp_path: Path) -> None:
    make_cutie(tmp_path)
    make_salient(next(tmp_path.glob("*encode-value*")))
    with pytest.raises(ModelError, match=r"it has no input named .*mask"):
        Cutie(find_cutie(tmp_path), Device(), 1)


def test_masks_from_points_and_a_box(drawn: Drawn, frames: list[CoarseFrame], folder: Path) -> None:
    path = find_efficient_sam(folder)
    assert path is not None
    masks = PromptedMasks(EfficientSam(path, Device(), 1))
    point = key_mask(frames[0], [Point(60, 100)], 320, 180, masks=masks)
    # Its most believed mask: a disc of 20 of the graph's 64 pixels.
    assert point[100, 60] == 1
    share = np.pi * SAM_RADII[1] ** 2 / SAM_SIDE**2
    assert point.mean() == pytest.approx(share, rel=0.15)
    avoided = [Point(60, 100), Point(60 + 15 * 5, 100, wanted=False)]
    smaller = key_mask(frames[0], avoided, 320, 180, masks=masks)
    assert 0 < smaller.sum() < 0.5 * point.sum(), "a mask without the unwanted point"
    box = key_mask(frames[0], [Box(40, 60, 90, 130)], 320, 180, masks=masks)
    assert box[60, 40] == 1
    assert box[10, 300] == 0


def test_detail_pictures_are_stored(tmp_path: Path, frames: list[CoarseFrame]) -> None:
    store = CoarseStore(tmp_path)
    store.append(frames[0])
    detail = CoarseStore(tmp_path)[0].detail
    assert detail is not None
    assert np.array_equal(detail, frames[0].detail)  # type: ignore[arg-type]


@pytest.fixture
def clip(drawn: Drawn, tmp_path: Path) -> Path:
    folder = tmp_path / "clip"
    folder.mkdir()
    for index, picture in enumerate(drawn.pictures[:8]):
        cv2.imwrite(str(folder / f"{index:04}.png"), picture[..., ::-1])
    return folder


def test_a_run_with_the_networks(
    clip: Path, drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDMATTE_OFFLINE", "1")
    options: dict[str, Any] = {"model": make_salient(tmp_path / "tiny.onnx", 160), "fps": 25}
    options |= {"family": "isnet", "models_dir": tmp_path / "models", "manifest": False}
    options |= {"subject": "60,100", "follow": "cutie", "smooth": "off", "refine": "off"}
    with pytest.raises(WeightsError, match="--follow cutie"):
        vidmatte.matte(clip, tmp_path / "cut", **options)
    assert not (tmp_path / "cut").exists()
    make_efficient_sam(make_cutie(tmp_path / "models"))
    vidmatte.matte(clip, tmp_path / "cut", **options)
    files = sorted((tmp_path / "cut").glob("*.png"))
    assert len(files) == 8
    last = cv2.imread(str(files[-1]), cv2.IMREAD_UNCHANGED)[..., 3] > 127
    assert choice(last, drawn.mask(7, 0), drawn.mask(7, 1)) > 0.6


def test_it_needs_a_subject() -> None:
    with pytest.raises(UsageError, match="--follow cutie: it needs --subject"):
        vidmatte.Settings(follow="cutie")

"""A subject that the network ignores is shown to it again, alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from guidance_drawn import disc, texture
from onnx import helper
from tiny_onnx import LUMA, save_graph

import vidmatte
from vidmatte.alpha.guidance.second_look import (
    Crop,
    LookStore,
    crop_of,
    frames_to_show,
    without_others,
)

WIDTH, HEIGHT, COUNT = 320, 180, 6
GROUND, DIM, BRIGHT = texture(0, (40, 55, 40), 4), texture(1, (120, 90, 80), 6), (250, 250, 240)


def test_frames_around_an_ignored_one_are_shown_too() -> None:
    unseen = [0.3] * 20
    unseen[9], unseen[3] = 0.5, 0.1
    assert frames_to_show(unseen) == [5, 6, 7, 8, 9, 10, 11, 12, 13]
    unseen[7] = 0.1  # little is missing there
    assert 7 not in frames_to_show(unseen)
    assert frames_to_show([0.4, 0.3]) == []


def test_the_crop_has_a_margin_and_stays_within_the_frame() -> None:
    field = np.zeros((90, 160), np.float32)
    assert crop_of(field, 640, 360) is None
    field[40:60, 100:140] = 1
    assert crop_of(field, 640, 360) == Crop(352, 136, 608, 264)
    field[:, :2] = 1
    assert crop_of(field, 640, 360) == Crop(0, 0, 640, 360)


def test_others_are_painted_out_and_the_subject_stays() -> None:
    picture = GROUND[:HEIGHT, :WIDTH].copy()
    mine = disc(picture, (90, 90), 30, DIM)
    alone = np.rint(picture).astype(np.uint8)
    other = disc(picture, (220, 90), 35, np.full_like(DIM, BRIGHT))
    rgb = np.rint(picture).astype(np.uint8)
    shown = without_others(rgb, mine.astype(np.float32), other.astype(np.float32))
    assert np.array_equal(shown[mine], rgb[mine])
    assert np.abs(shown[other].astype(int) - alone[other]).mean() < 8
    nothing = np.zeros((HEIGHT, WIDTH), np.float32)
    assert without_others(rgb, mine.astype(np.float32), nothing) is rgb


def test_a_stored_look_adds_within_its_crop_at_any_size(tmp_path: Path) -> None:
    store = LookStore(tmp_path, "look")
    alpha = np.zeros((HEIGHT, WIDTH), np.float32)
    alpha[:, :40] = 0.5
    store.put(3, "key", Crop(20, 30, 120, 130), (WIDTH, HEIGHT), np.ones((100, 100), np.float32))
    assert store.has(3, "key")
    assert not store.has(3, "another")
    assert not store.has(4, "key")
    seen = store.seen(3, alpha)
    assert seen[30:130, 20:120].min() == 1
    outside = np.ones_like(alpha, bool)
    outside[30:130, 20:120] = False
    assert np.array_equal(seen[outside], alpha[outside])
    half = store.seen(3, cv2.resize(alpha, (WIDTH // 2, HEIGHT // 2)))
    assert half[15:65, 10:60].min() == 1
    assert store.seen(4, alpha) is alpha
    store.keep_only([4])
    assert not store.has(3, "key")


def make_relative(path: Path, size: int = 160) -> Path:
    """An ISNet-like network that marks what is nearly as bright as the brightest place: what is
    dim it sees only where nothing bright is beside it."""
    node = helper.make_node
    nodes = [
        node("Conv", ["input", "weights", "bias"], ["luma"]),
        node("AveragePool", ["luma"], ["smooth"], kernel_shape=[5, 5], pads=[2, 2, 2, 2]),
        node("GlobalMaxPool", ["smooth"], ["brightest"]),
        node("Mul", ["brightest", "share"], ["limit"]),
        node("Sub", ["smooth", "limit"], ["above"]),
        node("Mul", ["above", "steep"], ["logits"]),
        node("Sigmoid", ["logits"], ["output"]),
    ]
    constants = {
        "weights": LUMA.reshape(1, 3, 1, 1),
        "bias": np.float32([0.5]),
        "share": np.float32([0.75]),
        "steep": np.float32([100]),
    }
    return save_graph(
        path,
        nodes,
        inputs={"input": (1, 3, size, size)},
        outputs={"output": (1, 1, size, size)},
        constants=constants,
        opset=15,
    )


@pytest.fixture(scope="module")
def mine() -> list[np.ndarray]:
    """The dim disc's masks, filled by ``clip``."""
    return []


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, mine: list[np.ndarray]) -> Path:
    """A dim disc that moves, and a bright one."""
    folder = tmp_path_factory.mktemp("clip")
    for index in range(COUNT):
        picture = GROUND[:HEIGHT, :WIDTH].copy()
        mine.append(disc(picture, (80 + 4 * index, 90), 30, DIM))
        disc(picture, (240, 90), 35, np.full_like(DIM, BRIGHT))
        cv2.imwrite(str(folder / f"{index:04}.png"), np.rint(picture)[..., ::-1].astype(np.uint8))
    return folder


def test_an_ignored_subject_is_seen_alone(
    clip: Path, mine: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own soft edge, from the network; and without the network from the cache."""
    monkeypatch.setenv("VIDMATTE_OFFLINE", "1")
    mask = tmp_path / "mask.png"
    cv2.imwrite(str(mask), mine[0].astype(np.uint8) * 255)
    options: dict[str, Any] = {"model": make_relative(tmp_path / "tiny.onnx"), "fps": 25}
    options |= {"family": "isnet", "models_dir": tmp_path / "models", "manifest": False}
    options |= {"subject": str(mask), "smooth": "off", "refine": "off", "cache": tmp_path / "kept"}
    vidmatte.matte(clip, tmp_path / "cut", **options)
    looks = sorted((tmp_path / "kept").glob("*.subject/look-+all-*.npz"))
    assert len(looks) == COUNT
    nothing = np.zeros((HEIGHT, WIDTH), np.float32)
    store = LookStore(looks[0].parent, "look-+all")
    seen = [np.rint(255 * store.seen(index, nothing)) for index in range(COUNT)]
    assert _worst(np.stack(seen), mine) > 0.9, "by the network, not by the followed mask"
    first = _alphas(tmp_path / "cut")
    assert _worst(first, mine) > 0.93

    def loads(*_: object) -> None:
        raise AssertionError("the network is loaded")

    monkeypatch.setattr("vidmatte.models.registry.load_network", loads)
    vidmatte.matte(clip, tmp_path / "again", **options)
    assert np.array_equal(first, _alphas(tmp_path / "again"))


def _alphas(folder: Path) -> np.ndarray:
    files = sorted(folder.glob("*.png"))
    return np.stack([cv2.imread(str(one), cv2.IMREAD_UNCHANGED)[..., 3] for one in files])


def _worst(found: np.ndarray, masks: list[np.ndarray]) -> float:
    """The lowest IoU with the masks after the first frame."""
    pairs = [(alpha > 127, mask) for alpha, mask in zip(found, masks, strict=True)][1:]
    return min(float((a & b).sum() / (a | b).sum()) for a, b in pairs)

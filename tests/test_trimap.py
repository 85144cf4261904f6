"""``--trimap``: certain parts are exact, the band between them is solved along the colours."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from media import make_pictures
from tiny_onnx import make_salient

import vidmatte
from vidmatte.alpha.trimap import _solve_trimap
from vidmatte.errors import SourceMissingError, UsageError

HEIGHT, WIDTH = 180, 240


def disc() -> np.ndarray:
    """A disc with a soft edge, (H, W) float32: the true alpha."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    return np.clip((60 - np.hypot(columns - 120, rows - 90)) / 8 + 0.5, 0, 1).astype(np.float32)


def composite(alpha: np.ndarray) -> np.ndarray:
    """A reddish subject over a bluish ground, both slightly uneven, (H, W, 3) uint8 RGB."""
    shade = np.linspace(-20, 20, WIDTH, dtype=np.float32)[None, :, None]
    subject = np.array([200, 90, 60], np.float32) + shade
    ground = np.array([50, 80, 160], np.float32) - shade
    mixed = alpha[..., None] * subject + (1 - alpha[..., None]) * ground
    return np.clip(mixed, 0, 255).astype(np.uint8)


def trimap_of(alpha: np.ndarray, reach: int = 12) -> np.ndarray:
    """White, black, and a grey band that reaches some pixels beyond what is soft."""
    soft = ((alpha > 0) & (alpha < 1)).astype(np.uint8)
    band = cv2.dilate(soft, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2))
    return np.where(band > 0, 0.5, alpha > 0.5).astype(np.float32)


def test_the_band_is_solved_from_the_colours() -> None:
    truth = disc()
    trimap = trimap_of(truth)
    band = trimap == 0.5
    guess = cv2.GaussianBlur(truth, (0, 0), 9)  # a network's soft idea of it
    before = np.abs(guess - truth)[band].mean()
    alpha = guess.copy()
    _solve_trimap(composite(truth), alpha, trimap)
    assert np.abs(alpha - truth)[band].mean() < 0.25 * before
    assert (alpha[trimap == 1] == 1).all() and (alpha[trimap == 0] == 0).all()


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_trimap_without_a_band_is_the_alpha(level: float) -> None:
    alpha = disc()
    _solve_trimap(composite(disc()), alpha, np.full_like(alpha, level))
    assert (alpha == level).all()


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, str]:
    return {"model": str(make_salient(tmp_path / "tiny.onnx")), "family": "isnet", "fps": "25"}


def frames_and_trimap(folder: Path) -> tuple[Path, Path]:
    """Four equal pictures of the composite, and its trimap."""
    truth = disc()
    (folder / "in").mkdir()
    for number in range(4):
        bgr = cv2.cvtColor(composite(truth), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f"in/{number}.png"), bgr)
    cv2.imwrite(str(folder / "tri.png"), np.rint(255 * trimap_of(truth)).astype(np.uint8))
    return folder / "in", folder / "tri.png"


def test_a_run_keeps_what_is_certain_and_solves_the_rest(
    tmp_path: Path, tiny: dict[str, str]
) -> None:
    source, trimap = frames_and_trimap(tmp_path)
    truth, certain = disc(), trimap_of(disc())
    with vidmatte.stream(source, trimap=trimap, **tiny) as frames:
        found = [frame.alpha.copy() for frame in frames]
    assert len(found) == 4
    for alpha in found:
        assert (alpha[certain == 1] == 1).all() and (alpha[certain == 0] == 0).all()
        assert np.abs(alpha - truth).mean() < 0.01


def test_a_folder_has_a_trimap_for_each_frame(tmp_path: Path, tiny: dict[str, str]) -> None:
    source, trimap = frames_and_trimap(tmp_path)
    (tmp_path / "tris").mkdir()
    for number in range(4):
        picture = cv2.imread(str(trimap), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(tmp_path / f"tris/{number}.png"), picture if number != 2 else 0 * picture)
    with vidmatte.stream(source, trimap=tmp_path / "tris", **tiny) as frames:
        assert [bool(frame.alpha.any()) for frame in frames] == [True, True, False, True]


def test_trimaps_that_do_not_fit_are_refused(tmp_path: Path, tiny: dict[str, str]) -> None:
    source, _ = frames_and_trimap(tmp_path)
    cv2.imwrite(str(tmp_path / "tall.png"), np.zeros((240, 60), np.uint8))
    two = tmp_path / "two"
    make_pictures(two, frames=2)
    for path, kind, words in (
        (tmp_path / "tall.png", UsageError, "--trimap .*another shape"),
        (tmp_path / "none.png", SourceMissingError, "--trimap .*there is no such file"),
        (two, UsageError, "--trimap .*2 pictures for 4 frames"),
    ):
        with pytest.raises(kind, match=words):
            vidmatte.matte(source, tmp_path / "out.mov", trimap=path, **tiny)
    assert not (tmp_path / "out.mov").exists()

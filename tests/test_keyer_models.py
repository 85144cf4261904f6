"""The chroma key and the clean plate as models of whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from guidance_drawn import texture
from tiny_onnx import make_salient

import vidmatte
from vidmatte.cli.main import main
from vidmatte.errors import UsageError

SIZE = (180, 320)
PATTERN = texture(3, (230, 140, 120), 20)
ROOM = texture(4, (120, 110, 100), 20)


def scene(index: int, ground: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A soft disc that moves over a ground, (H, W, 3) uint8, and its alpha."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float32)
    inside = 45 - np.hypot(x - 120 - 8 * index, y - 95)
    alpha = np.clip(inside / 4 + 0.5, 0, 1)
    over = np.roll(PATTERN, 8 * index, axis=1)[: SIZE[0], : SIZE[1]]
    mixed = over * alpha[..., None] + ground * (1 - alpha[..., None])
    noisy = mixed + np.random.default_rng(index).normal(0, 2, mixed.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), alpha


def screen(colour: tuple[int, int, int]) -> np.ndarray:
    """An unevenly lit screen, (H, W, 3) float32."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float32)
    light = 1 - 0.3 * (x / SIZE[1] - 0.3) ** 2 - 0.2 * y / SIZE[0]
    return np.array(colour, np.float32) * light[..., None]


def written(folder: Path, ground: np.ndarray, count: int = 5) -> tuple[Path, np.ndarray]:
    """A folder of pictures, and the true alphas."""
    folder.mkdir()
    frames = [scene(index, ground) for index in range(count)]
    for index, (picture, _) in enumerate(frames):
        cv2.imwrite(str(folder / f"{index:03}.png"), picture[..., ::-1])
    return folder, np.stack([alpha for _, alpha in frames])


def run(clip: Path, out: Path, **options: Any) -> np.ndarray:
    """(T, H, W) alphas of a run, 0..1."""
    vidmatte.matte(clip, out, fps=25, manifest=False, **options)
    files = sorted(out.glob("*.png"))
    return np.stack([cv2.imread(str(file), -1)[..., 3] for file in files]) / 255


def error(found: np.ndarray, truth: np.ndarray) -> float:
    """MAD x 1000."""
    return 1000 * float(np.abs(found - truth).mean())


@pytest.mark.parametrize("colour", [(40, 170, 60), (35, 60, 180)], ids=["green", "blue"])
def test_a_screen_is_found_and_keyed(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    clip, truth = written(tmp_path / "clip", screen(colour))
    assert error(run(clip, tmp_path / "out", model="chroma"), truth) < 4
    raw = run(clip, tmp_path / "raw", model="chroma", smooth="off", refine="off")
    assert error(raw, truth) < 5


def test_a_given_screen_and_limits_are_used(tmp_path: Path) -> None:
    clip, truth = written(tmp_path / "clip", screen((40, 170, 60)), 2)
    found = run(clip, tmp_path / "out", model="chroma", screen="#28aa3c", key="0.1,0.9")
    assert error(found, truth) < 4
    hard = run(clip, tmp_path / "hard", model="chroma", key="0.7,0.75", refine="off", smooth="off")
    assert error(hard, truth) > error(found, truth)


def test_a_network_fills_the_inside_of_a_key(tmp_path: Path) -> None:
    """A patch of the screen's colour on the subject is a hole to the key alone."""
    ground = screen((20, 110, 30))
    clip, truth = written(tmp_path / "clip", ground, 2)
    for file in clip.iterdir():
        picture = cv2.imread(str(file))
        picture[90:100, 118:130] = ground[90:100, 118:130, ::-1]
        cv2.imwrite(str(file), picture)
    # The disc is bright to this network, and the screen is not.
    network = make_salient(tmp_path / "tiny.onnx", 160)
    options = {"family": "isnet", "smooth": "off", "refine": "off"}
    alone = run(clip, tmp_path / "alone", model="chroma", smooth="off", refine="off")
    assert alone[0, 95, 124] < 0.2
    both = run(clip, tmp_path / "both", model=f"{network}+chroma", **options)
    swapped = run(clip, tmp_path / "swapped", model=f"chroma+{network}", **options)
    assert np.array_equal(both, swapped)
    assert error(both, truth) <= error(alone, truth) + 0.1


def test_a_clean_plate_finds_what_differs(tmp_path: Path) -> None:
    ground = ROOM[: SIZE[0], : SIZE[1]]
    clip, truth = written(tmp_path / "clip", ground, 3)
    plate = tmp_path / "plate.png"
    cv2.imwrite(str(plate), np.clip(ground, 0, 255).astype(np.uint8)[..., ::-1])
    found = run(clip, tmp_path / "out", model="difference", clean_plate=plate)
    assert error(found, truth) < 30
    assert np.mean((found > 0.5) == (truth > 0.5)) > 0.95


def test_a_stopped_key_goes_on_with_the_screen_of_the_first_frame(tmp_path: Path) -> None:
    class StopError(Exception):
        """Stands for whatever ends a run."""

    def stop(progress: vidmatte.Progress) -> None:
        if progress.done == 3:
            raise StopError

    clip, _ = written(tmp_path / "clip", screen((40, 170, 60)), 7)
    uninterrupted = run(clip, tmp_path / "full", model="chroma")
    with pytest.raises(StopError):
        run(clip, tmp_path / "out", model="chroma", resume=True, progress=stop)
    assert np.array_equal(run(clip, tmp_path / "out", model="chroma", resume=True), uninterrupted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "difference"}, "name the picture without the subject: --clean-plate"),
        ({"model": "difference", "clean_plate": "none.png"}, "there is no such file"),
        ({"model": "chroma", "screen": "green"}, "'green' is not a colour"),
        ({"model": "chroma", "screen": "#808080"}, "neither green nor blue enough"),
        ({"model": "isnet", "screen": "#20c040"}, "it is for --model chroma"),
        ({"model": "isnet", "clean_plate": "x.png"}, "it is for --model difference"),
        ({"model": "chroma"}, "no green or blue screen"),
    ],
)
def test_what_cannot_be_keyed_is_one_line(
    tmp_path: Path, options: dict[str, str], message: str
) -> None:
    clip, _ = written(tmp_path / "clip", np.full((*SIZE, 3), 120, np.float32), 2)
    with pytest.raises(UsageError, match=message) as caught:
        run(clip, tmp_path / "out", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_plate_of_another_size_is_refused(tmp_path: Path) -> None:
    clip, _ = written(tmp_path / "clip", screen((40, 170, 60)), 2)
    cv2.imwrite(str(tmp_path / "plate.png"), np.zeros((90, 160, 3), np.uint8))
    plate = tmp_path / "plate.png"
    with pytest.raises(UsageError, match="it is 160x90 and the clip is 320x180"):
        run(clip, tmp_path / "out", model="difference", clean_plate=plate)


def test_the_screen_that_was_found_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, _ = written(tmp_path / "clip", screen((40, 170, 60)), 2)
    words = [str(clip), "-o", f"{tmp_path}/out/", "--model", "chroma", "--fps", "25"]
    assert main(words) == 0
    assert "a green screen, #" in capsys.readouterr().err

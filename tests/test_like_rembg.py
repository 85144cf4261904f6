"""--like rembg: the alpha of rembg's own steps, written down here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from scene import draw_ball
from test_network import NORMALIZATION, alphas_of, frame_of
from tiny_onnx import make_salient, salient_alpha

from vidmatte.errors import UsageError
from vidmatte.models.load import load_network
from vidmatte.models.runtimes.device import Device
from vidmatte.pixels.lanczos import resize_lanczos
from vidmatte.settings import Settings


def drawing(width: int, height: int, brightest: int) -> np.ndarray:
    """The scene, (height, width, 3) uint8, none of its values above ``brightest``."""
    rgb = np.clip(draw_ball(0.4, width, height).rgb, 0, 1)
    return np.minimum(np.rint(rgb * 255), brightest).astype(np.uint8)


def lanczos_of(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Lanczos with three lobes by its formula: rows of full matrices, 8 bits between."""
    for axis, count in ((1, width), (0, height)):
        available = picture.shape[axis]
        if available == count:
            continue
        scale = available / count
        wide = max(scale, 1.0)
        matrix = np.zeros((count, available))
        for row in range(count):
            centre = (row + 0.5) * scale
            first = max(0, int(centre - 3 * wide + 0.5))
            end = min(available, int(centre + 3 * wide + 0.5))
            x = (np.arange(first, end) + 0.5 - centre) / wide
            weights = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
            matrix[row, first:end] = weights / weights.sum()
        moved = np.tensordot(matrix, np.moveaxis(picture.astype(float), axis, 0), axes=1)
        picture = np.clip(np.floor(moved + 0.5), 0, 255).astype(np.uint8)
        picture = np.moveaxis(picture, 0, axis)
    return picture


def rembg_steps(session: onnxruntime.InferenceSession, rgb: np.ndarray, name: str) -> np.ndarray:
    """All of rembg's steps: Lanczos to the network's size, division by the reduced picture's
    maximum, mean and standard deviation, stretching by the output's extremes, 8 bits cut off,
    Lanczos back."""
    size, mean, std = NORMALIZATION[name]
    small = lanczos_of(rgb, size, size)
    scaled = (small / max(small.max(), 1e-6) - np.array(mean)) / np.array(std)
    inputs = scaled.transpose(2, 0, 1)[None].astype(np.float32)
    output = session.run(None, {session.get_inputs()[0].name: inputs})[0][0, 0]
    stretched = (output - output.min()) / (output.max() - output.min())
    coded = (stretched * 255).astype(np.uint8)
    return lanczos_of(coded, *rgb.shape[1::-1]) / np.float32(255)


def test_lanczos_is_pillows() -> None:
    """Values that Pillow 12 computes."""
    picture = (np.arange(30).reshape(5, 6) * 37 % 256).astype(np.uint8)
    assert resize_lanczos(picture, 4, 3).tolist() == [
        [63, 32, 115, 165], [205, 90, 35, 111], [141, 216, 101, 36],
    ]  # fmt: skip
    assert resize_lanczos(picture, 8, 7)[[0, 3]].tolist() == [
        [0, 17, 61, 79, 109, 134, 168, 189], [180, 235, 149, 0, 32, 68, 98, 119],
    ]  # fmt: skip
    rng = np.random.default_rng(5)
    for size in ((320, 320), (50, 90), (200, 40)):
        rgb = rng.integers(0, 256, (120, 200, 3), np.uint8)
        assert np.abs(resize_lanczos(rgb, *size).astype(int) - lanczos_of(rgb, *size)).max() <= 1


@pytest.mark.parametrize("name", ["u2netp", "isnet"])
@pytest.mark.thinned(2)
def test_like_rembg_gives_its_alpha(name: str, weights: Callable[[str], Path]) -> None:
    """Within 0.5 of 255 on the mean; a drawing of 850x601 whose brightest value is not 255."""
    rgb = drawing(850, 601, 235)
    path, family = weights(name), {"isnet": "isnet", "u2netp": "u2net"}[name]
    network = load_network(path, family, Settings(like="rembg"), Device())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = rembg_steps(session, rgb, name)
    (alpha,) = alphas_of(network, [frame_of(rgb)])
    assert 0.02 < expected.mean() < 0.9, "the network found no subject: nothing is compared"
    assert np.abs(alpha - expected).mean() * 255 < 0.5


def test_like_rembg_on_a_tiny_network(tmp_path: Path) -> None:
    """The steps one by one, where the output is known: u2netp's and isnet's differ only in
    their weights."""
    path = make_salient(tmp_path / "tiny.onnx", 64)
    rgb = drawing(170, 121, 200)
    network = load_network(path, "isnet", Settings(like="rembg"), Device())
    (alpha,) = alphas_of(network, [frame_of(rgb)])
    small = lanczos_of(rgb, 64, 64)
    output = salient_alpha(small / small.max())
    coded = ((output - output.min()) / (output.max() - output.min()) * 255).astype(np.uint8)
    expected = lanczos_of(coded, 170, 121)
    assert np.abs(alpha * 255 - expected).mean() < 0.05
    plain = load_network(path, "isnet", Settings(normalize="minmax", smooth="off"), Device())
    (other,) = alphas_of(plain, [frame_of(rgb)])
    assert np.abs(other * 255 - expected).mean() > 1, "the steps make a difference"


def test_like_rembg_stands_for_its_options() -> None:
    chosen = Settings(like="rembg")
    names = ("normalize", "smooth", "refine", "foreground", "runtime")
    found = tuple(getattr(chosen, name) for name in names)
    assert found == ("rembg", "off", "off", "source", "onnxruntime")
    assert Settings(**chosen.model_dump()) == chosen
    with pytest.raises(UsageError, match="omit --smooth strong"):
        Settings(like="rembg", smooth="strong")

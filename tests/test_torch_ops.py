"""The torch operations against the OpenCV functions whose values they give."""

from __future__ import annotations

import importlib
from typing import Any

import av
import cv2
import numpy as np
import pytest
from media import BT709

from vidmatte.pixels.convert import Converter
from vidmatte.pixels.formats import chroma_steps, full_scale, plane_arrays, set_colour

pytestmark = pytest.mark.torch

TINY = 2e-6  # of values in 0..1: another order of sums


@pytest.fixture
def ops() -> Any:
    return importlib.import_module("vidmatte.pixels.torch_ops")


@pytest.fixture
def planes() -> np.ndarray:
    return np.random.default_rng(0).random((3, 45, 70), np.float32)


def tensor(array: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array))


def interleaved(planes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


SIZES = [(15, 35), (23, 31), (45, 70), (90, 99), (20, 100), (1, 1), (44, 70)]
KINDS = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_sizes(ops: Any, planes: np.ndarray, kind: str, size: tuple[int, int]) -> None:
    found = ops.resize(tensor(planes), *size, kind).numpy()
    expected = [cv2.resize(plane, size[::-1], interpolation=KINDS[kind]) for plane in planes]
    # torch computes places between pixels in 24 bits.
    np.testing.assert_allclose(found, np.stack(expected), atol=TINY if kind == "area" else 2e-5)


@pytest.mark.parametrize("size", [(15, 35), (23, 31), (45, 35), (20, 100), (59, 20)])
def test_sizes_of_codes(ops: Any, size: tuple[int, int]) -> None:
    codes = np.random.default_rng(1).integers(0, 256, (45, 70, 3), np.uint8)
    found = ops.resize_codes(tensor(codes.transpose(2, 0, 1)).float(), *size, "area").numpy()
    expected = cv2.resize(codes, size[::-1], interpolation=cv2.INTER_AREA)
    apart = np.abs(interleaved(found) - expected)
    # A sum that lies on a half may be rounded either way.
    assert apart.max() <= 1 and (apart > 0).mean() < 0.01


@pytest.mark.parametrize("size", [(90, 99), (320, 320), (101, 70)])
def test_enlarged_codes(ops: Any, size: tuple[int, int]) -> None:
    codes = np.random.default_rng(1).integers(0, 256, (45, 70, 3), np.uint8)
    found = ops.resize_codes(tensor(codes.transpose(2, 0, 1)).float(), *size, "linear").numpy()
    expected = cv2.resize(codes, size[::-1], interpolation=cv2.INTER_LINEAR)
    apart = np.abs(interleaved(found) - expected)
    assert apart.max() <= 1 and (apart > 0).mean() < 0.01


def test_halved_codes_are_exact(ops: Any) -> None:
    codes = np.random.default_rng(2).integers(0, 256, (44, 70, 3), np.uint8)
    found = ops.resize_codes(tensor(codes.transpose(2, 0, 1)).float(), 22, 35, "area").numpy()
    expected = cv2.resize(codes, (35, 22), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(interleaved(found), expected)


@pytest.mark.parametrize("side", [3, 11, 17, 49])
def test_box_means(ops: Any, planes: np.ndarray, side: int) -> None:
    found = ops.box_mean(tensor(planes), side).numpy()
    expected = np.stack([cv2.blur(plane, (side, side)) for plane in planes])
    np.testing.assert_allclose(found, expected, atol=TINY)


@pytest.mark.parametrize("sigma", [0.6, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("replicate", [False, True])
def test_gaussians(ops: Any, planes: np.ndarray, sigma: float, replicate: bool) -> None:
    border = cv2.BORDER_REPLICATE if replicate else cv2.BORDER_REFLECT_101
    found = ops.gaussian(tensor(planes), sigma, replicate=replicate).numpy()
    expected = [cv2.GaussianBlur(plane, (0, 0), sigma, borderType=border) for plane in planes]
    np.testing.assert_allclose(found, np.stack(expected), atol=TINY)


@pytest.mark.parametrize("largest", [True, False])
def test_extremes(ops: Any, planes: np.ndarray, largest: bool) -> None:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 5))
    found = ops.extreme(tensor(planes), kernel, largest=largest).numpy()
    expected = [(cv2.dilate if largest else cv2.erode)(plane, kernel) for plane in planes]
    np.testing.assert_array_equal(found, np.stack(expected))


@pytest.mark.parametrize("replicate", [True, False])
def test_samples(ops: Any, planes: np.ndarray, replicate: bool) -> None:
    rng = np.random.default_rng(3)
    x = rng.uniform(-5, 75, (30, 40)).astype(np.float32)
    y = rng.uniform(-5, 50, (30, 40)).astype(np.float32)
    border = cv2.BORDER_REPLICATE if replicate else cv2.BORDER_CONSTANT
    found = ops.sample(tensor(planes), tensor(x), tensor(y), replicate=replicate).numpy()
    expected = cv2.remap(interleaved(planes), x, y, cv2.INTER_LINEAR, borderMode=border)
    # OpenCV before version 5 rounds places to 1/32 pixel.
    exact = int(cv2.__version__.partition(".")[0]) >= 5
    np.testing.assert_allclose(interleaved(found), expected, atol=2e-5 if exact else 0.05)


def test_nearest_pixels(ops: Any, planes: np.ndarray) -> None:
    found = ops.resize(tensor(planes), 101, 99, "nearest").numpy()
    expected = [cv2.resize(plane, (99, 101), interpolation=cv2.INTER_NEAREST) for plane in planes]
    np.testing.assert_array_equal(found, np.stack(expected))


CHROMA = [
    ("yuv420p", "yuv444p10le"),
    ("yuv411p", "yuv444p12le"),
    ("yuv422p10le", "yuv444p10le"),
    ("yuv440p12le", "yuv444p12le"),
]


@pytest.mark.parametrize(("source", "target"), CHROMA)
def test_enlarged_chroma_is_that_of_swscale(source: str, target: str) -> None:
    chroma_of = importlib.import_module("vidmatte.pixels.torch_chroma").enlarge_chroma
    bits, wanted = (full_scale(name).bit_length() for name in (source, target))
    picture = av.VideoFrame(64, 48, source)
    set_colour(picture, BT709)
    chroma = plane_arrays(picture)[1]
    chroma[:] = np.random.default_rng(4).integers(0, 1 << bits, chroma.shape)
    expected = plane_arrays(Converter(BT709, target, BT709)(picture))[1]
    found = chroma_of(tensor(chroma).float(), chroma_steps(source), bits, wanted)
    np.testing.assert_array_equal(found.numpy(), expected)

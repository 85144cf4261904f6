"""A blurred background, a shadow, and the compressions of OpenEXR."""

from __future__ import annotations

import importlib.util
from io import BytesIO
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from writer_support import write_clip

from vidmatte.errors import UsageError
from vidmatte.media import exr, exr_writer
from vidmatte.settings.still_values import Shadow
from vidmatte.writers.render.layers import _blurred_without, _cast_shadow, gaussian

SIZE = (200, 150)


def square(*_: int) -> np.ndarray:
    """Alpha of a square in the middle, rows 55 to 95, columns 80 to 120."""
    alpha = np.zeros(SIZE[::-1], np.float32)
    alpha[55:95, 80:120] = 1
    return alpha


def make_photo(path: Path) -> np.ndarray:
    """A bright square on columns of two greys."""
    rgb = np.full((*SIZE[::-1], 3), 60, np.uint8)
    rgb[:, ::2] = 120
    rgb[square() == 1] = (250, 240, 230)
    cv2.imwrite(str(path), rgb[..., ::-1])
    return rgb


def read_rgb(path: Path) -> np.ndarray:
    found = cv2.imread(str(path))
    assert found is not None
    return found[..., ::-1].astype(float)


def test_a_blurred_background_has_nothing_of_the_subject(tmp_path: Path) -> None:
    make_photo(photo := tmp_path / "photo.png")
    write_clip(photo, out := tmp_path / "out.png", square, background="blur:12")
    found = read_rgb(out)
    assert np.abs(found[58:92, 83:117] - (250, 240, 230)).max() < 3, "the subject stays sharp"
    ground = found[square() == 0]
    assert np.abs(ground - 90).max() < 4, "the columns are gone, and no light is around the square"


@pytest.mark.parametrize("sigma", [1.5, 5.0, 40.0])
def test_wide_blurs_are_those_of_the_full_size(sigma: float) -> None:
    plane = np.random.default_rng(2).random((240, 320)).astype(np.float32)
    expected = cv2.GaussianBlur(plane, (0, 0), sigma)
    assert np.abs(gaussian(plane, sigma) - expected).mean() < 0.003
    flat = [np.full((240, 320), 500, np.uint16)]
    (found,) = _blurred_without(flat, plane, sigma)
    assert (found == 500).all()


def test_a_shadow_falls_beside_the_subject(tmp_path: Path) -> None:
    make_photo(photo := tmp_path / "photo.png")
    options = {"background": "white", "shadow": "30,20,2,0.4"}
    write_clip(photo, out := tmp_path / "out.png", square, **options)
    found = read_rgb(out)
    assert np.abs(found[60:90, 85:115] - (250, 240, 230)).max() < 3, "the subject is over it"
    assert np.abs(found[102:108, 135:140] - 255 * 0.6).max() < 4
    assert (found[:40] > 253).all()
    assert (found[:, :70] > 253).all()
    cast = _cast_shadow(square(), Shadow(30, 20, 0))
    assert (cast[75:115, 110:150] == 1).all()
    assert cast.sum() == square().sum()


@pytest.mark.parametrize(
    ("name", "options", "part"),
    [
        ("out.png", {"shadow": "1,2,3"}, "it needs --background"),
        ("out.jpg", {"shadow": "1,2"}, "X,Y,BLUR"),
        ("out.jpg", {"shadow": "1,2,3,1.5"}, "OPACITY from 0 to 1"),
        ("out.jpg", {"background": "blur:0"}, "blur:20"),
        ("out.jpg", {"background": "blur:x"}, "blur:20"),
        ("out.png", {"exr_compression": "zips"}, "png is not OpenEXR"),
        ("out.exr", {"exr_compression": "b44"}, "zip, zips, piz, dwaa"),
    ],
)
def test_wrong_values_are_named(
    name: str, options: dict[str, str], part: str, tmp_path: Path
) -> None:
    make_photo(photo := tmp_path / "photo.png")
    with pytest.raises(UsageError, match=part):
        write_clip(photo, tmp_path / name, square, **options)


@pytest.mark.parametrize("method", ["zip", "zips", "piz", "dwaa"])
def test_exr_compressions(method: str, tmp_path: Path) -> None:
    """The header names it, the pixels are those of the default (dwaa: nearly), and the attributes
    stay."""
    if exr_writer.missing_method(method) is not None:
        pytest.skip("the package OpenEXR is not installed")
    make_photo(photo := tmp_path / "photo.png")
    files = [tmp_path / "default.exr", tmp_path / "chosen.exr"]
    write_clip(photo, files[0], square)
    write_clip(photo, files[1], square, exr_compression=method)
    default, chosen = (path.read_bytes() for path in files)
    code = {"zips": 2, "zip": 3, "piz": 4, "dwaa": 8}[method]
    assert exr._attributes(BytesIO(chosen))["compression"] == bytes([code])
    for name in ("alpha", "transfer", "chromaticities", "comments"):
        assert exr._attributes(BytesIO(chosen))[name] == exr._attributes(BytesIO(default))[name]
    found = []
    for path in files:
        with av.open(str(path)) as opened:
            found.append(next(opened.decode(video=0)).to_ndarray(format="gbrapf32le"))
    tolerance = 0.02 if method == "dwaa" else 0
    assert np.abs(found[0] - found[1]).max() <= tolerance
    assert (default == chosen) is (method == "zip")


def test_a_missing_package_is_reported_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_photo(photo := tmp_path / "photo.png")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="pip install OpenEXR"):
        write_clip(photo, tmp_path / "out.exr", square, exr_compression="piz")

"""Stills: photos on a background, in formats without alpha, of a given size, by the hundred."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from tiny_onnx import make_salient

import vidmatte
from vidmatte.cli.main import main
from vidmatte.errors import UsageError
from vidmatte.media.icc import profile_of
from vidmatte.media.png import png_with_profile

SIZE = (160, 120)
BRIGHT, DARK = (230, 200, 240), (40, 60, 20)


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, str]:
    return {"model": str(make_salient(tmp_path / "tiny.onnx", 160)), "family": "isnet"}


def words_of(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def draw_photo(
    path: Path, size: tuple[int, int] = SIZE, at: tuple[float, float] = (0.5, 0.5)
) -> Path:
    """A bright disc with a soft edge on a dark ground."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    distance = np.hypot(x - at[0] * width, y - at[1] * height)
    share = np.clip((0.3 * min(size) - distance) / 4 + 0.5, 0, 1)[..., None]
    rgb = share * np.array(BRIGHT) + (1 - share) * np.array(DARK)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.rint(rgb).astype(np.uint8)[..., ::-1])
    return path


def read_rgb(path: Path) -> np.ndarray:
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert found is not None, path
    order = cv2.COLOR_BGRA2RGBA if found.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(found, order)


@pytest.mark.parametrize("name", ["out.jpg", "out.png", "out.webp", "out.avif", "out.tif"])
def test_a_still_on_a_background_is_opaque(name: str, tmp_path: Path, tiny: dict[str, str]) -> None:
    photo = draw_photo(tmp_path / "photo.png")
    result = vidmatte.matte(photo, out := tmp_path / name, background="#2040c0", **tiny)
    assert not result.warnings
    found = read_rgb(out)
    assert found.shape == (SIZE[1], SIZE[0], 3)
    top = np.iinfo(found.dtype).max
    levels = found.astype(float) * 255 / top
    assert np.abs(levels[:20] - (0x20, 0x40, 0xC0)).max() < 6, "the ground is the background"
    assert np.abs(levels[55:65, 75:85] - BRIGHT).max() < 6, "the subject keeps its colours"
    facts = json.loads(Path(f"{out}.json").read_text())
    assert facts["alpha"] == ("straight" if name == "out.webp" else "none")


def test_a_format_without_alpha_takes_white_and_says_so(
    tmp_path: Path, tiny: dict[str, str]
) -> None:
    photo = draw_photo(tmp_path / "photo.jpg")
    result = vidmatte.matte(photo, out := tmp_path / "id.jpg", **tiny)
    (note,) = result.warnings
    assert "no alpha" in note
    assert "--background" in note
    assert (read_rgb(out)[:12] == 255).all()
    quiet = vidmatte.matte(photo, tmp_path / "w.jpg", background="white", **tiny)
    assert not quiet.warnings
    assert (tmp_path / "w.jpg").read_bytes() == out.read_bytes()


def test_a_movie_on_a_background_needs_no_extra_output(
    tmp_path: Path, tiny: dict[str, str]
) -> None:
    photo = draw_photo(tmp_path / "photo.png")
    result = vidmatte.matte(photo, tmp_path / "out.mp4", background="white", **tiny)
    assert (result.written.format, result.written.pixel_format) == ("h264", "yuv420p")
    with_comp = vidmatte.matte(
        photo, out := tmp_path / "cut.png", comp=tmp_path / "c.jpg", background="white", **tiny
    )
    assert with_comp.written.extra_outputs[0].format == "jpeg"
    assert read_rgb(out).shape[2] == 4, "--background is that of --comp"
    with pytest.raises(UsageError, match="no composite in that format"):
        vidmatte.matte(photo, tmp_path / "o.exr", format="exr", background="white", **tiny)


@pytest.mark.parametrize("name", ["out.jpg", "out.webp", "out.avif", "out.webm", "out.mp4"])
def test_quality_changes_size_and_error(name: str, tmp_path: Path, tiny: dict[str, str]) -> None:
    noisy = np.random.default_rng(1).integers(0, 255, (120, 160, 3), np.uint8)
    cv2.imwrite(str(photo := tmp_path / "photo.png"), cv2.GaussianBlur(noisy, (0, 0), 1) // 2 + 120)
    behind = {"background": "white"} if name in ("out.jpg", "out.mp4") else {}
    sizes = [
        vidmatte.matte(
            photo, tmp_path / name, quality=quality, overwrite=True, **behind, **tiny
        ).written.bytes
        for quality in (20, 60, 95)
    ]
    assert sizes[0] * 1.2 < sizes[1] < sizes[2] / 1.2, sizes


def test_avif_keeps_alpha(tmp_path: Path, tiny: dict[str, str]) -> None:
    photo = draw_photo(tmp_path / "photo.png")
    for name in ("a.png", "a.avif"):
        vidmatte.matte(photo, tmp_path / name, quality=None, **tiny)
    png, avif = read_rgb(tmp_path / "a.png"), read_rgb(tmp_path / "a.avif")
    assert np.abs(png[..., 3].astype(int) - avif[..., 3]).mean() < 1


def test_an_opencv_without_avif_is_reported_before_the_run(
    tmp_path: Path, tiny: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "haveImageWriter", lambda _: False)
    with pytest.raises(UsageError, match="built without AVIF"):
        vidmatte.matte(draw_photo(tmp_path / "p.png"), tmp_path / "o.avif", **tiny)


def test_jpeg_carries_the_sources_profile(tmp_path: Path, tiny: dict[str, str]) -> None:
    profile = bytearray(70_000)  # two segments
    profile[:4], profile[16:20], profile[36:40] = len(profile).to_bytes(4), b"RGB ", b"acsp"
    photo = draw_photo(tmp_path / "photo.png")
    data = photo.read_bytes()
    at = data.index(b"IDAT") - 4
    photo.write_bytes(png_with_profile(data[:at], bytes(profile)) + data[at:])
    vidmatte.matte(photo, out := tmp_path / "out.jpg", background="white", **tiny)
    assert profile_of(out) == bytes(profile)
    with av.open(str(out)) as container:
        assert next(container.decode(video=0)).format.name == "yuvj444p"


def test_a_folder_of_jpegs(tmp_path: Path, tiny: dict[str, str]) -> None:
    for number in range(2):
        draw_photo(tmp_path / "in" / f"{number}.png")
    words = ["--fps", "25", "--format", "jpg", "--background", "grey", "-q", *words_of(tiny)]
    assert main([str(tmp_path / "in"), "-o", str(tmp_path / "out"), *words]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.jpg", "1.jpg"]

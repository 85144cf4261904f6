"""--colour: what a source does not say of its colours, or says wrongly."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from codes import code_planes, frame_of
from media import BT601_525, BT709, BT709_FULL, UNTAGGED, make_movie
from picture_files import ACESCG, chromaticities, rgb_channels, write_exr
from test_changing_tags import colours, joined
from test_palette_and_float import read_exr
from writer_support import write_clip

from vidmatte.core.colour import ColourTags
from vidmatte.errors import UsageError
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

RGB = [200, 90, 40]


def names_of(path: Path, colour: str) -> dict[str, str]:
    with open_reader(path, Settings(colour=colour)) as source:
        return source.clip.colour.as_names()


def test_an_untagged_clip_of_another_system(tmp_path: Path) -> None:
    """720 lines, but coded as BT.601 at full range: nothing in the file says so."""
    actual = ColourTags(6, 2, 6, 6)
    path = tmp_path / "a.mkv"

    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = 1280, 720, "yuv420p"
        rgb = np.broadcast_to(np.array(RGB) / 255, (720, 1280, 3))
        frame = frame_of(code_planes(rgb, "yuv420p", actual), "yuv420p")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    wrong, *_ = colours(path)
    found, warnings, tags = colours(path, colour="bt601,range=full")
    assert np.abs(wrong - RGB).max() > 10
    assert np.abs(found - RGB).max() <= 2
    assert (tags, warnings) == (actual, [])


@pytest.mark.parametrize("text", ["bt601", "matrix=bt601", "matrix=smpte170m,range=tv"])
def test_wrong_tags_are_overruled_in_every_frame(text: str, tmp_path: Path) -> None:
    """A clip of BT.601 whose second part is tagged as BT.709 by mistake."""
    path = joined(tmp_path / "a.mov", [BT601_525, BT709])
    _, warnings, tags = colours(path, colour=text)
    assert tags.matrix == 6
    assert not any("matrix" in line for line in warnings)


@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_a_range_that_is_stated_wrongly(codec: str, tmp_path: Path) -> None:
    """FFmpeg gives full range a pixel format of its own, yuvj420p."""
    name, form = ("a.mp4", "yuv420p") if codec == "libx264" else ("a.avi", "yuvj420p")
    path = make_movie(
        tmp_path / name, frames=2, size=(64, 48), codec=codec, pixel_format=form, colour=BT709_FULL
    ).path
    full, *_ = colours(path)
    limited, _, tags = colours(path, colour="range=limited")
    assert tags.range == 1
    assert np.abs(limited - full).max() > 3  # stretched
    write_clip(path, tmp_path / "out.mkv", colour="range=limited")
    with open_reader(tmp_path / "out.mkv", Settings()) as source:
        assert source.clip.colour.range == 1


def test_an_exr_that_is_really_srgb(tmp_path: Path) -> None:
    codes = np.broadcast_to(np.array(RGB, np.float32) / 255, (24, 32, 3))
    path = write_exr(tmp_path / "a.exr", rgb_channels(codes), chromaticities(*ACESCG))
    assert names_of(path, "srgb") == {
        "matrix": "rgb", "range": "pc", "primaries": "bt709", "transfer": "iec61966-2-1"
    }  # fmt: skip
    opaque = lambda index, width, height: np.ones((height, width), np.float32)  # noqa: E731
    _, written = write_clip(path, tmp_path / "out.png", opaque, colour="srgb")
    assert not written.notes
    found = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED)[0, 0, 2::-1]
    assert list(found) == RGB
    write_clip(path, tmp_path / "out.exr", opaque, colour="srgb")
    linear = ((np.array(RGB) / 255 + 0.055) / 1.055) ** 2.4
    assert np.abs(read_exr(tmp_path / "out.exr")[0, 0, :3] - linear).max() < 1e-3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pq", ("bt2020nc", "tv", "bt2020", "smpte2084")),
        ("bt709,transfer=hlg", ("bt709", "tv", "bt709", "arib-std-b67")),
        ("primaries=display-p3", ("smpte170m", "tv", "smpte432", "smpte170m")),
        ("BT601-625, range=pc", ("bt470bg", "pc", "bt470bg", "smpte170m")),
    ],
)
def test_tags_have_ffmpegs_names_and_usual_ones(
    text: str, expected: tuple[str, ...], tmp_path: Path
) -> None:
    path = make_movie(tmp_path / "a.mkv", frames=1, size=(64, 48), colour=UNTAGGED).path
    assert tuple(names_of(path, text).values()) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rec709", "'rec709' is none of bt709, bt601"),
        ("matrix=rgb", "matrix 'rgb' is none of bt709"),
        ("gamut=bt709", "'gamut' is none of matrix, range, primaries, transfer"),
        ("transfer=", "transfer '' is none of"),
    ],
)
def test_other_words_are_refused_with_what_is_allowed(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"--colour: {reason}"):
        Settings(colour=text)


def test_a_matrix_for_rgb_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((24, 32, 3), np.uint8))
    with pytest.raises(UsageError, match=r"a\.png has R, G, B samples"):
        names_of(tmp_path / "a.png", "matrix=bt709")
    assert names_of(tmp_path / "a.png", "bt2020")["primaries"] == "bt2020"

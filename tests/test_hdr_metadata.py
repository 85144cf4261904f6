"""HDR10 metadata, Dolby Vision and clean apertures: carried, or said."""

from __future__ import annotations

import json
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from media import BT709, BT2020_PQ, Tone, make_movie
from readback import run_tool
from tiny_onnx import make_salient
from writer_support import write_clip

from vidmatte.cli.main import main
from vidmatte.media.quicktime import add_picture_boxes, picture_boxes
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

MASTER = (
    "log-level=error:hdr10=1:max-cll=1000,400:"
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
)
CLAP = struct.pack(">IIIIiIiI", 100, 1, 40, 1, -3, 2, 5, 1)


def hdr10(path: Path, **more: Any) -> Path:
    options = {"x265-params": MASTER}
    return make_movie(
        path, frames=3, size=(128, 72), codec="libx265", pixel_format="yuv420p10le",
        colour=BT2020_PQ, options=options, **more,
    ).path  # fmt: skip


def light_of(path: Path) -> dict[str, Any]:
    """What ffprobe says of a result's stream."""
    text = run_tool("ffprobe", "-v", "error", "-show_streams", "-of", "json", path)
    found: dict[str, Any] = {}
    for beside in json.loads(text)["streams"][0].get("side_data_list", ()):
        found |= beside
    return found


@pytest.mark.parametrize("name", ["out.mov", "out.mkv", "out.webm", "comp.mp4"])
def test_hdr10_metadata_is_carried(name: str, tmp_path: Path) -> None:
    more = {"audio": [Tone()], "timecode": "01:00:00:00", "sample_aspect_ratio": Fraction(4, 3)}
    clip = hdr10(tmp_path / "clip.mov", **more)
    wide = tmp_path / name
    if name == "comp.mp4":
        write_clip(clip, tmp_path / "out.mov", comp=str(wide))
    else:
        _, written = write_clip(clip, wide)
        assert not any("mastering" in note for note in written.notes)
    found = light_of(wide)
    assert (found["max_content"], found["max_average"]) == (1000, 400)
    values = [float(Fraction(found[name])) for name in
              ("red_x", "red_y", "green_x", "green_y", "blue_x", "blue_y", "white_point_x",
               "white_point_y", "min_luminance", "max_luminance")]  # fmt: skip
    expected = [0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 0.005, 1000]
    assert values == pytest.approx(expected, abs=1e-5)
    assert run_tool("ffmpeg", "-v", "error", "-err_detect", "+crccheck+explode", "-i", wide,
                    "-f", "null", "-") == b""  # fmt: skip


@pytest.mark.parametrize("name", ["out.gif", "frames"])
def test_formats_without_a_place_for_it_say_so(name: str, tmp_path: Path) -> None:
    _, written = write_clip(hdr10(tmp_path / "clip.mov"), tmp_path / name)
    assert any("does not store the source's mastering display" in note for note in written.notes)


def with_boxes(path: Path, *boxes: tuple[str, bytes]) -> Path:
    """A clip whose sample entry has these boxes too."""
    make_movie(path, frames=3, size=(128, 72), colour=BT709)
    add_picture_boxes(path, "avc1", boxes)
    return path


def test_a_clean_aperture_is_carried_or_said(tmp_path: Path) -> None:
    clip = with_boxes(tmp_path / "clip.mov", ("clap", CLAP))
    with open_reader(clip, Settings()) as source:
        assert source.clip.display.clean_aperture == (100, 40, Fraction(-3, 2), 5)
    _, written = write_clip(clip, out := tmp_path / "out.mov")
    assert picture_boxes(out)["clap"] == CLAP
    assert written.notes == ()
    with av.open(str(out)) as file:
        assert len(list(file.decode(video=0))) == 3
    _, written = write_clip(clip, tmp_path / "out.mkv")
    assert written.notes == ("ffv1: the source's clean aperture, 100x40, is not stored",)


def dolby(profile: int, compatible: int) -> bytes:
    return bytes([1, 0, profile << 1, 6 << 3 | 5, compatible << 4]) + bytes(19)


@pytest.mark.parametrize(
    ("profile", "compatible", "said"),
    [
        (5, 0, "profile 5, without a base layer for other players: colours come out purple"),
        (10, 0, "profile 10, without a base layer"),
        (8, 1, "profile 8: its base layer is used"),
        (8, 4, "profile 8: its base layer is used"),
    ],
)
@pytest.mark.parametrize("name", ["clip.mov", "clip.mp4", "clip.mkv"])
def test_dolby_vision_is_said(
    name: str, profile: int, compatible: int, said: str, tmp_path: Path
) -> None:
    record = ("dvcC" if profile < 8 else "dvvC", dolby(profile, compatible))
    clip = with_boxes(tmp_path / "a.mov", record)
    path = tmp_path / name
    run_tool(
        "ffmpeg", "-v", "error", "-strict", "-2", "-i", clip, "-strict", "-2", "-c", "copy", path
    )
    if name == "clip.mov":
        path = clip
    with open_reader(path, Settings()) as source:
        (line,) = source.warnings
    assert line.startswith(f"{path.name}: Dolby Vision, {said}")


def test_dolby_vision_for_its_players_alone_is_said_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = with_boxes(tmp_path / "a.mov", ("dvcC", dolby(5, 0)))
    assert main(["info", str(clip)]) == 0
    assert "Dolby Vision, profile 5" in capsys.readouterr().out
    weights = make_salient(tmp_path / "net.onnx")
    args = [str(clip), "-o", str(tmp_path / "o.mov"), "--model", str(weights), "--family", "isnet"]
    assert main([*args, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    first = next(place for place, one in enumerate(lines) if "Dolby" in one.get("text", ""))
    assert first < next(place for place, one in enumerate(lines) if one["event"] == "start")
    assert any("Dolby Vision" in text for text in next(
        one for one in lines if one["event"] == "done")["warnings"])  # fmt: skip

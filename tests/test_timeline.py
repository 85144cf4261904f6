"""Results on a timeline: complete runs, compared with the original by ffmpeg."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media import SOURCE_KINDS, Movie
from readback import decode, frame_times, probe_stream, run_tool
from scene import read_index
from tiny_onnx import make_salient
from writer_support import write_clip

import vidmatte
from vidmatte.cli.main import main

FORMATS = {
    "prores": "out.mov",
    "ffv1": "out.mkv",
    "webm": "out.webm",
    "png16": "frames",
}
LONGEST = 12  # frames


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, str]:
    return {"model": str(make_salient(tmp_path / "tiny.onnx", 64)), "family": "isnet"}


def kinds_and_formats() -> list[Any]:
    """Every kind of source in every format. The fast lane has all kinds in ProRes, and a third of
    them in each other format."""
    found = []
    for place, kind in enumerate(SOURCE_KINDS):
        for number, name in enumerate(FORMATS):
            is_fast = name == "prores" or place % 3 == number % 3
            marks = () if is_fast else pytest.mark.slow
            found.append(pytest.param(name, kind, marks=marks))
    return found


@pytest.mark.parametrize(("name", "kind"), kinds_and_formats())
@pytest.mark.thinned(3)
def test_every_kind_of_source_in_every_format(
    name: str,
    kind: str,
    tiny: dict[str, str],
    source_movie: Callable[[str], Movie],
    tmp_path: Path,
) -> None:
    """Count, order, size and times; each format's samples are tested elsewhere."""
    movie = source_movie(kind)
    out = tmp_path / FORMATS[name]
    count = min(LONGEST, movie.frames)
    result = vidmatte.matte(movie.path, out, format=name, out_point=f"f{count}", **tiny)
    assert result.written.frames == count
    assert (result.written.width, result.written.height) == movie.size
    if out.is_dir():
        assert len(list(out.iterdir())) == count
        pictures = list(decode(out / "%06d.png", "rgb24"))
    else:
        pictures = list(decode(out, "rgb24"))
        times = frame_times(out)
        exact = Fraction(1, 1000) if out.suffix in (".webm", ".mkv") else Fraction(0)
        for time, pts in zip(times, movie.pts[:count], strict=True):
            assert abs(time - times[0] - (pts - movie.pts[0]) * movie.time_base) <= exact
        sound = [*result.clip.audio]
        assert len(result.written.sound) == len(sound)
    assert [read_index(picture) for picture in pictures] == list(range(count))


def planes_of(size: tuple[int, int], *words: str | Path) -> np.ndarray:
    """The output of an ffmpeg command as Y'CbCr codes: (N, 3, H, W) int."""
    raw = run_tool("ffmpeg", "-v", "error", *words, "-f", "rawvideo", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, 3, size[1], size[0]).astype(int)


@pytest.mark.parametrize(
    ("pixel_format", "over", "largest"),
    # ffmpeg's overlay has no 10-bit 4:4:4: its own chroma rounding adds an error.
    [("yuv420p", "yuv444", 1), ("yuv420p10le", "yuv422p10", 2)],
)
def test_the_result_over_the_original_is_the_original(
    pixel_format: str,
    over: str,
    largest: int,
    bigbuckbunny: Path,
    weights: Callable[[str], Path],
    tmp_path: Path,
    requires_ffmpeg: None,
) -> None:
    clip, out, size = tmp_path / "clip.mp4", tmp_path / "out.mov", (1280, 720)
    # Tagged like the result, or newer overlay filters convert one of the two.
    names = ("-colorspace", "-color_primaries", "-color_trc")
    tags = [word for name in names for word in (name, "bt709")] + ["-color_range", "tv"]
    run_tool(
        "ffmpeg", "-v", "error", "-ss", "2.6", "-i", bigbuckbunny, "-frames:v", "2", "-an",
        "-c:v", "libx264", "-crf", "6", "-pix_fmt", pixel_format, *tags, clip,
    )  # fmt: skip
    vidmatte.matte(clip, out, model=str(weights("u2netp")), family="u2net")
    graph = f"[0:v][1:v]overlay=format={over}:eof_action=endall,format=yuv444p"
    found = planes_of(size, "-i", clip, "-i", out, "-filter_complex", graph)
    same = "yuv444p" if over == "yuv444" else "yuv422p10le"
    original = planes_of(size, "-i", clip, "-vf", f"format={same},format=yuv444p")
    alpha = decode(out, "yuva444p12le")[..., 3]
    decided = (alpha == 0) | (alpha == alpha.max())
    assert 0.5 < decided.mean() < 1
    assert (alpha == alpha.max()).mean() > 0.1
    apart = np.abs(found - original).transpose(0, 2, 3, 1)[decided]
    assert apart.max() <= largest
    assert (apart > 1).mean() < 1e-4
    assert np.abs(found - original)[:, 0][decided].max() <= 1


def test_drop_frame_in_and_out_points_select_the_right_frames(
    tiny: dict[str, str],
    source_movie: Callable[[str], Movie],
    tmp_path: Path,
    requires_ffmpeg: None,
) -> None:
    movie = source_movie("drop frame timecode")  # 01:00:00;00, 120 frames of 29.97
    out = tmp_path / "out.mov"
    words = [str(movie.path), "-o", str(out), "--in", "01:00:02:10", "--out", "01:00:03:00"]
    assert main([*words, "-q", "--model", tiny["model"], "--family", "isnet"]) == 0
    selected = run_tool(
        "ffmpeg", "-v", "error", "-i", movie.path, "-vf", "select=between(n\\,70\\,89)",
        "-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo", "-",
    )  # fmt: skip
    expected = np.frombuffer(selected, np.uint8).reshape(-1, *movie.size[::-1], 3)
    found = decode(out, "rgb24")
    assert (
        [read_index(picture) for picture in found]
        == [read_index(picture) for picture in expected]
        == list(range(70, 90))
    )
    assert probe_stream(out, "data")["tags"]["timecode"] == "01:00:02;10"
    sound = probe_stream(out, "audio")
    assert abs(float(sound["duration"]) - 20 * 1001 / 30000) < 0.03


@pytest.mark.parametrize(
    ("kind", "name", "start"),
    [
        (
            "drop frame timecode",
            "cut.webm",
            "webm has no timecode: the clip's, 01:00:00;00, is l",
        ),
        ("drop frame timecode", "cut.mkv", None),
        (
            "variable rate",
            "cut",
            "png pictures store no timestamps, and the clip's frame rate varies: ",
        ),
        ("variable rate", "cut.mkv", None),
    ],
)
def test_timing_that_a_format_cannot_keep_is_noted(
    kind: str,
    name: str,
    start: str | None,
    source_movie: Callable[[str], Movie],
    tmp_path: Path,
) -> None:
    notes = write_clip(source_movie(kind), tmp_path / name, out_point="f4")[1].notes
    assert [note.startswith(str(start)) for note in notes] == ([True] if start else [])

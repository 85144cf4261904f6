"""Conforming to a constant frame rate: names, timecodes and durations."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from media import Movie, make_movie, make_pictures
from tiny_onnx import make_salient

import vidmatte
from vidmatte.core.colour import ColourTags
from vidmatte.core.timecode import at_rate, shifted
from vidmatte.errors import UsageError
from vidmatte.readers.movie.deinterlace import Deinterlacer
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

NTSC = Fraction(30000, 1001)


def test_pictures_conformed_to_a_higher_rate_are_all_written(tmp_path: Path) -> None:
    make_pictures(tmp_path / "plates", frames=6)
    model = {"model": str(make_salient(tmp_path / "tiny.onnx")), "family": "isnet"}
    result = vidmatte.matte(tmp_path / "plates", tmp_path / "cut", fps="24", conform="30", **model)
    written = sorted(file.name for file in (tmp_path / "cut").iterdir())
    assert result.written.frames == 8
    assert written == [f"{number:06}.png" for number in range(8)]


@pytest.mark.parametrize(
    ("rate", "new", "expected"),
    [
        (Fraction(60), "30", [0, 2, 4, 6, 8, 10]),
        (2 * NTSC, "30000/1001", [0, 2, 4, 6, 8, 10]),
        (Fraction(25), "12.5", [0, 2, 4, 6, 8, 10]),
        (Fraction(30), "10", [0, 3, 6, 9]),
        (Fraction(24), "30", [0, 1, 2, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10, 10, 11]),
    ],
)
def test_each_output_frame_shows_the_nearest_source_frame(
    rate: Fraction, new: str, expected: list[int], tmp_path: Path
) -> None:
    movie = make_movie(tmp_path / "clip.mp4", rate=rate, frames=12)
    with open_reader(movie.path, Settings(conform=new)) as source:
        pictures = list(source.pictures())
        warning = source.warnings[-1]
    assert [picture.source_index for picture in pictures] == expected
    assert [picture.pts for picture in pictures] == list(range(len(expected)))
    shown = len(set(expected))
    assert f"{len(expected) - shown} frames repeated, {12 - shown} dropped" in warning


@pytest.mark.parametrize(
    ("text", "rate", "new", "expected"),
    [
        ("01:00:00:49", Fraction(50), Fraction(25), "01:00:00:24"),
        ("01:00:00:24", Fraction(25), Fraction(50), "01:00:00:48"),
        ("01:00:10;02", NTSC, Fraction(25), "01:00:10:01"),
        ("01:01:00;02", NTSC, 2 * NTSC, "01:01:00;04"),
        ("10:00:00:00", Fraction(24000, 1001), NTSC, "10:00:00:00"),
        ("01:00:00;100", 4 * NTSC, NTSC, "01:00:00;25"),
    ],
)
def test_a_timecode_names_the_same_time_at_another_rate(
    text: str, rate: Fraction, new: Fraction, expected: str
) -> None:
    assert at_rate(text, rate, new) == expected
    with pytest.raises(UsageError):
        at_rate("01:00:00:99", NTSC, new)


def test_three_frame_digits_of_a_drop_frame_timecode() -> None:
    assert shifted("01:00:00;110", 20, 4 * NTSC) == "01:00:01;10"


def test_conforming_converts_the_timecode(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "a.mov", rate=Fraction(50), timecode="01:00:00:49", frames=20)
    with open_reader(movie.path, Settings(conform="25")) as source:
        assert source.clip.timecode == "01:00:00:24"
        assert "becomes 01:00:00:24 at 25 fps" in source.warnings[0]
        list(source.pictures())
        assert len(source.warnings) == 2
    drop = make_movie(tmp_path / "b.mov", rate=NTSC, timecode="01:00:00;00", frames=20)
    with open_reader(drop.path, Settings(conform="25", in_point="f5")) as source:
        assert source.clip.timecode == "01:00:00:04"
    wrong = make_movie(tmp_path / "c.mkv", rate=Fraction(30), timecode="01:00:00;02")
    with open_reader(wrong.path, Settings(conform="25")) as source:
        assert source.clip.timecode is None
        assert "dropped" in source.warnings[0]
    with open_reader(movie.path, Settings(conform="300")) as source:
        assert source.clip.timecode is None
        assert "255 frames a second at most" in source.warnings[0]


@pytest.mark.parametrize(
    ("size", "pixel_format", "fits"),
    [((6, 8), "yuv420p", True), ((4, 8), "yuv420p", False), ((6, 6), "yuv420p", False),
     ((3, 4), "yuv444p", True), ((2, 16), "yuv444p", False)],
)  # fmt: skip
def test_pictures_too_small_for_the_filter_are_refused(
    size: tuple[int, int], pixel_format: str, fits: bool, tmp_path: Path
) -> None:
    path = tmp_path / "small.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25, options={"level": "1"})
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        frame = av.VideoFrame(*size, pixel_format)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    if fits:
        with open_reader(path, Settings(deinterlace="bwdif")) as source:
            assert len(list(source.pictures())) == 1
        return
    with pytest.raises(UsageError, match=r"small\.mkv: .* too small .* --deinterlace off"):
        open_reader(path, Settings(deinterlace="bwdif"))


def test_deinterlacing_keeps_times_and_durations(tmp_path: Path) -> None:
    movie: Movie = make_movie(tmp_path / "clip.mp4", frames=6)
    with av.open(str(movie.path)) as container:
        frames = list(container.decode(video=0))
    expected = [(frame.pts, frame.duration, frame.time_base) for frame in frames]
    tags = ColourTags(1, 1, 1, 1)
    deinterlaced = Deinterlacer(lambda _: tags, all_frames=True).frames(iter(frames))
    assert [(frame.pts, frame.duration, frame.time_base) for frame in deinterlaced] == expected

"""In and out points in every container: exactly the requested frames, on time."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import av
import pytest
from media import NTSC, Movie, make_movie
from readback import frame_times
from scene import read_index
from tiny_onnx import make_salient
from writer_support import write_clip

import vidmatte
from vidmatte.core.timecode import is_equal
from vidmatte.errors import SourceError, UsageError
from vidmatte.pixels.network_rgb import full_range_rgb
from vidmatte.readers.movie.rates import find_rate
from vidmatte.readers.movie.timing import Timing
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

SPARSE_KEYS = {"g": "50", "sc_threshold": "0", "bf": "2"}
OPEN_GOP = {"x264-params": "scenecut=0:open-gop=1:b-adapt=0:bframes=3:keyint=15:min-keyint=15"}
VARIABLE = [0, 20, 41, 60, 85, 140, 160, 161, 200, 240, 300, 312]


def read(path: Path, **options: object) -> list[tuple[int, Fraction]]:
    """The ruler's index and the time in seconds of each picture."""
    with open_reader(path, Settings(**options)) as source:
        return [
            (read_index(full_range_rgb(picture.pixels)), picture.pts * source.clip.time_base)
            for picture in source.pictures()
        ]


def test_only_given_points_are_named(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=3)
    with pytest.raises(UsageError, match=r"^--in f3: no frame is left between these points$"):
        read(movie.path, in_point="f3")


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        (".ts", "libx264", SPARSE_KEYS),
        (".flv", "libx264", SPARSE_KEYS),
        (".mp4", "libx264", OPEN_GOP),
        (".mov", "libx264", OPEN_GOP),
        (".mkv", "libx264", OPEN_GOP),
        (".ts", "mpeg2video", {"g": "15", "bf": "2", "b": "4M"}),
        (".mpg", "mpeg2video", {"g": "15", "bf": "2", "b": "4M"}),
        (".avi", "mpeg4", {"g": "15", "bf": "2", "b": "4M"}),
        (".mxf", "mpeg2video", {"g": "15", "bf": "2", "b": "4M"}),
        (".avi", "libx264", OPEN_GOP),
        (".avi", "libx264", {"x264-params": "bframes=16:b-adapt=0:b-pyramid=none"}),
        (".mxf", "libx264", OPEN_GOP),
    ],
)
@pytest.mark.thinned(2)
def test_no_frame_is_lost_at_the_in_point(
    suffix: str, codec: str, options: dict[str, str], tmp_path: Path
) -> None:
    size = (352, 288) if suffix == ".mxf" else (128, 72)
    movie = make_movie(
        tmp_path / f"clip{suffix}", frames=120, codec=codec, size=size, options=options
    )
    for first in (14, 40, 44, 45, 58, 74, 115):
        expected = [(first + place, Fraction(place, 25)) for place in range(4)]
        assert read(movie.path, in_point=f"f{first}", out_point=f"f{first + 4}") == expected
    assert read(movie.path) == [(place, Fraction(place, 25)) for place in range(120)]


def damage(path: Path, frame: int, out: Path) -> Path:
    """A copy of an intra-only movie in which a frame does not decode."""
    with av.open(str(path)) as container:
        place = [packet for packet in container.demux(video=0) if packet.size][frame].pos
    shutil.copy(path, out)
    with out.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 64)
    return out


def test_a_broken_frame_at_the_in_point_is_replaced_by_the_previous_one(tmp_path: Path) -> None:
    movie = make_movie(
        tmp_path / "clip.mov", frames=50, codec="prores_ks", pixel_format="yuv422p10le"
    )
    broken = damage(movie.path, 40, tmp_path / "broken.mov")
    expected = [(39, Fraction(0)), (41, Fraction(1, 25)), (42, Fraction(2, 25))]
    assert read(broken, in_point="f40", out_point="f43") == expected
    assert read(broken, in_point="f40", out_point="f41") == expected[:1]
    early = damage(movie.path, 3, tmp_path / "early.mov")
    assert read(early, in_point="f3", out_point="f5") == [(2, 0), (4, Fraction(1, 25))]
    with open_reader(broken, Settings(in_point="f40", out_point="f43")) as source:
        assert [picture.pts for picture in source.pictures()][:1] == [0]
        assert len(source.warnings) == 1


@pytest.fixture
def variable(tmp_path: Path) -> Movie:
    return make_movie(
        tmp_path / "clip.mov", pts=VARIABLE, time_base=Fraction(1, 600), rate=Fraction(30),
        options={"bf": "2"},
    )  # fmt: skip


def test_points_at_a_variable_rate_follow_the_frames_times(variable: Movie) -> None:
    for first in (1, 5, 8):
        times = [Fraction(pts - VARIABLE[first], 600) for pts in VARIABLE[first:11]]
        expected = list(zip(range(first, 11), times, strict=True))
        assert read(variable.path, in_point=f"f{first}", out_point="f11") == expected
    with open_reader(variable.path, Settings(in_point="f5", out_point="f8")) as source:
        clip = source.clip
    assert (clip.origin, clip.end) == (Fraction(140, 600), Fraction(200, 600))
    assert (clip.first_frame, clip.frame_count, clip.untrimmed_count) == (5, 3, 12)
    # Frame 5 is at 0.233 s; at the average rate it would be at 0.142 s.
    assert [index for index, _ in read(variable.path, in_point="0.22", out_point="0.26")] == [5]


def test_a_run_over_part_of_a_variable_rate_clip(variable: Movie, tmp_path: Path) -> None:
    model = {"model": str(make_salient(tmp_path / "tiny.onnx")), "family": "isnet"}
    for name in ("out.mov", "out.mkv"):
        out = tmp_path / name
        codec = "ffv1" if name == "out.mkv" else None
        vidmatte.matte(variable.path, out, in_point="f5", out_point="f10", format=codec, **model)
        expected = [Fraction(pts - VARIABLE[5], 600) for pts in VARIABLE[5:10]]
        slack = Fraction(1, 1000) if name == "out.mkv" else 0
        found = frame_times(out)
        assert all(abs(a - b) <= slack for a, b in zip(found, expected, strict=True)), found


@pytest.mark.parametrize("part", [{}, {"in_point": "f4", "out_point": "f60"}])
@pytest.mark.parametrize("kind", ["broken", "variable", "open GOP"])
def test_reading_from_any_frame_gives_the_same_frames(
    kind: str, part: dict[str, str], tmp_path: Path
) -> None:
    pts = [VARIABLE[place % 12] + 330 * (place // 12) for place in range(70)]
    path = tmp_path / "clip.mov"
    if kind == "broken":
        made = {"codec": "prores_ks", "pixel_format": "yuv422p10le"}
        movie = make_movie(tmp_path / "complete.mov", frames=70, size=(128, 72), **made)
        damage(movie.path, 50, path)
    elif kind == "variable":
        make_movie(
            path, size=(128, 72), pts=pts, time_base=Fraction(1, 600), options={"bf": "2", "g": "9"}
        )
    else:
        make_movie(path, size=(128, 72), frames=70, options=OPEN_GOP)

    def read_from(index: int, at: int) -> list[tuple[int, int, int]]:
        with open_reader(path, Settings(resume=True, **part)) as source:
            return [
                (read_index(full_range_rgb(picture.pixels)), picture.pts, picture.duration)
                for picture in source.pictures_from(index, at)
            ]

    all_frames = read_from(0, 0)
    assert len(all_frames) == (56 if part else 70)
    for index in (1, 33, 40, 45, 46, 50, 51, 55):
        assert read_from(index, all_frames[index][1]) == all_frames[index:]


def test_frame_times_of_a_variable_rate() -> None:
    base = Fraction(1, 600)
    times = tuple(pts + 60 for pts in VARIABLE)
    timing = Timing(Fraction(22), False, base, base, 60, len(times), times)
    assert [timing.frame_number(pts) for pts in times] == list(range(12))
    assert timing.moment(12) == timing.moment(11) + Fraction(1, 22)
    found = [timing.frame_at(Fraction(pts, 600)) for pts in (-9, 0, 30, 112, 113, 600)]
    assert found == [0, 0, 1, 4, 5, 22]


@pytest.mark.parametrize(
    ("rate", "base", "declared"),
    [
        ("24000/1001", "1/1000", "48500/2023"),
        ("24000/1001", "1/600", "19400/809"),
        ("30000/1001", "1/600", "29100/971"),
        ("30000/1001", "1/1000", "989/33"),
    ],
)
def test_a_standard_rate_is_preferred_to_an_average_that_fits_as_well(
    rate: str, base: str, declared: str
) -> None:
    exact, tick = Fraction(rate), Fraction(base)
    times = [round(index / exact / tick) for index in range(97)]
    assert find_rate(times, tick, [Fraction(declared)]) == (exact, True)
    # A rate far from any standard one is still taken from the container.
    odd_times = [round(index / Fraction(27) / tick) for index in range(97)]
    assert find_rate(odd_times, tick, [Fraction(27)]) == (27, True)


@pytest.mark.parametrize(
    ("text", "rate", "reason"),
    [
        ("01:00:00;00", 25, "01:00:00;00: drop frame exists at 29.97 and its multiples, not at 25"),
        ("foo", 25, "'foo' is not a timecode"),
        ("01:00:00:30", 25, "timecode 01:00:00:30 does not exist at 25"),
        ("01:00:00:00", 300, "01:00:00:00: timecode counts 255 frames a second at most, not 300"),
    ],
)
def test_an_invalid_timecode_is_dropped_with_a_warning(
    text: str, rate: int, reason: str, tmp_path: Path
) -> None:
    movie = make_movie(tmp_path / "clip.mkv", rate=Fraction(rate), timecode=text, frames=4)
    with open_reader(movie.path, Settings()) as source:
        assert source.clip.timecode is None
        assert len(source.warnings) == 1
        assert f"clip.mkv: its timecode is dropped: {reason}" in source.warnings[0]
    clip, _ = write_clip(movie, out := tmp_path / "out.mov")
    assert clip.timecode is None
    with open_reader(out, Settings()) as source:
        assert source.clip.timecode is None


@pytest.mark.parametrize(
    ("text", "rate"),
    [("10:59:59:4", 5), ("10:59:59;09", 30), ("01:00:00.10", NTSC), ("01:00:00;111", 4 * NTSC)],
)
def test_a_timecode_in_another_notation_is_still_verified(
    text: str, rate: Fraction, tmp_path: Path
) -> None:
    movie = make_movie(tmp_path / "clip.mkv", rate=Fraction(rate), timecode=text, frames=4)
    clip, _ = write_clip(movie, out := tmp_path / "out.mov")
    assert clip.timecode == text
    with open_reader(out, Settings()) as source:
        assert source.clip.timecode is not None
        assert is_equal(source.clip.timecode, text, clip.rate)


def test_a_timecode_that_does_not_fit_the_rate_is_dropped_with_a_warning(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mkv", rate=Fraction(30), timecode="01:00:00;02")
    with open_reader(movie.path, Settings()) as source:
        assert source.clip.timecode == "01:00:00;02"
    with open_reader(movie.path, Settings(in_point="f3")) as source:
        assert source.clip.timecode is None
        assert len(source.warnings) == 1
        assert "drop frame exists at 29.97" in source.warnings[0]


def test_a_clip_that_cannot_seek_is_named(tmp_path: Path) -> None:
    """AVI whose first key frame is lost: FFmpeg refuses a seek before the next one with
    "operation not permitted"."""
    movie = make_movie(tmp_path / "clip.avi", frames=100, codec="mpeg4")
    data = bytearray(movie.path.read_bytes())
    begin = data.find(b"movi") - 12
    data[begin : begin + 1034] = bytes(1034)
    damaged = tmp_path / "damaged.avi"
    damaged.write_bytes(data)
    with open_reader(damaged, Settings(in_point="f38")) as source:
        line = r"^\S+damaged\.avi: reading it fails \(Operation not permitted\): is [^\n]+$"
        with pytest.raises(SourceError, match=line):
            list(source.pictures())

"""Clips with missing frames: the others keep their time, gaps are kept or reported."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media import Movie, Tone, make_movie
from readback import frame_times
from scene import read_index
from writer_support import write_clip

from vidmatte.errors import SourceError
from vidmatte.pixels.network_rgb import NetworkRgb
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.writers.extra_outputs import ExtraOutputs

DROPPED = [*range(7), *range(8, 16)]  # frame positions, one of them empty


def read_times(path: Path, **options: object) -> tuple[list[int], list[Fraction]]:
    """Indices read from the pictures, and their times in seconds."""
    with open_reader(path, Settings(**options)) as source:
        clip, viewer = source.clip, NetworkRgb(source.clip)
        view = np.empty((clip.height, clip.width, 3), np.uint8)
        indices, times = [], []
        for picture in source.pictures():
            viewer.view(picture.pixels, view)
            indices.append(read_index(view))
            times.append(picture.pts * clip.time_base)
    return indices, times


def with_a_dropped_frame(path: Path) -> Movie:
    """15 frames at 25 fps, with a gap after the seventh."""
    return make_movie(path, pts=DROPPED, codec="mpeg4", options={"b": "2M"})


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_dropped_frame_leaves_its_gap(suffix: str, tmp_path: Path) -> None:
    """In an AVI a tick is a frame: the gap is no rounding error."""
    movie = with_a_dropped_frame(tmp_path / f"clip{suffix}")
    assert read_times(movie.path) == (list(range(15)), [place / movie.rate for place in DROPPED])
    indices, times = read_times(movie.path, in_point="f3", out_point="f10")
    assert indices == list(range(3, 10))
    assert times == [(place - 3) / movie.rate for place in DROPPED[3:10]]


def test_a_dropped_frame_is_a_gap_in_the_result_too(tmp_path: Path) -> None:
    movie = with_a_dropped_frame(tmp_path / "clip.avi")
    out, comp = tmp_path / "out.mov", tmp_path / "comp.mp4"
    write_clip(movie, out, extras=ExtraOutputs(comp=comp))
    for path in (out, comp):
        assert frame_times(path) == [place / movie.rate for place in DROPPED]


def with_a_damaged_frame(folder: Path, number: int) -> Path:
    """A clip of 12 frames at 25 fps in which part of one packet is overwritten; the decoder
    conceals the error."""
    options = {"bf": "0", "g": "4", "x264-params": "scenecut=0", "crf": "10"}
    movie = make_movie(folder / "clip.mp4", frames=12, options=options)
    with av.open(str(movie.path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][number]
    with movie.path.open("r+b") as file:
        file.seek(packet.pos + packet.size // 2)
        file.write(bytes(range(1, 41)))
    return movie.path


@pytest.mark.parametrize("options", [{}, {"deinterlace": "bwdif"}, {"in_point": "f2"}])
def test_a_frame_with_concealed_errors_is_reported(options: dict[str, str], tmp_path: Path) -> None:
    path = with_a_damaged_frame(tmp_path, 6)
    first = 2 if "in_point" in options else 0
    with open_reader(path, Settings(**options)) as source:
        assert source.warnings == []
        assert len(list(source.pictures())) == 12 - first
        (line,) = source.warnings
    assert f"clip.mp4: the frame at {(6 - first) / 25:.2f} s is damaged" in line
    with (
        open_reader(path, Settings(strict=True, **options)) as source,
        pytest.raises(SourceError, match=r"clip\.mp4: the frame at 0\.\d+ s is damaged; --strict "),
    ):
        list(source.pictures())


def test_damage_outside_the_in_and_out_points_is_ignored(tmp_path: Path) -> None:
    path = with_a_damaged_frame(tmp_path, 6)
    with open_reader(path, Settings(in_point="f8", strict=True)) as source:
        assert len(list(source.pictures())) == 4
    with open_reader(path, Settings(out_point="f6", strict=True)) as source:
        assert len(list(source.pictures())) == 6


@pytest.mark.parametrize(
    "options",
    [
        {
            "x264-params": "open-gop=1:scenecut=0",
            "bf": "2",
        },  # begins with frames whose references are missing
        {"x264-params": "intra-refresh=1", "bf": "0"},  # begins without a key frame
    ],
)
def test_a_stream_that_begins_in_the_middle_is_not_damaged(
    options: dict[str, str], tmp_path: Path
) -> None:
    movie = make_movie(tmp_path / "complete.ts", frames=60, options={"g": "12", **options})
    data = movie.path.read_bytes()
    begin = data.index(b"\x47", 188 * (len(data) // 188 // 4))
    (tmp_path / "clip.ts").write_bytes(data[begin:])
    with open_reader(tmp_path / "clip.ts", Settings(strict=True)) as source:
        assert len(list(source.pictures())) > 20
        assert source.warnings == []


def cut_in_half(path: Path) -> Path:
    """The first half of a file, as after an interrupted copy."""
    half = path.with_name(f"half{path.suffix}")
    data = path.read_bytes()
    half.write_bytes(data[: len(data) // 2])
    return half


@pytest.mark.parametrize(
    ("suffix", "codec", "sound"),
    [
        (".mkv", "libx264", "aac"),
        (".mkv", "libx264", None),
        (".avi", "mpeg4", "mp3"),
        (".mxf", "mpeg2video", "pcm_s16le"),
    ],
)
def test_a_file_shorter_than_its_header_says_is_reported(
    suffix: str, codec: str, sound: str | None, tmp_path: Path
) -> None:
    audio = [Tone(codec=sound)] if sound else []
    movie = make_movie(tmp_path / f"clip{suffix}", frames=50, codec=codec, audio=audio)
    with open_reader(movie.path, Settings()) as source:
        assert source.warnings == []
    half = cut_in_half(movie.path)
    with open_reader(half, Settings()) as source:
        (line,) = source.warnings
        end = max(picture.pts for picture in source.pictures()) * source.clip.time_base
    (read,) = re.findall(
        r": the file states 2\.\d\d s, (\d\.\d\d) s of video could be read: ", line
    )
    assert float(read) == pytest.approx(float(end + 1 / movie.rate), abs=0.05)
    with pytest.raises(SourceError, match=r"half.*the file states 2\.\d\d s.* --strict stops here"):
        open_reader(half, Settings(strict=True))
    with open_reader(half, Settings(out_point="f5", strict=True)) as source:
        assert len(list(source.pictures())) == 5


def test_audio_longer_than_the_video_is_not_missing_video(tmp_path: Path) -> None:
    picture = make_movie(tmp_path / "short.mkv", frames=10)
    sound = make_movie(tmp_path / "long.mkv", frames=60, audio=[Tone()])
    path = tmp_path / "clip.mkv"
    with (
        av.open(str(picture.path)) as video,
        av.open(str(sound.path)) as audio,
        av.open(str(path), "w") as target,
    ):
        given = [video.streams.video[0], audio.streams.audio[0]]
        copies = [target.add_stream_from_template(stream) for stream in given]
        for source, stream, copy in zip((video, audio), given, copies, strict=True):
            for packet in source.demux(stream):
                if packet.size:
                    packet.stream = copy
                    target.mux(packet)
    with open_reader(path, Settings(strict=True)) as source:
        assert source.warnings == []
        assert len(list(source.pictures())) == 10


def test_the_last_frame_of_a_variable_rate_may_be_long(tmp_path: Path) -> None:
    """Matroska stores the last frame's duration only in its header."""
    movie = make_movie(tmp_path / "slides.mp4", pts=[0, 25, 75], options={"bf": "0"})
    clip = tmp_path / "slides.mkv"
    with av.open(str(movie.path)) as given, av.open(str(clip), "w") as target:
        stream = target.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream, packet.duration = stream, round(2 / packet.time_base)
                target.mux(packet)
    with av.open(str(clip)) as container:
        assert container.duration == 5_000_000  # microseconds
        assert [packet.pts for packet in container.demux() if packet.size] == [0, 1000, 3000]
    with open_reader(clip, Settings(strict=True)) as source:
        assert source.warnings == []

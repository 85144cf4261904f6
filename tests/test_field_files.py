"""Files from the field: what cameras, recorders and old tools leave, read as what they show."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import pytest
from field_files import (
    field_units,
    joined_tracks,
    make_field_coded,
    packed,
    with_places_filled,
    without_composition_times,
)
from media import Tone, make_movie, make_pictures
from readback import decode, frame_times, probe_stream
from scene import read_index
from test_missing_frames import read_times
from tiny_onnx import make_salient

import vidmatte
from vidmatte.cli.main import main
from vidmatte.errors import SourceError, UsageError
from vidmatte.media.quicktime import is_cut_off
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

make_small = partial(make_movie, size=(128, 72))  # whose ruler can still be read


def check_read(
    path: Path, indices: Sequence[int], times: Sequence[Fraction], **options: object
) -> None:
    """The frames of a clip, their count, their times, a part of them, and those from the middle
    on as ``--resume`` reads them; without a warning."""
    with open_reader(path, Settings(resume=True, **options)) as source:
        clip = source.clip
        assert clip.frame_count == len(indices)
        stamps = [picture.pts for picture in source.pictures()]
        assert source.warnings == []
    found, at = read_times(path, **options)
    assert found == list(indices)
    assert at == list(times)
    first, end = len(indices) * 2 // 3, len(indices) - 1
    found, at = read_times(path, in_point=f"f{first}", out_point=f"f{end}", **options)
    assert found == list(indices[first:end])
    assert at == [time - times[first] for time in times[first:end]]
    with open_reader(path, Settings(resume=True, **options)) as source:
        again = source.pictures_from(first, stamps[first])
        assert [picture.pts for picture in again] == stamps[first:]


def check_info(path: Path, capsys: pytest.CaptureFixture[str], frames: int, rate: str) -> None:
    """What ``vidmatte info`` says of the time."""
    assert main(["info", str(path)]) == 0
    assert f"{frames} frames, {rate}, " in capsys.readouterr().out


def evenly(count: int, rate: int | Fraction = 25) -> list[Fraction]:
    """The times of ``count`` frames in seconds."""
    return [Fraction(number) / rate for number in range(count)]


@pytest.mark.parametrize("suffix", [".ts", ".mp4", ".mkv", ".mov", ".flv", ".avi", ".mxf"])
def test_fields_that_are_packets_of_their_own_are_one_frame(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_field_coded(tmp_path / f"clip{suffix}", 52)
    check_info(path, capsys, 52, "25 fps")
    check_read(path, range(52), evenly(52))


@pytest.mark.parametrize("suffix", [".ts", ".mp4"])
@pytest.mark.parametrize("options", [{"framed": [3, 10]}, {"joined": True}])
def test_frames_and_fields_may_alternate_or_share_a_packet(
    options: dict[str, object], suffix: str, tmp_path: Path
) -> None:
    path = make_field_coded(tmp_path / f"clip{suffix}", 16, **options)  # type: ignore[arg-type]
    check_read(path, range(16), evenly(16))


def test_a_lost_second_field_costs_its_frame_alone(tmp_path: Path) -> None:
    path = make_field_coded(tmp_path / "clip.ts", 12, lost=[11])
    assert read_times(path) == ([0, 1, 2, 3, 4, 4, *range(6, 12)], evenly(12))


@pytest.mark.parametrize(
    ("lost", "indices"), [([0], range(1, 12)), ([1], range(1, 12)), ([23], range(11))]
)
def test_a_recording_may_begin_or_end_between_two_fields(
    lost: list[int], indices: range, tmp_path: Path
) -> None:
    path = make_field_coded(tmp_path / "clip.ts", 12, lost=lost, group=6)
    check_read(path, indices, evenly(11))


def test_a_lost_first_field_leaves_the_gap_of_its_frame(tmp_path: Path) -> None:
    path = make_field_coded(tmp_path / "clip.mp4", 12, lost=[10], group=12)
    indices = [0, 1, 2, 3, 4, *range(6, 12)]
    check_read(path, indices, [Fraction(index, 25) for index in indices])


@pytest.mark.parametrize("name", ["out.mov", "out.webm", "out.mkv"])
def test_results_of_field_coded_clips_have_the_rate_of_frames(name: str, tmp_path: Path) -> None:
    clip = make_field_coded(tmp_path / "clip.ts", 10)
    model = str(make_salient(tmp_path / "tiny.onnx", 64))
    result = vidmatte.matte(clip, out := tmp_path / name, model=model, family="isnet")
    assert (result.clip.rate, result.written.frames) == (25, 10)
    assert probe_stream(out, "video")["avg_frame_rate"] == "25/1"
    assert len(frame_times(out)) == 10


B_FRAMES = {"bf": "2", "b_strategy": "0", "g": "12"}
#: By container: the codec, and the options of its encoder.
REORDERED = {
    ".flv": ("libx264", B_FRAMES),
    ".mkv": ("libx264", B_FRAMES | {"x264-params": "open-gop=1"}),
    ".ts": ("mpeg2video", B_FRAMES | {"b": "2M"}),
    ".mov": ("libx264", B_FRAMES | {"bf": "7", "b-pyramid": "normal"}),
    ".mp4": ("libx265", {"x265-params": "log-level=error:bframes=3:keyint=12"}),
    ".avi": ("mpeg4", B_FRAMES | {"b": "2M"}),
    ".asf": ("mpeg2video", B_FRAMES | {"b": "2M"}),
}
UNEVEN = [600 * (number // 5) + (0, 50, 170, 282, 320)[number % 5] for number in range(60)]


@pytest.mark.parametrize("suffix", REORDERED)
def test_b_frames_without_composition_times_are_shown_in_order(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codec, options = REORDERED[suffix]
    movie = make_small(tmp_path / "clip.mp4", frames=60, codec=codec, options=options)
    path = without_composition_times(movie.path, tmp_path / f"plain{suffix}")
    check_info(path, capsys, 60, "25 fps")
    check_read(path, range(60), evenly(60))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_so_are_those_of_a_variable_rate(suffix: str, tmp_path: Path) -> None:
    movie = make_small(
        tmp_path / "clip.mp4", pts=UNEVEN, time_base=Fraction(1, 1000), options=B_FRAMES
    )
    path = without_composition_times(movie.path, tmp_path / f"plain{suffix}")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        times = [packet.pts * packet.time_base for packet in packets]
    assert times == sorted(times)
    check_read(path, range(60), [time - times[0] for time in times])


def test_frames_before_the_edit_are_left_out_and_the_others_in_order(tmp_path: Path) -> None:
    """FFmpeg's own copy lets the clip begin with the third packet; the first two are discarded."""
    movie = make_small(tmp_path / "clip.mp4", frames=60, options=B_FRAMES)
    path = without_composition_times(movie.path, tmp_path / "plain.mov", shifted=False)
    with av.open(str(path)) as container:
        shown = sum(1 for _ in container.decode(video=0))
    indices = [1, 2, *range(4, 60)]
    assert shown == len(indices)
    check_read(path, indices, evenly(len(indices)))


@pytest.mark.parametrize("suffix", [".flv", ".ts"])
def test_their_results_have_their_rate_and_their_sound(suffix: str, tmp_path: Path) -> None:
    movie = make_small(tmp_path / "clip.mp4", frames=30, options=B_FRAMES, audio=[Tone()], flash=9)
    path = without_composition_times(movie.path, tmp_path / f"plain{suffix}")
    model = {"model": make_salient(tmp_path / "tiny.onnx", 64), "family": "isnet", "smooth": "off"}
    for name in ("out.mov", "out.mkv"):
        result = vidmatte.matte(path, out := tmp_path / name, **model)
        assert (result.written.frames, result.warnings) == (30, ())
        assert [read_index(picture) for picture in decode(out)] == list(range(30))
        assert float(probe_stream(out, "audio")["start_time"]) == pytest.approx(0, abs=0.025)


RAW = {
    "open groups": (".h264", {"options": B_FRAMES | {"x264-params": "open-gop=1"}}),
    "pyramids": (".264", {"options": B_FRAMES | {"bf": "7", "b-pyramid": "normal"}}),
    "fields in frames": (".h264", {"options": B_FRAMES, "interlaced": True}),
    "HEVC": (
        ".hevc",
        {
            "codec": "libx265",
            "options": {"x265-params": "log-level=error:bframes=4:keyint=12"},
        },
    ),
}
NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize("kind", RAW)
def test_raw_streams_are_read_at_their_own_rate_or_at_fps(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suffix, options = RAW[kind]
    movie = make_small(tmp_path / f"clip{suffix}", frames=60, rate=NTSC, **options)  # type: ignore[arg-type]
    check_info(movie.path, capsys, 60, "30000/1001 fps")
    check_read(movie.path, range(60), evenly(60, NTSC))
    check_read(movie.path, range(60), evenly(60, 24), fps="24")


def test_a_raw_stream_of_fields_has_the_rate_of_frames(tmp_path: Path) -> None:
    path = tmp_path / "clip.264"
    path.write_bytes(b"".join(unit for _, unit in field_units(40, group=6)))
    check_read(path, range(40), evenly(40))
    path.write_bytes(b"".join(unit for at, unit in field_units(40, group=6) if at not in (0, 79)))
    check_read(path, range(1, 39), evenly(38))


def test_a_raw_stream_without_a_rate_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"x265-params": "log-level=error:vui-timing-info=0"}
    movie = make_small(tmp_path / "clip.hevc", frames=6, codec="libx265", options=options)
    model = ["--model", str(make_salient(tmp_path / "tiny.onnx", 64)), "--family", "isnet"]
    out = tmp_path / "out.mov"
    assert main([str(movie.path), "-o", str(out), *model]) == 0
    assert "clip.hevc: it states no frame rate: using 25, or give --fps" in capsys.readouterr().err
    assert main([str(movie.path), "-o", str(out), *model, "--fps", "50", "--overwrite"]) == 0
    assert "frame rate" not in capsys.readouterr().err
    assert probe_stream(out, "video")["avg_frame_rate"] == "50/1"


def test_fps_is_refused_where_a_movie_has_timestamps(tmp_path: Path) -> None:
    movie = make_small(tmp_path / "clip.ts")
    with pytest.raises(UsageError, match=r"--fps 24 is for .*clip\.ts has its own rate"):
        open_reader(movie.path, Settings(fps="24"))


def two_tracks(folder: Path, suffix: str, default: int | None) -> Path:
    """A movie of a large track of 10 frames and a small one of 40."""
    large = make_movie(folder / "large.mp4", frames=10)
    small = make_movie(folder / "small.mp4", frames=40, size=(128, 72), options=B_FRAMES)
    return joined_tracks([large.path, small.path], folder / f"clip{suffix}", default)


@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
def test_of_two_video_tracks_the_default_one_is_read(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = two_tracks(tmp_path, suffix, default=1)
    assert main(["info", str(path)]) == 0
    said = capsys.readouterr().out
    assert "40 frames, 25 fps" in said
    assert "video track  1: h264, 192x108\n" in said
    assert "video track  2: h264, 128x72, default, read\n" in said
    assert "it has 2 video tracks: track 2, the default one, is read; --video-track cho" in said
    assert read_times(path) == (list(range(40)), evenly(40))
    check_read(path, range(40), evenly(40), video_track=2)
    check_read(path, range(10), evenly(10), video_track=1)


def test_without_a_default_track_the_largest_is_read(tmp_path: Path) -> None:
    path = two_tracks(tmp_path, ".mkv", default=None)
    with open_reader(path, Settings()) as source:
        assert (source.clip.width, source.clip.frame_count) == (192, 10)
        assert [track.is_read for track in source.clip.video] == [True, False]
        assert "track 1, the largest, is read" in source.warnings[0]


def test_a_video_track_that_does_not_exist_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = two_tracks(tmp_path, ".mov", default=0)
    model = ["--model", str(make_salient(tmp_path / "tiny.onnx", 64)), "--family", "isnet"]
    model += ["--smooth", "off"]
    out = tmp_path / "out.mov"
    assert main([str(path), "-o", str(out), *model, "--video-track", "3"]) == 2
    said = capsys.readouterr().err
    assert "--video-track 3: clip.mov has 2 video tracks: use a number from 1 to 2" in said
    assert main([str(path), "-o", str(out), *model, "--video-track", "2", "-q"]) == 0
    assert (probe_stream(out)["width"], probe_stream(out)["nb_frames"]) == (128, "40")
    (picture,) = make_pictures(tmp_path, frames=1)
    with pytest.raises(UsageError, match="--video-track 1 is for movies: "):
        open_reader(picture, Settings(video_track=1))


@pytest.mark.parametrize("tail", [bytes(700), b"\xff" * 3000], ids=["zeros", "ones"])
def test_an_error_after_the_last_frame_is_a_warning(
    tail: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio = [Tone(codec="pcm_s16le")]
    movie = make_small(tmp_path / "clip.nut", frames=48, options=B_FRAMES, audio=audio)
    movie.path.write_bytes(movie.path.read_bytes() + tail)
    with av.open(str(movie.path)) as container, pytest.raises(av.error.FFmpegError):
        list(container.demux())
    check_info(movie.path, capsys, 48, "25 fps")
    assert read_times(movie.path) == (list(range(48)), evenly(48))
    indices, _ = read_times(movie.path, in_point="f40", out_point="f47", strict=True)
    assert indices == list(range(40, 47))
    model = ["--model", str(make_salient(tmp_path / "tiny.onnx", 64)), "--family", "isnet"]
    model += ["--smooth", "off"]
    out = tmp_path / "out.mov"
    assert main([str(movie.path), "-o", str(out), *model]) == 0
    assert "clip.nut: a part of it cannot be read (" in capsys.readouterr().err
    assert probe_stream(out)["nb_frames"] == "48"
    assert main([str(movie.path), "-o", str(out), *model, "--overwrite", "--strict"]) == 1
    assert "; --strict stops here: " in capsys.readouterr().err


def test_a_frame_a_day_later_is_none(tmp_path: Path) -> None:
    """What follows the last frame of an IVF is read as the head of another, years later."""
    movie = make_small(tmp_path / "clip.ivf", frames=12, codec="libvpx-vp9")
    head = (20).to_bytes(4, "little") + (1 << 60).to_bytes(8, "little")
    movie.path.write_bytes(movie.path.read_bytes() + head + b"\xaa" * 20)
    with open_reader(movie.path, Settings()) as source:
        assert (source.clip.rate, source.clip.frame_count) == (25, 13)
        assert len(list(source.pictures())) == 13
        assert len(source.warnings) == 1


#: The muxer's flags: the index stands first, fragments of several frames, and of one.
CUT = (
    "faststart",
    "frag_keyframe+empty_moov",
    "frag_keyframe",
    "frag_every_frame+empty_moov+default_base_moof",
)


@pytest.mark.parametrize("flags", CUT)
@pytest.mark.parametrize(("suffix", "percent"), [(".mp4", 60), (".mov", 85)])
@pytest.mark.thinned(3)
def test_an_mp4_that_was_cut_off_goes_through_with_a_warning(
    suffix: str, percent: int, flags: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    movie = make_movie(
        tmp_path / f"whole{suffix}",
        frames=60,
        options=B_FRAMES,
        audio=[] if "every" in flags else [Tone()],  # FFmpeg writes wrong times of both
        container_options={"movflags": flags},
    )
    path = tmp_path / f"cut{suffix}"
    data = movie.path.read_bytes()
    path.write_bytes(data[: len(data) * percent // 100])
    with open_reader(path, Settings()) as source:
        count = source.clip.frame_count
        assert count is not None
        assert 12 < count < 60 * percent // 100 + 4
        assert source.clip.constant_rate
        (line,) = source.warnings
    assert f"cut{suffix}: a part of it cannot be read (the file is truncated), {count} fr" in line
    check_info(path, capsys, count, "25 fps")
    indices, times = read_times(path)
    assert indices == list(range(count))
    assert [time - times[0] for time in times] == evenly(count)
    with pytest.raises(SourceError, match=r"the file is truncated.*--strict stops here"):
        open_reader(path, Settings(strict=True))
    assert read_times(path, strict=True, out_point="f9")[0] == list(range(9))


def test_the_result_of_a_cut_off_mp4_has_its_sound(tmp_path: Path) -> None:
    movie = make_movie(
        tmp_path / "whole.mp4",
        frames=60,
        audio=[Tone()],
        container_options={"movflags": "frag_keyframe+empty_moov"},
        options={"g": "12"},
    )
    path = tmp_path / "cut.mp4"
    path.write_bytes(movie.path.read_bytes()[: movie.path.stat().st_size * 7 // 10])
    model = {"model": make_salient(tmp_path / "tiny.onnx", 64), "family": "isnet", "smooth": "off"}
    result = vidmatte.matte(path, out := tmp_path / "out.mov", **model)
    assert result.written.frames == result.clip.frame_count == len(frame_times(out))
    assert "the file is truncated" in result.warnings[0]
    seconds = result.written.frames / 25
    assert seconds - 1 < float(probe_stream(out, "audio")["duration"]) < seconds + 0.1


def test_bytes_after_the_last_atom_are_no_cut(tmp_path: Path) -> None:
    movie = make_small(tmp_path / "clip.mp4", frames=6)
    data = movie.path.read_bytes()
    for tail in (bytes(3), bytes(40), b"\xff\xd8\xff" * 9):
        movie.path.write_bytes(data + tail)
        assert not is_cut_off(movie.path)
    movie.path.write_bytes(data[:-1])
    assert is_cut_off(movie.path)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("b_frames", ["1", "2", "3"])
def test_frames_that_divx_packs_are_divided(
    b_frames: str, signed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = B_FRAMES | {"bf": b_frames, "b": "2M"}
    movie = make_small(tmp_path / "clip.avi", frames=61, codec="mpeg4", options=options)
    for suffix in (".avi", ".mkv"):
        path = packed(movie.path, tmp_path / f"packed{suffix}", signed=signed)
        with av.open(str(path)) as container:
            sizes = [packet.size for packet in container.demux(video=0) if packet.size]
        assert len(sizes) == 61
        assert sum(size < 10 for size in sizes) == 60 // (int(b_frames) + 1)
        check_info(path, capsys, 61, "25 fps")
        check_read(path, range(61), evenly(61))


def test_a_frame_that_is_not_coded_leaves_the_one_before(tmp_path: Path) -> None:
    options = {"bf": "0", "g": "12", "b": "2M"}
    movie = make_small(tmp_path / "clip.avi", frames=30, codec="mpeg4", options=options)
    path = with_places_filled(movie.path, tmp_path / "filled.avi", at=20, count=2)
    times = [Fraction(place, 25) for place in [*range(20), *range(22, 32)]]
    check_read(path, range(30), times)
    with open_reader(path, Settings(conform="25")) as source:
        assert len(list(source.pictures())) == 32


def test_a_packed_clip_makes_a_result_of_its_length(tmp_path: Path) -> None:
    options = B_FRAMES | {"b": "2M"}
    movie = make_small(tmp_path / "clip.avi", frames=25, codec="mpeg4", options=options)
    path = packed(movie.path, tmp_path / "packed.avi")
    model = {"model": make_salient(tmp_path / "tiny.onnx", 64), "family": "isnet", "smooth": "off"}
    result = vidmatte.matte(path, out := tmp_path / "out.mov", **model)
    assert (result.written.frames, result.written.rate, result.warnings) == (25, 25, ())
    assert [read_index(picture) for picture in decode(out)] == list(range(25))


@pytest.mark.parametrize("suffix", [".flv", ".mkv", ".ts"])
def test_a_cut_between_reordered_frames_keeps_the_rate(suffix: str, tmp_path: Path) -> None:
    """The last frame in the file is shown after others that are missing."""
    movie = make_small(tmp_path / "whole.mp4", frames=30, options=B_FRAMES)
    path = tmp_path / f"cut{suffix}"
    with av.open(str(movie.path)) as given, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(given.streams.video[0])
        packets = [packet for packet in given.demux(video=0) if packet.size]
        for packet in packets[:26]:
            packet.stream = stream
            target.mux(packet)
    shown = sorted(packet.pts for packet in packets[:26])
    last = round((shown[-1] - shown[0]) * packets[0].time_base * 25)
    assert last > 25
    with open_reader(path, Settings()) as source:
        assert (source.clip.rate, source.clip.constant_rate) == (25, True)
        assert source.clip.frame_count == last + 1
    indices, times = read_times(path)
    assert (times, indices[-1]) == (evenly(last + 1), last)

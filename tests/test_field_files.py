"""Files from the field: what cameras, recorders and old tools leave, read as what they show."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest
from field_files import make_field_coded
from readback import frame_times, probe_stream
from test_source_gaps import read_times
from tiny_onnx import make_salient

import vidmatte
from vidmatte.cli.main import main
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings


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

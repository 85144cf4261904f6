"""``vidmatte bench``: its figures add up, and its output shows them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from tiny_onnx import make_recurrent, make_salient

from vidmatte.cli.main import main
from vidmatte.cli.tools import _busy_note, _parse_size
from vidmatte.core.frame import Frame
from vidmatte.errors import UsageError
from vidmatte.tools.bench import (
    Measured,
    _Cost,
    _cost_of,
    _machine_core_seconds,
    _median_cost,
    _peak_memory,
    _ping_pong,
)
from vidmatte.tools.bench_clip import make_clip

STAGES = ["read", "network", "motion", "steady", "write"]


def bench_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert main(["bench", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("kind", ["prores", "png"])
def test_every_stage_is_measured_and_the_figures_add_up(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(make_salient(tmp_path / "tiny.onnx"))
    options = ["--model", model, "--family", "isnet", "--size", "192x108", "--frames", "10"]
    report = bench_json(capsys, *options, "--format", kind, "--rounds", "2")
    assert list(report["stages"]) == STAGES
    assert [stage["frames"] for stage in report["stages"].values()] == [10, 10, 19, 19, 10]
    assert all(stage["fps"] > 0 for stage in report["stages"].values())
    total = sum(stage["core_ms"] for stage in report["stages"].values())
    assert report["core_ms"] == pytest.approx(total, abs=0.1)
    assert report["bound_fps"] == pytest.approx(1000 * report["cores"] / total, rel=0.01)
    assert report["pipeline"]["frames"] == 10
    share = report["pipeline"]["fps"] / report["bound_fps"]
    assert report["share_of_bound"] == pytest.approx(share, rel=0.01)
    assert report["peak_memory_bytes"] > 50e6


def test_a_given_clip_is_read_up_to_the_requested_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(make_recurrent(tmp_path / "tiny.onnx"))
    clip = tmp_path / "own.mp4"
    make_clip(clip, 128, 72, 20)
    before = sorted(tmp_path.iterdir())
    options = ["--model", model, "--family", "rvm", "--frames", "12"]
    report = bench_json(capsys, str(clip), *options)
    assert report["pipeline"]["frames"] == 12
    assert report["clip"] == "own.mp4, 128x72"
    assert sorted(tmp_path.iterdir()) == before, "the result was left beside the clip"
    report = bench_json(capsys, str(clip), *options, "--in", "f4")
    assert report["pipeline"]["frames"] == 12


def test_a_clip_with_too_few_frames_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(tmp_path / "own.mp4"), "--model", str(make_salient(tmp_path / "tiny.onnx"))]
    make_clip(tmp_path / "own.mp4", 128, 72, 9)
    for more, message in (
        (["--frames", "10"], "own.mp4: it has only 9 of the 10 frames of --frames: use a longer"),
        (["--frames", "9"], ""),
        (["--frames", "10", "--out", "f9"], ""),
    ):
        assert main(["bench", *words, "--family", "isnet", *more]) == 0
        assert (message in (err := capsys.readouterr().err)) and (
            bool(message) == ("of --fr" in err)
        )


def test_without_json_a_table_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(make_salient(tmp_path / "tiny.onnx"))
    options = ["--model", model, "--family", "isnet", "--size", "128x72", "--frames", "8"]
    assert main(["bench", *options]) == 0
    text = capsys.readouterr().out
    for word in (*STAGES, "bound", "pipeline", "share of the bound", "peak memory", "network: "):
        assert word in text


@pytest.mark.parametrize("size", ["1920", "1920x1081", "10x10", "axb", "64x99999"])
def test_an_invalid_size_is_refused(size: str) -> None:
    with pytest.raises(UsageError, match="--size"):
        _parse_size(size)


def test_the_generated_clip_has_the_requested_frames_and_a_moving_figure(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", 256, 144, 12)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == 12
    assert pictures[0].shape == (144, 256, 3)
    blue = [(p[100:, :, 2].astype(int) - p[100:, :, 0] > 30).any(axis=0) for p in pictures]
    places = [np.flatnonzero(columns).mean() for columns in blue]
    assert places[8] > places[0] + 10


def test_cost_counts_wall_time_and_all_cores() -> None:
    def idle_then_work() -> int:
        time.sleep(0.1)
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
        return 4

    cost = _cost_of(idle_then_work)
    assert cost.seconds >= 0.2
    assert 0.1 <= cost.core_seconds < cost.seconds
    assert cost.core_ms == pytest.approx(1000 * cost.core_seconds / 4)


def test_the_share_is_the_core_seconds_over_the_wall_time() -> None:
    stages = {"network": _Cost(10, 1.0, 1.6), "write": _Cost(5, 1.0, 0.2)}
    measured = Measured(stages, _Cost(10, 1.25, 2.0), cores=2, peak_bytes=None)
    assert measured.core_ms == pytest.approx(200)
    assert measured.bound_fps == pytest.approx(10)
    assert measured.share == pytest.approx(0.8)


def test_a_busy_machine_is_reported() -> None:
    stages = {"network": _Cost(10, 1.0, 1.6)}
    quiet = Measured(stages, _Cost(10, 2.0, 1.6, 0.1), cores=2, peak_bytes=None)
    busy = Measured(stages, _Cost(10, 2.0, 1.6, 2.0), cores=2, peak_bytes=None)
    unknown = Measured(stages, _Cost(10, 2.0, 1.6), cores=2, peak_bytes=None)
    assert _busy_note(quiet) == _busy_note(unknown) == []
    assert "50 % of the cores" in _busy_note(busy)[0]


def test_other_programs_core_seconds_are_counted() -> None:
    if _machine_core_seconds() is None:
        pytest.skip("this system does not report the CPU time of all programs")
    code = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"

    def wait_for_another() -> int:
        subprocess.run([sys.executable, "-c", code], check=True)
        return 1

    cost = _cost_of(wait_for_another)
    assert cost.others is not None
    assert cost.others >= 0.4 > cost.core_seconds


def test_medians_are_reported_and_memory_is_in_bytes() -> None:
    costs = [_Cost(3, seconds, 2 * seconds, seconds) for seconds in (1.0, 9.0, 2.0)]
    assert _median_cost(costs) == _Cost(3, 2.0, 4.0, 2.0)
    peak = _peak_memory()
    assert peak is None or 20e6 < peak < 1e12


def test_a_shot_played_there_and_back_keeps_its_cuts() -> None:
    def frame(number: int) -> Frame:
        unused = av.VideoFrame(8, 8, "rgb24")
        rgb, alpha = np.zeros((8, 8, 3), np.uint8), np.full((8, 8), number, np.float32)
        return Frame(
            number, number, 1, Fraction(1, 25), unused, rgb, alpha, new_shot=number in (0, 2)
        )

    frames = [frame(number) for number in range(4)]
    shuttled = list(_ping_pong(frames))
    assert [shown.index for shown in shuttled] == [0, 1, 2, 3, 2, 1, 0]
    assert [n for n, shown in enumerate(shuttled) if shown.new_shot] == [0, 2, 5]
    for shown in shuttled:
        shown.alpha += 1
    assert [frame.alpha.max() for frame in frames] == [0, 1, 2, 3]


def test_a_clip_and_a_size_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "clip.mp4", "--size", "640x360"]) == 2
    message = "vidmatte: --size 640x360: clip.mp4 has its own size: use one of them\n"
    assert capsys.readouterr().err == message

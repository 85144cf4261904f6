"""Workers of a Ray cluster: what of them runs without Ray, and with it a cluster of three nodes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from kill_and_resume import make_inputs

from vidmatte.cli.main import main
from vidmatte.errors import UsageError
from vidmatte.farm.parts import finished_segment
from vidmatte.farm.plan import Plan, segments_folder
from vidmatte.farm.planning import make_plan
from vidmatte.farm.pool import Task
from vidmatte.farm.ray_workers import Agent, _noted_address, _Share, _share_of, check_address
from vidmatte.jobs.check import make_job
from vidmatte.jobs.report import Reporter
from vidmatte.models.registry import find_model
from vidmatte.readers.open import open_reader
from vidmatte.settings import make_settings


def has_ray() -> bool:
    return importlib.util.find_spec("ray") is not None


@pytest.mark.parametrize("text", ["ray:", "ray://", "ray://host", "ray://host:x", "ray://h:1/p"])
def test_an_address_is_checked(text: str) -> None:
    with pytest.raises(UsageError, match="write ray://HOST:PORT"):
        check_address(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "0"], "--workers 0: a number from 1 to 64, 'ray', or ray://HOST:PORT"),
        (["--workers", "many"], "--workers many: a number from 1 to 64"),
        (["--workers", "ray"], "--workers ray: Ray is not installed: pip install 'vidmatte[ray]'"),
        (["--workers", "ray", "--each"], "--each and --workers exclude each other"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str], message: str, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ray" else real(name)
    )
    assert main(["clip.mov", "-o", "out.mov", *words]) == 2
    stderr = capsys.readouterr().err
    assert message in stderr
    assert stderr.count("\n") == 1


def test_how_a_cluster_is_shared() -> None:
    nodes = [{"CPU": 4.0}, {"CPU": 8.0, "memory": 1.0}, {"memory": 1.0}]
    assert _share_of(nodes, is_gpu=False, threads=0) == _Share(cpus=4, gpus=0, count=3)
    assert _share_of(nodes, is_gpu=False, threads=8) == _Share(cpus=8, gpus=0, count=1)
    cards = [{"CPU": 16.0, "GPU": 4.0}, {"CPU": 6.0, "GPU": 1.0}, {"CPU": 64.0}]
    assert _share_of(cards, is_gpu=True, threads=0) == _Share(cpus=4, gpus=1, count=5)
    assert _share_of(cards, is_gpu=True, threads=8) == _Share(cpus=8, gpus=1, count=2)
    with pytest.raises(UsageError, match="has a GPU"):
        _share_of(nodes, is_gpu=True, threads=0)
    with pytest.raises(UsageError, match=r"the 9 CPUs of a worker \(the largest has 8\)"):
        _share_of(nodes, is_gpu=False, threads=9)


def test_where_the_address_of_a_cluster_is_noted(tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("RAY_ADDRESS", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("10.0.0.5:6379\n")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert _noted_address() == "10.0.0.5:6379"
    # A job of the service has a temporary folder of its own.
    monkeypatch.setenv("TMPDIR", str(tmp_path / "job"))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert _noted_address() == "10.0.0.5:6379"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.6:6379")
    assert _noted_address() == "10.0.0.6:6379"


def test_an_agent_makes_segments(tmp_path: Path) -> None:
    make_inputs(tmp_path)
    settings = make_settings(
        model=str(tmp_path / "isnet.onnx"), family="isnet", threads=1, out_point="f8"
    )
    job = make_job(tmp_path / "clip.mov", tmp_path / "frames", settings)
    model = find_model(settings, lambda _: None)
    with open_reader(job.source, settings) as source:
        clip = source.clip
    path = tmp_path / "plan.json"
    make_plan(job, clip, model, Reporter(), segment_frames=4).write(path)
    agent = Agent(threads=1)
    try:
        assert agent.start() > 0
        for number in (0, 7):
            agent.ask(Task(None, path, number, 4).request)
        events = answers_of(agent, 2)
        assert events[0]["frames"] == 4
        assert (events[1]["error"], events[1]["is_final"]) == ("UsageError", True)
    finally:
        agent.stop()
    assert agent.ending() in (0, 130)
    assert None in agent.answers()
    plan = Plan.read(path, "plan")
    assert finished_segment(plan, segments_folder(path), 0) is not None


def answers_of(agent: Agent, count: int) -> list[dict[str, Any]]:
    """The first ``done`` and ``failed`` events, within a minute."""
    found: list[dict[str, Any]] = []
    until = time.monotonic() + 60
    while len(found) < count and time.monotonic() < until:
        found += [one for one in agent.answers() if one and one["event"] in ("done", "failed")]
    return found


def has_s3() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("moto", "s3fs"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not has_ray(), reason="ray is not installed (the extra [ray])")
@pytest.mark.parametrize(
    "part",
    [
        "formats",
        "faults",
        "service",
        pytest.param(
            "s3", marks=pytest.mark.skipif(not has_s3(), reason="moto[server] and s3fs are missing")
        ),
    ],
)
def test_a_cluster_gives_the_file_of_one_run(part: str) -> None:
    script = Path(__file__).with_name("ray_cluster.py")
    command = [sys.executable, str(script), "--parts", part]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " cases, 0 wrong" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not has_ray(), reason="ray is not installed (the extra [ray])")
def test_no_cluster_is_one_line(
    tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    make_inputs(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    words = ["--model", str(tmp_path / "isnet.onnx"), "--family", "isnet", "--workers", "ray"]
    command = [sys.executable, "-m", "vidmatte", str(tmp_path / "clip.mov"), *words]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "out.mov")], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "no connection to a Ray cluster" in done.stderr
    assert "Traceback" not in done.stderr

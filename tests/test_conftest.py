"""The guards of conftest.py catch what they are meant to catch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LEAKS = """
import logging, pathlib, sys, threading, time, pytest

sys.modules.update(torch=None, imageio_ffmpeg=None)  # as if not installed

def test_thread():
    threading.Thread(target=time.sleep, args=(20,), daemon=True, name="lost").start()

def test_directory():
    pathlib.Path("crumb.txt").write_text("x")

def test_log():
    logging.getLogger("any").error("it broke")

@pytest.mark.gpu
def test_on_gpu():
    pass

@pytest.mark.torch
def test_with_torch():
    pass

@pytest.mark.slow
def test_slow():
    pass

def test_ffmpeg(requires_ffmpeg):
    pass

def test_clean():
    pass
"""


def run_pytest(folder: Path, *words: str, **environment: str) -> str:
    """The output of pytest over the leaking tests, under this project's conftest."""
    test = folder / "test_leaks.py"
    test.write_text(LEAKS)
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-ra", "-p", "pytest_timeout", "-p", "conftest",
               "-p", "no:cacheprovider",
               "-c", str(here.parent / "pyproject.toml"), "--rootdir", str(folder), str(test),
               *words]  # fmt: skip
    path = os.pathsep.join([str(here), str(here.parent)])  # this tree's package, wherever it runs
    # No plugin but that of the timeouts: to load the others takes longer than the tests.
    fixed = {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment = os.environ | fixed | environment
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False,
                          timeout=120, cwd=folder).stdout  # fmt: skip


def test_guards_name_the_leftovers(tmp_path: Path) -> None:
    output = run_pytest(tmp_path, "-k", "not gpu and not torch and not ffmpeg")
    assert "left behind: thread lost" in output
    assert "left in the working directory: crumb.txt" in output
    assert "left behind: log: it broke" in output
    assert "4 passed" in output
    assert "3 errors" in output
    assert "ERROR test_leaks.py::test_clean" not in output


def test_lanes_are_skipped_with_a_reason_or_fail(tmp_path: Path) -> None:
    lanes = ("-k", "gpu or torch or ffmpeg or slow")
    names = ("VIDMATTE_REQUIRE_GPU", "VIDMATTE_REQUIRE_TORCH", "VIDMATTE_REQUIRE_FFMPEG")
    skipped = run_pytest(tmp_path, *lanes, PATH=str(tmp_path), **dict.fromkeys(names, "0"))
    assert "3 skipped, 5 deselected" in skipped
    assert "torch is not installed" in skipped
    assert "no ffmpeg and ffprobe to read results back with" in skipped
    everything = ("--slow", *lanes)
    failed = run_pytest(tmp_path, *everything, PATH=str(tmp_path), **dict.fromkeys(names, "1"))
    assert "3 errors" in failed
    assert "1 passed" in failed, "the slow one"
    for name in names:
        assert f"{name}=1 asks for it" in failed

"""The standard streams: closed, broken, full, or with a limited encoding."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from media import make_movie
from tiny_onnx import make_salient

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


def shell(line: str, *words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a line of sh in which ``"$@"`` is vidmatte with ``words``."""
    command = ["sh", "-c", line, "sh", sys.executable, "-m", "vidmatte", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **env}
    )


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line of a run, without its output."""
    folder = tmp_path_factory.mktemp("call")
    clip = make_movie(folder / "clip.mp4", size=(48, 32), frames=3)
    model = make_salient(folder / "tiny.onnx")
    return [str(clip.path), "--model", str(model), "--family", "isnet"]


@POSIX
@pytest.mark.parametrize(
    "line",
    [
        '"$@" 2>&-',
        pytest.param('"$@" 2>/dev/full', marks=FULL),
        'exec 3>&1; { "$@" 2>&1; echo $? >&3; } | :',
    ],
)
def test_an_unwritable_stderr_does_not_fail_a_run(
    line: str, call: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out.mov"
    done = shell(line, *call, "-o", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("0\n" if "echo" in line else "")
    assert out.is_file()


@POSIX
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('"$@" >&-', "it is closed"),
        pytest.param('"$@" >/dev/full', "No space left on device", marks=FULL),
        ('{ "$@"; echo $? >&2; } | head -n 1 >/dev/null', "Broken pipe"),
    ],
)
def test_a_run_continues_if_its_events_cannot_be_written(
    line: str, reason: str, call: list[str], tmp_path: Path
) -> None:
    other = shutil.copy(call[0], tmp_path / "other.mp4")
    done = shell(line, other, *call, "-o", f"{tmp_path}/cuts/", "--format", "mov", "--json")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert (
        lines[0] == f"vidmatte: cannot write events to stdout ({reason}): continuing without them"
    )
    assert lines[1:] == (["0"] if "echo" in line else [])
    assert sorted(path.name for path in (tmp_path / "cuts").glob("*.mov")) == [
        "clip.mov",
        "other.mov",
    ]


@FULL
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["formats"], ["models", "--json"], ["--version"]])
def test_a_full_stdout_is_reported(words: list[str], unbuffered: str) -> None:
    done = shell('"$@" >/dev/full', *words, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (1, "vidmatte: stdout: No space left on device\n")


@POSIX
def test_a_closed_streams_descriptor_is_not_reused_for_a_file() -> None:
    code = (
        "from vidmatte.core.terminal import harden_std_streams as harden;"
        " harden(); print(open('/dev/null').fileno())"
    )
    words = ["sh", "-c", '"$@" <&- 2>&-', "sh", sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert int(done.stdout) > 2
    done = shell('"$@" 2>&-', "formats")
    assert (done.returncode, "prores" in done.stdout) == (0, True)


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_a_name_that_stdout_cannot_show_is_escaped(encoding: str, tmp_path: Path) -> None:
    clip = make_movie(tmp_path / "\u017c\u00f3.mp4", size=(48, 32), frames=1).path
    command = [sys.executable, "-m", "vidmatte", "info", str(clip)]
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert "\\u017c\u00f3.mp4" in done.stdout.decode(encoding)

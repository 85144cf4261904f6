"""Memory depends on the frame size, never on the clip's length; running out of it is reported."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from media import make_movie
from scene import draw_nothing
from tiny_onnx import make_salient

from vidmatte import matte, stream
from vidmatte.alpha.shot_detection import CutDetector
from vidmatte.errors import OutOfMemoryError
from vidmatte.models.runtimes.device import Device

GROWTH = 1.05
PEAK = """
import resource, sys
from vidmatte.cli.main import main
status = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(status)
"""


def peak_kib(*words: str | Path) -> int:
    """Peak resident memory of one run of the command line, in KiB as on Linux."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return int(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_five_times_the_frames_take_the_same_memory(tmp_path: Path) -> None:
    model = make_salient(tmp_path / "tiny.onnx")
    peaks = []
    for frames in (48, 240):
        clip = make_movie(tmp_path / f"{frames}.mp4", size=(240, 136), frames=frames).path
        out = tmp_path / f"{frames}.mov"
        peaks.append(peak_kib(clip, "-o", out, "--model", model, "--family", "isnet", "-q"))
        out.unlink()
    assert peaks[1] < GROWTH * peaks[0], f"{peaks[0]} KiB for 48 frames, {peaks[1]} for 240"


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_four_times_the_photos_take_the_same_memory(tmp_path: Path) -> None:
    """Photos of several sizes in one call; what one took is free for the next."""
    model = make_salient(tmp_path / "tiny.onnx")
    photos = []
    for number in range(16):
        photos.append(tmp_path / f"{number}.png")
        height, width = [(900, 1200), (1000, 800), (700, 1100)][number % 3]
        assert cv2.imwrite(str(photos[-1]), np.full((height, width, 3), number, np.uint8))
    options = ["-o", tmp_path / "out", "--model", model, "--family", "isnet", "-q", "--overwrite"]
    few, many = (peak_kib(*photos[:count], *options) for count in (4, 16))
    assert many < 1.2 * few, f"{few} KiB for 4 photos, {many} for 16"


ARENAS = """
import ctypes, sys, threading
import numpy as np
from vidmatte.core.memory import tune_malloc
shared = tune_malloc()
at_once = threading.Barrier(4)
def work():
    at_once.wait()
    bytearray(20000)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
ctypes.CDLL(None).malloc_stats()
sys.exit(0 if shared else 3)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the heaps are glibc's")
@pytest.mark.parametrize(("chosen", "status", "arenas"), [(None, 0, 1), ("4", 3, 2)])
def test_threads_share_one_heap_unless_the_user_chose(
    chosen: str | None, status: int, arenas: int
) -> None:
    environment = {name: text for name, text in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    if chosen is not None:
        environment["MALLOC_ARENA_MAX"] = chosen
    done = subprocess.run(
        [sys.executable, "-c", ARENAS], capture_output=True, text=True, env=environment
    )
    assert done.returncode == status, done.stderr
    found = done.stderr.count("Arena ")
    assert found == 1 if arenas == 1 else found >= arenas


#: In a child process: within ``scarce(mib)`` it can allocate only that much more memory.
SCARCE = """
import contextlib, os, resource, sys
from pathlib import Path

@contextlib.contextmanager
def scarce(mib):
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + (int(mib) << 20), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
"""
NEEDS_LIMITS = pytest.mark.skipif(sys.platform != "linux", reason="the memory limit needs Linux")


def in_scarcity(code: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run ``code`` after ``SCARCE`` in a child process."""
    command = [sys.executable, "-c", SCARCE + code, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


#: Runs the command line on a small picture, which loads everything, then on large inputs, each
#: with so many MiB.
RUNNING = """
from vidmatte.cli.main import main

small, out, model, *some = sys.argv[1:]
words = ["--model", model, "--family", "isnet", "--runtime", "onnxruntime", "-q"]
words += ["--threads", "1"]  # each thread takes memory
assert main([small, "-o", out + ".png", *words]) == 0
for large, mib in zip(some[::2], some[1::2]):
    with scarce(mib):
        status = main([large, "-o", out + large[-4:], *words, "--overwrite"])
    print(status)
"""


@NEEDS_LIMITS
def test_out_of_memory_is_reported_in_one_line(tmp_path: Path) -> None:
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    for path, side in ((small, 64), (large, 4000)):
        cv2.imwrite(str(path), np.full((side, side, 3), 90, np.uint8))
    model = make_salient(tmp_path / "tiny.onnx")
    shape = {"size": (3000, 3000), "frames": 1, "draw": draw_nothing}
    clip = make_movie(tmp_path / "large.mov", **shape).path
    some = [large, 20, large, 60, clip, 400]
    done = in_scarcity(RUNNING, small, tmp_path / "cut", model, *some)
    assert done.stdout.split() == ["1", "1", "1"], done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert all(
        f"{path.name}: not enough memory" in line
        for path, line in zip(some[::2], lines, strict=True)
    )
    assert "frames of 3000x3000 in flight (" in lines[-1]
    assert "lower --memory (now 256M) or --batch (now 1)" in lines[-1]


#: Reads a clip.
READING = """
from vidmatte.settings import Settings
from vidmatte.readers.open import open_reader

source = open_reader(sys.argv[1], Settings())
source._decoder.container.streams.video[0].thread_count = 1  # each thread takes memory
pictures = source.pictures()
try:
    with scarce(sys.argv[2]):
        count = len(list(pictures))
except MemoryError:
    count = "too little"
print(count, source.warnings)
"""


@NEEDS_LIMITS
def test_out_of_memory_while_decoding_is_not_damage(tmp_path: Path) -> None:
    clip = str(tmp_path / "large.mkv")
    grey = av.VideoFrame(3000, 3000, "gray")
    plane = np.frombuffer(grey.planes[0], np.uint8)
    with av.open(clip, "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 3000, 3000, "gray"
        for level in range(20):
            plane[:] = 10 * level
            grey.pts = level
            container.mux(stream.encode(grey))
        container.mux(stream.encode(None))
    for mib, expected in (("10", "too little []"), ("2000", "20 []")):
        done = in_scarcity(READING, clip, mib)
        assert done.stdout.strip() == expected, done.stderr


def test_out_of_pinned_memory_is_reported_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_movie(tmp_path / "clip.mp4", frames=3).path

    def refused(*_: object) -> None:
        raise RuntimeError("CUDA error: out of memory")  # torch's message

    monkeypatch.setattr(Device, "host_array", refused)
    model = str(make_salient(tmp_path / "tiny.onnx"))
    with (
        stream(clip, model=model, family="isnet", batch=2) as frames,
        pytest.raises(OutOfMemoryError, match=r"--memory \(now 256M\) or --batch \(now \d\)"),
    ):
        next(frames)


_IN_C = SystemError("<built-in function resize> returned a result with an exception set")
_IN_C.__cause__ = MemoryError()


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("bad allocation"), RuntimeError("can't start new thread"), _IN_C],
)
def test_out_of_memory_in_a_run_raises_one_class(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_movie(tmp_path / "clip.mp4", frames=3).path

    def refused(*_: object) -> None:
        raise error

    monkeypatch.setattr(CutDetector, "is_new_shot", refused)  # any stage of a run
    tiny: dict[str, Any] = {"model": make_salient(tmp_path / "tiny.onnx"), "family": "isnet"}
    message = r"clip\.mp4: not enough memory \(.*\): close other programs"
    with pytest.raises(OutOfMemoryError, match=message):
        matte(clip, tmp_path / "cut.mov", **tiny)
    assert not (tmp_path / "cut.mov").exists()
    with stream(clip, **tiny) as frames, pytest.raises(OutOfMemoryError, match=message):
        next(frames)

"""Memory depends on the frame's size, never on the clip's length."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from media import make_movie
from tiny_onnx import make_salient

GROWTH = 1.05
PEAK = """
import resource, sys
from vidmatte.cli.main import main
status = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(status)
"""


def peak_kib(*words: str | Path) -> int:
    """Peak resident memory of one run of the command line, as Linux counts it."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return int(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux counts it")
def test_five_times_the_frames_take_the_same_memory(tmp_path: Path) -> None:
    model = make_salient(tmp_path / "tiny.onnx")
    peaks = []
    for frames in (60, 300):
        clip = make_movie(tmp_path / f"{frames}.mp4", size=(240, 136), frames=frames).path
        out = tmp_path / f"{frames}.mov"
        peaks.append(peak_kib(clip, "-o", out, "--model", model, "--family", "isnet", "-q"))
        out.unlink()
    assert peaks[1] < GROWTH * peaks[0], f"{peaks[0]} KiB for 60 frames, {peaks[1]} for 300"


ARENAS = """
import ctypes, sys, threading
import numpy as np
from vidmatte.heap import share_heap
shared = share_heap()
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

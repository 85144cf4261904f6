"""Times that have to be short, in seconds: starting, stopping, the widest adjustments.

    python tests/bench/short_times.py

The tests check what these times depend on (imports, that a stopped run ends, the number of
passes of an adjustment) instead of the wall time, which depends on the machine's other load.
Each is checked once before it is timed; the minimum and the median of ``--rounds`` are
printed.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from media import make_movie
from tiny_onnx import make_salient

from vidmatte.alpha import adjustments
from vidmatte.alpha.adjustments import Adjustments

VIDMATTE = [sys.executable, "-m", "vidmatte"]


def start_up(*words: str) -> float:
    """A process from its start to its end."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    elapsed = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr}")
    return elapsed


def ctrl_c(clip: Path, network: Path, out: Path) -> float:
    """From Ctrl+C, sent once the run has started to write, to its end."""
    words = [str(clip), "-o", str(out / "cut.mov"), "--model", str(network), "--family", "isnet"]
    run = subprocess.Popen([*VIDMATTE, *words, "-q"], stderr=subprocess.PIPE, text=True)
    while run.poll() is None and not [*out.iterdir()]:
        time.sleep(0.02)
    time.sleep(0.5)
    start = time.perf_counter()
    run.send_signal(signal.SIGINT)
    stderr = run.communicate()[1]
    elapsed = time.perf_counter() - start
    if run.returncode != 130 or [*out.iterdir()]:
        raise SystemExit(f"Ctrl+C: status {run.returncode}, {stderr}")
    return elapsed


def widest_adjustments(alpha: np.ndarray) -> float:
    """The largest dilation, erosion and feather of a matte."""
    start = time.perf_counter()
    found = adjustments.apply(alpha, Adjustments(dilate=500, erode=500, feather=500))
    elapsed = time.perf_counter() - start
    if found.shape != alpha.shape or not 0 < found.mean() < 1:
        raise SystemExit("the widest adjustments: the matte is empty or full")
    return elapsed


def show(name: str, measure: Callable[[], float], rounds: int) -> None:
    measure()
    seconds = [measure() for _ in range(rounds)]
    print(f"{name:32}{min(seconds):8.3f}{statistics.median(seconds):8.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    alpha = np.zeros((1080, 1920), np.float32)
    alpha[200:600, 300:900] = 1
    print(f"{'seconds':32}{'minimum':>8}{'median':>8}")
    show("python", lambda: start_up("-c", "pass"), rounds)
    show("vidmatte --help", lambda: start_up("-m", "vidmatte", "--help"), rounds)
    show("widest adjustments, 1920x1080", lambda: widest_adjustments(alpha), rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = make_movie(folder / "clip.mp4", size=(96, 64), frames=400).path
        network = make_salient(folder / "slow.onnx", 2048)
        (out := folder / "out").mkdir()
        show("Ctrl+C to the end of a run", lambda: ctrl_c(clip, network, out), rounds)


if __name__ == "__main__":
    main()

"""What has to be quick, in seconds: to start, to stop, and the widest controls.

    python tests/bench/short_times.py

The tests ask what these times depend on (what is imported, that a stopped run ends, how many
passes a control takes) and leave the clock alone, which says more of what else a machine
does. Each is checked once before it is timed; the least and the median of ``--rounds``
are printed.
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

from vidmatte.alpha import adjustments as controls
from vidmatte.alpha.adjustments import Adjustments

VIDMATTE = [sys.executable, "-m", "vidmatte"]


def start_up(*words: str) -> float:
    """A process from its start to its end."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    elapsed = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr}")
    return elapsed


def ctrl_c(clip: Path, network: Path, out: Path) -> float:
    """A run from Ctrl+C, when it has begun to write, to its end."""
    words = [str(clip), "-o", str(out / "cut.mov"), "--model", str(network), "--family", "isnet"]
    run = subprocess.Popen([*VIDMATTE, *words, "-q"], stderr=subprocess.PIPE, text=True)
    while run.poll() is None and not [*out.iterdir()]:
        time.sleep(0.02)
    time.sleep(0.5)
    began = time.perf_counter()
    run.send_signal(signal.SIGINT)
    told = run.communicate()[1]
    elapsed = time.perf_counter() - began
    if run.returncode != 130 or [*out.iterdir()]:
        raise SystemExit(f"Ctrl+C: status {run.returncode}, {told}")
    return elapsed


def widest_controls(alpha: np.ndarray) -> float:
    """The largest dilation, erosion and feather of a matte."""
    began = time.perf_counter()
    found = controls.apply(alpha, Adjustments(dilate=500, erode=500, feather=500))
    elapsed = time.perf_counter() - began
    if found.shape != alpha.shape or not 0 < found.mean() < 1:
        raise SystemExit("the widest controls: the matte is gone")
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
    print(f"{'seconds':32}{'least':>8}{'median':>8}")
    show("python", lambda: start_up("-c", "pass"), rounds)
    show("vidmatte --help", lambda: start_up("-m", "vidmatte", "--help"), rounds)
    show("widest controls, 1920x1080", lambda: widest_controls(alpha), rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = make_movie(folder / "clip.mp4", size=(96, 64), frames=400).path
        network = make_salient(folder / "slow.onnx", 2048)
        (out := folder / "out").mkdir()
        show("Ctrl+C to the end of a run", lambda: ctrl_c(clip, network, out), rounds)


if __name__ == "__main__":
    main()

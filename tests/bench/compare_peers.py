"""vidmatte against its peers: same machine, same run, same frames, same weights.

    python -m venv peer && peer/bin/pip install 'rembg[cpu,cli]'
    python tests/bench/compare_peers.py --rembg peer/bin/rembg

1080p PNG to PNG against rembg's folder command (isnet, u2netp), and a 1080p clip to
ProRes 4444 against a straightforward loop (rvm). Each command runs once and its result
is checked before anything is timed; then all take turns, ``--rounds`` times. Times are
of complete processes; the time of a run over few frames is subtracted, so that start-up
and loading do not count. Medians are printed. On a busy machine the CPU seconds say more
than the wall time.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from vidmatte.models.runtimes import openvino
from vidmatte.models.weights.catalogue import lookup
from vidmatte.models.weights.store import Store
from vidmatte.tools.bench_clip import make_clip

HERE = Path(__file__).parent
FEW = 2
REMBG_NAMES = {"isnet": "isnet-general-use", "u2netp": "u2netp"}
FILTERS_OFF = ("--smooth", "off", "--refine", "off", "--foreground", "source")
# Mean difference of alpha, 8-bit codes. rembg stretches each alpha by its extremes; the
# filters change the edge and remove flicker.
NEAR, FILTERED = 3.0, 6.0


@dataclass
class Contender:
    """A way to do the job. ``command(frames, out)`` reads that many frames."""

    name: str
    command: Callable[[int, Path], list[str]]
    tolerance: float = NEAR
    environment: dict[str, str] | None = None

    def seconds(self, frames: int, out: Path) -> np.ndarray:
        """Run once: wall seconds and CPU seconds of all cores. The next run deletes the result."""
        remove(out)
        command = self.command(frames, out)
        start = np.array([time.perf_counter(), children_core_seconds()])
        done = subprocess.run(
            command, env=os.environ | (self.environment or {}), capture_output=True, text=True
        )
        elapsed = np.array([time.perf_counter(), children_core_seconds()]) - start
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
        return elapsed


def children_core_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def vidmatte(inputs: Callable[[int], list[str]], *options: str) -> Callable[[int, Path], list[str]]:
    def command(frames: int, out: Path) -> list[str]:
        words = [*inputs(frames), "-o", str(out), "--overwrite", "-q", *options]
        return [sys.executable, "-m", "vidmatte", *words]

    return command


def alphas(result: Path) -> list[np.ndarray]:
    """The alpha of each frame of a folder or a movie, as float 0..255."""
    files = sorted(result.iterdir()) if result.is_dir() else [result]
    found = []
    for file in [file for file in files if file.suffix in (".png", ".mov")]:
        with av.open(str(file)) as container:
            for frame in container.decode(video=0):
                codes = frame.to_ndarray(format="rgba64le")[..., 3]
                found.append(codes.astype(np.float32) / 257)
    return found


def check(contenders: list[Contender], frames: int, folder: Path, suffix: str) -> None:
    """Check that every result has all frames and nearly the first contender's alpha."""
    reference: list[np.ndarray] = []
    for contender in contenders:
        out = folder / f"checked{suffix}"
        contender.seconds(frames, out)
        found = alphas(out)
        if len(found) != frames:
            raise SystemExit(f"{contender.name}: {len(found)} frames instead of {frames}")
        reference = reference or found
        off = float(np.mean([np.abs(a - b).mean() for a, b in zip(found, reference, strict=True)]))
        covered = float(np.mean([a.mean() for a in found])) / 255
        print(f"  {contender.name:44} alpha differs by {off:.2f}, coverage {covered:.3f}")
        if off > contender.tolerance or not 0.02 < covered < 0.9:
            raise SystemExit(f"{contender.name}: results differ, nothing is timed")
        remove(out)


def compare(
    contenders: list[Contender], frames: int, rounds: int, folder: Path, suffix: str
) -> None:
    """Check, then time in turns and print; the first contender is the baseline."""
    check(contenders, FEW, folder, suffix)
    times: dict[str, list[np.ndarray]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            out = folder / f"timed{suffix}"
            few = contender.seconds(FEW, out)
            all_ = contender.seconds(frames, out)
            times[contender.name].append((all_ - few) / (frames - FEW))
    baseline = times[contenders[0].name]
    print(f"  {'medians, a frame':40}{'s':>8}{'ratio':>8}{'core s':>9}{'ratio':>8}")
    for name, seconds in times.items():
        ratios = [one / other for one, other in zip(baseline, seconds, strict=True)]
        (clock, cores), (faster, cheaper) = np.median(seconds, axis=0), np.median(ratios, axis=0)
        print(f"  {name:40}{clock:8.3f}{faster:8.2f}{cores:9.3f}{cheaper:8.2f}", flush=True)


def compare_pictures(
    model: str, rembg: str, frames: int, rounds: int, folder: Path, clip: Path
) -> None:
    """PNG in, PNG out, against rembg's folder command."""
    pictures = {
        count: write_pictures(clip, folder / f"in{count}", count) for count in (FEW, frames)
    }
    home = folder / "home"
    home.mkdir(exist_ok=True)
    link = home / f"{REMBG_NAMES[model]}.onnx"
    if not link.exists():
        link.symlink_to(Store().ensure(lookup(model), quiet=True))
    environment = {"U2NET_HOME": str(home), "MODEL_CHECKSUM_DISABLED": "1"}

    def rembg_command(count: int, out: Path) -> list[str]:
        return [rembg, "p", "-m", REMBG_NAMES[model], str(pictures[count]), str(out)]

    def inputs(count: int) -> list[str]:
        return [str(pictures[count]), "--fps", "25"]

    contenders = [Contender("rembg p", rembg_command, environment=environment)]
    for runtime in ("onnxruntime", *(["openvino"] if openvino.is_installed() else [])):
        chosen = ("--model", model, "--runtime", runtime)
        contenders += [
            Contender(f"vidmatte, {runtime}, filters off", vidmatte(inputs, *chosen, *FILTERS_OFF)),
            Contender(f"vidmatte, {runtime}, defaults", vidmatte(inputs, *chosen), FILTERED),
        ]
    print(f"{model}, {frames} pictures of 1920x1080, PNG to PNG")
    compare(contenders, frames, rounds, folder, "")


def compare_clip(frames: int, rounds: int, folder: Path, clip: Path) -> None:
    """A movie to ProRes 4444, against the straightforward loop."""
    weights = Store().ensure(lookup("rvm"), quiet=True)
    clips = {count: folder / f"clip{count}.mp4" for count in (FEW, frames)}
    for count, path in clips.items():
        if not path.exists():
            make_clip(path, 1920, 1080, count)

    def bare(encoder_threads: int) -> Callable[[int, Path], list[str]]:
        def command(count: int, out: Path) -> list[str]:
            files = [str(weights), str(clips[count]), str(out)]
            return [sys.executable, str(HERE / "bare_loop.py"), *files, str(encoder_threads)]

        return command

    contenders = [
        Contender("bare loop, prores_ks in one thread", bare(1)),
        Contender("bare loop, prores_ks in a thread a core", bare(0)),
        Contender("vidmatte", vidmatte(lambda count: [str(clips[count])], "--model", "rvm")),
    ]
    print(f"rvm, {frames} frames of 1920x1080, H.264 to ProRes 4444")
    compare(contenders, frames, rounds, folder, ".mov")


def write_pictures(clip: Path, folder: Path, count: int) -> Path:
    """The first frames of a clip as PNG pictures."""
    if not folder.exists():
        folder.mkdir()
        with av.open(str(clip)) as container:
            for index, frame in zip(range(count), container.decode(video=0), strict=False):
                cv2.imwrite(str(folder / f"{index:06d}.png"), frame.to_ndarray(format="bgr24"))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare vidmatte with its peers.")
    parser.add_argument("--rembg", help="rembg's command, in its own virtual environment")
    parser.add_argument("--models", nargs="+", default=["isnet", "u2netp", "rvm"])
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vidmatte-peers-") as name:
        folder = Path(name)
        clip = folder / "made.mp4"
        make_clip(clip, 1920, 1080, options.frames)
        for model in options.models:
            if model == "rvm":
                compare_clip(options.frames, options.rounds, folder, clip)
            elif options.rembg:
                compare_pictures(model, options.rembg, options.frames, options.rounds, folder, clip)
            else:
                parser.error(f"{model}: give the path of rembg with --rembg")


if __name__ == "__main__":
    main()

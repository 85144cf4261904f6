"""Many short shots over workers: the overhead of each, and the driver's memory.

    python tests/measure_shots.py [SHOTS] [--workers N]

An edit of SHOTS events (1000) of 12 small frames in ten drawn movies is matted by the chroma keyer,
which costs next to nothing at that size: what is measured is planning, starting, joining, verifying
and writing manifests. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import psutil

LENGTH, MEDIA, SIZE = 12, 10, (96, 64)


def draw_medium(path: Path, frames: int) -> None:
    """A disc before a green screen, 25 frames/s."""
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "12"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for index in range(frames):
            rgb = np.full((SIZE[1], SIZE[0], 3), (32, 160, 64), np.uint8)
            rgb[(rows - 32) ** 2 + (columns - 30 - index % 36) ** 2 < 400] = (200, 120, 90)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))


def write_edit(folder: Path, shots: int) -> Path:
    """An EDL that plays parts of the media; what touches would be matted in one piece."""
    lines = ["TITLE: MANY", "FCM: NON-DROP FRAME"]
    for number in range(shots):
        start = number // MEDIA * 2 * LENGTH
        times = (start, start + LENGTH, number * LENGTH, (number + 1) * LENGTH)
        lines += [f"{number + 1:03d}  M{number % MEDIA} V C {' '.join(map(timecode, times))}",
                  f"* FROM CLIP NAME: m{number % MEDIA}.mov"]  # fmt: skip
    path = folder / "edit.edl"
    path.write_text("\n".join(lines) + "\n")
    return path


def timecode(frame: int) -> str:
    seconds, frames = divmod(frame, 25)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{frames:02d}"


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shots", nargs="?", type=int, default=1000)
    parser.add_argument("--workers", default="2")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(MEDIA):
            draw_medium(folder / f"m{number}.mov", -(-options.shots // MEDIA) * 2 * LENGTH)
        edit = write_edit(folder, options.shots)
        words = [str(edit), "--media-dir", name, "-o", str(folder / "cuts"), "--fps", "25"]
        words += ["--model", "chroma", "--smooth", "off", "--quiet"]
        if options.workers != "1":
            words += ["--workers", options.workers]
        began = time.monotonic()
        process = psutil.Popen([sys.executable, "-m", "vidmatte", *words])
        samples = watch(process, folder / "cuts")
        seconds = time.monotonic() - began
        made = len(list((folder / "cuts").glob("*.mov")))
    print(f"{made} of {options.shots} shots, status {process.returncode}, {seconds:.1f} s")
    print("| shots done | seconds | driver's memory (MB) | its core-seconds |\n|---|---|---|---|")
    for share in (0.01, 0.1, 0.25, 0.5, 0.75, 1.0):
        for done, at, memory, cores in samples:
            if done >= share * options.shots:
                print(f"| {done} | {at:.1f} | {memory / 1e6:.0f} | {cores:.1f} |")
                break
    return 0 if made == options.shots and not process.returncode else 1


def watch(process: psutil.Popen, folder: Path) -> list[tuple[int, float, int, float]]:
    """How many results are there, seconds, memory and core-seconds of a process, until it ends."""
    samples, began = [], time.monotonic()
    while process.poll() is None:
        try:
            used = process.cpu_times()
            done = len(list(folder.glob("*.mov.json"))) if folder.is_dir() else 0
            samples.append((done, time.monotonic() - began, process.memory_info().rss,
                            used.user + used.system))  # fmt: skip
        except psutil.Error:
            break
        time.sleep(0.25)
    return samples


if __name__ == "__main__":
    sys.exit(main())

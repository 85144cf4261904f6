"""What a GPU brings: rates, copies, memory, and whether the results are the CPU's.

    python tests/bench/gpu.py                  # the first GPU, at most five minutes
    python tests/bench/gpu.py --device cpu     # the same code over torch's CPU device, tiny clips

For each model and size, in this order, until ``--seconds`` are over:
- the alphas of a few frames against those of the CPU, which has to be within 1/255 on average;
- the rate of a run to ProRes 4444, and the bound that its busiest stage sets;
- bytes copied to the device and from it, a frame; its memory in use, of which runtimes keep what
  they once had;
- onnxruntime alone, its input in host memory, in the network's own loop;
- ``rembg p`` on the PATH or from ``--rembg``, where it runs the model, from PNG to PNG.
Start-up and loading do not count. What had no time left is named at the end.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vidmatte.core.families import FAMILY_TABLE
from vidmatte.errors import VidmatteError
from vidmatte.jobs.pipeline import build_pipeline
from vidmatte.jobs.report import Reporter
from vidmatte.jobs.run import run
from vidmatte.models.registry import Model, find_model
from vidmatte.models.runtimes.device import Device, onnxruntime
from vidmatte.models.runtimes.torch_device import TorchDevice, choose_device
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.tools.bench_clip import make_clip
from vidmatte.tools.bench_compare import FEW
from vidmatte.tools.bench_contenders import INSTALL, Match, find_rembg

MODELS = ("u2netp", "isnet", "rvm")
SIZES = {"cuda": ("1920x1080", "3840x2160"), "cpu": ("192x108",)}
FRAMES = {"cuda": 96, "cpu": 8}
COMPARED = 4  # frames, of each model at the first size
ALLOWED = 1.0  # mean difference of alpha from the CPU's, of 255


@dataclass
class Row:
    """What is known of a model at a size; None was not measured."""

    model: str
    size: str
    fps: float | None = None
    bound: float | None = None
    busiest: str = ""
    up: float | None = None
    down: float | None = None
    memory: int | None = None
    bare: float | None = None
    rembg: float | None = None
    apart: tuple[float, float] | None = None
    left_out: str = ""


class Bench:
    """The measurements on one device."""

    def __init__(self, device: TorchDevice, frames: int, rembg: Path | None, folder: Path) -> None:
        self.device, self.frames, self.folder = device, frames, folder
        self.rembg = rembg
        self.clips: dict[str, Path] = {}

    def clip(self, size: str) -> Path:
        """The generated clip of a size, made once."""
        if size not in self.clips:
            width, height = map(int, size.split("x"))
            self.clips[size] = self.folder / f"{size}.mp4"
            make_clip(self.clips[size], width, height, self.frames)
        return self.clips[size]

    def model(self, name: str, device: Device) -> Model:
        """A model on a device, not loaded yet."""
        settings = Settings(model=name, runtime="onnxruntime", overwrite=True, audio=False)
        return replace(find_model(settings, note), device=device, report=note)

    def alphas(self, clip: Path, model: Model, count: int) -> list[np.ndarray]:
        """The finished alphas of the first frames of a clip."""
        settings = model.settings.changed(out_point=f"f{count}")
        found = []
        with open_reader(clip, settings) as source:
            matting = build_pipeline(source, model, settings, None)
            with matting.pipeline:
                for frame in matting.pipeline:
                    assert frame.alpha is not None
                    found.append(frame.alpha.copy())
                    frame.release()
        return found

    def compare(self, row: Row, model: Model) -> None:
        """The alphas against the CPU's; the run also warms the device up."""
        clip = self.clip(row.size)
        found = self.alphas(clip, model, COMPARED)
        on_cpu = self.model(row.model, Device())
        expected = self.alphas(clip, on_cpu, COMPARED)
        apart = [255 * np.abs(one - other) for one, other in zip(found, expected, strict=True)]
        row.apart = max(one.mean() for one in apart), max(one.max() for one in apart)

    def measure(self, row: Row, model: Model) -> None:
        """The rate, the busiest stage, copies and memory of a run to ProRes."""
        clip, before = self.clip(row.size), replace(self.device.copies)
        with open_reader(clip, model.settings) as source:
            done = run(source, self.folder / "out.mov", model, model.settings, Reporter())
        count, copies = done.written.frames, self.device.copies
        row.fps = done.fps
        row.busiest = max(done.busy_seconds, key=lambda stage: done.busy_seconds[stage])
        row.bound = count / done.busy_seconds[row.busiest]
        row.up = (copies.up - before.up) / count / 1e6
        row.down = (copies.down - before.down) / count / 1e6
        row.memory = self.memory()

    def memory(self) -> int | None:
        """Bytes in use on the device, of all programs; None on the CPU."""
        if not self.device.is_cuda:
            return None
        import torch

        free, total = torch.cuda.mem_get_info(self.device.place)
        return int(total - free)

    def bare(self, row: Row, model: Model) -> None:
        """onnxruntime alone on noise: its rate from host memory to host memory."""
        part = model.weights[0]
        ort = onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(str(part.path), options, providers=self.device.providers())
        width, height = map(int, row.size.split("x"))
        fed = inputs_of(session, part.family, width, height)
        for _ in range(2):
            session.run(None, fed)
        begin, count = time.perf_counter(), 0
        while count < self.frames and time.perf_counter() - begin < 10:
            session.run(None, fed)
            count += 1
        row.bare = count / (time.perf_counter() - begin)

    def peer(self, row: Row, model: Model) -> None:
        """rembg's folder command over the same frames and weights."""
        if FAMILY_TABLE[model.weights[0].family].recurrence is not None:
            row.left_out = f"rembg does not run {row.model}"
            return
        if shutil.which(self.rembg or "rembg") is None:
            row.left_out = f"rembg is left out: it is not on the PATH: {INSTALL}"
            return
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        settings = model.settings.changed(format="png")
        match = Match.of(self.clip(row.size), folder, settings, model, max(self.frames, 8))
        program, reason = find_rembg(match, self.rembg)
        if program is None:
            row.left_out = reason
            return
        contender, seconds = match.contenders(program)[0], {}
        for count in (FEW, match.frames):
            begin = time.perf_counter()
            contender.run(count, folder / "out")
            seconds[count] = time.perf_counter() - begin
        row.rembg = (match.frames - FEW) / (seconds[match.frames] - seconds[FEW])


def inputs_of(session: Any, family: str, width: int, height: int) -> dict[str, np.ndarray]:
    """Noise for a network, and what else it takes."""
    rng = np.random.default_rng(0)
    row = FAMILY_TABLE[family]
    if row.recurrence is None:
        assert row.size is not None
        across, down = row.size.of(width, height)
        picture = rng.random((1, 3, down, across), np.float32)
        return {session.get_inputs()[0].name: picture}
    names = row.recurrence
    fed = {names.picture: rng.random((1, 3, height, width), np.float32)}
    for state in names.states:
        fed[state.input] = np.zeros(state.first_shape(width, height), np.float32)
    if names.coarse is not None:
        fed[names.coarse.input] = np.float32([names.coarse.ratio(width, height)])
    return fed


def note(line: str) -> None:
    print(f"note: {line}", file=sys.stderr)


def rows_of(bench: Bench, models: list[str], sizes: list[str], until: float) -> Iterator[Row]:
    """Each model at each size, as far as there is time."""
    for size in sizes:
        for name in models:
            row = Row(name, size)
            model = bench.model(name, bench.device)
            steps: list[Callable[[Row, Model], None]] = [bench.measure, bench.bare, bench.peer]
            if size == sizes[0]:
                steps.insert(0, bench.compare)
            for number, step in enumerate(steps):
                if time.monotonic() > until:
                    late = ", ".join(each.__name__ for each in steps[number:])
                    row.left_out = f"no time left for: {late}"
                    break
                try:
                    step(row, model)
                except VidmatteError as error:
                    row.left_out = f"{step.__name__}: {error}"
            model.unload()
            yield row


def text(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def table(rows: list[Row]) -> str:
    """The rows as a table in Markdown."""
    lines = [
        "| model | size | fps | bound | busiest stage | bare onnxruntime | rembg p | MB up, down"
        " a frame | device MB | mean, worst of 255 from the CPU |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        apart = "-" if row.apart is None else ", ".join(f"{value:.3f}" for value in row.apart)
        memory = None if row.memory is None else row.memory / 1e6
        lines.append(
            f"| {row.model} | {row.size} | {text(row.fps)} | {text(row.bound)} | {row.busiest}"
            f" | {text(row.bare)} | {text(row.rembg)} | {text(row.up)}, {text(row.down)}"
            f" | {text(memory, 0)} | {apart} |"
        )
    lines += [f"{row.model}, {row.size}: {row.left_out}" for row in rows if row.left_out]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda:0", help="cuda:N, or cpu: torch's CPU device")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--sizes", nargs="+", help="as 1920x1080")
    parser.add_argument("--frames", type=int, help="of each clip")
    parser.add_argument("--seconds", type=float, default=240, help="after which nothing is begun")
    parser.add_argument("--rembg", type=Path, help="its program, where it is not on the PATH")
    asked = parser.parse_args()
    until = time.monotonic() + asked.seconds
    kind = "cpu" if asked.device == "cpu" else "cuda"
    try:
        device = TorchDevice("cpu") if kind == "cpu" else choose_device(asked.device)[0]
        if not isinstance(device, TorchDevice):
            raise SystemExit(f"--device {asked.device}: name one GPU, as cuda:0, or cpu")
        with tempfile.TemporaryDirectory(prefix="vidmatte-gpu-") as folder:
            bench = Bench(device, asked.frames or FRAMES[kind], asked.rembg, Path(folder))
            rows = list(rows_of(bench, asked.models, asked.sizes or list(SIZES[kind]), until))
    except VidmatteError as error:
        raise SystemExit(str(error)) from None
    print(f"{device.name}, onnxruntime {onnxruntime().__version__}, {bench.frames} frames")
    print(table(rows))
    worst = max((row.apart[0] for row in rows if row.apart is not None), default=0.0)
    if not worst <= ALLOWED:
        raise SystemExit(f"the alpha is {worst:.2f} of 255 from the CPU's on average")


if __name__ == "__main__":
    main()

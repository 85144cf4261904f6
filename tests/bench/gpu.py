"""What a GPU brings: rates, kernels, copies, memory, and whether the results are the CPU's.

    python tests/bench/gpu.py                       # the first GPU, at most five minutes
    python tests/bench/gpu.py --device cpu          # over torch's CPU device, tiny clips
    python tests/bench/gpu.py --weights FOLDER      # weights that are there, e.g. u2netp.onnx

Nothing is fetched: a model whose weights are missing is left out, by name. Where onnxruntime is
built without CUDA, the networks run on the CPU and all else on the GPU, and the first line says so.
Parts, in this order, until ``--seconds`` are over; each prints its lines at once, and one that
fails prints its error and leaves the others alone:
- steps: filter, controls and cut-outs on frames with known mattes, against the CPU's results;
- stages, kernels: a frame's time, copies and kernels in these steps, by size;
- for each size and model: the alphas of a few frames against the CPU's (within 1/255 on average);
  a run to ProRes 4444: its rate, the bound that its busiest stage sets, bytes copied, memory;
  onnxruntime alone, from host memory to host memory; ``rembg p`` on the PATH or from ``--rembg``.
Start-up and loading do not count.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gpu_steps import compare_steps, count_kernels, measure_stages

from vidmatte.core.families import FAMILY_TABLE
from vidmatte.errors import DeviceError
from vidmatte.jobs.pipeline import build_pipeline
from vidmatte.jobs.report import Reporter
from vidmatte.jobs.run import run
from vidmatte.models.registry import Model, choose_model
from vidmatte.models.runtimes.device import Arrays, CpuRunner, Device, Runner, onnxruntime
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
BARE_SECONDS = 8

Part = Callable[[], dict[str, Any]]


class WithoutCuda(TorchDevice):
    """A device whose networks run on the CPU."""

    computes_half = False

    def providers(self) -> list[Any]:
        return ["CPUExecutionProvider"]

    def runner(self, session: Any) -> Runner:
        return HostRunner(session, self)


class HostRunner(CpuRunner):
    """A session on the CPU that takes and gives tensors on a device."""

    def __init__(self, session: Any, device: TorchDevice) -> None:
        super().__init__(session)
        self._device = device

    def run(self, inputs: Arrays, keep: tuple[str, ...] = ()) -> dict[str, Any]:
        given = {
            name: one if isinstance(one, np.ndarray) else self._device.download(one)
            for name, one in inputs.items()
        }
        found = super().run(given)
        return {
            name: self._device.upload(one) if name in keep else one for name, one in found.items()
        }


class Report:
    """Prints what each part finds, and writes all of it to a file after each."""

    def __init__(self, until: float, file: Path | None) -> None:
        self.found: list[dict[str, Any]] = []
        self._until, self._file = until, file

    def part(self, name: str, measure: Part) -> dict[str, Any]:
        """Run a part if there is time; its facts, or the error that ended it."""
        began = time.monotonic()
        if began > self._until:
            facts: dict[str, Any] = {"left out": "no time left"}
        else:
            try:
                facts = measure()
            except Exception as error:  # noqa: BLE001 (the other parts go on)
                where = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{Path(where.filename).name}:{where.lineno}"
                facts = {"failed": f"{type(error).__name__}: {error} ({place})"}
        facts["seconds"] = round(time.monotonic() - began, 1)
        self.found.append({"part": name, **facts})
        text = ", ".join(f"{key} {value}" for key, value in facts.items())
        print(f"{name}: {text}", flush=True)
        if self._file is not None:
            self._file.write_text(json.dumps(self.found, indent=1))
        return facts


class Bench:
    """The measurements on one device."""

    def __init__(
        self,
        device: TorchDevice,
        frames: int,
        rembg: Path | None,
        weights: Path | None,
        folder: Path,
    ) -> None:
        self.device, self.frames, self.folder = device, frames, folder
        self.rembg, self.weights = rembg, weights
        self.clips: dict[str, Path] = {}

    def clip(self, size: str) -> Path:
        """The generated clip of a size, made once."""
        if size not in self.clips:
            width, height = map(int, size.split("x"))
            path = self.folder / f"{size}.mp4"
            make_clip(path, width, height, self.frames if width < 3000 else self.frames // 2)
            self.clips[size] = path
        return self.clips[size]

    def model(self, name: str, device: Device) -> Model:
        """A model on a device, not loaded yet. Raises DeviceError where its weights are missing."""
        settings = Settings(
            model=name,
            device="cpu",
            runtime="onnxruntime",
            overwrite=True,
            audio=False,
            manifest="none",
            models_dir=None if self.weights is None else str(self.weights),
        )
        choice = choose_model(settings)
        if choice.missing_bytes:
            where = self.weights or "the store"
            raise DeviceError(f"its weights are not in {where}: name their folder with --weights")
        return replace(choice.fetch(note), device=device, report=note)

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

    def compare(self, name: str, size: str, model: Model) -> dict[str, Any]:
        """The alphas against the CPU's; the run also warms the device up."""
        found = self.alphas(self.clip(size), model, COMPARED)
        on_cpu = self.model(name, Device())
        expected = self.alphas(self.clip(size), on_cpu, COMPARED)
        on_cpu.unload()
        apart = [255 * np.abs(one - other) for one, other in zip(found, expected, strict=True)]
        mean = max(float(one.mean()) for one in apart)
        worst = max(float(one.max()) for one in apart)
        return {"mean of 255": round(mean, 4), "worst": round(worst, 2), "same": mean <= ALLOWED}

    def measure(self, size: str, model: Model) -> dict[str, Any]:
        """The rate, the busiest stage, copies and memory of a run to ProRes."""
        before = replace(self.device.copies)
        with open_reader(self.clip(size), model.settings) as source:
            done = run(source, self.folder / "out.mov", model, model.settings, Reporter())
        count, copies = done.written.frames, self.device.copies
        busy = {stage: 1000 * seconds / count for stage, seconds in done.busy_seconds.items()}
        return {
            "fps": round(done.fps, 1),
            "bound fps": round(1000 / max(busy.values()), 1),
            "ms a frame by stage": {stage: round(ms, 2) for stage, ms in busy.items()},
            "MB up": round((copies.up - before.up) / count / 1e6, 2),
            "MB down": round((copies.down - before.down) / count / 1e6, 2),
            "uploads": round((copies.uploads - before.uploads) / count, 2),
            "downloads": round((copies.downloads - before.downloads) / count, 2),
            "device MB": self.memory(),
        }

    def memory(self) -> int | None:
        """MB in use on the device, of all programs; None on the CPU."""
        if not self.device.is_cuda:
            return None
        import torch

        free, total = torch.cuda.mem_get_info(self.device.place)
        return int((total - free) / 1e6)

    def bare(self, size: str, model: Model) -> dict[str, Any]:
        """onnxruntime alone on noise: its rate from host memory to host memory."""
        part = model.weights[0]
        assert part.path is not None
        ort = onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(str(part.path), options, providers=self.device.providers())
        width, height = map(int, size.split("x"))
        fed = inputs_of(session, part.family, width, height)
        for _ in range(2):
            session.run(None, fed)
        begin, count = time.perf_counter(), 0
        while count < self.frames and time.perf_counter() - begin < BARE_SECONDS:
            session.run(None, fed)
            count += 1
        rate = count / (time.perf_counter() - begin)
        return {"fps": round(rate, 1), "on": session.get_providers()[0]}

    def peer(self, size: str, model: Model) -> dict[str, Any]:
        """rembg's folder command over the same frames and weights."""
        if FAMILY_TABLE[model.weights[0].family].recurrence is not None:
            return {"left out": "rembg does not run it"}
        if shutil.which(self.rembg or "rembg") is None:
            return {"left out": f"it is not on the PATH: {INSTALL}"}
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        settings = model.settings.changed(format="png")
        match = Match.of(self.clip(size), folder, settings, model, max(self.frames // 2, 8))
        program, reason = find_rembg(match, self.rembg)
        if program is None:
            return {"left out": reason}
        contender, seconds = match.contenders(program)[0], {}
        for count in (FEW, match.frames):
            begin = time.perf_counter()
            contender.run(count, folder / "out")
            seconds[count] = time.perf_counter() - begin
        rate = (match.frames - FEW) / (seconds[match.frames] - seconds[FEW])
        return {"fps": round(rate, 1)}


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
    print(f"note: {line}", file=sys.stderr, flush=True)


def device_named(name: str) -> tuple[TorchDevice, str]:
    """The device, and what there is to know of it. Raises SystemExit."""
    import torch

    device: Device
    versions = f"torch {torch.__version__}, onnxruntime {onnxruntime().__version__}"
    if name == "cpu":
        device = TorchDevice("cpu")
        device.computes_half = False  # a CPU takes ten times as long for it
        return device, versions
    try:
        device = choose_device(name)[0]
    except DeviceError as error:
        if not torch.cuda.is_available():
            raise SystemExit(str(error)) from None
        device, versions = WithoutCuda(name), f"{versions}; networks on the CPU: {error}"
    if not isinstance(device, TorchDevice):
        raise SystemExit(f"--device {name}: name one GPU, as cuda:0, or cpu")
    return device, f"{torch.cuda.get_device_name(device.place)}, {versions}"


def measure_all(bench: Bench, report: Report, models: list[str], sizes: list[str]) -> bool:
    """All parts; whether all results that were compared are the CPU's."""
    device = bench.device
    same = [report.part("steps", partial(compare_steps, device)).get("same", True)]
    for size in sizes:
        report.part(f"stages {size}", partial(measure_stages, device, size))
        report.part(f"kernels {size}", partial(count_kernels, device, size))
    for size in sizes:
        for name in models:
            label = f"{name} {size}"
            try:
                model = bench.model(name, device)
            except Exception as error:  # noqa: BLE001 (the other models go on)
                print(f"{label}: left out: {error}", flush=True)
                continue
            if size == sizes[0]:
                facts = report.part(f"{label} alpha", partial(bench.compare, name, size, model))
                same.append(facts.get("same", True))
            report.part(f"{label} run", partial(bench.measure, size, model))
            report.part(f"{label} onnxruntime alone", partial(bench.bare, size, model))
            report.part(f"{label} rembg p", partial(bench.peer, size, model))
            model.unload()
    return all(same)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda:0", help="cuda:N, or cpu: torch's CPU device")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--sizes", nargs="+", help="as 1920x1080")
    parser.add_argument("--frames", type=int, help="of each clip; half of them from 3000 wide")
    parser.add_argument("--seconds", type=float, default=240, help="after which nothing is begun")
    parser.add_argument("--weights", type=Path, help="folder of the weights; else the store")
    parser.add_argument("--rembg", type=Path, help="its program, where it is not on the PATH")
    parser.add_argument("--json", type=Path, help="file for all that is found")
    asked = parser.parse_args()
    kind = "cpu" if asked.device == "cpu" else "cuda"
    device, versions = device_named(asked.device)
    print(f"{device.name}: {versions}", flush=True)
    report = Report(time.monotonic() + asked.seconds, asked.json)
    with tempfile.TemporaryDirectory(prefix="vidmatte-gpu-") as folder:
        frames = asked.frames or FRAMES[kind]
        bench = Bench(device, frames, asked.rembg, asked.weights, Path(folder))
        if not measure_all(bench, report, asked.models, asked.sizes or list(SIZES[kind])):
            raise SystemExit("not all results are the CPU's")


if __name__ == "__main__":
    main()

"""A batch that does not fit in memory is halved: tested with onnxruntime's bounded arena."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from test_network import RUNTIMES, noise_frames
from tiny_onnx import make_recurrent, make_salient, save_graph

from vidmatte.core.memory import is_out_of_memory
from vidmatte.errors import DeviceError
from vidmatte.models.load import load_network
from vidmatte.models.runtimes import openvino
from vidmatte.models.runtimes.device import CpuRunner, Device
from vidmatte.models.runtimes.memory_guard import BatchSplittingRunner, MemoryGuard
from vidmatte.settings import Settings

SIZE = 256
LIMIT = 12_000_000  # bytes: two pictures fit, four do not
ARENA = """
import sys
from pathlib import Path
import numpy as np
import onnxruntime as ort
from vidmatte.errors import DeviceError
from vidmatte.models.runtimes.device import CpuRunner
from vidmatte.models.runtimes.memory_guard import BatchSplittingRunner
from vidmatte.models.runtimes.onnx_loader import _batchable

path, size, limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
arena = ort.OrtArenaCfg({"max_mem": limit, "arena_extend_strategy": 1,
                         "initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1})
info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0,
                         ort.OrtMemType.DEFAULT)
ort.create_and_register_allocator(info, arena)
options = ort.SessionOptions()
options.log_severity_level = 4
options.intra_op_num_threads = 1
options.enable_mem_pattern = False
options.add_session_config_entry("session.use_env_allocators", "1")
session = ort.InferenceSession(_batchable(path, 1), options, providers=["CPUExecutionProvider"])
inner = CpuRunner(session)
sizes = []
def counted(inputs, keep=()):
    sizes.append(len(inputs["input"]))
    return run(inputs, keep)
run, inner.run = inner.run, counted
runner = BatchSplittingRunner(inner, "cpu")
pictures = np.random.default_rng(1).random((11, 3, size, size), np.float32)
try:
    outputs = [runner.run({"input": part})["output"] for part in (pictures[:8], pictures[8:])]
except DeviceError as error:
    sys.exit(f"DeviceError: {error}")
np.save(path.with_suffix(".npy"), np.concatenate(outputs))
print(sizes)
"""


def run_in_arena(path: Path, limit: int) -> subprocess.CompletedProcess[str]:
    """Run eight pictures, then three, through a network with ``limit`` bytes of memory."""
    words = [sys.executable, "-c", ARENA, str(path), str(SIZE), str(limit)]
    return subprocess.run(words, capture_output=True, text=True)


def test_a_batch_that_does_not_fit_is_halved_from_then_on(tmp_path: Path) -> None:
    path = make_salient(tmp_path / "tiny.onnx", size=SIZE)
    plenty = run_in_arena(path, 1 << 30)
    assert plenty.stdout.split("\n")[0] == "[8, 3]", plenty.stderr
    expected = np.load(path.with_suffix(".npy"))
    assert expected.shape == (11, 1, SIZE, SIZE)
    tight = run_in_arena(path, LIMIT)
    sizes = [int(size) for size in tight.stdout.strip("[]\n").split(",")]
    held = next(size for size, after in pairwise(sizes) if size == after)
    assert held in (1, 2, 4), tight.stderr
    tried = [size for size in (8, 4, 2) if size > held]
    assert sizes == tried + parts_of(8, held) + parts_of(3, held)
    assert np.array_equal(np.load(path.with_suffix(".npy")), expected)


def parts_of(count: int, most: int) -> list[int]:
    """How a batch is split if ``most`` pictures fit."""
    return [min(most, count - start) for start in range(0, count, most)]


def test_a_single_picture_that_does_not_fit_is_reported(tmp_path: Path) -> None:
    path = make_salient(tmp_path / "tiny.onnx", size=SIZE)
    done = run_in_arena(path, 1 << 20)
    assert done.returncode == 1
    assert done.stderr.startswith("DeviceError: cpu: not enough memory for one picture")


class Failing:
    streams, description = 1, "fails"

    def __init__(self, error: Exception) -> None:
        self._error = error

    def run(self, inputs: dict, keep: tuple[str, ...] = ()) -> dict:
        raise self._error

    def cancel(self) -> None:
        pass


OOM_ERRORS = [
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("Exception from src/inference/src/cpp/infer_request.cpp:223:\nstd::bad_alloc"),
    MemoryError("Unable to allocate 64.0 MiB for an array"),
]
ONE_LINE = r"^cpu: not enough memory for [^\n]*: close other programs, [^\n]*$"


@pytest.mark.parametrize("error", OOM_ERRORS, ids=["CUDA", "OpenVINO", "numpy"])
@pytest.mark.parametrize("kind", [MemoryGuard, BatchSplittingRunner])
def test_every_runner_reports_out_of_memory_in_one_line(
    kind: type[MemoryGuard], error: Exception
) -> None:
    for device, step in (("cpu", "close other programs"), ("cuda:0", "--device cpu")):
        runner = kind(Failing(error), device)
        with pytest.raises(DeviceError, match=rf"^{device}: not enough memory .*{step}"):
            runner.run({"input": np.zeros((4, 3, 8, 8), np.float32)})


@pytest.mark.parametrize(
    ("family", "runtime", "half"),
    [
        ("isnet", "onnxruntime", "any"),
        ("isnet", "openvino", "any"),
        ("rvm", "onnxruntime", "first"),
        ("rvm", "onnxruntime", "second"),
        ("rvm", "openvino", "any"),
    ],
)
def test_every_network_reports_out_of_memory(
    family: str, runtime: str, half: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any runner; a recurrent network's first half is the one with ``keep``."""
    if runtime == "openvino" and not openvino.is_installed():
        pytest.skip("openvino is not installed (pip install vidmatte[openvino])")

    original = CpuRunner.run

    def out_of_memory(self: Any, inputs: dict, keep: tuple[str, ...] = ()) -> dict:
        if half == "second" and keep:
            return original(self, inputs, keep)
        raise OOM_ERRORS[1]

    make = make_salient if family == "isnet" else make_recurrent
    path, settings = make(tmp_path / "tiny.onnx"), Settings(runtime=runtime)
    network = load_network(path, family, settings, Device())
    monkeypatch.setattr(CpuRunner, "run", out_of_memory)
    monkeypatch.setattr(openvino._OpenVinoRunner, "run", out_of_memory)
    with pytest.raises(DeviceError, match=ONE_LINE):
        list(network.predict(iter(noise_frames(2))))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_network_that_does_not_fit_when_it_is_loaded(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: object, **__: object) -> None:
        raise OOM_ERRORS[1]

    if runtime == "openvino":
        module = pytest.importorskip("openvino", reason="openvino is not installed")
        monkeypatch.setattr(module.Core, "compile_model", out_of_memory)
    monkeypatch.setattr("onnxruntime.InferenceSession", out_of_memory)
    path = make_salient(tmp_path / "tiny.onnx")
    with pytest.raises(DeviceError, match=ONE_LINE):
        load_network(path, "isnet", Settings(runtime=runtime), Device())


def fixed_batch(path: Path) -> Path:
    """A network exported for one picture, as many are: its last step has a fixed shape."""
    return save_graph(
        path,
        [
            helper.make_node("Conv", ["input", "weights"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["alpha"]),
            helper.make_node("Reshape", ["alpha", "shape"], ["output"]),
        ],
        inputs={"input": (1, 3, 32, 32)},
        outputs={"output": (1, 1, 32, 32)},
        constants={
            "weights": np.full((1, 3, 1, 1), 2, np.float32),
            "shape": np.array([1, 1, 32, 32], np.int64),
        },
        opset=15,
    )


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_network_for_one_picture_gets_one_at_a_time(runtime: str, tmp_path: Path) -> None:
    path, notes = fixed_batch(tmp_path / "one.onnx"), []
    one, several = (
        load_network(path, "u2net", Settings(runtime=runtime, batch=batch), Device(), notes.append)
        for batch in (1, 3)
    )
    expected = [frame.alpha for frame in one.predict(iter(noise_frames(8)))]
    assert notes == []
    found = [frame.alpha for frame in several.predict(iter(noise_frames(8)))]
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
    (line,) = notes
    assert line.startswith("the network does not take 3 pictures at once")


class Counting:
    """A runner that accepts at most ``most`` pictures and is cancelled in run ``stops``."""

    streams, description = 1, "counts"

    def __init__(self, most: int, stops: int = 99) -> None:
        self.sizes: list[int] = []
        self.guard = BatchSplittingRunner(self, "cpu")
        self._most, self._stops = most, stops

    def run(self, inputs: dict, keep: tuple[str, ...] = ()) -> dict:
        size = len(inputs["input"])
        self.sizes.append(size)
        if len(self.sizes) == self._stops:
            self.guard.cancel()
        if size > self._most:
            raise RuntimeError(f"{size} do not fit")
        return {"output": inputs["input"]}

    def cancel(self) -> None:
        pass


def test_a_failed_batch_is_retried_singly_once_and_not_after_a_cancel() -> None:
    pictures = {"input": np.arange(12, dtype=np.float32).reshape(4, 3, 1, 1)}
    single = Counting(most=1)
    for _ in range(2):
        assert np.array_equal(single.guard.run(pictures)["output"], pictures["input"])
    assert single.sizes == [4, 1, 1, 1, 1, 1, 1, 1, 1]
    none = Counting(most=0)
    with pytest.raises(RuntimeError, match=r"^1 do not fit"):
        none.guard.run(pictures)
    assert none.sizes == [4, 1]
    stopped = Counting(most=1, stops=1)
    with pytest.raises(RuntimeError, match=r"^4 do not fit"):
        stopped.guard.run(pictures)
    assert stopped.sizes == [4]


def test_other_failures_are_raised_unchanged() -> None:
    with pytest.raises(RuntimeError, match="an operator is missing"):
        BatchSplittingRunner(Failing(RuntimeError("an operator is missing")), "cpu").run(
            {"input": np.zeros((4, 3, 8, 8), np.float32)}
        )
    assert not is_out_of_memory(RuntimeError("an operator is missing"))
    assert is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(DeviceError("cuda:0: no driver"))

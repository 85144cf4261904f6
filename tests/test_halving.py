"""A batch that does not fit is halved: with onnxruntime's own error, out of a bounded arena."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tiny_onnx import make_salient

from vidmatte.errors import DeviceError
from vidmatte.network.halving import HalvingRunner, is_out_of_memory

SIZE = 256
LIMIT = 12_000_000  # bytes: two pictures fit, four do not
ARENA = """
import sys
from pathlib import Path
import numpy as np
import onnxruntime as ort
from vidmatte.errors import DeviceError
from vidmatte.network.device import CpuRunner
from vidmatte.network.halving import HalvingRunner
from vidmatte.network.session import batchable

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
session = ort.InferenceSession(batchable(path, 1), options, providers=["CPUExecutionProvider"])
inner = CpuRunner(session)
sizes = []
def counted(inputs, keep=()):
    sizes.append(len(inputs["input"]))
    return run(inputs, keep)
run, inner.run = inner.run, counted
runner = HalvingRunner(inner, "cpu")
pictures = np.random.default_rng(1).random((11, 3, size, size), np.float32)
try:
    outputs = [runner.run({"input": part})["output"] for part in (pictures[:8], pictures[8:])]
except DeviceError as error:
    sys.exit(f"DeviceError: {error}")
np.save(path.with_suffix(".npy"), np.concatenate(outputs))
print(sizes)
"""


def run_in_arena(path: Path, limit: int) -> subprocess.CompletedProcess[str]:
    """Eight pictures and then three through a network that has ``limit`` bytes to work in."""
    words = [sys.executable, "-c", ARENA, str(path), str(SIZE), str(limit)]
    return subprocess.run(words, capture_output=True, text=True)


def test_what_does_not_fit_is_halved_and_stays_so(tmp_path: Path) -> None:
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
    """How a batch is cut up where ``most`` pictures fit."""
    return [min(most, count - start) for start in range(0, count, most)]


def test_where_one_picture_does_not_fit_a_line_says_so(tmp_path: Path) -> None:
    path = make_salient(tmp_path / "tiny.onnx", size=SIZE)
    done = run_in_arena(path, 1 << 20)
    assert done.returncode == 1
    assert done.stderr.startswith("DeviceError: cpu: the memory does not suffice for one picture")


class Failing:
    streams, about = 1, "fails"

    def run(self, inputs: dict, keep: tuple[str, ...] = ()) -> dict:
        raise RuntimeError("an operator is missing")

    def cancel(self) -> None:
        pass


def test_other_failures_are_raised_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="an operator is missing"):
        HalvingRunner(Failing(), "cpu").run({"input": np.zeros((4, 3, 8, 8), np.float32)})
    assert not is_out_of_memory(RuntimeError("an operator is missing"))
    assert is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(DeviceError("cuda:0: no driver"))

"""OpenVINO as the runtime instead of onnxruntime.

On CPUs that compute in bfloat16 it needs a quarter (u2netp) to a sixth (isnet) of onnxruntime's
core-seconds; on others ``choice`` measures which one is faster. It is installed with vidmatte
where it has wheels: on x86-64 Linux and Windows, and on macOS.
"""

from __future__ import annotations

import importlib.util
import os
import queue
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from vidmatte.core.concurrency import cpu_facts, stream_count
from vidmatte.core.memory import device_oom_error, is_out_of_memory
from vidmatte.errors import DeviceError, ModelError
from vidmatte.models.runtimes.bf16_bias import split_offsets
from vidmatte.models.runtimes.compiled import compiled_key, free_pages, keep_compiled, read_compiled
from vidmatte.models.runtimes.device import Arrays, Device
from vidmatte.models.runtimes.onnx_file import Shapes, check_inputs


def _openvino() -> Any:
    """The module; always imported through this function.

    By default its import sends telemetry and writes an identifier of this user into the home
    folder; that is disabled here.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino as module

    return module


def _core() -> Any:
    """OpenVINO's core, one per process. Raises DeviceError in a process forked from one that has
    a core: its threads do not exist there, and every call would hang.
    """
    made, process = _made_core()
    if process != os.getpid():
        raise DeviceError(
            f"process {os.getpid()} was forked after OpenVINO was used, whose threads do"
            " not survive a fork: spawn processes instead of forking them"
            " (multiprocessing.set_start_method('spawn')), or use --runtime onnxruntime"
        )
    return made


@cache
def _made_core() -> tuple[Any, int]:
    """The core, and the number of the process that created it.

    Its CPU plugin gives the thread that creates it a signal stack, and frees that with the
    plugin: of several cores, freed in another order or on another thread, one may leave a
    thread with a freed stack, and the next Ctrl+C is a segmentation fault.
    """
    return _openvino().Core(), os.getpid()


def is_installed() -> bool:
    """Whether the package is installed; does not import it."""
    return importlib.util.find_spec("openvino") is not None


@cache
def _may_have_bfloat16() -> bool:
    """False where Linux lists what the CPU can do, and nothing of it comes with bfloat16. To ask
    OpenVINO takes its import, a fifth of a second that a run on onnxruntime does not need."""
    flags = cpu_facts().get("flags")
    return not flags or any(one in flags for one in ("avx512", "bf16", "avx_ne_convert"))


def has_bfloat16() -> bool:
    """True where the CPU computes in bfloat16 (AVX512_BF16, AMX)."""
    return _may_have_bfloat16() and "BF16" in _core().get_property(
        "CPU", "OPTIMIZATION_CAPABILITIES"
    )


def is_chosen(requested: str, bfloat16: bool, device: Device) -> bool:
    """Whether a network is run by OpenVINO.

    ``auto`` chooses it where it is installed, the CPU computes in bfloat16, and the
    family tolerates that. Raises DeviceError where it is requested by name and cannot run.
    """
    if requested == "openvino":
        if device.name != "cpu":
            raise DeviceError("--runtime openvino runs on the CPU: add --device cpu")
        if not is_installed():
            raise DeviceError("--runtime openvino: it is not installed (pip install openvino)")
        return True
    if requested != "auto" or device.name != "cpu" or not bfloat16:
        return False
    return is_installed() and has_bfloat16()


def is_float32(bfloat16: bool) -> bool:
    """Whether OpenVINO computes in float32, not in bfloat16 where CPU and family allow that."""
    return not (bfloat16 and has_bfloat16())


def _precision_of(bfloat16: bool) -> str:
    """What OpenVINO computes in: 'bfloat16' or 'float32'."""
    return "float32" if is_float32(bfloat16) else "bfloat16"


def runtime_name(requested: str, bfloat16: bool, device: Device) -> str:
    """The runtime that ``is_chosen`` selects, with the precision that its results depend on.

    'onnxruntime', 'OpenVINO, float32' or 'OpenVINO, bfloat16'. Raises as ``is_chosen`` does.
    """
    if is_chosen(requested, bfloat16, device):
        return f"OpenVINO, {_precision_of(bfloat16)}"
    return "onnxruntime"


class _OpenVinoRunner:
    """A compiled model, fed with numpy arrays; ``streams`` runs at once, each a request.

    kept: memory that the model refers to.
    """

    def __init__(self, compiled: Any, streams: int, kept: np.ndarray | None) -> None:
        self.streams = streams
        bits = compiled.get_property("INFERENCE_PRECISION_HINT").get_bitwidth()
        threads = compiled.get_property("INFERENCE_NUM_THREADS")
        precision = "bfloat16" if bits == 16 else "float32"
        self.description = f"OpenVINO, {precision}, {threads} threads, {streams} frames at once"
        self._outputs = [output.get_any_name() for output in compiled.outputs]
        self._requests = [compiled.create_infer_request() for _ in range(streams)]
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for request in self._requests:
            self._idle.put(request)
        self._kept = kept  # freed after the requests
        # Creating the first tensor in two threads at once would deadlock.
        _openvino().Tensor(np.zeros(1, np.float32))

    def run(self, inputs: Arrays, keep: tuple[str, ...] = ()) -> dict[str, Any]:  # noqa: ARG002
        with self._request() as request:
            values = request.infer(dict(inputs), share_inputs=True).to_tuple()
        return dict(zip(self._outputs, values, strict=True))

    def cancel(self) -> None:
        for request in self._requests:
            request.cancel()

    @contextmanager
    def _request(self) -> Iterator[Any]:
        request = self._idle.get()
        try:
            yield request
        finally:
            self._idle.put(request)


def load_openvino(
    path: Path,
    read_model: Callable[[], bytes],
    bfloat16: bool,
    threads: int,
    batch: int = 0,
    outputs: int | None = None,
) -> tuple[_OpenVinoRunner, Shapes, Shapes]:
    """A runner for the network that ``read_model`` gives (ONNX), and the shapes of its inputs and
    outputs. It is not called where the compiled network was kept by an earlier run.

    bfloat16 where CPU and family allow, else float32. batch: 1 where no run will take
    more pictures; sizes that are known save 7 % of u2netp's time. outputs: how many the model
    has, for the kept one's key. Raises ModelError, naming ``path``, DeviceError where there is
    not enough memory.
    """
    half = not is_float32(bfloat16)
    streams = stream_count(threads) if bfloat16 else 1
    config = {
        "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        # A pinned thread waits for its core while the encoder uses it.
        "ENABLE_CPU_PINNING": False,
    }
    facts = {**config, "batch": batch, "outputs": outputs, "runtime": _openvino().__version__}
    facts |= {"cpu": _core().get_property("CPU", "FULL_DEVICE_NAME"), "joins": "split"}
    key = compiled_key(path, facts)
    try:
        kept = None if key is None else read_compiled(path, key)
        if kept is not None:
            given = _openvino().Tensor(kept, shared_memory=True)
            compiled = _core().import_model(given, "CPU", config)
            free_pages(kept)
        else:
            compiled = _compiled(path, read_model(), config, half, batch == 1)
            if key is not None:
                keep_compiled(path, key, compiled.export_model().getvalue())
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise device_oom_error("cpu", path.name) from error
        reason = (str(error).strip().splitlines() or ["?"])[-1][:200]
        raise ModelError(f"{path}: OpenVINO cannot load it ({reason})") from error
    inputs, shapes = (
        {item.get_any_name(): _shape_of(item) for item in items}
        for items in (compiled.inputs, compiled.outputs)
    )
    return _OpenVinoRunner(compiled, streams, kept), inputs, shapes


def _compiled(path: Path, model: bytes, config: dict[str, Any], half: bool, single: bool) -> Any:
    """The network in ``model`` (ONNX) compiled; single: for one picture at a time."""
    network = _core().read_model(split_offsets(model) if half else model)
    kinds = {item.get_any_name(): item.get_element_type() for item in network.inputs}
    check_inputs(path, {name: kind.get_type_name() for name, kind in kinds.items()})
    if single:
        network.reshape({item: _one_of(item) for item in network.inputs})
    return _core().compile_model(network, "CPU", config)


def _one_of(item: Any) -> Any:
    """The shape of an input (B, ...) with a batch of one."""
    shape = item.get_partial_shape()
    shape[0] = 1
    return shape


def _shape_of(item: Any) -> list[int | str]:
    """The shape of an input or output; sizes that are free are '?'; none of unknown rank."""
    shape = item.get_partial_shape()
    if shape.rank.is_dynamic:
        return []
    return [size.get_length() if size.is_static else "?" for size in shape]

"""From an ONNX file to a session that takes batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vidmatte.core.concurrency import stream_count, usable_cores
from vidmatte.core.families import Family
from vidmatte.core.memory import device_oom_error, is_out_of_memory
from vidmatte.errors import DeviceError, ModelError
from vidmatte.models.runtimes.device import FATAL_ONLY, CpuRunner, Device, Runner, onnxruntime
from vidmatte.models.runtimes.memory_guard import BatchSplittingRunner, MemoryGuard
from vidmatte.models.runtimes.onnx_file import (
    Shapes,
    check_inputs,
    check_recurrent,
    first_line,
    load_onnx,
    recurrence_of,
    shapes_of,
)


@dataclass(frozen=True)
class _LoadedNetwork:
    """A network ready to run, and the shapes of its inputs and outputs."""

    runner: Runner
    inputs: Shapes
    outputs: Shapes


def load_runner(
    path: Path,
    device: Device,
    threads: int,
    *,
    outputs: int | None,
    runtime: str = "onnxruntime",
    bfloat16: bool = False,
    batch: int = 0,
    report: Callable[[str], None] = lambda _: None,
    half: bool = False,
) -> _LoadedNetwork:
    """Load a network. ``outputs``: how many of its outputs are used (None: all).

    threads: of the CPU, 0 for all cores. runtime: as in the settings; ``auto`` depends on
    ``bfloat16``, whether the family tolerates that precision. batch: 1 where no run will
    take more pictures. report: takes a line for the user, while the network runs. half: compute
    in half precision, on a GPU.
    Per-frame networks are exported at batch 1 with side outputs: the batch dimension
    is given a name and the side outputs are cut off before the session is made.
    Raises ModelError for a file that is not a network, DeviceError where CUDA fails,
    the runtime is missing or there is not enough memory.
    """
    from vidmatte.models.runtimes.openvino import is_chosen, is_float32, load_openvino

    threads = threads or usable_cores()
    uses_openvino = is_chosen(runtime, bfloat16, device)

    def read_model() -> bytes:
        if half:
            return _in_half(path, outputs)
        if outputs is None:
            return bytes(load_onnx(path).SerializeToString())
        is_ours = device.name == "cpu" and not uses_openvino
        splits = uses_openvino and is_float32(bfloat16)
        return _batchable(path, outputs, is_ours, single=is_ours and batch == 1, splits=splits)

    if uses_openvino:
        found = load_openvino(path, read_model, bfloat16, threads, batch, outputs)
        ready = _LoadedNetwork(*found)
    else:
        session = _open_session(path, read_model(), device, threads)
        check_inputs(path, _kinds_of(session))
        ready = _loaded_network(session, device)
    if outputs is None:
        return replace(ready, runner=MemoryGuard(ready.runner, device.name))
    return replace(ready, runner=BatchSplittingRunner(ready.runner, device.name, report))


@dataclass(frozen=True)
class FinishingStep:
    """The second half of a recurrent network, which computes the result from the first's outputs.

    reduced: the first half's input that takes the downsampled frame; '' where it takes
    the frame itself.
    """

    runner: Runner
    reduced: str


def _kinds_of(session: Any) -> dict[str, str]:
    """The element type of each input of an onnxruntime session."""
    return {item.name: item.type for item in session.get_inputs()}


def load_recurrent(
    path: Path, device: Device, threads: int, family: Family, runtime: str
) -> tuple[_LoadedNetwork, FinishingStep | None]:
    """A recurrent network, and, where its family's graphs are split (on the CPU), its half that
    does not affect the state. Raises as ``load_runner`` does.
    """
    from vidmatte.models.runtimes.graph_split import (
        split_after_downsampling,
        split_at_states,
        split_before_refinement,
        split_concat_convs,
    )

    halves, names = None, recurrence_of(family)
    if names.splits and device.name == "cpu" and runtime != "openvino":
        network = load_onnx(path)
        inputs, outputs = shapes_of(network.graph.input), shapes_of(network.graph.output)
        check_recurrent(path, inputs, outputs, family)
        split_concat_convs(network)
        halves = split_at_states(network, names.state_outputs)
    if halves is None:
        bfloat16 = family.bfloat16
        ready = load_runner(path, device, threads, outputs=None, runtime=runtime, bfloat16=bfloat16)
        check_recurrent(path, ready.inputs, ready.outputs, family)
        return ready, None
    first, second = halves
    reduced = ""
    if coefficients := split_before_refinement(second, names):
        second = coefficients
        first, reduced = split_after_downsampling(first, names.picture) or (first, "")
    threads = threads or usable_cores()
    session = _open_session(path, first, device, max(1, threads // 2))
    check_inputs(path, _kinds_of(session))
    # One thread per frame, as many frames as cores: no thread waits for another.
    finisher = CpuRunner(_open_session(path, second, device, 1), stream_count(threads))
    ready = _loaded_network(session, device)
    return (
        replace(ready, runner=MemoryGuard(ready.runner, device.name)),
        FinishingStep(MemoryGuard(finisher, device.name), reduced),
    )


def load_part(path: Path, outputs: tuple[str, ...], device: Device, threads: int) -> Runner | None:
    """A runner of the part of a network that computes these tensors; None where it has none of
    these names. Raises ModelError, DeviceError."""
    from vidmatte.models.runtimes.graph_split import part_giving

    part = part_giving(load_onnx(path), outputs)
    return None if part is None else CpuRunner(_open_session(path, part, device, threads))


def _open_session(path: Path, model: bytes, device: Device, threads: int) -> Any:
    """An onnxruntime session for ``model``. Raises ModelError, naming ``path``, DeviceError."""
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Memory patterns allocate beside the arena: a third more memory for no speed.
    options.enable_mem_pattern = False
    # Threads that spin while they wait take cores from the other stages: a sixth (isnet,
    # u2netp) to a quarter (rvm) of the network's core-seconds on two cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        with warnings.catch_warnings():  # a failure of CUDA is reported below, in one line
            warnings.simplefilter("ignore")
            session = ort.InferenceSession(model, options, providers=device.providers())
    except Exception as error:
        if is_out_of_memory(error):
            raise device_oom_error(device.name, path.name) from error
        raise ModelError(f"{path}: onnxruntime cannot load it ({first_line(error)})") from error
    provider = device.providers()[0]
    name = provider if isinstance(provider, str) else provider[0]
    if name not in session.get_providers():
        raise DeviceError(
            f"{device.name}: CUDA or cuDNN libraries are missing or too old for this"
            f" onnxruntime {ort.__version__}; use --device cpu"
        )
    return session


def _loaded_network(session: Any, device: Device) -> _LoadedNetwork:
    """A runner of a session, and the shapes of its inputs and outputs."""
    inputs, outputs = (
        {item.name: ["?" if size is None else size for size in item.shape or ()] for item in items}
        for items in (session.get_inputs(), session.get_outputs())
    )
    return _LoadedNetwork(device.runner(session), inputs, outputs)


def _batchable(
    path: Path, outputs: int, widen: bool = False, single: bool = False, splits: bool = False
) -> bytes:
    """The network with a free batch dimension and only its first ``outputs`` outputs.

    widen: convert half precision to float32. single: for one picture at a time, in the form
    that onnxruntime's blocked kernels support, which saves a tenth of u2netp's time. splits:
    without wide joins, see ``split_wide_joins``. Raises ModelError.
    """
    model = load_onnx(path)
    graph = model.graph
    if widen:
        _widen_to_float32(graph)
    if single:
        _set_batch(graph.input[0], dim_value=1)
        _unify_resize_modes(graph)
    else:
        _set_batch(graph.input[0], dim_param="batch")
    del graph.output[outputs:]
    del graph.value_info[:]
    if splits:
        from vidmatte.models.runtimes.graph_split import split_wide_joins

        split_wide_joins(graph)
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    serialized: bytes = model.SerializeToString()
    return serialized


def _in_half(path: Path, outputs: int | None) -> bytes:
    """The network, of ``_batchable`` unless all ``outputs`` are used, in half precision. Raises
    ModelError where it cannot be."""
    from onnx import load_from_string

    from vidmatte.models.runtimes.half import to_half

    if outputs is None:
        model = load_onnx(path)
        _widen_to_float32(model.graph)
    else:
        model = load_from_string(_batchable(path, outputs, widen=True))
    if not to_half(model.graph):
        raise ModelError(f"{path}: a network with subgraphs is not turned into half precision")
    return bytes(model.SerializeToString())


def _widen_to_float32(graph: Any) -> None:
    """Turn a graph's half-precision weights, and casts to it, into float32, in place.

    On the CPU onnxruntime computes in float32 and converts each result back to half
    precision: a sixteenth of isnet's time. Inputs and outputs are unchanged.
    """
    import numpy as np
    from onnx import TensorProto, numpy_helper

    half = TensorProto.FLOAT16
    if any(item.type.tensor_type.elem_type == half for item in (*graph.input, *graph.output)):
        return
    attributes = [(node, item) for node in graph.node for item in node.attribute]
    for tensor in [*graph.initializer, *(item.t for _, item in attributes)]:
        if tensor.data_type == half:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    for node, item in attributes:
        if node.op_type == "Cast" and item.name == "to" and item.i == half:
            item.i = TensorProto.FLOAT


def _set_batch(value: Any, **size: int | str) -> None:
    """Give dimension 0 of a picture a number (``dim_value``) or a name (``dim_param``)."""
    dims = value.type.tensor_type.shape.dim
    if len(dims) == 4:
        dims[0].Clear()
        for field, value_of_size in size.items():
            setattr(dims[0], field, value_of_size)


def _unify_resize_modes(graph: Any) -> None:
    """Replace pytorch_half_pixel by half_pixel in Resize nodes, in place.

    They differ only for a result of a single pixel; the blocked kernels support half_pixel
    only.
    """
    for node in graph.node:
        for item in node.attribute:
            if item.name == "coordinate_transformation_mode" and item.s == b"pytorch_half_pixel":
                item.s = b"half_pixel"

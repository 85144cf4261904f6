"""An ONNX file as it lies on the disk: one file, or one with its weights in others beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vidmatte.errors import ModelError
from vidmatte.memory import lack_on_device

#: Bytes of one protobuf message, which is how a network is handed to its runtime.
LARGEST = 2**31 - 1


def as_onnx(path: Path) -> Any:
    """The file as an ONNX model, with the weights that lie beside it (external data) in it.

    Raises ModelError, DeviceError where memory lacks.
    """
    from onnx.external_data_helper import load_external_data_for_model

    try:
        model = without_data(path)
        files = data_files(path, model)
        if sum(file.stat().st_size for file in files) > LARGEST:
            raise ModelError(
                f"{path}: with its external data it is larger than 2 GiB: export it in half"
                " precision, or choose a smaller model"
            )
        load_external_data_for_model(model, str(path.parent))
    except MemoryError as error:
        raise lack_on_device("cpu", path.name) from error
    except ModelError:
        raise
    except Exception as error:  # onnx has no class of its own for data that does not fit
        raise ModelError(f"{path}: its external data is not read ({first_line(error)})") from error
    leave_out_weights(model)
    if not model.graph.input or not model.graph.output:
        raise ModelError(f"{path}: not a network: it has no input or no output")
    return model


def leave_out_weights(model: Any) -> None:
    """Take weights off the inputs, in place: before version 4 of the format they had to stand
    there, and the picture need not be the first of them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in weights]
    if len(inputs) == len(model.graph.input):
        return
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)


def external_data(path: Path) -> list[Path]:
    """The files with weights beside an ONNX file, in order of name. Raises ModelError."""
    return data_files(path, without_data(path))


def without_data(path: Path) -> Any:
    """The file as an ONNX model, without what lies in others. Raises ModelError."""
    import onnx

    try:
        return onnx.load(str(path), load_external_data=False)
    except MemoryError:
        raise
    except Exception as error:  # protobuf's DecodeError has no public home with types
        raise ModelError(f"{path}: not an ONNX file ({first_line(error)})") from error


def data_files(path: Path, model: Any) -> list[Path]:
    """The files that tensors of a model lie in. Raises ModelError where one is missing."""
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    outside = filter(uses_external_data, tensors_of(model.graph))
    files = [
        path.parent / name for name in sorted({ExternalDataInfo(one).location for one in outside})
    ]
    for file in files:
        if not file.is_file():
            raise ModelError(
                f"{path}: weights of it are in {file}, which is not there: put it there"
            )
    return files


def tensors_of(graph: Any) -> Iterator[Any]:
    """Every tensor of a graph and of the graphs in it."""
    yield from graph.initializer
    for node in graph.node:
        for item in node.attribute:
            yield from (item.t, *item.tensors)
            for inner in (item.g, *item.graphs):
                yield from tensors_of(inner)


def first_line(error: BaseException) -> str:
    """The first line of an error, for a message of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

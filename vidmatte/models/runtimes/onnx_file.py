"""Reading and checking an ONNX file, with or without external data in other files beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from vidmatte.core.families import FAMILY_TABLE, Family, InputSize, Recurrence
from vidmatte.core.frame import Frame
from vidmatte.core.memory import device_oom_error
from vidmatte.errors import ModelError

#: Maximum bytes of a protobuf message, the form in which a runtime takes a network.
_LARGEST = 2**31 - 1


def load_onnx(path: Path) -> Any:
    """The file as an ONNX model, including its external data from the files beside it.

    Raises ModelError, DeviceError where there is not enough memory.
    """
    from onnx.external_data_helper import load_external_data_for_model

    try:
        model = _without_data(path)
        files = _data_files(path, model)
        if sum(file.stat().st_size for file in files) > _LARGEST:
            raise ModelError(
                f"{path}: with its external data it is larger than 2 GiB: export it in half"
                " precision, or choose a smaller model"
            )
        load_external_data_for_model(model, str(path.parent))
    except MemoryError as error:
        raise device_oom_error("cpu", path.name) from error
    except ModelError:
        raise
    except Exception as error:  # onnx has no exception class for data that does not fit
        raise ModelError(
            f"{path}: its external data cannot be read ({first_line(error)})"
        ) from error
    _drop_weights(model)
    if not model.graph.input or not model.graph.output:
        raise ModelError(f"{path}: not a network: it has no input or no output")
    return model


def _drop_weights(model: Any) -> None:
    """Remove weights from the inputs, in place: before version 4 of the format they had to be
    listed there, and the picture need not be the first input."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in weights]
    if len(inputs) == len(model.graph.input):
        return
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)


def external_data(path: Path) -> list[Path]:
    """The files with weights beside an ONNX file, in order of name. Raises ModelError."""
    return _data_files(path, _without_data(path))


def _without_data(path: Path) -> Any:
    """The file as an ONNX model, without external data. Raises ModelError."""
    import onnx

    try:
        return onnx.load(str(path), load_external_data=False)
    except MemoryError:
        raise
    except Exception as error:  # protobuf's DecodeError has no public home with types
        raise ModelError(f"{path}: not an ONNX file ({first_line(error)})") from error


def _data_files(path: Path, model: Any) -> list[Path]:
    """The files with a model's external data. Raises ModelError where one is missing, or outside
    of the model's folder: a model from elsewhere must not choose which files are read."""
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    outside = filter(uses_external_data, _tensors_of(model.graph))
    names = sorted({ExternalDataInfo(one).location for one in outside})
    for name in names:
        place = PurePath(name)
        if place.anchor or ".." in place.parts:
            raise ModelError(
                f"{path}: its external data {name} is not a file in its folder: save the model"
                " again with the data beside it"
            )
        if not (path.parent / name).is_file():
            raise ModelError(
                f"{path}: its external data {path.parent / name} is missing: copy it there"
            )
    return [path.parent / name for name in names]


def _tensors_of(graph: Any) -> Iterator[Any]:
    """Every tensor of a graph and of its subgraphs."""
    yield from graph.initializer
    for node in graph.node:
        for item in node.attribute:
            yield from (item.t, *item.tensors)
            for inner in (item.g, *item.graphs):
                yield from _tensors_of(inner)


def first_line(error: BaseException) -> str:
    """The first line of an error, for a message of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


#: Sizes by name of an input or output; a free size is a name, one of unknown rank is empty.
Shapes = dict[str, list[int | str]]

#: As onnxruntime and OpenVINO call it; the latter converts float32 to half precision itself.
_FLOAT32 = ("tensor(float)", "f32", "f16")
#: Anything smaller is not a picture.
_SMALLEST_SIDE = 8
#: A sigmoid is at most 1; values clearly above it are on a scale of 0..255, or logits.
_HIGHEST = 1.5
#: The end of messages on outputs that are not an alpha, with the next step.
_NOT_ALPHA = (
    "not one alpha (B, 1, H, W): export it with the alpha alone as its first output, or name"
    " another --family"
)
_OTHER_SCALE = (
    "export it with a sigmoid, in 0..1, or add --normalize minmax; if it gives logits, name"
    f" --family {' or '.join(row.name for row in FAMILY_TABLE.values() if row.logits)}"
)


def check_inputs(path: Path, kinds: dict[str, str]) -> None:
    """Raise ModelError, naming ``path``, where an input's element type is not float32.

    kinds: the types by the input's name, as onnxruntime or OpenVINO call them.
    """
    for name, kind in kinds.items():
        if kind not in _FLOAT32:
            raise ModelError(
                f"{path}: its input {name} is {kind}, not float32: export it with float32"
                " inputs; its weights may be in half precision"
            )


def input_size(path: Path, inputs: Shapes, family: Family) -> InputSize:
    """The size of a per-frame network's input: a square as exported, else that of its family.

    Raises ModelError where its input is not one picture, (B, 3, H, W), of such a size.
    """
    usual = family.size
    if usual is None:
        raise ValueError(f"{family.name} is a recurrent family")
    shape = next(iter(inputs.values()))
    sides = {side for side in shape[2:] if isinstance(side, int)}
    is_picture = len(inputs) == 1 and len(shape) == 4 and shape[1] == 3
    if not is_picture or len(sides) > 1:
        expected = "(B, 3, S, S)" if usual.is_square else "(B, 3, H, W) of free height and width"
        raise ModelError(
            f"{path}: its inputs are {inputs}, expected one picture {expected}: check --family"
        )
    return InputSize(sides.pop()) if sides else usual


def check_alpha(path: Path, outputs: Shapes, family: Family) -> None:
    """Raise ModelError where a per-frame network's first output is not one alpha per picture, or
    the family's number of classes.

    Sizes that its file does not declare are checked after a run, by ``alphas_of``.
    """
    name, shape = next(iter(outputs.items()))
    if count := family.class_count:
        fits = len(shape) == 4 and not _has_channels(shape, other_than=count) and _is_picture(shape)
        if fits or not shape:
            return
        raise ModelError(
            f"{path}: its first output {name!r} is {_shape_text(shape)}, not {count} classes (B,"
            f" {count}, H, W): name another --family"
        )
    is_alpha = 2 <= len(shape) <= 4 and not _has_channels(shape, other_than=1)
    if not shape or (is_alpha and _is_picture(shape)):
        return
    raise ModelError(f"{path}: its first output {name!r} is {_shape_text(shape)}, {_NOT_ALPHA}")


def alphas_of(output: np.ndarray, count: int, family: Family) -> np.ndarray:
    """A per-frame network's output for ``count`` pictures, as (count, H, W) float32; of a family
    with classes the logits of all of them, (count, C, H, W). Raises ModelError."""
    return np.asarray(output, np.float32).reshape(alpha_shape(output.shape, count, family))


def alpha_shape(output: Sequence[int], count: int, family: Family) -> tuple[int, ...]:
    """The shape that ``alphas_of`` brings an output of this shape to.

    Accepted are (count, 1, H, W), (count, H, W) and (H, W) of one picture. Raises ModelError.
    """
    shape = tuple(output)
    if classes := family.class_count:
        if len(shape) == 4 and shape[:2] == (count, classes) and _is_picture(shape):
            return shape
        raise ModelError(
            f"the model's first output for {count} pictures is {_shape_text(shape)}, not"
            f" {classes} classes (B, {classes}, H, W): name another --family"
        )
    taken = [(count, 1), (count,)] + [()] * (count == 1)
    if len(shape) < 2 or shape[:-2] not in taken or not _is_picture(shape):
        text = _shape_text(shape)
        raise ModelError(f"the model's first output for {count} pictures is {text}, {_NOT_ALPHA}")
    return count, *shape[-2:]


def check_range(output: np.ndarray | np.float32) -> None:
    """Raise ModelError where an output that should be alpha in 0..1 has another scale."""
    if output.dtype.kind in "iu":
        raise ModelError(
            f"the model's alpha is {output.dtype}, not float32 in 0..1: {_OTHER_SCALE}"
        )
    if (top := output.max()) > _HIGHEST:
        raise ModelError(f"the model's alpha goes up to {top:.4g}, not 1: {_OTHER_SCALE}")


def check_numbers(frame: Frame) -> None:
    """Raise ModelError, naming the frame, where its alpha contains NaN."""
    if frame.alpha is not None and np.isnan(frame.alpha.sum()):
        raise ModelError(
            f"frame {frame.index}: the model's alpha is not a number (NaN): half precision"
            " that overflows gives that; try --runtime onnxruntime, or weights in float32"
        )


def recurrence_of(family: Family) -> Recurrence:
    """The inputs and outputs of a recurrent family. Raises ValueError for other families."""
    if family.recurrence is None:
        raise ValueError(f"{family.name} is no recurrent family")
    return family.recurrence


def check_recurrent(path: Path, inputs: Shapes, outputs: Shapes, family: Family) -> None:
    """Raise ModelError where a network does not have the inputs and outputs of its family."""
    names = recurrence_of(family)
    for kind, found, needed in (
        ("inputs", inputs, names.inputs),
        ("outputs", outputs, (*names.results, *names.state_outputs)),
    ):
        missing = [name for name in needed if name not in found]
        if missing:
            raise ModelError(
                f"{path}: not of the family {family.name}: its {kind} are {', '.join(found)};"
                f" missing: {', '.join(missing)} (export it under the family's names, or name"
                " another --family)"
            )
    for name in (names.picture, *names.results):
        shape = inputs.get(name) or outputs.get(name)
        channels = 1 if name == names.alpha else 3
        if shape and (len(shape) != 4 or _has_channels(shape, other_than=channels)):
            raise ModelError(
                f"{path}: not of the family {family.name}: its {name!r} is {_shape_text(shape)},"
                f" not (B, {channels}, H, W): export it as the family's authors do, or name another"
                " --family"
            )


def _has_channels(shape: list[int | str], other_than: int) -> bool:
    """Whether a shape (B, C, H, W) fixes a number of channels other than ``other_than``."""
    return len(shape) == 4 and isinstance(shape[1], int) and shape[1] != other_than


def _is_picture(shape: Sequence[int | str]) -> bool:
    """Whether the last two sizes of a shape, as far as they are fixed, can be a picture's."""
    return not any(isinstance(side, int) and side < _SMALLEST_SIDE for side in shape[-2:])


def _shape_text(shape: Iterable[int | str]) -> str:
    """(1, 2, height, width): a shape for a message."""
    return f"({', '.join(map(str, shape))})"


def shapes_of(items: Any) -> Shapes:
    """The shapes of an ONNX graph's inputs or outputs; a free size is its name or '?'."""
    return {
        item.name: [
            size.dim_value if size.HasField("dim_value") else size.dim_param or "?"
            for size in item.type.tensor_type.shape.dim
        ]
        for item in items
    }

"""A network in half precision, its input and output in float32.

For GPUs, which multiply half-precision numbers several times as fast. Whether the alpha stays the
same is checked on the first frames of each clip, see ``torch_networks``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: Inputs that ONNX wants in float32 whatever the picture's type, by operator.
_STAY_FLOAT = {"Resize": (1, 2), "Upsample": (1,)}
_HIGHEST = 65504.0  # of half precision
_SUFFIX = "_half"


def to_half(graph: Any) -> bool:
    """Turn a float32 graph into one of half precision, in place; False where it has subgraphs.

    Values beyond the range of half precision become its largest.
    """
    from onnx import TensorProto

    if any(item.HasField("g") or item.graphs for node in graph.node for item in node.attribute):
        return False
    apart = _scales_alone(graph)
    for tensor in graph.initializer:
        if tensor.name not in apart:
            _narrow(tensor)
    for node in graph.node:
        if apart.issuperset(node.output):
            continue
        for item in node.attribute:
            if node.op_type == "Cast" and item.name == "to" and item.i == TensorProto.FLOAT:
                item.i = TensorProto.FLOAT16
            elif item.name == "value":
                _narrow(item.t)
    _widen_scales(graph, apart)
    _cast_ends(graph, apart)
    _free_sizes(graph)
    del graph.value_info[:]
    return True


def _scales_alone(graph: Any) -> set[str]:
    """The names of values that only serve as inputs that stay float32, or to compute these.

    A scale that is an input of the network is among them: rounded to half precision it would give
    pictures of other sizes.
    """
    readers: dict[str, list[tuple[Any, int]]] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, place))
    alone: set[str] = set()  # read by the function below as it is then
    last = {item.name for item in graph.output}

    def is_alone(name: str) -> bool:
        return name not in last and all(
            place in _STAY_FLOAT.get(node.op_type, ()) or alone.issuperset(node.output)
            for node, place in readers[name]
        )

    for node in reversed(graph.node):  # what reads a value comes after it
        alone.update(name for name in node.output if name in readers and is_alone(name))
    alone.update(name for name in readers if is_alone(name))
    before = None
    while before != alone:
        before = set(alone)
        for node in graph.node:  # what is computed from other values too is of their type
            if not alone.issuperset(filter(None, node.input)):
                alone.difference_update(node.output)
        alone = {name for name in alone if is_alone(name)}
    return alone


def _narrow(tensor: Any) -> None:
    """Turn a float32 tensor into half precision, in place."""
    from onnx import TensorProto, numpy_helper

    if tensor.data_type == TensorProto.FLOAT:
        values = np.clip(numpy_helper.to_array(tensor), -_HIGHEST, _HIGHEST).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _widen_scales(graph: Any, apart: set[str]) -> None:
    """Cast to float32 what is computed and has to be float32."""
    from onnx import TensorProto, helper

    nodes = []
    for number, node in enumerate(graph.node):
        for place in _STAY_FLOAT.get(node.op_type, ()):
            if place < len(node.input) and node.input[place] not in apart | {""}:
                wide = f"{node.input[place]}_wide{number}"
                cast = helper.make_node("Cast", [node.input[place]], [wide], to=TensorProto.FLOAT)
                nodes.append(cast)
                node.input[place] = wide
        nodes.append(node)
    _replace_nodes(graph, nodes)


def _cast_ends(graph: Any, apart: set[str]) -> None:
    """Cast float32 inputs to half precision, but those ``apart``, and outputs back."""
    from onnx import TensorProto, helper

    def is_float(item: Any) -> bool:
        return bool(item.type.tensor_type.elem_type == TensorProto.FLOAT)

    first = {item.name for item in graph.input if is_float(item)} - apart
    last = {item.name for item in graph.output if is_float(item)}
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name in first | last:
                    names[place] = name + _SUFFIX
    before = [
        helper.make_node("Cast", [name], [name + _SUFFIX], to=TensorProto.FLOAT16)
        for name in sorted(first)
    ]
    after = [
        helper.make_node("Cast", [name + _SUFFIX], [name], to=TensorProto.FLOAT)
        for name in sorted(last)
    ]
    _replace_nodes(graph, [*before, *graph.node, *after])


def _free_sizes(graph: Any) -> None:
    """Take the names of free sizes away from inputs and outputs.

    States of different sizes often bear the same names, and what is cast of one would be written
    to memory that fits another.
    """
    for item in (*graph.input, *graph.output):
        for size in item.type.tensor_type.shape.dim:
            if size.HasField("dim_param"):
                size.Clear()


def _replace_nodes(graph: Any, nodes: list[Any]) -> None:
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)

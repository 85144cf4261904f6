"""Graphs of networks split: a recurrent one in two, the state's update and the refinement of each
frame; and convolutions that read joined tensors.

RVM's state comes from its coarse pass alone, a third of its work. The rest, which
brings the result to the frame's size, reads the state and feeds nothing back: several frames
can be refined in parallel while the coarse pass processes the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vidmatte.core.families import Recurrence


def split_at_states(network: Any, states: tuple[str, ...]) -> tuple[bytes, bytes] | None:
    """The network that computes ``states``, and the one that computes the other outputs.

    network: an ONNX model. The first half takes all of the model's inputs and also gives what the
    second reads; the second takes those, and inputs of the model, by the same names.
    None where there is nothing to split off.
    """
    import onnx

    graph = network.graph
    if not set(states) <= {item.name for item in graph.output}:
        return None
    producers = {name: node for node in graph.node for name in node.output}
    first = _nodes_for(states, producers)
    second = [node for node in graph.node if id(node) not in first]
    rest = [item for item in graph.output if item.name not in states]
    if not second or any(producers.get(item.name) not in second for item in rest):
        return None
    constants = [node for node in graph.node if node.op_type == "Constant" and id(node) in first]
    read = {name for node in second for name in node.input}
    second = [node for node in constants if node.output[0] in read] + second
    made = {name for node in second for name in node.output}
    given = {item.name: item for item in graph.input}
    kinds = onnx.shape_inference.infer_shapes(network).graph
    known = {item.name: item for item in [*kinds.value_info, *kinds.output]}
    crossing = sorted(
        name
        for name in read - made - set(given)
        if name in producers and id(producers[name]) in first
    )
    if not all(name in known for name in crossing):
        return None
    state_outputs = [item for item in graph.output if item.name in states]
    passed = [known[name] for name in crossing]
    fresh = [item for item in passed if item.name not in states]
    return (
        _subgraph(network, [n for n in graph.node if id(n) in first], graph.input,
                [*state_outputs, *fresh]),
        _subgraph(network, second, [*passed, *(given[name] for name in given if name in read)],
                rest),
    )  # fmt: skip


def part_giving(network: Any, outputs: tuple[str, ...]) -> bytes | None:
    """The part of an ONNX model that computes these tensors, with all of the model's inputs; None
    where it does not have them."""
    from onnx import TensorProto, helper

    producers = {name: node for node in network.graph.node for name in node.output}
    if not set(outputs) <= set(producers):
        return None
    needed = _nodes_for(outputs, producers)
    nodes = [node for node in network.graph.node if id(node) in needed]
    read = {name for node in nodes for name in node.input}
    inputs = [item for item in network.graph.input if item.name in read]
    wanted = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    return _subgraph(network, nodes, inputs, wanted)


def _nodes_for(outputs: tuple[str, ...], producers: dict[str, Any]) -> set[int]:
    """The nodes, by identity, that the outputs depend on."""
    needed: set[int] = set()
    names = list(outputs)
    while names:
        node = producers.get(names.pop())
        if node is not None and id(node) not in needed:
            needed.add(id(node))
            names.extend(node.input)
    return needed


def _subgraph(network: Any, nodes: list[Any], inputs: Any, outputs: Any) -> bytes:
    """A network of some of a network's nodes, with the weights that they read."""
    from onnx import helper

    read = {name for node in nodes for name in node.input}
    weights = [item for item in network.graph.initializer if item.name in read]
    graph = helper.make_graph(nodes, network.graph.name, list(inputs), list(outputs), weights)
    part = helper.make_model(graph, opset_imports=network.opset_import)
    part.ir_version = network.ir_version
    serialized: bytes = part.SerializeToString()
    return serialized


def split_before_refinement(half: bytes, names: Recurrence) -> bytes | None:
    """The second half without RVM's last steps at the frame's size; None where it has others.

    Those steps of its deep guided filter are linear models of the frame's colours, fitted on
    the coarse grid: out = a * (R, G, B, mean) + b, and the foreground is R, G, B + out.
    The remaining network gives a and b, (1, 4, h, w), in this order. names: of the network's
    inputs and outputs.
    """
    import onnx

    network = onnx.load_from_string(half)
    producers = {name: node for node in network.graph.node for name in node.output}

    def before(name: str, kind: str) -> list[str]:
        """The inputs of the node that computes a tensor; none where it has another type."""
        node = producers.get(name)
        return list(node.input) if node is not None and node.op_type == kind else []

    refined = [before(name, "Clip")[:1] for name in names.results]
    if len(refined) != 2 or not all(refined):
        return None
    added = before(refined[0][0], "Add")
    split = producers.get(refined[1][0])
    if (
        names.picture not in added
        or split is None
        or list(split.output) != [added[0], refined[1][0]]
    ):
        return None
    total = before(next(iter(before(added[0], "Split")), ""), "Add")
    product = before(next(iter(total), ""), "Mul")
    if (
        len(total) != 2
        or len(product) != 2
        or not _is_colours_and_mean(product[1], names.picture, before)
    ):
        return None
    coefficients = [before(name, "Resize")[:1] for name in (product[0], total[1])]
    if not all(coefficients) or not all(
        _is_half_pixel_linear(producers[name]) for name in (product[0], total[1])
    ):
        return None
    results = tuple(name for (name,) in coefficients)
    needed = _nodes_for(results, producers)
    nodes = [node for node in network.graph.node if id(node) in needed]
    read = {name for node in nodes for name in node.input}
    inputs = [item for item in network.graph.input if item.name in read]
    free = onnx.TensorProto.FLOAT
    outputs = [onnx.helper.make_tensor_value_info(name, free, None) for name in results]
    return _subgraph(network, nodes, inputs, outputs)


def split_after_downsampling(half: bytes, picture: str) -> tuple[bytes, str] | None:
    """The first half without its first step, which downsamples the frame, and the name of
    the input that takes the downsampled frame instead; None where it begins differently.

    picture: the input that takes the frame.
    """
    import onnx

    network = onnx.load_from_string(half)
    readers = [node for node in network.graph.node if picture in node.input]
    if len(readers) != 1 or readers[0].op_type != "Resize" or not _is_half_pixel_linear(readers[0]):
        return None
    (name,) = readers[0].output
    producers = {
        made: node for node in network.graph.node for made in node.output if node != readers[0]
    }
    outputs = [item for item in network.graph.output if item.name != name]
    needed = _nodes_for(tuple(item.name for item in outputs), producers)
    nodes = [node for node in network.graph.node if id(node) in needed]
    read = {used for node in nodes for used in node.input}
    sizes = ["batch", 3, "reduced_height", "reduced_width"]
    reduced = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes)
    inputs = [reduced, *(item for item in network.graph.input if item.name in read)]
    return _subgraph(network, nodes, inputs, outputs), name


def _is_colours_and_mean(name: str, picture: str, before: Callable[[str, str], list[str]]) -> bool:
    """Whether a tensor is the frame's colours with their mean as a fourth channel."""
    parts = before(name, "Concat")
    mean_of = before(parts[1], "ReduceMean")[:1] if len(parts) == 2 else []
    return mean_of == [picture] and parts[0] == picture


def _is_half_pixel_linear(resize: Any) -> bool:
    """Whether a Resize node has the sample positions and weights of OpenCV's linear resize."""
    from onnx import helper

    attributes = {item.name: helper.get_attribute_value(item) for item in resize.attribute}
    place = attributes.get("coordinate_transformation_mode", b"half_pixel")
    return attributes.get("mode") == b"linear" and place in (b"half_pixel", b"pytorch_half_pixel")


_MULTIPLE = 4  # of channels: what the blocked kernels support
_FEWEST = 16  # channels above which they require it
#: Operators whose result has as many channels as their first input.
_KEEPING = ("AveragePool", "Resize")
_KEEPING_FEATURES = (*_KEEPING, "Add", "BatchNormalization", "MaxPool", "Relu", "Upsample")
_WIDE = 32  # channels; of fewer, a second convolution takes more than the join


def split_concat_convs(network: Any) -> None:
    """Split every convolution, in place, that reads features joined with a few other channels.

    network: an ONNX model. Its results are the same except for rounding.
    """
    graph = network.graph
    producers = {name: node for node in graph.node for name in node.output}
    given = {item.name: _channels_of(item) for item in graph.input}
    weights = {item.name: item for item in graph.initializer}
    readers = [name for node in graph.node for name in node.input]
    nodes = list(graph.node)
    for node in graph.node:
        joined = producers.get(node.input[0]) if node.op_type == "Conv" else None
        if joined is None or joined.op_type != "Concat" or node.input[1] not in weights:
            continue
        last = _channels_behind(joined.input[-1], producers, given)
        total = weights[node.input[1]].dims[1]
        if total < _FEWEST or not total % _MULTIPLE or not last or (total - last) % _MULTIPLE:
            continue
        place = nodes.index(node)
        nodes[place : place + 1] = _parts_of(graph, node, joined, weights[node.input[1]], last)
        if readers.count(node.input[0]) == 1:
            nodes.remove(joined)
    del graph.node[:]
    graph.node.extend(nodes)


def split_wide_joins(graph: Any) -> None:
    """Split every convolution, in place, that reads two wide tensors joined: one for each, added.

    graph: of an ONNX model. Its results are the same except for rounding. What is joined and its
    copy are in memory at once, and are the most that a U-shaped network holds: without them a frame
    of isnet takes 84 MB less of 276, one of u2netp 26 of 109, and both 3 to 5 % less time
    (OpenVINO, float32).
    """
    producers = {name: node for node in graph.node for name in node.output}
    weights = {item.name: item for item in graph.initializer}
    nodes, apart = [], set()
    for node in graph.node:
        joined = producers.get(node.input[0]) if node.op_type == "Conv" else None
        if last := _wide_last(node, joined, producers, weights):
            nodes += _parts_of(graph, node, joined, weights[node.input[1]], last)
            apart |= {node.input[0], node.input[1]}
        else:
            nodes.append(node)
    apart -= {name for node in nodes for name in node.input} | {item.name for item in graph.output}
    kernels = [item for item in graph.initializer if item.name not in apart]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(node for node in nodes if not apart & {*node.output})
    graph.initializer.extend(kernels)


def _wide_last(conv: Any, joined: Any, producers: dict[str, Any], weights: dict[str, Any]) -> int:
    """The channels of the second of the tensors ``joined`` that a convolution reads, where there
    are two and it, they and its result are wide; else 0."""
    if joined is None or joined.op_type != "Concat" or len(joined.input) != 2:
        return 0
    options = {item.name: item.i for item in (*conv.attribute, *joined.attribute)}
    kernel = weights.get(conv.input[1])
    if kernel is None or options.get("group", 1) != 1 or options.get("axis") != 1:
        return 0
    last = _channels_made(joined.input[1], producers, weights)
    return last if min(last, kernel.dims[0], kernel.dims[1] - last) >= _WIDE else 0


def _channels_made(name: str, producers: dict[str, Any], weights: dict[str, Any]) -> int:
    """How many channels a tensor has that comes from a convolution; 0 where that is not known."""
    while name in producers and producers[name].op_type in _KEEPING_FEATURES:
        name = producers[name].input[0]
    node = producers.get(name)
    if node is None or node.op_type != "Conv" or node.input[1] not in weights:
        return 0
    return int(weights[node.input[1]].dims[0])


def _parts_of(graph: Any, node: Any, joined: Any, kernel: Any, last: int) -> list[Any]:
    """The nodes that replace a convolution; their weights are added to the graph.

    last: how many channels the last of the ``joined`` inputs has.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    name = node.output[0]
    values = numpy_helper.to_array(kernel)
    for part, cut in (("features", np.s_[:, :-last]), ("picture", np.s_[:, -last:])):
        own = np.ascontiguousarray(values[cut])
        graph.initializer.append(numpy_helper.from_array(own, f"{name}/{part}/weights"))
    features, *more = joined.input[:-1]
    made = []
    if more:
        features = f"{name}/joined"
        made.append(helper.make_node("Concat", joined.input[:-1], [features], axis=1))
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    for part, read, bias in (
        ("features", features, node.input[2:]),
        ("picture", joined.input[-1], []),
    ):
        inputs = [read, f"{name}/{part}/weights", *bias]
        made.append(helper.make_node("Conv", inputs, [f"{name}/{part}"], **attributes))
    return [*made, helper.make_node("Add", [f"{name}/features", f"{name}/picture"], [name])]


def _channels_behind(name: str, producers: dict[str, Any], given: dict[str, int]) -> int:
    """How many channels a tensor has if it is a downsampled input of the network; 0 for others."""
    while name in producers:
        if producers[name].op_type not in _KEEPING:
            return 0
        name = producers[name].input[0]
    return given.get(name, 0)


def _channels_of(value: Any) -> int:
    """The channels that an input (B, C, ...) is declared with; 0 where that is left open."""
    dims = value.type.tensor_type.shape.dim
    return int(dims[1].dim_value) if len(dims) > 1 else 0

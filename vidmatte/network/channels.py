"""Convolutions over an awkward number of channels, done in two parts that are not.

onnxruntime has kernels for channels in blocks, and takes them where a convolution reads
fewer than a block or a multiple of four. RVM's decoder hands the small picture to its
convolutions beside the features: 171, 107, 59 and 35 channels in all, which leaves a
quarter of its time to the slow general kernel. A convolution is a sum over channels: what
it makes of the features, and what it makes of the picture, may be added up.
"""

from __future__ import annotations

from typing import Any

MULTIPLE = 4  # of channels: what the blocked kernels take
FEWEST = 16  # channels from which on they ask for it
#: Operators whose result has as many channels as their first input.
KEEPING = ("AveragePool", "Resize")


def split_awkward(network: Any) -> None:
    """Split every convolution, in place, that reads features and a few channels more.

    network: an ONNX model. Its results are the same but for rounding.
    """
    graph = network.graph
    makers = {name: node for node in graph.node for name in node.output}
    given = {item.name: channels_of(item) for item in graph.input}
    weights = {item.name: item for item in graph.initializer}
    readers = [name for node in graph.node for name in node.input]
    nodes = list(graph.node)
    for node in graph.node:
        joined = makers.get(node.input[0]) if node.op_type == "Conv" else None
        if joined is None or joined.op_type != "Concat" or node.input[1] not in weights:
            continue
        last = channels_behind(joined.input[-1], makers, given)
        total = weights[node.input[1]].dims[1]
        if total < FEWEST or not total % MULTIPLE or not last or (total - last) % MULTIPLE:
            continue
        place = nodes.index(node)
        nodes[place : place + 1] = parts_of(graph, node, joined, weights[node.input[1]], last)
        if readers.count(node.input[0]) == 1:
            nodes.remove(joined)
    del graph.node[:]
    graph.node.extend(nodes)


def parts_of(graph: Any, node: Any, joined: Any, kernel: Any, last: int) -> list[Any]:
    """The nodes that do a convolution's work; their weights are added to the graph.

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
    said = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    for part, read, bias in (
        ("features", features, node.input[2:]),
        ("picture", joined.input[-1], []),
    ):
        inputs = [read, f"{name}/{part}/weights", *bias]
        made.append(helper.make_node("Conv", inputs, [f"{name}/{part}"], **said))
    return [*made, helper.make_node("Add", [f"{name}/features", f"{name}/picture"], [name])]


def channels_behind(name: str, makers: dict[str, Any], given: dict[str, int]) -> int:
    """How many channels a tensor has that is a network's input made smaller; 0 for others."""
    while name in makers:
        if makers[name].op_type not in KEEPING:
            return 0
        name = makers[name].input[0]
    return given.get(name, 0)


def channels_of(value: Any) -> int:
    """The channels that an input (B, C, ...) is declared with; 0 where that is left open."""
    dims = value.type.tensor_type.shape.dim
    return int(dims[1].dim_value) if len(dims) > 1 else 0

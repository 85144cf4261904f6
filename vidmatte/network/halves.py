"""A recurrent network cut in two: what carries the state on, and what only draws a frame.

RVM's state comes from its coarse pass alone, a third of its work. The rest, which brings
the result to the frame's size, reads the state and feeds nothing back: frames may go
through it side by side while the coarse pass is at the next one.
"""

from __future__ import annotations

from typing import Any


def split_at_states(network: Any, states: tuple[str, ...]) -> tuple[bytes, bytes] | None:
    """The network that makes ``states``, and the one that makes its other outputs.

    network: an ONNX model. The first half takes all of the model's inputs and also gives what the
    second reads; the second takes those, and inputs of the model, by the same names.
    None where there is nothing to split off.
    """
    import onnx

    graph = network.graph
    if not set(states) <= {item.name for item in graph.output}:
        return None
    makers = {name: node for node in graph.node for name in node.output}
    first = needed_for(states, makers)
    second = [node for node in graph.node if id(node) not in first]
    rest = [item for item in graph.output if item.name not in states]
    if not second or any(makers.get(item.name) not in second for item in rest):
        return None
    constants = [node for node in graph.node if node.op_type == "Constant" and id(node) in first]
    read = {name for node in second for name in node.input}
    second = [node for node in constants if node.output[0] in read] + second
    made = {name for node in second for name in node.output}
    given = {item.name: item for item in graph.input}
    kinds = onnx.shape_inference.infer_shapes(network).graph
    known = {item.name: item for item in [*kinds.value_info, *kinds.output]}
    crossing = sorted(
        name for name in read - made - set(given) if name in makers and id(makers[name]) in first
    )
    if not all(name in known for name in crossing):
        return None
    state_outputs = [item for item in graph.output if item.name in states]
    handed_on = [known[name] for name in crossing]
    fresh = [item for item in handed_on if item.name not in states]
    return (
        part_of(network, [n for n in graph.node if id(n) in first], graph.input,
                [*state_outputs, *fresh]),
        part_of(network, second, [*handed_on, *(given[name] for name in given if name in read)],
                rest),
    )  # fmt: skip


def needed_for(outputs: tuple[str, ...], makers: dict[str, Any]) -> set[int]:
    """The nodes, by identity, without which the outputs cannot be made."""
    needed: set[int] = set()
    names = list(outputs)
    while names:
        node = makers.get(names.pop())
        if node is not None and id(node) not in needed:
            needed.add(id(node))
            names.extend(node.input)
    return needed


def part_of(network: Any, nodes: list[Any], inputs: Any, outputs: Any) -> bytes:
    """A network of some of a network's nodes, with the weights that they read."""
    from onnx import helper

    read = {name for node in nodes for name in node.input}
    weights = [item for item in network.graph.initializer if item.name in read]
    graph = helper.make_graph(nodes, network.graph.name, list(inputs), list(outputs), weights)
    part = helper.make_model(graph, opset_imports=network.opset_import)
    part.ir_version = network.ir_version
    serialized: bytes = part.SerializeToString()
    return serialized

"""Large constants split off a network's channels, so that bfloat16 stays accurate.

After training some channels are nearly constant: u2netp has one of 228 +- 0.2, and the
convolution that reads it subtracts the same amount again. When two large numbers cancel,
bfloat16 with its 8 bits retains only noise: the alpha is off by 1 to 6 of 255.
Here such a constant is separated from the varying part. In exact arithmetic the network
stays the same.

A convolution gives y = w * x + b with a large b, and relu(y) = max(y - b, -b) + b. So
the channel keeps max(y - b, -b), which is small. The constant b moves to the
convolutions that read it, as weights of added channels that are 1 everywhere: padding
with zeros then stays correct. These weights include the reader's own bias, at the tap
that is never in the padding, and are written as sums of bfloat16 numbers.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

_LARGE_BIAS = 16.0
_NEARLY_CONSTANT = 25.0  # bias against the sum of the channel's absolute weights
_PARTS = 3  # bfloat16 numbers to a float32: 3 times 8 bits
_MOVES = ("Resize", "MaxPool")  # change no constant and no order of channels
_KEEPS_CHANNELS = (*_MOVES, "Relu", "Max", "Add", "Sigmoid", "AveragePool")


@dataclass(frozen=True)
class _Consumer:
    """A convolution, and from which of its input channels on it reads a tensor."""

    node: Any
    first: int


class _Graph:
    """An ONNX graph with its weights by name and the readers of each tensor."""

    def __init__(self, graph: Any) -> None:
        self.proto = graph
        self.weights = {item.name: item for item in graph.initializer}
        self.readers: dict[str, list[Any]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.readers[name].append(node)
        self.outputs = {item.name for item in graph.output}

    def parameters(self, conv: Any) -> tuple[np.ndarray, np.ndarray] | None:
        """Weight (O, I, h, w) and bias (O,) in float64; None where they are not its own."""
        from onnx import numpy_helper

        names = list(conv.input[1:])
        own = len(names) == 2 and all(
            name in self.weights and len(self.readers[name]) == 1 for name in names
        )
        if not own or _attribute(conv, "group", 1) != 1:
            return None
        weight, bias = (numpy_helper.to_array(self.weights[name]) for name in names)
        return (weight.astype(np.float64), bias.astype(np.float64)) if weight.ndim == 4 else None

    def set_parameters(self, conv: Any, weight: np.ndarray, bias: np.ndarray) -> None:
        """Replace both, as float32."""
        from onnx import numpy_helper

        for name, array in zip(conv.input[1:], (weight, bias), strict=True):
            self.weights[name].CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))

    def channels(self) -> dict[str, int]:
        """How many channels each tensor has, as far as the weights show."""
        known: dict[str, int] = {}
        for node in self.proto.node:
            counts = [known.get(name, 0) for name in node.input]
            if node.op_type == "Conv" and node.input[1] in self.weights:
                known[node.output[0]] = self.weights[node.input[1]].dims[0]
            elif node.op_type in _KEEPS_CHANNELS and counts[0]:
                known[node.output[0]] = counts[0]
            elif node.op_type == "Concat" and _attribute(node, "axis", 0) == 1 and all(counts):
                known[node.output[0]] = sum(counts)
        return known

    def convolutions_after(self, tensor: str) -> list[_Consumer] | None:
        """The convolutions that read a tensor; None where anything else may."""
        found: list[_Consumer] = []
        ways = [(tensor, 0)]
        counts = self.channels()
        while ways:
            name, first = ways.pop()
            if name in self.outputs:
                return None
            for node in self.readers[name]:
                if node.op_type == "Concat" and _attribute(node, "axis", 0) == 1:
                    before = list(node.input)[: list(node.input).index(name)]
                    if not all(counts.get(other) for other in before):
                        return None
                    ways.append((node.output[0], first + sum(counts[other] for other in before)))
                elif node.op_type in _MOVES:
                    ways.append((node.output[0], first))
                elif node.op_type == "Conv" and node.input[0] == name and _is_centred(node):
                    found.append(_Consumer(node, first))
                elif node.op_type != "Shape":
                    return None
        return found


def split_offsets(model: bytes) -> bytes:
    """The same network with its large constants split off; unchanged if it has none.

    model: ONNX. It may have been exported with any opset that knows ``Max``.
    """
    import onnx

    network = onnx.load_from_string(model)
    graph = _Graph(network.graph)
    # From the end: a reader's bias is checked before it moves into its weights.
    changed = [_split_offset(graph, node) for node in reversed(network.graph.node)]
    if not any(changed):
        return model
    serialized: bytes = network.SerializeToString()
    return serialized


def _split_offset(graph: _Graph, conv: Any) -> bool:
    """Split off the large constants of one convolution; False where there is none."""
    from onnx import numpy_helper

    if conv.op_type != "Conv" or (own := graph.parameters(conv)) is None:
        return False
    weight, bias = own
    constant = np.where(_is_nearly_constant(weight, bias), bias, 0.0)
    after = graph.readers[conv.output[0]]
    if not constant.any() or [node.op_type for node in after] != ["Relu"]:
        return False
    relu = after[0]
    readers = graph.convolutions_after(relu.output[0])
    if not readers or any(graph.parameters(reader.node) is None for reader in readers):
        return False
    for reader in readers:
        _absorb_constant(graph, reader, constant)
    blank = np.zeros((_PARTS, *weight.shape[1:]))
    ones = np.concatenate([bias - constant, np.ones(_PARTS)])
    graph.set_parameters(conv, np.concatenate([weight, blank]), ones)
    floor = np.concatenate([-constant, np.zeros(_PARTS)]).astype(np.float32)
    name = f"{relu.output[0]}/floor"
    graph.proto.initializer.append(numpy_helper.from_array(floor.reshape(1, -1, 1, 1), name))
    relu.op_type = "Max"
    relu.input.append(name)
    return True


def _absorb_constant(graph: _Graph, reader: _Consumer, constant: np.ndarray) -> None:
    """Give a reading convolution the constants (C,) of its channels, as weights of ones."""
    parameters = graph.parameters(reader.node)
    assert parameters is not None
    weight, bias = parameters
    end = reader.first + len(constant)
    taps = np.einsum("oihw,i->ohw", weight[:, reader.first : end], constant)
    taps[:, weight.shape[2] // 2, weight.shape[3] // 2] += bias
    added = np.stack(_in_bfloat16_parts(taps), axis=1)
    widened = np.concatenate([weight[:, :end], added, weight[:, end:]], axis=1)
    graph.set_parameters(reader.node, widened, np.zeros_like(bias))


def _is_nearly_constant(weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Which channels (O,) are a large bias plus a small varying part."""
    reach = np.abs(weight).sum(axis=(1, 2, 3))
    return np.asarray((bias > _LARGE_BIAS) & (bias > _NEARLY_CONSTANT * reach))


def _in_bfloat16_parts(values: np.ndarray) -> list[np.ndarray]:
    """``_PARTS`` arrays of bfloat16 numbers that add up to ``values`` in float32."""
    parts = []
    for _ in range(_PARTS):
        bits = values.astype(np.float32).view(np.uint32)
        rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
        part = (rounded & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)
        parts.append(part)
        values = values - part
    return parts


def _is_centred(conv: Any) -> bool:
    """Whether the kernel's middle tap is always on a pixel of the picture, never in the padding."""
    shape = _attribute(conv, "kernel_shape", [])
    dilations = _attribute(conv, "dilations", [1] * len(shape))
    pads = _attribute(conv, "pads", [0] * 2 * len(shape))
    reach = [dilation * (size // 2) for size, dilation in zip(shape, dilations, strict=True)]
    odd = bool(shape) and all(size % 2 for size in shape)
    return odd and list(pads) == reach * 2


def _attribute(node: Any, name: str, default: Any) -> Any:
    """An attribute of a node, or ONNX's default where it is not given."""
    from onnx import helper

    for item in node.attribute:
        if item.name == name:
            return helper.get_attribute_value(item)
    return default

"""Networks whose results a test can compute: real ONNX files of a few kilobytes.

They have the inputs and outputs of the model families that they stand for, so the
product runs on them as on real weights, in a thousandth of the time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
#: Steep enough that the subject of scene.py becomes exactly 1 and the ground 0 at 16 bits.
STEEPNESS, THRESHOLD = 100.0, 0.45
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and deviation
STATE_CHANNELS = (16, 20, 40, 64)
DECAYS = (0.5, 0.6, 0.7, 0.8)
ROUNDS = 3_000_000  # iterations of an idle loop: ten seconds or more


def make_salient(
    path: Path,
    size: int | tuple[str, str] = 32,
    *,
    mean: float | tuple[float, ...] = 0.5,
    std: float | tuple[float, ...] = 1.0,
) -> Path:
    """An ISNet-like file: input (1, 3, size, size), alpha (1, 1, size, size), a side output. Of
    size ('height', 'width') the batch is free too, as in MODNet's.

    alpha = sigmoid(100 * (luma - 0.45)) with luma of R'G'B' in 0..1, see
    ``salient_alpha``. The batch is fixed at 1 in the header, as in the published
    files. mean, std: the family's input normalization (ISNet: 0.5 and 1).
    """
    weights = (LUMA * np.array(std, np.float32) * STEEPNESS).reshape(1, 3, 1, 1)
    bias = np.array([STEEPNESS * (float(LUMA @ np.broadcast_to(mean, 3)) - THRESHOLD)], np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "weights", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["output"]),
        helper.make_node("AveragePool", ["output"], ["side"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    is_free = isinstance(size, tuple)
    batch, sides = ("batch", size) if is_free else (1, (size, size))
    half = ("rows", "columns") if is_free else (size // 2, size // 2)
    return save_graph(
        path,
        nodes,
        inputs={"input": (batch, 3, *sides)},
        outputs={"output": (batch, 1, *sides), "side": (batch, 1, *half)},
        constants={"weights": weights, "bias": bias},
        opset=15,
    )


def salient_alpha(rgb: np.ndarray) -> np.ndarray:
    """The output of ``make_salient`` for R'G'B' (..., 3) in 0..1: (...) float32 in 0..1."""
    return (1 / (1 + np.exp(-STEEPNESS * (rgb @ LUMA - THRESHOLD)))).astype(np.float32)


def make_recurrent(path: Path) -> Path:
    """An RVM-like file: src, r1i..r4i, downsample_ratio -> fgr, pha, r1o..r4o.

    Each state remembers the luma of the reduced frame, at the size of RVM's state
    for r1 and as the frame's mean for the others: rKo = d * rKi + (1 - d) * luma
    with d of DECAYS. The states show in the alpha: pha = 0.5 * luma +
    0.125 * (mean of r1i + ... + mean of r4i); fgr = 1 - src. All sizes are dynamic.
    """
    node = helper.make_node
    nodes = [
        node("Conv", ["src", "weights"], ["luma"]),
        node("Concat", ["one", "one", "downsample_ratio", "downsample_ratio"], ["scales"], axis=0),
        node("Resize", ["luma", "", "scales"], ["reduced"], mode="linear"),
        node("AveragePool", ["reduced"], ["map"], kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["reduced"], ["point"]),
    ]
    for number in range(1, 5):
        seen = "map" if number == 1 else "point"
        nodes += [
            node("Expand", [seen, f"shape{number}"], [f"wide{number}"]),
            node("Mul", [f"wide{number}", f"gain{number}"], [f"new{number}"]),
            node("Mul", [f"r{number}i", f"decay{number}"], [f"old{number}"]),
            node("Add", [f"old{number}", f"new{number}"], [f"r{number}o"]),
            node("ReduceMean", [f"r{number}i"], [f"mean{number}"], axes=[1, 2, 3]),
        ]
    nodes += [
        node("Sum", [f"mean{number}" for number in range(1, 5)], ["memory"]),
        node("Mul", ["memory", "eighth"], ["remembered"]),
        node("Mul", ["luma", "half"], ["seen"]),
        node("Add", ["seen", "remembered"], ["pha"]),
        node("Sub", ["one", "src"], ["fgr"]),
    ]
    picture, matte = ("batch_size", 3, "height", "width"), ("batch_size", 1, "height", "width")
    # onnxruntime takes equal dimension names for equal sizes: each state has its own.
    states = {
        f"r{number}{end}": tuple(f"{size}_r{number}{end}" for size in ("n", "c", "h", "w"))
        for end in "io"
        for number in range(1, 5)
    }
    sources = {name: shape for name, shape in states.items() if name.endswith("i")}
    results = {name: shape for name, shape in states.items() if name.endswith("o")}
    constants = {
        "weights": LUMA.reshape(1, 3, 1, 1),
        "one": np.ones(1, np.float32),
        "half": np.full(1, 0.5, np.float32),
        "eighth": np.full(1, 0.125, np.float32),
    }
    for number, (channels, decay) in enumerate(zip(STATE_CHANNELS, DECAYS, strict=True), start=1):
        constants[f"shape{number}"] = np.array([1, channels, 1, 1], np.int64)
        constants[f"decay{number}"] = np.full(1, decay, np.float32)
        constants[f"gain{number}"] = np.full(1, 1 - decay, np.float32)
    return save_graph(
        path,
        nodes,
        inputs={"src": picture, **sources, "downsample_ratio": (1,)},
        outputs={"fgr": picture, "pha": matte, **results},
        constants=constants,
        opset=13,
    )


def make_two_states(path: Path) -> Path:
    """A recurrent network with inputs and outputs unlike RVM's: image, memory_in, trace_in ->
    trace_out, alpha, memory_out; no foreground and no coarse pass.

    image is normalized with mean and deviation 0.5. memory (1, 2, H/4, W/4) remembers the luma
    at a quarter of the frame's size, in its second channel negated, and trace (1, 1, 1, 1) its
    mean: new = 0.5 * old + 0.5 * luma. alpha = 0.5 * luma + 0.25 * (mean of memory_in's first
    channel less its second) / 2 + 0.25 * trace_in. See ``two_states_alphas``.
    """
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "weights", "bias"], ["luma"]),
        node("AveragePool", ["luma"], ["map"], kernel_shape=[4, 4], strides=[4, 4]),
        node("Mul", ["map", "signs"], ["maps"]),
        node("GlobalAveragePool", ["luma"], ["point"]),
        node("Mul", ["point", "half"], ["new_trace"]),
        node("Mul", ["trace_in", "half"], ["old_trace"]),
        node("Add", ["new_trace", "old_trace"], ["trace_out"]),
        node("Mul", ["maps", "half"], ["new_memory"]),
        node("Mul", ["memory_in", "half"], ["old_memory"]),
        node("Add", ["new_memory", "old_memory"], ["memory_out"]),
        node("Mul", ["memory_in", "signs"], ["signed"]),
        node("ReduceMean", ["signed"], ["remembered"], axes=[1, 2, 3]),
        node("Add", ["remembered", "trace_in"], ["both"]),
        node("Mul", ["both", "quarter"], ["past"]),
        node("Mul", ["luma", "half"], ["seen"]),
        node("Add", ["seen", "past"], ["alpha"]),
    ]
    return save_graph(
        path,
        nodes,
        inputs={
            "memory_in": (1, 2, "rows", "columns"),
            "image": (1, 3, "height", "width"),
            "trace_in": (1, 1, 1, 1),
        },
        outputs={
            "trace_out": (1, 1, 1, 1),
            "alpha": (1, 1, "height", "width"),
            "memory_out": (1, 2, "rows", "columns"),
        },
        constants={
            "weights": (LUMA * 0.5).reshape(1, 3, 1, 1),
            "bias": np.full(1, 0.5, np.float32),
            "signs": np.array([1, -1], np.float32).reshape(1, 2, 1, 1),
            "half": np.full(1, 0.5, np.float32),
            "quarter": np.full(1, 0.25, np.float32),
        },
        opset=13,
    )


def two_states_alphas(shots: list[list[np.ndarray]]) -> list[np.ndarray]:
    """The output of ``make_two_states`` for frames of R'G'B' (H, W, 3) in 0..1, shot by shot."""
    alphas = []
    for shot in shots:
        past = 0.0  # memory and trace have the same mean
        for rgb in shot:
            luma = rgb @ LUMA
            alphas.append((0.5 * luma + 0.5 * past).astype(np.float32))
            past = 0.5 * past + 0.5 * float(luma.mean())
    return alphas


def make_wide(path: Path) -> Path:
    """A per-frame network of dynamic height and width that outputs logits: input (B, 3, H, W)
    minus 0.5 -> (B, 1, H, W), 100 * (luma - 0.45)."""
    nodes = [helper.make_node("Conv", ["input", "weights", "bias"], ["output"])]
    return save_graph(
        path,
        nodes,
        inputs={"input": ("batch", 3, "height", "width")},
        outputs={"output": ("batch", 1, "height", "width")},
        constants={
            "weights": (LUMA * STEEPNESS).reshape(1, 3, 1, 1),
            "bias": np.array([STEEPNESS * (0.5 - THRESHOLD)], np.float32),
        },
        opset=15,
    )


def make_classes(path: Path, size: int = 768) -> Path:
    """A network that tells four classes apart, with the input and outputs of u2net_cloth_seg:
    input (1, 3, size, size) with ImageNet's mean and deviation -> logits (1, 4, size, size), and a
    side output. Class 0 is 0, the others are 100 * (R'G'B' - 0.45), a channel each.
    """
    mean, std = (np.array(values, np.float32) for values in IMAGENET)
    weights = np.zeros((4, 3, 1, 1), np.float32)
    for channel in range(3):
        weights[channel + 1, channel] = STEEPNESS * std[channel]
    bias = np.concatenate([[0], STEEPNESS * (mean - THRESHOLD)]).astype(np.float32)
    return save_graph(
        path,
        [
            helper.make_node("Conv", ["input", "weights", "bias"], ["logits"]),
            helper.make_node("Identity", ["logits"], ["d0"]),
            helper.make_node("Sigmoid", ["d0"], ["d1"]),
        ],
        inputs={"input": (1, 3, size, size)},
        outputs={"d0": (1, 4, size, size), "d1": (1, 4, size, size)},
        constants={"weights": weights, "bias": bias},
        opset=15,
    )


class RecurrentReference:
    """``make_recurrent`` in numpy, one frame after the other."""

    def __init__(self) -> None:
        self.means = [0.0] * len(DECAYS)

    def reset(self) -> None:
        """Forget everything, as at the start of a shot."""
        self.means = [0.0] * len(DECAYS)

    def step(self, rgb: np.ndarray) -> np.ndarray:
        """R'G'B' (H, W, 3) in 0..1 -> alpha (H, W) float32 in 0..1.

        Exact for a ratio of 1 and even sizes; else the pooled means differ a little.
        """
        luma = rgb @ LUMA
        alpha = 0.5 * luma + 0.125 * sum(self.means)
        now = float(luma.mean())
        self.means = [
            decay * mean + (1 - decay) * now for decay, mean in zip(DECAYS, self.means, strict=True)
        ]
        return alpha.astype(np.float32)


def slowed(path: Path, value: str, out: Path) -> Path:
    """A copy of a network in which ``value`` passes through a long ONNX Loop."""
    model = onnx.load(str(path))
    maker = next(node for node in model.graph.node if value in node.output)
    maker.output[list(maker.output).index(value)] = f"{value}/soon"

    def values(end: str) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(f"on{end}", TensorProto.BOOL, []),
            helper.make_tensor_value_info(f"x{end}", TensorProto.FLOAT, None),
        ]

    nodes = [
        helper.make_node("Identity", ["on"], ["on/next"]),
        helper.make_node("Neg", ["x"], ["x/next"]),
    ]
    count = helper.make_tensor_value_info("round", TensorProto.INT64, [])
    body = helper.make_graph(nodes, "round", [count, *values("")], values("/next"))
    loop = helper.make_node("Loop", ["rounds", "", f"{value}/soon"], [value], body=body)
    model.graph.node.insert(list(model.graph.node).index(maker) + 1, loop)
    model.graph.initializer.append(helper.make_tensor("rounds", TensorProto.INT64, [], [ROUNDS]))
    onnx.checker.check_model(model)
    onnx.save(model, str(out))
    return out


def save_graph(
    path: Path,
    nodes: list[onnx.NodeProto],
    *,
    inputs: dict[str, tuple[int | str, ...]],
    outputs: dict[str, tuple[int | str, ...]],
    constants: dict[str, np.ndarray],
    opset: int,
) -> Path:
    """Check and write a graph whose inputs and outputs are float32."""

    def values(shapes: dict[str, tuple[int | str, ...]]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
        ]

    graph = helper.make_graph(
        nodes,
        path.stem,
        values(inputs),
        values(outputs),
        initializer=[numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return path

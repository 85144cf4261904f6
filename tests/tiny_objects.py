"""Tiny graphs with the published inputs and outputs of Cutie and EfficientSAM.

Cutie's find an object by its colour: a cell's key is its mean colour, and the memory gives each
cell the mask of the remembered cells that look like it. EfficientSAM's draws discs around points.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper
from tiny_onnx import save_graph

CELL, SLOTS, CHANNELS = 4, 6, 4  # pixels of a cell; the published graphs have 16
SAM_SIDE, SAM_RADII, SAM_SCORES = 64, (30.0, 20.0, 10.0), (0.5, 0.9, 0.7)
_node = helper.make_node
_Shapes = dict[str, tuple[int | str, ...]]


def make_cutie(folder: Path, width: int = 96, height: int = 64, seed: int = 0) -> Path:
    """The four files, named as the published ones, in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = (height // CELL, width // CELL)
    random, size = np.random.default_rng(seed), f"{width}x{height}"
    picture, state = (1, 3, height, width), (1, 1, CHANNELS, *cells)
    mask = (1, 1, height, width)
    _encode_key(folder / f"cutie-encode-key-{size}.onnx", picture, cells, random)
    _encode_value(folder / f"cutie-encode-value-{size}.onnx", picture, mask, state)
    readout = f"cutie-memory-readout-floatmask-valid-{size}-m{SLOTS}-topk30-opencv.onnx"
    _readout(folder / readout, mask, state)
    _decode(folder / f"cutie-decode-{size}.onnx", mask, state)
    return folder


def _encode_key(
    path: Path, picture: tuple[int, ...], cells: tuple[int, int], random: np.random.Generator
) -> None:
    pooled = {"kernel_shape": [CELL, CELL], "strides": [CELL, CELL]}
    nodes = [
        _node("AveragePool", ["image"], ["key"], **pooled),
        _node("Conv", ["key", "mixed"], ["pix_feat"]),
        _node("Relu", ["pix_feat"], ["f16"]),
        _node("Sigmoid", ["pix_feat"], ["f8"]),
        _node("Tanh", ["pix_feat"], ["f4"]),
        _node("ReduceMean", ["f8"], ["small"], axes=[1]),
        _node("Add", ["small", "one"], ["shrinkage"]),
        _node("Sigmoid", ["key"], ["selection"]),
    ]
    wide, narrow, colour = (1, CHANNELS, *cells), (1, 1, *cells), (1, 3, *cells)
    outputs: _Shapes = {"f16": wide, "f8": wide, "f4": wide, "pix_feat": wide}
    outputs |= {"key": colour, "shrinkage": narrow, "selection": colour}
    mixed = random.normal(size=(CHANNELS, 3, 1, 1)).astype(np.float32)
    constants = {"mixed": mixed, "one": np.float32([1])}
    save_graph(
        path, nodes, inputs={"image": picture}, outputs=outputs, constants=constants, opset=13
    )


def _encode_value(
    path: Path, picture: tuple[int, ...], mask: tuple[int, ...], state: tuple[int, ...]
) -> None:
    """mask_value: the mask's cells in all channels; new_sensory: half the old and the mask's."""
    pooled = {"kernel_shape": [CELL, CELL], "strides": [CELL, CELL]}
    flat = (1, CHANNELS, *state[3:])
    nodes = [
        _node("AveragePool", ["mask"], ["cells"], **pooled),
        _node("Unsqueeze", ["cells", "second"], ["cells5"]),
        _node("Expand", ["cells5", "full"], ["mask_value"]),
        _node("Sub", ["mask_value", "sensory"], ["change"]),
        _node("Mul", ["change", "half"], ["step"]),
        _node("Add", ["sensory", "step"], ["new_sensory"]),
        _node("ReduceMean", ["image"], ["light"], axes=[2, 3], keepdims=1),
        _node("ReduceMean", ["pix_feat"], ["look"], axes=[1, 2, 3], keepdims=1),
        _node("ReduceSum", ["cells"], ["area"], keepdims=1),
        _node("Mul", ["light", "look"], ["seen"]),
        _node("ReduceMean", ["seen"], ["summary"], axes=[1], keepdims=1),
        _node("Expand", ["summary", "many"], ["sums"]),
        _node("Expand", ["area", "one_each"], ["areas"]),
        _node("Concat", ["sums", "areas"], ["object_memory"], axis=3),
    ]
    constants = {
        "second": np.int64([2]),
        "full": np.int64(state),
        "half": np.float32([0.5]),
        "many": np.int64([1, 1, 16, CHANNELS]),
        "one_each": np.int64([1, 1, 16, 1]),
    }
    save_graph(
        path,
        nodes,
        inputs={"image": picture, "pix_feat": flat, "sensory": state, "mask": mask},
        outputs={
            "mask_value": state,
            "new_sensory": state,
            "object_memory": (1, 1, 16, CHANNELS + 1),
        },
        constants=constants,
        opset=13,
    )


def _readout(path: Path, mask: tuple[int, ...], state: tuple[int, ...]) -> None:
    """Softmax over the valid remembered cells of -2000 |colour difference|^2 x shrinkage."""
    rows, columns = state[3:]
    count, there = SLOTS * rows * columns, rows * columns
    nodes = [
        _node("Reshape", ["memory_key", "key_shape"], ["k"]),  # (3, N, 1)
        _node("Reshape", ["query_key", "query_shape"], ["q"]),  # (3, 1, P)
        _node("Reshape", ["query_selection", "query_shape"], ["chosen"]),
        _node("Sub", ["k", "q"], ["apart"]),
        _node("Mul", ["apart", "apart"], ["square"]),
        _node("Mul", ["square", "chosen"], ["weighed"]),
        _node("ReduceSum", ["weighed", "first"], ["distance"], keepdims=0),  # (N, P)
        _node("Reshape", ["memory_shrinkage", "column"], ["sharpness"]),
        _node("Mul", ["distance", "sharpness"], ["unlike"]),
        _node("Mul", ["unlike", "gain"], ["similarity"]),
        _node("Reshape", ["memory_valid", "column"], ["valid"]),
        _node("Sub", ["valid", "one"], ["invalid"]),
        _node("Mul", ["invalid", "much"], ["masked"]),
        _node("Add", ["similarity", "masked"], ["logits"]),
        _node("Softmax", ["logits"], ["affinity"], axis=0),
        _node("Reshape", ["memory_value", "value_shape"], ["values"]),  # (C, N)
        _node("MatMul", ["values", "affinity"], ["read"]),
        _node("Reshape", ["read", "state_shape"], ["found"]),
        *_small_share(["object_memory", "pix_feat", "sensory", "last_mask"]),
        _node("Add", ["found", "share"], ["memory_readout"]),
    ]
    constants = {
        "key_shape": np.int64([3, count, 1]),
        "query_shape": np.int64([3, 1, there]),
        "column": np.int64([count, 1]),
        "value_shape": np.int64([CHANNELS, count]),
        "state_shape": np.int64(state),
        "first": np.int64([0]),
        "gain": np.float32([-2000]),
        "one": np.float32([1]),
        "much": np.float32([10000]),
        "little": np.float32([1e-6]),
    }
    narrow = (1, 1, SLOTS, rows, columns)
    inputs: _Shapes = {"query_key": (1, 3, rows, columns), "query_selection": (1, 3, rows, columns)}
    inputs |= {"memory_key": (1, 3, SLOTS, rows, columns), "memory_shrinkage": narrow}
    inputs |= {"memory_value": (1, 1, CHANNELS, SLOTS, rows, columns), "memory_valid": narrow}
    inputs |= {"object_memory": (1, 1, 1, 16, CHANNELS + 1), "sensory": state, "last_mask": mask}
    inputs |= {"pix_feat": (1, CHANNELS, rows, columns)}
    outputs = {"memory_readout": state}
    save_graph(path, nodes, inputs=inputs, outputs=outputs, constants=constants, opset=13)


def _small_share(names: list[str]) -> list:
    """Nodes that make ``share`` of the mean of each: these inputs affect the result, a little."""
    means = [_node("ReduceMean", [name], [f"{name}_mean"], keepdims=0) for name in names]
    total = _node("Sum", [f"{name}_mean" for name in names], ["means"])
    return [*means, total, _node("Mul", ["means", "little"], ["share"])]


def _decode(path: Path, mask: tuple[int, ...], state: tuple[int, ...]) -> None:
    """prob: the first channel, enlarged; without f16, which the published export has dropped."""
    flat = (1, CHANNELS, *state[3:])
    nodes = [
        _node("Slice", ["memory_readout", "start", "stop", "channel"], ["cells5"]),
        _node("Squeeze", ["cells5", "channel"], ["cells"]),
        _node("Resize", ["cells", "", "scales"], ["wide"], mode="linear"),
        *_small_share(["f8", "f4"]),
        _node("Add", ["wide", "share"], ["raw"]),
        _node("Clip", ["raw", "zero", "one"], ["object"]),
        _node("Sub", ["one", "object"], ["ground"]),
        _node("Concat", ["ground", "object"], ["prob"], axis=1),
        _node("Identity", ["prob"], ["logits"]),
        _node("Sum", ["sensory", "memory_readout"], ["both"]),
        _node("Mul", ["both", "half"], ["new_sensory"]),
    ]
    constants = {
        "start": np.int64([0]),
        "stop": np.int64([1]),
        "channel": np.int64([2]),
        "scales": np.float32([1, 1, CELL, CELL]),
        "zero": np.float32(0),
        "one": np.float32(1),
        "half": np.float32([0.5]),
        "little": np.float32([1e-6]),
    }
    two = (1, 2, *mask[2:])
    save_graph(
        path,
        nodes,
        inputs={"f8": flat, "f4": flat, "memory_readout": state, "sensory": state},
        outputs={"new_sensory": state, "logits": two, "prob": two},
        constants=constants,
        opset=13,
    )


def make_efficient_sam(folder: Path) -> Path:
    """Its one file in ``folder``: three masks of discs around the points and box corners, whose
    radii and scores are SAM_RADII and SAM_SCORES."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0:SAM_SIDE, 0:SAM_SIDE].astype(np.float32)
    grid = np.stack([x, y], -1)[None, None]  # (1, 1, S, S, 2)
    nodes = [
        _node("Reshape", ["batched_point_coords", "slots"], ["places"]),
        _node("Sub", ["grid", "places"], ["apart"]),  # (1, 6, S, S, 2)
        _node("Mul", ["apart", "apart"], ["square"]),
        _node("ReduceSum", ["square", "last"], ["distance"], keepdims=0),  # (1, 6, S, S)
        _node("Reshape", ["batched_point_labels", "column"], ["labels"]),  # (1, 6, 1, 1)
        _node("Relu", ["labels"], ["used"]),
        _node("Clip", ["used", "zero", "one"], ["is_used"]),
        _node("Sub", ["one", "is_used"], ["unused"]),
        _node("Mul", ["unused", "much"], ["beyond"]),
        _node("Add", ["distance", "beyond"], ["counted"]),
        _node("ReduceMin", ["counted"], ["nearest"], axes=[1], keepdims=1),  # (1, 1, S, S)
        _node("ReduceMean", ["batched_images"], ["light"], keepdims=0),
        _node("Mul", ["light", "little"], ["share"]),
        _node("Add", ["nearest", "share"], ["seen"]),
        _node("Sub", ["squares", "seen"], ["masks"]),  # (1, 3, S, S)
        _node("Unsqueeze", ["masks", "second"], ["output_masks"]),
        _node("Identity", ["scores"], ["iou_predictions"]),
    ]
    constants = {
        "grid": grid,
        "slots": np.int64([1, 6, 1, 1, 2]),
        "last": np.int64([-1]),
        "column": np.int64([1, 6, 1, 1]),
        "zero": np.float32(0),
        "one": np.float32(1),
        "much": np.float32([1e6]),
        "little": np.float32([1e-3]),
        "second": np.int64([1]),
        "squares": np.square(np.float32(SAM_RADII)).reshape(1, 3, 1, 1),
        "scores": np.float32(SAM_SCORES).reshape(1, 1, 3),
    }
    return save_graph(
        folder / "image_segmentation_efficientsam_ti_2025april.onnx",
        nodes,
        inputs={
            "batched_images": (1, 3, SAM_SIDE, SAM_SIDE),
            "batched_point_coords": (1, 1, 6, 2),
            "batched_point_labels": (1, 1, 6, 1),
        },
        outputs={
            "output_masks": (1, 1, 3, SAM_SIDE, SAM_SIDE),
            "iou_predictions": (1, 1, 3),
        },
        constants=constants,
        opset=13,
    )

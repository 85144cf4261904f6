"""Graphs split: a recurrent network in two, the same as unsplit and in order; and convolutions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from test_network import noise_frames
from tiny_onnx import make_recurrent, make_salient

from vidmatte.core.concurrency import map_in_order
from vidmatte.core.families import FAMILY_TABLE
from vidmatte.core.frame import Frame
from vidmatte.errors import ModelError
from vidmatte.models.load import load_network
from vidmatte.models.runtimes import graph_split
from vidmatte.models.runtimes.device import CpuRunner, Device
from vidmatte.models.runtimes.graph_split import (
    split_after_downsampling,
    split_at_states,
    split_before_refinement,
    split_concat_convs,
    split_wide_joins,
)
from vidmatte.models.runtimes.onnx_file import load_onnx, recurrence_of
from vidmatte.models.runtimes.onnx_loader import _loaded_network, _open_session
from vidmatte.models.rvm import RecurrentNetwork
from vidmatte.settings import Settings

RVM = FAMILY_TABLE["rvm"]
NAMES = recurrence_of(RVM)


def unsplit(path: Path) -> RecurrentNetwork:
    session = _open_session(path, path.read_bytes(), Device(), 1)
    return RecurrentNetwork(_loaded_network(session, Device()).runner, RVM)


def results(network: RecurrentNetwork, frames: list[Frame]) -> list[Frame]:
    return list(network.predict(iter(frames)))


def shot(count: int = 7) -> list[Frame]:
    """Noise with a cut, so that every pixel of the refinement is tested."""
    frames = noise_frames(count, (90, 160))
    frames[4].new_shot = True
    return frames


def assert_alike(actual: list[Frame], expected: list[Frame]) -> None:
    """Equal up to float rounding."""
    for frame, reference in zip(actual, expected, strict=True):
        np.testing.assert_allclose(frame.alpha, reference.alpha, atol=1e-4)
        off = np.abs(frame.foreground.astype(int) - reference.foreground)
        assert off.max() <= 1, "only values between two codes may round differently"
        assert (off > 0).mean() < 1e-3


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_both_halves_together_equal_the_unsplit_network(
    threads: int, weights: Callable[[str], Path]
) -> None:
    path = weights("rvm")
    network = load_network(path, "rvm", Settings(threads=threads), Device())
    assert "at once" in network.description
    expected = results(unsplit(path), shot())
    actual = results(network, shot())
    assert [frame.index for frame in actual] == list(range(7))
    assert_alike(actual, expected)


@pytest.mark.parametrize("size", [(90, 161), (291, 517), (360, 640)])
def test_frames_are_downsampled_as_in_the_network(
    size: tuple[int, int], weights: Callable[[str], Path]
) -> None:
    path = weights("rvm")
    for ratio in (0.0, 0.37):
        network = load_network(path, "rvm", Settings(downsample=ratio), Device())
        session = _open_session(path, path.read_bytes(), Device(), 1)
        reference = RecurrentNetwork(_loaded_network(session, Device()).runner, RVM, ratio)
        frames = [noise_frames(2, size) for _ in range(2)]
        assert_alike(results(network, frames[0]), results(reference, frames[1]))


def test_a_half_with_another_refinement_runs_unsplit(
    weights: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = weights("rvm")
    monkeypatch.setattr(graph_split, "split_before_refinement", lambda half, names: None)
    network = load_network(path, "rvm", Settings(threads=2), Device())
    assert_alike(results(network, shot()), results(unsplit(path), shot()))


def test_only_rvms_own_refinement_is_split_off(weights: Callable[[str], Path]) -> None:
    split = split_at_states(load_onnx(weights("rvm")), NAMES.state_outputs)
    assert split is not None
    assert split_before_refinement(split[1], NAMES) is not None
    other_resize = onnx.load_from_string(split[1])
    for node in other_resize.graph.node:
        for item in node.attribute:
            if item.name == "coordinate_transformation_mode":
                item.s = b"align_corners"
    assert split_before_refinement(other_resize.SerializeToString(), NAMES) is None
    other_sum = onnx.load_from_string(split[1])
    for node in other_sum.graph.node:
        if node.op_type == "Add":
            node.op_type = "Sub"
    assert split_before_refinement(other_sum.SerializeToString(), NAMES) is None


def test_only_a_first_step_that_downsamples_is_split_off(
    weights: Callable[[str], Path],
) -> None:
    split = split_at_states(load_onnx(weights("rvm")), NAMES.state_outputs)
    assert split is not None
    cut = split_after_downsampling(split[0], "src")
    assert cut is not None
    names = {item.name for item in onnx.load_from_string(cut[0]).graph.input}
    assert cut[1] in names
    assert "src" not in names
    read_twice = onnx.load_from_string(split[0])
    read_twice.graph.node.append(onnx.helper.make_node("Identity", ["src"], ["again"]))
    assert split_after_downsampling(read_twice.SerializeToString(), "src") is None


def test_awkward_convolutions_are_split_and_no_others(weights: Callable[[str], Path]) -> None:
    def widths(network: onnx.ModelProto) -> list[int]:
        kernels = {item.name: item.dims[1:2] for item in network.graph.initializer}
        return [
            width
            for node in network.graph.node
            if node.op_type == "Conv"
            for width in kernels[node.input[1]]
        ]

    network = load_onnx(weights("rvm"))
    before = widths(network)
    awkward = [width for width in before if width > 16 and width % 4]
    assert awkward == [171, 107, 59, 35]
    split_concat_convs(network)
    onnx.checker.check_model(network)
    parts = [part for width in awkward for part in (width - 3, 3)]
    others = [width for width in before if width not in awkward]
    assert sorted(widths(network)) == sorted(others + parts)


def joining_network(left: int, right: int, **last: int) -> onnx.ModelProto:
    """Two convolutions with these channels, joined, and 40 channels of both."""
    values = np.random.default_rng(6).normal(0, 0.2, (200, 200, 3, 3)).astype(np.float32)
    inputs = (left + right) // last.get("group", 1)
    kernels = {"a": values[:left, :3], "b": values[:right, 3:6], "c": values[:40, :inputs]}
    weights = [onnx.numpy_helper.from_array(part, name) for name, part in kernels.items()]
    make, same = onnx.helper.make_node, {"pads": [1, 1, 1, 1]}
    nodes = [
        make("Conv", ["x", "a"], ["left"], **same),
        make("Conv", ["x", "b"], ["bare"], **same),
        make("Relu", ["bare"], ["right"]),
        make("Concat", ["left", "right"], ["both"], axis=1),
        make("Conv", ["both", "c"], ["out"], **same, **last),
    ]
    given, made = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, channels, 16, 24])
        for name, channels in (("x", 3), ("out", 40))
    )
    graph = onnx.helper.make_graph(nodes, "joined", [given], [made], weights)
    opset = onnx.helper.make_opsetid("", 13)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)


def test_a_wide_join_is_split_and_gives_the_same() -> None:
    network = joining_network(32, 48)
    picture = {"x": np.random.default_rng(7).random((1, 3, 16, 24), np.float32)}
    path = Path("joined.onnx")
    before, after = (
        CpuRunner(_open_session(path, model, Device(), 1)).run(picture)["out"]
        for model in (network.SerializeToString(), _split(network).SerializeToString())
    )
    onnx.checker.check_model(network)
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert before.std() > 0.1
    assert "Concat" not in {node.op_type for node in network.graph.node}
    assert {item.name for item in network.graph.initializer} & {"a", "b", "c"} == {"a", "b"}


def _split(network: onnx.ModelProto) -> onnx.ModelProto:
    split_wide_joins(network.graph)
    return network


@pytest.mark.parametrize(("left", "right", "group"), [(16, 64, 1), (64, 16, 1), (40, 40, 2)])
def test_narrow_and_grouped_joins_stay(left: int, right: int, group: int) -> None:
    network = joining_network(left, right, group=group)
    assert len(_split(network).graph.node) == 5


def test_only_the_first_half_has_the_state(weights: Callable[[str], Path]) -> None:
    split = split_at_states(load_onnx(weights("rvm")), NAMES.state_outputs)
    assert split is not None
    first, second = (onnx.load_from_string(half).graph for half in split)
    assert {item.name for item in first.output} >= set(NAMES.state_outputs)
    assert [item.name for item in second.output] == ["fgr", "pha"]
    passed = {item.name for item in second.input} - {"src"}
    assert passed <= {item.name for item in first.output}
    assert len(first.node) > len(second.node) > 20


def test_a_network_without_states_is_not_split(tmp_path: Path) -> None:
    path = make_salient(tmp_path / "tiny.onnx")
    assert split_at_states(load_onnx(path), NAMES.state_outputs) is None
    with pytest.raises(ModelError, match="not of the family rvm"):
        load_network(path, "rvm", Settings(), Device())


def test_no_more_frames_are_in_flight_than_its_batch(tmp_path: Path) -> None:
    network = load_network(
        make_recurrent(tmp_path / "tiny.onnx"), "rvm", Settings(threads=3), Device()
    )
    taken = 0

    def counted() -> Iterator[Frame]:
        nonlocal taken
        for frame in noise_frames(12):
            taken += 1
            yield frame

    for given, _ in enumerate(network.predict(counted())):
        assert taken - given <= network.batch


def test_cancelling_reaches_every_running_run(weights: Callable[[str], Path]) -> None:
    session = _open_session(weights("isnet"), weights("isnet").read_bytes(), Device(), 1)
    runner = CpuRunner(session, streams=2)
    picture = {session.get_inputs()[0].name: np.zeros((1, 3, 1024, 1024), np.float32)}
    errors: list[Exception] = []

    def run() -> None:
        try:
            runner.run(picture)
        except Exception as error:  # noqa: BLE001 (onnxruntime has one class per failure)
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        runner.cancel()
        time.sleep(0.01)
    assert len(errors) == 2


def test_map_in_order_raises_the_failure_and_takes_no_more_items() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    def work(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number

    got: list[int] = []
    with pytest.raises(ValueError, match="five"):
        got.extend(map_in_order(work, items(), 3))
    assert got == [] or got == [0, 1, 2, 3, 4]
    assert len(taken) <= 9

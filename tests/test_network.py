"""The networks against simple reference implementations with the same weights and pictures."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_onnx import (
    RecurrentReference,
    make_recurrent,
    make_salient,
    salient_alpha,
    save_graph,
)
from tolerance import EXACT, SAME_LOOP, SAME_NETWORK, SAME_SUMS, assert_close

from vidmatte.core.families import FAMILY_TABLE, CoarsePass, InputSize
from vidmatte.core.frame import Frame
from vidmatte.errors import DeviceError, ModelError, UsageError
from vidmatte.models.augment import _ALTERNATING, View, views_of
from vidmatte.models.load import load_network
from vidmatte.models.registry import choose_model
from vidmatte.models.runtimes import torch_device
from vidmatte.models.runtimes.device import (
    Arrays,
    CpuRunner,
    Device,
    Runner,
)
from vidmatte.models.runtimes.multi_gpu import SharedRunner
from vidmatte.models.runtimes.onnx_loader import _batchable, load_runner
from vidmatte.models.runtimes.openvino import is_installed
from vidmatte.models.runtimes.torch_device import TorchDevice, _SeveralDevices, choose_device
from vidmatte.models.rvm import RecurrentNetwork
from vidmatte.models.segmentation import SegmentationNetwork, merge_mirrored
from vidmatte.settings import Settings

RUNTIMES = [
    "onnxruntime",
    pytest.param(
        "openvino",
        marks=pytest.mark.skipif(not is_installed(), reason="openvino is not installed"),
    ),
]
COARSE = CoarsePass("downsample_ratio", side=512, least_side=6)
#: The GPU's runner is the one bound to torch; on torch's CPU device it is the same code.
RUNNERS = ["numpy", pytest.param("torch", marks=pytest.mark.torch)]
STATES = (1, 2, 3, 4)  # of a recurrent network
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NORMALIZATION = {"isnet": (1024, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)), "u2netp": (320, *IMAGENET)}


def frame_of(rgb: np.ndarray, index: int = 0, new_shot: bool = False) -> Frame:
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    return Frame(index, index, 1, Fraction(1, 25), picture, rgb, new_shot=new_shot)


def pictures_of(path: Path, numbers: list[int]) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    return [decoded[number].to_ndarray(format="rgb24") for number in numbers]


def alphas_of(network: object, frames: list[Frame]) -> list[np.ndarray]:
    return [frame.alpha.copy() for frame in network.predict(iter(frames))]


def rembg_alpha(session: onnxruntime.InferenceSession, rgb: np.ndarray, name: str) -> np.ndarray:
    """As rembg: divide by the picture's own maximum, normalise, run at batch 1, stretch by
    the output's extremes, 8 bits, resize back."""
    size, mean, std = NORMALIZATION[name]
    small = cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA).astype(np.float64)
    scaled = (small / max(small.max(), 1e-6) - np.array(mean)) / np.array(std)
    inputs = scaled.transpose(2, 0, 1)[None].astype(np.float32)
    output = session.run(None, {session.get_inputs()[0].name: inputs})[0][0, 0]
    stretched = (output - output.min()) / (output.max() - output.min())
    coded = np.round(stretched * 255).astype(np.uint8)
    height, width = rgb.shape[:2]
    return cv2.resize(coded, (width, height), interpolation=cv2.INTER_LANCZOS4) / np.float32(255)


@pytest.mark.parametrize(("name", "family"), [("u2netp", "u2net"), ("isnet", "isnet")])
@pytest.mark.thinned(2)
def test_segmentation_networks_agree_with_rembg(
    name: str, family: str, weights: Callable[[str], Path], bigbuckbunny: Path
) -> None:
    path = weights(name)
    network = load_network(path, family, Settings(normalize="minmax", smooth="off"), Device())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for rgb in pictures_of(bigbuckbunny, [70]):
        alpha = alphas_of(network, [frame_of(rgb)])[0]
        assert 0.02 < alpha.mean() < 0.9, "the network found no subject: nothing is compared"
        assert_close(alpha, rembg_alpha(session, rgb, name), SAME_NETWORK)


def test_rvm_agrees_with_a_bare_loop(weights: Callable[[str], Path], bigbuckbunny: Path) -> None:
    path = weights("rvm")
    pictures = pictures_of(bigbuckbunny, [60, 61, 62, 63])
    frames = [frame_of(rgb, index, index == 0) for index, rgb in enumerate(pictures)]
    network = load_network(path, "rvm", Settings(), Device())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    state = [np.zeros((1, 1, 1, 1), np.float32)] * 4
    for frame, rgb in zip(network.predict(iter(frames)), pictures, strict=True):
        inputs = {
            "src": (rgb.astype(np.float32) / 255).transpose(2, 0, 1)[None],
            "downsample_ratio": np.array([COARSE.ratio(1280, 720)], np.float32),
        }
        inputs |= {f"r{number}i": value for number, value in enumerate(state, 1)}
        foreground, alpha, *state = session.run(None, inputs)
        assert_close(frame.alpha, np.clip(alpha[0, 0], 0, 1), SAME_LOOP)
        colours = np.clip(np.rint(foreground[0].transpose(1, 2, 0) * 255), 0, 255)
        assert_close(frame.foreground, colours.astype(np.uint8), SAME_LOOP)


def noise_frames(count: int, size: tuple[int, int] = (40, 56)) -> list[Frame]:
    rng = np.random.default_rng(3)
    return [
        frame_of(rng.integers(0, 256, (*size, 3), np.uint8), index, index == 0)
        for index in range(count)
    ]


def test_a_batch_equals_single_runs(weights: Callable[[str], Path]) -> None:
    path = weights("u2netp")
    single = load_network(path, "u2net", Settings(batch=1), Device())
    batched = load_network(path, "u2net", Settings(batch=2), Device())
    expected = alphas_of(single, noise_frames(3))
    for one, following in pairwise(expected):
        assert np.abs(one - following).max() > 10 * SAME_SUMS.worst, (
            "swapped frames would go unnoticed"
        )
    for alpha, alone in zip(alphas_of(batched, noise_frames(3)), expected, strict=True):
        assert_close(alpha, alone, SAME_SUMS)


def test_the_networks_alpha_is_unchanged_unless_minmax_stretches_it(tmp_path: Path) -> None:
    path = make_salient(tmp_path / "tiny.onnx")
    grey = np.full((64, 64, 3), 114, np.uint8)  # just below the threshold: alpha about 0.4
    grey[:32] += 1
    network = load_network(path, "isnet", Settings(), Device())
    alpha = alphas_of(network, [frame_of(grey)])[0]
    expected = salient_alpha(np.array([[[114 / 255] * 3], [[115 / 255] * 3]], np.float32))
    assert abs(alpha[60, 5] - expected[0, 0]) < 1e-3
    assert abs(alpha[2, 5] - expected[1, 0]) < 1e-3
    stretching = load_network(path, "isnet", Settings(normalize="minmax"), Device())
    stretched = alphas_of(stretching, [frame_of(grey)])[0]
    assert stretched.min() == 0.0
    assert stretched.max() == 1.0


def test_an_empty_scene_stays_empty(weights: Callable[[str], Path]) -> None:
    rng = np.random.default_rng(0)
    grey = np.clip(rng.normal(128, 3, (360, 640, 3)), 0, 255).astype(np.uint8)
    network = load_network(weights("u2netp"), "u2net", Settings(), Device())
    assert alphas_of(network, [frame_of(grey)])[0].mean() < 0.005


def test_strong_runs_two_views_and_averages_them(tmp_path: Path) -> None:
    path = make_salient(tmp_path / "tiny.onnx")
    settings = Settings(smooth="strong", runtime="onnxruntime")
    strong = load_network(path, "isnet", settings, Device())
    frames = noise_frames(3)
    found = alphas_of(strong, frames)
    runner = load_runner(path, Device(), 1, outputs=1).runner
    for frame, alpha in zip(frames, found, strict=True):
        mean = merge_mirrored(*(output_of(runner, view, frame) for view in views_of(frame, "both")))
        np.testing.assert_allclose(alpha, enlarged(mean, alpha), atol=1e-4)
        assert not frame.mirrored


def output_of(runner: Runner, view: View, frame: Frame) -> np.ndarray:
    """A tiny ISNet's matte of a frame in one view, mapped back to the frame."""
    shown = view.apply(frame.rgb, 32, 32).astype(np.float32) / 255 - 0.5
    alpha = runner.run({"input": shown.transpose(2, 0, 1)[None]})["output"][0, 0]
    return np.ascontiguousarray(view.undo(alpha))


def enlarged(small: np.ndarray, like: np.ndarray) -> np.ndarray:
    """A small network's matte at the size of another array."""
    size = like.shape[::-1]
    return np.clip(cv2.resize(small, size, interpolation=cv2.INTER_CUBIC), 0, 1)


def test_the_state_is_reset_at_a_cut_and_carried_within_a_shot(tmp_path: Path) -> None:
    network = load_network(make_recurrent(tmp_path / "tiny.onnx"), "rvm", Settings(), Device())
    frames = noise_frames(6)
    frames[3].new_shot = True
    reference = RecurrentReference()
    for frame in network.predict(iter(frames)):
        if frame.new_shot:
            reference = RecurrentReference()
        alpha = reference.step(frame.rgb.astype(np.float32) / 255)
        np.testing.assert_allclose(frame.alpha, alpha, atol=1e-4)


@pytest.mark.parametrize("kind", RUNNERS)
def test_unknown_inputs_are_ignored(kind: str, tmp_path: Path) -> None:
    session = onnxruntime.InferenceSession(
        str(make_salient(tmp_path / "tiny.onnx")), providers=["CPUExecutionProvider"]
    )
    runner = TorchDevice("cpu").runner(session) if kind == "torch" else CpuRunner(session)
    given = {"input": np.zeros((1, 3, 32, 32), np.float32), "other": np.zeros(1, np.float32)}
    assert runner.run(given)["output"].shape == (1, 1, 32, 32)


@pytest.mark.torch
def test_both_runners_agree(weights: Callable[[str], Path]) -> None:
    session = onnxruntime.InferenceSession(str(weights("rvm")), providers=["CPUExecutionProvider"])
    rvm = FAMILY_TABLE["rvm"]
    expected = alphas_of(RecurrentNetwork(CpuRunner(session), rvm), noise_frames(3, (96, 128)))
    bound = RecurrentNetwork(TorchDevice("cpu").runner(session), rvm)
    for one, other in zip(alphas_of(bound, noise_frames(3, (96, 128))), expected, strict=True):
        assert_close(one, other, SAME_LOOP)


@pytest.mark.torch
def test_kept_outputs_stay_on_the_device_and_are_fed_back(tmp_path: Path) -> None:
    import torch

    session = onnxruntime.InferenceSession(
        str(make_recurrent(tmp_path / "tiny.onnx")), providers=["CPUExecutionProvider"]
    )
    runner, reference = TorchDevice("cpu").runner(session), RecurrentReference()
    state: dict[str, Any] = {f"r{number}i": np.zeros((1, 1, 1, 1), np.float32) for number in STATES}
    kept = tuple(f"r{number}o" for number in STATES)
    for frame in noise_frames(3):
        picture = frame.rgb.astype(np.float32) / 255
        inputs = {
            "src": picture.transpose(2, 0, 1)[None],
            "downsample_ratio": np.ones(1, np.float32),
        }
        outputs = runner.run(inputs | state, kept)
        assert isinstance(outputs["pha"], np.ndarray)
        np.testing.assert_allclose(outputs["pha"][0, 0], reference.step(picture), atol=1e-4)
        state = {f"r{number}i": outputs[f"r{number}o"] for number in STATES}
        assert all(isinstance(value, torch.Tensor) for value in state.values())


def test_the_coarse_ratio_depends_on_the_frame_size() -> None:
    assert COARSE.ratio(512, 288) == 1.0
    assert COARSE.ratio(1920, 1080) == COARSE.ratio(1080, 1920) == 512 / 1920
    assert COARSE.ratio(1920, 1080, requested=0.5) == 0.5
    assert COARSE.ratio(20000, 30) * 30 == COARSE.ratio(640, 20, requested=0.1) * 20 == 6


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("size", [(1, 640), (30, 6000), (8, 33000)])
def test_a_recurrent_network_accepts_a_long_strip(
    size: tuple[int, int], runtime: str, weights: Callable[[str], Path]
) -> None:
    network = load_network(weights("rvm"), "rvm", Settings(runtime=runtime), Device())
    assert [alpha.shape for alpha in alphas_of(network, noise_frames(1, size))] == [size]


def invalid_networks(folder: Path) -> Iterator[tuple[Path, str]]:
    text = folder / "text.onnx"
    text.write_text("this is no network")
    yield text, "isnet"
    yield make_recurrent(folder / "recurrent.onnx"), "birefnet"
    yield make_salient(folder / "salient.onnx"), "rvm"


def test_a_file_of_another_family_is_named(tmp_path: Path) -> None:
    for path, family in invalid_networks(tmp_path):
        with pytest.raises(ModelError, match=path.name) as caught:
            load_network(path, family, Settings(), Device())
        assert "\n" not in str(caught.value)


def two_channels(path: Path, *, declared: bool) -> Path:
    """A network whose first output has two channels; ``declared``: its file declares the shape."""
    weights = np.ones((2, 3, 1, 1), np.float32)
    save_graph(
        path,
        [helper.make_node("Conv", ["input", "w"], ["output"])],
        inputs={"input": (1, 3, 32, 32)},
        outputs={"output": (1, 2, 32, 32)},
        constants={"w": weights},
        opset=15,
    )
    if not declared:
        model = onnx.load(str(path))
        model.graph.output[0].type.tensor_type.ClearField("shape")
        onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("declared", [True, False])
def test_an_output_that_is_not_an_alpha_is_named_at_load(
    runtime: str, declared: bool, tmp_path: Path
) -> None:
    path = two_channels(tmp_path / "two.onnx", declared=declared)
    line = (
        r"^[^\n]*two\.onnx: its first output 'output' is \(\S+, 2, 32, 32\), not one alpha[^\n]*$"
    )
    with pytest.raises(ModelError, match=line):
        load_network(path, "isnet", Settings(runtime=runtime), Device())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_classifier_is_refused(runtime: str, tmp_path: Path) -> None:
    path = save_graph(
        tmp_path / "classes.onnx",
        [helper.make_node("ReduceMean", ["input"], ["output"], axes=[2, 3], keepdims=0)],
        inputs={"input": (1, 3, 32, 32)},
        outputs={"output": (1, 3)},
        constants={},
        opset=15,
    )
    with pytest.raises(ModelError, match=r"first output 'output' is \(1, 3\), not one alpha"):
        load_network(path, "isnet", Settings(runtime=runtime), Device())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_integer_input_is_refused(runtime: str, tmp_path: Path) -> None:
    path = make_salient(tmp_path / "bytes.onnx")
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    model.graph.input[0].name = "bytes"
    model.graph.node.insert(0, helper.make_node("Cast", ["bytes"], ["input"], to=1))
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match=r"its input bytes is \S+, not float32"):
        load_network(path, "isnet", Settings(runtime=runtime), Device())


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("batch", [1, 2])
def test_weights_among_the_inputs_are_not_mistaken_for_the_picture(
    batch: int, runtime: str, tmp_path: Path
) -> None:
    path = make_salient(tmp_path / "tiny.onnx")
    settings = Settings(runtime=runtime, batch=batch)
    expected = alphas_of(load_network(path, "isnet", settings, Device()), noise_frames(3))
    model = onnx.load(str(path))
    picture = onnx.ValueInfoProto()
    picture.CopyFrom(model.graph.input.pop())
    weights = [
        helper.make_tensor_value_info(one.name, one.data_type, one.dims)
        for one in model.graph.initializer
    ]
    model.graph.input.extend([*weights, picture])  # as in files of IR version 3
    model.ir_version = 3
    onnx.save(model, str(path))
    found = alphas_of(load_network(path, "isnet", settings, Device()), noise_frames(3))
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, EXACT)


OPAQUE = np.float32(1)


class Fixed:
    """A runner whose output does not depend on its input."""

    streams, description = 1, "fixed"

    def __init__(self, shape: tuple[int, ...], value: Any = OPAQUE) -> None:
        self._output = np.full(shape, value)

    def run(self, inputs: dict, keep: tuple[str, ...] = ()) -> dict:
        return {"out": self._output}

    def cancel(self) -> None:
        pass


def test_an_undeclared_output_shape_is_checked_at_run_time() -> None:
    def mattes(*shape: int) -> list[np.ndarray]:
        network = SegmentationNetwork(
            Fixed(shape), FAMILY_TABLE["isnet"], size=InputSize(8), input_name="in", batch=2
        )
        return alphas_of(network, noise_frames(2))

    for shape in ((2, 1, 8, 8), (2, 8, 8)):
        for alpha in mattes(*shape):
            np.testing.assert_allclose(alpha, 1, atol=1e-6)
    for shape in ((2, 2, 8, 8), (1, 2, 8, 8), (8, 8), (8,)):
        line = rf"^the model's first output for 2 pictures is \({shape[0]}[^\n]*, not one alpha"
        with pytest.raises(ModelError, match=line):
            mattes(*shape)


@pytest.mark.parametrize("value", [np.float32(255), np.uint8(255), np.uint8(0), np.int64(1)])
def test_an_alpha_of_another_scale_is_refused(value: Any) -> None:
    def mattes(family: str = "isnet", minmax: bool = False) -> list[np.ndarray]:
        runner = Fixed((1, 1, 8, 8), value)
        network = SegmentationNetwork(
            runner, FAMILY_TABLE[family], size=InputSize(8), input_name="in", minmax=minmax
        )
        return alphas_of(network, noise_frames(1))

    line = r"^the model's alpha (goes up to 255, not 1|is u?int\d+, not float32 in 0..1): export"
    with pytest.raises(ModelError, match=line) as caught:
        mattes()
    assert "\n" not in str(caught.value)
    mattes(minmax=True)  # stretched by its own extremes, whatever they are
    if value.dtype == np.float32:
        mattes("birefnet")


@pytest.mark.parametrize("logit", [-1e4, -89, -88, 0, 88, 89, 1e4])
def test_extreme_logits_become_alpha_without_a_warning(logit: float) -> None:
    runner = Fixed((1, 1, 8, 8), np.float32(logit))
    network = SegmentationNetwork(
        runner, FAMILY_TABLE["birefnet"], size=InputSize(8), input_name="in"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (alpha,) = alphas_of(network, noise_frames(1))
    np.testing.assert_allclose(alpha, 0.5 + 0.5 * np.sign(logit), atol=1e-6)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", ["pha", "fgr", "r1o", "src", "r2i"])
def test_a_recurrent_network_without_a_required_name_is_refused_at_load(
    name: str, runtime: str, tmp_path: Path
) -> None:
    path = make_recurrent(tmp_path / "tiny.onnx")
    model = onnx.load(str(path))
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["other" if used == name else used for used in names]
    for item in (*model.graph.input, *model.graph.output):
        if item.name == name:
            item.name = "other"
    onnx.save(model, str(path))
    kind = "inputs" if name in ("src", "r2i") else "outputs"
    line = rf"^[^\n]*tiny\.onnx: not of the family rvm: its {kind} are [^\n]*other[^\n]*;"
    with pytest.raises(ModelError, match=rf"{line} missing: {name} \(export [^\n]*--family\)$"):
        load_network(path, "rvm", Settings(runtime=runtime), Device())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_recurrent_network_with_wrong_channels_is_refused_at_load(
    runtime: str, tmp_path: Path
) -> None:
    path = make_recurrent(tmp_path / "tiny.onnx")
    model = onnx.load(str(path))
    by_name = {item.name: item for item in model.graph.output}
    by_name["fgr"].name, by_name["pha"].name = "pha", "fgr"
    for node in model.graph.node:
        swapped = {"fgr": "pha", "pha": "fgr"}
        node.output[:] = [swapped.get(made, made) for made in node.output]
    onnx.save(model, str(path))
    line = r"its 'fgr' is \(\S+, 1, \S+, \S+\), not \(B, 3, H, W\): export it as"
    with pytest.raises(ModelError, match=line):
        load_network(path, "rvm", Settings(runtime=runtime), Device())


def test_options_without_effect_are_refused(tmp_path: Path) -> None:
    salient, recurrent = make_salient(tmp_path / "s.onnx"), make_recurrent(tmp_path / "r.onnx")
    with pytest.raises(UsageError, match="downsample"):
        choose_model(Settings(model=str(salient), family="isnet", downsample=0.5))
    with pytest.raises(UsageError, match="batch"):
        choose_model(Settings(model=str(recurrent), family="rvm", batch=4))


def test_a_missing_device_is_named_with_the_reason() -> None:
    with pytest.raises(UsageError, match="tpu"):
        choose_device("tpu")
    for words in ("cuda:0,cuda:0", "cuda:0,cpu", "cuda:0,", "auto,cuda:1"):
        with pytest.raises(UsageError, match="or several as cuda:0,cuda:1"):
            choose_device(words)
    if choose_device("auto")[0].name == "cpu":
        with pytest.raises(DeviceError, match="--device cpu"):
            choose_device("cuda:7")
        with pytest.raises(DeviceError, match=r"--device cuda:0,cuda:1: .*--device cpu"):
            choose_device("cuda:0,cuda:1")


def test_without_nvidias_driver_no_runtime_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_device, "_DRIVER", "libnone.so.1")
    monkeypatch.setattr(torch_device, "onnxruntime", pytest.fail)
    assert choose_device("auto")[0].name == "cpu"
    with pytest.raises(
        DeviceError, match=r"driver is not installed \(libnone\.so\.1.*--device cpu"
    ):
        choose_device("cuda")


def test_several_devices_share_the_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, devices = make_salient(tmp_path / "tiny.onnx"), _SeveralDevices([Device()] * 3)
    assert devices.name == "cpu,cpu,cpu"
    frames = noise_frames(11, (54, 96))
    expected = alphas_of(load_network(path, "isnet", Settings(), Device()), frames)
    all_run, used = threading.Barrier(3, timeout=30), set()
    run = CpuRunner.run

    def noted(runner: CpuRunner, inputs: Arrays, keep: tuple[str, ...] = ()) -> dict[str, Any]:
        if runner not in used:  # the first run of each waits for the others
            used.add(runner)
            all_run.wait()
        return run(runner, inputs, keep)

    monkeypatch.setattr(CpuRunner, "run", noted)
    settings = Settings(runtime="onnxruntime", batch=2)
    network = load_network(path, "isnet", settings, devices)
    assert network.batch == 6
    for one, other in zip(alphas_of(network, frames), expected, strict=True):
        assert_close(one, other, SAME_NETWORK)
    assert len(used) == 3


def frames_of_shots(lengths: list[int]) -> list[Frame]:
    """Noise with cuts between shots of these lengths."""
    frames = noise_frames(sum(lengths))
    for begin in accumulate(lengths[:-1]):
        frames[begin].new_shot = True
    return frames


def test_several_devices_share_the_shots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, devices = make_recurrent(tmp_path / "tiny.onnx"), _SeveralDevices([Device()] * 3)
    lengths = [5, 1, 90, 2, 30, 30, 30, 8]  # 90: more than all frames in flight
    expected = list(
        load_network(path, "rvm", Settings(), Device()).predict(iter(frames_of_shots(lengths)))
    )
    all_run, used = threading.Barrier(3, timeout=30), set()
    mattes = RecurrentNetwork.predict

    def noted(network: RecurrentNetwork, frames: Iterator[Frame]) -> Iterator[Frame]:
        if network not in used:  # the first shot of each waits for the others
            used.add(network)
            all_run.wait()
        return mattes(network, frames)

    monkeypatch.setattr(RecurrentNetwork, "predict", noted)
    network = load_network(path, "rvm", Settings(), devices)
    taken = 0

    def counted() -> Iterator[Frame]:
        nonlocal taken
        for frame in frames_of_shots(lengths):
            taken += 1
            yield frame

    for number, (one, other) in enumerate(zip(network.predict(counted()), expected, strict=True)):
        assert taken - number <= network.batch
        assert one.index == other.index == number
        assert_close(one.alpha, other.alpha, EXACT)
        assert np.array_equal(one.foreground, other.foreground)
    assert len(used) == 3


def test_a_shot_resumes_from_a_saved_state(tmp_path: Path) -> None:
    path, frames = make_recurrent(tmp_path / "tiny.onnx"), frames_of_shots([6, 4])
    frames[3].wants_state = True
    expected = list(load_network(path, "rvm", Settings(), Device()).predict(iter(frames)))
    later = frames_of_shots([6, 4])[3:]
    later[0].state = frames[3].state
    network = load_network(path, "rvm", Settings(), _SeveralDevices([Device()] * 2))
    for one, other in zip(network.predict(iter(later)), expected[3:], strict=True):
        assert_close(one.alpha, other.alpha, EXACT)


def test_closing_early_ends_all_shots(tmp_path: Path) -> None:
    path, devices = make_recurrent(tmp_path / "tiny.onnx"), _SeveralDevices([Device()] * 2)
    network = load_network(path, "rvm", Settings(), devices)
    mattes = network.predict(iter(frames_of_shots([9] * 8)))
    next(mattes)
    mattes.close()
    for thread in threading.enumerate():
        assert not thread.name.startswith("vidmatte-network")
    frames = frames_of_shots([3, 4, 5])
    frames[4].rgb = frames[4].rgb[:1, :1]  # a size that the network cannot process
    with pytest.raises(Exception, match="running Add node"):
        list(network.predict(iter(frames)))


def test_cancelling_ends_all_copies_of_a_network() -> None:
    class Waiting:
        streams, description = 1, "here"

        def __init__(self) -> None:
            self.ended, self.begun = threading.Event(), threading.Event()

        def run(self, inputs: Arrays, keep: tuple[str, ...] = ()) -> dict[str, Any]:
            del inputs, keep
            self.begun.set()
            assert self.ended.wait(30)
            raise ModelError("cancelled")

        def cancel(self) -> None:
            self.ended.set()

    copies = [Waiting(), Waiting()]
    runner = SharedRunner(copies)
    assert (runner.streams, runner.description) == (2, "here; here")
    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(runner.run, {}) for _ in copies]
        assert all(copy.begun.wait(30) for copy in copies)
        runner.cancel()
        assert all(isinstance(run.exception(30), ModelError) for run in runs)


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu(weights: Callable[[str], Path]) -> None:
    device, _ = choose_device("cuda")
    for name, family in (("u2netp", "u2net"), ("rvm", "rvm")):
        here = load_network(weights(name), family, Settings(), Device())
        there = load_network(weights(name), family, Settings(), device)
        expected = alphas_of(here, noise_frames(3, (180, 320)))
        for one, other in zip(alphas_of(there, noise_frames(3, (180, 320))), expected, strict=True):
            assert_close(one, other, SAME_NETWORK)


def test_networks_stored_in_half_precision_run_in_float32(tmp_path: Path) -> None:
    path = make_salient(tmp_path / "tiny.onnx")
    model = onnx.load(str(path))
    for item in model.graph.initializer:
        item.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(item).astype(np.float16), item.name)
        )
    nodes = list(model.graph.node)
    for place, name in ((0, "input"), (len(nodes), "output")):
        to = TensorProto.FLOAT16 if place == 0 else TensorProto.FLOAT
        given = [name, f"{name}/half"] if place == 0 else [f"{name}/half", name]
        for node in nodes:
            for names in (node.input, node.output):
                for number, used in enumerate(names):
                    if used == name:
                        names[number] = f"{name}/half"
        model.graph.node.insert(place, helper.make_node("Cast", [given[0]], [given[1]], to=to))
    onnx.checker.check_model(model)
    stored = tmp_path / "half.onnx"
    stored.write_bytes(model.SerializeToString())
    widened = onnx.load_from_string(_batchable(stored, 1, widen=True)).graph
    kinds = {item.data_type for item in widened.initializer}
    assert kinds == {TensorProto.FLOAT}
    unchanged = onnx.load_from_string(_batchable(stored, 1)).graph
    assert {item.data_type for item in unchanged.initializer} == {TensorProto.FLOAT16}
    expected = alphas_of(load_network(path, "isnet", Settings(), Device()), noise_frames(2))
    actual = alphas_of(load_network(stored, "isnet", Settings(), Device()), noise_frames(2))
    for alpha, reference in zip(actual, expected, strict=True):
        # Only the weights were rounded, but the network is steep.
        assert np.abs(alpha - reference).mean() < 2 / 255


def test_views_alternate_where_the_filter_averages_frames(tmp_path: Path) -> None:
    path = make_salient(tmp_path / "tiny.onnx")
    runner = load_runner(path, Device(), 1, outputs=1).runner
    plain, (inset, mirrored, _, both) = View(), _ALTERNATING
    expected = {
        ("isnet", "auto"): [inset, mirrored, plain, inset, inset],
        ("isnet", "live"): [inset, mirrored, inset, inset, inset],
        ("isnet", "off"): [plain] * 5,
        ("isnet-anime", "auto"): [plain] * 5,
    }
    assert both == View(mirrored=True, inset=True)
    for (family, smooth), views in expected.items():
        settings = Settings(smooth=smooth, runtime="onnxruntime")
        network = load_network(path, family, settings, Device())
        frames = noise_frames(5)
        frames[3].new_shot = True
        found = alphas_of(network, frames)
        assert [frame.mirrored for frame in frames] == [view.mirrored for view in views]
        if family == "isnet":
            for frame, alpha, view in zip(frames, found, views, strict=True):
                seen = enlarged(output_of(runner, view, frame), alpha)
                np.testing.assert_allclose(alpha, seen, atol=1e-4)


def make_fading(path: Path, size: int = 64) -> Path:
    """An ISNet-like file whose alpha is 1 for white and fades at the border of its input, as
    zero-padded convolutions cause."""
    nodes = [
        helper.make_node("Conv", ["input", "weights", "bias"], ["grey"]),
        helper.make_node(
            "AveragePool", ["grey"], ["output"], kernel_shape=[5, 5], pads=[2] * 4,
            count_include_pad=1,
        ),
    ]  # fmt: skip
    constants = {
        "weights": np.full((1, 3, 1, 1), 1 / 3, np.float32),
        "bias": np.full(1, 0.5, np.float32),
    }
    shapes = {"input": (1, 3, size, size)}, {"output": (1, 1, size, size)}
    return save_graph(
        path, nodes, inputs=shapes[0], outputs=shapes[1], constants=constants, opset=15
    )


def test_inset_views_keep_the_alpha_of_a_subject_cut_off_by_the_frame(tmp_path: Path) -> None:
    """The input has a reflected margin around the frame, so border errors fall outside it."""
    settings = Settings(smooth="on", runtime="onnxruntime", batch=1)
    network = load_network(make_fading(tmp_path / "tiny.onnx"), "isnet", settings, Device())
    white = np.full((64, 64, 3), 255, np.uint8)
    frames = [frame_of(white, index, index == 0) for index in range(8)]
    at_border = [
        float(min(alpha[0].min(), alpha[-1].min(), alpha[:, 0].min(), alpha[:, -1].min()))
        for alpha in alphas_of(network, frames)
    ]
    is_full = [alpha > 0.999 for alpha in at_border]
    assert is_full == [True, False, False, True] * 2
    assert all(alpha < 0.5 for alpha, full in zip(at_border, is_full, strict=True) if not full)


def test_undoing_a_view_restores_positions() -> None:
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[20:40, 10:30] = 255
    small = cv2.resize(picture, (200, 200), interpolation=cv2.INTER_LINEAR)[..., 0]
    for view in (View(), *_ALTERNATING):
        shown = view.apply(picture, 200, 200)
        assert shown.shape == (200, 200, 3)
        back = cv2.resize(np.ascontiguousarray(view.undo(shown[..., 0])), (200, 200))
        assert np.abs(back.astype(int) - small).mean() < 1

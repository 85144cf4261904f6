"""OpenVINO instead of onnxruntime: the same alpha, order, cancelling and refusals."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from media import make_movie
from onnx import TensorProto, helper, numpy_helper
from test_network import alphas_of, frame_of, noise_frames, pictures_of
from tiny_onnx import make_recurrent, make_salient

from vidmatte.core import concurrency
from vidmatte.core.families import FAMILY_TABLE
from vidmatte.errors import DeviceError, ModelError
from vidmatte.models.chosen_weights import Weights
from vidmatte.models.load import load_network
from vidmatte.models.registry import Model
from vidmatte.models.runtimes import choice, openvino
from vidmatte.models.runtimes.bf16_bias import _in_bfloat16_parts, split_offsets
from vidmatte.models.runtimes.compiled import compiled_files
from vidmatte.models.runtimes.device import Device
from vidmatte.models.runtimes.onnx_loader import _batchable, load_runner
from vidmatte.models.weights.record import Record, speeds_path, write_record
from vidmatte.settings import Settings

needs_openvino = pytest.mark.skipif(
    not openvino.is_installed(),
    reason="openvino is not installed: it has no wheel for this machine",
)


def settings(runtime: str, **options: object) -> Settings:
    return Settings(runtime=runtime, **options)


@needs_openvino
def test_bfloat16_is_that_of_openvino() -> None:
    names = openvino._core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert openvino.has_bfloat16() is ("BF16" in names)


@pytest.mark.parametrize(
    ("listed", "is_asked"),
    [
        ("processor : 0\nflags : fpu sse4_2 avx2 avx_vnni\n", False),
        ("processor : 0\nflags : fpu avx2 avx512f\n", True),
        ("processor : 0\nflags : fpu avx2 avx512_bf16 amx_bf16\n", True),
        ("processor : 0\nflags : fpu avx2 avx_ne_convert\n", True),
        ("processor : 0\nFeatures : fp asimd bf16\n", True),
        (None, True),
    ],
)
def test_openvino_is_asked_about_bfloat16_where_the_cpu_may_have_it(
    listed: str | None, is_asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = tmp_path / "cpuinfo"
    if listed is not None:
        facts.write_text(listed)
    monkeypatch.setattr(concurrency, "_CPU_INFO", facts)
    assert openvino._may_have_bfloat16.__wrapped__() is is_asked


@needs_openvino
@pytest.mark.parametrize(("name", "family"), [("u2netp", "u2net"), ("isnet", "isnet")])
@pytest.mark.thinned(2)
def test_alpha_stays_within_one_code_of_float32(
    name: str, family: str, weights: Callable[[str], Path], bigbuckbunny: Path
) -> None:
    path = weights(name)
    pictures = pictures_of(bigbuckbunny, [70])
    expected = alphas_of(
        load_network(path, family, settings("onnxruntime"), Device()), map(frame_of, pictures)
    )
    network = load_network(path, family, settings("openvino"), Device())
    assert ("bfloat16" if openvino.has_bfloat16() else "float32") in network.description
    for alpha, reference in zip(alphas_of(network, map(frame_of, pictures)), expected, strict=True):
        assert 0.02 < reference.mean() < 0.9, "the network found no subject: nothing is compared"
        assert np.abs(alpha - reference).mean() < 1 / 255


@needs_openvino
def test_frames_keep_their_order_and_their_own_alpha(tmp_path: Path) -> None:
    path = make_salient(tmp_path / "tiny.onnx")
    network = load_network(path, "isnet", settings("openvino", threads=3), Device())
    assert network.batch == 3
    expected = alphas_of(
        load_network(path, "isnet", settings("onnxruntime"), Device()), noise_frames(8)
    )
    frames = noise_frames(8)
    out = list(network.predict(iter(frames)))
    assert [frame.index for frame in out] == list(range(8))
    for frame, reference in zip(out, expected, strict=True):
        assert np.abs(frame.alpha - reference).mean() < 1 / 255


@needs_openvino
def test_a_batch_is_run_as_one(tmp_path: Path) -> None:
    path = make_salient(tmp_path / "tiny.onnx")
    expected = alphas_of(
        load_network(path, "isnet", settings("openvino"), Device()), noise_frames(5)
    )
    batched = load_network(path, "isnet", settings("openvino", batch=2), Device())
    for alpha, reference in zip(alphas_of(batched, noise_frames(5)), expected, strict=True):
        np.testing.assert_allclose(alpha, reference, atol=1e-2)


@needs_openvino
def test_recurrent_networks_run_in_float32_when_asked_for(weights: Callable[[str], Path]) -> None:
    path = weights("rvm")
    frames = noise_frames(3, (96, 128))
    expected = alphas_of(load_network(path, "rvm", settings("onnxruntime"), Device()), frames)
    network = load_network(path, "rvm", settings("openvino"), Device())
    assert "float32" in network.description
    for alpha, reference in zip(
        alphas_of(network, noise_frames(3, (96, 128))), expected, strict=True
    ):
        np.testing.assert_allclose(alpha, reference, atol=1e-3)


@needs_openvino
def test_a_cancelled_run_ends_at_once_and_the_next_one_works(
    weights: Callable[[str], Path],
) -> None:
    network = load_network(weights("u2netp"), "u2net", settings("openvino"), Device())
    frame = frame_of(np.full((64, 64, 3), 90, np.uint8))
    first = alphas_of(network, [frame])[0]  # the kernels are compiled now
    ended = threading.Event()

    def cancel_until_ended() -> None:
        while not ended.is_set():
            network.cancel()
            time.sleep(0.001)

    canceller = threading.Thread(target=cancel_until_ended)
    canceller.start()
    try:
        with pytest.raises(RuntimeError, match="cancel"):
            list(network.predict(frame_of(frame.rgb) for _ in range(20)))
    finally:
        ended.set()
        canceller.join()
    assert np.array_equal(alphas_of(network, [frame])[0], first)


FORKS = """
import multiprocessing, sys
import vidmatte

def frames(runtime):
    options = {"model": sys.argv[2], "family": "isnet", "runtime": runtime}
    return sum(1 for _ in vidmatte.stream(sys.argv[1], **options))

def report(runtime, pipe):
    try:
        pipe.send(frames(runtime))
    except vidmatte.errors.DeviceError as error:
        pipe.send(str(error))

frames("openvino")
forking = multiprocessing.get_context("fork")
for runtime in ("openvino", "onnxruntime"):
    ours, its = forking.Pipe()
    child = forking.Process(target=report, args=(runtime, its))
    child.start()
    print(ours.recv() if ours.poll(20) else "it hangs")
    child.kill()
    child.join()
"""


@needs_openvino
@pytest.mark.skipif(sys.platform != "linux", reason="fork is tested on Linux")
def test_a_process_forked_after_openvino_was_used_is_refused(tmp_path: Path) -> None:
    clip = make_movie(tmp_path / "clip.mp4", frames=3).path
    words = [sys.executable, "-c", FORKS, str(clip), str(make_salient(tmp_path / "tiny.onnx"))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    message, frames = done.stdout.splitlines()
    assert "was forked after OpenVINO was used" in message
    assert "spawn processes instead of forking them" in message
    assert frames == "3"


@needs_openvino
def test_an_invalid_network_is_refused_in_one_line(tmp_path: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("this is no network")
    with pytest.raises(ModelError, match=r"text\.onnx: not an ONNX file \(\S.+\)$"):
        load_network(text, "rvm", settings("openvino"), Device())
    path = make_recurrent(tmp_path / "unknown.onnx")
    model = onnx.load(str(path))
    model.graph.node[0].op_type = "Unknown"
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match=r"unknown\.onnx: OpenVINO cannot load it \(\S.+\)$"):
        load_network(path, "rvm", settings("openvino"), Device())


@needs_openvino
def test_the_runtime_follows_family_device_and_option(tmp_path: Path) -> None:
    salient, recurrent = make_salient(tmp_path / "s.onnx"), make_recurrent(tmp_path / "r.onnx")

    def description_of(path: Path, family: str, runtime: str) -> str:
        return load_network(path, family, settings(runtime), Device()).description

    default = "OpenVINO" if openvino.has_bfloat16() else "onnxruntime"
    assert description_of(salient, "isnet", "auto").startswith(default)
    assert description_of(salient, "isnet", "onnxruntime").startswith("onnxruntime")
    assert description_of(recurrent, "rvm", "auto").startswith("onnxruntime")
    gpu = Device()
    gpu.name = "cuda:0"
    with pytest.raises(DeviceError, match="--device cpu"):
        openvino.is_chosen("openvino", True, gpu)
    assert not openvino.is_chosen("auto", True, gpu)


@needs_openvino
def test_its_telemetry_is_off() -> None:
    openvino._openvino()
    assert sys.modules["openvino_telemetry"] is None


SIGNALLED = """
import gc, signal, sys
from pathlib import Path
from vidmatte.models.load import load_network
from vidmatte.models.runtimes.device import Device
from vidmatte.settings import Settings
path, settings = Path(sys.argv[1]), Settings(runtime="openvino")
one, other = (load_network(path, "isnet", settings, Device()) for _ in range(2))
del one
gc.collect()
del other
gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("came"))
signal.raise_signal(signal.SIGINT)
"""


@needs_openvino
def test_freed_networks_keep_the_signal_stack(tmp_path: Path) -> None:
    """In its own process, because a failure is a segmentation fault."""
    words = [sys.executable, "-c", SIGNALLED]
    path = make_salient(tmp_path / "tiny.onnx")
    done = subprocess.run([*words, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "came\n"), done.stderr


def test_without_the_package_auto_falls_back_and_the_option_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(openvino, "is_installed", lambda: False)
    path = make_salient(tmp_path / "tiny.onnx")
    assert load_network(path, "isnet", Settings(), Device()).description.startswith("onnxruntime")
    with pytest.raises(DeviceError, match=r"pip install openvino"):
        load_network(path, "isnet", settings("openvino"), Device())


def constant_channel_network(constant: float) -> onnx.ModelProto:
    """Conv, relu, resize, concat, conv: the first conv's channel 1 is nearly ``constant``,
    and the last conv's bias cancels it."""
    rng = np.random.default_rng(4)
    first = rng.normal(0, 0.2, (3, 3, 3, 3)).astype(np.float32)
    first[1] *= 0.01
    last = rng.normal(0, 0.2, (2, 4, 3, 3)).astype(np.float32)
    bias = np.array([0.1, constant, -0.1], np.float32)
    back = np.array([0.2, -0.1], np.float32) - constant * last[:, 2].sum(axis=(1, 2))
    arrays = {
        "w1": first,
        "b1": bias,
        "w2": last,
        "b2": back.astype(np.float32),
        "wg": rng.normal(0, 0.2, (1, 3, 1, 1)).astype(np.float32),
        "bg": np.zeros(1, np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["y"], strides=[2, 2], **same),
        helper.make_node("Relu", ["y"], ["r"]),
        helper.make_node("Resize", ["r", "", "scales"], ["up"], mode="linear"),
        helper.make_node("Conv", ["x", "wg", "bg"], ["grey"], kernel_shape=[1, 1]),
        helper.make_node("Concat", ["grey", "up"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "w2", "b2"], ["out"], **same),
    ]
    picture = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])
    result = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "offset", [picture], [result], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def run_onnx(model: bytes, picture: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": picture})[0]


def test_splitting_a_large_constant_changes_nothing_in_float32() -> None:
    picture = np.random.default_rng(5).random((1, 3, 32, 32), np.float32)
    model = constant_channel_network(200.0).SerializeToString()
    changed = split_offsets(model)
    weights = {item.name: item.dims for item in onnx.load_from_string(changed).graph.initializer}
    assert list(weights["w1"]) == [6, 3, 3, 3], "the constant was not found"
    assert list(weights["w2"]) == [2, 7, 3, 3]
    # Also at the border, where padding removes the constant.
    np.testing.assert_allclose(run_onnx(changed, picture), run_onnx(model, picture), atol=1e-3)


@needs_openvino
def test_splitting_a_large_constant_saves_bfloat16() -> None:
    if not openvino.has_bfloat16():
        pytest.skip("this CPU does not compute in bfloat16")
    picture = np.random.default_rng(6).random((1, 3, 32, 32), np.float32)
    model = constant_channel_network(200.0).SerializeToString()
    exact = run_onnx(model, picture)

    def error(candidate: bytes) -> float:
        core = openvino._core()
        options = {"INFERENCE_PRECISION_HINT": "bf16"}
        compiled = core.compile_model(core.read_model(candidate), "CPU", options)
        difference = compiled({"x": picture})[0] - exact
        return float(np.abs(difference[..., 1:-1, 1:-1]).mean())

    assert error(split_offsets(model)) < 0.02
    assert error(model) > 5 * error(split_offsets(model))


def test_networks_without_large_constants_are_unchanged(weights: Callable[[str], Path]) -> None:
    model = constant_channel_network(0.3).SerializeToString()
    assert split_offsets(model) == model
    isnet = _batchable(weights("isnet"), 1)
    assert split_offsets(isnet) is isnet


def test_bfloat16_parts_add_up() -> None:
    values = np.array([1360.987, -0.1, 3.0, 1e-3])
    parts = _in_bfloat16_parts(values)
    np.testing.assert_allclose(sum(parts), values, rtol=1e-6)
    for part in parts:
        assert not (part.astype(np.float32).view(np.uint32) & 0xFFFF).any()


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Weights with a record beside them, as the store keeps them."""
    (tmp_path / "store").mkdir()
    path = make_salient(tmp_path / "store" / "tiny.onnx")
    stat = path.stat()
    record = Record(
        size_bytes=stat.st_size, mtime_ns=stat.st_mtime_ns, digest="sha256:0", sha256="0",
        source="made here", licence="MIT", fetched="2026-01-01",
    )  # fmt: skip
    write_record(path, record)
    return path


def alpha_of(path: Path) -> np.ndarray:
    """The alpha that OpenVINO gives for a fixed picture."""
    loaded = load_runner(path, Device(), 1, outputs=1, runtime="openvino", batch=1)
    picture = np.random.default_rng(1).random((1, 3, 32, 32), np.float32)
    return next(iter(loaded.runner.run({next(iter(loaded.inputs)): picture}).values())).copy()


@needs_openvino
def test_a_compiled_network_is_kept_and_gives_the_same(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = alpha_of(stored)
    (kept,) = compiled_files(stored)
    with monkeypatch.context() as patch:
        patch.setattr(openvino, "_compiled", None)  # must not be called again
        assert np.array_equal(alpha_of(stored), first)
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    assert np.array_equal(alpha_of(stored), first)
    assert not kept.exists() and len(compiled_files(stored)) == 1


@needs_openvino
def test_nothing_is_kept_beside_a_file_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    alpha_of(make_salient(tmp_path / "own" / "tiny.onnx"))
    assert [one.name for one in (tmp_path / "own").iterdir()] == ["tiny.onnx"]


@needs_openvino
@pytest.mark.parametrize(
    ("speeds", "chosen"), [((2.0, 1.0), "openvino"), ((1.0, 0.99), "onnxruntime")]
)
def test_without_bfloat16_the_faster_runtime_is_measured_once(
    speeds: tuple[float, float], chosen: str, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "has_bfloat16", lambda: False)
    asked: list[str] = []

    def measured(path: Path, family: object, runtime: str) -> float:
        asked.append(runtime)
        return dict(zip(("onnxruntime", "openvino"), speeds, strict=True))[runtime]

    monkeypatch.setattr(choice, "_core_seconds", measured)
    lines: list[str] = []
    for _ in range(2):
        assert choice.faster_runtime(stored, "0", FAMILY_TABLE["u2net"], lines.append) == chosen
    assert asked == ["onnxruntime", "openvino"]
    assert lines == ["tiny: finding the faster runtime on this machine, once"]
    speeds_path(stored).write_text("{")  # damaged: measured again
    assert choice.faster_runtime(stored, "0", FAMILY_TABLE["u2net"], lines.append) == chosen
    assert len(asked) == 4
    part = Weights("tiny", "u2net", stored, runtime=chosen)
    model = Model((part,), Device(), Settings(), lines.append)
    assert model.runtimes[0].partition(",")[0].lower() == chosen
    assert model.network.description.lower().startswith(chosen)


@needs_openvino
def test_a_measurement_runs_both_runtimes(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "has_bfloat16", lambda: False)
    choice.faster_runtime(stored, "0", FAMILY_TABLE["u2net"], lambda _: None)
    (found,) = json.loads(speeds_path(stored).read_text())["machines"].values()
    assert min(found.values()) > 0 and {*found} == {"onnxruntime", "openvino"}


def test_there_is_no_choice_for_recurrent_networks_and_bfloat16(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "is_installed", lambda: True)
    monkeypatch.setattr(choice, "has_bfloat16", lambda: True)
    for family in ("rvm", "isnet"):
        assert choice.faster_runtime(stored, "0", FAMILY_TABLE[family], print) is None
    assert not speeds_path(stored).exists()

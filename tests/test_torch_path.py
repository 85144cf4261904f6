"""The path of a GPU, from decoding to finished alpha, over torch's CPU device, against the CPU's.

The pictures uploaded, the network bound to tensors, the filter and the controls there, and one
download. What stays on the CPU is between two copies of the alpha.
"""

from __future__ import annotations

import importlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from media import make_movie
from tiny_onnx import make_recurrent, make_salient, save_graph
from tolerance import CODE_8, Tolerance, assert_close
from torch_frames import shot

from vidmatte.alpha import adjustments
from vidmatte.alpha.adjustments import Adjustments
from vidmatte.alpha.guidance.subject_fields import SubjectFields
from vidmatte.core.frame import Frame
from vidmatte.jobs.pipeline import build_pipeline
from vidmatte.jobs.report import Reporter
from vidmatte.jobs.run import run
from vidmatte.models.ensemble import CombinedNetwork
from vidmatte.models.load import load_network
from vidmatte.models.registry import find_model
from vidmatte.models.runtimes.device import Device
from vidmatte.models.runtimes.torch_device import TorchDevice, _SeveralDevices
from vidmatte.pixels.formats import plane_arrays
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

pytestmark = pytest.mark.torch

SAME_CODE = Tolerance(0.02 * CODE_8, CODE_8, "the same formulas on another device")
UNSEEN_TOO = Tolerance(0.1 * CODE_8, 2 * CODE_8, "colours beside the subject: sums on a half")
FRAMES = 6


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    return make_movie(folder / "clip.mp4", size=(192, 128), frames=FRAMES).path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("weights")
    made = {
        "isnet": make_salient(folder / "isnet.onnx", 64),
        "rvm": make_recurrent(folder / "rvm.onnx"),
    }
    return made.__getitem__


def finished(
    movie: Path,
    device: Device,
    settings: Settings,
    second: tuple[Path, str] | None = None,
    subject: Callable[[], SubjectFields] | None = None,
) -> list[Frame]:
    """The finished frames of a clip, out of their slots. second: another network beside the
    settings' own, its path, and how both are combined. subject: see ``build_pipeline``."""
    model = replace(find_model(settings, lambda _: None), device=device)
    if second is not None:
        path, how = second
        own = settings.changed(batch=0)
        other = load_network(path, "rvm", own, device)
        model.__dict__["network"] = CombinedNetwork(model.network, other, how)
    frames = []
    with open_reader(movie, settings) as source:
        matting = build_pipeline(source, model, settings, None, subject=subject and subject())
        with matting.pipeline:
            for frame in matting.pipeline:
                frames.append(replace(frame, alpha=frame.alpha.copy(), return_slot=None))
                frame.release()
    return frames


def compared(movie: Path, settings: Settings, *, several: bool = False, **how: Any) -> TorchDevice:
    """Compare both devices' results; returns the one of torch. several: two of torch's."""
    devices = [TorchDevice("cpu") for _ in range(1 + several)]
    device = devices[0]
    found = finished(movie, _SeveralDevices(devices) if several else device, settings, **how)
    expected = finished(movie, Device(), settings, **how)
    assert len(found) == len(expected) == FRAMES
    for one, other in zip(found, expected, strict=True):
        assert_close(one.alpha, other.alpha, SAME_CODE)
        assert (one.mirrored, one.augment_phase) == (other.mirrored, other.augment_phase)
        if other.foreground is not None:
            assert_close(one.foreground, other.foreground, Tolerance(CODE_8, CODE_8, "rounded"))
    assert 0.01 < np.mean([frame.alpha.mean() for frame in expected]) < 0.99
    return device


OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "no filter": {"smooth": "off", "refine": "off"},
    "live": {"smooth": "live"},
    "both views": {"smooth": "strong"},
    "solved doubt": {"refine": "best"},
    "every other frame": {"pace": "2"},
    "stretched": {"normalize": "minmax"},
    "as rembg": {"normalize": "rembg"},
    "local controls": {"threshold": "0.1,0.9", "gamma": 1.4, "erode": 1.5, "invert": True},
    "control of regions": {"keep_largest": True, "feather": 2.0},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.thinned(2)
def test_a_per_frame_network(name: str, movie: Path, network: Callable[[str], Path]) -> None:
    compared(movie, settings_for(network("isnet"), "isnet", **OPTIONS[name]))


@pytest.mark.parametrize("options", [{}, {"smooth": "on"}], ids=["defaults", "smooth"])
def test_a_recurrent_network(
    options: dict[str, Any], movie: Path, network: Callable[[str], Path]
) -> None:
    compared(movie, settings_for(network("rvm"), "rvm", **options))


@pytest.mark.parametrize("how", ["max", "min", "mean", "edges", "auto"])
def test_two_networks(how: str, movie: Path, network: Callable[[str], Path]) -> None:
    settings = settings_for(network("isnet"), "isnet", smooth="off")
    compared(movie, settings, second=(network("rvm"), how))


@pytest.mark.parametrize("family", ["isnet", "rvm"])
def test_several_devices(family: str, movie: Path, network: Callable[[str], Path]) -> None:
    """Frames come from each of them and are finished on the first."""
    device = compared(movie, settings_for(network(family), family, smooth="on"), several=True)
    assert device.copies.downloads >= FRAMES


def test_a_trimap(movie: Path, network: Callable[[str], Path], tmp_path: Path) -> None:
    trimap = np.full((128, 192), 255, np.uint8)
    trimap[:, 60:], trimap[:, 120:] = 128, 0
    cv2.imwrite(str(tmp_path / "trimap.png"), trimap)
    named = str(tmp_path / "trimap.png")
    settings = settings_for(network("isnet"), "isnet", trimap=named)
    device = compared(movie, settings)
    assert device.copies.uploads > 2 * FRAMES, "the filter did not run on the device"


@pytest.mark.parametrize("family", ["isnet", "rvm"])
def test_a_trimap_and_a_control_of_regions_are_written(
    family: str, movie: Path, network: Callable[[str], Path], tmp_path: Path
) -> None:
    """What comes from the CPU's steps is drawn on the device, the network's own colours too."""
    trimap = np.full((128, 192), 255, np.uint8)
    trimap[:, 60:], trimap[:, 120:] = 128, 0
    cv2.imwrite(str(tmp_path / "trimap.png"), trimap)
    for options in ({"trimap": str(tmp_path / "trimap.png")}, {"keep_largest": True}):
        settings = settings_for(network(family), family, audio=False, overwrite=True, **options)
        (expected,), (found,) = (
            written_by(device, movie, settings, out, [out])
            for device, out in (
                (Device(), tmp_path / "cpu.mkv"),
                (TorchDevice("cpu"), tmp_path / "torch.mkv"),
            )
        )
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other, UNSEEN_TOO, full=255)


def test_a_chosen_subject(movie: Path, network: Callable[[str], Path], tmp_path: Path) -> None:
    fields: Any = {"left": [np.tile(np.float32(np.arange(192) < 96), (128, 1))] * FRAMES}
    device = compared(
        movie,
        settings_for(network("isnet"), "isnet"),
        subject=lambda: SubjectFields(fields, ["left"], {}, range(FRAMES), tmp_path),
    )
    assert device.copies.uploads > 2 * FRAMES, "the filter did not run on the device"


def test_a_cache(movie: Path, network: Callable[[str], Path], tmp_path: Path) -> None:
    """Written and read; both runs are filtered on the device."""
    settings = settings_for(network("isnet"), "isnet", smooth="on")
    (expected, *_), *others = [
        [frame.alpha for frame in finished(movie, device, settings.changed(cache=cache))]
        for device, cache in (
            (Device(), None),
            (TorchDevice("cpu"), str(tmp_path)),
            (TorchDevice("cpu"), str(tmp_path)),
        )
    ]
    assert len([*tmp_path.glob("*.mkv")]) == 1
    for found, *_ in others:
        assert_close(found, expected, SAME_CODE)


def settings_for(path: Path, family: str, **options: Any) -> Settings:
    batch = 2 if family == "isnet" else 0
    return Settings(model=str(path), family=family, runtime="onnxruntime", batch=batch, **options)


def test_a_frame_is_copied_once_each_way(movie: Path, network: Callable[[str], Path]) -> None:
    """Without the filter, whose motion and coarse alpha are copied too."""
    options = {"smooth": "off", "refine": "off"}
    copies = compared(movie, settings_for(network("isnet"), "isnet", **options)).copies
    pixels = 192 * 128
    assert (copies.uploads, copies.up) == (FRAMES, 3 * pixels * FRAMES)
    runs = FRAMES // 2  # of which the highest alpha is looked at
    assert (copies.downloads, copies.down) == (FRAMES + runs, 4 * (pixels * FRAMES + runs))


CONTROLS = [
    Adjustments(threshold=(0.2, 0.7)),
    Adjustments(gamma=0.6),
    Adjustments(dilate=0.4),
    Adjustments(dilate=1, erode=3.7),
    Adjustments(erode=12.3),
    Adjustments(dilate=47.5),
    Adjustments(feather=3),
    Adjustments(feather=90),
    Adjustments(invert=True, gamma=1.5, threshold=(0, 0.5), erode=2, feather=0.5),
]


@pytest.mark.parametrize("controls", CONTROLS, ids=str)
@pytest.mark.parametrize("size", [(120, 200), (61, 97)])
def test_controls(controls: Adjustments, size: tuple[int, int]) -> None:
    import torch

    from vidmatte.alpha import torch_adjust

    frame = shot(1, size, 0)[0]
    assert frame.alpha is not None
    expected = adjustments.apply(frame.alpha.copy(), controls)
    found = torch_adjust.apply(torch.from_numpy(frame.alpha.copy()), controls).numpy()
    assert torch_adjust._is_local(controls)
    assert_close(found, expected, Tolerance(1e-6, 5e-6, "the same sums in another order"))
    assert np.abs(expected - frame.alpha).max() > 0.01


def test_half_precision_is_used_where_the_alpha_is_the_same(
    movie: Path, network: Callable[[str], Path]
) -> None:
    notes: list[str] = []
    runs = precision_runs(network("isnet"), movie, notes)
    assert notes == []
    # The first eight frames in both, the others in half precision.
    assert runs == {"float": 8, "half": FRAMES * 2}


def test_half_precision_is_left_where_the_alpha_changes(movie: Path, tmp_path: Path) -> None:
    """A bias beyond the range of half precision, which others take away again."""
    import onnx
    from onnx import helper, numpy_helper

    path = make_salient(tmp_path / "large.onnx", 64)
    model = onnx.load(str(path))
    graph = model.graph
    for name, value in (("up", 1e5), ("down", -6e4), ("further", -4e4)):
        graph.initializer.append(numpy_helper.from_array(np.float32([value]), name))
    first, *rest = list(graph.node)
    first.output[0] = "at0"
    del graph.node[:]
    steps = [("at0", "up", "at1"), ("at1", "down", "at2"), ("at2", "further", "logits")]
    nodes = [helper.make_node("Add", [one, other], [result]) for one, other, result in steps]
    graph.node.extend([first, *nodes, *rest])
    onnx.save(model, str(path))
    notes: list[str] = []
    runs = precision_runs(path, movie, notes)
    assert len(notes) == 1 and "computing in float32" in notes[0]
    assert runs == {"float": FRAMES * 2, "half": 2}


def test_two_batches_are_in_flight(network: Callable[[str], Path]) -> None:
    """Each run of the network waits until another one has begun."""
    settings = settings_for(network("isnet"), "isnet", smooth="off")
    model = replace(find_model(settings, lambda _: None), device=TorchDevice("cpu"))
    net: Any = model.network
    both, original = threading.Barrier(2, timeout=20), net._runner.run
    net._precision.half = None

    def run(inputs: Any, keep: tuple[str, ...] = ()) -> Any:
        assert len(inputs["input"]) == 2
        both.wait()
        return original(inputs, keep)

    net._runner.run = run
    frames = [shot(1, (64, 64), 0)[0] for _ in range(8)]
    assert net.batch == 4
    assert len(list(net.predict(iter(frames)))) == 8


def test_a_recurrent_network_in_half_precision(movie: Path, network: Callable[[str], Path]) -> None:
    """While both are compared each goes on from its own state."""
    notes: list[str] = []
    runs = precision_runs(network("rvm"), movie, notes, "rvm")
    assert notes == []
    assert runs == {"float": 8, "half": FRAMES * 2}


def test_half_precision_that_does_not_run(movie: Path, network: Callable[[str], Path]) -> None:
    notes: list[str] = []
    runs = precision_runs(network("rvm"), movie, notes, "rvm", fails=True)
    assert len(notes) == 1
    assert "half precision does not work (no kernel): computing in float32" in notes[0]
    assert runs == {"float": FRAMES * 2, "half": 1}


def test_a_scale_that_is_an_input_stays_float32(tmp_path: Path) -> None:
    """In half precision 0.2667 of 2400 pixels would be 639. Sizes of one name may be different."""
    import onnx
    import onnxruntime

    from vidmatte.models.runtimes.half import to_half

    path = tmp_path / "scaled.onnx"
    node, free = onnx.helper.make_node, (1, 1, "height", "width")
    save_graph(
        path,
        [
            node("Concat", ["ones", "ratio", "ratio"], ["scales"], axis=0),
            node("Resize", ["src", "", "scales"], ["small"], mode="nearest"),
            node("Mul", ["small", "gain"], ["out"]),
            node("Mul", ["state", "gain"], ["next"]),
        ],
        inputs={"src": free, "state": free, "ratio": (1,)},
        outputs={"out": (1, 1, "h", "w"), "next": free},
        constants={"ones": np.ones(2, np.float32), "gain": np.full(1, 0.5, np.float32)},
        opset=13,
    )
    model = onnx.load(str(path))
    assert to_half(model.graph)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    fed = {name: np.ones((1, 1, 8, 2400), np.float32) for name in ("src", "state")}
    fed["state"] = fed["state"][..., :3]
    out, state = session.run(None, fed | {"ratio": np.float32([0.2667])})
    assert out.shape == (1, 1, 2, 640) and state.shape == (1, 1, 8, 3)
    assert out.dtype == np.float32 and (out == 0.5).all()


def precision_runs(
    path: Path, movie: Path, notes: list[str], family: str = "isnet", *, fails: bool = False
) -> dict[str, int]:
    """How many pictures a network computes of a clip of 12 frames, by precision. fails: in half
    precision."""
    settings = settings_for(path, family, smooth="off")
    model = replace(find_model(settings, lambda _: None), device=TorchDevice("cpu"))
    model.report = notes.append
    counted = {"float": 0, "half": 0}
    net: Any = model.network

    def counting(runner: Any, name: str) -> Any:
        def run(inputs: Any, keep: tuple[str, ...] = ()) -> Any:
            counted[name] += len(inputs["input" if family == "isnet" else "src"])
            if fails and name == "half":
                raise RuntimeError("no kernel")
            return original(inputs, keep)

        original, runner.run = runner.run, run
        return runner

    if family == "isnet":
        net._runner = counting(net._runner, "float")
    else:
        net._runner._full = counting(net._runner._full, "float")
    net._precision.half = counting(net._precision.half, "half")
    with open_reader(movie, settings) as source:
        net.begin(source.clip, settings)
        pictures = [shot(1, (128, 192), 0)[0] for _ in range(FRAMES * 2)]
        for frame in pictures:
            frame.alpha = None
        done = list(net.predict(iter(pictures)))
    assert len(done) == FRAMES * 2
    return counted


def written_by(
    device: Device,
    movie: Path,
    settings: Settings,
    out: Path,
    files: list[Path],
    report: Callable[[str], None] = lambda _: None,
) -> list[list[np.ndarray]]:
    """The planes of all frames of each of the files that a run writes."""
    model = replace(find_model(settings, lambda _: None), device=device, report=report)
    with open_reader(movie, settings) as source:
        run(source, out, model, settings, Reporter())
    found = []
    for file in files:
        with av.open(str(file)) as container:
            decoded = [plane_arrays(frame) for frame in container.decode(video=0)]
        found.append([plane.copy() for planes in decoded for plane in planes])
    return found


def test_a_movie_is_written_from_the_device(
    movie: Path, network: Callable[[str], Path], tmp_path: Path
) -> None:
    """Its pictures too are drawn there: the source's planes go up, the encoder's come down."""
    settings = settings_for(network("isnet"), "isnet", audio=False)
    device, out = TorchDevice("cpu"), tmp_path / "out.mov"
    (expected,) = written_by(
        Device(), movie, settings, tmp_path / "cpu.mov", [tmp_path / "cpu.mov"]
    )
    (found,) = written_by(device, movie, settings, out, [out])
    assert len(expected) == 4 * FRAMES
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, Tolerance(0.02 * CODE_8, CODE_8, "ProRes too"), full=4095)
    # RGB, planes and two ways of the motion; the coarse alpha, both views' agreement, the summary
    # and the planes; the highest alpha of each run.
    copies = device.copies
    assert copies.uploads <= 5 * FRAMES
    assert copies.downloads <= 4 * FRAMES + FRAMES // 2
    planes, others = 192 * 128 * 4 * 2, 150_000  # bytes; the others are small whatever the size
    assert copies.down < FRAMES * (planes + others)


def test_a_matte_is_written_beside_it(
    movie: Path, network: Callable[[str], Path], tmp_path: Path
) -> None:
    """Of the network's own colours, on the CPU because of despill, and of a matte."""
    results, notes = [], list[str]()
    for name, device in (("cpu", Device()), ("torch", TorchDevice("cpu"))):
        files = [tmp_path / f"{name}.mkv", tmp_path / f"{name}-matte.mkv"]
        options = {"matte": str(files[1]), "despill": "green", "audio": False}
        settings = settings_for(network("rvm"), "rvm", **options)
        results.append(written_by(device, movie, settings, files[0], files, notes.append))
    assert notes == ["torch cpu: on the CPU, between two copies: --despill"]
    for expected, found in zip(*results, strict=True):
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other, UNSEEN_TOO, full=255)


def test_a_part_of_the_gpus_script_fails_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "bench"))
    gpu = importlib.import_module("gpu")
    file = tmp_path / "found.json"
    report = gpu.Report(time.monotonic() + 60, file)
    assert report.part("broken", lambda: {"x": 1 / 0})["failed"].startswith("ZeroDivisionError")
    assert report.part("steps", lambda: {"same": True})["same"]
    late = gpu.Report(time.monotonic() - 1, None)
    assert late.part("late", lambda: {})["left out"] == "no time left"
    assert [part["part"] for part in json.loads(file.read_text())] == ["broken", "steps"]
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.slow
def test_the_gpus_script_compares_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "bench"))
    steps = importlib.import_module("gpu_steps")
    assert steps.compare_steps(TorchDevice("cpu"))["same"]
    counted = steps.count_kernels(TorchDevice("cpu"), "192x108")
    assert [*counted] == ["motion", "steady", "summary", "cut-out"]

"""Contract suite over all networks: per-frame, recurrent, combined, on several devices, writing
the alpha cache and reading from it.

Add a new network to ``LOADED`` and every test here runs on it. All are loaded as the product
loads them, from tiny ONNX files.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media import make_pictures
from tiny_onnx import make_classes, make_recurrent, make_salient, slowed

from vidmatte.core.frame import Clip, Frame
from vidmatte.jobs.paced import network_of
from vidmatte.models.base import Network
from vidmatte.models.chosen_weights import Weights
from vidmatte.models.registry import Model
from vidmatte.models.runtimes.device import Device
from vidmatte.models.runtimes.openvino import is_installed
from vidmatte.models.runtimes.torch_device import TorchDevice, _SeveralDevices
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

SIZE = (56, 40)
COUNT = 13  # frames, no multiple of any batch size used here
LONGEST = 3 * COUNT  # frames
#: Allowed difference in alpha when a frame runs in a batch of another size.
SAME = 2e-5
SOON = 5.0  # seconds within which a cancelled run has to end


@dataclass(frozen=True)
class Case:
    """A network by the families of its parts, with its options and number of devices.

    cached: '' without a cache, 'writing' while the cache is written, 'reading' when it is read.
    shows_state: whether these frames' alphas depend on the state.
    """

    families: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    devices: int = 1
    cached: str = ""
    shows_state: bool = True

    @property
    def recurrent(self) -> bool:
        """Whether every part is recurrent."""
        return set(self.families) == {"rvm"}

    @property
    def states(self) -> int:
        """How many parts have a recurrent state."""
        return 0 if self.cached == "reading" else self.families.count("rvm")


ISNET, RVM, BOTH = ("isnet",), ("rvm",), ("isnet", "rvm")
LOADED = {
    "per frame": Case(ISNET, {"smooth": "off"}),
    "four phases": Case(ISNET),
    "two phases": Case(ISNET, {"smooth": "live"}),
    "two views each": Case(ISNET, {"smooth": "strong"}),
    "batches of 3": Case(ISNET, {"batch": 3}),
    "paced": Case(ISNET, {"pace": "3"}),
    "paced, batches of 2": Case(ISNET, {"pace": "2", "batch": 2}),
    "stretched": Case(ISNET, {"normalize": "minmax", "smooth": "off"}),
    "ImageNet's scale": Case(("u2net",)),
    "logits": Case(("birefnet",), {"smooth": "off"}),
    "the frame's aspect": Case(("modnet",), {"smooth": "off"}),
    "classes": Case(("cloth",), {"smooth": "off"}),
    "per frame, several devices": Case(ISNET, {"batch": 2}, devices=2),
    "per frame, OpenVINO": Case(ISNET, {"runtime": "openvino"}),
    "recurrent": Case(RVM),
    "recurrent, reduced": Case(RVM, {"downsample": 0.5}),
    "recurrent, several devices": Case(RVM, devices=2),
    "recurrent, OpenVINO": Case(RVM, {"runtime": "openvino"}),
    "per frame, torch": Case(ISNET, {"batch": 2}),
    "two views each, torch": Case(ISNET, {"smooth": "strong", "batch": 3}),
    "stretched, torch": Case(ISNET, {"normalize": "minmax", "batch": 2}),
    "as rembg, torch": Case(ISNET, {"normalize": "rembg", "batch": 2}),
    "logits, torch": Case(("birefnet",), {"batch": 2}),
    "classes, torch": Case(("cloth",), {"batch": 2}),
    "the frame's aspect, torch": Case(("modnet",), {"batch": 2}),
    "recurrent, torch": Case(RVM),
    "the edge from another": Case(BOTH, {"batch": 2}),
    "the larger of two": Case(("isnet", "u2net"), {"combine": "max", "batch": 2}),
    "the smaller, recurrent first": Case(("rvm", "isnet"), {"combine": "min", "batch": 2}),
    "the person where there is one": Case(BOTH, {"combine": "auto"}, shows_state=False),
    "the mean of two recurrent": Case(("rvm", "rvm"), {"combine": "mean"}),
}
CACHED = (
    "four phases",
    "batches of 3",
    "paced",
    "recurrent",
    "recurrent, several devices",
    "the edge from another",
)
CASES = LOADED | {
    f"{name}, {how}": replace(LOADED[name], cached=how)
    for how in ("writing", "reading")
    for name in CACHED
}


def cases(wanted: Callable[[Case], bool] = lambda _: True) -> pytest.MarkDecorator:
    """Parametrizes a test over the ``wanted`` cases; OpenVINO's are skipped where it is missing."""
    missing = pytest.mark.skipif(not is_installed(), reason="openvino is not installed")
    marks = {"OpenVINO": missing, "torch": pytest.mark.torch}
    chosen = [
        pytest.param(name, marks=[mark for word, mark in marks.items() if word in name])
        for name, case in CASES.items()
        if wanted(case)
    ]
    return pytest.mark.parametrize("name", chosen)


def starts_anywhere(case: Case) -> bool:
    """Whether it accepts frames from the middle of a clip; a cache is read from the first."""
    return case.cached != "reading"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The weights of each family."""
    folder = tmp_path_factory.mktemp("networks")
    per_frame, recurrent = make_salient(folder / "s.onnx"), make_recurrent(folder / "r.onnx")
    every = dict.fromkeys(("isnet", "u2net", "birefnet"), per_frame) | {"rvm": recurrent}
    every["modnet"] = make_salient(folder / "m.onnx", size=("height", "width"), std=0.5)
    return every | {"cloth": make_classes(folder / "c.onnx", size=32)}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """The clip that the frames belong to, part of the cache's key."""
    (path,) = make_pictures(tmp_path_factory.mktemp("clip"), size=SIZE, frames=1)
    with open_reader(path, Settings()) as source:
        return replace(source.clip, kind="pictures")


@pytest.fixture(scope="module")
def compiled() -> dict[str, Network]:
    """OpenVINO's networks by case: to compile one takes longer than a test."""
    return {}


@pytest.fixture
def load(
    files: dict[str, Path],
    clip: Clip,
    tmp_path: Path,
    compiled: dict[str, Network],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Network]:
    """Loads a case's network, from other weights if ``files`` are given."""

    def loaded(name: str, files: dict[str, Path] = files) -> Network:
        if "OpenVINO" in name:
            if name not in compiled:
                compiled[name] = loaded_anew(name, files)
            return compiled[name]
        return loaded_anew(name, files)

    def loaded_anew(name: str, files: dict[str, Path]) -> Network:
        case = CASES[name]
        cache = {"cache": str(tmp_path / "cache")} if case.cached else {}
        settings = Settings(**({"runtime": "onnxruntime"} | case.options | cache))
        weights = tuple(Weights(family, family, files[family]) for family in case.families)
        device = _SeveralDevices([Device()] * case.devices) if case.devices > 1 else Device()
        if "torch" in name:
            device = TorchDevice("cpu")
            # Half precision has tests of its own: frames are not to depend on their number here.
            monkeypatch.setattr("vidmatte.models.load._half_runner", lambda *_, **_how: None)
        model = Model(weights, device, settings, pytest.fail)
        network = network_of(model, clip, settings)
        if case.cached == "reading":
            for _ in network.predict(iter(frames_of(count=LONGEST))):
                pass
            network = network_of(model, clip, settings)
        return network

    return loaded


def frames_of(cuts: tuple[int, ...] = (0,), count: int = COUNT) -> list[Frame]:
    """Dark noise with a bright rectangle that changes its width; shots begin at ``cuts``.

    The memory for alpha is filled with NaN, so that a pixel left unwritten is noticed.
    """
    random = np.random.default_rng(3)
    width, height = SIZE
    frames = []
    for index in range(count):
        rgb = random.integers(0, 100, (height, width, 3), np.uint8)
        rgb[8:32, 8 : 24 + 8 * (index % 3)] += 140
        picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        frame = Frame(index, 3 * index, 3, Fraction(1, 75), picture, rgb)
        frame.new_shot = index in cuts
        memory = np.full((height, width), np.nan, np.float32)
        frame.alpha_buffer = lambda memory=memory: memory
        frames.append(frame)
    return frames


def results(network: Network, frames: list[Frame]) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Alpha and foreground of each frame."""
    return [(frame.alpha.copy(), frame.foreground) for frame in network.predict(iter(frames))]


def assert_same(
    found: list[tuple[np.ndarray, np.ndarray | None]],
    meant: list[tuple[np.ndarray, np.ndarray | None]],
) -> None:
    """Alphas equal within ``SAME``, foregrounds within one code value."""
    assert len(found) == len(meant)
    for (alpha, colours), (other, others) in zip(found, meant, strict=True):
        np.testing.assert_allclose(alpha, other, atol=SAME)
        assert (colours is None) == (others is None)
        if colours is not None:
            assert np.abs(colours.astype(int) - others).max() <= 1


@cases()
def test_a_clip_of_one_frame_or_none(name: str, load: Callable[..., Network]) -> None:
    network, frames = load(name), frames_of(count=1)
    assert [id(frame) for frame in network.predict(iter(frames))] == [id(frames[0])]
    assert list(load(name).predict(iter([]))) == []


@cases()
def test_each_frame_comes_out_in_order_with_a_valid_alpha_and_otherwise_untouched(
    name: str, load: Callable[..., Network]
) -> None:
    (width, height), frames = SIZE, frames_of()
    out = list(load(name).predict(iter(frames)))
    assert [id(frame) for frame in out] == [id(frame) for frame in frames]
    for frame, before in zip(out, frames_of(), strict=True):
        alpha = frame.alpha
        assert alpha is frame.alpha_buffer(), "the alpha has to be written into the slot's memory"
        assert (alpha.shape, alpha.dtype) == ((height, width), np.float32)
        assert not np.isnan(alpha).any()
        assert 0 <= alpha.min() <= alpha.max() <= 1
        assert alpha.std() > 0.01, "a flat alpha tests nothing"
        assert np.array_equal(frame.rgb, before.rgb)
        assert np.array_equal(frame.picture.to_ndarray(), before.picture.to_ndarray())
        for what in ("index", "pts", "duration", "time_base", "new_shot", "name", "state"):
            assert getattr(frame, what) == getattr(before, what), what
        if "rvm" in CASES[name].families and CASES[name].options.get("combine") != "auto":
            assert (frame.foreground.shape, frame.foreground.dtype) == (before.rgb.shape, np.uint8)
        else:
            assert frame.foreground is None


@cases()
def test_attributes_are_present_and_consistent(name: str, load: Callable[..., Network]) -> None:
    case, network = CASES[name], load(name)
    assert network.recurrent is case.recurrent
    assert network.state_count == case.states
    assert type(network.batch) is type(network.batch_stride) is int
    assert network.batch >= network.batch_stride >= 1
    if starts_anywhere(case):
        assert network.batch_stride % case.options.get("batch", 1) == 0
    assert type(network.description) is str
    assert "\n" not in network.description
    assert bool(network.description) == (case.cached != "reading"), (
        "description has to name the runtime"
    )


@cases(lambda case: case.cached == "writing")
def test_writing_the_cache_passes_on_every_attribute(
    name: str, load: Callable[..., Network]
) -> None:
    network, inner = load(name), load(name.removesuffix(", writing"))
    for what in ("recurrent", "batch", "batch_stride", "state_count", "description"):
        assert getattr(network, what) == getattr(inner, what), what


@cases()
@pytest.mark.thinned(2)
def test_no_more_frames_are_in_flight_than_its_batch(
    name: str, load: Callable[..., Network]
) -> None:
    network, taken = load(name), 0

    def counted() -> Iterator[Frame]:
        nonlocal taken
        for frame in frames_of(count=LONGEST):
            taken += 1
            yield frame

    for number, _ in enumerate(network.predict(counted())):
        assert taken - number <= network.batch


@cases(starts_anywhere)
def test_starting_at_its_stride_equals_a_full_run(name: str, load: Callable[..., Network]) -> None:
    case, network = CASES[name], load(name)
    meant = results(network, frames_of())
    if case.states:
        return  # resumes from a saved state: see the next test
    assert network.batch_stride < COUNT
    assert_same(
        results(network, frames_of()[network.batch_stride :]), meant[network.batch_stride :]
    )


@cases(lambda case: starts_anywhere(case) and case.states == 1)
@pytest.mark.parametrize("first", [4, 8])
def test_resuming_from_a_frames_state_equals_an_uninterrupted_run(
    name: str, first: int, load: Callable[..., Network]
) -> None:
    network, frames = load(name), frames_of()
    assert first % network.batch_stride == 0
    frames[first].wants_state = True
    meant = results(network, frames)
    assert [frame.index for frame in frames if frame.state is not None] == [first]
    state = frames[first].state
    assert all(type(value) is np.ndarray for value in state.values())
    later = frames_of()[first:]
    later[0].state = {key: value.copy() for key, value in state.items()}
    assert_same(results(network, later), meant[first:])
    without = results(network, frames_of()[first:])
    assert (
        not CASES[name].shows_state or np.abs(without[0][0] - meant[first][0]).max() > 100 * SAME
    ), "the state makes no difference: nothing is tested"


@cases(starts_anywhere)
@pytest.mark.parametrize("cut", [4, 7])
@pytest.mark.thinned(2)
def test_a_cut_resets_the_state(name: str, cut: int, load: Callable[..., Network]) -> None:
    network = load(name)
    joined = results(network, frames_of(cuts=(0, cut)))
    assert_same(results(network, frames_of(cuts=(cut,))[cut:]), joined[cut:])
    uncut = results(network, frames_of())
    apart = np.abs(uncut[cut][0] - joined[cut][0]).max()
    if CASES[name].states and CASES[name].shows_state:
        assert apart > 100 * SAME, "the cut makes no difference: nothing is tested"


@cases()
@pytest.mark.thinned(2)
def test_it_can_be_used_again_after_leaving_early(name: str, load: Callable[..., Network]) -> None:
    network = load(name)
    meant = results(network, frames_of())
    mattes = network.predict(iter(frames_of()))
    next(mattes)
    del mattes
    assert not [one for one in threading.enumerate() if one.name.startswith("vidmatte")]
    assert_same(results(network, frames_of()), meant)


@cases()
@pytest.mark.thinned(2)
def test_an_error_of_the_reader_propagates(name: str, load: Callable[..., Network]) -> None:
    def failing() -> Iterator[Frame]:
        yield from frames_of(count=5)
        raise ZeroDivisionError("the source failed")

    came = 0
    with pytest.raises(ZeroDivisionError, match="the source failed"):
        for _ in load(name).predict(failing()):
            came += 1
    assert came <= 5


@cases(lambda case: case.cached == "writing")
def test_cached_results_are_those_of_the_run_that_wrote_them(
    name: str, load: Callable[..., Network]
) -> None:
    meant = results(load(name), frames_of())
    found = results(load(name), frames_of())  # from the cache
    for (alpha, colours), (other, others) in zip(found, meant, strict=True):
        assert np.array_equal(alpha, other)
        assert (colours is None) == (others is None)
        assert colours is None or np.array_equal(colours, others)


@cases()
@pytest.mark.thinned(2)
def test_cancelling_between_runs_is_harmless(name: str, load: Callable[..., Network]) -> None:
    network = load(name)
    network.cancel()
    meant = results(network, frames_of())
    found = []
    for frame in network.predict(iter(frames_of())):
        found.append((frame.alpha.copy(), frame.foreground))
        if CASES[name].devices == 1 and network.batch == 1:  # so no run is in progress
            network.cancel()
    assert_same(found, meant)


def is_interruptible(case: Case) -> bool:
    """Whether a run can be cancelled inside an operator; OpenVINO cancels only between two."""
    return starts_anywhere(case) and case.options.get("runtime") != "openvino"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        (name, part)
        for name, case in CASES.items()
        if is_interruptible(case)
        for part in range(len(case.families))
    ],
)
@pytest.mark.thinned(2)
def test_cancelling_ends_a_running_network_soon(
    name: str, part: int, load: Callable[..., Network], files: dict[str, Path], tmp_path: Path
) -> None:
    kind = CASES[name].families[part]
    slow = slowed(files[kind], "r4o" if kind == "rvm" else "logits", tmp_path / "slow.onnx")
    network = load(name, files | {kind: slow})
    begun, over, ended = threading.Event(), threading.Event(), []

    def frames() -> Iterator[Frame]:
        for frame in frames_of():
            begun.set()
            if not over.is_set():
                yield frame

    def run() -> None:
        try:
            ended.append(len(list(network.predict(frames()))))
        except Exception as error:  # noqa: BLE001 (of the runtime, whichever it is)
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(SOON)
    time.sleep(0.1)
    deadline = time.monotonic() + SOON
    while thread.is_alive() and time.monotonic() < deadline:
        network.cancel()  # repeatedly, as the pipeline does: the next run may just be starting
        thread.join(0.05)
    was_soon = not thread.is_alive()
    over.set()
    thread.join()
    assert was_soon
    assert isinstance(ended[0], Exception)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".part", ".mkv")]

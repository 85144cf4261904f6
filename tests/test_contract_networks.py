"""What every network promises, asked of each: per frame, recurrent, two at once, on several
devices, with its alphas kept, and from what was kept.

A network that is new gets its line in ``CASES``; everything here then runs on it too. All of
them are loaded as the product loads them, from files that a test can compute by hand.
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
import onnx
import pytest
from media import make_pictures
from onnx import TensorProto, helper
from tiny_onnx import make_recurrent, make_salient

from vidmatte.frame import Clip, Frame
from vidmatte.network import Network
from vidmatte.network.device import Device, SeveralDevices
from vidmatte.network.model import Model, Weights
from vidmatte.network.openvino import is_installed
from vidmatte.settings import Settings
from vidmatte.source import open_source

SIZE = (56, 40)
COUNT = 13  # frames: more than any of these networks has in hand, and no whole number of batches
LONGEST = 3 * COUNT  # frames
#: One network run twice, other frames beside it in its batch: the order of sums may differ.
SAME = 2e-5
#: Of a loop that does nothing: ten seconds and more. Who cancels that waits for less.
ROUNDS = 3_000_000
SOON = 5.0


@dataclass(frozen=True)
class Case:
    """A network: its parts by family, on how many devices, with which options.

    cached: '' without a cache, 'keeping' where its alphas are kept as they go by, 'kept' where
    an earlier run has kept them.
    """

    families: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    devices: int = 1
    cached: str = ""

    @property
    def recurrent(self) -> bool:
        """Whether each part sees the frames one after the other."""
        return set(self.families) == {"rvm"}

    @property
    def remembers(self) -> int:
        """How many parts have a state that frames may take along."""
        return 0 if self.cached == "kept" else self.families.count("rvm")


ISNET, RVM, BOTH = ("isnet",), ("rvm",), ("isnet", "rvm")
LOADED = {
    "per frame": Case(ISNET, {"smooth": "off"}),
    "in four turns": Case(ISNET),
    "in two turns": Case(ISNET, {"smooth": "live"}),
    "two looks each": Case(ISNET, {"smooth": "strong"}),
    "batches of 3": Case(ISNET, {"batch": 3}),
    "stretched": Case(ISNET, {"normalize": "minmax", "smooth": "off"}),
    "ImageNet's scale": Case(("u2net",)),
    "logits": Case(("birefnet",), {"smooth": "off"}),
    "per frame, several devices": Case(ISNET, {"batch": 2}, devices=2),
    "per frame, OpenVINO": Case(ISNET, {"runtime": "openvino"}),
    "recurrent": Case(RVM),
    "recurrent, reduced": Case(RVM, {"downsample": 0.5}),
    "recurrent, several devices": Case(RVM, devices=2),
    "recurrent, OpenVINO": Case(RVM, {"runtime": "openvino"}),
    "the edge from another": Case(BOTH, {"batch": 2}),
    "the larger of two": Case(("isnet", "u2net"), {"combine": "max", "batch": 2}),
    "the smaller, recurrent first": Case(("rvm", "isnet"), {"combine": "min", "batch": 2}),
    "the mean of two recurrent": Case(("rvm", "rvm"), {"combine": "mean"}),
}
CACHED = (
    "in four turns",
    "batches of 3",
    "recurrent",
    "recurrent, several devices",
    "the edge from another",
)
CASES = LOADED | {
    f"{name}, {how}": replace(LOADED[name], cached=how)
    for how in ("keeping", "kept")
    for name in CACHED
}


def cases(wanted: Callable[[Case], bool] = lambda _: True) -> pytest.MarkDecorator:
    """Runs a test over the cases that are ``wanted``; those of OpenVINO where it is installed."""
    missing = pytest.mark.skipif(not is_installed(), reason="openvino is not installed")
    chosen = [
        pytest.param(name, marks=missing if "OpenVINO" in name else ())
        for name, case in CASES.items()
        if wanted(case)
    ]
    return pytest.mark.parametrize("name", chosen)


def starts_anywhere(case: Case) -> bool:
    """Whether it may be given frames from the middle of a clip: kept alphas come in order."""
    return case.cached != "kept"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The weights of each family."""
    folder = tmp_path_factory.mktemp("networks")
    per_frame, recurrent = make_salient(folder / "s.onnx"), make_recurrent(folder / "r.onnx")
    return {"isnet": per_frame, "u2net": per_frame, "birefnet": per_frame, "rvm": recurrent}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """What the frames are said to be from."""
    (path,) = make_pictures(tmp_path_factory.mktemp("clip"), size=SIZE, frames=1)
    with open_source(path, Settings()) as source:
        return source.clip


@pytest.fixture
def load(files: dict[str, Path], clip: Clip, tmp_path: Path) -> Callable[..., Network]:
    """A network by the name of its case, loaded anew; other files may be named for it."""

    def loaded(name: str, files: dict[str, Path] = files) -> Network:
        case = CASES[name]
        cache = {"cache": str(tmp_path / "cache")} if case.cached else {}
        settings = Settings(**({"runtime": "onnxruntime"} | case.options | cache))
        weights = tuple(Weights(family, family, files[family]) for family in case.families)
        device = SeveralDevices([Device()] * case.devices) if case.devices > 1 else Device()
        model = Model(weights, device, settings, pytest.fail)
        network = model.network_for(clip)
        if case.cached == "kept":
            for _ in network.mattes(iter(frames_of(count=LONGEST))):
                pass
            network = model.network_for(clip)
        return network

    return loaded


def frames_of(cuts: tuple[int, ...] = (0,), count: int = COUNT) -> list[Frame]:
    """Dark noise with a bright part that grows and shrinks, in slots in which something is left
    of other frames. Shots begin at ``cuts``."""
    random = np.random.default_rng(3)
    width, height = SIZE
    frames = []
    for index in range(count):
        rgb = random.integers(0, 100, (height, width, 3), np.uint8)
        rgb[8:32, 8 : 24 + 8 * (index % 3)] += 140
        picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        frame = Frame(index, 3 * index, 3, Fraction(1, 75), picture, rgb)
        frame.new_shot = index in cuts
        frame.alpha_memory = np.full((height, width), np.nan, np.float32)
        frames.append(frame)
    return frames


def results(network: Network, frames: list[Frame]) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Alpha and foreground of each frame."""
    return [(frame.alpha.copy(), frame.foreground) for frame in network.mattes(iter(frames))]


def assert_same(
    found: list[tuple[np.ndarray, np.ndarray | None]],
    meant: list[tuple[np.ndarray, np.ndarray | None]],
) -> None:
    """The same alphas and foregrounds, but for the last bits."""
    assert len(found) == len(meant)
    for (alpha, colours), (other, others) in zip(found, meant, strict=True):
        np.testing.assert_allclose(alpha, other, atol=SAME)
        assert (colours is None) == (others is None)
        if colours is not None:
            assert np.abs(colours.astype(int) - others).max() <= 1


@cases()
@pytest.mark.parametrize("count", [0, 1, COUNT])
def test_each_frame_comes_out_once_and_in_order(
    name: str, count: int, load: Callable[..., Network]
) -> None:
    frames = frames_of(count=count)
    out = list(load(name).mattes(iter(frames)))
    assert [id(frame) for frame in out] == [id(frame) for frame in frames]


@cases()
def test_a_frame_gets_its_alpha_and_nothing_else_of_it_changes(
    name: str, load: Callable[..., Network]
) -> None:
    width, height = SIZE
    for frame, before in zip(load(name).mattes(iter(frames_of())), frames_of(), strict=True):
        alpha = frame.alpha
        assert alpha is frame.alpha_memory, "a slot's own memory is to be filled"
        assert (alpha.shape, alpha.dtype) == ((height, width), np.float32)
        assert not np.isnan(alpha).any()
        assert 0 <= alpha.min() <= alpha.max() <= 1
        assert alpha.std() > 0.01, "the network saw nothing: nothing is tested"
        assert np.array_equal(frame.rgb, before.rgb)
        assert np.array_equal(frame.picture.to_ndarray(), before.picture.to_ndarray())
        for what in ("index", "pts", "duration", "time_base", "new_shot", "name", "state"):
            assert getattr(frame, what) == getattr(before, what), what
        if "rvm" in CASES[name].families:
            assert (frame.foreground.shape, frame.foreground.dtype) == (before.rgb.shape, np.uint8)
        else:
            assert frame.foreground is None


@cases()
def test_what_it_says_of_itself_is_so(name: str, load: Callable[..., Network]) -> None:
    case, network = CASES[name], load(name)
    assert network.recurrent is case.recurrent
    assert network.states == case.remembers
    assert type(network.batch) is type(network.stride) is int
    assert network.batch >= network.stride >= 1
    if starts_anywhere(case):
        assert network.stride % case.options.get("batch", 1) == 0
    assert type(network.about) is str
    assert "\n" not in network.about
    assert bool(network.about) == (case.cached != "kept"), "what runs it is to be said"


@cases(lambda case: case.cached == "keeping")
def test_a_network_whose_alphas_are_kept_is_otherwise_the_same(
    name: str, load: Callable[..., Network]
) -> None:
    network, inner = load(name), load(name.removesuffix(", keeping"))
    for what in ("recurrent", "batch", "stride", "states", "about"):
        assert getattr(network, what) == getattr(inner, what), what


@cases()
def test_no_more_frames_are_in_hand_than_its_batch(name: str, load: Callable[..., Network]) -> None:
    network, taken = load(name), 0

    def counted() -> Iterator[Frame]:
        nonlocal taken
        for frame in frames_of(count=LONGEST):
            taken += 1
            yield frame

    for number, _ in enumerate(network.mattes(counted())):
        assert taken - number <= network.batch


@cases(starts_anywhere)
def test_batches_begin_anew_at_its_stride(name: str, load: Callable[..., Network]) -> None:
    """What comes of the frames from there on is what comes of them in a longer run."""
    case, network = CASES[name], load(name)
    meant = results(network, frames_of())
    if case.remembers:
        return  # by its state: see below
    assert network.stride < COUNT
    assert_same(results(network, frames_of()[network.stride :]), meant[network.stride :])


@cases(lambda case: starts_anywhere(case) and case.remembers == 1)
@pytest.mark.parametrize("first", [4, 8])
def test_with_the_state_of_a_frame_it_goes_on_as_if_it_had_never_stopped(
    name: str, first: int, load: Callable[..., Network]
) -> None:
    network, frames = load(name), frames_of()
    assert first % network.stride == 0
    frames[first].wants_state = True
    meant = results(network, frames)
    assert [frame.index for frame in frames if frame.state is not None] == [first]
    state = frames[first].state
    assert all(type(value) is np.ndarray for value in state.values())
    later = frames_of()[first:]
    later[0].state = {key: value.copy() for key, value in state.items()}
    assert_same(results(network, later), meant[first:])
    without = results(network, frames_of()[first:])
    assert np.abs(without[0][0] - meant[first][0]).max() > 100 * SAME, "there is no state in it"


@cases(starts_anywhere)
@pytest.mark.parametrize("cut", [4, 7])
def test_nothing_is_remembered_across_a_cut(
    name: str, cut: int, load: Callable[..., Network]
) -> None:
    network = load(name)
    joined = results(network, frames_of(cuts=(0, cut)))
    assert_same(results(network, frames_of(cuts=(cut,))[cut:]), joined[cut:])
    uncut = results(network, frames_of())
    apart = np.abs(uncut[cut][0] - joined[cut][0]).max()
    if CASES[name].remembers:
        assert apart > 100 * SAME, "there is nothing in it that a cut could reset"


@cases()
def test_it_can_be_used_again(name: str, load: Callable[..., Network]) -> None:
    """Also after somebody has left it early; nothing is left of that but the network."""
    network = load(name)
    meant = results(network, frames_of())
    mattes = network.mattes(iter(frames_of()))
    next(mattes)
    del mattes
    assert not [one for one in threading.enumerate() if one.name.startswith("vidmatte")]
    assert_same(results(network, frames_of()), meant)


@cases()
def test_what_goes_wrong_before_it_comes_through(name: str, load: Callable[..., Network]) -> None:
    def failing() -> Iterator[Frame]:
        yield from frames_of(count=5)
        raise ZeroDivisionError("the source failed")

    came = 0
    with pytest.raises(ZeroDivisionError, match="the source failed"):
        for _ in load(name).mattes(failing()):
            came += 1
    assert came <= 5


@cases(lambda case: case.cached == "keeping")
def test_what_was_kept_is_what_came(name: str, load: Callable[..., Network]) -> None:
    meant = results(load(name), frames_of())
    found = results(load(name), frames_of())  # by now from the cache
    for (alpha, colours), (other, others) in zip(found, meant, strict=True):
        assert np.array_equal(alpha, other)
        assert (colours is None) == (others is None)
        assert colours is None or np.array_equal(colours, others)


@cases()
def test_a_call_to_cancel_between_runs_is_harmless(name: str, load: Callable[..., Network]) -> None:
    network = load(name)
    network.cancel()
    meant = results(network, frames_of())
    found = []
    for frame in network.mattes(iter(frames_of())):
        found.append((frame.alpha.copy(), frame.foreground))
        if CASES[name].devices == 1 and network.batch == 1:  # nothing is under way
            network.cancel()
    assert_same(found, meant)


def slowed(path: Path, value: str, out: Path) -> Path:
    """A copy of a network in which ``value`` goes through a loop of many rounds."""
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


def is_interruptible(case: Case) -> bool:
    """Whether a run can end within an operator, as the loop is one: OpenVINO's end between two."""
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
def test_a_run_under_way_ends_soon_when_it_is_cancelled(
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
            ended.append(len(list(network.mattes(frames()))))
        except Exception as error:  # noqa: BLE001 (of the runtime, whichever it is)
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(SOON)
    time.sleep(0.1)
    deadline = time.monotonic() + SOON
    while thread.is_alive() and time.monotonic() < deadline:
        network.cancel()  # often: it may have been about to begin its next run
        thread.join(0.05)
    was_soon = not thread.is_alive()
    over.set()
    thread.join()
    assert was_soon
    assert isinstance(ended[0], Exception)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".part", ".mkv")]

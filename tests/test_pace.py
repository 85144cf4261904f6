"""A network that runs on key frames only, and mattes carried to the frames between them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from media import make_movie
from scene import Picture, draw_ball
from tiny_onnx import make_recurrent, make_salient

import vidmatte
from vidmatte.alpha.carry import LOOSE, STRICT, KeyMatte, Limits, ReducedFrame, Stretch
from vidmatte.cli.main import main
from vidmatte.core.frame import Frame
from vidmatte.core.segment import History
from vidmatte.errors import UsageError
from vidmatte.jobs.paced import Pace, _pace_named, _PacedNetwork, network_of
from vidmatte.jobs.segment import Needs, plan_segment
from vidmatte.jobs.smoothing import temporal_filter_for
from vidmatte.models.augment import _ALTERNATING, SCHEDULES, View, mark_views, views_of
from vidmatte.models.base import Network
from vidmatte.models.registry import find_model
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

WIDTH, HEIGHT = 144, 96
NEVER, ALWAYS = Limits(9, 9, 9, 9, 9), Limits(-1, -1, -1, -1, -1)
AUTO = _pace_named("auto")
assert AUTO is not None


class Truth(Network):
    """Knows the alpha of every frame, and counts the frames that it is asked for."""

    recurrent = False

    def __init__(self, alphas: Sequence[np.ndarray], batch: int = 1, schedule: str = "plain"):
        self.alphas, self.batch, self.schedule = alphas, batch, schedule
        self.ran: list[int] = []
        self.views: list[tuple[View, ...]] = []

    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            self.ran.append(frame.index)
            self.views.append(views_of(frame, self.schedule))
            mark_views(frame, [self.schedule])
            frame.writable_alpha()[:] = self.alphas[frame.index]
            yield frame

    def cancel(self) -> None:
        """Nothing to cancel."""


@cache
def texture(seed: int, width: int = 3 * WIDTH) -> np.ndarray:
    """A picture with detail at several scales, (HEIGHT, width, 3) uint8."""
    random = np.random.default_rng(seed)
    total = np.zeros((HEIGHT, width, 3), np.float32)
    for cells in (6, 16, 48):
        noise = random.uniform(0, 80, (cells, cells * 2, 3)).astype(np.float32)
        total += cv2.resize(noise, (width, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.clip(total, 0, 255).astype(np.uint8)


def scene(speeds: Sequence[float], cuts: Sequence[int] = ()) -> tuple[list[Frame], list[Any]]:
    """Frames of a soft disc that moves by ``speeds`` pixels, and its alpha. At each of ``cuts`` a
    shot begins, in which all looks different and the disc is elsewhere."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    frames, alphas, at, shot = [], [], 0.0, 0
    for index, speed in enumerate(speeds):
        shot, at = (shot + 1, 0.0) if index in cuts else (shot, at + speed)
        middle = 45 + 60 * (shot % 2) + at
        alpha = np.clip((26 - np.hypot(x - middle, y - 48)) / 4 + 0.5, 0, 1).astype(np.float32)
        shift = np.float32([[1, 0, middle - 100], [0, 1, 0]])
        coat = cv2.warpAffine(texture(2 * shot), shift, (WIDTH, HEIGHT), borderMode=cv2.BORDER_WRAP)
        ground = texture(2 * shot + 1)[:, :WIDTH] // 2
        rgb = alpha[..., None] * (coat // 2 + 110) + (1 - alpha[..., None]) * ground
        picture = av.VideoFrame(WIDTH, HEIGHT, "rgb24")
        frame = Frame(index, index, 1, Fraction(1, 25), picture, np.rint(rgb).astype(np.uint8))
        frame.new_shot = index == 0 or index in cuts
        frames.append(frame)
        alphas.append(alpha)
    return frames, alphas


def paced(
    speeds: Sequence[float], pace: Pace | int, limits: Limits = NEVER, **more: Any
) -> tuple[list[Frame], Truth]:
    """The frames of a scene with their alpha, and the network that ran on some of them."""
    cuts = more.pop("cuts", ())
    frames, alphas = scene(speeds, cuts)
    truth = Truth(alphas, **more)
    network = _PacedNetwork(truth, Pace(pace, limits) if isinstance(pace, int) else pace)
    return list(network.predict(iter(frames))), truth


@pytest.mark.parametrize(
    ("distance", "count", "ran"),
    [
        (4, 13, [0, 4, 8, 12]),
        (4, 11, [0, 4, 8, 10]),
        (3, 8, [0, 3, 6, 7]),
        (1, 3, [0, 1, 2]),
        (8, 1, [0]),
        (2, 0, []),
    ],
)
def test_the_network_runs_on_key_frames_and_the_last(
    distance: int, count: int, ran: list[int]
) -> None:
    frames, truth = paced([1] * count, distance)
    assert sorted(truth.ran) == ran
    assert [frame.index for frame in frames] == [*range(count)]
    assert [frame.index for frame in frames if not frame.carried] == ran


@pytest.mark.parametrize("speed", [0.0, 0.7, 2.5])
def test_a_carried_matte_follows_the_motion(speed: float) -> None:
    frames, truth = paced([speed] * 9, 4)
    errors = [np.abs(frame.alpha - truth.alphas[frame.index]).mean() for frame in frames]
    unmoved = np.abs(truth.alphas[0] - truth.alphas[2]).mean()
    assert errors[0] == errors[4] == 0
    assert max(errors) < max(0.002, 0.25 * unmoved)


def test_where_every_matte_is_in_doubt_the_network_runs_on_all_frames() -> None:
    frames, truth = paced([1] * 10, 4, ALWAYS)
    assert sorted(truth.ran) == [*range(10)]
    for frame in frames:
        assert np.array_equal(frame.alpha, truth.alphas[frame.index])
        assert not frame.carried


def test_doubt_brings_the_network_back_only_where_there_is_some() -> None:
    frames, alphas = scene([0.4] * 17)
    for at in (9, 10):  # something that is subject hides a part of the disc for two frames
        frames[at].rgb[20:60, 60:100] = (255, 0, 60)
        alphas[at][20:60, 60:100] = 1
    truth = Truth(alphas)
    list(_PacedNetwork(truth, Pace(4, LOOSE)).predict(iter(frames)))
    assert {9, 10} <= {*truth.ran} < {0, 4, 8, 9, 10, 11, 12, 16, 13, 14, 15}
    assert len(truth.ran) == len({*truth.ran})


def test_auto_leaves_fast_motion_to_the_network_as_it_is() -> None:
    frames, truth = paced([6] * 13, AUTO, schedule="four")
    assert sorted(truth.ran) == [*range(13)]
    assert [one.augment_phase for one in frames] == [index % 4 for index in range(13)]
    assert not any(one.carried for one in frames)


def test_auto_merges_views_of_its_key_frames() -> None:
    frames, truth = paced([0.2] * 19, AUTO, schedule="four")
    seen = {index: {*views} for index, views in by_frame(truth).items()}
    first, second = {*_ALTERNATING[:2]}, {*_ALTERNATING[2:]}
    assert seen == {0: first | second, 6: second, 12: first, 18: second}
    assert [one.index for one in frames if not one.carried] == [0, 6, 12, 18]
    # The filter weighs views against each other: all frames count, as if each had its own.
    assert [one.augment_phase for one in frames] == [index % 4 for index in range(19)]
    assert [one.mirrored for one in frames] == [index % 2 == 1 for index in range(19)]
    for frame in frames:
        assert np.abs(frame.alpha - truth.alphas[frame.index]).mean() < 0.002


def by_frame(truth: Truth) -> dict[int, list[View]]:
    """The views that each frame was seen in."""
    found: dict[int, list[View]] = {}
    for index, views in zip(truth.ran, truth.views, strict=True):
        found.setdefault(index, []).extend(views)
    return found


def test_auto_runs_on_all_frames_between_mattes_that_disagree() -> None:
    frames, alphas = scene([0.1] * 13)
    for alpha in alphas[12:]:
        alpha[:, :45] = 0  # the network no longer sees a part of the disc, which is still there
    truth = Truth(alphas, schedule="four")
    list(_PacedNetwork(truth, AUTO).predict(iter(frames)))
    assert {*truth.ran} == {0, *range(6, 13)}


@pytest.mark.parametrize("cut", [3, 4, 5, 6])
def test_nothing_is_carried_across_a_cut(cut: int) -> None:
    frames, truth = paced([0.5] * 11, 4, cuts=(cut,))
    assert {cut - 1, cut} <= {*truth.ran}
    for frame in frames:
        assert np.abs(frame.alpha - truth.alphas[frame.index]).mean() < 0.002


def test_no_more_frames_are_in_flight_than_its_batch() -> None:
    for pace, batch in ((Pace(4, NEVER), 1), (Pace(3, NEVER), 2), (Pace(8, NEVER), 1), (AUTO, 1)):
        frames, alphas = scene([0.2] * 30, cuts=(13,))
        network, taken = _PacedNetwork(Truth(alphas, batch), pace), []
        for number, _ in enumerate(network.predict(taken.append(f) or f for f in frames)):
            assert len(taken) - number <= network.batch


@pytest.mark.parametrize(
    ("batch", "pace"),
    [(1, Pace(3, STRICT)), (2, Pace(3, NEVER)), (1, Pace(3, ALWAYS)), (1, AUTO), (2, AUTO)],
)
@pytest.mark.thinned(2)
def test_a_part_of_a_clip_gives_the_same_frames(batch: int, pace: Pace) -> None:
    speeds, cuts = [0.4] * 13 + [2.5] * 4 + [0.4] * 20, (19,)
    full = paced(speeds, pace, batch=batch, cuts=cuts, schedule="four")[0]
    network = _PacedNetwork(Truth(scene(speeds, cuts)[1], batch, "four"), pace)
    needs = Needs.of(network, temporal_filter_for(recurrent=False, settings=Settings(smooth="off")))
    for first, stop in ((12, 15), (17, 20), (24, 30)):
        segment, _ = plan_segment(first, stop, needs, History())
        part = scene(speeds, cuts)[0][segment.start : needs.read_stop(segment)]
        done = {frame.index: frame for frame in network.predict(iter(part))}
        for index in range(first, stop):
            assert np.array_equal(done[index].alpha, full[index].alpha)
            assert done[index].augment_phase == full[index].augment_phase


@pytest.mark.parametrize("distance", [*range(1, 9)])
@pytest.mark.parametrize("schedule", ["two", "four"])
def test_key_frames_take_every_view(distance: int, schedule: str) -> None:
    views = len(SCHEDULES[schedule])
    frames = scene([0] * (views * (distance + 1) + 1))[0]
    nothing = np.zeros((HEIGHT, WIDTH), np.float32)
    truth = Truth([nothing] * len(frames), schedule=schedule)
    network = _PacedNetwork(truth, Pace(distance, NEVER))
    for step, count in ((1, 2 * views), (distance, views)):
        truth.views.clear()
        list(network.run(frames[step::step][:count]))
        assert len({*truth.views}) == views
    carried = paced([0] * 5, 4, schedule=schedule)[0]
    assert [one.augment_phase for one in carried] == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("still", [None, NEVER, ALWAYS])
def test_frames_between_take_memory_for_alpha_one_by_one(still: Limits | None) -> None:
    frames, alphas = scene([0] * 13)
    network = _PacedNetwork(Truth(alphas, schedule="four"), Pace(6, NEVER, still))
    most = 0
    for frame in network.predict(iter(frames)):
        most = max(most, sum(one.alpha is not None for one in frames))
        frame.alpha = None
    assert most == 2, "the next key frame and one more"


def test_an_empty_matte_is_carried() -> None:
    (first, middle, last), alphas = scene([0] * 3)
    nothing = np.zeros_like(alphas[0])
    reduced = [ReducedFrame.of(frame.rgb) for frame in (first, middle, last)]
    first.alpha = last.alpha = nothing
    stretch = Stretch(
        reduced, *(KeyMatte.of_frame(one, reduced[0]) for one in (first, last)), threads=2
    )
    assert stretch.is_empty and stretch.doubtful_places(STRICT) == []
    assert list(stretch.carried([middle])) == [middle]
    assert not middle.alpha.any()


def draw_slowly(position: float, width: int, height: int, lit: bool = False) -> Picture:
    """The ball at a tenth of its speed."""
    return draw_ball(position / 10, width, height, lit)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip and two networks."""
    folder = tmp_path_factory.mktemp("pace")
    make_movie(folder / "clip.mp4", size=(96, 64), frames=30, draw=draw_slowly)
    make_salient(folder / "isnet.onnx")
    make_recurrent(folder / "rvm.onnx")
    return folder


def options(inputs: Path, network: str = "isnet", **more: Any) -> dict[str, Any]:
    return {"model": str(inputs / f"{network}.onnx"), "family": network, "threads": 1, **more}


def alphas(inputs: Path, **more: Any) -> np.ndarray:
    with vidmatte.stream(inputs / "clip.mp4", **options(inputs, **more)) as frames:
        return np.stack([frame.alpha for frame in frames])


def test_every_is_the_default_and_the_network_itself(inputs: Path) -> None:
    meant = alphas(inputs)
    for pace in ("every", 1):
        assert np.array_equal(alphas(inputs, pace=pace), meant)
    assert not np.array_equal(alphas(inputs, pace=5), meant)
    settings = Settings(**options(inputs))
    model = find_model(settings, pytest.fail)
    with open_reader(inputs / "clip.mp4", settings) as source:
        assert network_of(model, source.clip, settings) is model.network
        asked = settings.changed(pace="auto")
        assert isinstance(network_of(model, source.clip, asked), _PacedNetwork)
        assert network_of(model, replace(source.clip, kind="picture"), asked) is model.network
        as_they_are = asked.changed(normalize="minmax")
        assert network_of(model, source.clip, as_they_are) is model.network
    assert _pace_named("every") is _pace_named("1") is None


def test_a_cached_run_equals_the_one_that_wrote_the_cache(inputs: Path, tmp_path: Path) -> None:
    made = [alphas(inputs, pace=3, cache=tmp_path / "cache") for _ in range(2)]
    assert np.array_equal(*made)
    alphas(inputs, pace="every", cache=tmp_path / "cache")
    assert len([*(tmp_path / "cache").glob("*.mkv")]) == 2


def test_a_resumed_run_and_its_report(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(out: Path, *more: str) -> list[str]:
        words = [f"--{name}={value}" for name, value in options(inputs, pace=4).items()]
        return [str(inputs / "clip.mp4"), "-o", str(out), *words, *more]

    def stop(progress: Any) -> None:
        if progress.done == 14:
            raise KeyboardInterrupt

    assert main(command(tmp_path / "once.mov", "--json")) == 0
    done = [json.loads(line) for line in capsys.readouterr().out.splitlines()][-2]
    assert done["carried"] > 10
    with pytest.raises(KeyboardInterrupt):
        vidmatte.matte(
            inputs / "clip.mp4",
            tmp_path / "parts.mov",
            progress=stop,
            resume=True,
            **options(inputs, pace=4),
        )
    assert main(command(tmp_path / "parts.mov", "--resume")) == 0
    assert " (network on " in capsys.readouterr().err
    found = [(tmp_path / name).read_bytes() for name in ("once.mov", "parts.mov")]
    assert found[0] == found[1]
    manifest = json.loads((tmp_path / "once.mov.json").read_text())
    assert manifest["settings"]["pace"] == "4"


@pytest.mark.parametrize(
    ("network", "more", "message"),
    [
        ("rvm", {"pace": 3}, "--pace 3: rvm is recurrent and needs every frame: omit --pace"),
        ("isnet", {"pace": 2, "smooth": "live"}, "--pace 2: it looks at later frames, which "),
        ("isnet", {"pace": "often"}, "--pace: 'often' is not a pace: choose auto, every, or "),
        ("isnet", {"pace": 9}, "--pace: '9' is not a pace: .* 1 to 8"),
        ("isnet", {"pace": 3, "like": "rembg"}, "--like rembg is --pace every: omit --pace 3"),
    ],
)
def test_paces_that_cannot_be_had_are_refused(
    network: str, more: dict[str, Any], message: str, inputs: Path
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        find_model(Settings(**options(inputs, network, **more)), pytest.fail)
    assert "\n" not in str(caught.value)


def test_auto_leaves_recurrent_and_live_networks_alone(inputs: Path) -> None:
    for network, more in (("rvm", {}), ("isnet", {"smooth": "live"})):
        chosen = options(inputs, network, **more)
        with vidmatte.stream(inputs / "clip.mp4", **chosen) as frames:
            meant = [frame.alpha for frame in frames]
        with vidmatte.stream(inputs / "clip.mp4", **chosen, pace="auto") as frames:
            assert all(map(np.array_equal, meant, (frame.alpha for frame in frames)))


def test_a_keyer_takes_every_frame() -> None:
    with pytest.raises(UsageError, match="chroma takes each frame's alpha from its own colours"):
        find_model(Settings(model="chroma", pace=2), pytest.fail)


def test_a_chosen_subject_is_kept_at_a_pace(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDMATTE_OFFLINE", "1")  # no backbone: colours and motion decide
    chosen = {"subject": "largest", "out_point": "f19"}
    on_every = alphas(inputs, **chosen)
    kept = alphas(inputs, pace=3, **chosen)
    assert not np.array_equal(kept, on_every)
    assert np.abs(kept - on_every).mean() < 0.01

"""The temporal filter: order, bounds, exact 0 and 1, cuts, any size."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
from media import Movie

from vidmatte.alpha.temporal_filter import TemporalFilter
from vidmatte.alpha.track import WINDOWS
from vidmatte.core.families import PER_FRAME
from vidmatte.jobs.smoothing import filter_threads
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

MODES = ["off", "live", "on"]


@dataclass
class Picture:
    rgb: np.ndarray
    alpha: np.ndarray | None
    new_shot: bool = False
    number: int = 0
    mirrored: bool = False
    augment_phase: int = 0


def texture(seed: int, height: int, width: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    cells = random.integers(0, 256, (max(2, height // 8), max(2, width // 8), 3), np.uint8)
    return cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)


def disc(height: int, width: int, x: float, radius: float) -> np.ndarray:
    """A soft disc of exact coverage, (height, width) float32."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    distance = np.hypot(columns - x, rows - height / 2)
    return np.clip((radius - distance) / 6 + 0.5, 0, 1).astype(np.float32)


def shot(
    count: int, *, seed: int = 0, size: tuple[int, int] = (120, 200), speed: float = 3, noise=0.0
) -> Iterator[Picture]:
    """A textured disc that moves over another texture, with a noisy matte."""
    height, width = size
    ground, skin = texture(seed + 1, height, width), texture(seed + 2, height, width)
    random = np.random.default_rng(seed)
    for number in range(count):
        alpha = disc(height, width, width * 0.3 + speed * number, height * 0.3)
        moved = np.roll(skin, round(speed * number), axis=1)
        rgb = moved * alpha[..., None] + ground * (1 - alpha[..., None])
        soft = (alpha > 0) & (alpha < 1)
        guess = np.clip(alpha + soft * random.normal(0, noise, alpha.shape), 0, 1)
        yield Picture(rgb.astype(np.uint8), guess.astype(np.float32), number == 0, number)


def filter_frames(
    frames: Iterable[Picture], mode: str = "on", refine: str = "fast"
) -> Iterator[Picture]:
    """The frames after both halves of the filter, one after the other; their alphas are copied."""
    how = TemporalFilter(WINDOWS[mode], refine, 1.0, PER_FRAME)
    return how.average_stage(how.track_stage(copied(frames)))


def copied(frames: Iterable[Picture]) -> Iterator[Picture]:
    """The same frames, each with an alpha of its own that may be changed."""
    for frame in frames:
        if frame.alpha is not None:
            frame.alpha = np.array(frame.alpha, np.float32)
        yield frame


@pytest.mark.parametrize("refine", ["fast", "off"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_all_frames_come_out_in_order(mode: str, refine: str, count: int) -> None:
    out = list(filter_frames(shot(count), mode=mode, refine=refine))
    assert [frame.number for frame in out] == list(range(count))
    for frame in out:
        assert frame.alpha.dtype == np.float32
        assert frame.alpha.shape == frame.rgb.shape[:2]
        assert frame.alpha.min() >= 0
        assert frame.alpha.max() <= 1


@pytest.mark.parametrize("mode", MODES)
def test_no_more_frames_are_buffered_than_the_look_ahead(mode: str) -> None:
    taken = 0

    def counted() -> Iterator[Picture]:
        nonlocal taken
        for frame in shot(9):
            taken += 1
            yield frame

    ahead = []
    for frame in filter_frames(counted(), mode=mode):
        ahead.append(taken - 1 - frame.number)
    assert max(ahead) == ahead[0] == len(WINDOWS[mode].after) <= 4
    assert max(ahead[4:]) == WINDOWS[mode].ahead <= 3


@pytest.mark.parametrize("refine", ["fast", "best"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.thinned(2)
def test_no_frame_beyond_the_look_back_affects_a_result(mode: str, refine: str) -> None:
    frames, last = list(shot(26, speed=1, noise=0.2)), 19
    how = TemporalFilter(WINDOWS[mode], refine, 1.0, PER_FRAME)

    def result(first: int, **changed: int) -> np.ndarray:
        seen = list(copied(map(replace, frames[first:])))
        seen[0].new_shot = False
        for number in changed.values():
            seen[number].alpha[:] = np.sqrt(seen[number].alpha)
        return next(f for f in how.average_stage(how.track_stage(seen)) if f.number == last).alpha

    full = result(0)
    furthest = last - how.look_back
    np.testing.assert_array_equal(result(furthest), full)
    assert (result(0, changed=furthest) != full).any()


@pytest.mark.parametrize("refine", ["fast", "best", "off"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.thinned(2)
def test_more_threads_give_the_same_frames(mode: str, refine: str) -> None:
    def filtered(threads: int) -> list[np.ndarray]:
        how = TemporalFilter(WINDOWS[mode], refine, 1.0, PER_FRAME, threads)
        seen = [*shot(9, speed=2, noise=0.2), *shot(7, speed=1, noise=0.3)]
        found = list(how.average_stage(how.track_stage(copied(seen))))
        assert [frame.number for frame in found] == [frame.number for frame in seen]
        return [frame.alpha for frame in found]

    for one, other in zip(filtered(1), filtered(3), strict=True):
        np.testing.assert_array_equal(one, other)


def test_threads_hold_no_more_frames_than_they_say() -> None:
    taken = 0

    def counted() -> Iterator[Picture]:
        nonlocal taken
        for frame in shot(40):
            taken += 1
            yield frame

    how = TemporalFilter(WINDOWS["on"], "best", 1.0, PER_FRAME, 3)
    ahead = [
        taken - 1 - frame.number for frame in how.average_stage(how.track_stage(copied(counted())))
    ]
    assert how.look_ahead < max(ahead) <= how.look_ahead + how.held_by_threads


def test_threads_end_with_a_failure_and_with_an_early_end() -> None:
    def broken() -> Iterator[Picture]:
        yield from shot(12)
        raise OSError("the disk is gone")

    before = threading.active_count()
    how = TemporalFilter(WINDOWS["on"], "fast", 1.0, PER_FRAME, 3)
    with pytest.raises(OSError, match="the disk is gone"):
        list(how.average_stage(how.track_stage(broken())))
    tracked = how.track_stage(shot(12))
    frames = how.average_stage(tracked)
    next(frames)
    frames.close()
    tracked.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("cores", "memory", "threads"),
    [(1, "4G", 1), (2, "4G", 1), (4, "4G", 2), (8, "4G", 4), (32, "4G", 4), (32, "128M", 1)],
)
def test_the_threads_follow_cores_and_memory(
    cores: int, memory: str, threads: int, source_movie: Callable[[str], Movie]
) -> None:
    with open_reader(source_movie("8-bit 709").path, Settings()) as source:
        clip = replace(source.clip, width=1920, height=1080)
    assert filter_threads(clip, Settings(threads=cores, memory=memory)) == threads


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_a_frame_is_not_read_after_it_was_yielded(mode: str, threads: int) -> None:
    untouched = [frame.alpha.copy() for frame in filter_frames(shot(8, noise=0.2), mode=mode)]
    overwritten = []
    how = TemporalFilter(WINDOWS[mode], "fast", 1.0, PER_FRAME, threads)
    for frame in how.average_stage(how.track_stage(copied(shot(8, noise=0.2)))):
        overwritten.append(frame.alpha.copy())
        frame.rgb[:] = 0
        frame.alpha[:] = 1
    for one, other in zip(untouched, overwritten, strict=True):
        np.testing.assert_array_equal(one, other)


def test_off_and_off_changes_nothing() -> None:
    raw = [frame.alpha for frame in shot(4, noise=0.2)]
    for before, frame in zip(
        raw, filter_frames(shot(4, noise=0.2), mode="off", refine="off"), strict=True
    ):
        np.testing.assert_array_equal(before, frame.alpha)


@pytest.mark.parametrize("refine", ["fast", "off"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_empty_and_full_mattes_stay_exact(mode: str, refine: str, value: float) -> None:
    frames = [
        Picture(texture(n, 48, 80), np.full((48, 80), value, np.float32), n == 0) for n in range(5)
    ]
    for frame in filter_frames(frames, mode=mode, refine=refine):
        assert (frame.alpha == value).all()


@pytest.mark.parametrize("mode", MODES)
def test_inside_stays_one_and_outside_stays_zero(mode: str) -> None:
    for frame in filter_frames(shot(8, noise=0.2), mode=mode):
        truth = disc(120, 200, 60 + 3 * frame.number, 36)
        deep = cv2.erode(truth, np.ones((15, 15))) == 1
        far = cv2.dilate(truth, np.ones((41, 41))) == 0
        assert deep.any()
        assert far.any()
        assert (frame.alpha[deep] == 1).all()
        assert (frame.alpha[far] == 0).all()


@pytest.mark.parametrize("mode", ["live", "on"])
def test_nothing_is_averaged_across_a_cut(mode: str) -> None:
    apart = [
        frame.alpha for seed in (0, 50) for frame in filter_frames(shot(5, seed=seed), mode=mode)
    ]

    def joined() -> Iterator[Picture]:
        for seed in (0, 50):
            yield from shot(5, seed=seed)

    together = [frame.alpha for frame in filter_frames(joined(), mode=mode)]
    for one, other in zip(apart, together, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (7, 5), (33, 41), (355, 1283)])
def test_any_size_works(mode: str, size: tuple[int, int]) -> None:
    out = list(filter_frames(shot(4, size=size, noise=0.1), mode=mode))
    assert [frame.alpha.shape for frame in out] == [size] * 4


def test_a_noisy_edge_becomes_steadier_while_it_moves() -> None:
    def error(mode: str) -> float:
        total = 0.0
        for frame in filter_frames(shot(10, noise=0.25), mode=mode, refine="off"):
            truth = disc(120, 200, 60 + 3 * frame.number, 36)
            total += float(np.square(frame.alpha - truth).mean())
        return total

    assert error("on") < 0.5 * error("off")


def test_a_still_scene_under_noise_is_three_times_steadier() -> None:
    def deviation(mode: str, refine: str) -> float:
        random = np.random.default_rng(5)
        frames = list(shot(18, speed=0, noise=0.2))
        for frame in frames:
            noise = random.normal(0, 4, frame.rgb.shape)
            frame.rgb = np.clip(np.rint(frame.rgb + noise), 0, 255).astype(np.uint8)
        alphas = [frame.alpha for frame in filter_frames(frames, mode=mode, refine=refine)]
        return float(np.sqrt(np.var(alphas[8:-2], axis=0).mean()))

    assert deviation("on", "fast") < deviation("off", "off") / 3


def test_a_frame_without_alpha_is_refused() -> None:
    with pytest.raises(ValueError, match="no alpha"):
        list(filter_frames([Picture(texture(0, 8, 8), None, True)], mode="on"))


def test_a_still_matte_does_not_drift_as_augment_phases_enter_the_window() -> None:
    frames = list(shot(16, speed=0))
    for frame in frames:
        frame.augment_phase = frame.number % 4
        frame.alpha = frame.alpha * np.float32(0.6 + 0.1 * frame.augment_phase)
    mean = np.mean([frame.alpha for frame in frames], axis=0)
    how = TemporalFilter(WINDOWS["on"], "off", 1.0, replace(PER_FRAME, black=0, white=1))
    for frame in how.average_stage(how.track_stage(copied(iter(frames)))):
        np.testing.assert_allclose(frame.alpha, mean, atol=2e-3)


def pan(count: int, speed: int, noise: float = 0.2) -> Iterator[Picture]:
    """A camera pan by ``speed`` pixels a frame over a disc whose matte has a noisy edge."""
    height, width = 120, 200
    wide = texture(1, height, width + speed * count)
    random = np.random.default_rng(0)
    for number in range(count):
        alpha = panned_disc(number, speed)
        soft = (alpha > 0) & (alpha < 1)
        guess = np.clip(alpha + soft * random.normal(0, noise, alpha.shape), 0, 1)
        rgb = wide[:, speed * number :][:, :width].copy()
        yield Picture(rgb, guess.astype(np.float32), number == 0, number)


def panned_disc(number: int, speed: int) -> np.ndarray:
    """The true alpha of a frame of ``pan``."""
    return disc(120, 200, 140 - speed * number, 36)


def test_in_a_pan_every_frame_of_the_window_contributes() -> None:
    """Everything moves, so far neighbours are trusted less, but they still count."""
    frames, last = list(pan(13, speed=2)), 9

    def result(changed: int | None = None) -> np.ndarray:
        seen = list(copied(map(replace, frames)))
        if changed is not None:
            seen[changed].alpha[:] = np.sqrt(seen[changed].alpha)
        out = filter_frames(seen, mode="on", refine="off")
        return next(frame.alpha for frame in out if frame.number == last)

    alpha = result()
    for away in (-len(WINDOWS["on"].before), -3, WINDOWS["on"].ahead):
        assert np.abs(result(changed=last + away) - alpha).max() > 1 / 255, away


def test_a_pan_is_nearly_as_steady_as_a_still_picture() -> None:
    def error(speed: int) -> float:
        out = list(filter_frames(pan(18, speed), mode="on", refine="off"))[8:]
        apart = [frame.alpha - panned_disc(frame.number, speed) for frame in out]
        return float(np.square(apart).mean())

    assert error(2) < 1.3 * error(0)

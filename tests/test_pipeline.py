"""The pipeline: queues, stages, the ring buffer, and streams."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from media import Movie, make_movie, make_pictures
from scene import Picture, read_index
from tiny_onnx import make_recurrent, make_salient

import vidmatte
from vidmatte.alpha.foreground import estimate
from vidmatte.cli.main import main
from vidmatte.core.concurrency import usable_cores
from vidmatte.core.frame import Frame
from vidmatte.errors import ModelError, UsageError
from vidmatte.jobs.queue import Cancelled, Ring, Slot, StageQueue, StopFlag, queue_depth
from vidmatte.jobs.report import Progress
from vidmatte.jobs.stages import Pipeline, Stage, at_work
from vidmatte.models.runtimes.device import Device
from vidmatte.models.segmentation import SegmentationNetwork
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings


def numbers(count: int) -> Stage:
    return Stage("numbers", lambda _: iter(range(count)), 2)


def doubled(items: Iterator[int]) -> Iterator[int]:
    for item in items:
        yield 2 * item


def test_waiting_does_not_count_as_work() -> None:
    queue: StageQueue[int] = StageQueue(1, StopFlag())
    waiting = threading.Thread(target=lambda: list(queue))
    waiting.start()
    deadline = time.monotonic() + 20
    while queue.get_wait < 0.05 and time.monotonic() < deadline:
        time.sleep(0.005)
    waited = queue.get_wait
    queue.put(None)
    waiting.join()
    assert 0.05 <= waited <= queue.get_wait


def test_reported_work_never_decreases() -> None:
    progress = Progress("clip.mp4", 9)
    progress.has_worked({"read": 1.036, "matte": 1.0})
    progress.has_worked({"read": 1.033, "matte": 2.0})
    assert progress.busy == {"read": 1.036, "matte": 2.0}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6, 7, 8, 50])
def test_all_items_pass_in_order(count: int) -> None:
    with Pipeline([numbers(count), Stage("doubled", doubled, 1)], StopFlag()) as pipeline:
        assert list(pipeline) == [2 * number for number in range(count)]


@pytest.mark.parametrize("at", range(9))
@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_failure_anywhere_is_raised_in_the_caller(where: int, at: int) -> None:
    def broken(items: Iterator[int]) -> Iterator[int]:
        for place, item in enumerate(items):
            if place == at:
                raise ValueError(f"item {at}")
            yield item

    stages = [numbers(12), *(Stage(f"pass{i}", doubled, 1) for i in range(3))]
    stages[where + 1] = Stage("broken", broken, 1)
    with Pipeline(stages, StopFlag()) as pipeline, pytest.raises(ValueError, match=f"item {at}"):
        list(pipeline)
    assert at_work() == []


def test_the_manifests_checksums_are_announced_and_may_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The result is complete by then: a stop must not report it as lost."""
    movie = make_movie(tmp_path / "clip.mp4", frames=3)
    model = ["--model", str(make_salient(tmp_path / "tiny.onnx")), "--family", "isnet"]
    out = tmp_path / "out.mov"

    def stopped(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("vidmatte.jobs.manifest._digest", stopped)
    monkeypatch.setattr("vidmatte.jobs.run._LONG_READ", 1)
    assert main([str(movie.path), "-o", str(out), *model]) == 130
    stderr = capsys.readouterr().err
    assert "out.mov is complete; reading 0.0 GB for its manifest's checksums" in stderr
    assert f"{out} is complete, but has no manifest" in stderr
    assert "not written" not in stderr
    assert [path.name for path in tmp_path.glob("out*")] == ["out.mov"]


@pytest.mark.parametrize(
    "option",
    [
        {"comp": "c.mp4"},
        {"format": "mov"},
        {"alpha": "premultiplied"},
        {"resume": True},
        {"overwrite": True},
        {"manifest": False},
        {"audio": False},
    ],
)
def test_a_stream_writes_no_files(option: dict[str, object], tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=2)
    with pytest.raises(UsageError, match="is for files"):
        vidmatte.stream(movie.path, **option)


def test_a_stream_has_warnings_and_quality(tmp_path: Path) -> None:
    make_pictures(tmp_path / "plates", frames=3)
    options = {"model": str(make_salient(tmp_path / "tiny.onnx")), "family": "isnet"}
    with vidmatte.stream(tmp_path / "plates", **options) as frames:
        assert frames.quality.frames == 0
        assert sum(1 for _ in frames) == 3
        assert "no --fps given" in frames.warnings[0]
        assert frames.quality.frames == 3


def test_notes_on_extra_outputs_are_in_the_manifest_once(
    tmp_path: Path, source_movie: Callable[[str], Movie]
) -> None:
    movie = source_movie("10-bit 2020 PQ")
    out, model = tmp_path / "out.webm", str(make_salient(tmp_path / "tiny.onnx"))
    comp = tmp_path / "c.mp4"
    result = vidmatte.matte(movie.path, out, model=model, family="isnet", comp=comp)
    notes = [line for line in result.warnings if "8 bits" in line]
    assert [line.split()[0] for line in notes] == ["webm", "c.mp4:"]
    found = json.loads((tmp_path / "out.webm.json").read_text())["warnings"]
    assert [line for line in found if "8 bits" in line] == notes


def test_the_filters_strength(tmp_path: Path) -> None:
    """0 is refinement alone, 1 the default; it weights the neighbouring frames."""
    movie = make_movie(tmp_path / "clip.mp4", frames=6)
    model = {"model": str(make_salient(tmp_path / "tiny.onnx")), "family": "isnet"}

    def mattes(**options: object) -> np.ndarray:
        with vidmatte.stream(movie.path, **model, **options) as frames:
            return np.stack([frame.alpha for frame in frames])

    for mode in ("auto", "live", "strong"):
        alone = mattes(smooth=mode, smooth_strength=0)
        if mode != "strong":  # which also mirrors each frame
            assert np.array_equal(alone, mattes(smooth="off", refine="fast"))
        filtered = [mattes(smooth=mode, smooth_strength=strength) for strength in (0.25, 1, 2)]
        assert np.array_equal(filtered[1], mattes(smooth=mode))
        assert len({found.tobytes() for found in (alone, *filtered)}) == 4
    # The more weight the neighbours have, the farther from the frame's own matte.
    apart = [np.abs(found - filtered[0]).mean() for found in filtered[1:]]
    assert 0 < apart[0] < apart[1]


def test_a_strength_without_a_filter_is_refused(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=2)
    own = {"model": str(make_recurrent(tmp_path / "own.onnx")), "family": "rvm"}
    with pytest.raises(UsageError, match="it needs --smooth, which is off"):
        Settings(smooth="off", smooth_strength=0.5)
    with pytest.raises(UsageError, match="0 to 2"):
        Settings(smooth_strength=2.5)
    with pytest.raises(UsageError, match="--smooth on"):
        vidmatte.stream(movie.path, smooth_strength=0.5, **own)
    with vidmatte.stream(movie.path, smooth="on", smooth_strength=0.5, **own) as frames:
        assert len(list(frames)) == 2


def test_leaving_early_ends_every_thread() -> None:
    endless = Stage("endless", lambda _: itertools.count(), 1)
    with Pipeline([endless, Stage("doubled", doubled, 1)], StopFlag()) as pipeline:
        assert list(itertools.islice(pipeline, 3)) == [0, 2, 4]
    assert not [thread for thread in threading.enumerate() if "vidmatte" in thread.name]
    pipeline.close()


def test_work_that_starts_during_a_stop_is_interrupted_too() -> None:
    preparing, running, interrupted = threading.Event(), threading.Event(), threading.Event()

    def slow(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            preparing.set()
            time.sleep(0.3)
            running.set()
            interrupted.wait(30)
            yield item

    def interrupt() -> None:
        if running.is_set():
            interrupted.set()

    pipeline = Pipeline([numbers(3), Stage("slow", slow, 1)], StopFlag(), interrupt)

    def take() -> None:
        with contextlib.suppress(Cancelled):
            list(pipeline)

    taking = threading.Thread(target=take)
    taking.start()
    assert preparing.wait(20)
    pipeline.close()
    assert interrupted.is_set()
    taking.join(20)
    assert not [thread for thread in threading.enumerate() if "vidmatte" in thread.name]


def test_a_queue_never_holds_more_than_its_size() -> None:
    stop = StopFlag()
    queue: StageQueue[int] = StageQueue(2, stop)
    queue.put(1)
    queue.put(2)
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(Cancelled):
        queue.put(3)
    with pytest.raises(Cancelled):
        next(iter(queue))


def test_a_slot_has_one_owner_and_is_returned(tmp_path: Path) -> None:
    make_movie(tmp_path / "clip.mp4", frames=6)
    stop = StopFlag()
    with open_reader(tmp_path / "clip.mp4", Settings()) as source:
        ring = Ring(source.clip, 2, Device(), stop)
        pictures = source.pictures()
        first, second = (ring.fill(next(pictures), index) for index in range(2))
        assert not np.shares_memory(first.rgb, second.rgb)
        assert len(ring._free) == 0
        first.release()
        first.release()
        assert len(ring._free) == 1
        third = ring.fill(next(pictures), 2)
        assert np.shares_memory(first.rgb, third.rgb)
        assert (read_index(second.rgb), read_index(third.rgb)) == (1, 2)
        for frame in (second, third):
            frame.release()
        fourth = ring.fill(next(pictures), 3)
        assert np.shares_memory(fourth.rgb, third.rgb)  # the last one returned is reused first
        threading.Timer(0.3, stop.set).start()
        ring.fill(next(pictures), 4)
        with pytest.raises(Cancelled):
            ring.fill(next(pictures), 5)


def test_a_reused_slot_has_no_earlier_frames_alpha(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=3)
    with open_reader(movie.path, Settings()) as source:
        ring = Ring(source.clip, 1, Device(), StopFlag())
        pictures = source.pictures()
        first = ring.fill(next(pictures), 0)
        assert first.alpha is None
        alpha = first.writable_alpha()
        alpha[:] = 0.25
        assert first.alpha is alpha
        assert first.writable_alpha() is alpha, "a second network would write elsewhere"
        first.release()
        second = ring.fill(next(pictures), 1)
        assert second.alpha is None
        assert "alpha=None" in repr(second)
        assert np.shares_memory(second.writable_alpha(), alpha), "the slot's memory is not used"
        second.release()
    loose = replace(second, alpha=None, alpha_buffer=None)
    assert (loose.writable_alpha().shape, loose.alpha.dtype) == ((108, 192), np.float32)


def test_frames_that_wait_for_the_network_hold_no_memory_for_alpha(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=3)
    with open_reader(movie.path, Settings()) as source:
        ring = Ring(source.clip, 3, Device(), StopFlag())
        pictures = source.pictures()
        first, second, third = (ring.fill(next(pictures), index) for index in range(3))
        alpha = first.writable_alpha()
        first.release()
        assert second.writable_alpha() is alpha, "what is in the cache is not used first"
        assert not np.shares_memory(third.writable_alpha(), alpha)


@pytest.mark.parametrize("options", [{}, {"smooth": "off", "refine": "off"}], ids=["on", "off"])
def test_a_frame_that_the_network_skipped_does_not_keep_a_stale_alpha(
    options: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frame 50: by then every slot of the ring has held an earlier frame."""
    movie = make_movie(tmp_path / "clip.mp4", frames=60)
    model = {"model": str(make_salient(tmp_path / "tiny.onnx")), "family": "isnet"}
    write = SegmentationNetwork._upsample

    def skipping(self: SegmentationNetwork, coarse: np.ndarray, frame: Frame) -> None:
        if frame.index != 50:
            write(self, coarse, frame)

    monkeypatch.setattr(SegmentationNetwork, "_upsample", skipping)
    seen = []
    with (
        vidmatte.stream(movie.path, memory="1K", **model, **options) as frames,
        pytest.raises(ValueError, match="no alpha yet"),
    ):
        for frame in frames:
            seen.append(frame.index)
    assert max(seen) < 50


def test_the_memory_budget_sets_the_queue_depth(tmp_path: Path) -> None:
    make_movie(tmp_path / "clip.mp4")
    with open_reader(tmp_path / "clip.mp4", Settings()) as source:
        clip = source.clip
    slot = Slot.size_of(clip)
    assert slot == 192 * 108 * 3 // 2 + 192 * 108 * 7
    assert queue_depth(clip, 1, 9, 4) == 1
    assert queue_depth(clip, 17 * slot, 9, 4) == 2
    assert queue_depth(clip, 10**12, 9, 4) == min(8, usable_cores() + 2)


def test_streamed_frames_stay_valid(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=40)
    model = make_salient(tmp_path / "tiny.onnx")
    with vidmatte.stream(movie.path, model=str(model), family="isnet", memory="1M") as stream:
        kept = list(stream)  # far more frames than slots
    assert [read_index(frame.rgb) for frame in kept] == list(range(40))
    assert [frame.pts * frame.time_base for frame in kept] == [
        index / movie.rate for index in range(40)
    ]
    assert all(isinstance(frame.time_base, Fraction) for frame in kept)
    for index in (0, 20, 39):
        truth = movie.picture(index).alpha
        assert np.abs(kept[index].alpha - truth).mean() < 0.08
        assert kept[index].alpha.dtype == np.float32


def test_a_deep_source_streams_16_bits_and_a_model_its_foreground(tmp_path: Path) -> None:
    make_movie(tmp_path / "clip.mp4", frames=3, pixel_format="yuv420p10le")
    model = make_recurrent(tmp_path / "tiny.onnx")
    frames = list(vidmatte.stream(tmp_path / "clip.mp4", model=str(model), family="rvm"))
    assert frames[0].rgb.dtype == np.uint16
    assert frames[0].foreground is not None
    assert frames[0].foreground.shape == (108, 192, 3)


@pytest.mark.parametrize("kind", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("family", ["isnet", "rvm"])
def test_a_stream_yields_the_requested_foreground(family: str, kind: str, tmp_path: Path) -> None:
    make_movie(clip := tmp_path / "clip.mp4", frames=2, pixel_format=kind)
    make = make_salient if family == "isnet" else make_recurrent
    options = {"model": str(make(tmp_path / "tiny.onnx")), "family": family}

    def first(**more: str) -> vidmatte.StreamedFrame:
        with vidmatte.stream(clip, **options, **more) as frames:
            return next(frames)

    assert first(foreground="source").foreground is None
    cleaned = first(foreground="estimate")
    assert cleaned.foreground is not None
    assert cleaned.foreground.dtype == cleaned.rgb.dtype
    apart = (cleaned.foreground != cleaned.rgb).any(axis=-1)
    assert apart[(cleaned.alpha > 0.1) & (cleaned.alpha < 0.9)].mean() > 0.5
    assert not apart[(cleaned.alpha == 0) | (cleaned.alpha == 1)].any()
    assert np.array_equal(cleaned.foreground, estimate(cleaned.rgb, cleaned.alpha))
    given = first().foreground
    if family == "isnet":
        assert given is None
        with pytest.raises(UsageError, match="this model gives none"):
            first(foreground="model")
    else:
        assert given is not None
        assert np.array_equal(given, first(foreground="model").foreground)
        assert not np.array_equal(given, cleaned.foreground)


def test_streamed_colours_share_no_memory_without_soft_pixels(tmp_path: Path) -> None:
    make_movie(clip := tmp_path / "clip.mp4", frames=1)
    options = {"model": str(make_salient(tmp_path / "tiny.onnx")), "family": "isnet"}
    hard = {"smooth": "off", "refine": "off", "threshold": "0.5,0.500001"}
    (frame,) = vidmatte.stream(clip, foreground="estimate", **hard, **options)
    assert np.array_equal(frame.foreground, frame.rgb)
    assert not np.shares_memory(frame.foreground, frame.rgb)


def test_a_deep_white_streams_as_white(tmp_path: Path) -> None:
    def white(index: float, width: int, height: int, lit: bool) -> Picture:
        return Picture(np.ones((height, width, 3), np.float32), np.ones((height, width)))

    clip, model = tmp_path / "clip.mkv", make_salient(tmp_path / "tiny.onnx")
    make_movie(clip, frames=1, codec="ffv1", pixel_format="yuv422p10le", draw=white)
    (frame,) = vidmatte.stream(clip, model=str(model), family="isnet")
    assert frame.rgb.min() == 65535


def test_leaving_a_stream_early_leaves_nothing_open(tmp_path: Path) -> None:
    make_movie(tmp_path / "clip.mp4", frames=60)
    model = make_salient(tmp_path / "tiny.onnx")
    for frame in vidmatte.stream(tmp_path / "clip.mp4", model=str(model), family="isnet"):
        if frame.index == 2:
            break


def test_threads_may_share_a_stream(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=24)
    model = make_salient(tmp_path / "tiny.onnx")
    frames = vidmatte.stream(movie.path, model=str(model), family="isnet")
    with frames, ThreadPoolExecutor(3) as pool:
        parts = list(pool.map(lambda _: [frame.index for frame in frames], range(3)))
    assert sorted(index for part in parts for index in part) == list(range(24))


def test_pictures_too_long_for_the_filter_are_refused_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "strips"
    folder.mkdir()
    strip = np.full((2, 32767, 3), 30, np.uint8)
    strip[:, :32000] = 220  # a long subject; the filter would accept a shorter one
    for name in ("f0.png", "f1.png"):
        cv2.imwrite(str(folder / name), strip)
    options = {"model": str(make_salient(tmp_path / "tiny.onnx")), "family": "isnet"}
    line = (
        r"^strips: 32767x2 exceeds the temporal filter's limit of 32766 pixels a side:"
        r" add --smooth off$"
    )
    with pytest.raises(UsageError, match=line):
        list(vidmatte.stream(folder, **options))
    assert len(list(vidmatte.stream(folder, smooth="off", **options))) == 2
    assert (
        len(list(vidmatte.stream(folder / "f0.png", **options))) == 1
    )  # no neighbours to filter with


@pytest.mark.parametrize("cached", [False, True])
def test_an_alpha_that_is_not_a_number_stops_the_run(cached: bool, tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=3)
    path = make_salient(tmp_path / "nan.onnx")
    model = onnx.load(str(path))
    for constant in model.graph.initializer:
        value = onnx.numpy_helper.to_array(constant)
        constant.CopyFrom(onnx.numpy_helper.from_array(value * np.float32("nan"), constant.name))
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match=r"frame \d: the model's alpha is not a number"):
        vidmatte.matte(
            movie.path,
            tmp_path / "out.mov",
            model=str(path),
            family="isnet",
            cache=tmp_path / "cache" if cached else None,
        )
    assert not (tmp_path / "out.mov").exists()
    assert list((tmp_path / "cache").glob("*")) == []


def test_results_among_the_source_images_are_reported(tmp_path: Path) -> None:
    plates = tmp_path / "plates"
    make_pictures(plates, frames=3)
    (plates / "mine.json").write_text("{}")
    (plates / "torn.json").write_text("{")
    (plates / "edited.json").write_text('{"vidmatte": "1", "result": [], "sides": null}')
    network = {"model": str(make_salient(tmp_path / "tiny.onnx")), "family": "isnet", "fps": "25"}
    first = vidmatte.matte(plates, plates / "cut_%04d.png", **network)
    assert not any("results" in line for line in first.warnings)
    again = vidmatte.matte(plates, tmp_path / "again.mov", **network)
    warnings = [line for line in again.warnings if "results of an earlier run" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith(
        "plates: 3 of its 6 pictures are results of an earlier run, such as cut"
    )
    for plate in plates.glob("shot_*"):
        plate.unlink()
    assert vidmatte.matte(plates, tmp_path / "cut.mov", **network).written.frames == 3

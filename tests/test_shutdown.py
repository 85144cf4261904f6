"""How streams and stages end: at program exit, by another thread, by garbage collection."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from media import make_movie
from tiny_onnx import make_salient

import vidmatte
from vidmatte.alpha.shot_detection import CutDetector
from vidmatte.errors import ModelError, SourceError
from vidmatte.jobs import stream
from vidmatte.jobs.queue import StopFlag
from vidmatte.jobs.stages import Pipeline, Stage
from vidmatte.models.runtimes import openvino
from vidmatte.models.segmentation import SegmentationNetwork
from vidmatte.readers.movie.reader import MovieReader
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

RUNTIMES = ["onnxruntime", *(["openvino"] if openvino.is_installed() else [])]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small clip."""
    return make_movie(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=40).path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The options that choose a tiny network."""
    path = make_salient(tmp_path_factory.mktemp("network") / "tiny.onnx")
    return {"model": str(path), "family": "isnet"}


def stage_threads() -> list[str]:
    """The live threads of stages."""
    return [one.name for one in threading.enumerate() if one.name.startswith("vidmatte-")]


def wait_until(is_true: Callable[[], bool], limit_s: float = 20.0) -> None:
    """Wait for a condition. Fails the test after ``limit_s``."""
    deadline = time.monotonic() + limit_s
    while not is_true():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


EXITS_EARLY = """
import atexit, sys, threading

def list_threads():  # registered first, called last
    print([one.name for one in threading.enumerate() if one is not threading.main_thread()])

atexit.register(list_threads)
import vidmatte
frames = vidmatte.stream(sys.argv[1], model=sys.argv[2], family="isnet", cache=sys.argv[3])
for frame in frames:
    if sys.argv[4] == "raise":
        raise ValueError("the caller's own mistake")
    break
"""


@pytest.mark.parametrize(("how", "status"), [("break", 0), ("raise", 1)])
def test_program_exit_ends_a_stream(
    how: str, status: int, clip: Path, network: dict[str, Any], tmp_path: Path
) -> None:
    words = [
        sys.executable,
        "-c",
        EXITS_EARLY,
        str(clip),
        network["model"],
        str(tmp_path / "cache"),
        how,
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr
    assert done.stdout == "[]\n"
    assert ("the caller's own mistake" in done.stderr) is (how == "raise")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == []


BLOCKED = """
import signal, sys, time
from vidmatte import __main__
from vidmatte.alpha import masks
from vidmatte.jobs import stages as pipeline

def long_work(alpha, adjustments):
    signal.raise_signal(signal.SIGINT)
    time.sleep(600)

masks.apply = long_work
pipeline._JOIN_SECONDS = 0.3
__main__.main()
"""


def test_ctrl_c_does_not_wait_for_a_blocked_stage(
    clip: Path, network: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    words = [sys.executable, "-c", BLOCKED, str(clip), "-o", str(out / "cut.mov")]
    words += ["--model", network["model"], "--family", "isnet", "--erode", "1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 130, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.strip().splitlines()[0].startswith("vidmatte: stopped after 0 frames: ")
    assert list(out.iterdir()) == []


def test_a_consumer_waiting_for_a_frame_sees_the_end_when_another_thread_closes(
    clip: Path, network: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, proceed = threading.Event(), threading.Event()
    original = SegmentationNetwork.matte_batch

    def delayed(self: SegmentationNetwork, batch: list[Any]) -> list[Any]:
        if batch[0].index == 20:
            reached.set()
            proceed.wait(20)
        return original(self, batch)

    monkeypatch.setattr(SegmentationNetwork, "matte_batch", delayed)
    frames = vidmatte.stream(clip, **network)
    with ThreadPoolExecutor(2) as pool:
        seen = pool.submit(lambda: [frame.index for frame in frames])
        assert reached.wait(20)
        closing = pool.submit(frames.close)
        wait_until(lambda: frames._closed)
        proceed.set()
        closing.result()
        indices = seen.result()
    assert indices == list(range(len(indices)))
    assert len(indices) < 20


def test_a_stream_closed_by_another_thread_while_it_starts_is_empty(
    clip: Path, network: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = vidmatte.stream(clip, **network)
    original = stream.build_pipeline

    def closed_meanwhile(*words: Any, **options: Any) -> Any:
        pipeline = original(*words, **options)
        closing = threading.Thread(target=frames.close)
        closing.start()
        closing.join()
        return pipeline

    monkeypatch.setattr(stream, "build_pipeline", closed_meanwhile)
    assert list(frames) == []
    assert stage_threads() == []


class Player:
    """Holds a stream and itself: only the garbage collector frees both."""

    def __init__(self, frames: vidmatte.Stream) -> None:
        self.frames = frames
        self.me = self


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("owner", [MovieReader, SegmentationNetwork])
def test_a_stream_may_be_collected_in_its_own_threads(
    owner: type,
    runtime: str,
    clip: Path,
    network: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its threads then end by themselves: joining the collecting thread would deadlock."""
    go, collected, raised = threading.Event(), threading.Event(), list[Any]()
    monkeypatch.setattr("vidmatte.jobs.stages._JOIN_SECONDS", 60.0)

    def collect() -> None:
        if go.wait(20) and not collected.is_set():
            gc.collect()
            collected.set()

    if owner is MovieReader:
        original = MovieReader._timed

        def pictures(self: MovieReader, number: int) -> Iterator[Any]:
            for index, picture in enumerate(original(self, number)):
                if index == 6:
                    collect()
                yield picture

        monkeypatch.setattr(MovieReader, "_timed", pictures)
    else:
        original = SegmentationNetwork.matte_batch

        def matte(self: SegmentationNetwork, batch: list[Any]) -> list[Any]:
            if batch[0].index == 6:
                collect()
            return original(self, batch)

        monkeypatch.setattr(SegmentationNetwork, "matte_batch", matte)
    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    player = Player(vidmatte.stream(clip, runtime=runtime, smooth="off", **network))
    next(player.frames)
    gc.disable()
    try:
        del player
        go.set()
        wait_until(lambda: stage_threads() == [])
    finally:
        gc.enable()
    assert raised == []
    assert collected.is_set()


def test_a_stages_failure_keeps_its_cause() -> None:
    def failing(_: Iterator[Any]) -> Iterator[int]:
        try:
            raise KeyError("the reason")
        except KeyError as error:
            raise ValueError("the message") from error
        yield 0

    pipeline = Pipeline([Stage("failing", failing, 1)], StopFlag())
    with pipeline, pytest.raises(ValueError, match="the message") as caught:
        list(pipeline)
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.__context__ is caught.value.__cause__


def test_a_reader_is_not_closed_during_a_read(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_reader(clip, Settings())
    assert isinstance(source, MovieReader)
    original = MovieReader._frames

    def closed_meanwhile(self: MovieReader, *words: Any) -> Any:
        source.close()
        return original(self, *words)

    monkeypatch.setattr(MovieReader, "_frames", closed_meanwhile)
    assert len(list(source.pictures())) == 40
    with pytest.raises(SourceError, match="the reader is closed: open the file again"):
        next(source.pictures())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_stored_error_keeps_no_thread_and_no_file_open(
    runtime: str, clip: Path, network: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = SegmentationNetwork._upsample

    def with_nan(self: SegmentationNetwork, coarse: Any, frame: Any) -> None:
        original(self, coarse, frame)
        if frame.index == 5:
            frame.alpha[0, 0] = float("nan")

    monkeypatch.setattr(SegmentationNetwork, "_upsample", with_nan)
    frames = vidmatte.stream(clip, runtime=runtime, **network)
    with pytest.raises(ModelError, match="frame 5: the model's alpha is not a number"):
        list(frames)
    error = frames._pipeline.pipeline._stop.error
    wait_until(lambda: stage_threads() == [])
    assert isinstance(error, ModelError)


def test_an_error_between_reader_and_network_closes_the_reader(
    clip: Path, network: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> None:
        raise ValueError("injected")

    monkeypatch.setattr(CutDetector, "is_new_shot", failing)
    frames = vidmatte.stream(clip, **network)
    with pytest.raises(ValueError, match="injected") as caught:
        list(frames)
    assert not any(Path(file.path) == clip for file in psutil.Process().open_files())
    assert caught.value.__traceback__ is not None

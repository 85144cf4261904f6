"""How runs end that cannot end well: with one clear line, leaving nothing.

The guards of conftest.py look after every test here for threads, processes and
open files; these tests add the message and the output folder.
"""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import psutil
import pytest
from media import Movie, Tone, make_movie, make_pictures
from said import lines_of
from scene import read_index
from tiny_onnx import make_recurrent, make_salient

from vidmatte.alpha.temporal_filter import TemporalFilter
from vidmatte.api import matte, stream
from vidmatte.errors import OutputError, SourceError
from vidmatte.jobs import pipeline as frame_path
from vidmatte.jobs.queue import Ring
from vidmatte.jobs.stages import Stage
from vidmatte.models.rvm import RecurrentNetwork
from vidmatte.models.segmentation import SegmentationNetwork
from vidmatte.readers.movie.reader import MovieReader
from vidmatte.writers.audio import AudioWriter
from vidmatte.writers.images import ImageOutput
from vidmatte.writers.movie import MovieOutput
from vidmatte.writers.multi_writer import MultiWriter

#: How long a test may take before it counts as hanging; a busy machine needs a good part of it.
HANG_S = 120
pytestmark = pytest.mark.timeout(HANG_S)
FRAMES = 60
#: Budgets that give the shortest queues and the deepest.
SMALL, LARGE = "1K", "512M"
#: Where a stage fails: at the ends, and around what all queues and the whole ring hold.
PLACES = [(place, SMALL) for place in ("first", "second", "queues-1", "queues", "queues+1")]
PLACES += [(place, SMALL) for place in ("ring-1", "ring", "ring+1", "last")]
PLACES += [(place, LARGE) for place in ("queues", "ring-1", "ring", "ring+1")]

WHOLE = {kind: kind.encode for kind in (MovieOutput, ImageOutput)}


class InjectedError(Exception):
    """What the tests make a stage raise."""


def broken_at(item: int, items: Iterator[Any]) -> Iterator[Any]:
    """``items`` up to number ``item``, then a failure."""
    for index, value in enumerate(items):
        if index == item:
            raise InjectedError(f"injected at item {item}")
        yield value


def break_generator(owner: Any, name: str, item: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the generator function ``owner.name`` fail when it gives number ``item``."""
    whole = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **kw: broken_at(item, whole(*args, **kw)))


def break_write(sink: type, item: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a sink's ``write`` fail at number ``item``."""
    whole = sink.write

    def write(self: Any, frame: Any) -> None:
        if frame.index == item:
            raise InjectedError(f"injected at item {item}")
        whole(self, frame)

    monkeypatch.setattr(sink, "write", write)


STAGES: dict[str, Callable[[int, pytest.MonkeyPatch], None]] = {
    "source": lambda item, patch: break_generator(MovieReader, "pictures", item, patch),
    "network": lambda item, patch: break_generator(SegmentationNetwork, "predict", item, patch),
    "motion": lambda item, patch: break_generator(TemporalFilter, "track_stage", item, patch),
    "filter": lambda item, patch: break_generator(TemporalFilter, "average_stage", item, patch),
    "sink": lambda item, patch: break_write(MultiWriter, item, patch),
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Movie:
    """A small clip with sound."""
    folder = tmp_path_factory.mktemp("clip")
    return make_movie(folder / "clip.mp4", size=(96, 64), frames=FRAMES, audio=[Tone()], flash=3)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The options that choose a tiny network."""
    path = make_salient(tmp_path_factory.mktemp("network") / "tiny.onnx")
    return {"model": str(path), "family": "isnet"}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder for results."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def left_in(folder: Path) -> list[str]:
    """Everything in a folder, hidden names too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(scope="module")
def items(
    clip: Movie, network: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], int]:
    """The item that each of PLACES means, by what a run that succeeds is laid out with."""
    folder, found = tmp_path_factory.mktemp("measured"), {}
    for memory in (SMALL, LARGE):
        depths: list[int] = []
        rings: list[int] = []

        def stage(*words: Any, depths: list[int] = depths) -> Stage:
            depths.append(words[2])
            return Stage(*words)

        def ring(*words: Any, rings: list[int] = rings) -> Ring:
            rings.append(words[1])
            return Ring(*words)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(frame_path, "Stage", stage)
            patch.setattr(frame_path, "Ring", ring)
            matte(clip.path, folder / f"{memory}.mov", memory=memory, **network)
        centres = {"queues": sum(depths), "ring": rings[0]}
        assert 1 < centres["queues"] < centres["ring"] < FRAMES - 2, centres
        places = {"first": 0, "second": 1, "last": FRAMES - 1}
        for name, centre in centres.items():
            places |= {f"{name}-1": centre - 1, name: centre, f"{name}+1": centre + 1}
        found |= {(place, memory): item for place, item in places.items()}
    return found


@pytest.mark.parametrize(("place", "memory"), PLACES)
@pytest.mark.parametrize("stage", STAGES)
def test_a_failing_stage_ends_the_run_with_its_own_message(
    stage: str,
    place: str,
    memory: str,
    items: dict[tuple[str, str], int],
    clip: Movie,
    network: dict[str, str],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    item = items[place, memory]
    STAGES[stage](item, monkeypatch)
    with pytest.raises(InjectedError, match=f"^injected at item {item}$"):
        matte(clip.path, out / "cut.mov", memory=memory, **network)
    assert left_in(out) == []


@pytest.mark.parametrize("target", ["cut.mov", "cut.webm", "cut/"])
@pytest.mark.parametrize(
    "options", [{}, {"batch": 8}, {"smooth": "strong"}, {"smooth": "off", "refine": "off"}], ids=str
)
def test_the_smallest_ring_carries_a_whole_clip(
    target: str, options: dict[str, Any], clip: Movie, network: dict[str, str], out: Path
) -> None:
    kind = {"format": "png"} if target.endswith("/") else {}
    result = matte(clip.path, f"{out}/{target}", memory=SMALL, **kind, **options, **network)
    assert result.written.frames == FRAMES


@pytest.mark.parametrize("item", (0, 7, FRAMES - 1))
def test_a_failing_recurrent_network(
    item: int, clip: Movie, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_generator(RecurrentNetwork, "predict", item, monkeypatch)
    model = make_recurrent(tmp_path / "recurrent.onnx")
    with pytest.raises(InjectedError, match=f"^injected at item {item}$"):
        matte(clip.path, out / "cut.webm", model=str(model), family="rvm")
    assert left_in(out) == []


@pytest.mark.parametrize("item", (0, 7, FRAMES - 1))
def test_a_failing_picture_sink(
    item: int, clip: Movie, network: dict[str, str], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_write(MultiWriter, item, monkeypatch)
    with pytest.raises(InjectedError, match=f"^injected at item {item}$"):
        matte(clip.path, f"{out}/cut/", format="png", **network)
    assert left_in(out) == []


@pytest.mark.parametrize("item", (0, 7, 18, FRAMES - 1))
@pytest.mark.parametrize("target", ["cut.mov", "cut.webm", "cut/"])
def test_a_failing_worker_of_a_sink(
    item: int,
    target: str,
    clip: Movie,
    network: dict[str, str],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def encode(self: Any, tool: Any, picture: Any, frame: Any) -> Any:
        if frame.index == item:
            raise OSError(28, f"injected at item {item}")
        return WHOLE[type(self)](self, tool, picture, frame)

    for kind_of_output in WHOLE:
        monkeypatch.setattr(kind_of_output, "encode", encode)
    kind = {"format": "png"} if target.endswith("/") else {}
    with pytest.raises(OutputError, match=r"the disk is full"):
        matte(clip.path, f"{out}/{target}", **kind, **network)
    assert left_in(out) == []


@pytest.mark.parametrize("call", [1, 20])
def test_sound_that_fails(
    call: int, clip: Movie, network: dict[str, str], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, whole = [], AudioWriter.advance

    def advance(self: AudioWriter, seconds: Fraction) -> None:
        calls.append(seconds)
        if len(calls) == call:
            raise InjectedError("injected into the sound")
        whole(self, seconds)

    monkeypatch.setattr(AudioWriter, "advance", advance)
    with pytest.raises(InjectedError, match=r"^injected into the sound$"):
        matte(clip.path, out / "cut.mov", **network)
    assert left_in(out) == []


def test_a_sink_that_cannot_close(
    clip: Movie, network: dict[str, str], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(self: MultiWriter) -> None:
        raise InjectedError("injected at the end")

    monkeypatch.setattr(MultiWriter, "close", close)
    with pytest.raises(InjectedError, match=r"^injected at the end$"):
        matte(clip.path, out / "cut.mov", **network)
    assert left_in(out) == []


@pytest.mark.parametrize("stage", ["source", "network", "motion", "filter"])
@pytest.mark.parametrize("item", (0, 8, FRAMES - 1))
def test_a_failing_stage_ends_a_stream(
    stage: str, item: int, clip: Movie, network: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    STAGES[stage](item, monkeypatch)
    seen = []
    with pytest.raises(InjectedError, match=f"^injected at item {item}$"):
        for frame in stream(clip.path, **network):
            seen.append(frame.index)
    assert seen == list(range(len(seen)))
    assert len(seen) <= item


@pytest.mark.parametrize("after", (0, 1, 9, FRAMES - 1))
def test_a_stream_that_is_left_early_closes_everything(
    after: int, clip: Movie, network: dict[str, str]
) -> None:
    frames = stream(clip.path, **network)
    for frame in frames:
        assert read_index(frame.rgb) == frame.index
        if frame.index == after:
            break
    del frames, frame  # the guards see whether a thread or a file is left


def test_a_failed_overwrite_keeps_what_was_there(
    clip: Movie, network: dict[str, str], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (out / "cut.mov").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="--overwrite"):
        matte(clip.path, out / "cut.mov", **network)
    STAGES["filter"](9, monkeypatch)
    with pytest.raises(InjectedError):
        matte(clip.path, out / "cut.mov", overwrite=True, **network)
    assert (out / "cut.mov").read_bytes() == b"precious"
    assert left_in(out) == ["cut.mov"]


# The command line, in a process of its own.


def test_a_run_writes_its_result_and_nothing_else(
    clip: Movie, network: dict[str, str], out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "fresh home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    words = command(clip.path, "-o", out / "cut.mov", "--quiet", network=network)
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert left_in(out) == ["cut.mov", "cut.mov.json"]
    # onnxruntime would leave an identity of this device and report to its makers.
    assert left_in(home) == []


def command(*words: str | Path, network: dict[str, str]) -> list[str]:
    """The words of a run with a tiny network."""
    chosen = [f"--model={network['model']}", f"--family={network['family']}"]
    return [sys.executable, "-m", "vidmatte", *(str(word) for word in words), *chosen]


def refused(*words: str | Path, network: dict[str, str], prefix: tuple[str, ...] = ()) -> str:
    """The one line that a run says on stderr before it exits with a status that is not 0."""
    done = subprocess.run(
        [*prefix, *command(*words, network=network)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode not in (0, 130), done.stderr
    return the_end(done.stderr)


def the_end(said: str) -> str:
    """The one line of stderr that says how a run ended."""
    assert len(lines_of(said)) == 1, said
    assert lines_of(said)[0].startswith("vidmatte: "), said
    return lines_of(said)[0]


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A clip and a network that take long enough a frame to be stopped on the way."""
    folder = tmp_path_factory.mktemp("long")
    clip = make_movie(folder / "long.mp4", size=(96, 64), frames=400, audio=[Tone()])
    model = make_salient(folder / "slow.onnx", 2048)
    return clip.path, {"model": str(model), "family": "isnet"}


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGINT, ["cut.mov"]),
        (signal.SIGINT, ["cut.webm"]),
        (signal.SIGINT, ["cut/", "--format", "png"]),
        (signal.SIGTERM, ["cut.mov"]),
        (signal.SIGHUP, ["cut.mov"]),
    ],
)
def test_ctrl_c_stops_cleanly(
    number: signal.Signals, words: list[str], long_run: tuple[Path, dict[str, str]], out: Path
) -> None:
    clip, network = long_run
    words = command(clip, "-o", f"{out}/{words[0]}", *words[1:], network=network)
    run = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: left_in(out) != [] or run.poll() is not None)
        assert run.poll() is None, run.communicate()
        time.sleep(0.5)  # some frames into the run
        children = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(number)
        said = run.communicate(timeout=60)[1]
    finally:
        run.kill()
        run.wait()
    assert run.returncode == 130, said
    assert the_end(said).startswith("vidmatte: stopped")
    assert left_in(out) == []
    assert not any(child.is_running() for child in children)


def test_a_terminal_that_closes_leaves_nothing(
    long_run: tuple[Path, dict[str, str]], out: Path
) -> None:
    clip, network = long_run
    ours, its = pty.openpty()
    run = subprocess.Popen(
        command(clip, "-o", out / "cut.mov", network=network),
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(its)
    try:
        wait_until(lambda: left_in(out) != [] or run.poll() is not None)
        assert run.poll() is None
        time.sleep(0.5)  # some frames into the run
        os.close(ours)
        assert run.wait(60) == 130
    finally:
        run.kill()
        run.wait()
    assert left_in(out) == []


def wait_until(come: Callable[[], bool], limit_s: float = 40.0) -> None:
    """Wait for something to come true. Fails the test after ``limit_s``."""
    deadline = time.monotonic() + limit_s
    while not come():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def truncated(folder: Path) -> Path:
    """A movie that breaks off in its middle, so that its header at the end is missing."""
    whole = make_movie(folder / "whole.mp4", frames=60)
    path = folder / "truncated.mp4"
    data = whole.path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def folder_with_a_broken_picture(folder: Path) -> Path:
    """Five pictures, of which the third is half a file."""
    paths = make_pictures(folder / "plates", frames=5)
    paths[2].write_bytes(paths[2].read_bytes()[:2000])
    return folder / "plates"


def text_as_movie(folder: Path) -> Path:
    """A file that is not what its name says."""
    path = folder / "notes.mp4"
    path.write_text("not a movie\n" * 200)
    return path


def sound_only(folder: Path) -> Path:
    """A movie without a picture: the muxer leaves out a stream that has no frame."""
    return make_movie(folder / "none.mp4", frames=0).path


def no_frames(folder: Path) -> Path:
    """A movie with a video stream and nothing in it."""
    return make_movie(folder / "none.avi", frames=0, codec="mpeg4").path


def empty_folder(folder: Path) -> Path:
    """A folder without a picture."""
    (folder / "empty").mkdir()
    return folder / "empty"


def empty_file(folder: Path) -> Path:
    """A file of no bytes."""
    (folder / "empty.mov").touch()
    return folder / "empty.mov"


def mixed_sizes(folder: Path) -> Path:
    """Pictures of which one has another size."""
    make_pictures(folder / "plates", frames=2)
    make_pictures(folder / "plates", frames=1, start=3, size=(96, 64))
    return folder / "plates"


#: What makes the bad input, and words that its message must have.
BAD_INPUTS: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "missing file": (lambda folder: folder / "missing.mp4", ("missing.mp4", "no such")),
    "empty file": (empty_file, ("empty.mov", "empty")),
    "text named mp4": (text_as_movie, ("notes.mp4",)),
    "truncated, header lost": (truncated, ("truncated.mp4",)),
    "no stream": (sound_only, ("none.mp4",)),
    "no frames": (no_frames, ("none.avi", "frame")),
    "empty folder": (empty_folder, ("empty", "picture")),
    "broken picture": (folder_with_a_broken_picture, ("shot_0003.png",)),
    "mixed sizes": (mixed_sizes, ("shot_0003.png", "96")),
}


@pytest.mark.parametrize("kind", BAD_INPUTS)
@pytest.mark.parametrize("target", ["cut.mov", "cut/"])
def test_bad_input_is_named_in_one_line(
    kind: str, target: str, network: dict[str, str], tmp_path: Path, out: Path
) -> None:
    make, words = BAD_INPUTS[kind]
    source = make(tmp_path)
    extra = ["--format", "png"] if target.endswith("/") else []
    line = refused(source, "-o", f"{out}/{target}", *extra, network=network)
    assert all(word in line for word in words), line
    assert left_in(out) == []


@pytest.mark.parametrize("kind", BAD_INPUTS)
def test_bad_input_raises_a_source_error(
    kind: str, network: dict[str, str], tmp_path: Path, out: Path
) -> None:
    source = BAD_INPUTS[kind][0](tmp_path)
    with pytest.raises(SourceError):
        matte(source, out / "cut.mov", **network)
    assert left_in(out) == []


def without_privilege() -> tuple[str, ...]:
    """Words before a command that take away root's right to read and write everything."""
    if os.geteuid() != 0:
        return ()
    words = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    if shutil.which("setpriv") is None or subprocess.run([*words, "true"], check=False).returncode:
        pytest.skip("running as root, and setpriv cannot take its rights away here")
    return words


def test_no_permission_to_read(
    clip: Movie, network: dict[str, str], tmp_path: Path, out: Path
) -> None:
    locked = shutil.copy(clip.path, tmp_path / "locked.mp4")
    locked.chmod(0)
    line = refused(locked, "-o", out / "cut.mov", network=network, prefix=without_privilege())
    assert "locked.mp4" in line
    assert "permission" in line


def test_no_permission_to_write(clip: Movie, network: dict[str, str], out: Path) -> None:
    out.chmod(0o500)
    line = refused(clip.path, "-o", out / "cut.mov", network=network, prefix=without_privilege())
    assert str(out) in line
    out.chmod(0o700)
    assert left_in(out) == []


@pytest.mark.parametrize("words", [["cut.mov"], ["cut/", "--format", "png"], ["cut.webm"]])
def test_full_disk(words: list[str], clip: Movie, network: dict[str, str], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=40k none {disk}"
    alone = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    if sys.platform != "linux" or subprocess.run([*alone, mount], check=False).returncode:
        pytest.skip("no small file system can be mounted here (needs Linux and a user namespace)")
    target = f"{disk}/{words[0]}"
    run = subprocess.list2cmdline(command(clip.path, "-o", target, *words[1:], network=network))
    # The mount goes with its namespace: what is left on it has to be listed inside.
    script = f"{mount} && {run}; echo status $?; ls -A {disk}"
    done = subprocess.run([*alone, script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "status 1\n"
    assert "full" in the_end(done.stderr)

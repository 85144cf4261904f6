"""Failing runs end with one clear line and leave no files behind.

The guards of conftest.py check threads, processes and open files after every test;
these tests also check the message and the output folder.
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
from scene import draw_nothing, read_index
from tiny_onnx import make_recurrent, make_salient

from vidmatte.alpha.temporal_filter import TemporalFilter
from vidmatte.api import matte, stream
from vidmatte.cli.main import main
from vidmatte.errors import OutputError, SourceError
from vidmatte.jobs import pipeline
from vidmatte.jobs.queue import Ring
from vidmatte.jobs.stages import Stage
from vidmatte.models.rvm import RecurrentNetwork
from vidmatte.models.segmentation import SegmentationNetwork
from vidmatte.readers.movie.reader import MovieReader
from vidmatte.writers.audio import AudioWriter
from vidmatte.writers.images import ImageOutput
from vidmatte.writers.movie import MovieOutput
from vidmatte.writers.multi_writer import MultiWriter

#: A test that takes longer counts as hanging; a busy machine may need much of it.
HANG_S = 120
pytestmark = pytest.mark.timeout(HANG_S)
FRAMES = 44  # more than the longest ring holds
#: Memory budgets that give the shortest and the longest queues.
SMALL, LARGE = "1K", "512M"
#: Where a stage fails: at the ends, and around the capacities of all queues and of the ring.
PLACES = [(place, SMALL) for place in ("first", "second", "queues-1", "queues", "queues+1")]
PLACES += [(place, SMALL) for place in ("ring-1", "ring", "ring+1", "last")]
PLACES += [(place, LARGE) for place in ("queues", "ring-1", "ring", "ring+1")]

ENCODE = {kind: kind.encode for kind in (MovieOutput, ImageOutput)}


class InjectedError(Exception):
    """Raised by a stage that a test breaks."""


def broken_at(item: int, items: Iterator[Any]) -> Iterator[Any]:
    """``items`` up to number ``item``, then a failure."""
    for index, value in enumerate(items):
        if index == item:
            raise InjectedError(f"injected at item {item}")
        yield value


def break_generator(owner: Any, name: str, item: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the generator function ``owner.name`` fail at item number ``item``."""
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **kw: broken_at(item, original(*args, **kw)))


def break_write(writer: type, item: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a writer's ``write`` fail at frame number ``item``."""
    original = writer.write

    def write(self: Any, frame: Any) -> None:
        if frame.index == item:
            raise InjectedError(f"injected at item {item}")
        original(self, frame)

    monkeypatch.setattr(writer, "write", write)


STAGES: dict[str, Callable[[int, pytest.MonkeyPatch], None]] = {
    "reader": lambda item, patch: break_generator(MovieReader, "pictures", item, patch),
    "network": lambda item, patch: break_generator(SegmentationNetwork, "predict", item, patch),
    "motion": lambda item, patch: break_generator(TemporalFilter, "track_stage", item, patch),
    "filter": lambda item, patch: break_generator(TemporalFilter, "average_stage", item, patch),
    "writer": lambda item, patch: break_write(MultiWriter, item, patch),
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


def names_in(folder: Path) -> list[str]:
    """Everything in a folder, including hidden names."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(scope="module")
def items(
    clip: Movie, network: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], int]:
    """The item number of each of PLACES, from the queues and the ring of a successful run."""
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
            patch.setattr(pipeline, "Stage", stage)
            patch.setattr(pipeline, "Ring", ring)
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
@pytest.mark.thinned(7)
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
    assert names_in(out) == []


@pytest.mark.parametrize("target", ["cut.mov", "cut.webm", "cut/"])
@pytest.mark.parametrize(
    "options", [{}, {"batch": 8}, {"smooth": "strong"}, {"smooth": "off", "refine": "off"}], ids=str
)
@pytest.mark.thinned(5)
def test_the_smallest_ring_suffices_for_a_clip(
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
    assert names_in(out) == []


@pytest.mark.parametrize("item", (0, 7, FRAMES - 1))
def test_a_failing_image_writer(
    item: int, clip: Movie, network: dict[str, str], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_write(MultiWriter, item, monkeypatch)
    with pytest.raises(InjectedError, match=f"^injected at item {item}$"):
        matte(clip.path, f"{out}/cut/", format="png", **network)
    assert names_in(out) == []


@pytest.mark.parametrize("item", (0, 7, 18, FRAMES - 1))
@pytest.mark.parametrize("target", ["cut.mov", "cut.webm", "cut/"])
@pytest.mark.thinned(3)
def test_a_failing_worker_of_a_writer(
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
        return ENCODE[type(self)](self, tool, picture, frame)

    for output_type in ENCODE:
        monkeypatch.setattr(output_type, "encode", encode)
    kind = {"format": "png"} if target.endswith("/") else {}
    with pytest.raises(OutputError, match=r"the disk is full"):
        matte(clip.path, f"{out}/{target}", **kind, **network)
    assert names_in(out) == []


@pytest.mark.parametrize("call", [1, 20])
def test_failing_audio(
    call: int, clip: Movie, network: dict[str, str], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, original = [], AudioWriter.advance

    def advance(self: AudioWriter, seconds: Fraction) -> None:
        calls.append(seconds)
        if len(calls) == call:
            raise InjectedError("injected into the audio")
        original(self, seconds)

    monkeypatch.setattr(AudioWriter, "advance", advance)
    with pytest.raises(InjectedError, match=r"^injected into the audio$"):
        matte(clip.path, out / "cut.mov", **network)
    assert names_in(out) == []


def test_a_writer_that_cannot_close(
    clip: Movie, network: dict[str, str], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(self: MultiWriter) -> None:
        raise InjectedError("injected at the end")

    monkeypatch.setattr(MultiWriter, "close", close)
    with pytest.raises(InjectedError, match=r"^injected at the end$"):
        matte(clip.path, out / "cut.mov", **network)
    assert names_in(out) == []


@pytest.mark.parametrize("stage", ["reader", "network", "motion", "filter"])
@pytest.mark.parametrize("item", (0, 8, FRAMES - 1))
@pytest.mark.thinned(3)
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
@pytest.mark.thinned(2)
def test_leaving_a_stream_early_closes_everything(
    after: int, clip: Movie, network: dict[str, str]
) -> None:
    frames = stream(clip.path, **network)
    for frame in frames:
        assert read_index(frame.rgb) == frame.index
        if frame.index == after:
            break
    del frames, frame  # the guards check for threads and open files


def test_a_failed_overwrite_keeps_the_old_file(
    clip: Movie, network: dict[str, str], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (out / "cut.mov").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="--overwrite"):
        matte(clip.path, out / "cut.mov", **network)
    STAGES["filter"](9, monkeypatch)
    with pytest.raises(InjectedError):
        matte(clip.path, out / "cut.mov", overwrite=True, **network)
    assert (out / "cut.mov").read_bytes() == b"precious"
    assert names_in(out) == ["cut.mov"]


# The command line, in its own process.


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
    assert names_in(out) == ["cut.mov", "cut.mov.json"]
    # onnxruntime's telemetry would store a device identifier there.
    assert names_in(home) == []


def command(*words: str | Path, network: dict[str, str]) -> list[str]:
    """The command of a run with a tiny network."""
    chosen = [f"--model={network['model']}", f"--family={network['family']}"]
    return [sys.executable, "-m", "vidmatte", *(str(word) for word in words), *chosen]


def refused(*words: str | Path, network: dict[str, str], prefix: tuple[str, ...] = ()) -> str:
    """The single line on stderr of a run that has to fail."""
    done = subprocess.run(
        [*prefix, *command(*words, network=network)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode not in (0, 130), done.stderr
    return only_line(done.stderr)


def only_line(stderr: str) -> str:
    """The single line of stderr that reports how a run ended."""
    assert len(stderr.strip().splitlines()) == 1, stderr
    assert stderr.strip().splitlines()[0].startswith("vidmatte: "), stderr
    return stderr.strip().splitlines()[0]


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A clip and a network slow enough to be stopped in the middle."""
    folder = tmp_path_factory.mktemp("long")
    shape = {"size": (96, 64), "frames": 400, "draw": draw_nothing}
    clip = make_movie(folder / "long.mp4", audio=[Tone()], **shape)
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
@pytest.mark.thinned(2)
def test_ctrl_c_stops_cleanly(
    number: signal.Signals, words: list[str], long_run: tuple[Path, dict[str, str]], out: Path
) -> None:
    clip, network = long_run
    words = command(clip, "-o", f"{out}/{words[0]}", *words[1:], network=network)
    run = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: names_in(out) != [] or run.poll() is not None)
        assert run.poll() is None, run.communicate()
        time.sleep(0.5)  # some frames into the run
        children = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(number)
        stderr = run.communicate(timeout=60)[1]
    finally:
        run.kill()
        run.wait()
    assert run.returncode == 130, stderr
    assert only_line(stderr).startswith("vidmatte: stopped")
    assert names_in(out) == []
    assert not any(child.is_running() for child in children)


def test_closing_the_terminal_leaves_no_files(
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
        wait_until(lambda: names_in(out) != [] or run.poll() is not None)
        assert run.poll() is None
        time.sleep(0.5)  # some frames into the run
        os.close(ours)
        assert run.wait(60) == 130
    finally:
        run.kill()
        run.wait()
    assert names_in(out) == []


def wait_until(is_true: Callable[[], bool], limit_s: float = 40.0) -> None:
    """Wait for a condition. Fails the test after ``limit_s``."""
    deadline = time.monotonic() + limit_s
    while not is_true():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def truncated(folder: Path) -> Path:
    """A movie truncated in the middle: its header, at the end, is missing."""
    complete = make_movie(folder / "complete.mp4", frames=60)
    path = folder / "truncated.mp4"
    data = complete.path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def folder_with_a_broken_picture(folder: Path) -> Path:
    """Five pictures; the third file is truncated."""
    paths = make_pictures(folder / "plates", frames=5)
    paths[2].write_bytes(paths[2].read_bytes()[:2000])
    return folder / "plates"


def text_as_movie(folder: Path) -> Path:
    """A text file named as a movie."""
    path = folder / "notes.mp4"
    path.write_text("not a movie\n" * 200)
    return path


def sound_only(folder: Path) -> Path:
    """A movie without video: the muxer drops a stream without frames."""
    return make_movie(folder / "none.mp4", frames=0).path


def no_frames(folder: Path) -> Path:
    """A movie with an empty video stream."""
    return make_movie(folder / "none.avi", frames=0, codec="mpeg4").path


def empty_folder(folder: Path) -> Path:
    """A folder without images."""
    (folder / "empty").mkdir()
    return folder / "empty"


def empty_file(folder: Path) -> Path:
    """A file of zero bytes."""
    (folder / "empty.mov").touch()
    return folder / "empty.mov"


def mixed_sizes(folder: Path) -> Path:
    """Images of which one has another size."""
    make_pictures(folder / "plates", frames=2)
    make_pictures(folder / "plates", frames=1, start=3, size=(96, 64))
    return folder / "plates"


#: The maker of each bad input, and words that its message must contain.
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
@pytest.mark.thinned(3)
def test_bad_input_is_named_in_one_line(
    kind: str,
    target: str,
    network: dict[str, str],
    tmp_path: Path,
    out: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In this process: what FFmpeg and OpenCV print on their own counts too."""
    make, words = BAD_INPUTS[kind]
    source = make(tmp_path)
    extra = ["--format", "png"] if target.endswith("/") else []
    capfd.readouterr()
    status = main(command(source, "-o", f"{out}/{target}", *extra, network=network)[3:])
    assert status not in (0, 130)
    line = only_line(capfd.readouterr().err)
    assert all(word in line for word in words), line
    assert names_in(out) == []


@pytest.mark.parametrize("kind", BAD_INPUTS)
def test_bad_input_raises_a_source_error(
    kind: str, network: dict[str, str], tmp_path: Path, out: Path
) -> None:
    source = BAD_INPUTS[kind][0](tmp_path)
    with pytest.raises(SourceError):
        matte(source, out / "cut.mov", **network)
    assert names_in(out) == []


def without_privilege() -> tuple[str, ...]:
    """A command prefix that drops root's right to read and write everything."""
    if os.geteuid() != 0:
        return ()
    words = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    if shutil.which("setpriv") is None or subprocess.run([*words, "true"], check=False).returncode:
        pytest.skip("running as root, and setpriv cannot drop its rights here")
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
    assert names_in(out) == []


@pytest.mark.parametrize("words", [["cut.mov"], ["cut/", "--format", "png"], ["cut.webm"]])
@pytest.mark.thinned(3)
def test_full_disk(words: list[str], clip: Movie, network: dict[str, str], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=40k none {disk}"
    alone = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    if sys.platform != "linux" or subprocess.run([*alone, mount], check=False).returncode:
        pytest.skip("no small file system can be mounted here (needs Linux and a user namespace)")
    target = f"{disk}/{words[0]}"
    run = subprocess.list2cmdline(command(clip.path, "-o", target, *words[1:], network=network))
    # The mount vanishes with its namespace: leftovers have to be listed inside.
    script = f"{mount} && {run}; echo status $?; ls -A {disk}"
    done = subprocess.run([*alone, script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "status 1\n"
    assert "full" in only_line(done.stderr)

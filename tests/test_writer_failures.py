"""Failing writers: the error in one line, and no files left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from media import Movie, make_movie
from writer_support import disc, read_frames, write_clip

from vidmatte.core.frame import Clip, Frame
from vidmatte.errors import OutputError, OutputExistsError, UsageError, VerificationError
from vidmatte.jobs.check import _check_outputs
from vidmatte.jobs.outputs import open_writer
from vidmatte.settings import Settings
from vidmatte.writers.base import Writer, as_output_error
from vidmatte.writers.format_spec import Expected
from vidmatte.writers.formats import by_name, choose
from vidmatte.writers.render.cutout import CutoutPicture
from vidmatte.writers.verify import verify_movie

OUTPUTS = ["out.mov", "out.webm", "out.mkv", "frames"]
SETTINGS = Settings(foreground="source")


class CountedFrames:
    """Counts frames yielded and slots returned."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        self.yielded, self.returned = 0, 0
        self._frames = frames
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._frames:
            frame.return_slot = self._count_returned
            self.yielded += 1
            yield frame

    def _count_returned(self) -> None:
        with self._lock:
            self.returned += 1


def begin(movie: Movie, out: Path) -> tuple[Clip, CountedFrames, Writer]:
    clip, frames = read_frames(movie.path, SETTINGS, disc)
    _check_outputs(out, clip, SETTINGS)
    return clip, CountedFrames(frames), open_writer(out, clip, SETTINGS)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "results"
    path.mkdir()
    return path


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("after", [0, 1, 4, 9])
def test_abort_leaves_nothing(
    name: str, after: int, source_movie: Callable[[str], Movie], folder: Path
) -> None:
    _, counted, writer = begin(source_movie("8-bit 709"), folder / name)
    for number, frame in enumerate(counted):
        if number == after:
            frame.release()
            break
        writer.write(frame)
    writer.abort()
    writer.abort()
    assert names_in(folder) == []
    assert counted.returned == counted.yielded


@pytest.mark.parametrize("name", OUTPUTS)
def test_abort_after_close_removes_nothing(
    name: str, source_movie: Callable[[str], Movie], folder: Path
) -> None:
    _, counted, writer = begin(source_movie("8-bit 709"), folder / name)
    for frame in counted:
        writer.write(frame)
    written = writer.close()
    writer.abort()
    assert names_in(folder) == [name]
    assert written.frames == counted.returned == counted.yielded


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("at", [0, 1, 3, 5, 9])
def test_a_failing_worker_ends_the_run_with_its_own_error(
    name: str,
    at: int,
    source_movie: Callable[[str], Movie],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = CutoutPicture.render

    def failing_render(maker: CutoutPicture, frame: Frame) -> av.VideoFrame:
        if frame.index == at:
            raise MemoryError(f"no memory for frame {at}")
        return original(maker, frame)

    monkeypatch.setattr(CutoutPicture, "render", failing_render)
    _, counted, writer = begin(source_movie("8-bit 709"), folder / name)
    with pytest.raises(MemoryError, match=f"frame {at}"), writer:
        for frame in counted:
            writer.write(frame)
        writer.close()
    assert names_in(folder) == []
    assert counted.returned == counted.yielded


@pytest.mark.parametrize("name", OUTPUTS)
def test_no_frames_is_an_error(
    name: str, source_movie: Callable[[str], Movie], folder: Path
) -> None:
    _, _, writer = begin(source_movie("8-bit 709"), folder / name)
    with pytest.raises(OutputError, match="no frame"):
        writer.close()
    assert names_in(folder) == []


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_frame_of_another_size_is_refused(
    name: str, source_movie: Callable[[str], Movie], tmp_path: Path, folder: Path
) -> None:
    _, counted, writer = begin(source_movie("8-bit 709"), folder / name)
    other = make_movie(tmp_path / "other.mp4", size=(64, 48), frames=1)
    _, frames = read_frames(other.path, SETTINGS, disc)
    with pytest.raises(OutputError, match="64x48"), writer:
        writer.write(next(iter(counted)))
        writer.write(next(frames))
    assert names_in(folder) == []


def test_a_frame_that_the_muxer_refuses_is_named(
    source_movie: Callable[[str], Movie], folder: Path
) -> None:
    _, counted, writer = begin(source_movie("8-bit full range"), folder / "out.mov")
    with (
        pytest.raises(OutputError, match=r"frame 2, at 0\.040 s, cannot be written \(Invalid arg"),
        writer,
    ):
        for frame in counted:
            frame.pts = min(frame.pts, frame.duration)
            writer.write(frame)
        writer.close()
    assert names_in(folder) == []


@pytest.mark.parametrize("name", ["out.mov", "out.webm", "out.mkv"])
def test_an_existing_output_is_not_touched(
    name: str, source_movie: Callable[[str], Movie], folder: Path
) -> None:
    out = folder / name
    out.write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        write_clip(source_movie("8-bit 709"), out)
    assert out.read_bytes() == b"mine"
    write_clip(source_movie("8-bit 709"), out, overwrite=True)
    assert out.stat().st_size > 1000
    assert names_in(folder) == [name]


def test_an_output_that_appears_during_the_run_is_not_touched(
    source_movie: Callable[[str], Movie], folder: Path
) -> None:
    _, counted, writer = begin(source_movie("8-bit 709"), folder / "out.mov")
    for frame in counted:
        writer.write(frame)
    (folder / "out.mov").write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        writer.close()
    assert (folder / "out.mov").read_bytes() == b"mine"
    assert names_in(folder) == ["out.mov"]


def test_leftovers_of_a_killed_run_are_replaced(
    source_movie: Callable[[str], Movie], folder: Path
) -> None:
    (folder / ".out.partial.mov").write_bytes(b"half")
    (folder / ".frames.partial").mkdir()
    (folder / ".frames.partial" / "000900.png").write_bytes(b"half")
    write_clip(source_movie("8-bit 709"), folder / "out.mov")
    write_clip(source_movie("8-bit 709"), folder / "frames")
    assert names_in(folder) == ["frames", "out.mov"]
    assert len(names_in(folder / "frames")) == 10


@pytest.mark.parametrize("name", [*OUTPUTS, "shots/cut_%03d.png"])
def test_a_second_run_does_not_disturb_the_first(
    name: str, source_movie: Callable[[str], Movie], folder: Path
) -> None:
    _, counted, writer = begin(source_movie("8-bit 709"), folder / name)
    frames = iter(counted)
    writer.write(next(frames))
    with pytest.raises(OutputError, match="locked by another vidmatte process"):
        begin(source_movie("8-bit 709"), folder / name)
    for frame in frames:
        writer.write(frame)
    assert writer.close().frames == counted.yielded
    assert names_in(folder) == [name.split("/")[0]]


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_missing_folder_is_reported_before_the_run(
    name: str, source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    clip, _ = read_frames(source_movie("8-bit 709").path, SETTINGS, disc)
    with pytest.raises(OutputError, match="no such folder"):
        _check_outputs(tmp_path / "nowhere" / name, clip, SETTINGS)


@pytest.mark.parametrize("name", ["out.avi", "out.mp3", "out.partial.xyz"])
def test_an_unknown_suffix_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match=r"\.mov.*\.webm"):
        choose(Path(name), None)


def test_a_format_that_contradicts_the_suffix_is_refused() -> None:
    with pytest.raises(UsageError, match="webm"):
        choose(Path("out.mov"), "webm")
    with pytest.raises(UsageError, match="choose from prores"):
        choose(Path("out.mov"), "divx")
    assert choose(Path("out.MOV"), "mov").name == "prores"
    assert choose(Path("frames"), None).name == "png"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small file system can only be mounted by root")
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.decode().strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_full_disk_is_reported_in_one_line(name: str, small_disk: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    movie = make_movie(tmp_path / "clip.mp4", size=(320, 240), frames=24)
    clip, frames = read_frames(movie.path, SETTINGS, disc)
    counted = CountedFrames(frames)
    with (
        pytest.raises(OutputError, match=rf"^{small_disk}/{name}: the disk is full"),
        open_writer(small_disk / name, clip, SETTINGS) as writer,
    ):
        for frame in counted:
            for plane in frame.picture.planes:
                noise = generator.integers(16, 235, plane.buffer_size, dtype=np.uint8)
                plane.update(noise)
            writer.write(frame)
        writer.close()
    assert names_in(small_disk) == []
    assert counted.returned == counted.yielded


def test_verification_names_the_differences(
    source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie = source_movie("8-bit 709")
    clip, written = write_clip(movie, out := tmp_path / "out.mov")
    row = by_name("prores")
    truth = {
        "frames": 10,
        "first": clip.time_base * 0,
        "last": 9 / clip.rate,
        "end": 10 / clip.rate,
        "sound": (written.seconds,),
        "colour": clip.colour,
    }
    verify_movie(out, clip, row, Expected(**truth))
    wrong = {
        "frames": (11, "frames: 10 instead of 11"),
        "first": (1 / clip.rate, "the first frame is at 0.000000 s instead of 0.040000 s"),
        "last": (8 / clip.rate, "the last frame"),
        "end": (1 + 10 / clip.rate, "the end is at"),
        "sound": ((), "sound tracks: 1 instead of 0"),
        "colour": (clip.colour.with_matrix(9, 1), "matrix: bt709 instead of bt2020nc"),
    }
    for field, (value, clause) in wrong.items():
        with pytest.raises(VerificationError, match=clause):
            verify_movie(out, clip, row, Expected(**(truth | {field: value})))
    timed = replace(clip, timecode="01:00:00:00")
    with pytest.raises(VerificationError, match="timecode: None instead of 01:00:00:00"):
        verify_movie(out, timed, row, Expected(**truth))
    with pytest.raises(VerificationError, match="sound 1"):
        verify_movie(out, clip, row, Expected(**(truth | {"sound": (written.seconds + 1,)})))
    with pytest.raises(VerificationError, match="codec tag"):
        verify_movie(out, clip, by_name("prores-xq"), Expected(**truth))


def test_a_damaged_file_fails_verification(
    source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    clip, _ = write_clip(source_movie("8-bit 709"), out := tmp_path / "out.mov")
    out.write_bytes(out.read_bytes()[:-500])
    expected = Expected(10, clip.origin, clip.origin, clip.origin, (), clip.colour)
    with pytest.raises(VerificationError, match="cannot be read back"):
        verify_movie(out, clip, by_name("prores"), expected)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such limit")
@pytest.mark.parametrize("name", ["out.mov", "frames"])
def test_a_file_size_limit_is_named(name: str, tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", size=(320, 180), frames=3)
    out = tmp_path / "to" / name
    out.parent.mkdir()
    message = rf"^{out}: files are limited to 0\.0 MB here \(ulimit -f\): raise"
    with file_sizes_limited(20000), pytest.raises(OutputError, match=message):
        write_clip(movie, out)
    assert names_in(out.parent) == []


@contextlib.contextmanager
def file_sizes_limited(limit: int) -> Iterator[None]:
    """Within it this process writes no file of more bytes."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_systems_size_limit_is_reported() -> None:
    message = str(as_output_error(OSError(errno.EFBIG, "File too large"), Path("out.mov")))
    assert message.startswith(
        "out.mov: this disk does not support files that large (FAT32: 4 GB): write to"
    )

"""Folders that are there before a run, other file systems, and what stands beside a result."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from media import Movie, make_movie
from tiny_onnx import make_salient
from writer_support import disc, read_frames, write_clip

from vidmatte.cli.main import main
from vidmatte.errors import OutputError
from vidmatte.jobs.check import _check_outputs
from vidmatte.jobs.outputs import open_writer
from vidmatte.settings import Settings
from vidmatte.writers.partial import Partial

FRAMES = 3


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Movie:
    folder = tmp_path_factory.mktemp("clip")
    return make_movie(folder / "clip.mp4", size=(64, 48), frames=FRAMES)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A link to an empty folder on another file system, into which nothing can be renamed."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        link = tmp_path / "elsewhere"
        link.symlink_to(folder)
        yield link


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["", "cut_%04d.png"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_on_another_file_system_is_filled(
    name: str, resume: bool, movie: Movie, elsewhere: Path
) -> None:
    where = elsewhere / name
    write_clip(movie, where, resume=resume)
    expected = [f"cut_{index:04d}.png" if name else f"{index:06d}.png" for index in range(FRAMES)]
    assert left_in(elsewhere) == expected
    (elsewhere / "notes.txt").write_text("keep")
    (elsewhere / expected[0]).write_bytes(b"old")
    if not resume:
        write_clip(movie, where, overwrite=True)
        assert left_in(elsewhere) == [*expected, "notes.txt"]
        assert (elsewhere / expected[0]).stat().st_size > len(b"old")


@pytest.mark.parametrize("anew", [False, True])
def test_kept_pictures_in_a_folder_that_is_there(
    anew: bool, movie: Movie, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run goes on with them; who removes the work folder starts anew, whatever they are."""

    def no_room(_: Partial) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OutputError, match="the disk is full"):
        patch.setattr(Partial, "commit", no_room)
        write_clip(movie, elsewhere, resume=True)
    (kept,) = elsewhere.iterdir()
    assert len(left_in(kept)) == FRAMES
    if anew:
        shutil.rmtree(elsewhere.with_name(f".{elsewhere.name}.resume"))
        (kept / "stale.png").touch()
    settings = Settings(foreground="source", resume=True)
    clip, frames = read_frames(movie.path, settings, disc)
    with open_writer(elsewhere, clip, settings) as sink:
        assert sink.spool.count == (0 if anew else FRAMES)
        for frame in frames if anew else ():
            frame.return_slot = lambda: None
            sink.write(frame)
        sink.close()
    assert left_in(elsewhere) == [f"{index:06d}.png" for index in range(FRAMES)]


def test_a_run_stopped_between_two_pictures_that_get_their_names(
    movie: Movie, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_at_second(partial: Partial) -> None:
        first = min(partial.path.iterdir())
        first.replace(partial.final / first.name)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OutputError, match="the disk is full"):
        patch.setattr(Partial, "_merge", stop_at_second)
        write_clip(movie, elsewhere, resume=True)
    assert len(left_in(elsewhere)) == 2
    settings = Settings(foreground="source", resume=True)
    clip, _ = read_frames(movie.path, settings, disc)
    with open_writer(elsewhere, clip, settings) as sink:
        assert sink.spool.count == FRAMES
        assert sink.close().frames == FRAMES
    assert left_in(elsewhere) == [f"{index:06d}.png" for index in range(FRAMES)]


def test_an_empty_folder_is_kept_as_it_is(movie: Movie, tmp_path: Path) -> None:
    out = tmp_path / "frames"
    out.mkdir()
    out.chmod(0o2770)
    before = out.stat()
    write_clip(movie, out)
    after = out.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert len(left_in(out)) == FRAMES


@pytest.mark.parametrize("name", ["link", "link/cut_%02d.png"])
def test_a_link_that_leads_nowhere_is_told_before_the_run(
    name: str, movie: Movie, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    clip, _ = read_frames(movie.path, Settings(), disc)
    with pytest.raises(OutputError, match=r"link: a link to .*gone, which does not exist: create"):
        _check_outputs(tmp_path / name, clip, Settings(format="png"))


def test_where_nothing_can_be_made_beside_the_folder(movie: Movie, tmp_path: Path) -> None:
    """The folder itself is enough, but for what belongs beside it."""
    parent, out = tmp_path / "shelf", tmp_path / "shelf" / "cut"
    out.mkdir(parents=True)
    parent.chmod(0o555)
    network = ["--model", make_salient(tmp_path / "tiny.onnx"), "--family", "isnet"]
    words = [sys.executable, "-m", "vidmatte", movie.path, "--format", "png", *network]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        prefix: list[str] = []
        if os.geteuid() == 0:  # who may write everywhere
            prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
        command = [*prefix, *words, "-o", f"{out}/", *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("running as root, and setpriv is not here to take its rights away")
    try:
        for more, named in (([], "manifest"), (["--resume", "--no-manifest"], "--resume")):
            said = run(*more)
            assert said.returncode == 1, said.stderr
            assert all(
                word in said.stderr for word in (f"{out}: ", f"{parent} is not writable", named)
            )
            assert left_in(out) == []
        said = run("--no-manifest")
        assert said.returncode == 0, said.stderr
        assert len(left_in(out)) == FRAMES
    finally:
        parent.chmod(0o755)


def long_name(size: int, suffix: str = "") -> str:
    """A name of that many bytes, of letters that take two."""
    return "é" * ((size - len(suffix)) // 2) + "x" * ((size - len(suffix)) % 2) + suffix


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 255 - len("..json.partial")), ({"manifest": False}, 255 - len("..partial"))],
)
def test_a_name_leaves_room_for_what_stands_beside(
    options: dict[str, bool], most: int, movie: Movie, tmp_path: Path
) -> None:
    settings, there = Settings(**options), left_in(tmp_path)
    clip, _ = read_frames(movie.path, settings, disc)
    _check_outputs(tmp_path / long_name(most, ".mov"), clip, settings)
    too_long = f"the name has {most + 1} bytes, the limit is {most}, "
    for name in (long_name(most + 1, ".mov"), long_name(most + 1)):
        with pytest.raises(OutputError, match=too_long):
            _check_outputs(tmp_path / name, clip, settings)
    with pytest.raises(OutputError, match="has 256 bytes, the limit is 255 here"):
        _check_outputs(tmp_path / long_name(256, ".mov"), clip, settings)
    both = f"{long_name(121)}/{long_name(120)}_%d.png"
    with pytest.raises(OutputError, match="names of the folder and of its pictures are together"):
        _check_outputs(tmp_path / both, clip, settings)
    assert left_in(tmp_path) == there


def test_the_names_of_pictures_leave_room_too(movie: Movie, tmp_path: Path) -> None:
    """Those of a folder's pictures are the source's; each is longer until it is whole."""
    settings = Settings(format="png")
    clip, _ = read_frames(movie.path, settings, disc)
    for size in (246, 247):
        clip = replace(clip, output_names=("short", "n" * size))
        if size == 246:
            _check_outputs(tmp_path / "cut", clip, settings)
            continue
        with pytest.raises(OutputError, match="has 251 bytes, the limit is 250"):
            _check_outputs(tmp_path / "cut", clip, settings)


def test_one_long_name_stops_no_batch(
    movie: Movie, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = ["--model", str(make_salient(tmp_path / "tiny.onnx")), "--family", "isnet"]
    shutil.copy(movie.path, bad := tmp_path / ("n" * 251 + ".mp4"))
    inputs = [str(bad), str(shutil.copy(movie.path, tmp_path / "good.mp4"))]
    out = tmp_path / "out"
    for more in ([], ["--resume"]):
        assert main([*inputs, "-o", f"{out}/", "--format", "prores", *network, *more]) == 1
        assert "has 255 bytes, the limit is 241" in capsys.readouterr().err
        assert left_in(out) == ["good.mov", "good.mov.json"]
    assert main([*inputs, *network]) == 1
    assert "has 261 bytes, the limit is 255 here" in capsys.readouterr().err
    assert main([inputs[1], "-o", f"{tmp_path}/{'n' * 300}/", *network]) == 1
    assert "the limit is 255 here" in capsys.readouterr().err

"""Existing folders, other file systems, and the files beside a result."""

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
    """A link to an empty folder on another file system: files cannot be renamed into it."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        link = tmp_path / "elsewhere"
        link.symlink_to(folder)
        yield link


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["", "cut_%04d.png"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_on_another_file_system_is_filled(
    name: str, resume: bool, movie: Movie, elsewhere: Path
) -> None:
    where = elsewhere / name
    write_clip(movie, where, resume=resume)
    expected = [f"cut_{index:04d}.png" if name else f"{index:06d}.png" for index in range(FRAMES)]
    assert names_in(elsewhere) == expected
    (elsewhere / "notes.txt").write_text("keep")
    (elsewhere / expected[0]).write_bytes(b"old")
    if not resume:
        write_clip(movie, where, overwrite=True)
        assert names_in(elsewhere) == [*expected, "notes.txt"]
        assert (elsewhere / expected[0]).stat().st_size > len(b"old")


@pytest.mark.parametrize("restart", [False, True])
def test_a_checkpoint_in_an_existing_folder(
    restart: bool, movie: Movie, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run resumes from it; without its checkpoint folder the run starts over."""

    def no_room(_: Partial) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OutputError, match="the disk is full"):
        patch.setattr(Partial, "commit", no_room)
        write_clip(movie, elsewhere, resume=True)
    (partial_folder,) = elsewhere.iterdir()
    assert len(names_in(partial_folder)) == FRAMES
    if restart:
        shutil.rmtree(elsewhere.with_name(f".{elsewhere.name}.resume"))
        (partial_folder / "stale.png").touch()
    settings = Settings(foreground="source", resume=True)
    clip, frames = read_frames(movie.path, settings, disc)
    with open_writer(elsewhere, clip, settings) as writer:
        assert writer.spool.count == (0 if restart else FRAMES)
        for frame in frames if restart else ():
            frame.return_slot = lambda: None
            writer.write(frame)
        writer.close()
    assert names_in(elsewhere) == [f"{index:06d}.png" for index in range(FRAMES)]


def test_a_run_stopped_between_two_renames(
    movie: Movie, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_at_second(partial: Partial) -> None:
        first = min(partial.path.iterdir())
        first.replace(partial.final / first.name)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OutputError, match="the disk is full"):
        patch.setattr(Partial, "_merge", stop_at_second)
        write_clip(movie, elsewhere, resume=True)
    assert len(names_in(elsewhere)) == 2
    settings = Settings(foreground="source", resume=True)
    clip, _ = read_frames(movie.path, settings, disc)
    with open_writer(elsewhere, clip, settings) as writer:
        assert writer.spool.count == FRAMES
        assert writer.close().frames == FRAMES
    assert names_in(elsewhere) == [f"{index:06d}.png" for index in range(FRAMES)]


def test_an_existing_empty_folder_is_reused(movie: Movie, tmp_path: Path) -> None:
    out = tmp_path / "frames"
    out.mkdir()
    out.chmod(0o2770)
    before = out.stat()
    write_clip(movie, out)
    after = out.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert len(names_in(out)) == FRAMES


@pytest.mark.parametrize("name", ["link", "link/cut_%02d.png"])
def test_a_broken_link_is_reported_before_the_run(name: str, movie: Movie, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    clip, _ = read_frames(movie.path, Settings(), disc)
    with pytest.raises(OutputError, match=r"link: a link to .*gone, which does not exist: create"):
        _check_outputs(tmp_path / name, clip, Settings(format="png"))


def test_a_read_only_parent_folder(movie: Movie, tmp_path: Path) -> None:
    """Only the files beside the output folder need to write to its parent."""
    parent, out = tmp_path / "shelf", tmp_path / "shelf" / "cut"
    out.mkdir(parents=True)
    parent.chmod(0o555)
    network = ["--model", make_salient(tmp_path / "tiny.onnx"), "--family", "isnet"]
    words = [sys.executable, "-m", "vidmatte", movie.path, "--format", "png", *network]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        prefix: list[str] = []
        if os.geteuid() == 0:  # root may write everywhere
            prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
        command = [*prefix, *words, "-o", f"{out}/", *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("running as root, and setpriv is missing to drop its rights")
    try:
        for more, named in (([], "manifest"), (["--resume", "--no-manifest"], "--resume")):
            done = run(*more)
            assert done.returncode == 1, done.stderr
            assert all(
                word in done.stderr for word in (f"{out}: ", f"{parent} is not writable", named)
            )
            assert names_in(out) == []
        done = run("--no-manifest")
        assert done.returncode == 0, done.stderr
        assert len(names_in(out)) == FRAMES
    finally:
        parent.chmod(0o755)


def long_name(size: int, suffix: str = "") -> str:
    """A name of that many bytes, made of two-byte letters."""
    return "é" * ((size - len(suffix)) // 2) + "x" * ((size - len(suffix)) % 2) + suffix


@pytest.mark.parametrize(
    ("options", "longest"),
    [({}, 255 - len("..json.partial")), ({"manifest": False}, 255 - len("..partial"))],
)
def test_a_name_has_to_allow_for_the_suffixes_of_files_beside_it(
    options: dict[str, bool], longest: int, movie: Movie, tmp_path: Path
) -> None:
    settings, there = Settings(**options), names_in(tmp_path)
    clip, _ = read_frames(movie.path, settings, disc)
    _check_outputs(tmp_path / long_name(longest, ".mov"), clip, settings)
    too_long = f"the name has {longest + 1} bytes, the limit is {longest}, "
    for name in (long_name(longest + 1, ".mov"), long_name(longest + 1)):
        with pytest.raises(OutputError, match=too_long):
            _check_outputs(tmp_path / name, clip, settings)
    with pytest.raises(OutputError, match="has 256 bytes, the limit is 255 here"):
        _check_outputs(tmp_path / long_name(256, ".mov"), clip, settings)
    both = f"{long_name(121)}/{long_name(120)}_%d.png"
    with pytest.raises(OutputError, match="names of the folder and of its pictures are together"):
        _check_outputs(tmp_path / both, clip, settings)
    assert names_in(tmp_path) == there


def test_image_names_have_to_allow_for_suffixes_too(movie: Movie, tmp_path: Path) -> None:
    """Images are named after the source's; a partial file's name is longer."""
    settings = Settings(format="png")
    clip, _ = read_frames(movie.path, settings, disc)
    for size in (246, 247):
        clip = replace(clip, output_names=("short", "n" * size))
        if size == 246:
            _check_outputs(tmp_path / "cut", clip, settings)
            continue
        with pytest.raises(OutputError, match="has 251 bytes, the limit is 250"):
            _check_outputs(tmp_path / "cut", clip, settings)


def test_one_long_name_does_not_stop_a_batch(
    movie: Movie, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = ["--model", str(make_salient(tmp_path / "tiny.onnx")), "--family", "isnet"]
    shutil.copy(movie.path, bad := tmp_path / ("n" * 251 + ".mp4"))
    inputs = [str(bad), str(shutil.copy(movie.path, tmp_path / "good.mp4"))]
    out = tmp_path / "out"
    for more in ([], ["--resume"]):
        assert main([*inputs, "-o", f"{out}/", "--format", "prores", *network, *more]) == 1
        assert "has 255 bytes, the limit is 241" in capsys.readouterr().err
        assert names_in(out) == ["good.mov", "good.mov.json"]
    assert main([*inputs, *network]) == 1
    assert "has 261 bytes, the limit is 255 here" in capsys.readouterr().err
    assert main([inputs[1], "-o", f"{tmp_path}/{'n' * 300}/", *network]) == 1
    assert "the limit is 255 here" in capsys.readouterr().err

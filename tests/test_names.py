"""Names that are not files: the root folder, URLs, pipes, stdin and stdout."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from media import make_movie
from tiny_onnx import make_salient
from writer_support import write_clip

import vidmatte
from vidmatte.cli.main import main
from vidmatte.cli.outputs import plan_outputs
from vidmatte.core.names import as_url
from vidmatte.errors import SourceError, SourceMissingError, UsageError
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.writers.output_paths import output_paths


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A clip, and the options that choose a tiny network."""
    movie = make_movie(tmp_path / "clip.mp4", size=(64, 48), frames=2)
    model = make_salient(tmp_path / "tiny.onnx")
    return [str(movie.path), "--model", str(model), "--family", "isnet"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (["-o", "/"], "/: this is the root folder: choose a folder in it"),
        (["-o", "/", "--resume"], "/: this is the root folder: choose a folder in it"),
        (["-o", "cut.mov", "--matte", "-"], "-: stdout takes one result, that of -o, of one in"),
        (["-o", "cut.mov", "--matte", "/"], "/: this is the root folder"),
        (
            ["-o", "cut.mov", "--matte", "file:///tmp/a%20b.mov"],
            "file:///tmp/a%20b.mov: URLs are not supported as outputs: use the path, /tmp/a b.m",
        ),
        (
            ["-o", "cut.mov", "--matte", "S3://shelf/cut.mov"],
            "S3://shelf/cut.mov: URLs are not supported as outputs: name a f",
        ),
    ],
)
def test_an_output_that_is_not_a_path_is_refused(
    output: list[str], message: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, *output]) == 2
    assert capsys.readouterr().err.startswith(f"vidmatte: {message}")


@pytest.mark.parametrize(
    ("output", "name", "step"),
    [
        ("cut.mov", "png", "is written to .png: write -o cut.png, or -o cut/ for a folder"),
        ("cut.png", "exr", "is written to .exr: write -o cut.exr, or -o cut/ for a folder"),
        ("cut_%04d.png", "tiff16", "is written to .tif: write -o cut_%04d.tif"),
    ],
)
def test_images_do_not_get_another_formats_suffix(
    output: str, name: str, step: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "-o", output, "--format", name]) == 2
    assert capsys.readouterr().err == f"vidmatte: {output}: --format {name} {step}\n"


def test_a_folder_may_look_like_another_format(words: list[str], tmp_path: Path) -> None:
    for output in (f"{tmp_path / 'cut.mov'}/", str(tmp_path / "shot.v2")):
        assert main([*words, "-o", output, "--format", "png", "--quiet"]) == 0
        assert (Path(output) / "000001.png").is_file()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "http://localhost/x.mp4",
            "http://localhost/x.mp4: cannot read from URLs: download it first",
        ),
        ("file:///tmp/x%2B.mp4", "file:///tmp/x%2B.mp4: .*: pass the path itself, /tmp/x\\+.mp4"),
        (Path("-"), "-: stdin is read by the main command only: save it to a file first"),
        ("C:/x.mp4", "there is no such file"),
    ],
)
def test_an_input_that_is_not_a_path_is_refused(name: str | Path, message: str) -> None:
    with pytest.raises(SourceMissingError, match=f"{message}$|{message}"):
        open_reader(name, Settings())
    with pytest.raises(SourceMissingError, match=message):
        open_reader(Path(name), Settings())


def test_a_folder_with_a_colon_is_not_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    movie = make_movie(tmp_path / "clip.mp4", size=(64, 48), frames=2)
    monkeypatch.chdir(tmp_path)
    Path("take:").mkdir()
    assert as_url("take://cut.mov") is None
    assert write_clip(movie, Path("take:/cut.mov"))[1].frames == 2
    assert plan_outputs([Path("clip.mp4")], "./-", Settings()) == [(Path("clip.mp4"), Path("-"))]


@pytest.mark.parametrize("name", ["a.mp4", "a.png"])
@pytest.mark.skipif(os.name != "posix", reason="no named pipes here")
def test_a_pipe_is_refused_without_waiting(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(SourceError, match=r"not a regular file.* save its data to a file first"):
        vidmatte.matte(tmp_path / name, tmp_path / "cut.mov")


@pytest.mark.skipif(os.name != "posix", reason="no named sockets here")
def test_special_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("a.mp4")
        for path in ("a.mp4", os.devnull):
            with pytest.raises(SourceError, match="not a regular file"):
                open_reader(path, Settings())


def test_the_root_folder_accepts_several_results(tmp_path: Path) -> None:
    inputs = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    pairs = plan_outputs(inputs, "/", Settings(format="prores"))
    assert [str(target) for _, target in pairs] == ["/a.mov", "/b.mov"]
    with pytest.raises(UsageError, match="root folder"):
        output_paths(Path("/"))


@pytest.mark.skipif(os.name != "posix", reason="a folder in use cannot be removed here")
@pytest.mark.parametrize(
    ("given", "named"),
    [(["-o", "cut.mov"], "cut.mov"), ([], "gone.mp4"), (["-o", "c/", "--format", "mov"], "c")],
)
def test_a_removed_current_directory_is_reported(
    given: list[str],
    named: str,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder := tmp_path / "folder").mkdir()
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        folder.rmdir()
        clip = words[:1] if given else ["gone.mp4"]
        status = main([*clip, *words[1:], *given])
    assert status == 1
    stderr = capsys.readouterr().err
    assert stderr == f"vidmatte: {named}: the current directory no longer exists: cd to another\n"

"""No output may overwrite an input of the run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from media import make_movie, make_pictures
from tiny_onnx import make_salient
from writer_support import write_clip

import vidmatte
from vidmatte.cli.outputs import plan_outputs
from vidmatte.errors import UsageError
from vidmatte.settings import make_settings


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """A folder with a movie, folders of numbered PNGs and one with a single picture."""
    folder = tmp_path / "shots"
    folder.mkdir()
    make_movie(folder / "a.mov", frames=3)
    make_pictures(folder / "plates", frames=3)
    (folder / "one").mkdir()
    shutil.copy(sorted((folder / "plates").iterdir())[0], folder / "one" / "p.png")
    shutil.copytree(folder / "plates", folder / "000")
    for number, file in enumerate(sorted((folder / "000").iterdir())):
        file.rename(file.with_name(f"{number:06d}.png"))
    return folder


@pytest.mark.parametrize(
    ("source", "out", "options"),
    [
        ("a.mov", "a.mov", {}),
        ("a.mov", "out.mov", {"matte": "a.mov"}),
        ("a.mov", "out.mov", {"foreground_file": "a.mov"}),
        ("a.mov", "out.mov", {"comp": "one/p.mov", "background": "one/p.mov"}),
        ("a.mov", "000", {"garbage_matte": "000"}),
        ("a.mov", "000", {"garbage_matte": "000/000001.png"}),
        ("a.mov", "000/%06d.png", {"holdout": "000"}),
        ("one/p.png", "one", {}),
        ("one/p.png", "one/p.png", {}),
        ("plates", "plates", {}),
        ("plates", "plates", {"format": "tiff16"}),
        ("000", "000/%06d.png", {}),
        ("plates", "out.mov", {"matte": "plates"}),
    ],
)
def test_no_input_is_replaced(source: str, out: str, options: dict[str, str], shots: Path) -> None:
    shutil.copy(shots / "a.mov", shots / "one" / "p.mov")
    before = contents(shots)
    paths = {
        name: value if name == "format" else str(shots / value) for name, value in options.items()
    }
    with pytest.raises(UsageError, match="input itself"):
        write_clip(shots / source, shots / out, overwrite=True, **paths)
    assert contents(shots) == before


def test_an_input_by_another_name_is_not_replaced_either(shots: Path) -> None:
    (shots / "link.mov").symlink_to(shots / "a.mov")
    model = str(make_salient(shots / "tiny.onnx"))
    before = contents(shots)
    for out in ("a.mov", "link.mov"):
        with pytest.raises(UsageError, match="input itself"):
            vidmatte.matte(
                shots / "a.mov", shots / out, overwrite=True, model=model, family="isnet"
            )
    assert contents(shots) == before


def test_outputs_may_be_written_beside_the_inputs(shots: Path) -> None:
    (shots / "one" / "p.jpg").touch()
    write_clip(shots / "a.mov", shots / "a_matte.mov", overwrite=True)
    write_clip(shots / "one" / "p.png", shots / "one", overwrite=True, format="tiff16")
    assert sorted(contents(shots / "one")) == ["p.jpg", "p.png", "p.tif"]
    write_clip(shots / "plates", shots / "plates" / "cut_%03d.png", overwrite=True)


def test_a_result_in_the_sources_folder_may_be_overwritten(shots: Path) -> None:
    """Only the folder's pictures are read, so nothing else in it is an input."""
    plates = shots / "plates"
    before = contents(plates)
    for out in (plates / "out.mov", plates / "cut"):
        for _ in range(2):
            write_clip(plates, out, overwrite=True)
    assert before.items() <= contents(plates).items()


def test_no_input_is_replaced_by_the_result_of_another_input(tmp_path: Path) -> None:
    inputs = [tmp_path / "a.mp4", tmp_path / "a_matte.mov"]
    for path in inputs:
        path.touch()
    with pytest.raises(UsageError, match="input itself"):
        plan_outputs(inputs, None, make_settings())


def test_a_broken_link_is_no_input(shots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shots / "plates" / ".#lock").symlink_to("nowhere")
    options = {"model": str(make_salient(shots / "tiny.onnx")), "family": "isnet", "fps": "25"}
    vidmatte.matte(shots / "plates", shots / "cut.mov", resume=True, **options)
    vidmatte.matte(shots / "plates", shots / "kept.mov", cache=str(shots / "raw"), **options)
    monkeypatch.chdir(shots / "plates")
    settings = make_settings(format="prores")
    assert plan_outputs([Path()], "../cuts/", settings) == [(Path(), Path("../cuts/plates.mov"))]

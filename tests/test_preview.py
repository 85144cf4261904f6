"""``vidmatte preview``: the contact sheet."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from media import make_movie, make_pictures
from scene import read_index
from tiny_onnx import make_recurrent, make_salient

from vidmatte.api import StreamedFrame
from vidmatte.cli.main import main
from vidmatte.errors import OutputError
from vidmatte.readers.movie.reader import MovieReader
from vidmatte.settings import Settings
from vidmatte.tools.preview import _GAP, CELL, _sheet_row, _spaced, check_sheet


@pytest.mark.parametrize("family", ["isnet", "rvm"])
def test_a_sheet_shows_frames_spread_over_the_clip(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=30)
    make = make_salient if family == "isnet" else make_recurrent
    words = ["--model", str(make(tmp_path / "tiny.onnx")), "--family", family]
    assert main(["preview", str(movie.path), "--frames", "3", *words]) == 0
    out = tmp_path / "clip_preview.png"
    assert f"{out}: 3 frames" in capsys.readouterr().err
    sheet = cv2.imread(str(out))
    height = CELL * 108 // 192
    assert sheet.shape == (3 * (height + _GAP), 4 * (CELL + _GAP), 3)
    if family == "isnet":
        alpha = sheet[_GAP:height, -CELL:].astype(float)
        black = sheet[_GAP:height, CELL + 2 * _GAP : 2 * (CELL + _GAP)].astype(float)
        assert 20 < alpha.mean() < 200
        assert black[alpha[..., 0] < 1].max() <= 2
    assert main(["preview", str(movie.path), *words]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert np.array_equal(cv2.imread(str(out)), sheet)


def test_a_sheet_shows_the_frames_that_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=9)
    words = ["--model", str(make_salient(tmp_path / "tiny.onnx")), "--family", "isnet"]
    shown = []

    def noted(frame: StreamedFrame, settings: Settings) -> np.ndarray:
        shown.append((frame.index, read_index(frame.rgb)))
        return _sheet_row(frame, settings)

    monkeypatch.setattr("vidmatte.tools.preview._sheet_row", noted)
    assert main(["preview", str(movie.path), "--at=f7", "--at=f2", *words]) == 0
    assert "2 frames over" in capsys.readouterr().err
    assert shown == [(2, 2), (7, 7)]


def test_a_folder_and_its_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_pictures(tmp_path / "shot", frames=3)
    words = ["--model", str(make_salient(tmp_path / "tiny.onnx")), "--family", "isnet"]
    out = tmp_path / "sheet.jpg"
    assert main(["preview", str(tmp_path / "shot"), "-o", str(out), "--fps", "24", *words]) == 0
    assert cv2.imread(str(out)) is not None
    assert main(["preview", str(tmp_path / "shot"), "-o", str(tmp_path / "x.mov"), *words]) == 2
    assert "a sheet is a picture" in capsys.readouterr().err


def test_a_frame_missing_from_a_damaged_clip_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=9)
    words = ["--model", str(make_salient(tmp_path / "tiny.onnx")), "--family", "isnet"]
    words += ["--overwrite", "--frames", "3"]
    between = MovieReader._between

    def without(lost: tuple[int, ...]) -> None:
        def remaining(*given: Any) -> Iterator[av.VideoFrame]:
            return (frame for frame in between(*given) if read_index(of(frame)) not in lost)

        monkeypatch.setattr(MovieReader, "_between", remaining)

    def of(frame: av.VideoFrame) -> np.ndarray:
        return frame.to_ndarray(format="rgb24")

    without((4,))
    assert main(["preview", str(movie.path), *words]) == 0
    assert "2 frames over" in capsys.readouterr().err
    without((4, 7))
    assert main(["preview", str(movie.path), *words]) == 0
    assert "1 frame over" in capsys.readouterr().err
    without((1, 4, 7))
    assert main(["preview", str(movie.path), *words]) == 1
    assert "no frame of it" in capsys.readouterr().err


@pytest.mark.parametrize("part", [[], ["--in", "f2"]])
def test_a_broken_frame_on_the_sheet_is_reported(
    part: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    movie = make_movie(
        tmp_path / "clip.mov", frames=9, codec="prores_ks", pixel_format="yuv422p10le"
    )
    with av.open(str(movie.path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    with movie.path.open("r+b") as file:
        for packet in packets[4:6]:
            file.seek(packet.pos)
            file.write(b"\xff" * 64)
    words = ["--model", str(make_salient(tmp_path / "tiny.onnx")), "--family", "isnet", *part]
    assert main(["preview", str(movie.path), "--frames", "3", *words]) == 0
    # Without an in point the frames are 1, 4 and 7, with it 3, 5 and 7.
    number, time = (5, "0.20") if part else (4, "0.16")
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[:-1] == [
        f"vidmatte: frame {number}: clip.mov: the frame at {time} s does not decode; the"
        " previous frame is repeated in its place"
    ]


@pytest.mark.parametrize("part", [[], ["--in", "f3"]])
def test_the_sheet_shows_the_adjustments_and_each_frames_mask(
    part: list[str], tmp_path: Path
) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=9)
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(3 if part else 0, 9):
        white = number == (6 if part else 7)
        cv2.imwrite(str(masks / f"{number}.png"), np.full((108, 192), 255 * white, np.uint8))
    words = [str(movie.path), "--model", str(make_salient(tmp_path / "tiny.onnx")), *part]
    words += ["--family", "isnet", "--frames", "3", "--overwrite"]

    def alphas(*more: str) -> list[np.ndarray]:
        assert main(["preview", *words, *more]) == 0
        sheet = cv2.imread(str(tmp_path / "clip_preview.png")).astype(float)
        return [row[_GAP:, -CELL:] for row in np.split(sheet, 3)]

    # Frames 1, 4 and 7, and from the in point on 4, 6 and 8.
    expected = [False, bool(part), not part]
    assert [alpha.min() == 255 for alpha in alphas("--holdout", str(masks))] == expected
    plain, shrunk = alphas(), alphas("--erode", "4")
    for one, other in zip(plain, shrunk, strict=True):
        assert other.mean() < one.mean() - 2
    for one, other in zip(plain, alphas("--invert"), strict=True):
        assert abs(one + other - 255).max() <= 2


def test_frames_are_spaced_evenly() -> None:
    assert _spaced(30, 3) == [5, 15, 25]
    assert _spaced(2, 5) == [0, 1]
    assert _spaced(1, 1) == [0]


def test_the_sheet_replaces_no_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pictures(tmp_path / "shot", frames=2)
    words = ["--model", str(make_salient(tmp_path / "tiny.onnx")), "--family", "isnet"]
    picture = sorted((tmp_path / "shot").iterdir())[0]
    before = picture.read_bytes()
    (tmp_path / "shot" / ".#lock").symlink_to("nowhere")
    for clip in (picture, tmp_path / "shot"):
        assert main(["preview", str(clip), "-o", str(picture), "--overwrite", *words]) == 2
        assert "an input itself" in capsys.readouterr().err
    assert picture.read_bytes() == before
    monkeypatch.chdir(tmp_path / "shot")
    assert main(["preview", ".", "--fps", "24", *words]) == 0
    assert (tmp_path / "shot_preview.png").is_file()


def test_a_sheet_that_cannot_be_written_is_reported_first(tmp_path: Path) -> None:
    clip = make_movie(tmp_path / "clip.mp4", frames=2).path
    with pytest.raises(OutputError, match=r"nowhere: no such folder for x\.png: create it"):
        check_sheet(clip, tmp_path / "nowhere" / "x.png", Settings())
    check_sheet(clip, tmp_path / ("n" * 245 + ".png"), Settings())
    with pytest.raises(OutputError, match="has 256 bytes, the limit is 255 here"):
        check_sheet(clip, tmp_path / ("n" * 246 + ".png"), Settings())


def test_a_read_only_folder_for_the_sheet_is_named(tmp_path: Path) -> None:
    clip, folder = make_movie(tmp_path / "clip.mp4", frames=2).path, tmp_path / "locked"
    folder.mkdir(mode=0o500)
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "none", str(folder)]
    is_root = os.access(folder, os.W_OK)  # to whom file modes do not apply
    if is_root and (shutil.which("mount") is None or subprocess.run(mount, check=False).returncode):
        pytest.skip("running as root, and no read-only file system can be mounted")
    try:
        with pytest.raises(
            OutputError, match=r"^/.*/locked: no permission to write here: choose anoth"
        ):
            check_sheet(clip, folder / "x.png", Settings())
    finally:
        if is_root:
            subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(("smooth", "noted"), [("live", True), ("on", True), ("off", False)])
def test_a_filter_that_a_sheet_does_not_show_is_noted(
    smooth: str, noted: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    movie = make_movie(tmp_path / "clip.mp4", size=(64, 48), frames=2)
    words = ["--model", str(make_salient(tmp_path / "tiny.onnx")), "--family", "isnet"]
    assert main(["preview", str(movie.path), "--frames", "1", "--smooth", smooth, *words]) == 0
    line = f"vidmatte: --smooth {smooth}: a sheet's frames are matted one by one"
    assert (line in capsys.readouterr().err) is noted

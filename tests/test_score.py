"""``vidmatte score``: real files with known differences."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from composites import Scene, encode_motion, furry_ball, painted_background, write_truth
from media import make_movie
from writer_support import disc, write_clip

from vidmatte.cli.main import main
from vidmatte.errors import SourceError, UsageError, VidmatteError
from vidmatte.tools import metrics
from vidmatte.tools.mattes import _alpha_of, open_mattes
from vidmatte.tools.score import compare

SIZE = (96, 64)


def grey_pictures(folder: Path, mattes: list[np.ndarray]) -> Path:
    """16-bit grey PNGs of mattes in 0..1."""
    folder.mkdir(parents=True)
    for index, matte in enumerate(mattes):
        codes = np.rint(matte * 65535).astype(np.uint16)
        assert cv2.imwrite(str(folder / f"{index:04d}.png"), codes)
    return folder


def flat(value: float, count: int = 3) -> list[np.ndarray]:
    return [np.full(SIZE[::-1], value, np.float32)] * count


def discs(count: int = 3) -> list[np.ndarray]:
    return [disc(index, *SIZE) for index in range(count)]


def grey_movie(path: Path, pixel_format: str, range_: int, planes: list[list[int]]) -> Path:
    """FFV1 of flat pictures: a list of values per frame, one per plane."""
    with av.open(str(path), "w") as movie:
        stream = movie.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pixel_format
        stream.codec_context.color_range = range_
        for values in planes:
            frame = av.VideoFrame(*SIZE, pixel_format)
            for plane, value in zip(frame.planes, values, strict=True):
                kind = "<u2" if "16" in pixel_format or "10" in pixel_format else "u1"
                plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, value, kind))
            frame.color_range = range_
            movie.mux(stream.encode(frame))
        movie.mux(stream.encode(None))
    return path


def score_json(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    assert main(["score", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_mad_of_a_constant_offset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, off = grey_pictures(tmp_path / "t", flat(0.2)), grey_pictures(tmp_path / "p", flat(0.6))
    found = score_json(capsys, off, truth)
    assert found["scores"] == {
        "mad": pytest.approx(400),
        "mse": pytest.approx(160),
        "grad": 0,
        "conn": pytest.approx(0.4 * SIZE[0] * SIZE[1] / 1e3),
        "dtssd": 0,
        "messd_dt": 0,
        "flicker": None,
    }
    assert (found["frames"], found["motion"], found["truth_shown"]) == (3, "estimated", "luminance")
    assert [one["frame"] for one in found["worst"]] == [0, 1, 2]


def test_the_worst_frames_are_named(tmp_path: Path) -> None:
    offs = [0.0, 0.1, 0.7, 0.2, 0.05, 0.3, 0.0]
    predicted = grey_pictures(tmp_path / "p", [flat(off)[0] for off in offs])
    found = compare(predicted, grey_pictures(tmp_path / "t", flat(0.0, 7)))
    assert [index for index, _ in found.worst] == [2, 5, 3, 1, 4]
    assert found.worst[0][1] == pytest.approx(700, rel=1e-4)
    assert found.scores["mad"] == pytest.approx(1000 * np.mean(offs), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "most"),
    [
        ("o.mov", {}, 0.5 / 1023),
        ("o.webm", {}, 0.5 / 255),
        ("o.mkv", {}, 0.5 / 255),
        ("png", {"format": "png"}, 0.5 / 255),
        ("png16", {"format": "png16"}, 0.5 / 65535),
        ("tiff", {"format": "tiff16"}, 0.5 / 65535),
        ("exr", {"format": "exr"}, 2**-12),
        ("exr32", {"format": "exr32"}, 0.5 / 65535),
    ],
)
def test_the_alpha_of_every_output_is_found(
    name: str, options: dict[str, str], most: float, tmp_path: Path
) -> None:
    """``most``: half a code of the format's alpha, an upper limit of the mean error."""
    movie = make_movie(tmp_path / "clip.mp4", size=SIZE, frames=3)
    write_clip(movie, tmp_path / name, **options)
    truth = grey_pictures(tmp_path / "truth", discs())
    found = compare(tmp_path / name, truth)
    assert (found.frames, found.size, found.shown) == (3, SIZE, ("alpha", "luminance"))
    assert 0 <= found.scores["mad"] <= 1000 * (most + 1 / 65535)
    assert not found.notes


def test_a_movie_and_a_folder_of_the_same_mattes_score_the_same(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", size=SIZE, frames=3)
    for name in ("o.webm", "png"):
        write_clip(movie, tmp_path / name)
    truth = grey_pictures(tmp_path / "truth", [np.roll(one, 3, axis=1) for one in discs()])
    one, other = compare(tmp_path / "o.webm", truth), compare(tmp_path / "png", truth)
    assert one.scores == pytest.approx(other.scores, rel=1e-6)
    assert one.scores["mad"] > 1
    assert compare(tmp_path / "o.webm", tmp_path / "png").scores["mad"] == 0


@pytest.mark.parametrize(
    ("pixel_format", "range_", "low", "high"),
    [
        ("yuv420p", 1, [16, 128, 128], [235, 128, 128]),
        ("yuv420p", 2, [0, 128, 128], [255, 128, 128]),
        ("yuv422p10le", 1, [64, 512, 512], [940, 512, 512]),
        ("gray", 1, [0], [255]),
        ("gray16le", 2, [0], [65535]),
        ("gbrp10le", 2, [0, 0, 0], [1023, 1023, 1023]),
    ],
)
def test_luminance_uses_the_full_range(
    pixel_format: str, range_: int, low: list[int], high: list[int], tmp_path: Path
) -> None:
    path = grey_movie(tmp_path / "grey.mkv", pixel_format, range_, [low, high])
    black, white = open_mattes(path).frames()
    assert (black == 0).all()
    np.testing.assert_allclose(white, 1, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "bits"),
    [("rgba", 8), ("bgra", 8), ("argb", 8), ("abgr", 8), ("ya8", 8), ("yuva420p", 8),
     ("yuva444p10le", 10), ("gbrap12le", 12), ("gbrap10be", 10), ("rgba64be", 16),
     ("ya16be", 16), ("gbrapf32le", 16)],
)  # fmt: skip
def test_alpha_is_found_in_every_pixel_format(name: str, bits: int) -> None:
    rgba = np.full((16, 50, 4), 12345, np.uint16)
    rgba[..., 3] = np.linspace(0, 65535, 16 * 50).reshape(16, 50)
    frame = av.VideoFrame.from_ndarray(rgba, "rgba64le").reformat(format=name, threads=1)
    found = _alpha_of(frame, "it")
    # swscale dithers when it reduces the depth: two codes.
    np.testing.assert_allclose(found, rgba[..., 3] / 65535, atol=2 / 2**bits)
    assert found.dtype == np.float32
    with pytest.raises(SourceError, match="no alpha"):
        _alpha_of(frame.reformat(format="rgb24", threads=1), "it")


def scene() -> Scene:
    ball = furry_ball(0, 100, 400)
    return Scene("ball", ball, painted_background(0), 160, 96, speed=4, frames=4)


def test_known_motion_gives_flicker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As computed from the arrays themselves, up to the files' 64th of a pixel."""
    drawn = scene()
    write_truth(drawn, tmp_path / "ball")
    truth, motion = tmp_path / "ball" / "alpha", tmp_path / "ball" / "motion"
    mattes = [drawn.layers(index)[0] for index in range(4)]
    offs = [1.0, 0.83, 0.93, 1.0]
    predicted = [matte * np.float32(off) for matte, off in zip(mattes, offs, strict=True)]
    folder = grey_pictures(tmp_path / "p", predicted)
    score = metrics.Score()
    for index in range(4):
        score.add(predicted[index], mattes[index], drawn.motion(index) if index else None)
    found = score_json(capsys, folder, truth, "--motion", motion)
    assert found["motion"] == "known"
    assert found["scores"] == pytest.approx(score.means(), rel=2e-2, abs=1e-6)
    assert found["scores"]["flicker"] > 1
    # A motion file for the first frame is ignored.
    (motion / "00000.png").write_bytes((motion / "00003.png").read_bytes())
    assert score_json(capsys, folder, truth, "--motion", motion)["scores"] == pytest.approx(
        found["scores"]
    )


def test_motion_that_is_not_valid_is_left_out(tmp_path: Path) -> None:
    truth = grey_pictures(tmp_path / "t", flat(0.0, 2))
    jump = np.zeros(SIZE[::-1], np.float32)
    jump[:10] = 0.5
    predicted = grey_pictures(tmp_path / "p", [jump * 0, jump])
    (tmp_path / "m").mkdir()
    codes = encode_motion(np.zeros((*SIZE[::-1], 2), np.float32))
    cv2.imwrite(str(tmp_path / "m" / "1.png"), codes)
    assert compare(predicted, truth, tmp_path / "m").scores["flicker"] > 1
    codes[:10, :, 0] = 0  # OpenCV's blue is the third channel: valid
    cv2.imwrite(str(tmp_path / "m" / "1.png"), codes)
    assert compare(predicted, truth, tmp_path / "m").scores["flicker"] == 0


def test_one_picture_has_no_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = grey_pictures(tmp_path / "p", discs(1))
    assert main(["score", str(folder / "0000.png"), str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [
        "frames",
        "MAD",
        "MSE",
        "Grad",
        "Conn",
        "dtSSD",
        "MESSDdt",
        "flicker",
    ]
    assert lines[2].split() == ["1", "0.00", "0.00", "0.00", "0.00", "-", "-", "-"]
    assert not any("motion" in line for line in lines)


def test_the_table_says_which_motion_was_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = grey_pictures(tmp_path / "p", discs())
    assert main(["score", str(folder), str(folder)]) == 0
    stdout = capsys.readouterr().out
    assert "motion estimated from the truth" in stdout
    assert max(map(len, stdout.splitlines()[1:])) <= 80


def test_a_constant_alpha_channel_is_noted(tmp_path: Path) -> None:
    """Grey mattes saved as RGBA: the alpha channel is used, which is surely not intended."""
    (tmp_path / "p").mkdir()
    for index in range(3):
        cv2.imwrite(str(tmp_path / "p" / f"{index}.png"), np.full((64, 96, 4), 255, np.uint8))
    (note,) = compare(tmp_path / "p", grey_pictures(tmp_path / "t", discs())).notes
    assert "alpha is 1 everywhere" in note


def test_mismatches_are_reported_with_both_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three, four = (grey_pictures(tmp_path / str(n), discs(n)) for n in (3, 4))
    small = grey_pictures(tmp_path / "s", [one[:32] for one in discs(3)])
    (tmp_path / "m").mkdir()
    cv2.imwrite(str(tmp_path / "m" / "1.png"), np.zeros((64, 96, 3), np.uint16))
    cases: list[tuple[tuple[object, ...], tuple[str, ...]]] = [
        ((four, three), ("4 frames", "3:", "--in and --out")),
        ((small, three), ("96x32", "96x64", "one size")),
        ((three, tmp_path / "none"), ("none", "no such file")),
        ((three, three, "--motion", tmp_path / "m"), ("1 pictures", "3 frames")),
        ((three, three, "--motion", tmp_path / "n"), ("no such folder",)),
    ]
    for words, parts in cases:
        assert main(["score", *map(str, words)]) != 0
        captured = capsys.readouterr()
        assert captured.out == ""
        assert len(captured.err.splitlines()) == 1
        for part in parts:
            assert part in captured.err


def test_an_invalid_motion_file_is_refused(tmp_path: Path) -> None:
    two = grey_pictures(tmp_path / "p", discs(2))
    (tmp_path / "m").mkdir()
    for picture, part in (
        (np.zeros((64, 96, 3), np.uint8), "16-bit RGB"),
        (np.zeros((60, 96, 3), np.uint16), "96x60"),
    ):
        cv2.imwrite(str(tmp_path / "m" / "1.png"), picture)
        with pytest.raises(SourceError, match=part):
            compare(two, two, tmp_path / "m")


def test_a_folder_of_mixed_sizes_or_kinds_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), np.zeros((64, 96, 4), np.uint8))
    truth = grey_pictures(tmp_path / "t", discs(2))
    for second, part in (
        (np.zeros((64, 90, 4), np.uint8), "90x64"),
        (np.zeros((64, 96), np.uint8), "no alpha"),
    ):
        cv2.imwrite(str(folder / "1.png"), second)
        with pytest.raises(VidmatteError, match=part):
            compare(folder, truth)


def test_a_count_known_only_at_the_end_is_an_error_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three, two = (grey_pictures(tmp_path / str(n), discs(n)) for n in (3, 2))

    def without_count(path: Path):  # type: ignore[no-untyped-def]
        mattes = open_mattes(path)
        mattes.frame_count = None
        return mattes

    monkeypatch.setattr("vidmatte.tools.score.open_mattes", without_count)
    for pair in ((three, two), (two, three)):
        with pytest.raises(UsageError, match="frames"):
            compare(*pair)
    assert compare(two, two).frames == 2


def float_picture(path: Path, pixel_format: str, values: np.ndarray) -> None:
    """An EXR picture with the same values in all planes."""
    height, width = values.shape
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as file:
        stream = file.add_stream("exr", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        frame = av.VideoFrame(width, height, pixel_format)
        for plane in frame.planes:
            rows = np.zeros((height, plane.line_size // 4), np.float32)
            rows[:, :width] = values
            plane.update(rows)
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


@pytest.mark.parametrize("pixel_format", ["gbrapf32le", "gbrpf32le"])
@pytest.mark.parametrize("which", ["prediction", "truth"])
def test_a_matte_that_is_not_a_number_is_named(
    which: str, pixel_format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("prediction", "truth"):
        (tmp_path / folder).mkdir()
        for index in range(2):
            values = disc(index, *SIZE)
            if folder == which and index == 1:
                values[3, 3] = np.nan
            float_picture(tmp_path / folder / f"{index}.exr", pixel_format, values)
    words = [str(tmp_path / "prediction"), str(tmp_path / "truth")]
    assert main(["score", *words, "--json"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    name = f"{which}/1.exr" if "a" in pixel_format else f"{which}, frame 1"
    assert f"{tmp_path}/{name}: the matte is not a number (NaN) somewhere; " in captured.err
    assert len(captured.err.splitlines()) == 1

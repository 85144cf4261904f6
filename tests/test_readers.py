"""Readers: every kind of clip in order, upright, on time, with unchanged samples."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from codes import code_planes, frame_of
from media import (
    BT709,
    Movie,
    Tone,
    make_movie,
    make_pictures,
    with_matrix,
    with_time_moved,
    without_times,
)
from scene import read_index
from tiny_onnx import make_salient
from tolerance import CLIP_PICTURE, assert_close
from writer_support import write_clip

import vidmatte
from vidmatte.cli.main import main
from vidmatte.cli.outputs import plan_outputs
from vidmatte.core.colour import FULL, HLG, LIMITED, PQ, ColourTags
from vidmatte.errors import SourceError, SourceMissingError, UsageError
from vidmatte.pixels.formats import _WORKING_FORMATS, _working_format, plane_arrays, set_colour
from vidmatte.pixels.network_rgb import NetworkRgb, _curve_for, full_range_rgb
from vidmatte.readers.image_folder import result_names
from vidmatte.readers.movie.missing_timestamps import in_display_order, with_all_timestamps
from vidmatte.readers.movie.packets import packets_from
from vidmatte.readers.movie.rates import find_rate
from vidmatte.readers.movie.reader import MovieReader
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.settings.points import SourcePoints, Trim, _parse_point, make_trim

KINDS = [
    "8-bit 709",
    "8-bit full range",
    "601 SD",
    "10-bit 709",
    "10-bit 2020 PQ",
    "12-bit 4:4:4",
    "drop frame timecode",
    "variable rate",
    "rotated by 90",
    "anamorphic 720x576",
    "late sound",
    "late start",
    "odd size",
]


def read_all(path: Path, **options: object) -> tuple[list[int], list[Fraction], list[np.ndarray]]:
    """Indices read from the pictures, times in seconds, and the network's RGB pictures."""
    with open_reader(path, Settings(**options)) as source:
        clip, viewer = source.clip, NetworkRgb(source.clip)
        times, views = [], []
        for picture in source.pictures():
            view = np.empty((clip.height, clip.width, 3), np.uint8)
            viewer.view(picture.pixels, view)
            views.append(view)
            times.append(picture.pts * clip.time_base)
    return [read_index(view) for view in views], times, views


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_in_order_and_on_time(
    kind: str, source_movie: Callable[[str], Movie]
) -> None:
    movie = source_movie(kind)
    indices, times, views = read_all(movie.path)
    assert indices == list(range(movie.frames))
    first = movie.pts[0] * movie.time_base
    expected = [pts * movie.time_base - first for pts in movie.pts]
    assert [time - times[0] for time in times] == expected
    with open_reader(movie.path, Settings()) as source:
        clip = source.clip
    assert (clip.width, clip.height) == movie.size
    assert clip.frame_count == movie.frames
    assert clip.constant_rate == (kind != "variable rate")
    if clip.constant_rate:
        assert clip.rate == movie.rate
    assert clip.timecode == movie.timecode
    assert clip.working_format in _WORKING_FORMATS
    if clip.colour.transfer not in (PQ, HLG):
        drawn = np.round(movie.picture(0).rgb * 255).astype(np.uint8)
        assert_close(views[0], drawn, CLIP_PICTURE)


def test_samples_are_unchanged(source_movie: Callable[[str], Movie]) -> None:
    path = source_movie("10-bit 709").path
    with av.open(str(path)) as container:
        expected = [
            [view.copy() for view in plane_arrays(frame)] for frame in container.decode(video=0)
        ]
    with open_reader(path, Settings()) as source:
        for picture, planes in zip(source.pictures(), expected, strict=True):
            for one, other in zip(plane_arrays(picture.pixels), planes, strict=True):
                assert np.array_equal(one, other)


def test_matroskas_milliseconds_do_not_hide_an_exact_rate(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    movie = make_movie(tmp_path / "a b.mkv", rate=rate, frames=50, audio=[Tone()])
    indices, times, _ = read_all(movie.path)
    assert indices == list(range(50))
    assert [time - times[0] for time in times] == [index / rate for index in range(50)]
    with open_reader(movie.path, Settings()) as source:
        assert (source.clip.rate, source.clip.constant_rate) == (rate, True)


def test_late_audio_does_not_move_the_video(source_movie: Callable[[str], Movie]) -> None:
    with open_reader(source_movie("late sound").path, Settings()) as source:
        assert next(source.pictures()).pts == 0


def test_rates_are_found_from_timestamps() -> None:
    def stamps(rate: Fraction, base: Fraction) -> list[int]:
        return [round(index / rate / base) for index in range(400)]

    thousandth = Fraction(1, 1000)
    for text in ("24000/1001", "25", "30000/1001", "60", "60000/1001", "12.5", "7"):
        rate = Fraction(text)
        assert find_rate(stamps(rate, thousandth), thousandth, [None]) == (rate, True)
    half = Fraction(15000, 1001)
    assert find_rate(stamps(half, thousandth)[:12], thousandth, [half]) == (half, True)
    jumpy = stamps(Fraction(25), thousandth)
    jumpy[200:] = [stamp + 30 for stamp in jumpy[200:]]
    assert find_rate(jumpy, thousandth, [Fraction(25)])[1] is False


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("f3", "f7", 0), [3, 4, 5, 6]),
        (("f3", "f7", 2), [1, 2, 3, 4, 5, 6, 7, 8]),
        (("0.2", "0.28", 0), [5, 6]),
        (("f7", None, 0), [7, 8, 9]),
        ((None, "f2", 5), [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_in_and_out_points(
    given: tuple[str | None, str | None, int], expected: list[int], tmp_path: Path
) -> None:
    make_movie(tmp_path / "clip.mp4", options={"g": "4", "bf": "2"})
    in_point, out_point, handles = given
    indices, times, _ = read_all(
        tmp_path / "clip.mp4", in_point=in_point, out_point=out_point, handles=handles
    )
    assert indices == expected
    assert times[0] == 0


def test_a_drop_frame_in_point_moves_the_start_timecode(
    source_movie: Callable[[str], Movie],
) -> None:
    movie = source_movie("drop frame timecode")
    assert movie.timecode is not None
    start = movie.timecode
    base = int(start[-2:])
    later = f"{start[:-2]}{base + 2:02}"
    with open_reader(movie.path, Settings(in_point=later)) as source:
        assert source.clip.timecode == later
        assert source.clip.frame_count == movie.frames - 2
    assert read_all(movie.path, in_point=later)[0] == list(range(2, movie.frames))


def test_points_outside_the_clip_are_refused() -> None:
    def trim(in_point: str | None, out_point: str | None) -> None:
        points = SourcePoints(Fraction(25), start_timecode="01:00:00:00", frame_count=100)
        make_trim(points, in_point, out_point, 0)

    for points in (("f101", None), ("f50", "f50"), ("00:59:59:24", None), (None, "f101")):
        with pytest.raises(UsageError):
            trim(*points)
    for point in ("half past", "1e-99999999", "nan"):
        with pytest.raises(UsageError, match=f"--in: '{point}' is not a frame, time or timecode"):
            trim(point, None)
    assert _parse_point("01:00:02:10", Fraction(25), "01:00:00:00") == 60


@pytest.mark.parametrize(
    ("rate", "start", "after"),
    [
        (Fraction(25), "23:59:58:00", "00:00:01:00"),
        (Fraction(30000, 1001), "23:59:58;00", "00:00:01;00"),
    ],
)
def test_a_clip_may_run_past_midnight(rate: Fraction, start: str, after: str) -> None:
    def trim(in_point: str, out_point: str, count: int | None) -> Trim:
        return make_trim(SourcePoints(rate, start, count), in_point, out_point, 0)

    base = round(rate)
    assert trim("23:59:59:00", after, 4 * base) == Trim(base, 3 * base)
    with pytest.raises(UsageError, match="outside"):
        trim("23:59:57:00", after, 4 * base)
    with pytest.raises(UsageError, match="outside"):
        trim("23:59:59:00", after, 2 * base)


def animated_png(path: Path, frames: int) -> Path:
    with av.open(str(path), "w", format="apng") as container:
        stream = container.add_stream("apng", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "rgb24"
        for index in range(frames):
            grey = np.full((24, 32, 3), 40 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, "rgb24")))
        container.mux(stream.encode(None))
    return path


def test_an_animated_png_is_a_movie(tmp_path: Path) -> None:
    path = animated_png(tmp_path / "moves.png", 4)
    with open_reader(path, Settings()) as source:
        shown = [int(plane_arrays(picture.pixels)[0].mean()) for picture in source.pictures()]
        assert (source.clip.kind, source.clip.rate) == ("movie", 10)
    assert shown == [0, 40, 80, 120]
    ((_, target),) = plan_outputs([path], None, Settings())
    assert target.suffix == ".mov"
    with open_reader(animated_png(tmp_path / "still.png", 1), Settings()) as source:
        assert source.clip.kind == "picture"


def test_animated_pngs_in_a_folder_are_reported(tmp_path: Path) -> None:
    make_pictures(tmp_path, frames=2, size=(32, 24), pattern="{:d}")
    animated_png(tmp_path / "3.png", 4)
    with open_reader(tmp_path, Settings(fps="25")) as source:
        assert len([*source.pictures()]) == 3
        (warning,) = source.warnings
    assert "1 of its pictures are animated, like 3.png: the first frame of each" in warning


def test_superscript_digits_sort_as_letters(tmp_path: Path) -> None:
    """A superscript is a digit in Unicode, but int() refuses it."""
    for name in ("1\u00b23", "10\u00b2", "2"):
        make_pictures(tmp_path, frames=1, size=(16, 16), pattern=name)
    with open_reader(tmp_path, Settings(fps="25")) as source:
        assert source.clip.output_names == ("1\u00b23", "2", "10\u00b2")


@pytest.mark.parametrize("more", [[], ["a.png.jpg.tif"]])
def test_result_names_are_unique(more: list[str], tmp_path: Path) -> None:
    files = [tmp_path / name for name in ["a.jpg", "a.png", "a.png.jpg", *more]]
    assert len({*result_names(files)}) == len(files)
    assert result_names([tmp_path / "b.jpg", *files])[0] == "b"


def test_image_folders_keep_names_and_natural_order(tmp_path: Path) -> None:
    make_pictures(tmp_path / "in", frames=12)
    names = sorted(file.name for file in (tmp_path / "in").iterdir())
    for number, name in enumerate(names):
        (tmp_path / "in" / name).rename(tmp_path / "in" / f"shot {number}.png")
    with open_reader(tmp_path / "in", Settings(fps="24000/1001")) as source:
        assert source.clip.rate == Fraction(24000, 1001)
        assert source.clip.output_names == tuple(f"shot {number}" for number in range(12))
    assert read_all(tmp_path / "in", fps="24")[0] == list(range(12))


def test_a_missing_number_in_a_folder_is_reported(tmp_path: Path) -> None:
    make_pictures(tmp_path / "in", frames=5)
    sorted((tmp_path / "in").iterdir())[2].unlink()
    with open_reader(tmp_path / "in", Settings(fps="25")) as source:
        assert "1 number is missing" in source.warnings[0]


def test_images_with_one_stem_and_two_suffixes_become_rgb(tmp_path: Path) -> None:
    make_pictures(tmp_path / "in", frames=1)
    make_pictures(tmp_path / "in", frames=1, suffix=".jpg")
    with open_reader(tmp_path / "in", Settings(fps="25")) as source:
        assert len(set(source.clip.output_names)) == 2
        one, other = (plane_arrays(picture.pixels)[0].copy() for picture in source.pictures())
    assert_close(one, other, CLIP_PICTURE)


@pytest.mark.parametrize("deep_first", [False, True])
def test_a_grey_or_8_bit_first_image_does_not_reduce_the_others(
    tmp_path: Path, deep_first: bool
) -> None:
    bits = (16, 8) if deep_first else (8, 16)
    first, *_ = make_pictures(tmp_path / "in", frames=1, bits=bits[0])
    make_pictures(tmp_path / "in", frames=2, bits=bits[1], start=2)
    cv2.imwrite(str(first), cv2.imread(str(first), cv2.IMREAD_UNCHANGED)[..., 1])
    with open_reader(tmp_path / "in", Settings(fps="25")) as source:
        shown = [plane_arrays(picture.pixels)[0].copy() for picture in source.pictures()]
    for file, pixels in zip(sorted((tmp_path / "in").iterdir()), shown, strict=True):
        written = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        peak = np.iinfo(written.dtype).max
        colours = written[..., ::-1] if written.ndim == 3 else written[..., None]
        assert pixels.dtype == np.uint16
        np.testing.assert_allclose(pixels / 65535, colours / peak * [1, 1, 1], atol=1 / 255)


def test_a_jpeg_named_png_is_not_parsed_as_png(tmp_path: Path) -> None:
    (jpeg,) = make_pictures(tmp_path / "in", frames=1, suffix=".jpg")
    data = jpeg.read_bytes()
    comment = (
        b"\xff\xfe" + (30).to_bytes(2, "big") + b"\x10" * 28
    )  # where a PNG header has its bit depth
    (tmp_path / "in" / "called.png").write_bytes(data[:2] + comment + data[2:])
    jpeg.unlink()
    with open_reader(tmp_path / "in", Settings(fps="25")) as source:
        assert source.clip.bit_depth == 8
        assert len(list(source.pictures())) == 1


def test_colours_are_never_dropped_silently(tmp_path: Path) -> None:
    first, *_ = make_pictures(tmp_path / "in", frames=2, suffix=".tif")
    cv2.imwrite(str(first), cv2.imread(str(first))[..., 1])
    with (
        open_reader(tmp_path / "in", Settings(fps="25")) as source,
        pytest.raises(SourceError, match="rgb24, but the folder began with gray"),
    ):
        list(source.pictures())


@pytest.mark.parametrize(
    ("matrix", "upright"),
    [
        ((1, 0, 0, 1), lambda stored: stored),
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((-1, 0, 0, -1), lambda stored: stored[::-1, ::-1]),
        ((0, 1, 1, 0), lambda stored: stored.swapaxes(0, 1)),
        ((0, 1, -1, 0), lambda stored: stored[::-1].swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda stored: stored[::-1, ::-1].swapaxes(0, 1)),
        ((0, -1, 1, 0), lambda stored: stored[:, ::-1].swapaxes(0, 1)),
    ],
)
def test_a_movie_follows_its_display_matrix(
    matrix: tuple[int, int, int, int],
    upright: Callable[[np.ndarray], np.ndarray],
    tmp_path: Path,
) -> None:
    """The matrix maps x, y (downward) to a x + c y, b x + d y."""
    movie = make_movie(tmp_path / "clip.mov", size=(64, 48), frames=1)
    with open_reader(movie.path, Settings()) as source:
        stored = next(source.pictures()).pixels
    with open_reader(with_matrix(movie, *matrix), Settings()) as source:
        shown = next(source.pictures()).pixels
        assert (source.clip.width, source.clip.height) == (shown.width, shown.height)
    for found, plane in zip(plane_arrays(shown), plane_arrays(stored), strict=True):
        assert np.array_equal(found, upright(plane))


def test_info_reports_a_mirrored_movie(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    movie = make_movie(tmp_path / "clip.mov", size=(64, 48), frames=1)
    assert main(["info", str(with_matrix(movie, 0, 1, 1, 0))]) == 0
    assert "48x64, mirrored, rotated by 90 degrees" in capsys.readouterr().out


def test_rotation_loses_no_chroma_samples() -> None:
    assert _working_format("yuv422p10le", on_side=True) == "yuv444p10le"
    assert _working_format("yuv422p10le", on_side=False) == "yuv422p10le"
    assert _working_format("yuvj420p", on_side=True) == "yuv420p"
    assert _working_format("nv12", on_side=False) == "yuv420p"
    assert _working_format("p010le", on_side=False) == "yuv420p10le"
    assert _working_format("rgba64be", on_side=False) == "rgb48le"
    assert _working_format("pal8", on_side=False) == "rgb24"


def test_undeclared_colours_depend_on_the_size() -> None:
    assert ColourTags().resolved(1280, 720, False) == BT709
    assert ColourTags().resolved(720, 576, False).matrix == 5
    assert ColourTags().resolved(720, 480, False).matrix == 6
    assert ColourTags(matrix=9, transfer=PQ).resolved(1280, 720, False) == ColourTags(9, 1, 1, PQ)


def test_hdr_is_tone_mapped_for_the_network() -> None:
    for transfer, white in ((PQ, 0.58), (HLG, 0.75)):  # code of diffuse white, ITU-R BT.2408
        curve = _curve_for(transfer)
        assert curve is not None
        assert (np.diff(curve.astype(int)) >= 0).all()
        assert curve[0] == 0
        assert 150 < curve[round(white * 65535)] < 215
        assert curve[-1] >= 250
    for log in (9, 10):
        curve = _curve_for(log)
        assert curve is not None
        assert (curve[0], curve[-1]) == (0, 255)
    assert _curve_for(1) is None


@pytest.mark.parametrize("level", [0, 1, (200 / 255, 40 / 255, 40 / 255)])
@pytest.mark.parametrize("range_", [LIMITED, FULL])
@pytest.mark.parametrize(
    "kind", ["yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv444p16le", "gbrp10le", "gray12le"]
)
def test_deep_pictures_use_the_full_range(
    kind: str, range_: int, level: float | tuple[float, ...]
) -> None:
    """White is 65535 and black 0 at any depth; swscale alone gives 65283 for 10 bits."""
    is_grey = kind.startswith("gray")
    rgb = np.broadcast_to(np.mean(level) if is_grey else np.array(level), (32, 48, 3))
    colour = ColourTags(6, FULL if is_grey else range_)
    frame = frame_of(code_planes(rgb, kind, colour), kind)
    set_colour(frame, colour)
    found = full_range_rgb(frame)
    assert found.dtype == np.uint16
    apart = np.abs(found.astype(np.float64) - 65535 * rgb).max()
    # A 10-bit limited code is 75 of 65535, and three make a colour.
    assert apart <= (0.5 if level in (0, 1) else 100), found[0, 0]


def test_an_unreadable_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceMissingError, match="gone"):
        open_reader(tmp_path / "gone.mp4", Settings())
    with pytest.raises(FileNotFoundError):
        open_reader(tmp_path / "gone.mp4", Settings())
    make_movie(tmp_path / "clip.mp4")
    with pytest.raises(UsageError, match="--fps"):
        open_reader(tmp_path / "clip.mp4", Settings(fps="25"))


def test_a_sources_own_alpha_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = {"model": str(make_salient(tmp_path / "tiny.onnx")), "family": "isnet"}
    movie = make_movie(tmp_path / "clip.mov", frames=2)
    assert not vidmatte.matte(movie.path, tmp_path / "cut.mov", **model).warnings
    vidmatte.matte(movie.path, tmp_path / "cut", **model)
    for name in ("cut.mov", "cut"):
        again = vidmatte.matte(tmp_path / name, tmp_path / f"again-{name}", **model)
        assert [line for line in again.warnings if f"{name}: its own alpha" in line]
        assert main(["info", str(tmp_path / name)]) == 0
        assert "its own alpha is ignored" in capsys.readouterr().out


def test_a_colon_in_a_name_is_not_a_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_movie(Path("clip.mov"), audio=[Tone()]).path.rename("take10:30.mov")
    make_pictures(Path("in"), frames=1)[0].rename("shot:1.jpg")  # a PNG by its content
    model = {"model": str(make_salient(tmp_path / "tiny.onnx")), "family": "isnet"}
    for name, out in (("take10:30.mov", "cut:1.mov"), ("shot:1.jpg", "cut:1.png")):
        assert vidmatte.matte(name, out, **model).written.frames > 0


#: Overwritten bytes of a ProRes packet (start, count, value), and the FFmpeg error that the
#: decoder raises.
DAMAGES: dict[str, tuple[int, int, int, type[Exception]]] = {
    "no header": (0, 64, 0xFF, av.error.InvalidDataError),
    "zeroed after the name": (8, 4096, 0x00, av.error.ArgumentError),
    "an unknown kind of picture": (20, 1, 0x55, av.error.PermissionError),
    "an unknown version": (11, 1, 0x55, av.error.PatchWelcomeError),
}


def with_a_broken_frame(
    folder: Path, number: int, damage: str, before: Path | None = None
) -> tuple[Movie, Path]:
    """A ProRes clip of 12 frames, and a copy with one damaged packet.

    before: the copy of an earlier call, to damage another packet of it."""
    movie = make_movie(
        folder / "clip.mov", frames=12, codec="prores_ks", pixel_format="yuv422p10le"
    )
    with av.open(str(movie.path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][number]
    begin, count, value, _ = DAMAGES[damage]
    damaged = folder / "damaged.mov"
    if before != damaged:
        shutil.copy(movie.path, damaged)
    with damaged.open("r+b") as file:
        file.seek(packet.pos + begin)
        file.write(bytes([value]) * min(count, packet.size - begin))
    return movie, damaged


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_frame_is_replaced_and_reported(damage: str, tmp_path: Path) -> None:
    movie, damaged = with_a_broken_frame(tmp_path, 5, damage)
    with av.open(str(damaged)) as container, pytest.raises(DAMAGES[damage][3]):
        list(container.decode(video=0))
    with open_reader(damaged, Settings()) as source:
        pictures = [
            (picture.pts * source.clip.time_base, plane_arrays(picture.pixels)[0].copy())
            for picture in source.pictures()
        ]
        assert len(source.warnings) == 1
        assert "0.20 s" in source.warnings[0]
    assert [time for time, _ in pictures] == [index / movie.rate for index in range(12)]
    assert np.array_equal(pictures[5][1], pictures[4][1])
    assert not np.array_equal(pictures[6][1], pictures[4][1])
    with (
        open_reader(damaged, Settings(strict=True)) as source,
        pytest.raises(
            SourceError, match=r"^[^\n]*damaged\.mov: [^\n]* --strict stops here: [^\n]*$"
        ),
    ):
        list(source.pictures())


@pytest.mark.parametrize("in_point", [None, "f1"])
@pytest.mark.parametrize("count", [1, 3])
def test_broken_frames_at_the_start_repeat_the_first_good_one(
    count: int, in_point: str | None, tmp_path: Path
) -> None:
    """The clip starts at its first packet, so that length and audio sync are kept."""
    damaged = None
    for number in range(count):
        movie, damaged = with_a_broken_frame(tmp_path, number, "no header", damaged)
    first = 0 if in_point is None else 1
    with open_reader(damaged, Settings(in_point=in_point)) as source:
        assert source.clip.origin == first / movie.rate
        assert source.clip.frame_count == 12 - first
        pictures = [
            (picture.pts * source.clip.time_base, plane_arrays(picture.pixels)[0].copy())
            for picture in source.pictures()
        ]
        assert len(source.warnings) == count - first
        assert all("the next frame is repeated in its place" in line for line in source.warnings)
        stamps = [round(time / source.clip.time_base) for time, _ in pictures]
    with open_reader(damaged, Settings(in_point=in_point)) as source:
        again = [picture.pts for picture in source.pictures_from(4, stamps[4])]
    assert [time for time, _ in pictures] == [index / movie.rate for index in range(12 - first)]
    for number, (_, shown) in enumerate(pictures[: count - first]):
        assert np.array_equal(shown, pictures[count - first][1]), number
    assert not np.array_equal(pictures[count - first][1], pictures[count - first + 1][1])
    assert again == stamps[4:]
    with (
        open_reader(damaged, Settings(strict=True)) as source,
        pytest.raises(SourceError, match="--strict stops here"),
    ):
        list(source.pictures())


@pytest.mark.parametrize("path", [b"clip.mp4", 5, None])
def test_an_invalid_path_is_refused(path: object) -> None:
    with pytest.raises(UsageError, match="expected a path"):
        open_reader(path, Settings())


def test_a_clip_that_does_not_decode_at_all_is_refused(tmp_path: Path) -> None:
    damaged = None
    for number in range(12):
        _, damaged = with_a_broken_frame(tmp_path, number, "no header", damaged)
    with pytest.raises(SourceError, match=r"damaged\.mov: none of its frames decodes"):
        open_reader(damaged, Settings())


@pytest.mark.parametrize("numbers", [(10,), (3, 4, 20), (39,)])
def test_a_frame_without_a_timestamp_takes_the_next_free_position(
    numbers: tuple[int, ...], tmp_path: Path
) -> None:
    movie = make_movie(tmp_path / "clip.ts", frames=40, options={"bf": "0"})
    untimed = without_times(movie.path, numbers)
    with av.open(str(untimed)) as container:
        stamps = [frame.pts for frame in container.decode(video=0)]
        assert stamps.count(None) == len(numbers)
    with open_reader(untimed, Settings()) as source:
        assert (source.clip.constant_rate, source.clip.frame_count) == (True, 40)
        assert source.clip.rate == movie.rate
    indices, times, _ = read_all(untimed)
    assert indices == list(range(40))
    assert times == [index / movie.rate for index in range(40)]
    indices, times, _ = read_all(untimed, in_point="f2", out_point="f38")
    assert indices == list(range(2, 38))
    with open_reader(untimed, Settings()) as source:
        list(source.pictures())
        assert len(source.warnings) == len(numbers)
        seconds = numbers[0] / movie.rate
        assert f"the frame at {float(seconds):.2f} s has no timestamp" in source.warnings[0]


def test_a_frame_without_a_timestamp_at_a_variable_rate_is_refused(tmp_path: Path) -> None:
    uneven = [0, 20, 41, 60, 85, 140, 160, 161, 200, 240]
    movie = make_movie(
        tmp_path / "clip.ts", pts=uneven, time_base=Fraction(1, 600), options={"bf": "0"}
    )
    with (
        open_reader(without_times(movie.path, [5]), Settings()) as source,
        pytest.raises(SourceError, match="a frame has no timestamp: remux the clip first"),
    ):
        list(source.pictures())


def test_frames_without_a_free_position_are_dropped() -> None:
    frames = [av.VideoFrame(16, 16) for _ in range(9)]
    for frame, pts in zip(frames, [None, 0, None, None, 20, None, 30, None, None], strict=True):
        frame.pts = pts
    found = with_all_timestamps(frames, 5, lambda pts: pts // 10, lambda number: number * 10)
    assert [frame.pts for frame in found] == [None, 0, 10, 20, 30, 40]


#: Ticks by which one frame's timestamp is moved: to the next frame's, the previous one's, far
#: away on both sides (FFmpeg wraps a time before the first by 26 hours), and in between.
MOVES = (3600, -3600, 90_000_000, -90_000_000, 5000, -5000)


@pytest.mark.parametrize(("ticks", "b_frames"), [*((ticks, "0") for ticks in MOVES), (3600, "2")])
def test_a_frame_with_a_wrong_timestamp_keeps_its_position(
    ticks: int, b_frames: str, tmp_path: Path
) -> None:
    movie = make_movie(tmp_path / "clip.ts", frames=40, options={"bf": b_frames})
    damaged = with_time_moved(movie.path, 20, ticks)
    indices, times, _ = read_all(damaged)
    assert indices == list(range(40))
    assert times == [index / movie.rate for index in range(40)]
    with open_reader(damaged, Settings()) as source:
        assert (source.clip.constant_rate, source.clip.frame_count) == (True, 40)
        list(source.pictures())
        assert "duplicate or out-of-order timestamp at" in source.warnings[0]


def test_a_duplicate_frame_without_a_free_position_is_dropped(
    tmp_path: Path,
) -> None:
    """Recordings joined end to end, which share a frame."""
    first = make_movie(tmp_path / "first.ts", frames=40, options={"bf": "0"})
    then = make_movie(tmp_path / "then.ts", pts=range(39, 60), options={"bf": "0"})
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.path.read_bytes() + then.path.read_bytes())
    clip, written = write_clip(joined, out := tmp_path / "out.mov")
    assert (clip.constant_rate, clip.frame_count, written.frames) == (True, 60, 60)
    with av.open(str(out)) as container:
        assert container.streams.video[0].average_rate == 25


def test_a_late_frame_is_replaced_by_the_previous_one(tmp_path: Path) -> None:
    """Damage can make a decoder output frames out of order; a mov's index does not show it."""
    movie = make_movie(tmp_path / "clip.mp4", frames=40, options={"bf": "0"})
    damaged = tmp_path / "damaged.mp4"
    with av.open(str(movie.path)) as given, av.open(str(damaged), "w") as target:
        copy = target.add_stream_from_template(given.streams.video[0])
        packets = [packet for packet in given.demux(video=0) if packet.size]
        stamps = [packet.pts for packet in packets]
        for packet, number in zip(packets, [*range(20), 21, 22, 20, *range(23, 40)], strict=True):
            packet.pts = stamps[number] + 2 * packet.duration  # not before it is decoded
            packet.stream = copy
            target.mux(packet)
    _, written = write_clip(damaged, tmp_path / "out.mov")
    assert written.frames == 40
    indices, times, _ = read_all(damaged)
    assert indices == [*range(20), 19, 20, 21, *range(23, 40)]
    assert times == [index / movie.rate for index in range(40)]


def test_a_stream_that_appears_in_the_middle_is_ignored(tmp_path: Path) -> None:
    """Whether PyAV raises depends on uninitialised memory: here it does, once."""

    class RaisingOnce:
        def __init__(self, packets: Iterator[av.Packet]) -> None:
            self._packets, self._left = packets, 4

        def demux(self) -> Iterator[av.Packet]:
            for packet in self._packets:
                self._left -= 1
                if not self._left:
                    raise IndexError("list index out of range")
                yield packet

    movie = make_movie(tmp_path / "clip.ts", frames=8)
    with av.open(str(movie.path)) as container:
        packets = packets_from(RaisingOnce(container.demux()))  # type: ignore[arg-type]
        assert sum(packet.size > 0 for packet in packets) == 7


def test_frames_that_are_only_reordered_keep_their_timestamps(tmp_path: Path) -> None:
    """Matroska leaves some packets without a dts where others have one."""
    pts = [0, 40, 80, 200, 230, 320, 400, 410, 490, 600, 640, 700, 760, 880, 900, 960]
    make_movie(
        tmp_path / "clip.mkv", pts=pts, time_base=Fraction(1, 1000), options={"bf": "4", "g": "50"}
    )
    with open_reader(tmp_path / "clip.mkv", Settings()) as source:
        assert source.clip.frame_count == len(pts)
        assert [picture.pts for picture in source.pictures()] == pts
        assert source.warnings == []


def test_an_out_of_order_frame_at_a_variable_rate_is_dropped(tmp_path: Path) -> None:
    uneven = [0, 20, 41, 60, 85, 140, 160, 161, 200, 240]
    movie = make_movie(
        tmp_path / "clip.ts", pts=uneven, time_base=Fraction(1, 600), options={"bf": "0"}
    )
    damaged = with_time_moved(movie.path, 5, -15_000)
    clip, written = write_clip(damaged, tmp_path / "out.mov")
    assert (clip.constant_rate, clip.frame_count, written.frames) == (False, 9, 9)
    with open_reader(damaged, Settings()) as source:
        list(source.pictures())
        assert source.warnings[-1].endswith(
            "out-of-order timestamp at 0.07 s: the frame is dropped"
        )


def test_a_clip_whose_timestamps_restart_is_refused(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.ts", frames=40)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(2 * movie.path.read_bytes())
    with pytest.raises(
        SourceError, match=r"joined\.ts: its timestamps jump back at frame 40, .* remux"
    ):
        open_reader(joined, Settings())


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 10, 20, 30], []),
        ([0, 10, 10, 20], [2]),
        ([0, 10, 30, 30], [2]),
        ([0, 10, 900, 30, 40], [2]),
        ([0, 10, 20, 17, 40], [3]),
        ([0, 10, 20, 5, 40], [3]),
        ([0, 10, None, 30], []),
        ([0, 0, 20, 20, 40, 40], [1, 3, 5]),
    ],
)
def test_which_times_are_out_of_order(times: list[int | None], expected: list[int]) -> None:
    found = list(in_display_order(enumerate(times), lambda pair: pair[1]))
    assert [pair for pair, _ in found] == list(enumerate(times))
    assert [number for (number, _), follows in found if not follows] == expected


class FailingContainer:
    """An open movie that fails after three packets."""

    def __init__(self, inner: av.container.InputContainer, fault: Exception) -> None:
        self._inner, self._fault = inner, fault

    def demux(self, stream: av.video.stream.VideoStream) -> Iterator[av.Packet]:
        yield from islice(self._inner.demux(stream), 3)
        raise self._fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize("kind", [av.error.OSError, av.error.InvalidDataError])
def test_a_read_error_is_not_a_broken_frame(
    kind: type[av.error.FFmpegError], tmp_path: Path
) -> None:
    """If the drive disappears in the middle, no frame is repeated for the rest."""
    movie = make_movie(tmp_path / "clip.mov", frames=12)
    with open_reader(movie.path, Settings()) as source:
        assert isinstance(source, MovieReader)
        reader = source._decoder
        reader.container = FailingContainer(reader.container, kind(errno.EIO, "no answer"))
        with pytest.raises(SourceError, match=r"clip\.mov: reading it fails \(no answer\)"):
            list(source.pictures())
        assert source.warnings == []


def comb(rgb: np.ndarray) -> float:
    """The combing of a picture: the mean second difference of its lines."""
    luma = rgb[..., 1].astype(float)
    return float(np.abs(luma[2:] - 2 * luma[1:-1] + luma[:-2]).mean())


def test_interlaced_frames_are_deinterlaced_one_for_one(
    source_movie: Callable[[str], Movie],
) -> None:
    movie = source_movie("4:2:2 interlaced")
    with open_reader(movie.path, Settings()) as source:
        assert source.clip.interlaced
    woven_indices, woven_times, woven = read_all(movie.path, deinterlace="off")
    indices, times, progressive = read_all(movie.path)
    assert indices == woven_indices == list(range(movie.frames))
    assert times == woven_times
    assert comb(progressive[3]) < 0.8 * comb(woven[3])


def test_conform_makes_the_rate_constant_and_counts(
    source_movie: Callable[[str], Movie],
) -> None:
    movie = source_movie("variable rate")
    with open_reader(movie.path, Settings(conform="30")) as source:
        pictures = list(source.pictures())
        assert [picture.pts for picture in pictures] == list(range(len(pictures)))
        assert source.clip.time_base == Fraction(1, 30)
        report = source.warnings[-1]
    last = round(movie.pts[-1] * movie.time_base * 30)
    assert len(pictures) in (last + 1, last + 2)
    # Frames 6 and 7 are within a 30th of a second: both are shown, because the next is later.
    assert [picture.source_index for picture in pictures] == [0, 1, 2, 3, 4, 4, 4, 5, 6, 7, 8, 8, 9]
    assert "3 frames repeated, 0 dropped" in report


@pytest.mark.parametrize("kind", ["gbrpf32le", "gbrapf32le", "half"])
def test_values_above_one_are_kept(kind: str, tmp_path: Path) -> None:
    light = np.linspace(0, 4, 64 * 16 * 4, dtype=np.float32).reshape(16, 64, 4)
    planar = "gbrapf32le" if kind == "gbrapf32le" else "gbrpf32le"
    frame = av.VideoFrame.from_ndarray(
        np.ascontiguousarray(light[..., : 4 if planar == "gbrapf32le" else 3]), planar
    )
    path = tmp_path / "light.exr"
    options = {"format": "half"} if kind == "half" else {}
    encoder = av.CodecContext.create("exr", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 64, 16, planar
    encoder.time_base, encoder.options = Fraction(1, 25), options
    path.write_bytes(b"".join(bytes(packet) for packet in encoder.encode(frame)))
    with open_reader(path, Settings()) as source:
        assert source.clip.working_format == "gbrpf32le"
        green, blue, red = plane_arrays(next(source.pictures()).pixels)
    for found, channel in ((red, 0), (green, 1), (blue, 2)):
        np.testing.assert_allclose(found, light[..., channel], rtol=1e-3)


@pytest.mark.parametrize(
    ("subtitles", "chapters", "warning"),
    [
        (True, True, "clip.mkv: it has 1 subtitle track and chapters: they are not copied"),
        (True, False, "clip.mkv: it has 1 subtitle track: they are not copied"),
        (False, True, "clip.mkv: it has chapters: they are not copied"),
        (False, False, None),
    ],
)
def test_subtitles_and_chapters_are_reported_once(
    subtitles: bool, chapters: bool, warning: str | None, tmp_path: Path
) -> None:
    plain = make_movie(tmp_path / "plain.mkv", size=(96, 64), frames=2).path
    (tmp_path / "words.srt").write_text("1\n00:00:00,000 --> 00:00:00,040\nhello\n")
    clip = tmp_path / "clip.mkv"
    with (
        av.open(str(plain)) as movie,
        av.open(str(tmp_path / "words.srt")) as words,
        av.open(str(clip), "w") as written,
    ):
        parts = [movie.streams.video[0], *(words.streams.subtitles if subtitles else ())]
        copies = [written.add_stream_from_template(part) for part in parts]
        if chapters:
            span = {"id": 1, "start": 0, "end": 80, "time_base": Fraction(1, 1000)}
            written.set_chapters([{**span, "metadata": {"title": "one"}}])
        for part, copy in zip(parts, copies, strict=True):
            for packet in part.container.demux(part):
                if packet.size:
                    packet.stream = copy
                    written.mux(packet)
    model = make_salient(tmp_path / "tiny.onnx")
    result = vidmatte.matte(clip, tmp_path / "out.mov", model=str(model), family="isnet")
    assert result.warnings == (() if warning is None else (warning,))

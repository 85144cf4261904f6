"""What every reader promises, asked of each: movies of many containers, folders of pictures,
single pictures, parts of them between in and out points, and all of it at another rate.

A reader that is new gets its line in ``CASES``; everything here then runs on it too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import psutil
import pytest
from media import (
    BT601_525,
    BT709_FULL,
    Tone,
    make_movie,
    make_pictures,
    with_time_moved,
    without_times,
)
from scene import draw_ball

from vidmatte.frame import Clip
from vidmatte.settings import Settings
from vidmatte.source import Picture, Source, open_source
from vidmatte.source.conform import ConformedSource
from vidmatte.source.movie.movie import MovieSource
from vidmatte.source.pictures.pictures import PictureSource
from vidmatte.source.pixels import plane_arrays

SIZE = (96, 64)
LONG = 76  # frames: enough for a jump to a key frame from the last third
NTSC = Fraction(30000, 1001)
GROUPS = {"g": "12", "bf": "2"}
OPEN_GOP = GROUPS | {"x264-params": "open-gop=1"}
#: Presentation times of a variable rate, in units of 1/600 s.
UNEVEN = [330 * (number // 5) + (0, 20, 85, 141, 160)[number % 5] for number in range(LONG)]


@dataclass(frozen=True)
class Case:
    """An input: how it is made, what the options ask of it, and what comes of that.

    make: writes it into an empty folder and returns what is to be opened. frames: how many
    pictures come. warns: whether something is to be said of it in the end. repeatable: whether
    its samples are the same each time; FFmpeg's frame threads conceal damage by what the other
    threads have decoded so far.
    """

    make: Callable[[Path], Path]
    frames: int
    reader: type[Source] = MovieSource
    options: dict[str, Any] = field(default_factory=dict)
    warns: bool = False
    repeatable: bool = True


def movie(suffix: str, **options: Any) -> Callable[[Path], Path]:
    """Writes a movie."""
    return lambda folder: make_movie(folder / f"clip{suffix}", **({"size": SIZE} | options)).path


def h264(suffix: str, frames: int = LONG, **options: Any) -> Callable[[Path], Path]:
    """Writes H.264 with open groups of 12 pictures, and sound."""
    return movie(suffix, frames=frames, **({"options": OPEN_GOP, "audio": [Tone()]} | options))


def mpeg2(suffix: str, frames: int = 40, **options: str) -> Callable[[Path], Path]:
    """Writes MPEG-2."""
    coded = GROUPS | {"b": "2M"} | options
    return movie(suffix, frames=frames, codec="mpeg2video", options=coded)


def folder_of(*suffixes: str, lost: int | None = None, **options: Any) -> Callable[[Path], Path]:
    """Writes six pictures of each suffix into a folder; ``lost``: one of them is missing."""

    def make(folder: Path) -> Path:
        plates = folder / "plates"
        for number, suffix in enumerate(suffixes):
            pattern = "shot_{:04d}" + "b" * number
            chosen = {"size": SIZE, "frames": 6, "pattern": pattern, "suffix": suffix}
            files = make_pictures(plates, **(chosen | options))
            if lost is not None:
                files[lost].unlink()
        return plates

    return make


def with_alpha(folder: Path) -> Path:
    """A folder of pictures with an alpha of their own."""
    for number in range(4):
        scene = draw_ball(number, *SIZE)
        rgba = np.dstack([scene.rgb[..., ::-1], scene.alpha])
        cv2.imwrite(str(folder / f"{number}.png"), np.rint(rgba * 255).astype(np.uint8))
    return folder


def one_picture(folder: Path) -> Path:
    """A single PNG of 16 bits."""
    return make_pictures(folder, size=SIZE, frames=1, bits=16)[0]


def turned_picture(folder: Path) -> Path:
    """A JPEG that lies on its side and says so (EXIF orientation 6)."""
    (path,) = make_pictures(folder, size=SIZE[::-1], frames=1, suffix=".jpg")
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    plain = path.read_bytes()
    path.write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:])
    return path


def animated(folder: Path) -> Path:
    """An animated PNG, which is a movie."""
    path = folder / "moves.png"
    with av.open(str(path), "w", format="apng") as container:
        stream = container.add_stream("apng", rate=10)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "rgb24"
        for number in range(8):
            codes = np.rint(draw_ball(number, *SIZE).rgb * 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(codes, "rgb24")))
        container.mux(stream.encode(None))
    return path


def broken(*numbers: int) -> Callable[[Path], Path]:
    """Writes a ProRes clip in which some packets do not decode."""

    def make(folder: Path) -> Path:
        coded = {"codec": "prores_ks", "pixel_format": "yuv422p10le", "size": SIZE}
        path = make_movie(folder / "clip.mov", frames=LONG, **coded).path
        for packet in packets_of(path, numbers):
            with path.open("r+b") as file:
                file.seek(packet.pos)
                file.write(b"\xff" * min(64, packet.size))
        return path

    return make


def lost(suffix: str) -> Callable[[Path], Path]:
    """Writes MPEG-2 of which the decoder leaves out two frames without a word, each right behind
    a place from which the suite reads on."""

    def make(folder: Path) -> Path:
        path = mpeg2(suffix, LONG, bf="0")(folder)
        for packet in packets_of(path, (LONG // 2 + 1, LONG * 3 // 4 + 1)):
            with path.open("r+b") as file:
                file.seek(path.read_bytes().index(bytes(packet)))  # MXF states no place of it
                file.write(bytes(packet.size))
        return path

    return make


def patched_up(folder: Path) -> Path:
    """H.264 in which a packet is spoilt so that its decoder conceals it."""
    options = {"bf": "0", "g": "4", "x264-params": "scenecut=0", "crf": "10"}
    path = make_movie(folder / "clip.mp4", frames=48, options=options).path
    for packet in packets_of(path, (42,)):
        with path.open("r+b") as file:
            file.seek(packet.pos + packet.size // 2)
            file.write(bytes(range(1, 41)))
    return path


def packets_of(path: Path, numbers: tuple[int, ...]) -> list[av.Packet]:
    """Some of a movie's packets of pictures."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    return [packets[number] for number in numbers]


def untimed(folder: Path) -> Path:
    """A transport stream in which some frames bear no time."""
    path = make_movie(folder / "clip.ts", size=SIZE, frames=40, options={"bf": "0"}).path
    return without_times(path, (3, 4, 36))


def astray(folder: Path) -> Path:
    """A transport stream in which a frame bears the time of another."""
    path = make_movie(folder / "clip.ts", size=SIZE, frames=40, options={"bf": "0"}).path
    return with_time_moved(path, 36, 3600)


def dropped(suffix: str) -> Callable[[Path], Path]:
    """Writes a clip with an empty place among its frames."""
    return movie(suffix, pts=[*range(30), *range(31, 46)], codec="mpeg4", options={"b": "2M"})


MOVIES = {
    "H.264 MP4": Case(h264(".mp4"), LONG),
    "H.264 Matroska": Case(h264(".mkv", rate=NTSC), LONG),
    "H.264 MPEG-TS": Case(h264(".ts"), LONG),
    "H.264 AVI": Case(h264(".avi", audio=[], options=GROUPS), LONG),
    "full range": Case(movie(".mp4", colour=BT709_FULL), 10),
    "HEVC 10 bit": Case(
        movie(".mov", frames=12, codec="libx265", pixel_format="yuv420p10le"), 12
    ),
    "ProRes interlaced": Case(
        movie(".mov", frames=40, codec="prores_ks", pixel_format="yuv422p10le", interlaced=True), 40
    ),
    "MPEG-2 program stream": Case(mpeg2(".mpg"), 40),
    "MPEG-2 MXF": Case(mpeg2(".mxf"), 40),
    "SD of BT.601": Case(movie(".mp4", size=(176, 120), rate=NTSC, colour=BT601_525), 10),
    "VP9 WebM": Case(movie(".webm", frames=12, codec="libvpx-vp9"), 12),
    "FFV1, odd size": Case(
        movie(".mkv", size=(97, 67), codec="ffv1", pixel_format="yuv444p"), 10
    ),
    "12 bit 4:4:4": Case(movie(".mkv", codec="ffv1", pixel_format="yuv444p12le"), 10),
    "variable rate": Case(
        movie(".mp4", pts=UNEVEN, time_base=Fraction(1, 600), rate=Fraction(30), options=GROUPS),
        LONG,
    ),
    "variable rate, resume": Case(
        movie(".mkv", pts=UNEVEN, time_base=Fraction(1, 600), rate=Fraction(30), options=GROUPS),
        LONG,
        options={"resume": True},
    ),
    "on its side": Case(movie(".mp4", size=SIZE[::-1], rotation=90), 10),
    "late picture": Case(
        movie(".mkv", pts=range(30, 45), audio=[Tone(offset=Fraction(4, 5))], flash=7), 15
    ),
    "animated PNG": Case(animated, 8),
    "a dropped frame, AVI": Case(dropped(".avi"), 45),
    "a dropped frame, Matroska": Case(dropped(".mkv"), 45),
    "broken packets": Case(broken(0, 41, 42, LONG - 1), LONG, warns=True),
    "lost frames, MOV": Case(lost(".mov"), LONG, warns=True),
    "lost frames, MXF": Case(lost(".mxf"), LONG, warns=True),
    "concealed damage": Case(patched_up, 48, warns=True, repeatable=False),
    "frames without a time": Case(untimed, 40, warns=True),
    "a time astray": Case(astray, 40, warns=True),
}  # fmt: skip
FPS = {"fps": "24"}
PICTURES = {
    "PNG folder": Case(folder_of(".png"), 6, PictureSource, FPS),
    "16-bit TIFF folder": Case(folder_of(".tif", bits=16), 6, PictureSource, FPS),
    "JPEG folder": Case(folder_of(".jpg"), 6, PictureSource, FPS),
    "folder of two kinds": Case(folder_of(".png", ".jpg"), 12, PictureSource, FPS),
    "folder without a rate": Case(folder_of(".png"), 6, PictureSource, warns=True),
    "folder with a gap": Case(folder_of(".png", lost=3), 5, PictureSource, FPS, warns=True),
    "folder with alpha": Case(with_alpha, 4, PictureSource, FPS, warns=True),
    "one picture": Case(one_picture, 1, PictureSource),
    "one turned picture": Case(turned_picture, 1, PictureSource),
}


def part(of: Case, first: int, end: int, **options: Any) -> Case:
    """A case between an in and an out point, frame numbers."""
    points = {"in_point": f"f{first}", "out_point": f"f{end}", **options}
    return replace(of, frames=end - first, options={**of.options, **points})


PARTS = {
    name: part(case, case.frames // 2, case.frames - 1)
    for name, case in (MOVIES | PICTURES).items()
    if case.frames > 2
}


def conformed(of: Case, rate: str, frames: int) -> Case:
    """A case at another rate, about which something is always said."""
    options = {**of.options, "conform": rate}
    return replace(of, frames=frames, reader=ConformedSource, options=options, warns=True)


CONFORMED = {
    "faster": conformed(MOVIES["H.264 MP4"], "50", 2 * LONG),
    "slower": conformed(MOVIES["H.264 MP4"], "10", 30),
    "variable made constant": conformed(MOVIES["variable rate"], "30", 251),
    "late picture, faster": conformed(MOVIES["late picture"], "30", 18),
    "dropped frame, the same": conformed(MOVIES["a dropped frame, AVI"], "25", 46),
    "broken, slower": conformed(MOVIES["broken packets"], "12.5", 38),
    "folder, faster": conformed(PICTURES["PNG folder"], "30", 8),
    "one picture, faster": conformed(PICTURES["one picture"], "50", 2),
    "part, faster": conformed(PARTS["H.264 MP4"], "50", 74),
}
CASES = {
    **MOVIES,
    **PICTURES,
    **{f"part of {name}": case for name, case in PARTS.items()},
    **{f"conformed: {name}": case for name, case in CONFORMED.items()},
}


@dataclass
class Shown:
    """One picture that came: its place in time, its name, and its samples when it came."""

    pts: int
    duration: int
    name: str | None
    shows: int | None
    samples: bytes


@dataclass
class Reading:
    """A clip read from its first picture to its last."""

    path: Path
    clip: Clip
    shown: list[Shown]
    held: list[Picture]
    warnings: list[str]


def samples_of(picture: Picture) -> bytes:
    """All samples, without what pads the lines."""
    planes = plane_arrays(picture.pixels)
    return b"".join(np.ascontiguousarray(plane).tobytes() for plane in planes)


def as_shown(picture: Picture) -> Shown:
    """A picture as it is now."""
    return Shown(picture.pts, picture.duration, picture.name, picture.shows, samples_of(picture))


def comparable(case: Case, shown: list[Shown]) -> list[Shown]:
    """What two readings of a case have in common."""
    return shown if case.repeatable else [replace(one, samples=b"") for one in shown]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Path]:
    """What a case opens; made once for all cases that share it."""

    @cache
    def made_by(make: Callable[[Path], Path]) -> Path:
        return make(tmp_path_factory.mktemp("input"))

    return lambda case: made_by(case.make)


@pytest.fixture(scope="module")
def read(inputs: Callable[[Case], Path]) -> Callable[[str], Reading]:
    """A case, read from end to end once for all tests."""

    @cache
    def reading(name: str) -> Reading:
        return read_through(inputs(CASES[name]), CASES[name])

    return reading


def read_through(path: Path, case: Case) -> Reading:
    """Open a case and read it from end to end."""
    with opened(path, case) as source:
        shown, held = [], []
        for picture in source.pictures():
            shown.append(as_shown(picture))
            held.append(picture)
        return Reading(path, source.clip, shown, held, list(source.warnings))


def opened(path: Path, case: Case) -> Source:
    """The case's reader, as the product opens it."""
    source = open_source(path, Settings(**case.options))
    assert type(source) is case.reader
    return source


def open_files(path: Path) -> list[str]:
    """Which of an input's files this process has open."""
    files = psutil.Process().open_files()
    return [file.path for file in files if Path(file.path).is_relative_to(path.resolve())]


each = pytest.mark.parametrize("name", CASES)
each_kind = pytest.mark.parametrize("name", [name for name in CASES if "part of" not in name])


@each
def test_as_many_pictures_come_as_the_clip_says(name: str, read: Callable[[str], Reading]) -> None:
    case, reading = CASES[name], read(name)
    assert len(reading.shown) == case.frames
    clip = reading.clip
    if case.reader is ConformedSource:
        assert clip.frame_count is None
        shows = [shown.shows for shown in reading.shown]
        assert shows == sorted(shows)
        assert set(shows) <= set(range(clip.shown))
    else:
        assert clip.frame_count == case.frames
        assert {shown.shows for shown in reading.shown} == {None}
    if clip.names:
        assert [shown.name for shown in reading.shown] == list(clip.names)


@each
def test_pictures_follow_each_other_in_time(name: str, read: Callable[[str], Reading]) -> None:
    reading = read(name)
    clip, shown = reading.clip, reading.shown
    assert all(type(one.pts) is type(one.duration) is int for one in shown)
    assert shown[0].pts >= 0
    assert all(one.pts < other.pts for one, other in pairwise(shown))
    assert all(one.duration > 0 for one in shown)
    moments = [clip.origin + one.pts * clip.time_base for one in shown]
    assert moments == sorted(moments)
    if clip.until is not None:
        assert moments[-1] < clip.until
    if clip.constant_rate:
        frames = [one.pts * clip.time_base * clip.rate for one in shown]
        assert all((frame - frames[0]).denominator == 1 for frame in frames)
        assert {one.duration * clip.time_base * clip.rate for one in shown} == {1}


@each
def test_pixels_are_upright_in_the_working_format_and_tagged(
    name: str, read: Callable[[str], Reading]
) -> None:
    reading = read(name)
    clip = reading.clip
    for picture in reading.held:
        pixels = picture.pixels
        # FFmpeg's old names for full range stand for the same samples.
        assert pixels.format.name.replace("yuvj", "yuv") == clip.working_format
        assert (pixels.width, pixels.height) == (clip.width, clip.height)
        assert (int(pixels.colorspace), int(pixels.color_range)) == (
            clip.colour.matrix,
            clip.colour.range,
        )


@each
def test_a_picture_may_be_held(name: str, read: Callable[[str], Reading]) -> None:
    """After those that follow were read and the reader was closed it is what it was."""
    reading = read(name)
    for shown, held in zip(reading.shown, reading.held, strict=True):
        assert as_shown(held) == shown


@each
def test_the_same_comes_each_time(name: str, read: Callable[[str], Reading]) -> None:
    case, first = CASES[name], read(name)
    again = read_through(first.path, case)
    assert comparable(case, again.shown) == comparable(case, first.shown)
    assert again.clip == first.clip
    assert again.warnings == first.warnings


@each
def test_reading_from_any_picture_on_gives_those_that_follow(
    name: str, read: Callable[[str], Reading]
) -> None:
    case, reading = CASES[name], read(name)
    count = len(reading.shown)
    places = {0, 1, count // 2, count * 3 // 4, count - 4, count - 1}
    for index in sorted(places & set(range(count))):
        meant = reading.shown[index:]
        with opened(reading.path, case) as source:
            found = [as_shown(one) for one in source.pictures_from(index, meant[0].pts)]
        assert comparable(case, found) == comparable(case, meant), f"from number {index} on"


@each_kind
def test_a_reader_that_is_left_early_leaves_no_file_open(
    name: str, read: Callable[[str], Reading]
) -> None:
    path = read(name).path
    with opened(path, CASES[name]) as source:
        pictures = source.pictures()
        next(pictures)
        pictures.close()
    assert open_files(path) == []
    with opened(path, CASES[name]) as source:
        pictures = source.pictures_from(0, 0)
        next(pictures)
    pictures.close()  # the one who reads may stop later than the one who closes
    assert open_files(path) == []


@each_kind
def test_closing_again_is_harmless(name: str, read: Callable[[str], Reading]) -> None:
    path = read(name).path
    for count in (0, 1, None):
        with opened(path, CASES[name]) as source:
            pictures: Iterator[Picture] = source.pictures()
            for _ in zip(range(count), pictures, strict=False) if count is not None else pictures:
                pass
            pictures.close()
            source.close()
            source.close()
        assert open_files(path) == []


@each
def test_warnings_are_lines(name: str, read: Callable[[str], Reading]) -> None:
    reading = read(name)
    assert isinstance(reading.warnings, list)
    assert bool(reading.warnings) == CASES[name].warns or "part of" in name
    for line in reading.warnings:
        assert type(line) is str
        assert line.strip() == line != ""
        assert len(line.splitlines()) == 1


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_that_part(name: str, read: Callable[[str], Reading]) -> None:
    all_, some = read(name), read(f"part of {name}")
    first = all_.clip.frame_count // 2
    meant = all_.shown[first : all_.clip.frame_count - 1]
    if PARTS[name].repeatable:
        assert [one.samples for one in some.shown] == [one.samples for one in meant]
    assert [one.name for one in some.shown] == [one.name for one in meant]
    clip = some.clip
    assert (clip.first, clip.whole) == (first, all_.clip.frame_count)
    assert some.shown[0].pts == 0
    moments = [one.pts * clip.time_base for one in some.shown]
    start = meant[0].pts * all_.clip.time_base
    assert moments == [one.pts * all_.clip.time_base - start for one in meant]
    if all_.clip.kind == "movie":
        assert clip.origin - all_.clip.origin == start


@pytest.mark.parametrize("name", CONFORMED)
def test_at_another_rate_the_same_pictures_are_shown(
    name: str, inputs: Callable[[Case], Path], read: Callable[[str], Reading]
) -> None:
    case, reading = CONFORMED[name], read(f"conformed: {name}")
    options = {key: value for key, value in case.options.items() if key != "conform"}
    with open_source(reading.path, Settings(**options)) as source:
        meant = [samples_of(picture) for picture in source.pictures()]
    assert reading.clip.shown == len(meant)
    assert reading.clip.rate == Fraction(case.options["conform"])
    for one in reading.shown:
        assert one.samples == meant[one.shows]
        assert one.name is None

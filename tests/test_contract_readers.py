"""Contract suite over all readers: movies in many containers, image sequences, single images,
trimmed clips, and conformed clips.

Add a new reader or container to ``reader_cases.CASES`` and every test here runs on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
from reader_cases import CASES, CONFORMED, PARTS, Case

from vidmatte.core.frame import Clip
from vidmatte.pixels.formats import plane_arrays
from vidmatte.readers.base import DecodedPicture, Reader
from vidmatte.readers.frame_rate import ConformedReader
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings


@dataclass
class Shown:
    """One picture as it was when the reader yielded it."""

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
    held: list[DecodedPicture]
    warnings: list[str]


def samples_of(picture: DecodedPicture) -> bytes:
    """All samples of a picture, without line padding."""
    planes = plane_arrays(picture.pixels)
    return b"".join(np.ascontiguousarray(plane).tobytes() for plane in planes)


def as_shown(picture: DecodedPicture) -> Shown:
    """A snapshot of a picture."""
    return Shown(
        picture.pts, picture.duration, picture.name, picture.source_index, samples_of(picture)
    )


def comparable(case: Case, shown: list[Shown]) -> list[Shown]:
    """What must be equal between two reads of a case."""
    return shown if case.repeatable else [replace(one, samples=b"") for one in shown]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Path]:
    """The path that a case opens; written once for all cases that share a maker."""

    @cache
    def made_by(make: Callable[[Path], Path]) -> Path:
        return make(tmp_path_factory.mktemp("input"))

    return lambda case: made_by(case.make)


@pytest.fixture(scope="module")
def read(inputs: Callable[[Case], Path]) -> Callable[[str], Reading]:
    """A case read from end to end, once for all tests."""

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


def opened(path: Path, case: Case) -> Reader:
    """The case's reader, opened as the product does."""
    source = open_reader(path, Settings(**case.options))
    assert type(source) is case.reader
    return source


def open_files(path: Path) -> list[str]:
    """The files of an input that this process has open."""
    files = psutil.Process().open_files()
    return [file.path for file in files if Path(file.path).is_relative_to(path.resolve())]


each = pytest.mark.parametrize("name", CASES)
each_kind = pytest.mark.parametrize("name", [name for name in CASES if "part of" not in name])


@each
def test_frame_count_equals_the_number_of_pictures(
    name: str, read: Callable[[str], Reading]
) -> None:
    case, reading = CASES[name], read(name)
    assert len(reading.shown) == case.frames
    clip = reading.clip
    if case.reader is ConformedReader:
        assert clip.frame_count is None
        shows = [shown.shows for shown in reading.shown]
        assert shows == sorted(shows)
        assert set(shows) <= set(range(clip.source_frame_count))
    else:
        assert clip.frame_count == case.frames
        assert {shown.shows for shown in reading.shown} == {None}
    if clip.output_names:
        assert [shown.name for shown in reading.shown] == list(clip.output_names)


@each
def test_times_increase_and_durations_are_positive(
    name: str, read: Callable[[str], Reading]
) -> None:
    reading = read(name)
    clip, shown = reading.clip, reading.shown
    assert all(type(one.pts) is type(one.duration) is int for one in shown)
    assert shown[0].pts >= 0
    assert all(one.pts < other.pts for one, other in pairwise(shown))
    assert all(one.duration > 0 for one in shown)
    moments = [clip.origin + one.pts * clip.time_base for one in shown]
    assert moments == sorted(moments)
    if clip.end is not None:
        assert moments[-1] < clip.end
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
    """Its pixels do not change while later ones are read, or when the reader is closed."""
    reading = read(name)
    for shown, held in zip(reading.shown, reading.held, strict=True):
        assert as_shown(held) == shown


@each
@pytest.mark.thinned(2)
def test_reading_twice_gives_the_same(name: str, read: Callable[[str], Reading]) -> None:
    case, first = CASES[name], read(name)
    again = read_through(first.path, case)
    assert comparable(case, again.shown) == comparable(case, first.shown)
    assert replace(again.clip, source=first.clip.source) == first.clip
    assert again.clip.source.identity() == first.clip.source.identity()
    assert again.warnings == first.warnings


@each
@pytest.mark.thinned(2)
def test_pictures_from_any_frame_equal_the_rest_of_a_full_read(
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
@pytest.mark.thinned(2)
def test_leaving_early_closes_the_files(name: str, read: Callable[[str], Reading]) -> None:
    path = read(name).path
    with opened(path, CASES[name]) as source:
        pictures = source.pictures()
        next(pictures)
        pictures.close()
    assert open_files(path) == []
    with opened(path, CASES[name]) as source:
        pictures = source.pictures_from(0, 0)
        next(pictures)
    pictures.close()  # the iterator may outlive the reader's close
    assert open_files(path) == []


@each_kind
@pytest.mark.thinned(2)
def test_closing_twice_is_harmless(name: str, read: Callable[[str], Reading]) -> None:
    path = read(name).path
    for count in (0, 1, None):
        with opened(path, CASES[name]) as source:
            pictures: Iterator[DecodedPicture] = source.pictures()
            for _ in zip(range(count), pictures, strict=False) if count is not None else pictures:
                pass
            pictures.close()
            source.close()
            source.close()
        assert open_files(path) == []


@each
def test_warnings_are_single_lines(name: str, read: Callable[[str], Reading]) -> None:
    reading = read(name)
    assert isinstance(reading.warnings, list)
    assert bool(reading.warnings) == CASES[name].warns or "part of" in name
    for line in reading.warnings:
        assert type(line) is str
        assert line.strip() == line != ""
        assert len(line.splitlines()) == 1


@pytest.mark.parametrize("name", PARTS)
def test_in_and_out_points_cut_out_exactly_those_frames(
    name: str, read: Callable[[str], Reading]
) -> None:
    all_, some = read(name), read(f"part of {name}")
    first = all_.clip.frame_count // 2
    meant = all_.shown[first : all_.clip.frame_count - 1]
    if PARTS[name].repeatable:
        assert [one.samples for one in some.shown] == [one.samples for one in meant]
    assert [one.name for one in some.shown] == [one.name for one in meant]
    clip = some.clip
    assert (clip.first_frame, clip.untrimmed_count) == (first, all_.clip.frame_count)
    assert some.shown[0].pts == 0
    moments = [one.pts * clip.time_base for one in some.shown]
    start = meant[0].pts * all_.clip.time_base
    assert moments == [one.pts * all_.clip.time_base - start for one in meant]
    if all_.clip.kind == "movie":
        assert clip.origin - all_.clip.origin == start


@pytest.mark.parametrize("name", CONFORMED)
def test_conformed_frames_show_the_pictures_they_name(
    name: str, inputs: Callable[[Case], Path], read: Callable[[str], Reading]
) -> None:
    case, reading = CONFORMED[name], read(f"conformed: {name}")
    options = {key: value for key, value in case.options.items() if key != "conform"}
    with open_reader(reading.path, Settings(**options)) as source:
        meant = [samples_of(picture) for picture in source.pictures()]
    assert reading.clip.source_frame_count == len(meant)
    assert reading.clip.rate == Fraction(case.options["conform"])
    for one in reading.shown:
        assert one.samples == meant[one.shows]
        assert one.name is None

"""--timeline: what is written beside results, and what is refused before a run."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from fcpxml_rules import faults
from media import Tone, make_movie, make_pictures
from tiny_onnx import make_salient

import vidmatte
from vidmatte.alpha.quality import Quality
from vidmatte.cli.main import main
from vidmatte.core.timecode import number_of
from vidmatte.errors import OutputError, UsageError
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.timeline.files import SUFFIXES, read_timeline
from vidmatte.timeline.model import Timeline
from vidmatte.timeline.result import Shot, _timeline_of
from vidmatte.writers.base import WriteResult

NTSC = Fraction(30000, 1001)


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, Any]:
    return {"model": str(make_salient(tmp_path / "tiny.onnx", 64)), "family": "isnet"}


@pytest.fixture
def words(tiny: dict[str, Any]) -> list[str]:
    return ["--model", tiny["model"], "--family", "isnet", "-q"]


def read(path: Path, rate: Fraction) -> Timeline:
    return read_timeline(path, lambda medium: rate)


def test_the_original_the_cutout_and_the_matte_lie_over_each_other(
    tmp_path: Path, words: list[str]
) -> None:
    clip, out = tmp_path / "A001C003.mov", tmp_path / "my cut.mov"
    make_movie(clip, rate=NTSC, frames=20, timecode="00:59:59;20", reel="A001C003", audio=[Tone()])
    files = [tmp_path / f"edit{suffix}" for suffix in SUFFIXES]
    flags = [word for path in files for word in ("--timeline", str(path))]
    matte = str(tmp_path / "matte.mov")
    trim = ["--in", "f5", "--out", "f17"]
    assert main([str(clip), "-o", str(out), "--matte", matte, *trim, *flags, *words]) == 0
    start = number_of("00:59:59;20", NTSC) + 5  # past the minute that skips two numbers
    with av.open(str(out)) as container:
        own = container.streams.video[0].metadata["timecode"]
    assert number_of(own, NTSC) == start
    for path in files[:3]:
        timeline = read(path, NTSC)
        assert timeline.drop and timeline.rate == NTSC
        assert timeline.start == number_of("01:00:00;00", NTSC)
        assert (timeline.width, timeline.height) == (192, 108)
        placed = [
            (one.track, one.medium.name, one.start, one.frames, one.record, one.enabled)
            for one in timeline.events
        ]
        assert placed == [
            (1, "A001C003.mov", start, 12, 0, True),
            (2, "my cut.mov", start, 12, 0, True),
            (3, "matte.mov", start, 12, 0, False),
        ]
        media = [one.medium for one in timeline.events]
        assert [Path(one.path or "") for one in media] == [clip, out, Path(matte)]
        assert [(one.start, one.frames) for one in media] == [(start - 5, 20)] + 2 * [(start, 12)]
        assert all(one.drop for one in media)
    assert faults(files[0].read_text("utf-8")) == []
    edl = read(files[3], NTSC)  # one track
    assert [(one.medium.name, one.start, one.frames) for one in edl.events] == [
        ("my cut.mov", start, 12)
    ]
    assert files[1].read_text("utf-8").count("<alphatype>straight</alphatype>") == 1
    assert "FCM: DROP FRAME" in files[3].read_text("utf-8")
    # The sound comes from the original alone.
    assert files[0].read_text("utf-8").count('srcEnable="video"') == 1
    assert files[1].read_text("utf-8").count("<mediatype>audio") == 2  # its two channels


def test_results_of_one_call_follow_one_another(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, rate, frames in (("a", 25, 4), ("b", 24, 5), ("c", 25, 6)):
        make_movie(tmp_path / f"{name}.mp4", rate=Fraction(rate), frames=frames)
    clips = [str(tmp_path / f"{name}.mp4") for name in "abc"]
    file = tmp_path / "all.fcpxml"
    more = ["-o", f"{tmp_path / 'cuts'}/", "--format", "mov", "--timeline", str(file)]
    assert main([*clips, *more, *words[:-1]]) == 0
    assert "b.mov: 24 fps, left out of a timeline of 25" in capsys.readouterr().err
    timeline = read(file, Fraction(25))
    assert timeline.name == "all"
    placed = [(one.track, one.medium.name, one.record, one.length) for one in timeline.events]
    assert placed == [
        (1, "a.mp4", 0, 4), (1, "c.mp4", 4, 6), (2, "a.mov", 0, 4), (2, "c.mov", 4, 6),
    ]  # fmt: skip


def test_from_python_and_without_a_timecode(tmp_path: Path, tiny: dict[str, Any]) -> None:
    clip = make_movie(tmp_path / "a.mp4", frames=9).path
    file = tmp_path / "cut.otio"
    result = vidmatte.matte(clip, tmp_path / "a.webm", timeline=file, in_point="f2", **tiny)
    assert result.written.frames == 7
    original, cut = read(file, Fraction(25)).events
    assert (original.start, original.medium.start, original.medium.frames) == (2, 0, 9)
    assert (cut.start, cut.medium.start, cut.medium.frames) == (0, 0, 7)


def test_a_format_without_timecode_begins_at_zero(tmp_path: Path, tiny: dict[str, Any]) -> None:
    clip = make_movie(tmp_path / "a.mov", frames=4, timecode="01:00:00:00").path
    file, other = tmp_path / "cut.fcpxml", tmp_path / "cut.xml"
    files = [file, other]
    vidmatte.matte(clip, tmp_path / "a.webm", timeline=files, alpha="premultiplied", **tiny)
    assert "<alphatype>black</alphatype>" in other.read_text("utf-8")
    original, cut = read(file, Fraction(25)).events
    assert (original.start, cut.start) == (90000, 0)


def test_frames_worth_a_look_become_markers(tmp_path: Path) -> None:
    path = make_movie(tmp_path / "a.mov", frames=20, timecode="10:00:00:00").path
    with open_reader(path, Settings(in_point="f4")) as source:
        clip = source.clip
    written = WriteResult(
        tmp_path / "cut.mov", 16, 192, 108, clip.rate, "prores", "yuva444p12le", 1, Fraction(1)
    )
    quality = Quality(16, empty=[3, 4, 5, 9], jumps=[12], lost=[7], doubtful=[14, 2])
    timeline, left_out = _timeline_of([Shot(clip, written, quality)], "cut")
    start = 36000 * 25 + 4
    assert left_out == []
    assert [(one.frame - start, one.text) for one in timeline.events[1].markers] == [
        (3, "no subject (3 frames)"),
        (7, "the chosen subject was not found"),
        (9, "no subject"),
        (10, "the subject is least certain here"),  # frame 14 of the source
        (12, "the matte jumps"),
    ]


def test_past_midnight_the_original_begins_before_its_in_point(tmp_path: Path) -> None:
    path = make_movie(tmp_path / "a.mov", frames=20, timecode="23:59:59:20").path
    with open_reader(path, Settings(in_point="f10")) as source:
        shot = Shot(source.clip, WriteResult(path, 10, 1, 1, Fraction(25), "prores", "", 1,
                                             Fraction(1)), Quality())  # fmt: skip
    original = shot.original()
    assert original is not None
    assert original.start == number_of("23:59:59:20", Fraction(25))
    assert shot.source_start == original.start + 10


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "cut.aaf",
            r"--timeline .*cut.aaf: expected a name that ends in .fcpxml, .xml, .otio, .edl",
        ),
        ("none/cut.edl", "no such folder for cut.edl: create it"),
        ("there.xml", "there.xml exists: --overwrite replaces it"),
        ("dir.otio", "dir.otio: that is a folder: name a file"),
    ],
)
def test_names_are_checked_before_the_model_is_fetched(
    name: str, message: str, tmp_path: Path
) -> None:
    clip = make_movie(tmp_path / "a.mp4", frames=3).path
    (tmp_path / "there.xml").touch()
    (tmp_path / "dir.otio").mkdir()
    with pytest.raises(vidmatte.VidmatteError, match=message):
        vidmatte.matte(clip, tmp_path / "a.mov", timeline=tmp_path / name, model="none.onnx")


def test_what_no_timeline_can_show_is_refused(tmp_path: Path) -> None:
    variable = make_movie(
        tmp_path / "v.mp4", pts=[0, 1, 3, 4, 8, 9, 10, 12], time_base=Fraction(1, 25)
    ).path
    pictures = tmp_path / "plates"
    make_pictures(pictures, frames=3)
    for source, out, message in (
        (variable, "v.mov", "v.mp4 has a variable frame rate.*: add --conform"),
        (pictures, "cut/", "holds pictures, and a timeline shows movies: write a movie"),
    ):
        with pytest.raises(UsageError, match=message):
            vidmatte.matte(
                source, f"{tmp_path}/{out}", timeline=f"{tmp_path}/t.edl", model="none.onnx"
            )
    movie = make_movie(tmp_path / "a.mp4", frames=3).path
    twice = [f"{tmp_path}/t.edl", f"{tmp_path}/t.edl"]
    with pytest.raises(UsageError, match="this path is used twice in one run"):
        vidmatte.matte(movie, tmp_path / "a.mov", timeline=twice, model="none.onnx")


def test_a_conformed_original_is_left_out(tmp_path: Path, tiny: dict[str, Any]) -> None:
    clip = make_movie(
        tmp_path / "v.mp4", pts=[0, 1, 3, 4, 8, 9, 10, 12], time_base=Fraction(1, 25)
    ).path
    file = tmp_path / "t.fcpxml"
    vidmatte.matte(clip, tmp_path / "v.mov", timeline=file, conform="25", **tiny)
    assert [one.track for one in read(file, Fraction(25)).events] == [2]
    assert faults(file.read_text("utf-8")) == []


def test_a_folder_that_turns_read_only_costs_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = make_movie(tmp_path / "a.mov", frames=3).path
    with open_reader(path, Settings()) as source:
        written = WriteResult(path, 3, 1, 1, Fraction(25), "prores", "", 1, Fraction(1))
        timeline, _ = _timeline_of([Shot(source.clip, written, Quality())], "cut")
    from vidmatte.timeline.files import write_timelines

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OutputError, match="the disk is full"):
        write_timelines(replace(timeline), [tmp_path / "t.edl"], overwrite=False)

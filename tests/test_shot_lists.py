"""Shot lists as input: what of an edit is found, extended, clamped, flagged, matted and played."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import opentimelineio as otio
import pytest
from media import make_movie, make_pictures
from readback import decode
from scene import read_index
from tiny_onnx import make_salient

from vidmatte.cli.main import main
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.timeline.files import read_timeline
from vidmatte.timeline.media import MediaFinder
from vidmatte.timeline.shots import ShotPlan, plan_shots

FPS = Fraction(25)
HOUR = 90000  # frames
schema = otio.schema


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    return ["--model", str(make_salient(tmp_path / "tiny.onnx", 64)), "--family", "isnet"]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with media of 100 frames: A, B, C from 1, 2 and 3 hours on, D without timecode."""
    folder = tmp_path_factory.mktemp("media")
    (folder / "day 1").mkdir()
    for number, name in enumerate("ABC", 1):
        path = folder / "day 1" / f"{name}001.mov"
        make_movie(path, frames=100, timecode=f"0{number}:00:00:00", reel=f"REEL{number}LONG")
    make_movie(folder / "D001.mp4", frames=100)
    return folder


def times(first: int, frames: int) -> Any:
    rate = float(FPS)
    return otio.opentime.TimeRange(
        otio.opentime.RationalTime(first, rate), otio.opentime.RationalTime(frames, rate)
    )


def shot(name: str, first: int, frames: int, effect: Any = None) -> Any:
    """A clip of a medium, by its name: its first frame counted from the medium's first."""
    start = {"A": HOUR, "B": 2 * HOUR, "C": 3 * HOUR}.get(name[0], 0)
    reference = schema.ExternalReference(f"/Volumes/gone/{name}.mov", times(start, 100))
    clip = schema.Clip(name, reference, times(start + first, frames))
    if effect is not None:
        clip.effects.append(effect)
    return clip


def transition(before: int, after: int) -> Any:
    return schema.Transition(
        transition_type="SMPTE_Dissolve",
        in_offset=otio.opentime.RationalTime(before, 25.0),
        out_offset=otio.opentime.RationalTime(after, 25.0),
    )


def save(items: list[Any], path: Path) -> Path:
    timeline = schema.Timeline("edit", global_start_time=otio.opentime.RationalTime(HOUR, 25.0))
    timeline.tracks.append(schema.Track("V1", kind="Video", children=items))
    otio.adapters.write_to_file(timeline, str(path))
    return path


def planned(
    path: Path, folder: Path | None, handles: int = 0, rate: Fraction | None = None
) -> ShotPlan:
    def describe(file: Path) -> Any:
        with open_reader(file, Settings()) as source:
            return source.clip

    finder = MediaFinder(path, folder, describe)
    timeline = read_timeline(path, lambda medium: rate or finder.rate_of(medium))
    return plan_shots(timeline, finder.find, handles)


def ranges(plan: ShotPlan) -> list[tuple[str, int, int]]:
    return [(one.found.path.name, one.first, one.stop) for one in plan.ranges]


def edit_of_thirty(folder: Path) -> Path:
    """Thirty events: cuts, two dissolves, one event beyond its medium, handles beyond theirs,
    a retime, a freeze, speed 1 that is none, a nested stack, a generator, one without a medium."""
    stack = schema.Stack(name="compound", children=[shot("A001", 5, 10)])
    bars = schema.Clip("bars", schema.GeneratorReference(generator_kind="SMPTEBars"), times(0, 10))
    off = shot("A001", 40, 5)
    off.enabled = False
    items = [
        shot("A001", 2, 10),  # handles reach beyond the first frame
        shot("A001", 20, 10), transition(3, 4), shot("B001", 30, 10),
        shot("A001", 24, 10),  # overlaps the second
        schema.Gap(source_range=times(0, 7)),
        shot("B001", 95, 10),  # five frames that are not there
        shot("C001", 10, 10, schema.LinearTimeWarp(time_scalar=0.5)),
        shot("C001", 10, 10, schema.FreezeFrame()),
        shot("C001", 10, 10, schema.LinearTimeWarp(time_scalar=1.0)),
        stack, bars, off,
        shot("X001", 0, 10),  # no such medium
        shot("C001", 98, 60),
        shot("D001", 0, 10), transition(2, 2), shot("D001", 88, 12),
        *(shot("ABC"[number % 3] + "001", 50 + number, 3) for number in range(15)),
    ]  # fmt: skip
    assert sum(not isinstance(one, schema.Gap | schema.Transition) for one in items) == 30
    return save(items, folder / "edit.otio")


def test_an_edit_of_thirty_events_is_reported_event_by_event(media: Path, tmp_path: Path) -> None:
    plan = planned(edit_of_thirty(tmp_path), media, handles=4)
    assert {kind: plan.count(kind) for kind in ("matched", "clamped", "flagged", "missing")} == {
        "matched": 19, "clamped": 5, "flagged": 5, "missing": 1,
    }  # fmt: skip
    assert ranges(plan) == [
        ("A001.mov", 0, 38),  # handles end at the first frame; two overlapping ranges and dissolve
        ("A001.mov", 46, 69),
        ("B001.mov", 23, 44), ("B001.mov", 47, 70), ("B001.mov", 91, 100),
        ("C001.mov", 6, 24), ("C001.mov", 48, 71), ("C001.mov", 94, 100),
        ("D001.mp4", 0, 16), ("D001.mp4", 82, 100),
    ]  # fmt: skip
    report = "\n".join(plan.report())
    for line in (
        r"1  01:00:00:00  V1  clamped  A001: .*A001.mov, f0 to f16, found by its name; 2 of 4 extra"
        r" frames before it and 0 of 4 after it are beyond the medium",
        r"2  01:00:00:10  V1  matched  A001: .*, f16 to f38, found by its name$",
        r"3  01:00:00:20  V1  matched  B001: .*, f23 to f44",
        r"5  01:00:01:22  V1  clamped  B001: .*f91 to f100, found by its name; the edit shows 5"
        r" frames beyond the medium",
        r"6  .*flagged  C001: speed 50 %: not matted",
        r"7  .*flagged  C001: a freeze frame: not matted",
        r"8  .*matched  C001: ",
        r"9  .*flagged  compound: a stack is nested in it: not matted",
        r"10  .*flagged  bars: generated \(SMPTEBars\), not from a medium: not matted",
        r"11  .*flagged  A001: it is disabled: not matted",
        r"12  .*missing  X001: no file of its path, name or reel was found",
        r"13  .*clamped  C001: .*the edit shows 58 frames beyond the medium",
        r"15  .*clamped  D001: .*0 of 6 extra frames before it and 4 of 4 after it",
        r"^30 events: 19 matched, 5 clamped, 5 flagged, 1 missing; 10 ranges, 195 frames$",
    ):
        assert re.search(line, report, re.MULTILINE), (line, report)


def test_the_results_of_an_edit_are_played_by_a_new_timeline(
    media: Path, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    edit = save(
        [
            shot("A001", 20, 6), transition(1, 2), shot("B001", 10, 5),
            schema.Gap(source_range=times(0, 3)),
            shot("A001", 23, 6), shot("A001", 3, 4, schema.FreezeFrame()), shot("D001", 98, 4),
        ],
        tmp_path / "edit.otio",
    )  # fmt: skip
    cuts = tmp_path / "cuts"
    more = ["--media-dir", str(media), "--handles", "2", "-o", str(cuts)]
    assert main([str(edit), *more, *words]) == 0
    assert sorted(path.name for path in cuts.iterdir() if path.suffix != ".json") == [
        "A001.mov", "B001.mov", "D001.mov", "edit.otio", "edit_report.txt",
    ]  # fmt: skip
    shown = capsys.readouterr().err
    assert "4  01:00:00:20  V1  flagged  A001: a freeze frame: not matted" in shown
    report = (cuts / "edit_report.txt").read_text("utf-8").splitlines()
    assert report[-1].startswith("5 events: 3 matched, 1 clamped, 1 flagged, 0 missing; 3 ranges")
    played = read_timeline(cuts / "edit.otio", lambda medium: None)
    assert (played.start, played.rate) == (HOUR, FPS)
    placed = [
        (one.track, one.medium.name, one.start, one.frames, one.record) for one in played.events
    ]
    originals = [
        (1, "A001.mov", HOUR + 20, 6, 0), (1, "B001.mov", 2 * HOUR + 10, 5, 6),
        (1, "A001.mov", HOUR + 23, 6, 14), (1, "D001.mp4", 98, 2, 24),
    ]  # fmt: skip
    # D has no timecode, and neither has its result, which begins at its frame 96.
    over = [
        (2, "D001.mov", 2, 2, 24) if one[1] == "D001.mp4" else (2, *one[1:]) for one in originals
    ]
    assert placed == [*originals, *over]
    for event in played.events[4:]:
        pictures = decode(Path(event.medium.path or ""), "rgb24")
        first = event.start - event.medium.start
        counted = [read_index(one) for one in pictures[first : first + event.frames]]
        hour = event.start - event.start % HOUR
        begin = event.start - hour if hour else 98
        assert counted == list(range(begin, begin + event.frames))


def edl(*lines: str, fcm: str = "NON-DROP FRAME") -> str:
    return "\r\n".join(["TITLE: my edit", f"FCM: {fcm}", "", *lines, ""])


def test_an_edl_takes_its_rate_from_its_media(media: Path, tmp_path: Path) -> None:
    path = tmp_path / "edit.edl"
    path.write_text(
        edl(
            "001  REEL1LON V     C        01:00:00:10 01:00:00:20 01:00:00:00 01:00:00:10",
            "002  REEL1LON V     C        01:00:00:20 01:00:00:20 01:00:00:10 01:00:00:10",
            "002  B001     V     D    006 02:00:01:00 02:00:01:20 01:00:00:10 01:00:01:05",
            "* FROM CLIP NAME: A001",
            "* TO CLIP NAME: B001.MOV",
            "003  AX       V     C        03:00:00:10 03:00:00:20 01:00:01:05 01:00:01:15",
            "* FROM CLIP NAME: C001.mov",
            "M2   C001       050.0                03:00:00:10",
            "004  AX       V     C        03:00:00:10 03:00:00:11 01:00:01:15 01:00:02:00",
            "* FROM CLIP NAME: C001.mov",
            "* FREEZE FRAME",
            "005  C001     V     C        03:00:02:00 03:00:02:10 01:00:02:00 01:00:02:10",
            "M2   C001       025.0                03:00:02:00",
            "006  BL       V     C        00:00:00:00 00:00:00:10 01:00:02:10 01:00:02:20",
            "007  A001     A     C        01:00:00:00 01:00:00:10 01:00:02:20 01:00:03:05",
            "* FROM CLIP NAME: sound only",
            "008  NOWHERE  V     C        01:00:00:00 01:00:00:10 01:00:02:20 01:00:03:05",
            "009  A001     V     C        09:00:00:00 09:00:00:10 01:00:03:05 01:00:03:15",
        )
    )
    plan = planned(path, media)
    assert plan.timeline.rate == FPS
    assert plan.timeline.name == "my edit"
    assert ranges(plan) == [("A001.mov", 10, 26), ("B001.mov", 25, 45), ("C001.mov", 50, 60)]
    report = "\n".join(plan.report())
    for line in (
        "1  01:00:00:00  V1  matched  REEL1LON: .*A001.mov, f10 to f26, found by its reel and time",
        "2  01:00:00:10  V1  matched  B001.MOV: .*B001.mov, f25 to f45, found by its name",
        r"3  01:00:01:05  V1  flagged  C001.mov: speed 200 % \(M2\): not matted",
        "4  01:00:01:15  V1  flagged  C001.mov: a freeze frame",
        "5  01:00:02:00  V1  matched  C001: .*f50 to f60",
        "6  01:00:02:20  V1  missing  NOWHERE: no file",
        "7  01:00:03:05  V1  missing  A001: A001.mov begins at 01:00:00:00 and does not have these",
    ):
        assert re.search(line, report), (line, report)


def test_an_edl_whose_media_are_gone_needs_a_rate(media: Path, tmp_path: Path) -> None:
    path = tmp_path / "edit.edl"
    line = "001  GONE     V     C        01:00:00;02 01:00:01;02 01:01:00;02 01:01:01;02"
    path.write_text(edl(line, fcm="DROP FRAME"))
    with pytest.raises(
        ValueError, match="name their folder with --media-dir, or the rate with --f"
    ):
        planned(path, None)
    for written in (line, line.replace(";", ":")):  # FCM alone says it, too
        path.write_text(edl(written, fcm="DROP FRAME"))
        timeline = planned(path, None, rate=Fraction(30000, 1001)).timeline
        assert timeline.drop
        assert timeline.start == 107892 + 1800  # 01:01:00;00 and ;01 do not exist
        assert timeline.events[0].start == 107894
    path.write_text(edl(line.replace(";", ":")))
    assert planned(path, None, rate=Fraction(30000, 1001)).timeline.start == 30 * 3660 + 2


FCPXML = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE fcpxml>
<fcpxml version="1.9"><resources>
<format id="r1" frameDuration="100/2500s" width="192" height="108"/>
<asset id="r2" name="A001" start="3600s" duration="4s" hasVideo="1" format="r1">
<media-rep kind="original-media" src="file:///Volumes/gone/A001.mov"/></asset>
<asset id="r3" name="B001" start="7200s" duration="4s" hasVideo="1" format="r1">
<media-rep kind="original-media" src="file:///Volumes/gone/B001.mov"/></asset>
<media id="r4" name="compound"><sequence format="r1"><spine/></sequence></media>
</resources><library><event><project name="my edit"><sequence format="r1" tcStart="3600s"><spine>
<asset-clip ref="r2" offset="3600s" start="90010/25s" duration="10/25s">
 <asset-clip ref="r3" lane="1" offset="90012/25s" start="180020/25s" duration="5/25s"/>
 <marker start="90010/25s" value="x"/></asset-clip>
<transition offset="90007/25s" duration="6/25s"/>
<asset-clip ref="r3" offset="90010/25s" start="180040/25s" duration="10/25s"/>
<gap offset="90020/25s" duration="5/25s"><asset-clip ref="r2" lane="1" offset="2/25s"
 start="90050/25s" duration="3/25s" enabled="0"/></gap>
<ref-clip ref="r4" name="compound" offset="90025/25s" duration="10/25s"/>
<asset-clip ref="r2" offset="90035/25s" start="90060/25s" duration="10/25s"><timeMap>
 <timept time="0s" value="0s"/><timept time="10s" value="20s"/></timeMap></asset-clip>
<asset-clip ref="r2" offset="90045/25s" start="90060/25s" duration="10/25s"><timeMap>
 <timept time="0s" value="3s"/><timept time="10s" value="3s"/></timeMap></asset-clip>
<clip name="classic" offset="90055/25s" start="90070/25s" duration="10/25s">
 <video ref="r2" offset="3600s" start="3600s" duration="4s"/></clip>
<title ref="r9" name="hello" offset="90065/25s" duration="10/25s"/>
</spine></sequence></project></event></library></fcpxml>"""

XMEML = """<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE xmeml><xmeml version="4">
<sequence id="s"><name>my edit</name><rate><timebase>25</timebase><ntsc>FALSE</ntsc></rate>
<timecode><string>01:00:00:00</string><frame>90000</frame></timecode><media><video><track>
<clipitem id="1"><name>A001</name><rate><timebase>25</timebase></rate><start>0</start><end>-1</end>
<in>10</in><out>23</out><file id="f1"><name>A001.mov</name><pathurl>file://localhost/no/A001.mov
</pathurl><rate><timebase>25</timebase></rate><duration>100</duration><timecode><rate>
<timebase>25</timebase></rate><string>01:00:00:00</string></timecode></file></clipitem>
<transitionitem><start>7</start><end>13</end><alignment>center</alignment></transitionitem>
<clipitem id="2"><name>B001</name><rate><timebase>25</timebase></rate><start>-1</start><end>20</end>
<in>37</in><out>50</out><file id="f2"><name>B001.mov</name><rate><timebase>25</timebase></rate>
<duration>100</duration><timecode><frame>180000</frame></timecode></file></clipitem>
<clipitem id="3"><name>slow</name><start>20</start><end>30</end><in>0</in><out>10</out>
<file id="f1"/><filter><effect><effectid>timeremap</effectid><parameter><parameterid>speed
</parameterid><value>10</value></parameter></effect></filter></clipitem>
<clipitem id="4"><name>still</name><start>30</start><end>40</end><in>0</in><out>10</out>
<stillframe>TRUE</stillframe><file id="f1"/></clipitem>
<clipitem id="5"><name>nest</name><start>40</start><end>50</end><in>0</in><out>10</out>
<sequence id="s2"/></clipitem>
<clipitem id="6"><name>odd</name><start>50</start><end>60</end><in>0</in><out>20</out>
<file id="f1"/></clipitem>
<clipitem id="7"><name>off</name><enabled>FALSE</enabled><start>60</start><end>65</end><in>0</in>
<out>5</out><file id="f1"/></clipitem>
<generatoritem id="8"><name>bars</name></generatoritem>
</track></video></media></sequence></xmeml>"""


@pytest.mark.parametrize(
    ("name", "text", "wanted", "lines"),
    [
        (
            "edit.fcpxml", FCPXML,
            [("A001.mov", 10, 23), ("A001.mov", 70, 80), ("B001.mov", 20, 25),
             ("B001.mov", 37, 50)],
            ["V1  flagged  compound: a compound clip is nested in it",
             "01:00:01:10  V1  flagged  A001: speed 200 %", "V1  flagged  A001: a freeze frame",
             "01:00:00:22  V2  flagged  A001: it is disabled", "title 'hello' is not matted",
             "01:00:02:05  V1  matched  classic"],
        ),
        (
            "edit.xml", XMEML, [("A001.mov", 10, 23), ("B001.mov", 37, 50)],
            ["flagged  slow: speed 10 %", "flagged  still: a freeze frame",
             "flagged  nest: a sequence is nested in it", "flagged  off: it is disabled",
             "flagged  odd: 20 source frames last 10 frames: its speed is changed",
             "generator 'bars' is not matted", "01:00:00:10  V1  matched  B001"],
        ),
    ],
)  # fmt: skip
def test_edits_of_other_programs(
    name: str,
    text: str,
    wanted: list[tuple[str, int, int]],
    lines: list[str],
    media: Path,
    tmp_path: Path,
) -> None:
    path = tmp_path / name
    path.write_text(text)
    plan = planned(path, media)
    assert sorted(ranges(plan)) == wanted
    report = "\n".join(plan.report())
    assert [line for line in lines if line not in report] == [], report


def test_media_are_found_by_path_name_and_timecode_and_never_guessed(tmp_path: Path) -> None:
    for folder, timecode in (("a", "01:00:00:00"), ("b", "01:00:00:00"), ("c", "05:00:00:00")):
        (tmp_path / "m" / folder).mkdir(parents=True)
        make_movie(tmp_path / "m" / folder / "A001.mov", frames=30, timecode=timecode)
    clip = shot("A001", 5, 5)
    plan = planned(save([clip], tmp_path / "1.otio"), tmp_path / "m")
    assert plan.count("missing") == 1
    assert "2 files fit it" in plan.lines[0].text
    clip.media_reference.target_url = "/Volumes/x/b/A001.mov"  # the last folder decides
    plan = planned(save([clip], tmp_path / "2.otio"), tmp_path / "m")
    assert plan.ranges[0].found.path == tmp_path / "m" / "b" / "A001.mov"
    clip.media_reference.target_url = "m/c/A001.mov"  # there, but without these frames
    plan = planned(save([clip], tmp_path / "3.otio"), None)
    assert "begins at 05:00:00:00 and does not have these frames" in plan.lines[0].text
    clip.media_reference.target_url = "m/a/A001.mov"
    plan = planned(save([clip], tmp_path / "4.otio"), None)
    assert (ranges(plan), plan.ranges[0].found.how) == ([("A001.mov", 5, 10)], "its path")


def test_a_timeline_that_ignores_timecodes_counts_from_the_first_frame(
    media: Path, tmp_path: Path
) -> None:
    clip = shot("A001", 5, 5)
    clip.media_reference.available_range = times(0, 100)
    clip.source_range = times(5, 5)
    plan = planned(save([clip], tmp_path / "edit.otio"), media)
    assert ranges(plan) == [("A001.mov", 5, 10)]
    assert "counted from its first frame" in plan.lines[0].text


def test_media_of_another_or_a_variable_rate_are_not_guessed(tmp_path: Path) -> None:
    make_movie(tmp_path / "A001.mov", frames=30, rate=Fraction(50))
    make_movie(tmp_path / "D001.mp4", pts=[0, 1, 3, 4, 8, 9, 10], time_base=Fraction(1, 25))
    plan = planned(save([shot("A001", 0, 5), shot("D001", 0, 5)], tmp_path / "e.otio"), tmp_path)
    assert [line.kind for line in plan.lines] == ["missing", "missing"]
    assert "A001.mov has 50 frames a second, the edit says 25" in plan.lines[0].text
    assert "frames a second" in plan.lines[1].text or "variable" in plan.lines[1].text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["-o", "{}/cuts", "--in", "f3"], r"--in f3: it is not for shot lists"),
        (["-o", "{}/cuts", "--matte", "m.mov"], r"--matte m.mov: it is not for shot lists"),
        (["-o", "{}/cuts", "--fps", "24"], r"--fps 24: edit.otio states its rate"),
        (["-o", "{}/cuts", "--handles", "-1"], r"--handles -1: allowed is 0 to 1000"),
        (["-o", "{}/cuts", "--each"], r"--each: a shot list has one result"),
        (["-o", "{}/edit.otio"], r"that is a file, and a shot list needs a folder"),
        ([], r"a shot list needs a folder for its results, like -o cuts/"),
        (["{}/a.mov", "-o", "{}/cuts"], r"a shot list is the only input of a run"),
        (["-o", "{}/cuts", "--media-dir", "{}/none"], r"none: there is no such folder"),
        (["-o", "{}/cuts", "--timeline", "{}/edit.otio"], r"this path is used twice in one run"),
        (["-o", "{}"], r"edit.otio: this path is used twice in one run"),
    ],
)
def test_what_does_not_go_with_a_shot_list(
    more: list[str],
    message: str,
    media: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit = save([shot("A001", 0, 5)], tmp_path / "edit.otio")
    found = ["--media-dir", str(media)] if "--media-dir" not in more else []
    assert main([str(edit), *(word.format(tmp_path) for word in more), *found, "-q"]) in (1, 2)
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "cuts").exists()


def test_media_dir_needs_a_shot_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{tmp_path}/a.mov", "--media-dir", str(tmp_path)]) == 2
    assert "--media-dir" in capsys.readouterr().err


def test_missing_media_count_in_the_exit_status(
    media: Path, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    edit = save([shot("A001", 0, 3), shot("X001", 0, 3), shot("Y001", 0, 3)], tmp_path / "e.otio")
    more = ["--media-dir", str(media), "-o", str(tmp_path / "cuts"), "--timeline"]
    assert main([str(edit), *more, str(tmp_path / "new.xml"), *words]) == 2
    shown = capsys.readouterr().err
    assert "missing  X001" in shown
    assert "missing  Y001" in shown
    played = read_timeline(tmp_path / "new.xml", lambda medium: None)
    assert [(one.track, one.medium.name) for one in played.events] == [
        (1, "A001.mov"), (2, "A001.mov"),
    ]  # fmt: skip


def test_image_sequences_have_the_rate_of_the_edit(tmp_path: Path, words: list[str]) -> None:
    make_pictures(tmp_path / "m" / "plates", frames=12)
    rate = 24000 / 1001
    plates = schema.ImageSequenceReference(
        "file:///gone/plates/", "shot_", ".png", start_frame=1, rate=rate,
        available_range=otio.opentime.TimeRange(
            otio.opentime.RationalTime(0, rate), otio.opentime.RationalTime(12, rate)
        ),
    )  # fmt: skip
    shown = otio.opentime.TimeRange(
        otio.opentime.RationalTime(3, rate), otio.opentime.RationalTime(5, rate)
    )
    edit = save([schema.Clip("plates", plates, shown)], tmp_path / "edit.otio")
    timeline = otio.adapters.read_from_file(str(edit))
    timeline.global_start_time = None
    otio.adapters.write_to_file(timeline, str(edit))
    more = ["--media-dir", str(tmp_path / "m"), "-o", str(tmp_path / "cuts"), "--format", "ffv1"]
    assert main([str(edit), *more, *words]) == 0
    (event,) = read_timeline(tmp_path / "cuts" / "edit.otio", lambda medium: None).events
    assert (event.track, event.frames, event.medium.rate) == (2, 5, Fraction(24000, 1001))
    pictures = decode(tmp_path / "cuts" / "plates.mkv", "rgb24")
    assert [read_index(one) for one in pictures] == [3, 4, 5, 6, 7]


def test_a_bundle_of_final_cut_pro(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "edit.fcpxmld"
    bundle.mkdir()
    more = ["-o", str(tmp_path / "cuts"), "--media-dir", str(media), "--model", "none.onnx"]
    assert main([str(bundle), *more]) == 1
    assert "Info.fcpxml: there is no such file" in capsys.readouterr().err
    (bundle / "Info.fcpxml").write_text(FCPXML)
    assert main([str(bundle), *more]) != 0  # no such model
    assert "8 events: 4 matched" in capsys.readouterr().err


def test_nothing_to_matte_is_an_error(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit = save([shot("A001", 0, 3, schema.FreezeFrame())], tmp_path / "e.otio")
    assert main([str(edit), "--media-dir", str(media), "-o", str(tmp_path / "cuts")]) == 1
    assert "nothing of it can be matted; see the report above" in capsys.readouterr().err

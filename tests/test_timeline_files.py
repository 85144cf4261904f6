"""Timelines written and read: the same frame numbers in every format, at every rate."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import opentimelineio as otio
import pytest
from fcpxml_rules import faults

from vidmatte.errors import SourceError, UsageError, VidmatteError
from vidmatte.timeline.files import SUFFIXES, read_timeline, write_timelines
from vidmatte.timeline.model import (
    Event,
    Marker,
    Medium,
    Timeline,
    exact_rate,
    path_of,
    url_of,
)

RATES = {
    "23.976": (Fraction(24000, 1001), False),
    "24": (Fraction(24), False),
    "25": (Fraction(25), False),
    "29.97 DF": (Fraction(30000, 1001), True),
    "29.97 NDF": (Fraction(30000, 1001), False),
    "59.94 DF": (Fraction(60000, 1001), True),
    "59.94 NDF": (Fraction(60000, 1001), False),
}


def make_timeline(rate: Fraction, drop: bool, *, tracks: int = 1) -> Timeline:
    """Twelve events a track, some with a gap before them, from media whose timecodes lie around
    full minutes, where drop frame skips numbers."""
    random = np.random.default_rng(round(float(rate) * 1000) + drop)
    events = []
    for track in range(1, tracks + 1):
        record = 0
        for number in range(12):
            minute = round(rate) * 60 - 2 * drop * round(rate) // 30
            medium = Medium(
                name=f"A{track:02}C{number:02} ü&.mov",
                rate=rate,
                path=f"/media/day 1/A{track:02}C{number:02} ü&.mov",
                start=minute * (60 + number) - int(random.integers(1, 90)),
                frames=1000,
                drop=drop,
                reel=f"A{track:02}C{number:02}",
                width=1920,
                height=1080,
            )
            start = medium.start + int(random.integers(0, 500))
            frames = int(random.integers(1, 400))
            record += int(random.integers(0, 2)) * int(random.integers(1, 50))
            markers = (Marker(start + frames // 2, "no subject"),) if number % 3 == 0 else ()
            events.append(
                Event(
                    medium.name, medium, start, frames, record, frames, track, markers=markers,
                    enabled=track != 3,
                )
            )  # fmt: skip
            record += frames
    return Timeline(
        "cut", rate, tuple(events), start=round(rate) * 3600, drop=drop, width=1920, height=1080
    )


def facts(timeline: Timeline) -> list[tuple[object, ...]]:
    """What has to be equal after a round trip."""
    head = (timeline.rate, timeline.start, timeline.drop)
    first = timeline.events[0].record
    return [
        (*head, one.name, one.medium.name, one.medium.path, one.medium.drop, one.start, one.frames,
         one.record - first, one.length, one.track, one.enabled, one.markers, one.flag)
        for one in timeline.events
    ]  # fmt: skip


def round_trip(timeline: Timeline, folder: Path, suffix: str) -> Timeline:
    path = folder / f"cut{suffix}"
    write_timelines(timeline, [path], overwrite=True)
    return read_timeline(path, lambda medium: timeline.rate)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", RATES)
def test_frame_numbers_survive_every_format(name: str, suffix: str, tmp_path: Path) -> None:
    timeline = make_timeline(*RATES[name], tracks=1 if suffix == ".edl" else 3)
    if suffix == ".edl":  # its first record frame is its first event's
        gone = timeline.events[0].record
        moved = [replace(one, record=one.record - gone) for one in timeline.events]
        timeline = replace(timeline, events=tuple(moved), start=timeline.start + gone)
    assert facts(round_trip(timeline, tmp_path, suffix)) == facts(timeline)


@pytest.mark.parametrize("name", RATES)
def test_frame_numbers_survive_one_format_after_the_other(name: str, tmp_path: Path) -> None:
    """Each format reads what each other one wrote."""
    timeline = make_timeline(*RATES[name])
    first = timeline.events[0].record
    moved = tuple(replace(one, record=one.record - first) for one in timeline.events)
    timeline = replace(timeline, events=moved)
    for order in (SUFFIXES, SUFFIXES[::-1], (".xml", ".edl", ".fcpxml", ".otio", ".xml")):
        passed = timeline
        for suffix in order:
            passed = round_trip(passed, tmp_path, suffix)
        assert facts(passed) == facts(timeline), order


@pytest.mark.parametrize("name", RATES)
def test_others_read_the_same_frame_numbers(name: str, tmp_path: Path) -> None:
    """OpenTimelineIO's own readers of its format, FCP7 XML and EDL."""
    rate, drop = RATES[name]
    timeline = make_timeline(rate, drop)
    for adapter, suffix in (("otio_json", ".otio"), ("fcp_xml", ".xml"), ("cmx_3600", ".edl")):
        path = tmp_path / f"cut{suffix}"
        write_timelines(timeline, [path], overwrite=True)
        more = {"rate": float(rate)} if suffix == ".edl" else {}
        read = otio.adapters.read_from_file(str(path), adapter, **more)
        clips = [one for one in read.video_tracks()[0] if isinstance(one, otio.schema.Clip)]
        ranges = [clip.source_range for clip in clips]
        assert [(one.start_time.value, one.duration.value) for one in ranges] == [
            (event.start, event.frames) for event in timeline.events
        ], adapter
        assert {exact_rate(float(one.duration.rate)) for one in ranges} == {rate}


def placed(parent: ET.Element, at: Fraction, start: Fraction) -> Iterator[tuple[Any, ...]]:
    """Lane, asset, source start, duration and record time in seconds of all clips in an element,
    which lies at a record time and begins at a time of its own."""
    for one in parent:
        if one.tag in ("asset-clip", "gap"):
            times = {
                key: Fraction(one.get(key, "0s")[:-1]) for key in ("offset", "start", "duration")
            }
            here = at + times["offset"] - start
            if one.tag == "asset-clip":
                yield (
                    int(one.get("lane", "0")),
                    one.get("ref"),
                    times["start"],
                    times["duration"],
                    here,
                )
            yield from placed(one, here, times["start"])


@pytest.mark.parametrize("name", RATES)
def test_fcpxml_places_all_events_exactly(name: str, tmp_path: Path) -> None:
    """By the document alone: OpenTimelineIO's reader of FCPXML knows only whole rates."""
    rate, drop = RATES[name]
    timeline = make_timeline(rate, drop, tracks=3)
    write_timelines(timeline, [tmp_path / "cut.fcpxml"], overwrite=False)
    root = ET.parse(tmp_path / "cut.fcpxml").getroot()
    names = {one.get("id"): one.get("name") for one in root.iter("asset")}
    (sequence,) = root.iter("sequence")
    (spine,) = sequence.iter("spine")
    found = sorted(
        (lane + 1, names[ref], start * rate, frames * rate, record * rate)
        for lane, ref, start, frames, record in placed(
            spine, Fraction(0), Fraction(sequence.get("tcStart", "")[:-1])
        )
    )
    assert found == sorted(
        (one.track, one.medium.name, one.start, one.frames, one.record) for one in timeline.events
    )


@pytest.mark.parametrize("name", RATES)
def test_fcpxml_keeps_the_rules_of_its_structure(name: str, tmp_path: Path) -> None:
    rate, drop = RATES[name]
    timeline = make_timeline(rate, drop, tracks=3)
    inside = tuple(
        replace(one, medium=replace(one.medium, frames=1000, channels=2, alpha="straight"))
        for one in timeline.events
    )
    path = tmp_path / "cut.fcpxml"
    write_timelines(replace(timeline, events=inside), [path], overwrite=False)
    text = path.read_text("utf-8")
    assert faults(text) == []
    counting = "DF" if drop else "NDF"
    assert text.count(f'tcFormat="{counting}"') == text.count("tcFormat=") == 1 + len(inside)
    # The rules do notice a clip beyond its asset, a time off the grid, a foreign element, and
    # drop frame that is not said.
    for pattern, wrong in (
        (r'(<asset [^>]*duration=)"[^"]*"', r'\1"0s"'),
        (r'(<asset-clip [^>]*duration=)"[^"]*"', r'\1"1/7919s"'),
        ("<spine>", "<spine><note/>"),
        (f'tcFormat="{counting}"', ""),
    ):
        assert faults(re.sub(pattern, wrong, text, count=1)), pattern


@pytest.mark.parametrize(
    ("value", "rate"),
    [
        (23.976, "24000/1001"), (23.98, "24000/1001"), (24000 / 1001, "24000/1001"), (24.0, "24"),
        (29.97, "30000/1001"), (59.94, "60000/1001"), (25.0, "25"), (12.5, "25/2"), ("30", "30"),
    ],
)  # fmt: skip
def test_rounded_rates_become_exact(value: float | str, rate: str) -> None:
    assert exact_rate(value) == Fraction(rate)


@pytest.mark.parametrize("value", [0.0, -24.0, float("nan"), float("inf"), 1e9])
def test_impossible_rates_are_refused(value: float) -> None:
    with pytest.raises(UsageError, match="frame rate"):
        exact_rate(value)


def test_paths_and_urls() -> None:
    assert path_of("file://localhost/a%20b/%C3%BC.mov") == "/a b/ü.mov"
    assert path_of("file:///C:/clips/a.mov") == "C:/clips/a.mov"
    assert path_of("file://server/share/a.mov") == "//server/share/a.mov"
    assert path_of("clips/a.mov") == "clips/a.mov"
    assert path_of("https://example.com/a.mov") is None
    assert path_of(url_of("/a b/100%/ü#?.mov")) == "/a b/100%/ü#?.mov"


def test_fcp7_refuses_a_rate_it_does_not_have(tmp_path: Path) -> None:
    timeline = make_timeline(Fraction(25, 2), False)
    with pytest.raises(UsageError, match=r"FCP7 XML has no rate of 25/2"):
        write_timelines(timeline, [tmp_path / "cut.xml"], overwrite=False)
    assert not list(tmp_path.glob("*cut*"))


BOMB = """<?xml version="1.0"?>
<!DOCTYPE {0} [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<{0} version="1.10"><name>&b;</name></{0}>"""
OUTSIDE = """<?xml version="1.0"?>
<!DOCTYPE {0} [<!ENTITY secret SYSTEM "{1}">]>
<{0} version="1.10"><name>&secret;</name></{0}>"""
PARAMETER = """<?xml version="1.0"?>
<!DOCTYPE {0} [<!ENTITY % more SYSTEM "{1}"> %more;]>
<{0} version="1.10"><name/></{0}>"""


@pytest.mark.parametrize(("suffix", "root"), [(".fcpxml", "fcpxml"), (".xml", "xmeml")])
@pytest.mark.parametrize("text", [BOMB, OUTSIDE, PARAMETER])
def test_xml_with_entities_is_refused(text: str, suffix: str, root: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    path = tmp_path / f"evil{suffix}"
    path.write_text(text.format(root, secret.as_uri()))
    with pytest.raises(SourceError, match="it declares XML entities") as caught:
        read_timeline(path, lambda medium: None)
    assert "hunter2" not in str(caught.value)


def test_xml_with_a_named_document_type_reads_nothing_from_outside(tmp_path: Path) -> None:
    """A document type that names a file, which declares the entity that the text uses."""
    declared = tmp_path / "evil.dtd"
    declared.write_text('<!ENTITY secret "hunter2">')
    path = tmp_path / "evil.xml"
    path.write_text(
        f'<!DOCTYPE xmeml SYSTEM "{declared.as_uri()}"><xmeml><sequence><name>&secret;</name>'
        "<rate><timebase>25</timebase></rate></sequence></xmeml>"
    )
    assert read_timeline(path, lambda medium: None).name == "evil"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0\xff\xfe", b"<fcpxml", b"<xmeml/>", b"<fcpxml/>", b"{}", b"[1]", b"<x>" * 5000,
        b'<fcpxml><resources><format id="r1" frameDuration="0s"/></resources><project>'
        b'<sequence format="r1"><spine/></sequence></project></fcpxml>',
        b'<fcpxml><resources><format id="r1" frameDuration="1/25s"/></resources><project>'
        b'<sequence format="r1"><spine><gap duration="1"/></spine></sequence></project></fcpxml>',
        b"<xmeml><sequence><rate><timebase>25</timebase></rate><media><video><track><clipitem>"
        b"<start>-1</start></clipitem></track></video></media></sequence></xmeml>",
        b"<xmeml><sequence><rate><timebase>1e9</timebase></rate></sequence></xmeml>",
        b'{"OTIO_SCHEMA":"Clip.1","name":"x"}', b"[" * 100_000 + b"]" * 100_000,
        b'{"OTIO_SCHEMA":"Timeline.1","tracks":{"OTIO_SCHEMA":"Stack.1","children":[{"OTIO_SCHEMA":'
        b'"Track.1","kind":"Video","children":[{"OTIO_SCHEMA":"Clip.1","name":"no range"}]}]}}',
        b'{"OTIO_SCHEMA":"Timeline.1","global_start_time":{"OTIO_SCHEMA":"RationalTime.1","rate":25,'
        b'"value":Infinity}}',
        b"<xmeml><sequence><rate><timebase>%s</timebase></rate></sequence></xmeml>" % (b"9" * 5000),
        b"<xmeml><sequence><rate><timebase>25</timebase></rate><timecode><frame>1e999999999</frame>"
        b"</timecode><media><video><track><clipitem><start>1e99999999</start></clipitem></track>"
        b"</video></media></sequence></xmeml>",
        b"001 A V D " + b"9" * 5000 + b" 00:00:00:00 00:00:01:00 00:00:00:00 00:00:01:00",
        b"001  A V C 25:61:00:00 00:00:01:00 00:00:00:00 00:00:01:00",
        b"001  A V C 00:00:00:00 00:00:01:00 00:00:02:00 00:00:01:00",
    ],
)  # fmt: skip
def test_broken_files_cost_one_line(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(VidmatteError) as caught:
        read_timeline(path, lambda medium: Fraction(25))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_without_opentimelineio_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentimelineio", None)
    timeline = make_timeline(*RATES["25"])
    with pytest.raises(UsageError, match=r"pip install 'vidmatte\[timeline\]'"):
        write_timelines(timeline, [tmp_path / "cut.otio"], overwrite=False)
    for suffix in (".fcpxml", ".xml", ".edl"):  # need nothing
        write_timelines(timeline, [tmp_path / f"cut{suffix}"], overwrite=False)

"""FCPXML 1.10, written: what Final Cut Pro and DaVinci Resolve import.

Times are rational seconds on the frame grid; the structure follows Apple's document type
definition, https://developer.apple.com/documentation/professional-video-applications/fcpxml-reference.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from fractions import Fraction

from vidmatte.timeline.model import Event, Medium, Timeline, base_name, shown, url_of
from vidmatte.timeline.xml_text import add, document

_VERSION = "1.10"


def write_fcpxml(timeline: Timeline) -> bytes:
    """The timeline as a project in an event.

    Track 1 is the primary storyline; events of higher tracks are connected to the one below them.
    """
    root = ET.Element("fcpxml", version=_VERSION)
    resources = _Resources(add(root, "resources"))
    form = resources.format(timeline.rate, timeline.width, timeline.height)
    project = add(add(root, "event", name="vidmatte"), "project", name=shown(timeline.name))
    sequence = add(
        project,
        "sequence",
        format=form,
        duration=_time_text(timeline.length, timeline.rate),
        tcStart=_time_text(timeline.start, timeline.rate),
        tcFormat=_counting(timeline.drop),
    )
    _Storyline(timeline, resources, add(sequence, "spine")).write()
    return document(root, "fcpxml")


def _time_text(frames: int, rate: Fraction) -> str:
    """The time of a frame number, as ``1001/24000s``: its denominator is the rate's numerator."""
    seconds = frames * rate.denominator, rate.numerator
    if seconds[0] % seconds[1] == 0:
        return f"{seconds[0] // seconds[1]}s"
    return f"{seconds[0]}/{seconds[1]}s"


def _counting(drop: bool) -> str:
    return "DF" if drop else "NDF"


class _Resources:
    """The formats and assets of a document, each once."""

    def __init__(self, element: ET.Element) -> None:
        self._element = element
        self._formats: dict[tuple[Fraction, int, int], str] = {}
        self._assets: dict[Medium, str] = {}

    def _new_id(self) -> str:
        return f"r{len(self._formats) + len(self._assets) + 1}"

    def format(self, rate: Fraction, width: int, height: int) -> str:
        """The id of the format with this rate and size (0: not stated)."""
        key = rate, width, height
        if key not in self._formats:
            size = {"width": str(width), "height": str(height)} if width and height else {}
            name = self._new_id()
            add(self._element, "format", id=name, frameDuration=_time_text(1, rate), **size)
            self._formats[key] = name
        return self._formats[key]

    def asset(self, medium: Medium) -> str:
        """The id of a medium's asset, which begins at the medium's timecode."""
        if medium not in self._assets:
            form = self.format(medium.rate, medium.width, medium.height)
            name = self._new_id()
            sound = {
                "hasAudio": "1",
                "audioSources": "1",
                "audioChannels": str(medium.channels),
                "audioRate": str(medium.sample_rate),
            }
            asset = add(
                self._element,
                "asset",
                id=name,
                name=shown(medium.name),
                start=_time_text(medium.start, medium.rate),
                duration=_time_text(medium.frames or 0, medium.rate),
                hasVideo="1",
                videoSources="1",
                format=form,
                **(sound if medium.channels else {}),
            )
            path = medium.path or medium.name
            add(
                asset,
                "media-rep",
                kind="original-media",
                src=url_of(path),
                suggestedFilename=shown(base_name(path)),
            )
            self._assets[medium] = name
        return self._assets[medium]


class _Storyline:
    """The primary storyline of a timeline, filled up with gaps, and what is connected to it."""

    def __init__(self, timeline: Timeline, resources: _Resources, spine: ET.Element) -> None:
        self._timeline, self._resources, self._spine = timeline, resources, spine

    def write(self) -> None:
        tracks = dict(self._timeline.tracks())
        connected = [event for number, on_it in tracks.items() if number > 1 for event in on_it]
        now = 0
        for event in tracks.get(1, []):
            self._gap(now, event.record, connected)
            self._clip(self._spine, event, self._offset(event.record), 0, connected)
            now = event.end
        self._gap(now, self._timeline.length, connected)

    def _offset(self, record: int) -> str:
        """A record frame as a time of the sequence, which begins at its timecode."""
        return _time_text(self._timeline.start + record, self._timeline.rate)

    def _gap(self, first: int, end: int, connected: list[Event]) -> None:
        if end <= first:
            return
        rate = self._timeline.rate
        gap = add(
            self._spine,
            "gap",
            name="Gap",
            offset=self._offset(first),
            start="0s",
            duration=_time_text(end - first, rate),
        )
        for event in connected:
            if first <= event.record < end:
                self._clip(gap, event, _time_text(event.record - first, rate), event.track - 1, [])

    def _clip(
        self, parent: ET.Element, event: Event, offset: str, lane: int, connected: list[Event]
    ) -> None:
        """offset: in the time of the parent: of the sequence, or of the clip it is connected to."""
        medium, rate = event.medium, self._timeline.rate
        placing = {"lane": str(lane)} if lane else {}
        clip = add(
            parent,
            "asset-clip",
            ref=self._resources.asset(medium),
            name=shown(event.name),
            **placing,
            offset=offset,
            start=_time_text(event.start, medium.rate),
            duration=_time_text(event.length, rate),
            format=self._resources.format(medium.rate, medium.width, medium.height),
            tcFormat=_counting(medium.drop),
            enabled=str(int(event.enabled)),
            **({"srcEnable": "video"} if medium.channels and not event.channels else {}),
        )
        for other in connected:
            if event.record <= other.record < event.end:
                local = Fraction(event.start) / medium.rate + (other.record - event.record) / rate
                self._clip(clip, other, _seconds_text(local, rate), other.track - 1, [])
        for marker in event.markers:
            add(
                clip,
                "marker",
                start=_time_text(marker.frame, medium.rate),
                duration=_time_text(1, medium.rate),
                value=shown(marker.text),
            )


def _seconds_text(seconds: Fraction, rate: Fraction) -> str:
    """A time as a multiple of the rate's frames where it is one."""
    frames = seconds * rate
    if frames.denominator == 1:
        return _time_text(int(frames), rate)
    return f"{seconds.numerator}/{seconds.denominator}s"

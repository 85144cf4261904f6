"""FCPXML, read: the events of its project, with what is no plain range of a medium flagged."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from vidmatte.errors import SourceError, UsageError
from vidmatte.timeline.model import (
    Event,
    Marker,
    Medium,
    Timeline,
    exact_rate,
    in_order,
    nearest,
    path_of,
    source_frames,
    whole,
)
from vidmatte.timeline.xml_text import parse

_TIME = re.compile(r"(-?\d{1,19})(?:/(\d{1,19}))?s")
_NESTED = {
    "ref-clip": "a compound clip",
    "sync-clip": "a synchronized clip",
    "mc-clip": "a multicam clip",
    "audition": "an audition",
}
#: Elements of a storyline, or connected to one of its clips, that show pictures.
_SHOWN = {"asset-clip", "clip", "video", "gap", "spine", *_NESTED}


def read_fcpxml(path: Path) -> Timeline:
    """The only project of a file. Raises SourceError, UsageError."""
    root = parse(path)
    if root.tag != "fcpxml":
        raise SourceError(f"{path}: its root is <{root.tag}>, not <fcpxml>")
    projects = root.findall(".//project")
    if len(projects) != 1:
        raise SourceError(f"{path}: it holds {len(projects)} projects: export the one you want")
    sequence = projects[0].find("sequence")
    spine = None if sequence is None else sequence.find("spine")
    if sequence is None or spine is None:
        raise SourceError(f"{path}: its project has no <sequence> with a <spine>")
    resources = {item.get("id", ""): item for item in root.findall("resources/*")}
    reader = _Reader(resources, sequence)
    start = reader.start
    reader.storyline(spine, Fraction(start) / reader.rate, 1)
    return Timeline(
        name=projects[0].get("name", path.stem),
        rate=reader.rate,
        events=in_order(reader.events),
        start=start,
        drop=sequence.get("tcFormat") == "DF",
        width=reader.size[0],
        height=reader.size[1],
        notes=tuple(reader.notes),
    )


def _seconds(text: str | None, otherwise: Fraction = Fraction(0)) -> Fraction:
    """A time attribute in seconds. Raises UsageError."""
    if text is None:
        return otherwise
    match = _TIME.fullmatch(text.strip())
    if match is None or not int(match[2] or 1):
        raise UsageError(f"'{text}' is not a time of FCPXML, like 1001/24000s")
    return Fraction(int(match[1]), int(match[2] or 1))


class _Reader:
    """Collects the events of a sequence. ``start``: its first frame by its timecode."""

    def __init__(self, resources: dict[str, ET.Element], sequence: ET.Element) -> None:
        self._resources = resources
        self.events: list[Event] = []
        self.notes: list[str] = []
        rate, self.size = self._format(sequence.get("format"))
        if rate is None:
            raise UsageError("the sequence's format states no frameDuration")
        self.rate = rate
        self.start = nearest(_seconds(sequence.get("tcStart")) * rate)

    def _format(self, name: str | None) -> tuple[Fraction | None, tuple[int, int]]:
        """Rate and size of a format by its id."""
        element = self._resources.get(name or "")
        if element is None:
            return None, (0, 0)
        duration = _seconds(element.get("frameDuration"))
        width, height = (max(0, whole(element.get(side))) for side in ("width", "height"))
        return (exact_rate(1 / duration) if duration > 0 else None), (width, height)

    def _medium(self, name: str, counting: str | None) -> Medium | None:
        """The medium of an asset by its id; None where there is none."""
        asset = self._resources.get(name)
        if asset is None or asset.tag != "asset":
            return None
        rate, size = self._format(asset.get("format"))
        rate = rate or self.rate
        file = asset.find("media-rep")
        url = asset.get("src") if file is None else file.get("src")  # before 1.9
        frames = nearest(_seconds(asset.get("duration")) * rate)
        reel = asset.find("metadata/md[@key='com.apple.proapps.studio.reel']")
        return Medium(
            name=asset.get("name", name),
            rate=rate,
            path=path_of(url),
            start=nearest(_seconds(asset.get("start")) * rate),
            frames=frames or None,
            drop=counting == "DF",
            reel=None if reel is None else reel.get("value"),
            width=size[0],
            height=size[1],
            channels=whole(asset.get("audioChannels")) if asset.get("hasAudio") == "1" else 0,
        )

    def storyline(self, spine: ET.Element, origin: Fraction, track: int) -> None:
        """Collect a storyline's events. origin: the sequence's time at its own zero, plus its start
        (seconds); elements without an offset follow one another."""
        last: tuple[int, int] | None = None  # where its events stand in the list, while it is one
        pending: tuple[Fraction, Fraction] | None = None
        now = origin
        for element in spine:
            offset = _seconds(element.get("offset"), now)
            duration = _seconds(element.get("duration"))
            if element.tag == "transition":
                pending = offset, offset + duration
                if last is not None:
                    self._extend(last, tail=offset + duration - now)
                continue
            first = len(self.events)
            if element.tag in _SHOWN:
                duration = self._element(element, offset, track)
            elif element.tag == "title":
                self._connected(element, offset, track)
                self.notes.append(f"title '{element.get('name', '')}' is not matted")
            last = (first, len(self.events))
            if pending is not None:
                self._extend(last, head=offset - pending[0])
                pending = None
            now = offset + duration

    def _extend(
        self, where: tuple[int, int], head: Fraction = Fraction(0), tail: Fraction = Fraction(0)
    ) -> None:
        """Add a transition's seconds to the event of the storyline itself, the first of a range."""
        if where[0] == where[1]:
            return
        event = self.events[where[0]]
        rate = event.medium.rate
        more, later = nearest(max(head, Fraction(0)) * rate), nearest(max(tail, Fraction(0)) * rate)
        self.events[where[0]] = replace(event, head=event.head + more, tail=event.tail + later)

    def _element(self, element: ET.Element, offset: Fraction, track: int) -> Fraction:
        """Collect one element at a time of the sequence, then what is connected to it; return its
        duration."""
        if element.tag == "spine":  # a connected storyline
            self.storyline(element, offset, track)
            return Fraction(0)
        duration = _seconds(element.get("duration"))
        if element.tag == "gap":
            self._connected(element, offset, track)
            return duration
        medium, start, flag = self._source(element)
        rate = medium.rate
        if element.get("duration") is None:
            duration = Fraction(medium.frames or 0) / rate
        length = nearest(duration * self.rate)
        record = nearest(offset * self.rate - self.start)
        first = nearest(start * rate)
        self.events.append(
            Event(
                name=element.get("name", medium.name),
                medium=medium,
                start=first,
                frames=source_frames(length, self.rate, rate),
                record=record,
                length=length,
                track=track,
                enabled=element.get("enabled", "1") == "1",
                markers=tuple(
                    Marker(nearest(_seconds(one.get("start")) * rate), one.get("value", ""))
                    for one in element.findall("marker")
                ),
                flag=flag or _retime(element),
                channels=0 if element.get("srcEnable") == "video" else medium.channels,
            )
        )
        self._connected(element, offset, track)
        return duration

    def _source(self, element: ET.Element) -> tuple[Medium, Fraction, str]:
        """The medium that an element shows, the time of its first frame, and a flag."""
        name = element.get("name", "")
        start = element.get("start")
        holder, shift = element, Fraction(0)
        if element.tag == "clip":
            videos = [child for child in element if child.tag == "video"]
            if len(videos) == 1 and not element.findall("spine"):
                holder = videos[0]
                shift = _seconds(holder.get("start")) - _seconds(holder.get("offset"))
        medium = self._medium(holder.get("ref", ""), element.get("tcFormat"))
        if element.tag in _NESTED or medium is None:
            what = _NESTED.get(element.tag, f"a <{element.tag}> without a medium of its own")
            return Medium(name, self.rate), _seconds(start), f"{what} is nested in it"
        begin = Fraction(medium.start) / medium.rate
        return medium, _seconds(start, begin - shift) + shift, ""

    def _connected(self, element: ET.Element, offset: Fraction, track: int) -> None:
        """Collect what is connected to an element, whose offsets are in the element's own time."""
        local = _seconds(element.get("start"))
        if element.get("start") is None and element.tag == "asset-clip":
            medium = self._medium(element.get("ref", ""), None)
            local = Fraction(medium.start) / medium.rate if medium else local
        for child in element:
            lane = child.get("lane", "0")
            if child.tag in _SHOWN and re.fullmatch(r"-?\d{1,4}", lane) and int(lane):
                at = offset + _seconds(child.get("offset"), local) - local
                self._element(child, at, track + int(lane))


def _retime(element: ET.Element) -> str:
    """A flag for a change of speed, '' for normal speed."""
    conform = element.find("conform-rate")
    if conform is not None and conform.get("scaleEnabled", "1") == "1":
        source = conform.get("srcFrameRate")
        if source is not None:
            return f"its rate, {source}, is conformed to the sequence's, which changes its speed"
    points = [
        (_seconds(point.get("time")), _seconds(point.get("value")))
        for point in element.findall("timeMap/timept")
    ]
    speeds = {
        (after[1] - before[1]) / (after[0] - before[0])
        for before, after in pairwise(points)
        if after[0] != before[0]
    }
    if speeds <= {Fraction(1)}:
        return ""
    if len(speeds) > 1:
        return "its speed varies"
    speed = speeds.pop()
    return "a freeze frame" if speed == 0 else f"speed {float(100 * speed):g} %"

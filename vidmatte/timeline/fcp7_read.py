"""FCP7 XML, read: the events of its sequence, with what is no plain range of a medium flagged."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from fractions import Fraction
from pathlib import Path

from vidmatte.core.timecode import is_drop, is_timecode, number_of
from vidmatte.errors import SourceError, UsageError
from vidmatte.timeline.model import (
    Event,
    Marker,
    Medium,
    Timeline,
    in_order,
    nearest,
    path_of,
    source_frames,
    whole,
)
from vidmatte.timeline.xml_text import parse


def read_fcp7(path: Path) -> Timeline:
    """The only sequence of a file that no other contains. Raises SourceError, UsageError."""
    root = parse(path)
    if root.tag != "xmeml":
        raise SourceError(f"{path}: its root is <{root.tag}>, not <xmeml>")
    sequences = root.findall("sequence") + root.findall(".//children/sequence")
    if len(sequences) != 1:
        raise SourceError(f"{path}: it holds {len(sequences)} sequences: export the one you want")
    return _Reader(root, sequences[0]).timeline(path.stem)


def _text(element: ET.Element | None, tag: str, otherwise: str = "") -> str:
    return otherwise if element is None else (element.findtext(tag) or otherwise).strip()


def _number(element: ET.Element, tag: str, otherwise: int) -> int:
    """A whole number in a child. Raises UsageError."""
    text = _text(element, tag)
    if not text:
        return otherwise
    if not re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,12})?", text):
        raise UsageError(f"<{tag}> is '{text[:40]}': expected a frame number")
    return int(Fraction(text))


def _rate(element: ET.Element | None, otherwise: Fraction | None = None) -> Fraction:
    """The rate in a child <rate>. Raises UsageError where there is none to fall back on."""
    base = _text(element, "rate/timebase")
    if not base:
        if otherwise is None:
            raise UsageError("the sequence states no rate")
        return otherwise
    rate = Fraction(whole(base))
    if not 1 <= rate <= 1000:
        raise UsageError(f"<timebase> is '{base[:40]}': expected 1 to 1000 frames per second")
    return rate * 1000 / 1001 if _text(element, "rate/ntsc").upper() == "TRUE" else rate


def _start(element: ET.Element | None, rate: Fraction) -> tuple[int, bool]:
    """The frame number of a <timecode>, and whether it counts in drop frame."""
    if element is None:
        return 0, False
    text = _text(element, "string")
    stated = _text(element, "displayformat")
    drop = stated == "DF" if stated else is_drop(text)
    own = _rate(element, rate)
    if frame := _text(element, "frame"):
        number = nearest(whole(frame))
    elif is_timecode(text):
        number = number_of(text[:8] + (";" if drop else ":") + text[9:], own)
    else:
        number = 0
    return nearest(number * rate / own), drop


class _Reader:
    """The events of one sequence."""

    def __init__(self, root: ET.Element, sequence: ET.Element) -> None:
        self._sequence = sequence
        # A file is described where it first appears; later ones have its id alone.
        self._files = {
            file.get("id", ""): file for file in reversed(root.findall(".//file")) if len(file)
        }
        self._media: dict[int, Medium] = {}
        self.rate = _rate(sequence)

    def timeline(self, name: str) -> Timeline:
        """The sequence as a timeline; name: where it has none of its own."""
        start, drop = _start(self._sequence.find("timecode"), self.rate)
        video = self._sequence.find("media/video")
        size = None if video is None else video.find("format/samplecharacteristics")
        events: list[Event] = []
        notes: list[str] = []
        for number, track in enumerate([] if video is None else video.findall("track"), 1):
            is_on = _text(track, "enabled", "TRUE").upper() == "TRUE"
            items = [item for item in track if item.tag in ("clipitem", "transitionitem")]
            notes += [
                f"generator '{_text(item, 'name')}' is not matted"
                for item in track.findall("generatoritem")
            ]
            for place, item in enumerate(items):
                if item.tag == "clipitem":
                    before = items[place - 1] if place else None
                    after = items[place + 1] if place + 1 < len(items) else None
                    events.append(self._event(item, before, after, number, is_on))
        return Timeline(
            name=_text(self._sequence, "name", name),
            rate=self.rate,
            events=in_order(events),
            start=start,
            drop=drop,
            width=0 if size is None else _number(size, "width", 0),
            height=0 if size is None else _number(size, "height", 0),
            notes=tuple(notes),
        )

    def _event(
        self,
        item: ET.Element,
        before: ET.Element | None,
        after: ET.Element | None,
        track: int,
        is_on: bool,
    ) -> Event:
        medium = self._medium(item)
        rate = _rate(item, medium.rate)
        record, end = _number(item, "start", -1), _number(item, "end", -1)
        first, out = _number(item, "in", 0), _number(item, "out", 0)
        head = tail = 0
        # -1: a transition covers that end; the item's in and out include its frames.
        if record < 0:
            cut, begin, _ = _transition(before)
            record, head = cut, cut - begin
            first += source_frames(head, self.rate, rate)
        if end < 0:
            cut, _, over = _transition(after)
            end, tail = cut, over - cut
            out -= source_frames(tail, self.rate, rate)
        length = nearest(end - record)
        flag = self._flag(item)
        if not flag and abs(out - first - source_frames(length, self.rate, rate)) > 1:
            flag = f"{out - first} source frames last {length} frames: its speed is changed"
        first, rate = nearest(first * medium.rate / rate), medium.rate
        return Event(
            name=_text(item, "name", medium.name),
            medium=medium,
            start=medium.start + first,
            frames=source_frames(length, self.rate, rate),
            record=nearest(record),
            length=length,
            track=track,
            enabled=is_on and _text(item, "enabled", "TRUE").upper() == "TRUE",
            markers=tuple(
                Marker(medium.start + _number(one, "in", 0), _text(one, "name"))
                for one in item.findall("marker")
            ),
            head=source_frames(head, self.rate, rate),
            tail=source_frames(tail, self.rate, rate),
            flag=flag,
        )

    def _flag(self, item: ET.Element) -> str:
        """Why an item is no plain range of a medium."""
        if item.find("sequence") is not None:
            return "a sequence is nested in it"
        if item.find("file") is None:
            return "a clip without a file is nested in it"
        if _text(item, "stillframe").upper() == "TRUE":
            return "a freeze frame"
        for effect in item.findall("filter/effect"):
            if _text(effect, "effectid") == "timeremap":
                values = {
                    _text(one, "parameterid"): _text(one, "value")
                    for one in effect.findall("parameter")
                }
                if values.get("variablespeed", "0") not in ("0", "FALSE"):
                    return "its speed varies"
                if values.get("reverse", "").upper() == "TRUE":
                    return "it plays backwards"
                speed = values.get("speed", "100")
                if re.fullmatch(r"0+(\.0*)?", speed):
                    return "a freeze frame"
                if not re.fullmatch(r"100(\.0*)?", speed):
                    return f"speed {speed} %"
        return ""

    def _medium(self, item: ET.Element) -> Medium:
        reference = item.find("file")
        if reference is None:
            return Medium(_text(item, "name"), _rate(item, self.rate))
        file = self._files.get(reference.get("id", ""), reference)
        if id(file) not in self._media:
            rate = _rate(file, _rate(item, self.rate))
            start, drop = _start(file.find("timecode"), rate)
            video = file.find("media/video/samplecharacteristics")
            path = path_of(_text(file, "pathurl") or None)
            self._media[id(file)] = Medium(
                name=_text(file, "name", _text(item, "name")),
                rate=rate,
                path=path,
                start=start,
                frames=_number(file, "duration", 0) or None,
                drop=drop,
                reel=_text(file, "timecode/reel/name") or None,
                width=0 if video is None else _number(video, "width", 0),
                height=0 if video is None else _number(video, "height", 0),
                channels=_number(file, "media/audio/channelcount", 0),
            )
        return self._media[id(file)]


def _transition(item: ET.Element | None) -> tuple[int, int, int]:
    """Cut, start and end of a transition in record frames. Raises UsageError."""
    if item is None or item.tag != "transitionitem":
        raise UsageError("a clip's start or end is -1, and no transition is beside it")
    start, end = _number(item, "start", 0), _number(item, "end", 0)
    alignment = _text(item, "alignment", "center")
    cut = {"start": start, "start-black": start, "end": end, "end-black": end}.get(alignment)
    return (start + end) // 2 if cut is None else cut, start, end

"""FCP7 XML (xmeml 5), written: what Premiere Pro and DaVinci Resolve import.

Structure: Apple's "Final Cut Pro XML Interchange Format",
https://developer.apple.com/library/archive/documentation/AppleApplications/Reference/FinalCutPro_XML/.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from fractions import Fraction

from vidmatte.core.timecode import timecode_of
from vidmatte.errors import UsageError
from vidmatte.timeline.model import Event, Medium, Timeline, shown, url_of
from vidmatte.timeline.xml_text import add, document


def write_fcp7(timeline: Timeline) -> bytes:
    """The timeline as a sequence. Raises UsageError for a rate that the format does not have."""
    root = ET.Element("xmeml", version="5")
    sequence = add(root, "sequence", id="sequence-1")
    add(sequence, "name", shown(timeline.name))
    add(sequence, "duration", timeline.length)
    _rate(sequence, timeline.rate)
    _timecode(sequence, timeline.start, timeline.rate, timeline.drop)
    media = add(sequence, "media")
    video = add(media, "video")
    _samples(add(video, "format"), timeline.rate, timeline.width, timeline.height)
    clips = _Clips(timeline)
    for _, on_it in timeline.tracks():
        track = add(video, "track")
        for event in on_it:
            clips.picture(track, event)
        add(track, "enabled", _truth(True))
    audio = add(media, "audio")
    for channel in range(max((event.channels for event in timeline.events), default=0)):
        track = add(audio, "track")
        for event in timeline.events:
            if event.channels > channel:
                clips.sound(track, event, channel + 1)
    return document(root, "xmeml")


def _truth(value: bool) -> str:
    return "TRUE" if value else "FALSE"


def _rate(parent: ET.Element, rate: Fraction) -> None:
    """A <rate>: whole frames per second, and whether they are slowed to 1000/1001."""
    base, ntsc = round(rate), rate.denominator == 1001
    if rate not in (base, Fraction(base * 1000, 1001)):
        raise UsageError(
            f"FCP7 XML has no rate of {rate} frames a second: write .fcpxml or .otio instead"
        )
    element = add(parent, "rate")
    add(element, "timebase", base)
    add(element, "ntsc", _truth(ntsc))


def _timecode(parent: ET.Element, start: int, rate: Fraction, drop: bool, reel: str = "") -> None:
    element = add(parent, "timecode")
    _rate(element, rate)
    add(element, "string", timecode_of(start, rate, drop=drop))
    add(element, "frame", start)
    add(element, "displayformat", "DF" if drop else "NDF")
    if reel:
        add(add(element, "reel"), "name", shown(reel))


def _samples(parent: ET.Element, rate: Fraction, width: int, height: int) -> None:
    element = add(parent, "samplecharacteristics")
    _rate(element, rate)
    if width and height:
        add(element, "width", width)
        add(element, "height", height)
        add(element, "pixelaspectratio", "square")
        add(element, "fielddominance", "none")


class _Clips:
    """The clip items of a sequence; each medium is described in full once."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._files: dict[Medium, str] = {}
        self._count = 0

    def picture(self, track: ET.Element, event: Event) -> None:
        """Add a clip item with an event's pictures."""
        item = self._item(track, event)
        if event.medium.alpha:
            black = event.medium.alpha == "premultiplied"
            add(item, "alphatype", "black" if black else "straight")
        self._file(item, event.medium)
        source = add(item, "sourcetrack")
        add(source, "mediatype", "video")
        for marker in event.markers:
            element = add(item, "marker")
            add(element, "name", shown(marker.text))
            add(element, "comment", shown(marker.text))
            add(element, "in", marker.frame - event.medium.start)
            add(element, "out", -1)

    def sound(self, track: ET.Element, event: Event, channel: int) -> None:
        """Add a clip item with one channel of an event's sound."""
        item = self._item(track, event)
        self._file(item, event.medium)
        source = add(item, "sourcetrack")
        add(source, "mediatype", "audio")
        add(source, "trackindex", channel)

    def _item(self, track: ET.Element, event: Event) -> ET.Element:
        self._count += 1
        medium = event.medium
        item = add(track, "clipitem", id=f"clipitem-{self._count}")
        add(item, "name", shown(event.name))
        add(item, "enabled", _truth(event.enabled))
        add(item, "duration", medium.frames or event.frames)
        _rate(item, medium.rate)
        add(item, "start", event.record)
        add(item, "end", event.end)
        first = event.start - medium.start
        add(item, "in", first)
        add(item, "out", first + event.frames)
        return item

    def _file(self, item: ET.Element, medium: Medium) -> None:
        known = medium in self._files
        name = self._files.setdefault(medium, f"file-{len(self._files) + 1}")
        file = add(item, "file", id=name)
        if known:
            return
        add(file, "name", shown(medium.name))
        add(file, "pathurl", url_of(medium.path or medium.name).replace("//", "//localhost", 1))
        _rate(file, medium.rate)
        if medium.frames:
            add(file, "duration", medium.frames)
        _timecode(file, medium.start, medium.rate, medium.drop, medium.reel or "")
        media = add(file, "media")
        _samples(add(media, "video"), medium.rate, medium.width, medium.height)
        if medium.channels:
            audio = add(media, "audio")
            samples = add(audio, "samplecharacteristics")
            add(samples, "depth", 16)
            add(samples, "samplerate", medium.sample_rate)
            add(audio, "channelcount", medium.channels)

"""CMX 3600 edit decision lists: one track of events with timecodes and reels of 8 characters.

An EDL states no frame rate, and its names are cut: the reader asks for the rate of an event's
medium and takes the timeline's from most of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from vidmatte.core.timecode import is_drop, is_timecode, timecode_of, to_frames
from vidmatte.errors import SourceError, UsageError
from vidmatte.timeline.model import (
    MOST_FRAMES,
    Event,
    Marker,
    Medium,
    Timeline,
    base_name,
    path_of,
    shown,
    source_frames,
)

#: The longest reel of the format.
_REEL_LENGTH = 8
_MOST_BYTES = 64 << 20
_EVENT = re.compile(
    r"(?P<number>\d{1,8})\s+(?P<reel>\S+)\s+(?P<channel>\S+)\s+(?P<kind>C|D|W\d+|K[BO]?)"
    r"(?:\s+(?P<frames>\d{1,8})(?:\s*\(F\))?)?"
    r"\s+(?P<source>\S+)\s+(?P<source_end>\S+)\s+(?P<record>\S+)\s+(?P<record_end>\S+)"
)
_SPEED = re.compile(r"M2\s+(?:\S+\s+)?(-?\d{1,8}(?:\.\d{1,8})?)\s+[0-9:;.]{11,13}$")


def reel_name(text: str) -> str:
    """A reel as an EDL writes it: 8 characters, letters and digits."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)[:_REEL_LENGTH] or "AX"


def write_edl(timeline: Timeline) -> bytes:
    """The events of the highest track that is not disabled, as the format has one track; CRLF.

    The full file name, the path and the markers (with their record timecodes) are in comments.
    Raises UsageError for a rate without timecode.
    """
    tracks = [on_it for _, on_it in timeline.tracks() if any(event.enabled for event in on_it)] or [
        []
    ]
    lines = [
        f"TITLE: {_line(timeline.name)[:70]}",
        f"FCM: {'DROP FRAME' if timeline.drop else 'NON-DROP FRAME'}",
        "",
    ]
    for number, event in enumerate(tracks[-1], 1):
        medium = event.medium
        times = [
            *(timecode_of(frame, medium.rate, drop=medium.drop)
              for frame in (event.start, event.start + event.frames)),
            *(timecode_of(timeline.start + frame, timeline.rate, drop=timeline.drop)
              for frame in (event.record, event.end)),
        ]  # fmt: skip
        reel = medium.reel or Path(medium.name).stem
        lines += [
            f"{number:03}  {reel_name(reel):8} V     C        {' '.join(times)}",
            f"* FROM CLIP NAME: {_line(event.name)}",
        ]
        if medium.path:
            lines.append(f"* SOURCE FILE: {_line(medium.path)}")
        for marker in event.markers:
            record = event.record + (marker.frame - event.start) * timeline.rate / medium.rate
            at = timecode_of(timeline.start + int(record), timeline.rate, drop=timeline.drop)
            lines.append(f"* LOC: {at} RED     {_line(marker.text)}")
    return "\r\n".join([*lines, ""]).encode()


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", shown(text))


@dataclass
class _Line:
    """An event as it stands in the file, and what its comments add."""

    reel: str
    kind: str
    frames: int
    source: tuple[str, str]
    record: tuple[str, str]
    drop: bool
    from_clip: str = ""
    to_clip: str = ""
    file: str = ""
    speed: Fraction | None = None
    is_freeze: bool = False
    markers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def clip(self) -> str:
        """The name of the clip that the line itself shows."""
        return self.to_clip if self.kind != "C" else self.from_clip or self.to_clip


def read_edl(path: Path, rate_of: Callable[[Medium], Fraction | None]) -> Timeline:
    """The picture events of a file, in their order.

    rate_of: the rate of a medium by its names; a medium whose rate is not found has that of most
    others. Raises SourceError, and UsageError where no medium's rate is found.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise SourceError(f"{path}: more than {_MOST_BYTES >> 20} MB is no edit decision list")
    title, lines, notes = _parse(path)
    media = [_medium(line) for line in lines]
    rates = [rate_of(medium) for medium in media]
    found = Counter(rate for rate in rates if rate is not None)
    if not found:
        raise UsageError(
            f"{path.name}: an EDL states no frame rate and none of its media is found: name their"
            " folder with --media-dir, or the rate with --fps"
        )
    main = found.most_common(1)[0][0]
    drop = bool(lines) and lines[0].drop
    first = min(_frames(line.record[0], main, line.drop) for line in lines)
    events: list[Event] = []
    for line, medium, rate in zip(lines, media, rates, strict=True):
        counts_drop = line.drop or is_drop(line.source[0])
        event = _event(line, replace(medium, rate=rate or main, drop=counts_drop), main, first)
        if line.kind != "C" and events and events[-1].end >= event.record:
            # The clip before it goes on for the frames of the dissolve or wipe.
            shown_for = source_frames(line.frames, main, events[-1].medium.rate)
            events[-1] = replace(events[-1], tail=max(events[-1].tail, shown_for))
        is_black = line.reel.upper() in ("BL", "BLACK")
        if not is_black and not (events and _continues(event, events[-1])):
            events.append(event)
    kept = tuple(event for event in events if event.length or event.tail)
    return Timeline(title or path.stem, main, kept, start=first, drop=drop, notes=tuple(notes))


def _continues(event: Event, last: Event) -> bool:
    """Whether an event of no length only names the clip before it, for the transition to come."""
    return (
        event.length == 0
        and event.medium.reel == last.medium.reel
        and event.start == last.start + last.frames
    )


def _parse(path: Path) -> tuple[str, list[_Line], list[str]]:
    """The title, the picture events and notes on lines that were not understood."""
    title, drop = "", False
    lines: list[_Line] = []
    notes: list[str] = []
    skipped = False  # comments of a sound event
    text = path.read_bytes().decode("utf-8", "replace").lstrip("\ufeff")
    for raw in text.splitlines():
        line = raw.strip()
        match = _EVENT.match(line)
        if match is not None:
            skipped = not re.match(r"(V\d*|B|AA?/V|A\d?/V|NONE)$", match["channel"])
            if not skipped:
                lines.append(_line_of(match, drop))
        elif line.upper().startswith("TITLE:"):
            title = line[6:].strip()
        elif line.upper().startswith("FCM:"):
            drop = "NON" not in line.upper()
        elif line and lines and not skipped:
            _comment(lines[-1], line)
        elif line[:3].isdecimal():
            notes.append(f"line not understood: {line[:60]}")
    if not lines:
        raise SourceError(f"{path}: no event of an edit decision list is in it")
    return title, lines, notes


def _line_of(match: re.Match[str], drop: bool) -> _Line:
    times = [match[name] for name in ("source", "source_end", "record", "record_end")]
    return _Line(
        reel=match["reel"],
        kind=match["kind"],
        frames=min(int(match["frames"] or 0), MOST_FRAMES),
        source=(times[0], times[1]),
        record=(times[2], times[3]),
        drop=drop,
    )


def _comment(line: _Line, text: str) -> None:
    """Take what a line under an event says of it."""
    body = text.lstrip("* ").strip()
    key, _, value = body.partition(":")
    key, value = key.strip().upper(), value.strip()
    if text.startswith("M2"):
        speed = _SPEED.match(text)
        line.speed = Fraction(speed[1]) if speed else Fraction(-1)
    elif body.upper().startswith("FREEZE FRAME"):
        line.is_freeze = True
    elif key in ("FROM CLIP NAME", "CLIP NAME"):
        line.from_clip = value
    elif key == "TO CLIP NAME":
        line.to_clip = value
    elif key in ("SOURCE FILE", "FROM CLIP", "FROM FILE", "SOURCE FILE PATH", "TO FILE"):
        line.file = value
    elif key == "LOC":
        at, _, note = value.partition(" ")
        line.markers.append((at, re.sub(r"^[A-Z]+\s+", "", note.strip())))


def _medium(line: _Line) -> Medium:
    """The medium of a line by its names; its rate is not known yet (0)."""
    name = line.clip or (base_name(line.file) if line.file else line.reel)
    if line.file:
        name = base_name(line.file)
    reel = None if line.reel.upper() == "AX" else line.reel
    return Medium(name, Fraction(0), path_of(line.file or None), reel=reel)


def _frames(text: str, rate: Fraction, drop: bool) -> int:
    """A timecode of the list as a frame number. Raises UsageError."""
    if not is_timecode(text):
        raise UsageError(f"'{text}' is not a timecode of an EDL: write it as HH:MM:SS:FF")
    counts_drop = rate.denominator == 1001 and round(rate) % 30 == 0 and (drop or is_drop(text))
    text = re.sub(r"[:;.,](?=\d+$)", ";" if counts_drop else ":", text)
    return to_frames(text, rate)


def _event(line: _Line, medium: Medium, main: Fraction, first: int) -> Event:
    """An event in frame numbers. Raises UsageError for a timecode that does not exist."""
    start, end = (_frames(text, medium.rate, line.drop) for text in line.source)
    record, over = (_frames(text, main, line.drop) for text in line.record)
    if over < record:
        raise UsageError(f"event at {line.record[0]}: its record out is before its record in")
    length = over - record
    frames = source_frames(length, main, medium.rate)
    flag = ""
    if line.is_freeze or line.speed == 0:
        flag = "a freeze frame"
    elif line.speed is not None and abs(line.speed - medium.rate) > Fraction(1, 20):
        flag = f"speed {float(100 * line.speed / medium.rate):.4g} % (M2)"
    elif abs(end - start - frames) > 1:
        flag = f"{end - start} source frames last {length} frames: its speed is changed"
    scale = medium.rate / main
    return Event(
        name=line.clip or medium.name,
        medium=medium,
        start=start,
        frames=frames,
        record=record - first,
        length=length,
        markers=tuple(
            Marker(start + int((_frames(at, main, line.drop) - record) * scale), text)
            for at, text in line.markers
            if is_timecode(at)
        ),
        flag=flag,
    )

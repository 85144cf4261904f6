"""OTIO, read and written through OpenTimelineIO (https://opentimelineio.readthedocs.io).

The package is optional: ``pip install 'vidmatte[timeline]'``. Its times are floats and it has no
drop frame; rates are made exact again, and drop frame is kept in ``metadata["vidmatte"]``.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

from vidmatte.errors import SourceError, UsageError
from vidmatte.timeline.model import (
    Event,
    Marker,
    Medium,
    Timeline,
    base_name,
    exact_rate,
    nearest,
    path_of,
    shown,
    source_frames,
    url_of,
)
from vidmatte.timeline.xml_text import MOST_BYTES

_DEEPEST = 500  # brackets; the parser of OpenTimelineIO recurses


def load_otio() -> Any:
    """The package opentimelineio. Raises UsageError where it is missing."""
    try:
        import opentimelineio
    except ImportError:
        raise UsageError(
            ".otio timelines need OpenTimelineIO: pip install 'vidmatte[timeline]', or use .fcpxml,"
            " .xml or .edl"
        ) from None
    return opentimelineio


def write_otio(timeline: Timeline) -> bytes:
    """The timeline as a document. Raises UsageError without OpenTimelineIO."""
    otio = load_otio()
    rate = timeline.rate
    written = otio.schema.Timeline(
        shown(timeline.name),
        global_start_time=_time(otio, timeline.start, rate),
        metadata={"vidmatte": _facts(timeline.drop, timeline.width, timeline.height)},
    )
    tracks = [("Video", f"V{number}", on_it) for number, on_it in timeline.tracks()]
    sound = [event for event in timeline.events if event.channels]
    for kind, name, on_it in [*tracks, *([("Audio", "A1", sound)] if sound else [])]:
        track = otio.schema.Track(name, kind=kind)
        now = 0
        for event in on_it:
            if event.record > now:
                gap = _range(otio, 0, event.record - now, rate)
                track.append(otio.schema.Gap(source_range=gap))
            track.append(_clip(otio, event))
            now = event.end
        written.tracks.append(track)
    return (str(written.to_json_string(indent=2)) + "\n").encode()


def _facts(drop: bool, width: int, height: int, reel: str | None = None) -> dict[str, Any]:
    size = {"width": width, "height": height} if width and height else {}
    return {"drop_frame": drop, **size, **({"reel": shown(reel)} if reel else {})}


def _time(otio: Any, frames: int, rate: Fraction) -> Any:
    return otio.opentime.RationalTime(frames, float(rate))


def _range(otio: Any, first: int, frames: int, rate: Fraction) -> Any:
    return otio.opentime.TimeRange(_time(otio, first, rate), _time(otio, frames, rate))


def _clip(otio: Any, event: Event) -> Any:
    medium = event.medium
    reference = otio.schema.ExternalReference(
        url_of(medium.path or medium.name),
        available_range=_range(otio, medium.start, medium.frames or event.frames, medium.rate),
        metadata={"vidmatte": _facts(medium.drop, medium.width, medium.height, medium.reel)},
    )
    reference.name = shown(medium.name)
    clip = otio.schema.Clip(
        shown(event.name),
        reference,
        _range(otio, event.start, event.frames, medium.rate),
    )
    clip.enabled = event.enabled
    for marker in event.markers:
        clip.markers.append(
            otio.schema.Marker(
                shown(marker.text),
                _range(otio, marker.frame, 1, medium.rate),
                color=otio.schema.MarkerColor.RED,
            )
        )
    return clip


def read_otio(path: Path) -> Timeline:
    """The timeline of a file. Raises SourceError, UsageError."""
    otio = load_otio()
    text = path.read_text("utf-8", "replace")
    if len(text) > MOST_BYTES or _depth(text) > _DEEPEST:
        raise SourceError(f"{path}: too large or too deeply nested for an edit")
    try:
        # Not through an adapter: a hook or a media linker of the user's could run code.
        read = otio.core.deserialize_json_from_string(text)
    except (ValueError, KeyError, TypeError, RuntimeError, otio.exceptions.OTIOError) as error:
        raise SourceError(f"{path}: not an OTIO file ({str(error).splitlines()[0]})") from error
    if isinstance(read, otio.schema.SerializableCollection):
        timelines = [one for one in read if isinstance(one, otio.schema.Timeline)]
        if len(timelines) != 1:
            raise SourceError(
                f"{path}: it holds {len(timelines)} timelines: export the one you want"
            )
        read = timelines[0]
    if not isinstance(read, otio.schema.Timeline):
        raise SourceError(f"{path}: it holds a {type(read).__name__}, not a timeline")
    try:
        return _Reader(otio, read).timeline(path.stem)
    except otio.exceptions.OTIOError as error:  # a clip without any range, for example
        raise SourceError(f"{path}: {str(error).splitlines()[0]}") from error


def _depth(text: str) -> int:
    """The depth of brackets in JSON, those in strings left out."""
    depth = most = 0
    for bracket in re.findall(r'"(?:[^"\\]|\\.)*"|[][{}]', text):
        if bracket in "[{":
            depth += 1
            most = max(most, depth)
        elif bracket in "]}":
            depth -= 1
    return most


class _Reader:
    """The events of one timeline."""

    def __init__(self, otio: Any, read: Any) -> None:
        self._otio, self._read = otio, read
        self._facts = _own(read)
        self.events: list[Event] = []
        self.notes: list[str] = []
        self.rate = self._find_rate()

    def _find_rate(self) -> Fraction:
        """The timeline's rate: of its start, else of its first clip or gap with a range."""
        start = self._read.global_start_time
        if start is not None and start.rate > 1:
            return exact_rate(float(start.rate))
        for item in self._read.tracks.find_children():
            if getattr(item, "source_range", None) is not None:
                return exact_rate(float(item.source_range.duration.rate))
        raise UsageError("the timeline states no frame rate")

    def timeline(self, name: str) -> Timeline:
        """The timeline; name: where it has none of its own."""
        start = self._read.global_start_time
        number = 0
        for track in self._read.tracks:
            if isinstance(track, self._otio.schema.Track) and track.kind == "Video":
                number += 1
                self._track(track, number)
        return Timeline(
            name=self._read.name or name,
            rate=self.rate,
            events=tuple(self.events),
            start=0 if start is None else self._frames(start, self.rate),
            drop=self._facts.get("drop_frame") is True,
            width=_size(self._facts, "width"),
            height=_size(self._facts, "height"),
            notes=tuple(self.notes),
        )

    def _frames(self, time: Any, rate: Fraction) -> int:
        """A time as frames of ``rate``; a whole number stays what it is at its own rate."""
        own = exact_rate(float(time.rate))
        if not math.isfinite(time.value):
            raise UsageError(f"a time of {time.value} frames: expected a number")
        return nearest(Fraction(time.value) * rate / own)

    def _track(self, track: Any, number: int) -> None:
        """Collect a track's events."""
        schema, now = self._otio.schema, 0
        items = list(track)
        for place, item in enumerate(items):
            if isinstance(item, schema.Transition):
                continue
            length = self._frames(item.duration(), self.rate)
            if not isinstance(item, schema.Gap):
                event = self._event(item, number, now, length)
                before = items[place - 1] if place else None
                after = items[place + 1] if place + 1 < len(items) else None
                rate = event.medium.rate
                head = before.in_offset if isinstance(before, schema.Transition) else None
                tail = after.out_offset if isinstance(after, schema.Transition) else None
                self.events.append(
                    Event(
                        **{
                            **vars(event),
                            "enabled": event.enabled and track.enabled,
                            "head": 0 if head is None else self._frames(head, rate),
                            "tail": 0 if tail is None else self._frames(tail, rate),
                        }
                    )
                )
            now += length

    def _event(self, item: Any, track: int, record: int, length: int) -> Event:
        if not isinstance(item, self._otio.schema.Clip):
            name = item.name or type(item).__name__
            flag = f"a {type(item).__name__.lower()} is nested in it"
            medium = Medium(name, self.rate)
            return Event(name, medium, 0, length, record, length, track, flag=flag)
        medium, flag = self._medium(item)
        range_ = item.source_range or item.available_range()
        return Event(
            name=item.name or medium.name,
            medium=medium,
            start=self._frames(range_.start_time, medium.rate),
            frames=source_frames(length, self.rate, medium.rate),
            record=record,
            length=length,
            track=track,
            enabled=item.enabled,
            markers=tuple(
                Marker(self._frames(one.marked_range.start_time, medium.rate), one.name)
                for one in item.markers
            ),
            flag=flag or self._flag(item),
        )

    def _flag(self, item: Any) -> str:
        """A flag for a change of speed, '' for normal speed; other effects change no frame."""
        schema = self._otio.schema
        for effect in item.effects:
            if isinstance(effect, schema.FreezeFrame):
                return "a freeze frame"
            if isinstance(effect, schema.LinearTimeWarp):
                if effect.time_scalar == 0:
                    return "a freeze frame"
                if effect.time_scalar != 1:
                    return f"speed {100 * effect.time_scalar:g} %"
            elif isinstance(effect, schema.TimeEffect):
                return "its speed varies"
        return ""

    def _medium(self, item: Any) -> tuple[Medium, str]:
        """A clip's medium, and a flag where it is none that has frames of its own."""
        schema, reference = self._otio.schema, item.media_reference
        available = getattr(reference, "available_range", None)
        path = flag = None
        if isinstance(reference, schema.ExternalReference):
            path = path_of(reference.target_url)
        elif isinstance(reference, schema.ImageSequenceReference):
            path = path_of(reference.target_url_base)
        elif isinstance(reference, schema.GeneratorReference):
            flag = f"generated ({reference.generator_kind}), not from a medium"
        times = [one for one in (available, item.source_range) if one is not None]
        rate = exact_rate(float(times[0].duration.rate)) if times else self.rate
        facts = _own(reference)
        reel = facts.get("reel")
        name = getattr(reference, "name", "") or (base_name(path) if path else item.name)
        medium = Medium(
            name=name,
            rate=rate,
            path=path,
            start=0 if available is None else self._frames(available.start_time, rate),
            frames=None if available is None else self._frames(available.duration, rate) or None,
            drop=facts.get("drop_frame") is True,
            reel=reel if isinstance(reel, str) else None,
            width=_size(facts, "width"),
            height=_size(facts, "height"),
        )
        return medium, flag or ""


def _own(item: Any) -> dict[str, Any]:
    """What write_otio left in an object's metadata."""
    found = getattr(item, "metadata", {}).get("vidmatte", {})
    return dict(found) if hasattr(found, "keys") else {}


def _size(facts: dict[str, Any], side: str) -> int:
    value = facts.get(side)
    return int(value) if isinstance(value, int) and 0 < value < 1 << 16 else 0

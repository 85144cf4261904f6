"""An edit as frame numbers: media, the events that show them, and the timeline that they are on.

Formats store times as seconds, floats or timecodes; here a source frame is counted by its medium's
timecode (00:00:00:00 is 0) and a record frame from the timeline's first, so that they compare
equal whatever they were read from.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote, urlsplit

from vidmatte.errors import UsageError

#: Frames of a timeline, and of a medium: 24 hours at 1000 frames a second.
MOST_FRAMES = 86_400_000


@dataclass(frozen=True)
class Medium:
    """A file that events show.

    path: as the timeline gives it, None where it gives none. rate: frames per second. start: the
    frame number of its first frame by its timecode; drop: that timecode counts in drop frame.
    frames: None where it is unknown. width, height: 0 where they are unknown. channels: of its
    sound, 0 without. alpha: of its
    colours, 'straight' or 'premultiplied' (with black); '' without an alpha channel.
    """

    name: str
    rate: Fraction
    path: str | None = None
    start: int = 0
    frames: int | None = None
    drop: bool = False
    reel: str | None = None
    width: int = 0
    height: int = 0
    channels: int = 0
    sample_rate: int = 48000
    alpha: str = ""


@dataclass(frozen=True)
class Marker:
    """A note at a source frame."""

    frame: int
    text: str


@dataclass(frozen=True)
class Event:
    """A range of a medium on the timeline, at its own speed unless it is flagged.

    start, frames: the source range, without the frames that only transitions show: ``head`` before
    and ``tail`` after it, source frames too. record, length: the range on the timeline, in the
    timeline's frames. track: 1 is the lowest. flag: why it is no plain range of one medium, ''
    where it is. channels: how many of the medium's sound channels it plays.
    """

    name: str
    medium: Medium
    start: int
    frames: int
    record: int
    length: int
    track: int = 1
    enabled: bool = True
    markers: tuple[Marker, ...] = ()
    head: int = 0
    tail: int = 0
    flag: str = ""
    channels: int = 0

    @property
    def end(self) -> int:
        """The first record frame after it."""
        return self.record + self.length


@dataclass(frozen=True)
class Timeline:
    """Events in the order of their tracks and record frames.

    start: the frame number of the first record frame by the timeline's timecode, which counts in
    drop frame where ``drop`` is set. notes: what of the file was not read.
    """

    name: str
    rate: Fraction
    events: tuple[Event, ...]
    start: int = 0
    drop: bool = False
    width: int = 0
    height: int = 0
    notes: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """Record frames from the first to the end of the last event."""
        return max((event.end for event in self.events), default=0)

    def tracks(self) -> Iterator[tuple[int, list[Event]]]:
        """Each track from the lowest, at most 1, to the highest, with its events by record frame;
        a track between may have none, so that the others keep their numbers."""
        numbers = [1, *(event.track for event in self.events)]
        for number in range(min(numbers), max(numbers) + 1):
            on_it = [event for event in self.events if event.track == number]
            yield number, sorted(on_it, key=lambda event: event.record)


def in_order(events: Iterable[Event]) -> tuple[Event, ...]:
    """Events by their tracks and record frames, as a ``Timeline`` has them."""
    return tuple(sorted(events, key=lambda event: (event.track, event.record)))


def exact_rate(value: float | str | Fraction) -> Fraction:
    """The rate that a file rounds: 23.976, 23.98 and 23.976023976 are 24000/1001.

    Raises UsageError for one that is not between 1 and 1000.
    """
    rate = Fraction(value) if not isinstance(value, float) or math.isfinite(value) else Fraction(0)
    if not 1 <= rate <= 1000:
        raise UsageError(f"frame rate {value}: expected 1 to 1000 frames a second")
    if isinstance(value, Fraction) or rate.denominator == 1:
        return rate
    ntsc = Fraction(round(rate) * 1000, 1001)
    if abs(rate - ntsc) < Fraction(1, 150):
        return ntsc
    return (
        round(rate) * Fraction(1)
        if abs(rate - round(rate)) < 1e-6
        else rate.limit_denominator(1001)
    )


def nearest(frames: Fraction | float) -> int:
    """The nearest whole frame number. Raises UsageError outside 0 to ``MOST_FRAMES``."""
    if not math.isfinite(frames) or not 0 <= frames <= MOST_FRAMES:
        raise UsageError(f"{float(frames):g} frames: a timeline has 0 to {MOST_FRAMES}")
    return math.floor(Fraction(frames) + Fraction(1, 2))


def whole(text: str | None) -> int:
    """A whole number of up to 12 digits in a file, 0 where it is none."""
    return int(text) if text and re.fullmatch(r"-?[0-9]{1,12}", text.strip()) else 0


def source_frames(length: int, timeline: Fraction, medium: Fraction) -> int:
    """The source frames that ``length`` record frames show at normal speed."""
    return math.ceil(length * medium / timeline)


def path_of(url: str | None) -> str | None:
    """The path that a file URL or a plain path names, None where there is none or it is another
    kind of URL."""
    if not url:
        return None
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", url)
    if scheme is None:
        return unquote(url) if "%" in url and not os.path.exists(url) else url  # noqa: PTH110
    if scheme[1].lower() != "file":
        return None
    try:
        parts = urlsplit(url)
    except ValueError:  # file://[
        return None
    path = os.fsdecode(unquote(parts.path, errors="surrogateescape"))
    if re.match(r"/[A-Za-z]:/", path):  # /C:/Users
        path = path[1:]
    return path if parts.netloc in ("", "localhost") else f"//{parts.netloc}{path}"


def base_name(path: str) -> str:
    """The last part of a path of any system."""
    return PureWindowsPath(path).name if "\\" in path else Path(path).name


def url_of(path: str) -> str:
    """The file URL of a path."""
    return Path(os.path.abspath(path)).as_uri()  # noqa: PTH100 (keeps links)


def shown(text: str) -> str:
    """``text`` as XML and UTF-8 can hold it: what they cannot becomes '?'."""
    clean = re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)
    return clean or "?"

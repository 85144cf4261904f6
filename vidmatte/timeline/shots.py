"""What of its media an edit needs: each range once, with handles, and a report on every event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vidmatte.core.timecode import timecode_of
from vidmatte.timeline.media import Found
from vidmatte.timeline.model import Event, Marker, Timeline, in_order
from vidmatte.timeline.result import Shot


@dataclass(frozen=True)
class _Use:
    """An event whose frames are there. first, frames: what it shows of the file, clamped to it."""

    event: Event
    found: Found
    first: int
    frames: int


@dataclass
class Range:
    """Frames of a file that are matted once: ``first`` is included, ``stop`` is not."""

    found: Found
    first: int
    stop: int
    uses: list[_Use] = field(default_factory=list)
    name: str = ""


@dataclass(frozen=True)
class _Line:
    """What the report says of an event. kind: 'matched', 'clamped', 'flagged' or 'missing'."""

    event: Event
    kind: str
    text: str


@dataclass(frozen=True)
class ShotPlan:
    """The ranges to matte and a line on each event, in the timeline's order."""

    timeline: Timeline
    ranges: tuple[Range, ...]
    lines: tuple[_Line, ...]

    def count(self, kind: str) -> int:
        """How many events have that kind of line."""
        return sum(line.kind == kind for line in self.lines)

    def report(self) -> list[str]:
        """The report as text, a line for each event and a count."""
        rate, start, drop = self.timeline.rate, self.timeline.start, self.timeline.drop
        found = [
            f"{number:4}  {timecode_of(start + line.event.record, rate, drop=drop)}"
            f"  V{line.event.track}  {line.kind:8} {line.event.name}: {line.text}"
            for number, line in enumerate(self.lines, 1)
        ]
        kinds = ("matched", "clamped", "flagged", "missing")
        counts = ", ".join(f"{self.count(kind)} {kind}" for kind in kinds)
        frames = sum(one.stop - one.first for one in self.ranges)
        total = f"{len(self.lines)} events: {counts}; {len(self.ranges)} ranges, {frames} frames"
        return [*found, *(f"      {note}" for note in self.timeline.notes), total]


def plan_shots(timeline: Timeline, find: Callable[[Event], Found | str], handles: int) -> ShotPlan:
    """Find the media of a timeline and the ranges that it shows of them.

    Each range is extended by what transitions show and by ``handles`` frames on both sides, as
    far as its medium has them; ranges of a file that overlap or touch become one. Events
    whose speed is changed, freeze frames and nested clips are flagged, and not matted.
    """
    uses: list[tuple[_Use, int, int]] = []
    lines: list[_Line] = []
    for event in timeline.events:
        if event.flag:
            lines.append(_Line(event, "flagged", f"{event.flag}: not matted"))
        elif not event.enabled:
            lines.append(_Line(event, "flagged", "it is disabled: not matted"))
        elif isinstance(found := find(event), str):
            lines.append(_Line(event, "missing", found))
        else:
            use, first, stop, cut = _extended(event, found, handles)
            uses.append((use, first, stop))
            text = f"{found.path}, f{first} to f{stop}, found by {found.how}"
            if found.is_relative:
                text += ", counted from its first frame"
            lines.append(_Line(event, "clamped" if cut else "matched", "; ".join([text, *cut])))
    return ShotPlan(timeline, tuple(_merged(uses)), tuple(lines))


def _extended(event: Event, found: Found, handles: int) -> tuple[_Use, int, int, list[str]]:
    """The range of a file that an event needs, and what of it the file does not have."""
    count = found.clip.frame_count
    index = found.index(event)
    before, after = event.head + handles, event.tail + handles
    wanted = index - before, index + event.frames + after
    first = max(0, wanted[0])
    stop = wanted[1] if count is None else min(count, wanted[1])
    own = max(index, first), min(index + event.frames, stop)
    cut = []
    missing = event.frames - (own[1] - own[0])
    if missing:
        cut.append(f"the edit shows {missing} frames beyond the medium")
    lost = min(before, first - wanted[0]), min(after, wanted[1] - stop)
    if any(lost):
        cut.append(
            f"{lost[0]} of {before} extra frames before it and {lost[1]} of {after} after it are"
            " beyond the medium"
        )
    return _Use(event, found, own[0], own[1] - own[0]), first, stop, cut


def _merged(uses: Sequence[tuple[_Use, int, int]]) -> list[Range]:
    """Ranges of each file that neither overlap nor touch, in the order of their first use."""
    order = list(dict.fromkeys(use.found.path for use, _, _ in uses))
    ranges: list[Range] = []
    for path in order:
        of_file = [one for one in uses if one[0].found.path == path]
        last: Range | None = None
        for use, first, stop in sorted(of_file, key=lambda one: one[1]):
            if last is None or first > last.stop:
                last = Range(use.found, first, stop)
                ranges.append(last)
            last.stop = max(last.stop, stop)
            last.uses.append(use)
    _name(ranges)
    return ranges


def _name(ranges: Sequence[Range]) -> None:
    """Give each range a name of its own: the file's, with its folder's or its first frame's
    number where several would share it."""
    paths = {one.found.path for one in ranges}
    stems = Counter(path.stem.casefold() for path in paths)
    parts = Counter(one.found.path for one in ranges)
    taken: Counter[str] = Counter()
    for one in ranges:
        path = one.found.path
        name = path.stem if stems[path.stem.casefold()] == 1 else f"{path.parent.name}_{path.stem}"
        if parts[path] > 1:
            name += f"_f{one.first:06}"
        taken[name.casefold()] += 1
        again = taken[name.casefold()]
        one.name = name if again == 1 else f"{name}_{again}"


def matted_timeline(plan: ShotPlan, shots: Mapping[str, Shot]) -> Timeline:
    """The edit with each cut-out on a track over its original's.

    shots: the result of each range by its name; events without one are left out, as are flagged
    ones, and transitions become cuts.
    """
    numbers = sorted({event.track for event in plan.timeline.events})
    tracks = {number: place for place, number in enumerate(numbers, 1)}
    events: list[Event] = []
    for one in plan.ranges:
        shot = shots.get(one.name)
        if shot is None:
            continue
        for use in one.uses:
            events += _placed(plan.timeline, one, use, shot, tracks[use.event.track], len(tracks))
    clip = plan.ranges[0].found.clip if plan.ranges else None
    return replace(
        plan.timeline,
        events=in_order(events),
        width=plan.timeline.width or (clip.width if clip else 0),
        height=plan.timeline.height or (clip.height if clip else 0),
        notes=(),
    )


def _placed(
    timeline: Timeline, one: Range, use: _Use, shot: Shot, track: int, tracks: int
) -> list[Event]:
    """The original of a use, and over it its part of the result."""
    original = shot.original()
    event, rate = use.event, shot.clip.rate
    late = use.first - use.found.index(event)
    record = event.record + int(late * timeline.rate / rate)
    whole = use.frames == event.frames
    length = event.length if whole else int(use.frames * timeline.rate / rate)
    cut = shot.medium(shot.written, shot.alpha)
    begins = cut.start + use.first - one.first
    markers = tuple(
        Marker(cut.start + place, text)
        for place, text in sorted(shot.markers())
        if use.first <= one.first + place < use.first + use.frames
    )
    over = Event(cut.name, cut, begins, use.frames, record, length, tracks + track, markers=markers)
    if original is None:
        return [over]
    start = original.start + use.first
    under = Event(
        event.name, original, start, use.frames, record, length, track, channels=original.channels
    )
    return [under, over]


def report_path(folder: Path, shot_list: Path) -> Path:
    """Where the report of a shot list is written."""
    return folder / f"{shot_list.stem}_report.txt"

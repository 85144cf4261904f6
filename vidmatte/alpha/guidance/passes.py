"""Fields of a clip from its key frames: passes forwards and backwards, and corrections.

Keys cut the clip into spans. Within a span the field is followed forwards from the key before
and backwards from the key after it, and the two are averaged, each pixel by how surely motion has
brought it from the key: what has just been uncovered in one direction is about to be covered in
the other. Beyond the last key, and before the first, a subject that was hidden and shows again is
also followed back into hiding from the frame that shows most of it. A span learns from its own
two keys and from the first full view among all: a further key changes others' frames seldom.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from vidmatte.alpha.guidance.appearance import KeyFrame
from vidmatte.alpha.guidance.coarse import packed, unpacked
from vidmatte.alpha.guidance.propagator import FlowPropagator, MakePropagator
from vidmatte.alpha.guidance.store import FieldSink, FrameSource, SpilledMaps
from vidmatte.alpha.guidance.tracker import FieldStep

_LEAST_DOUBT = 0.5
_UNFOLLOWED = np.float32(0.03)  # weight of a pixel that motion has not brought from the key
_ABOUT_AS_MUCH = 0.75  # of the area in the fullest key
_HIDDEN_SHARE = 0.2  # of its area in the keys: less is nearly hidden
_PARTLY_SHOWN = 0.6  # of it: a key that shows less has not seen what may show later
_SHOWN_AGAIN = 16  # frames that show it again before it is followed back
_MOST_PENDING = 48  # frames that wait for that
_FARTHEST_ORIGIN = 48  # frames from a fuller key to a sliver whose pass begins there
_ENOUGH_SHOWN = 0.25  # of its area in the keys: from a frame that shows less it is not


class Span(NamedTuple):
    """Frames first..last (both included) between two keys; None where the clip ends."""

    first: int
    last: int
    key_before: int | None
    key_after: int | None


@dataclass(frozen=True)
class FrameReport:
    """What is known about a frame's field.

    doubt: how likely it is wrong, 0 and up, comparable within a clip. cut, lost, distinctness: as
    of FieldStep. area: share of the picture.
    """

    index: int
    doubt: float
    area: float
    cut: bool = False
    lost: bool = False
    distinctness: float = 1.0
    is_key: bool = False


class _Seen(NamedTuple):
    """A frame's report of one pass, the doubt summed since its key, and what was followed.

    followed: a pixel's trust in motion from the key, packed, or None where that is not known.
    """

    report: FrameReport
    summed: float
    followed: bytes | None

    def weight(self, shape: tuple[int, ...]) -> np.ndarray:
        """How much each pixel of its field (h, w) counts, float32."""
        known = np.ones(shape, np.float32)
        if self.followed is not None:
            known = unpacked(self.followed, shape)
        return np.asarray((_UNFOLLOWED + known) / np.float32((self.summed + _LEAST_DOUBT) ** 2))


def spans(keys: Sequence[int], count: int) -> list[Span]:
    """The spans of a clip of ``count`` frames with keys on some of them, in order."""
    ordered = sorted(set(keys))
    if not ordered or ordered[0] < 0 or ordered[-1] >= count:
        raise ValueError(f"keys {ordered} of a clip of {count} frames")
    ends: list[int | None] = [None, *ordered, None]
    found = []
    for before, after in pairwise(ends):
        first = 0 if before is None else before + 1
        last = count - 1 if after is None else after - 1
        if first <= last:
            found.append(Span(first, last, before, after))
    return found


def changed_spans(
    before: Mapping[int, np.ndarray], now: Mapping[int, np.ndarray], count: int
) -> list[Span]:
    """The spans to follow anew when keys (masks by frame number) have changed."""
    taught = {span: teachers(span, before) for span in spans(list(before), count)} if before else {}

    def is_same(span: Span) -> bool:
        known = teachers(span, now)
        return taught.get(span) == known and all(
            np.array_equal(before[index], now[index]) for index in known
        )

    return [span for span in spans(list(now), count) if not is_same(span)]


def teachers(span: Span, keys: Mapping[int, np.ndarray]) -> list[int]:
    """The keys that a span learns from: its ends, and the first that shows about the most of the
    subject, which further keys seldom change."""
    area = {index: float(mask.sum()) for index, mask in keys.items()}
    fullest = min(i for i in area if area[i] >= _ABOUT_AS_MUCH * max(area.values()))
    ends = [key for key in (span.key_before, span.key_after) if key is not None]
    return ends if fullest in ends else [*ends, fullest]


def solve(
    frames: FrameSource,
    keys: Mapping[int, np.ndarray],
    fields: FieldSink,
    *,
    only: Sequence[Span] | None = None,
    propagator: MakePropagator = FlowPropagator,
) -> Iterator[FrameReport]:
    """Write the fields of a clip, or of some spans; reports come as frames are finished.

    keys: masks (h, w) float32 0..1 at the work size, by frame number. propagator: makes what
    carries a key's mask to the frames of a span. Frames between two keys
    are reported in reverse order: theirs is finished by the backward pass. Frames since the
    subject was hidden are reported when it has shown again for a while.
    """
    for span in spans(list(keys), len(frames)) if only is None else only:
        yield from _solve_span(frames, keys, fields, span, propagator)
    for index, mask in sorted(keys.items()):
        fields[index] = mask
        yield FrameReport(index, 0.0, float(mask.mean()), is_key=True)


def _solve_span(
    frames: FrameSource,
    keys: Mapping[int, np.ndarray],
    fields: FieldSink,
    span: Span,
    propagator: MakePropagator,
) -> Iterator[FrameReport]:
    """Forwards, then backwards; the second pass averages with what the first one wrote."""
    forwards, backwards = range(span.first, span.last + 1), range(span.last, span.first - 1, -1)
    before, after = span.key_before, span.key_after
    known = {index: keys[index] for index in teachers(span, keys)}
    if before is None or after is None:
        start, numbers = (after, backwards) if before is None else (before, forwards)
        assert start is not None
        yield from _solve_one_way(frames, known, fields, numbers, start, propagator)
        return
    ahead: dict[int, _Seen] = {}
    with SpilledMaps() as followed:
        for index, step, summed in _follow(frames, known, forwards, before, propagator):
            fields[index] = step.field
            seen = _seen(index, step, summed)
            ahead[index], followed[index] = seen._replace(followed=None), seen.followed
        for index, step, summed in _follow(frames, known, backwards, after, propagator):
            first = ahead.pop(index)._replace(followed=followed.get(index))
            yield _joined(first, _seen(index, step, summed), step.field, fields)


def _solve_one_way(
    frames: FrameSource,
    keys: Mapping[int, np.ndarray],
    fields: FieldSink,
    numbers: range,
    start: int,
    propagator: MakePropagator,
) -> Iterator[FrameReport]:
    """From one key on. A subject that was hidden and shows again is followed back, too: it begins
    as a sliver that looks like little, and that motion brings only from a fuller view."""
    usual = max(float(mask.mean()) for mask in keys.values())
    begins_partly = float(keys[start].mean()) < _PARTLY_SHOWN * usual
    pending: list[_Seen] = []
    shown = 0
    for index, step, summed in _follow(frames, keys, numbers, start, propagator):
        fields[index] = step.field
        report = _report(index, step, summed)
        gone = report.area < _HIDDEN_SHARE * usual
        if not gone and not pending and not begins_partly:
            yield report
            continue
        pending.append(_seen(index, step, summed))
        shown = 0 if gone else shown + 1
        if len(pending) > _MOST_PENDING:
            yield pending.pop(0).report
        if shown == _SHOWN_AGAIN:
            yield from _followed_back(frames, keys, fields, pending, propagator, begins_partly)
            pending, shown, begins_partly = [], 0, False
    yield from _followed_back(frames, keys, fields, pending, propagator, begins_partly)


def _followed_back(
    frames: FrameSource,
    keys: Mapping[int, np.ndarray],
    fields: FieldSink,
    pending: Sequence[_Seen],
    propagator: MakePropagator,
    wholly: bool,
) -> Iterator[FrameReport]:
    """Reports of frames since the subject was hidden, in the order of the pass.

    Its fields, ``wholly`` or from half way through hiding on, are averaged with those of a pass
    against the direction, from the frame that shows most of it.
    """
    reports = {seen.report.index: seen.report for seen in pending}
    fullest = max(pending, key=lambda seen: seen.report.area, default=None)
    usual = max(float(mask.mean()) for mask in keys.values())
    if fullest is not None and fullest.report.area > _ENOUGH_SHOWN * usual:
        start = fullest.report.index
        before = pending[: pending.index(fullest)]
        gone = [at for at, seen in enumerate(before) if seen.report.area < _HIDDEN_SHARE * usual]
        back = before[(gone[-1] + 1) // 2 if gone and not wholly else 0 :][::-1]
        known = {**keys, start: fields[start]}
        numbers = [seen.report.index for seen in back]
        for seen, (index, step, summed) in zip(
            back, _follow(frames, known, numbers, start, propagator), strict=False
        ):
            if step.lost:
                break
            reports[index] = _joined(seen, _seen(index, step, summed), step.field, fields)
    yield from reports.values()


def _joined(one: _Seen, two: _Seen, field: np.ndarray, fields: FieldSink) -> FrameReport:
    """The report of a frame that two passes have seen; its field becomes that of both.

    field: the second pass's. Each pixel's weight: it was hidden from one of them, maybe.
    """
    index, first = one.report.index, fields[one.report.index]
    a, b = one.weight(field.shape), two.weight(field.shape)
    both = (a * first + b * field) / (a + b)
    fields[index] = both
    area = max(float(np.maximum(first, field).sum()), 50.0)
    differ = 2 * float(np.abs(first - field).sum()) / area
    best = min((one.report, two.report), key=lambda r: r.doubt)
    return FrameReport(
        index,
        best.doubt + differ,
        float(both.mean()),
        best.cut,
        one.report.lost and two.report.lost,
        min(one.report.distinctness, two.report.distinctness),
    )


def _seen(index: int, step: FieldStep, summed: float) -> _Seen:
    followed = None if step.followed is None else packed(step.followed)
    return _Seen(_report(index, step, summed), summed, followed)


def _report(index: int, step: FieldStep, summed: float) -> FrameReport:
    area = float((step.field > 0.5).mean())
    doubt = _unsureness(step, summed)
    return FrameReport(index, doubt, area, step.cut, step.lost, step.distinctness)


def _unsureness(step: FieldStep, summed: float) -> float:
    """How likely a frame's field is wrong, from the step and the doubt summed since the key."""
    return step.soft + 0.05 * step.doubt + 0.002 * summed + 0.3 * step.lost


def _follow(
    frames: FrameSource,
    keys: Mapping[int, np.ndarray],
    numbers: Sequence[int],
    start: int,
    propagator: MakePropagator,
) -> Iterator[tuple[int, FieldStep, float]]:
    """Frame number, step and summed doubt from the key ``start`` on; the others teach, too.

    A pass from a part begins at the fullest key, where that is near, and goes through it.
    """
    origin = _origin(keys, numbers, start)
    nearest = sorted((key for key in keys if key != origin), key=lambda key: abs(key - origin))
    others = [KeyFrame(frames[key], keys[key]) for key in nearest]
    carrier = propagator(KeyFrame(frames[origin], keys[origin]), others)
    if origin != start:
        towards = 1 if origin < start else -1
        for index in range(origin + towards, start + towards, towards):
            carrier.step(frames[index])
        carrier.correct(keys[start])
    summed = carrier.first_doubt
    for index in numbers:
        step = carrier.step(frames[index])
        summed += step.doubt
        yield index, step, summed


def _origin(keys: Mapping[int, np.ndarray], numbers: Sequence[int], start: int) -> int:
    """The key to begin at: ``start``, or if that shows only part, the fullest before it."""
    area = {index: float(mask.sum()) for index, mask in keys.items()}
    fullest = max(sorted(area), key=lambda index: area[index])
    if not numbers or area[start] > _PARTLY_SHOWN * area[fullest]:
        return start
    before = (start - fullest) * (numbers[0] - start)
    return fullest if before > 0 and abs(start - fullest) <= _FARTHEST_ORIGIN else start


def most_doubtful(
    reports: Sequence[FrameReport], count: int = 5, apart: int = 12
) -> list[FrameReport]:
    """The frames on which a correction is likely worth most, the best first.

    Not two within ``apart`` frames of each other, and no keys.
    """
    chosen: list[FrameReport] = []
    for report in sorted(reports, key=lambda r: (-r.doubt, r.index)):
        if len(chosen) == count:
            break
        if not report.is_key and all(abs(report.index - c.index) >= apart for c in chosen):
            chosen.append(report)
    return chosen

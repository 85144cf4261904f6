"""Tracking a subject through drawn clips."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from guidance_drawn import BLUE, GROUND, RED, STRIPED, Drawn, choice, moving, texture

from vidmatte.alpha.guidance.appearance import KeyFrame
from vidmatte.alpha.guidance.motion import MotionSearch
from vidmatte.alpha.guidance.passes import (
    FrameReport,
    changed_spans,
    most_doubtful,
    solve,
    spans,
    teachers,
)
from vidmatte.alpha.guidance.tracker import FieldStep, SubjectTracker

COUNT = 12


@pytest.fixture(scope="module")
def crossing() -> Drawn:
    """A red disc passes behind a blue one."""
    return Drawn(
        [(moving((70, 90), (15, 0)), 34, RED), (moving((240, 95), (-14, 0)), 34, BLUE)], COUNT
    )


@pytest.fixture(scope="module")
def tracked(crossing: Drawn) -> tuple[dict[int, np.ndarray], list[FrameReport]]:
    """The fields and reports of the disc that passes behind, from its mask on the first frame."""
    return track(crossing, 0)


def track(clip: Drawn, which: int, keys: dict[int, np.ndarray] | None = None):
    fields: dict[int, np.ndarray] = {}
    keys = keys or {0: clip.mask(0, which)}
    reports = sorted(solve(clip.frames, keys, fields), key=lambda r: r.index)
    return fields, reports


def scores(clip: Drawn, fields: dict[int, np.ndarray], which: int) -> list[float]:
    """S of each frame that shows at least a fifth of the disc."""
    found = []
    for index in range(len(clip.frames)):
        mask = clip.mask(index, which)
        others = sum(clip.mask(index, i) for i in range(len(clip.masks[0])) if i != which)
        if mask.sum() > 0.2 * clip.mask(0, which).sum():
            found.append(choice(fields[index], mask, np.asarray(others)))
    return found


@pytest.mark.parametrize("which", [0, 1], ids=["behind", "in front"])
def test_two_crossing_subjects_are_distinguished(crossing: Drawn, tracked: Any, which: int):
    fields, reports = track(crossing, which) if which else tracked
    assert np.mean(scores(crossing, fields, which)) > 0.95
    assert min(scores(crossing, fields, which)) > 0.7
    assert not any(report.lost for report in reports)


def test_a_key_on_the_last_frame_is_tracked_backwards(crossing: Drawn):
    fields, reports = track(crossing, 0, {COUNT - 1: crossing.mask(COUNT - 1, 0)})
    assert np.mean(scores(crossing, fields, 0)) > 0.95
    assert [report.index for report in reports] == list(range(COUNT))


def test_keys_keep_their_masks_and_frames_between_use_both(crossing: Drawn):
    keys = {0: crossing.mask(0, 0), COUNT - 1: crossing.mask(COUNT - 1, 0)}
    fields, reports = track(crossing, 0, keys)
    for index, mask in keys.items():
        assert np.array_equal(fields[index], mask)
        assert reports[index].is_key
    assert np.mean(scores(crossing, fields, 0)) > 0.95


def test_the_same_keys_give_the_same_bytes(crossing: Drawn, tracked: Any):
    one, _ = tracked
    two, _ = track(crossing, 0)
    assert all(np.array_equal(one[index], two[index]) for index in one)


def test_without_motion_the_field_stays_the_mask():
    clip = Drawn([(moving((100, 90), (0, 0)), 34, RED), (moving((230, 90), (0, 0)), 34, BLUE)], 6)
    fields, _ = track(clip, 0)
    for index in range(6):
        field, mask = fields[index] > 0.5, clip.mask(index, 0) > 0.5
        assert (field & mask).sum() / (field | mask).sum() > 0.94


def test_a_subject_that_the_network_misses_is_still_tracked():
    clip = Drawn(
        [(moving((70, 90), (8, 0)), 30, RED), (moving((250, 90), (0, 0)), 30, BLUE)],
        8,
        unmarked=[0],
    )
    fields, _ = track(clip, 0)
    mask = clip.mask(7, 0) > 0.5
    assert ((fields[7] > 0.5) & mask).sum() / mask.sum() > 0.9


def test_a_subject_is_found_again_after_a_cut():
    def ground(index: int) -> np.ndarray:
        return GROUND if index < 5 else texture(9, (150, 140, 110), 15)

    clip = Drawn(
        [
            (lambda i: (80, 90) if i < 5 else (230, 80), 34, STRIPED),
            (lambda i: (230, 90) if i < 5 else (80, 100), 34, BLUE),
        ],
        9,
        ground,
    )
    fields, reports = track(clip, 0)
    assert [report.index for report in reports if report.cut] == [5]
    assert np.mean(scores(clip, fields, 0)) > 0.95


def leaving(index: int) -> tuple[float, float] | None:
    return (60 - 25 * index, 90) if index < 11 else (25 * index - 315.0, 90)


def entering(index: int) -> tuple[float, float] | None:
    return (380 - 16.0 * index, 90) if index > 3 else None


def test_a_subject_that_left_is_lost_and_a_newcomer_is_not_taken():
    clip = Drawn([(leaving, 34, RED), (entering, 34, BLUE)], 10)
    fields, reports = track(clip, 0)
    assert reports[9].lost
    assert (fields[9][clip.mask(9, 1) > 0.5] > 0.5).mean() < 0.05


def test_a_returning_subject_is_found_again():
    clip = Drawn([(leaving, 34, RED), (entering, 34, BLUE)], 16)
    fields, reports = track(clip, 0)
    assert scores(clip, fields, 0)[-1] > 0.9
    assert not reports[15].lost


class Scripted:
    """Gives the share of the picture that is scripted for a frame, forwards and backwards."""

    first_doubt = 0.0
    FORWARDS = (1, 1, 0.5, 0, 0, 0, 0, 0.4, 1, 1, 1)
    BACKWARDS = (1, 1, 1, 1, 1, 0, 0.3, 0.6, 1, 1, 1)

    def __init__(self, start: KeyFrame, others: Any) -> None:
        self._script = self.BACKWARDS if start.frame else self.FORWARDS

    def step(self, index: Any) -> FieldStep:
        field = np.zeros((10, 10), np.float32)
        field[: round(10 * self._script[index])] = 1
        return FieldStep(field, 3.0)


def test_a_subject_that_shows_again_is_followed_back_into_hiding():
    fields: dict[int, np.ndarray] = {}
    frames: Any = list(range(11))
    keys = {0: np.ones((10, 10), np.float32)}
    reports = list(solve(frames, keys, fields, propagator=Scripted))
    assert sorted(report.index for report in reports) == frames
    shares = [float((fields[index] > 0.5).mean()) for index in frames]
    assert shares[:6] == pytest.approx(Scripted.FORWARDS[:6])  # what was seen before is kept
    assert shares[6:] == pytest.approx(Scripted.BACKWARDS[6:])


class Doubting(Scripted):
    """Doubts a key that shows little, as the tracker does."""

    def __init__(self, start: KeyFrame, others: Any) -> None:
        super().__init__(start, others)
        self.first_doubt = 0.0 if start.area > 50 else 30.0
        self._script = self.BACKWARDS if start.frame > 4 else self.FORWARDS


def test_from_a_key_on_a_sliver_the_subject_is_followed_back_all_the_way(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("vidmatte.alpha.guidance.passes._FARTHEST_ORIGIN", 0)
    fields: dict[int, np.ndarray] = {}
    frames: Any = list(range(11))
    sliver = np.zeros((10, 10), np.float32)
    sliver[0, :5] = 1
    keys = {0: np.ones((10, 10), np.float32), 3: sliver}
    list(solve(frames, keys, fields, propagator=Doubting))
    shares = [float((fields[index] > 0.5).mean()) for index in frames]
    assert shares[4:] == pytest.approx(Scripted.BACKWARDS[4:])


class Through(Scripted):
    """Says where it began, what it was shown, and which masks it was given on the way."""

    seen: ClassVar[list[Any]] = []

    def __init__(self, start: KeyFrame, others: Any) -> None:
        super().__init__(start, others)
        self.seen.append(("from", start.frame))

    def step(self, index: Any) -> FieldStep:
        self.seen.append(index)
        return FieldStep(np.ones((10, 10), np.float32), 3.0)

    def correct(self, mask: np.ndarray) -> None:
        self.seen.append(("mask", float(mask.sum())))


def test_a_pass_from_a_sliver_comes_from_the_fullest_key():
    frames: Any = list(range(6))
    sliver = np.zeros((10, 10), np.float32)
    sliver[0, :5] = 1
    keys = {0: np.ones((10, 10), np.float32), 3: sliver}
    Through.seen.clear()
    only = [span for span in spans(list(keys), 6) if span.key_before == 3]
    list(solve(frames, keys, {}, only=only, propagator=Through))
    assert Through.seen == [("from", 0), 1, 2, 3, ("mask", 5.0), 4, 5]


def test_what_was_lost_and_is_found_as_little_is_lost_again_at_once(crossing: Drawn):
    tracker = SubjectTracker(KeyFrame(crossing.frames[0], crossing.mask(0, 0)))
    usual = crossing.mask(0, 0).sum()
    missed = []
    for share, alike in ((0, 0), (0, 0), (0, 0), (0.1, 1), (0, 0), (0.1, 1), (0.5, 0.5), (0.5, 1)):
        tracker._count_missed(share * usual, alike)
        missed.append(tracker._missed)
    assert missed == [1, 2, 3, 2, 3, 2, 2, 0]


class Uncovering(Scripted):
    """Forwards, the left half is followed from the key, backwards the right half."""

    def step(self, index: Any) -> FieldStep:
        ahead = self._script is self.FORWARDS
        followed = np.zeros((10, 10), np.float32)
        followed[:, slice(5) if ahead else slice(5, 10)] = 1
        return FieldStep(followed, 3.0, followed=followed)


def test_of_two_passes_the_one_that_has_followed_a_pixel_decides():
    fields: dict[int, np.ndarray] = {}
    frames: Any = list(range(11))
    keys = {0: np.ones((10, 10), np.float32), 10: np.ones((10, 10), np.float32)}
    list(solve(frames, keys, fields, propagator=Uncovering))
    assert fields[5][:, [0, 9]].min() > 0.9  # each half by its own pass; a mean gives 0.5
    assert fields[5].min() > 0.55


def test_uncovered_background_stays_background():
    """The background under the disc looks like it, and stays when the disc moves on."""
    alike = GROUND.copy()
    alike[60:130, 40:110] = RED[60:130, 40:110]
    clip = Drawn([(moving((75, 95), (12, 0)), 36, RED)], 14, lambda index: alike)
    fields, _ = track(clip, 0)
    ground = (clip.mask(13, 0) < 0.5) & (clip.mask(0, 0) > 0.5)
    assert (fields[13][ground] > 0.5).mean() < 0.1


def test_a_subject_fully_hidden_by_a_twin_keeps_its_identity():
    clip = Drawn([(moving((60, 90), (14, 0)), 32, RED), (moving((232, 90), (-10, 0)), 33, RED)], 16)
    fields, reports = track(clip, 0)
    assert min(report.distinctness for report in reports) < 0.5
    assert scores(clip, fields, 0)[-1] > 0.6


def test_a_trackers_memory_does_not_grow(crossing: Drawn):
    tracker = SubjectTracker(KeyFrame(crossing.frames[0], crossing.mask(0, 0)))
    sizes, search = [], MotionSearch()
    order = [*range(1, COUNT), *range(COUNT - 2, -1, -1)] * 3
    last = crossing.frames[0]
    for index in order:
        frame = crossing.frames[index]
        tracker.step(frame, search.between(frame.grey, last.grey, frame.lab, last.lab))
        sizes.append(held_bytes(tracker))
        last = frame
    third = len(order) // 3
    assert max(sizes[-third:]) <= 1.02 * max(sizes[third:-third])


def held_bytes(owner: object, seen: set[int] | None = None) -> int:
    """Bytes of all arrays in an object."""
    seen = set() if seen is None else seen
    if id(owner) in seen:
        return 0
    seen.add(id(owner))
    if isinstance(owner, np.ndarray):
        return owner.nbytes
    if isinstance(owner, list | tuple):
        return sum(held_bytes(part, seen) for part in owner)
    return sum(held_bytes(part, seen) for part in getattr(owner, "__dict__", {}).values())


def test_spans_lie_between_keys():
    assert [tuple(span) for span in spans([3, 7], 10)] == [
        (0, 2, None, 3),
        (4, 6, 3, 7),
        (8, 9, 7, None),
    ]
    assert [tuple(span) for span in spans([0, 1], 2)] == []
    with pytest.raises(ValueError, match="keys"):
        spans([], 5)
    with pytest.raises(ValueError, match="keys"):
        spans([5], 5)


def test_another_key_changes_only_the_frames_between_its_neighbours():
    mask, other = np.ones((4, 4), np.float32), np.zeros((4, 4), np.float32)
    old = {0: mask, 10: mask, 20: mask}
    assert [tuple(s) for s in changed_spans(old, old | {15: mask}, 30)] == [
        (11, 14, 10, 15),
        (16, 19, 15, 20),
    ]
    assert [tuple(s) for s in changed_spans(old, old | {10: other}, 30)] == [
        (1, 9, 0, 10),
        (11, 19, 10, 20),
    ]
    assert changed_spans(old, old, 30) == []
    assert len(changed_spans({}, old, 30)) == 3


def test_a_key_with_the_largest_mask_trains_all_spans():
    mask, small, large = (np.zeros((4, 4), np.float32) for _ in range(3))
    mask[:2], small[:1], large[:3] = 1, 1, 1
    old = {0: mask, 10: small, 20: small}
    assert teachers(spans(list(old), 30)[1], old) == [10, 20, 0]
    assert len(changed_spans(old, old | {5: small}, 30)) == 2
    assert len(changed_spans(old, old | {5: large}, 30)) == 4


def test_the_first_of_keys_that_show_about_as_much_trains_all_spans():
    mask = np.zeros((10, 10), np.float32)
    mask[:8] = 1
    more = mask.copy()
    more[8] = 1
    keys = {0: mask, 10: more, 20: more}
    assert teachers(spans(list(keys), 30)[-1], keys) == [20, 0]


def test_a_key_that_shows_little_does_not_unlearn_the_rest(crossing: Drawn):
    """The frame on which the disc is nearly hidden is the one that a user corrects."""
    hidden = min(range(COUNT), key=lambda index: crossing.mask(index, 0).sum())
    keys = {0: crossing.mask(0, 0), hidden: crossing.mask(hidden, 0)}
    fields, _ = track(crossing, 0, keys)
    assert np.mean(scores(crossing, fields, 0)) > 0.9


def test_a_correction_keeps_other_spans_byte_for_byte(crossing: Drawn):
    first, last = 3, 6
    clip = Drawn.__new__(Drawn)
    clip.frames, clip.masks = crossing.frames[: last + 1], crossing.masks[: last + 1]
    keys = {0: clip.mask(0, 0), first: clip.mask(first, 0)}
    before, _ = track(clip, 0, keys)
    more = keys | {last - 1: clip.mask(last - 1, 0)}
    after = dict(before)
    changed = changed_spans(keys, more, last + 1)
    list(solve(clip.frames, more, after, only=changed))
    full, _ = track(clip, 0, more)
    assert all(np.array_equal(after[index], full[index]) for index in range(last + 1))
    assert all(np.array_equal(after[index], before[index]) for index in range(first))


def test_the_most_doubtful_frames_are_spaced_and_no_keys():
    reports = [FrameReport(i, float(i % 10), 0.1, is_key=i == 9) for i in range(30)]
    assert [r.index for r in most_doubtful(reports, 3, apart=5)] == [19, 29, 8]
    assert most_doubtful([], 3) == []

"""What motion says beside flow: uncovered background, what comes in, what flow has missed."""

from __future__ import annotations

import numpy as np
import pytest

from vidmatte.alpha.guidance.lineage import Inside, Lineage, Uncovered
from vidmatte.alpha.guidance.motion import Motion, with_own_motion
from vidmatte.alpha.guidance.pieces import (
    Evidence,
    choose_candidate,
    drop_enclosed,
    drop_unlike,
    drop_unsupported,
)

HEIGHT, WIDTH, STEP = 60, 120, 4


def textured(seed: int) -> np.ndarray:
    """Colours (HEIGHT, WIDTH, 3) float32 in dark tones."""
    return np.random.default_rng(seed).uniform(10, 40, (HEIGHT, WIDTH, 3)).astype(np.float32)


def scene(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Colours and mask of a square that moves to the right by STEP a frame."""
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    mask[15:45, 20 + STEP * index : 50 + STEP * index] = 1
    subject = np.roll(textured(1), STEP * index, 1)
    return np.where(mask[..., None] > 0, subject, textured(0)), mask


def found_after(frames: int, alpha: float, subject_flow: float) -> tuple[float, float]:
    """How much is found of the background behind the subject, and of the subject itself.

    The field stays where the subject has been, as if optical flow had dragged background along.
    """
    first = scene(0)[1]
    uncovered, shape = Uncovered(first), first.shape
    ground = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    own = np.full(shape, subject_flow, np.float32), ground[1]
    for index in range(1, frames + 1):
        (lab, mask), (last, _) = scene(index), scene(index - 1)
        moved = np.maximum(mask, first)
        inside = Inside(moved, mask, np.float32(alpha) * moved)
        uncovered.update((lab, last), inside, (ground, own), np.abs(own[0]), abs(subject_flow))
    found = uncovered.take()
    behind = (first > 0) & (mask == 0)
    behind[:, 20 + STEP * (frames - 2) :] = False  # uncovered just now
    assert uncovered.take().max() == 0
    return float(found[17:43][behind[17:43]].mean()), float(found[mask > 0].mean())


def test_uncovered_background_is_found_and_the_subject_is_not():
    behind, subject = found_after(6, alpha=0.1, subject_flow=-STEP)
    assert behind > 0.9
    assert subject < 0.02


@pytest.mark.parametrize(("alpha", "flow"), [(1.0, -STEP), (0.1, 0.0), (0.1, 3.0 * STEP)])
def test_nothing_is_found_where_the_network_marks_or_motion_says_nothing(alpha: float, flow: float):
    behind, subject = found_after(6, alpha, flow)
    assert behind < 0.1
    assert subject < 0.1


def drifting(index: int) -> tuple[np.ndarray, Motion]:
    """Mask of a subject that comes in from the left by STEP a frame, and the true motion."""
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    mask[10:, : 24 + STEP * index] = 1
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    x = columns - STEP * mask
    return mask, Motion(x, rows, ((x >= 0) & (x < WIDTH - 1)).astype(np.float32))


def joined_after(frames: int, marked: float) -> tuple[float, float]:
    """Logits for what came in since the first frame, and for the background beside it."""
    lineage = Lineage(drifting(0)[0], textured(0))
    for index in range(1, frames + 1):
        mask, motion = drifting(index)
        known = np.roll(drifting(0)[0], STEP * index, 1) * mask  # the field lacks what came in
        known[:, : STEP * index] = 0
        area = float(drifting(0)[0].sum())
        lineage.advance(motion, known, np.float32(marked) * mask, area, textured(0))
        logits = lineage.evidence(np.zeros_like(mask), 1.0, 1.0)
        lineage.settle(known, 3 * (2 * known - 1), 1.0)
    came_in = logits[12:, 1 : STEP * (frames - 1)]
    return float(came_in.mean()), float(logits[mask == 0].max())


def test_what_comes_in_beside_the_subject_and_moves_with_it_joins_it():
    came_in, outside = joined_after(4, marked=1)
    assert came_in > 2
    assert outside <= 0


def test_what_the_network_does_not_mark_does_not_join():
    assert joined_after(4, marked=0)[0] <= 0


def strayed_after(frames: int, marked: float) -> tuple[float, float]:
    """Logits for the edge of another one who walks away, which the field has kept, and the most
    against the subject, that moves the other way. marked: the network's alpha of the other."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    step, logits = 2, np.zeros_like(rows)
    mine, other = (np.zeros_like(rows) for _ in range(2))
    mine[10:, 50:70] = 1
    lineage = Lineage(mine, textured(0))
    for index in range(1, frames + 1):
        mine, other, edge = (np.zeros_like(rows) for _ in range(3))
        mine[10:, 50 + step * index : 70 + step * index] = 1
        other[10:, 20 - step * index : 50 - step * index] = 1
        edge[10:, 44 - step * index : 50 - step * index] = 1
        motion = Motion(columns + step * (other - mine), rows, np.ones_like(rows))
        moved, area = np.maximum(mine, edge), float(mine.sum())
        if index == 1:
            lineage.history = 1 - edge  # it has just come into view
        lineage.advance(motion, moved, np.maximum(mine, marked * other), area, textured(0))
        logits = lineage.evidence(np.zeros_like(rows), 1.0, 1.0)
        lineage.settle(moved, 3 * (2 * moved - 1), 0.0)
    return float(logits[edge > 0].mean()), float(logits[mine > 0].min())


def test_what_moves_like_another_one_strays_and_the_subject_does_not():
    edge, subject = strayed_after(4, marked=1)
    assert edge < -2
    assert subject > -0.1


def test_where_flow_fails_the_motion_of_the_rest_of_the_subject_is_taken():
    (last, before), (lab, now) = scene(0), scene(1)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    missed = np.zeros_like(now, bool)
    missed[15:45, 40:50] = True  # the flow there stands still, as that of the background
    x = columns - STEP * now * ~missed
    flow = Motion(x, rows, np.where(missed, 0, 1).astype(np.float32))
    motion = with_own_motion(flow, before, lab, last)
    taken = motion.x != flow.x
    assert taken[missed].mean() > 0.8
    assert not taken[~missed].any()
    assert np.abs(motion.x[taken] - (columns[taken] - STEP)).max() < 0.1
    assert motion.trust[taken].min() > 0.6
    unknown = with_own_motion(flow, np.zeros_like(before), lab, last)
    assert np.array_equal(unknown.x, flow.x)


def test_a_sliver_amid_others_stays_only_while_nothing_larger_is_found():
    field = np.zeros((HEIGHT, WIDTH), np.float32)
    field[30:36, 90:96] = 1
    alpha = np.zeros_like(field)
    alpha[20:46, 80:110] = 1
    unlike = np.full_like(field, -1)
    evidence = Evidence(alpha, field, np.where(field > 0, 1, unlike), field)
    unbroken, area = np.zeros_like(field), 2000.0
    kept = drop_enclosed(field, evidence, unbroken, area, searching=False)
    assert np.array_equal(kept, field)
    more = field.copy()
    more[10:50, 5:25] = 1
    kept = drop_enclosed(more, evidence, unbroken, area, searching=False)
    assert kept[33, 93] < 0.1
    assert kept[30, 15] == 1


def test_pieces_that_look_little_like_the_subject_are_dropped():
    field = np.zeros((HEIGHT, WIDTH), np.float32)
    field[10:20, 10:20] = field[10:20, 60:70] = 1
    likeness = np.full_like(field, 0.5)
    likeness[:, :40] = 0.7
    kept = drop_unlike(field, Evidence(field, field, field, likeness), 0.58)
    assert kept[15, 15] == 1
    assert kept[15, 65] < 0.1


@pytest.mark.parametrize(
    ("width", "likeness", "found"), [(4, 0.55, 1), (20, 0.55, 0), (20, 0.6, 1)]
)
def test_what_shows_much_must_look_more_like_the_subject(width: int, likeness: float, found: int):
    field = np.zeros((HEIGHT, WIDTH), np.float32)
    field[10:50, 10 : 10 + width] = 1
    evidence = Evidence(field, np.zeros_like(field), 4 * field, np.full_like(field, likeness))
    kept = choose_candidate(field, evidence, 2000.0, (0.53, 0.58))
    assert round(float(kept[30, 12])) == found


@pytest.mark.parametrize(("others", "stays"), [(0.4, 1), (0.55, 0)])
def test_a_new_piece_must_look_more_like_the_subject_than_others_do(others: float, stays: int):
    field, brought = (np.zeros((HEIGHT, WIDTH), np.float32) for _ in range(2))
    field[10:50, 10:30] = brought[10:50, 10:30] = 1
    field[20:40, 60:70] = 1
    alpha, likeness = field.copy(), np.where(brought > 0, 0.66, 0.55).astype(np.float32)
    alpha[:, 90:] = 1
    likeness[:, 90:] = others
    kept = drop_unsupported(field, Evidence(alpha, brought, 4 * field, likeness), 800.0, 0.58)
    assert round(float(kept[30, 65])) == stays
    assert kept[30, 20] == 1

"""Rules for the connected pieces of a field: which of them may stay.

A pixel's verdict knows nothing of shape. These rules drop pieces that turn up from nowhere
without looking like the subject, choose among candidates when it is searched for, and
close small gaps inside it.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

_DROPPED = np.float32(0.02)  # the field of a piece that is dropped
_FILLED = np.float32(0.9)
_NEW_PIECE_LOGIT = 2.0  # a piece that motion did not bring must look that sure
_BROUGHT = 0.06  # of all that motion brought, a piece's share that is enough
_SURROUNDED = 0.60  # of a gap's rim that is wanted
_KNOWN = 0.5  # of a gap that motion has followed as not wanted since the key
_OTHER_LOGIT = -1.0  # mean look of a gap that something else is seen through
_ENCLOSED = 0.7  # of a piece's rim that others' foreground covers
_FEWEST_COMPARED = 60  # pixels on either side
_MUCH = 0.25  # of the usual area
_SLIVER, _SMALL = 0.08, 0.4  # of the usual area
_LONE = 0.2  # of the largest piece: a smaller sliver is beside the subject
_NEW = 0.2  # of the field that motion has brought from the key


class Evidence(NamedTuple):
    """What speaks for each pixel, all (h, w) float32.

    alpha: the network's. brought: the moved field x trust. look: logit of the appearance.
    likeness: cosine with the nearest wanted vector.
    """

    alpha: np.ndarray
    brought: np.ndarray
    look: np.ndarray
    likeness: np.ndarray


def grown(mask: np.ndarray, radius: int) -> np.ndarray:
    """A mask dilated by a square of 2 x radius + 1, uint8 0 or 1."""
    side = 2 * radius + 1
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)))


def _labelled(mask: np.ndarray) -> tuple[int, np.ndarray]:
    """Pieces of a mask, those up to 4 px apart as one: their count with ground, labels."""
    count, labels = cv2.connectedComponents(grown(mask, 2))
    return count, labels * mask


def _sums(labels: np.ndarray, count: int, *maps: np.ndarray) -> list[np.ndarray]:
    """Pixels of each label, then the sum of each map over it, float64."""
    flat = labels.ravel()
    sizes = np.bincount(flat, minlength=count).astype(np.float64)
    return [sizes] + [np.bincount(flat, m.ravel(), count) for m in maps]


def drop_unsupported(
    field: np.ndarray, evidence: Evidence, area: float, newcomer: float | None
) -> np.ndarray:
    """Without pieces that motion did not bring and that do not surely look like the subject.

    area: its usual area. newcomer: the most likeness that a new piece needs, None to allow none.
    """
    mine = field > 0.5
    count, labels = _labelled(mine)
    sizes, support, looks, likes = _sums(
        labels, count, evidence.brought, evidence.look, evidence.likeness
    )
    sizes = np.maximum(sizes, 1)
    support[0] = 0
    drop = (support < _BROUGHT * max(support.sum(), 0.25 * area)) & (support < 0.5 * sizes)
    if newcomer is not None:
        sure = (likes / sizes > _needed(evidence, mine, newcomer)) & (
            looks / sizes > _NEW_PIECE_LOGIT
        )
        drop &= ~(sure & (sizes > 0.02 * area))
    drop[0] = False
    return np.where(drop[labels], np.minimum(field, _DROPPED), field)


def _needed(evidence: Evidence, mine: np.ndarray, most: float) -> float:
    """The likeness a new piece needs: halfway from others to what motion brought, ``most`` at most.

    mine: (h, w) bool, the field with the new pieces.
    """
    brought, others = mine & (evidence.brought > 0.5), (evidence.alpha > 0.5) & ~mine
    if min(brought.sum(), others.sum()) < _FEWEST_COMPARED:
        return most
    ends = [float(evidence.likeness[one].mean()) for one in (others, brought)]
    return min(most, sum(ends) / 2)


def drop_unlike(field: np.ndarray, evidence: Evidence, least_likeness: float) -> np.ndarray:
    """Without pieces that look less like the subject than that, on average."""
    count, labels = _labelled(field > 0.5)
    sizes, likes = _sums(labels, count, evidence.likeness)
    drop = likes < least_likeness * sizes
    drop[0] = False
    return np.where(drop[labels], np.minimum(field, _DROPPED), field)


def choose_candidate(
    field: np.ndarray, evidence: Evidence, area: float, least_likeness: tuple[float, float]
) -> np.ndarray:
    """Of what the network marks only the pieces that look most like the subject.

    least_likeness: of a piece that shows little of it, and of one that shows more: with more to
    see, another one looks like it no longer.
    """
    little, much = least_likeness
    alike = (evidence.likeness > little + 0.05) & (evidence.look > 0.5 * _NEW_PIECE_LOGIT)
    allowed = (evidence.alpha > 0.2) | alike
    mine = (field > 0.5) & allowed
    count, labels = _labelled(mine)
    sizes, looks, likes = _sums(labels, count, np.maximum(evidence.look, 0), evidence.likeness)
    looks[0] = 0
    drop = looks < 0.5 * looks.max()
    drop |= likes < np.where(sizes > _MUCH * area, much, little) * sizes
    drop |= sizes < 0.03 * area
    drop[0] = False
    near = cv2.dilate(labels.astype(np.float32), np.ones((3, 3), np.uint8)).astype(np.intp)
    kept = np.where(drop[near], np.minimum(field, _DROPPED), field)
    unmarked = ~allowed & (kept > 0.5) & (evidence.brought < 0.3)
    return np.where(unmarked, _DROPPED, kept)


def drop_enclosed(
    field: np.ndarray, evidence: Evidence, unbroken: np.ndarray, area: float, *, searching: bool
) -> np.ndarray:
    """Without pieces that others' foreground surrounds: a part of them that looks alike.

    searching: what looks like the subject may be more of it, and is not counted as others'.
    Only where motion has brought little of the field from the key. unbroken: (h, w) float32, trust
    in motion back to the key. Lone slivers stay: a subject that shows again begins as one.
    """
    mine = field > 0.5
    if unbroken[mine].sum() > _NEW * mine.sum():
        return field
    count, labels = cv2.connectedComponents(grown(mine, 2))
    (sizes,) = _sums(labels * mine, count)
    others = evidence.alpha > 0.5
    if searching:
        others &= evidence.look < 0
    rims, marked = _sums(labels * ~mine, count, others)
    drop = (sizes < _SMALL * area) & (marked > _ENCLOSED * rims)
    drop &= (sizes > _SLIVER * area) | (sizes < _LONE * sizes[1:].max(initial=0))
    drop[0] = False
    return np.where(drop[labels * mine], np.minimum(field, _DROPPED), field)


def fill_gaps(field: np.ndarray, evidence: Evidence, others: np.ndarray, area: float) -> np.ndarray:
    """With small pieces of the network's foreground filled that the subject surrounds.

    Not with what looks like something else: who passes behind an arm. others: (h, w) float32
    0..1, what motion has followed as not the subject since the key.
    """
    mine = field > 0.5
    holes = ((evidence.alpha > 0.5) & ~mine).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(holes, connectivity=4)
    filled = field
    for label in range(1, count):
        if not 4 <= stats[label, cv2.CC_STAT_AREA] <= 0.12 * area:
            continue
        part = _window(stats[label], field.shape)
        piece = labels[part] == label
        rim = (grown(piece, 1) > 0) & ~piece
        is_known = others[part][piece].mean() > _KNOWN
        is_other = is_known or evidence.look[part][piece].mean() < _OTHER_LOGIT
        if mine[part][rim].mean() > _SURROUNDED and not is_other:
            if filled is field:
                filled = field.copy()
            filled[part][piece] = np.maximum(filled[part][piece], _FILLED)
    return filled


def _window(stats: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The rows and columns of a piece and one pixel around it."""
    x, y, w, h = (int(v) for v in stats[:4])
    return slice(max(y - 1, 0), min(y + h + 1, shape[0])), slice(
        max(x - 1, 0), min(x + w + 1, shape[1])
    )

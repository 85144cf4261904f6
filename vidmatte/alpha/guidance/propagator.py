"""What carries a subject's mask from a key frame to the frames after or before it.

A ``Propagator`` is seeded with masks, takes the frames one by one, and gives each a soft mask.
``FlowPropagator`` needs no weights of its own: motion and appearance, see ``tracker``.
``CutiePropagator`` runs a network, see ``models.cutie``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from vidmatte.alpha.guidance.appearance import KeyFrame
from vidmatte.alpha.guidance.coarse import CoarseFrame, reduced
from vidmatte.alpha.guidance.motion import MotionSearch
from vidmatte.alpha.guidance.store import FlowStore
from vidmatte.alpha.guidance.tracker import (
    LOST_AFTER,
    LOST_SHARE,
    FieldStep,
    SubjectTracker,
    TrackerSettings,
)
from vidmatte.models.cutie import Cutie, CutieTracker


class Propagator(Protocol):
    """One subject, from a key frame on in one direction. Memory does not grow with the frames.

    first_doubt: how much the key itself is to be doubted, 0 and up.
    """

    first_doubt: float

    def step(self, frame: CoarseFrame) -> FieldStep:
        """The subject on the next frame in this direction."""

    def correct(self, mask: np.ndarray) -> None:
        """Go on from a key's mask (h, w) float32 0..1 of the last frame."""


#: From the key to go on from, and further ones to learn from, the nearest first.
MakePropagator = Callable[[KeyFrame, Sequence[KeyFrame]], Propagator]


class FlowPropagator:
    """Motion between neighbours, and the subject's appearance. flows: of the clip, if kept."""

    def __init__(
        self,
        start: KeyFrame,
        others: Sequence[KeyFrame],
        settings: TrackerSettings | None = None,
        flows: FlowStore | None = None,
    ) -> None:
        self._tracker = SubjectTracker(start, others, settings)
        self._search, self._last = MotionSearch(flows), start.frame
        self.first_doubt = self._tracker.first_doubt

    def step(self, frame: CoarseFrame) -> FieldStep:
        last, self._last = self._last, frame
        pair = _neighbours(frame, last)
        motion = self._search.between(frame.grey, last.grey, frame.lab, last.lab, pair)
        return self._tracker.step(frame, motion)

    def correct(self, mask: np.ndarray) -> None:
        self._tracker.correct(mask)
        self.first_doubt = self._tracker.first_doubt


def _neighbours(one: CoarseFrame, other: CoarseFrame) -> tuple[int, int] | None:
    """The numbers of two frames that are neighbours in a store."""
    if one.index is None or other.index is None or abs(one.index - other.index) != 1:
        return None
    return one.index, other.index


class CutiePropagator:
    """Cutie's mask. Its frames have a ``detail`` picture."""

    first_doubt = 0.0

    def __init__(self, cutie: Cutie, start: KeyFrame, others: Sequence[KeyFrame]) -> None:
        seeds = [(_detail(key.frame), key.mask) for key in (start, *others)]
        self._tracker = CutieTracker(cutie, seeds)
        self._area = max(key.area for key in (start, *others))
        self._last_area, self._missed = start.area, 0

    def step(self, frame: CoarseFrame) -> FieldStep:
        field = reduced(self._tracker.step(_detail(frame)), frame.width, frame.height)
        now = float((field > 0.5).sum())
        self._missed = self._missed + 1 if now < LOST_SHARE * self._area else 0
        doubt = 1 + 10 * abs(float(np.log((now + 50) / (self._last_area + 50))))
        soft = float((4 * field * (1 - field)).sum()) / max(now, 50.0)
        self._last_area = now
        return FieldStep(field, doubt, lost=self._missed >= LOST_AFTER, soft=soft)

    def correct(self, mask: np.ndarray) -> None:
        """Its memory holds all keys from the beginning."""
        self._last_area = float(mask.sum())


def _detail(frame: CoarseFrame) -> np.ndarray:
    if frame.detail is None:
        raise ValueError("the frame has no detail picture")
    return frame.detail

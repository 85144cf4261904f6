"""Tracks one subject from a key frame, frame by frame, in either direction.

Each frame's field is the sum of two terms in logits: the last field, warped by motion, and the
likeness to the subject's appearance. The weight of appearance is measured in the first frames,
while motion is still reliable: subjects in the same clothes look alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from vidmatte.alpha.guidance.appearance import Appearance, AppearanceSettings, KeyFrame, edge_logits
from vidmatte.alpha.guidance.coarse import FEWEST_PIXELS, CoarseFrame, ColourGuide
from vidmatte.alpha.guidance.lineage import Lineage
from vidmatte.alpha.guidance.motion import Motion, with_own_motion
from vidmatte.alpha.guidance.pieces import (
    Evidence,
    choose_candidate,
    drop_enclosed,
    drop_unlike,
    drop_unsupported,
    fill_gaps,
    grown,
)

LOST_AFTER = 3  # frames without it until it is searched for everywhere
_SLIVER = 0.15  # of the largest key's area: less is mostly edge, and teaches no looks
_SLIVER_DOUBT = 20.0
# Doubt of an area that is e times as large, or as small: what comes into view is guessed by looks,
# what is hidden was followed until then.
_GROWS, _SHRINKS = 10.0, 4.0
LOST_SHARE = 0.08  # of its usual area: less is as good as gone
_SURELY_FOUND = 0.25  # of it: what was lost, and is found as less, is lost again at once
_CUT_TRUST = 0.3  # mean trust below which nothing was followed: a cut
_EDGE_SIGMA = 1  # pixels: along its edge motion is less sure of a pixel's side
_MOST_MOVED = 4.0  # largest logit that motion gives
_ASKED_FRAMES = 6  # after the key, in which looks are put to the test
_FEWEST_ASKED = 60  # pixels on either side of that test


@dataclass(frozen=True)
class TrackerSettings:
    """Weights of the witnesses; the likeness limits depend on the features."""

    flow_weight: float = 0.8
    flow_more_if_alike: float = 1.5
    reach: int = 8  # pixels around the moved field where the subject is expected
    learn_every: int = 3  # frames
    smoothed: float = 0.6  # share of the edge-aware smoothed logits
    least_likeness: float = 0.50
    newcomer_likeness: float = 0.58
    appearance: AppearanceSettings = field(default_factory=AppearanceSettings)
    key_weight: float = 1.0  # of its mask where motion is trusted all the way from it
    colour_weight: float = 1.0  # of the colours on either side of the edge
    newest_share: float = 0.2  # of motion's weight where a pixel has no history
    learn_history: float = 0.4  # the least to learn the subject from


@dataclass(frozen=True)
class FieldStep:
    """A frame's result.

    field: (h, w) float32 0..1. doubt: of this frame alone, 0 is none. cut: nothing of the
    last frame was found again. lost: the subject is gone. distinctness: 0..1, how well
    looks distinguish it from the others; below 0.3 motion decides. soft: how much of it is
    undecided, 0..about 1. followed: (h, w) float32 0..1, trust in motion from the key to each
    pixel, None where that is not known.
    """

    field: np.ndarray
    doubt: float
    cut: bool = False
    lost: bool = False
    distinctness: float = 1.0
    soft: float = 0.0
    followed: np.ndarray | None = None


class SubjectTracker:
    """One subject, one direction. Memory does not grow with the frames."""

    def __init__(
        self,
        start: KeyFrame,
        others: Sequence[KeyFrame] = (),
        settings: TrackerSettings | None = None,
    ) -> None:
        """Begin at ``start``; ``others`` are further keys to learn from, nearest first."""
        self._settings = settings or TrackerSettings()
        largest = max(key.area for key in (start, *others))
        teachers = [key for key in (start, *others) if key.area > _SLIVER * largest]
        self._appearance = Appearance(teachers, self._settings.appearance)
        self._area = start.area if start.area > _SLIVER * largest else largest
        self._missed = 0 if start.area > FEWEST_PIXELS else LOST_AFTER
        self._field = start.mask.astype(np.float32)
        self._lineage = Lineage(self._field, start.frame.lab)
        self._last_area = start.area
        self._distinctness = 1.0
        self._unsure = self._missed > 0
        self._since_key = 0
        self.first_doubt = _sliver_doubt(start.area, largest)

    def step(self, frame: CoarseFrame, motion: Motion, *, cut: bool = False) -> FieldStep:
        """The next frame. motion: from it to the frame before, in this direction."""
        self._since_key += 1
        cut = cut or float(motion.trust.mean()) < _CUT_TRUST
        if cut:
            motion = replace(motion, trust=np.zeros_like(motion.trust))
        else:
            motion = with_own_motion(motion, self._field, frame.lab, self._lineage.last_lab)
        moved = motion.carry(self._field)
        searching = cut or self._missed >= LOST_AFTER
        far = np.ones(1, np.float32) if searching else self._unexpected(moved, frame)
        look, likeness = self._appearance.judge(frame, far, self._settings.least_likeness)
        if not cut and self._since_key <= _ASKED_FRAMES:
            self._ask(look, moved, motion, frame)
        self._lineage.advance(motion, moved, frame.alpha, self._area, frame.lab)
        if not searching:
            alike = np.clip((likeness - self._settings.least_likeness) / 0.1, 0, 1)
            alike = alike * (frame.alpha > 0.5)
            visible = self._last_area / max(self._area, 1)
            look = look + self._lineage.evidence(alike, visible, self._distinctness)
        fused = self._fuse(frame, motion, moved, look, searching)
        evidence = Evidence(frame.alpha, moved * motion.trust, look, likeness)
        self._field = self._by_pieces(fused, evidence, searching).astype(np.float32)
        if searching:
            self._lineage.found(self._field)
        self._lineage.settle(self._field, look, self._distinctness)
        return self._finish(frame, motion, cut, likeness)

    def _unexpected(self, moved: np.ndarray, frame: CoarseFrame) -> np.ndarray:
        """1 where the subject is not expected, at the features' size."""
        near = grown(moved > 0.5, self._settings.reach).astype(np.float32)
        height, width = frame.features.shape
        return 1 - np.asarray(cv2.resize(near, (width, height), interpolation=cv2.INTER_AREA))

    def _ask(self, look: np.ndarray, moved: np.ndarray, motion: Motion, frame: CoarseFrame) -> None:
        """Put looks to the test on foreground that motion has surely followed."""
        known = (motion.trust > 0.6) & (np.abs(moved - 0.5) > 0.3)
        known &= (frame.alpha > 0.4) | (moved > 0.5)
        yes, no = known & (moved > 0.5), known & (moved < 0.5)
        if yes.sum() <= _FEWEST_ASKED or no.sum() <= _FEWEST_ASKED:
            return
        error = 0.5 * ((look[yes] < 0).mean() + (look[no] > 0).mean())
        answer = float(np.clip(1 - 3 * error, 0.05, 1))
        self._distinctness = 0.6 * self._distinctness + 0.4 * answer

    def _fuse(
        self,
        frame: CoarseFrame,
        motion: Motion,
        moved: np.ndarray,
        look: np.ndarray,
        searching: bool,
    ) -> np.ndarray:
        """Motion and looks in logits, smoothed along the picture's edges, as a field."""
        s = self._settings
        by_look = np.float32(max(self._distinctness, 0.8) if searching else self._distinctness)
        gain = s.flow_weight * (1 + s.flow_more_if_alike * (1 - self._distinctness))
        gain *= 1 if self._missed < LOST_AFTER else 0.3
        known = np.float32(s.newest_share) + (1 - s.newest_share) * self._lineage.history
        by_flow = np.float32(gain) * motion.trust * known
        total = by_flow * _moved_logit(moved) + by_look * look + self._by_key()
        if not searching:
            by_colour = np.float32(s.colour_weight) * motion.trust
            total = total + by_colour * edge_logits(frame.lab, _sigmoid(total))
        weight = np.minimum(by_flow + np.float32(0.35) * by_look * np.abs(look) + 0.01, 3)
        smooth = ColourGuide(frame.lab / 50).weighted(total, weight.astype(np.float32))
        return _sigmoid((1 - s.smoothed) * total + s.smoothed * smooth)

    def _by_key(self) -> np.ndarray:
        """Logits of the key's mask as far as motion has carried it here, off its edge."""
        inside = np.square(2 * cv2.GaussianBlur(self._lineage.key, (0, 0), _EDGE_SIGMA) - 1)
        weight = np.float32(self._settings.key_weight) * np.square(self._lineage.unbroken) * inside
        return np.asarray(weight * _moved_logit(self._lineage.key))

    def _by_pieces(self, fused: np.ndarray, evidence: Evidence, searching: bool) -> np.ndarray:
        s = self._settings
        if searching:
            kept = choose_candidate(
                fused, evidence, self._area, (s.least_likeness + 0.03, s.newcomer_likeness)
            )
        else:
            newcomer = s.newcomer_likeness if self._distinctness > 0.6 else None
            kept = drop_unsupported(fused, evidence, self._area, newcomer)
            if self._unsure:
                kept = drop_unlike(kept, evidence, s.newcomer_likeness)
        lineage = self._lineage
        kept = drop_enclosed(kept, evidence, lineage.unbroken, self._area, searching=searching)
        if self._missed < LOST_AFTER:
            others = lineage.unbroken * (lineage.key < 0.5)
            kept = fill_gaps(kept, evidence, others, self._area)
        return kept

    def _finish(
        self, frame: CoarseFrame, motion: Motion, cut: bool, likeness: np.ndarray
    ) -> FieldStep:
        """Count, learn, and say how sure all this was."""
        s, result = self._settings, self._field
        inside = result > 0.5
        now = float(inside.sum())
        self._count_missed(now, float(likeness[inside].mean()) if now else 0.0)
        followed = float(motion.trust[inside].mean()) if now > 20 else 0.0
        change = float(np.log((now + 50) / (self._last_area + 50)))
        by_area = max(_GROWS * change, -_SHRINKS * change)
        doubt = 1 + 15 * cut + 8 * (1 - followed) + by_area
        self._last_area = now
        learns = not cut and self._since_key % s.learn_every == 0
        if learns and now > 0.25 * self._area and self._distinctness > 0.3:
            sure = (np.abs(result - 0.5) > 0.45) * np.where(motion.trust > 0.4, 1.0, 0.05)
            sure = np.where(inside & (self._lineage.history < s.learn_history), 0.0, sure)
            self._appearance.learn(frame, result, sure)
        if now > 0.2 * self._area:
            self._area = 0.9 * self._area + 0.1 * now
        soft = float((4 * result * (1 - result)).sum()) / max(now, 50.0)
        lost = self._missed >= LOST_AFTER
        return FieldStep(result, doubt, cut, lost, self._distinctness, soft, self._lineage.unbroken)

    def _count_missed(self, area: float, alike: float) -> None:
        """Frames without it, from the field's area now and its mean likeness."""
        if area < LOST_SHARE * self._area:
            self._missed += 1
        elif area > _SURELY_FOUND * self._area and (
            not self._unsure or alike > self._settings.newcomer_likeness
        ):
            self._missed = 0
        else:
            self._missed = min(self._missed, LOST_AFTER - 1)
        self._unsure = self._missed >= LOST_AFTER or (self._unsure and self._missed > 0)

    def correct(self, mask: np.ndarray) -> None:
        """Go on from a key's mask (h, w) float32 0..1 of the last frame."""
        self._field = mask.astype(np.float32)
        self._lineage.restart(self._field)
        self._last_area = float(mask.sum())
        self._missed = 0 if self._last_area > FEWEST_PIXELS else LOST_AFTER
        self.first_doubt = _sliver_doubt(self._last_area, self._area)


def _sliver_doubt(area: float, largest: float) -> float:
    """Of a key that shows less than the largest; that of a sliver says little of what is around."""
    less = max(0.0, float(np.log(largest / max(area, 1))))
    return 3 * less + _SLIVER_DOUBT * max(0.0, less + float(np.log(_SLIVER)))


def _moved_logit(field: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(_logit(field), -_MOST_MOVED, _MOST_MOVED))


def _logit(p: np.ndarray) -> np.ndarray:
    clipped = np.clip(p, 1e-3, 1 - 1e-3)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))), np.float32)


def shared_fields(fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Fields (h, w) float32 0..1 that add up to 1 at most: a pixel belongs to the surer one."""
    total = sum((field**2 for field in fields.values()), np.float32(0))
    over = np.sum(list(fields.values()), axis=0) > 1
    return {
        name: np.where(over, field**2 / np.maximum(total, 1e-6), field).astype(np.float32)
        for name, field in fields.items()
    }

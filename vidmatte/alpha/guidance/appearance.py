"""Does a pixel look like the subject? Classifier and gallery together, taught by key frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.alpha.guidance.classifier import Classifier, Lesson
from vidmatte.alpha.guidance.coarse import CoarseFrame
from vidmatte.alpha.guidance.gallery import Gallery

_MOST_LOGIT = 5.0
_FEWEST_PIXELS = 15  # of the work picture: a smaller mask teaches nothing


@dataclass(frozen=True)
class KeyFrame:
    """A frame whose subject is known. mask: (h, w) float32 0..1 at the work size.

    An empty mask is a key, too: the subject is not there.
    """

    frame: CoarseFrame
    mask: np.ndarray

    @property
    def area(self) -> float:
        """Pixels of the subject."""
        return float(self.mask.sum())


@dataclass(frozen=True)
class AppearanceSettings:
    """How the two witnesses are weighed."""

    classifier_weight: float = 0.5
    gallery_weight: float = 0.6
    gallery_gain: float = 8.0
    unlike_gain: float = 25.0


class Appearance:
    """Learns from frames and judges frames."""

    def __init__(
        self, keys: Sequence[KeyFrame], settings: AppearanceSettings | None = None, seed: int = 0
    ) -> None:
        """Learn from key frames, in the order given: the first sets the whitening."""
        self._settings = settings or AppearanceSettings()
        self._classifier, self._gallery = Classifier(seed), Gallery(seed)
        for key in keys:
            if key.area >= _FEWEST_PIXELS:
                self._learn(key.frame, key.mask, None, key=True)

    def learn(self, frame: CoarseFrame, field: np.ndarray, sure: np.ndarray) -> None:
        """Learn from a frame that was followed; only where ``sure`` (h, w) is above 0.1."""
        self._learn(frame, field, sure, key=False)

    def _learn(
        self, frame: CoarseFrame, field: np.ndarray, sure: np.ndarray | None, *, key: bool
    ) -> None:
        features = frame.features
        size = features.shape[1], features.shape[0]
        small = [_halved(values, size).ravel() for values in (field, frame.alpha)]
        known = np.ones_like(small[0]) if sure is None else _halved(sure, size).ravel()
        flat = features.reshape(-1, features.shape[-1])
        lesson = Lesson(flat, small[0], known, small[1])
        self._classifier.learn(lesson, key=key)
        self._gallery.learn(lesson, key=key)

    def judge(
        self, frame: CoarseFrame, far: np.ndarray, least_likeness: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logit of belonging, within -5..5, and likeness -1..1; both (h, w) float32.

        far: 0..1, (h / 2, w / 2) or one value: where the subject is not expected. What is less
        like it than ``least_likeness`` there is not it, whatever the classifier makes of it:
        it has never seen a newcomer.
        """
        s, features = self._settings, frame.features
        verdict = np.clip(self._classifier.logits(features), -_MOST_LOGIT, _MOST_LOGIT)
        look = s.classifier_weight * verdict
        near = np.zeros(features.shape[:2], np.float32)
        if self._gallery.is_taught:
            near, other = self._gallery.likeness(features)
            unlike = np.minimum(0, s.unlike_gain * (near - np.float32(least_likeness)))
            look = look + s.gallery_weight * (s.gallery_gain * (near - other) + far * unlike)
        look = np.clip(look, -_MOST_LOGIT, _MOST_LOGIT).astype(np.float32)
        size = (frame.width, frame.height)
        return np.asarray(cv2.resize(look, size)), np.asarray(cv2.resize(near, size))


def _halved(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Values (h, w) at the features' size (width, height), float32."""
    small = cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(small)

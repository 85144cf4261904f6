"""Remembered looks of the subject and of everything else, compared by cosine.

Features are whitened channel by channel with the first key frame's mean and deviation
before they are compared: without that, all pixels of a picture look alike.
"""

from __future__ import annotations

import cv2
import numpy as np

from vidmatte.alpha.guidance.classifier import Lesson

_OF_KEY, _OF_LATER = 240, 60  # vectors kept of a frame: wanted, other foreground, background
_KEPT_LATER = 3  # frames that are no keys
_KEPT_KEYS = 6  # key frames, the newest
_FEWEST = 10


class Gallery:
    """Vectors of the wanted subject and of all else. Holds a bounded number of them."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._mean = self._deviation = np.zeros(0, np.float32)
        self._keys: list[tuple[np.ndarray, np.ndarray]] = []
        self._later: list[tuple[np.ndarray, np.ndarray]] = []

    @property
    def is_taught(self) -> bool:
        """Whether it holds any vectors."""
        return bool(self._keys or self._later)

    def learn(self, lesson: Lesson, *, key: bool) -> None:
        """Remember some of a frame's vectors; nothing where too few are the subject's."""
        if not len(self._mean):
            self._mean = lesson.features.mean(0)
            self._deviation = lesson.features.std(0) + 0.1
        sure = lesson.sure > 0.1
        most = _OF_KEY if key else _OF_LATER
        mine = self._some(lesson, sure & (lesson.belongs > 0.7), most)
        if len(mine) < _FEWEST:
            return
        rest, marked = sure & (lesson.belongs < 0.3), lesson.marked > 0.5
        groups = [self._some(lesson, rest & m, most) for m in (marked, ~marked)]
        (self._keys if key else self._later).append((mine, np.concatenate(groups)))
        del self._later[:-_KEPT_LATER]
        del self._keys[:-_KEPT_KEYS]

    def likeness(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cosine with the nearest wanted and the nearest other vector.

        features: (h, w, D) float32. Both (h, w) float32 in -1..1, found at half that size.
        """
        height, width = features.shape[:2]
        rows, columns = height // 2, width // 2
        even = features[: 2 * rows, : 2 * columns]
        pooled = even.reshape(rows, 2, columns, 2, -1).mean((1, 3)).reshape(rows * columns, -1)
        white = self._whiten(pooled)
        found = []
        for side in (0, 1):
            known = np.concatenate([pair[side] for pair in self._keys + self._later])
            nearest = (white @ known.T).max(1) if len(known) else np.full(len(white), -1.0)
            small = nearest.reshape(rows, columns).astype(np.float32)
            found.append(np.asarray(cv2.resize(small, (width, height))))
        return found[0], found[1]

    def _whiten(self, features: np.ndarray) -> np.ndarray:
        """(n, D) features as whitened vectors of unit length."""
        white = (features - self._mean) / self._deviation
        length = np.sqrt(np.square(white).sum(-1, keepdims=True)) + np.float32(1e-6)
        return np.asarray(white / length)

    def _some(self, lesson: Lesson, mask: np.ndarray, most: int) -> np.ndarray:
        """Up to ``most`` whitened vectors of the masked samples."""
        places = np.flatnonzero(mask)
        if len(places) > most:
            places = self._random.choice(places, most, replace=False)
        return self._whiten(lesson.features[places])

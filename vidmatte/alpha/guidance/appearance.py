"""Does a pixel look like the subject? Classifier and gallery together, taught by key frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.alpha.guidance.classifier import Classifier, Lesson
from vidmatte.alpha.guidance.coarse import FEWEST_PIXELS, CoarseFrame
from vidmatte.alpha.guidance.coarse_features import CoarseFeatures, mean_of_four

_MOST_LOGIT = 5.0


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
        self._classifier, self._gallery = Classifier(seed), _Gallery(seed)
        for key in keys:
            if key.area >= FEWEST_PIXELS:
                self._learn(key.frame, key.mask, None, key=True)

    def learn(self, frame: CoarseFrame, field: np.ndarray, sure: np.ndarray) -> None:
        """Learn from a frame that was followed; only where ``sure`` (h, w) is above 0.1."""
        self._learn(frame, field, sure, key=False)

    def _learn(
        self, frame: CoarseFrame, field: np.ndarray, sure: np.ndarray | None, *, key: bool
    ) -> None:
        features = frame.features.joined()
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
        near = np.zeros(features.shape, np.float32)
        if self._gallery.is_taught:
            near, other = self._gallery.likeness(features, far)
            unlike = np.minimum(0, s.unlike_gain * (near - np.float32(least_likeness)))
            look = look + s.gallery_weight * (s.gallery_gain * (near - other) + far * unlike)
        look = np.clip(look, -_MOST_LOGIT, _MOST_LOGIT).astype(np.float32)
        size = (frame.width, frame.height)
        return np.asarray(cv2.resize(look, size)), np.asarray(cv2.resize(near, size))


_WINDOW = (21, 21)  # pixels of the work picture: what counts as local
_CLEAR = 0.6  # of the softened field: from here on a pixel counts as of a side
_LEAST_SHARE = 0.05  # of the window on either side of the edge, for its colours to say much
_COLOUR_VARIANCE = 9.0  # of Lab, from noise alone
_MOST_EDGE_LOGIT = 3.0


def edge_logits(lab: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Logits, within -3..3, of belonging to the subject by the colours on either side of its edge.

    lab: (h, w, 3) float32. field: (h, w) float32 0..1. Features are coarse: beyond the edge they
    still claim some pixels. Colours are compared with a normal distribution of those nearby on
    each side, as in Bai et al., "Video SnapCut", SIGGRAPH 2009. 0 far from the edge.
    """
    soft = cv2.GaussianBlur(field, (0, 0), 1.5)
    logits = np.zeros_like(field)
    part = _around(soft > _CLEAR, _WINDOW[0] - 1)
    if part is not None:
        near = 1 - np.square(2 * cv2.GaussianBlur(field, (0, 0), 3)[part] - 1)
        logits[part] = near * _side_logits(lab[part], soft[part])
    return logits


def _around(mask: np.ndarray, margin: int) -> tuple[slice, slice] | None:
    """The rows and columns of a mask and what is up to ``margin`` pixels away; None if empty."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if not width:
        return None
    top, left = max(y - margin, 0), max(x - margin, 0)
    return slice(top, y + height + margin), slice(left, x + width + margin)


def _side_logits(lab: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """How much better each colour fits the subject's side of a soft edge, (h, w) float32."""
    square = np.square(lab)
    fits, shares = [], []
    for side in (soft, 1 - soft):
        weight = np.clip((side - np.float32(_CLEAR)) / np.float32(0.3), 0, 1)
        share = cv2.blur(weight, _WINDOW)
        shares.append(share)
        weight, divisor = cv2.merge([weight] * 3), cv2.merge([np.maximum(share, 1e-4)] * 3)
        mean = cv2.blur(weight * lab, _WINDOW) / divisor
        variance = cv2.blur(weight * square, _WINDOW)
        variance /= divisor
        variance -= np.square(mean)
        np.maximum(variance, 0, out=variance)
        variance += np.float32(_COLOUR_VARIANCE)
        misfit = cv2.log(variance)
        misfit += np.square(lab - mean) / variance
        fits.append(misfit)
    mine, others = fits
    ratio = cv2.transform(others - mine, np.full((1, 3), 0.5, np.float32))
    known = np.clip(np.minimum(*shares) / np.float32(_LEAST_SHARE), 0, 1)
    return np.asarray(known * np.clip(ratio, -_MOST_EDGE_LOGIT, _MOST_EDGE_LOGIT))


def _halved(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Values (h, w) at the features' size (width, height), float32."""
    small = cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(small)


_OF_KEY, _OF_LATER = 240, 60  # vectors kept of a frame: wanted, other foreground, background
_KEPT_LATER = 3  # frames that are no keys
_KEPT_KEYS = 6  # key frames, the newest
_FEWEST = 10
_UNDECIDED = 0.2  # of likeness: what looks more like something else than by so much is that


class _Gallery:
    """Vectors of the wanted subject and of all else. Holds a bounded number of them."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._mean = self._deviation = np.zeros(0, np.float32)
        self._keys: list[tuple[np.ndarray, np.ndarray]] = []
        self._later: list[tuple[np.ndarray, np.ndarray]] = []
        self._known = np.zeros((0, 0), np.float32)  # all of them, the wanted ones first
        self._wanted = 0  # how many these are

    @property
    def is_taught(self) -> bool:
        """Whether it holds any vectors."""
        return len(self._known) > 0

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
        sides = [np.concatenate(side) for side in zip(*self._keys, *self._later, strict=True)]
        self._known, self._wanted = np.concatenate(sides), len(sides[0])

    def likeness(self, features: CoarseFeatures, far: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cosine with the nearest wanted and the nearest other vector.

        Both (h / 2, w / 2) float32 in -1..1, found at half that size where the subject is
        expected (see Appearance.judge) or may be by a look at a quarter of it, and there elsewhere.
        """
        pooled = features.pooled()
        rows, columns = pooled.shape[:2]
        coarse = self._nearest(mean_of_four(pooled))
        found = cv2.resize(coarse, (columns, rows))
        fine = found[..., 0] - found[..., 1] > -_UNDECIDED
        if far.ndim > 1:
            fine |= cv2.resize(far, (columns, rows), interpolation=cv2.INTER_AREA) < 1
        found[fine] = self._nearest(pooled[fine])
        near, other = cv2.split(cv2.resize(found, features.shape[::-1]))
        return near, other

    def _nearest(self, features: np.ndarray) -> np.ndarray:
        """Those cosines of features (..., D) float32: (..., 2)."""
        cosines = self._whiten(features.reshape(-1, features.shape[-1])) @ self._known.T
        sides = cosines[:, : self._wanted], cosines[:, self._wanted :]
        nearest = [side.max(1, initial=-1) for side in sides]
        return np.stack(nearest, 1).reshape(*features.shape[:-1], 2)

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

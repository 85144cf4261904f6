"""A small network that learns from key frames which pixels belong to the subject.

Features -> 32 hidden units (ReLU, dropout) -> one logit, trained by AdamW (Loshchilov and
Hutter, "Decoupled Weight Decay Regularization", ICLR 2019) on binary cross entropy. Plain
numpy: a key frame takes about a third of a second, a later frame some milliseconds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vidmatte.alpha.guidance.coarse_features import CoarseFeatures

_HIDDEN = 32
_DROPOUT = 0.3
_NOISE = 0.25  # added to standardised features while learning
_RATE, _DECAY = 4e-3, 0.02
_BATCH = 768
_DRAWN = 4  # batches of noise that are drawn; each step adds some of it, from anywhere on
_FIRST_STEPS, _KEY_STEPS, _LATER_STEPS = 150, 100, 20
_KEPT_LATER = 6  # lessons of frames that are no keys
# Samples of a lesson: the subject, anything else, and what else the network marks.
_SAMPLES = (2000, 2000, 1500)
_FEWEST = 20


class Lesson(NamedTuple):
    """What a frame teaches.

    features (n, D) float32; belongs (n,) float32, soft truth 0..1; sure (n,) float32, a
    sample counts above 0.1; marked (n,) float32, the network's alpha.
    """

    features: np.ndarray
    belongs: np.ndarray
    sure: np.ndarray
    marked: np.ndarray


class Classifier:
    """Logits of "belongs to the subject" from features. The same lessons, the same bytes."""

    def __init__(self, seed: int = 0, samples: tuple[int, int, int] = _SAMPLES) -> None:
        self._random = np.random.default_rng(seed)
        self._samples = samples
        self._keys: list[tuple[np.ndarray, np.ndarray]] = []
        self._later: list[tuple[np.ndarray, np.ndarray]] = []
        self._mean = self._deviation = np.zeros(0, np.float32)
        self._weights: list[np.ndarray] = []
        self._moments: list[tuple[np.ndarray, np.ndarray]] = []
        self._noise = np.zeros(0, np.float32)
        self._steps = 0

    @property
    def is_taught(self) -> bool:
        """Whether it has seen a lesson with enough samples of both kinds."""
        return bool(self._weights)

    def learn(self, lesson: Lesson, *, key: bool) -> None:
        """Train on a frame; key frames make half of every later training, for ever."""
        chosen = self._choose(lesson)
        if chosen is None:
            return
        if not self.is_taught:
            self._mean = lesson.features.mean(0)
            self._deviation = lesson.features.std(0) + 0.1
            steps = self._begin(lesson.features.shape[1])
        else:
            steps = _KEY_STEPS if key else _LATER_STEPS
        samples = (lesson.features[chosen] - self._mean) / self._deviation
        truth = (lesson.belongs[chosen] > 0.5).astype(np.float32)
        (self._keys if key else self._later).append((samples, truth))
        del self._later[:-_KEPT_LATER]
        for step in range(steps):
            self._step(*self._batch(step))

    def logits(self, features: CoarseFeatures) -> np.ndarray:
        """(h / 2, w / 2) float32; 0 (undecided) before the first lesson."""
        if not self.is_taught:
            return np.zeros(features.shape, np.float32)
        w1, b1, w2, b2 = self._weights
        # The standardisation is folded into the first layer: one pass over the features less.
        folded = w1 / self._deviation[:, None]
        hidden = features.projected(folded)
        hidden += b1 - self._mean @ folded
        np.maximum(hidden, 0, out=hidden)
        return np.asarray(hidden @ w2 + b2)

    def _choose(self, lesson: Lesson) -> np.ndarray | None:
        """Places of the samples to learn from; None where a side has too few."""
        sure = lesson.sure > 0.1
        mine, rest = sure & (lesson.belongs > 0.6), sure & (lesson.belongs <= 0.4)
        groups = [np.flatnonzero(m) for m in (mine, rest, rest & (lesson.marked > 0.5))]
        if min(len(groups[0]), len(groups[1])) < _FEWEST:
            return None
        pairs = zip(groups, self._samples, strict=True)
        picked = [self._random.choice(g, n) for g, n in pairs if len(g) > _FEWEST]
        return np.concatenate(picked)

    def _begin(self, width: int) -> int:
        """Draw weights (uniform within 1 / sqrt(fan in)); the number of first steps."""
        weights: list[np.ndarray] = []
        for fan_in, shape in ((width, (width, _HIDDEN)), (_HIDDEN, (_HIDDEN,))):
            reach = fan_in**-0.5
            weights.append(self._random.uniform(-reach, reach, shape).astype(np.float32))
            weights.append(self._random.uniform(-reach, reach, shape[1:]).astype(np.float32))
        self._weights = weights
        self._moments = [(np.zeros_like(w), np.zeros_like(w)) for w in weights]
        drawn = self._random.standard_normal(_DRAWN * _BATCH * width, np.float32)
        self._noise = np.float32(_NOISE) * drawn
        return _FIRST_STEPS

    def _batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """A batch of one lesson: key frames and the latest frames take turns."""
        if self._later and (step % 2 or not self._keys):
            samples, truth = self._later[step // 2 % len(self._later)]
        else:
            samples, truth = self._keys[step % len(self._keys)]
        places = self._random.integers(0, len(samples), _BATCH)
        batch = samples[places]
        begin = self._random.integers(0, len(self._noise) - batch.size)
        batch += self._noise[begin : begin + batch.size].reshape(batch.shape)
        return batch, truth[places]

    def _step(self, x: np.ndarray, truth: np.ndarray) -> None:
        """One AdamW step on a batch (B, D), (B,)."""
        w1, b1, w2, b2 = self._weights
        kept = self._random.random((len(x), _HIDDEN), np.float32) >= _DROPOUT
        gain = kept.astype(np.float32) / np.float32(1 - _DROPOUT)
        raw = x @ w1 + b1
        hidden = np.maximum(raw, 0) * gain
        logit = np.clip(hidden @ w2 + b2, -30, 30)
        error = (1 / (1 + np.exp(-logit)) - truth) / np.float32(len(x))
        inner = np.outer(error, w2) * gain * (raw > 0)
        gradients = [x.T @ inner, inner.sum(0), hidden.T @ error, error.sum()]
        self._steps += 1
        for place, gradient in enumerate(gradients):
            self._weights[place] = self._adam(place, np.asarray(gradient, np.float32))

    def _adam(self, place: int, gradient: np.ndarray) -> np.ndarray:
        """The new weights of one place."""
        first, second = self._moments[place]
        first = np.float32(0.9) * first + np.float32(0.1) * gradient
        second = np.float32(0.999) * second + np.float32(0.001) * gradient**2
        self._moments[place] = first, second
        unbiased = first / np.float32(1 - 0.9**self._steps)
        scale = np.sqrt(second / np.float32(1 - 0.999**self._steps)) + np.float32(1e-8)
        kept = self._weights[place] * np.float32(1 - _RATE * _DECAY)
        return np.asarray(kept - np.float32(_RATE) * unbiased / scale)

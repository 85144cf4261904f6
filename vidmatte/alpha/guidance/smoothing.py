"""Edge-aware smoothing: the guided filter with a colour guide.

He, Sun, Tang, "Guided Image Filtering", TPAMI 2013. The 3 x 3 inverse is written out by
cofactors: the matrices are symmetric and there is one a pixel.
"""

from __future__ import annotations

import cv2
import numpy as np


class ColourGuide:
    """A guide (h, w, 3) float32, about -2..2, prepared once for several pictures."""

    def __init__(self, guide: np.ndarray, radius: int = 6, eps: float = 2e-3) -> None:
        self._size = (2 * radius + 1, 2 * radius + 1)
        self._planes = [np.ascontiguousarray(guide[..., i]) for i in range(3)]
        self._means = [self._box(plane) for plane in self._planes]
        self._inverse = self._inverse_covariance(eps)

    def _box(self, plane: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.blur(plane, self._size))

    def _inverse_covariance(self, eps: float) -> dict[tuple[int, int], np.ndarray]:
        """The inverse of covariance + eps at each pixel, by row and column."""
        s = {}
        for i in range(3):
            for j in range(i, 3):
                product = self._box(self._planes[i] * self._planes[j])
                s[i, j] = product - self._means[i] * self._means[j] + (eps if i == j else 0)
        c00 = s[1, 1] * s[2, 2] - s[1, 2] ** 2
        c01 = s[0, 2] * s[1, 2] - s[0, 1] * s[2, 2]
        c02 = s[0, 1] * s[1, 2] - s[0, 2] * s[1, 1]
        c11 = s[0, 0] * s[2, 2] - s[0, 2] ** 2
        c12 = s[0, 1] * s[0, 2] - s[0, 0] * s[1, 2]
        c22 = s[0, 0] * s[1, 1] - s[0, 1] ** 2
        determinant = s[0, 0] * c00 + s[0, 1] * c01 + s[0, 2] * c02
        one = 1 / np.maximum(determinant, 1e-12)
        upper = {(0, 0): c00, (0, 1): c01, (0, 2): c02, (1, 1): c11, (1, 2): c12, (2, 2): c22}
        return {place: value * one for place, value in upper.items()}

    def smooth(self, picture: np.ndarray) -> np.ndarray:
        """A picture (h, w) float32 smoothed along the guide's edges."""
        mean = self._box(picture)
        pairs = zip(self._planes, self._means, strict=True)
        cross = [self._box(plane * picture) - m * mean for plane, m in pairs]
        slopes = []
        for i in range(3):
            terms = [self._inverse[min(i, j), max(i, j)] * cross[j] for j in range(3)]
            slopes.append(terms[0] + terms[1] + terms[2])
        offset = mean - sum(a * m for a, m in zip(slopes, self._means, strict=True))
        result = self._box(offset)
        for slope, plane in zip(slopes, self._planes, strict=True):
            result += self._box(slope) * plane
        return result

    def weighted(self, picture: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """The same where each pixel counts by its weight (h, w) float32, above 0."""
        return np.asarray(
            self.smooth(picture * weight) / np.maximum(self.smooth(weight), np.float32(1e-4))
        )

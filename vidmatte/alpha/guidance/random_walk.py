"""Labels that spread over a picture from a few places, up to its edges.

A pixel's value is the chance that a walk from it ends at a place of the subject: Grady, "Random
Walks for Image Segmentation", PAMI 2006, with priors as in Grady, "Multilabel Random Walker Image
Segmentation Using Prior Models", CVPR 2005.
"""

from __future__ import annotations

import numpy as np

_MOST_STEPS = 200
_TOLERANCE = 1e-4  # of the residual, relative to the first
_EDGE = 3.0  # how fast bonds fall with the edge between two pixels
_LEAST_BOND = 0.002
_OPINIONS = 3  # alphas whose edges count, the largest


def random_walk(
    across: np.ndarray, down: np.ndarray, target: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """The values (h, w) float32 that differ little between neighbours, and from ``target``.

    across (h, w - 1), down (h - 1, w): how much neighbours belong together, above 0. target:
    (h, w) float32 0..1. weight: (h, w) float32, above 0, how much a pixel's target counts. Found by
    conjugate gradients, preconditioned by the diagonal.
    """
    diagonal = weight.copy()
    diagonal[:, :-1] += across
    diagonal[:, 1:] += across
    diagonal[:-1] += down
    diagonal[1:] += down
    values = target.copy()
    residual = weight * target - _applied(diagonal, across, down, values)
    scaled = residual / diagonal
    direction, size = scaled.copy(), float((residual * scaled).sum())
    enough = size * _TOLERANCE**2
    for _ in range(_MOST_STEPS):
        if size <= enough:
            break
        image = _applied(diagonal, across, down, direction)
        length = np.float32(size / float((direction * image).sum()))
        values += length * direction
        residual -= length * image
        scaled = residual / diagonal
        before, size = size, float((residual * scaled).sum())
        direction = scaled + np.float32(size / before) * direction
    return values


def _applied(
    diagonal: np.ndarray, across: np.ndarray, down: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """The system's matrix times the values."""
    result = np.asarray(diagonal * values)
    result[:, :-1] -= across * values[:, 1:]
    result[:, 1:] -= across * values[:, :-1]
    result[:-1] -= down * values[1:]
    result[1:] -= down * values[:-1]
    return result


def bonds(
    lab: np.ndarray, features: np.ndarray, alphas: np.ndarray, axis: int, alike: np.ndarray
) -> np.ndarray:
    """How much neighbours along an axis belong together, 0..1: of (h, w, C) float32 each.

    alike: how much they move alike, 0..1.
    """
    colour, feature = (_relative(_step(values, axis)) for values in (lab, features))
    opinions = np.sort(np.abs(np.diff(alphas, axis=axis)), axis=-1)[..., -_OPINIONS:].mean(-1)
    edge = 0.5 * colour + feature + 2 * opinions
    return np.asarray(alike * np.exp(-_EDGE * edge) + _LEAST_BOND, np.float32)


def _step(values: np.ndarray, axis: int) -> np.ndarray:
    """The distance between neighbours' values."""
    return np.asarray(np.sqrt(np.square(np.diff(values, axis=axis)).sum(-1)))


def _relative(values: np.ndarray) -> np.ndarray:
    """Values by their 95th percentile, at most 1.5."""
    return np.asarray(np.clip(values / max(float(np.percentile(values, 95)), 1e-6), 0, 1.5))

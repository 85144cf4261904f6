"""The background that a moving subject uncovers, where optical flow takes it for the subject."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from vidmatte.alpha.guidance.coarse_features import squared_length

_NOISE_GAIN, _NOISE_FLOOR = 4.0, 4.0  # of squared Lab differences that noise alone makes
_BETTER = 1.5  # times: so much worse must the subject's motion predict a pixel
_SPEED, _SPEED_RANGE = 0.3, 0.5  # pixels a frame, the subject against the background
_EXPLAINED, _EXPLAINED_RANGE = 0.2, 0.5  # of 1 a frame that the background explains
_PREDICTS, _PREDICTS_RANGE = 0.8, 0.2  # the most error of the subject's motion, of the other's
_MARKED, _MARKED_RANGE = 0.8, 0.2  # the network's alpha from which a pixel is no background


class Inside(NamedTuple):
    """Of a frame, (h, w) float32 0..1: the moved field, what is surely the subject, the alpha."""

    moved: np.ndarray
    sure: np.ndarray
    alpha: np.ndarray


class Uncovered:
    """The background that a subject has left behind and that motion still counts as its own.

    Optical flow drags along, with full trust, what is about as dark or as plain as the subject.
    Here both motions predict the frame from the last one: such a pixel is explained by the
    background's frame after frame, and not by the subject's, and its place has changed since the
    field came there: parts of the subject that rest have not. Maps move with the background.
    """

    def __init__(self, like: np.ndarray) -> None:
        """like: (h, w) float32."""
        self._found = self._explained = self._changed = np.zeros_like(like)

    def take(self) -> np.ndarray:
        """0..1, how surely each pixel is such, (h, w) float32, of the last ``update`` once."""
        found, self._found = self._found, np.zeros_like(self._found)
        return found

    def update(
        self,
        labs: tuple[np.ndarray, np.ndarray],
        inside: Inside,
        flows: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
        apart: np.ndarray,
        speed: float,
    ) -> None:
        """labs: the colours of the frame and the last one. flows: x and y of the background's
        motion and of the subject's. apart: how far apart these two are, (h, w) float32. speed: of
        the subject against the background."""
        ground, own = (_Warp(*flow) for flow in flows)
        as_ground, as_own = (
            cv2.blur(squared_length(warp(labs[1]) - labs[0]), (5, 5)) for warp in (ground, own)
        )
        moved, alpha = inside.moved, inside.alpha
        outside = as_ground[(alpha < 0.3) & (moved < 0.2)]
        noise = np.float32(_NOISE_GAIN * float(np.median(outside)) + _NOISE_FLOOR)
        changes = np.clip(as_ground / (2 * noise) - 1, 0, 1) * (moved > 0.3)
        self._changed = np.maximum(ground(self._changed), changes)
        moves = _ramp(apart, _SPEED, _SPEED_RANGE) * _ramp(speed, _SPEED, _SPEED_RANGE)
        better = np.clip((as_own - np.float32(_BETTER) * as_ground) / noise, -1, 1) * moves
        same = np.clip(2 - 2 * as_ground / noise, 0, 1)
        self._explained = np.clip((ground(self._explained) + better) * same, 0, 2)
        errors = [float((inside.sure * one).sum()) for one in (as_own, as_ground)]
        wrong = errors[0] / max(errors[1], 1.0)
        known = 1 - _ramp(wrong, _PREDICTS, _PREDICTS_RANGE)
        found = _ramp(self._explained, _EXPLAINED, _EXPLAINED_RANGE) * self._changed * known
        found *= (moved > 0.1) * (1 - _ramp(alpha, _MARKED, _MARKED_RANGE))
        self._found = found.astype(np.float32)


class _Warp:
    """Carries maps of the last frame along a flow x, y (h, w) float32."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        columns = np.arange(x.shape[1], dtype=np.float32)
        rows = np.arange(x.shape[0], dtype=np.float32)[:, None]
        self._x, self._y = x + columns, y + rows

    def __call__(self, values: np.ndarray) -> np.ndarray:
        warped = cv2.remap(
            values, self._x, self._y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(warped)


def _ramp(values: np.ndarray | float, start: float, width: float) -> np.ndarray:
    """0 up to ``start``, 1 from ``start`` + ``width`` on, float32."""
    return np.asarray(np.clip((np.asarray(values, np.float32) - start) / width, 0, 1), np.float32)

"""The subject's motion carried outward, into the soft band around it.

A search for motion is wrong in the band, where subject and background overlap, and a little
inside of it. What the flow deeper inside does from place to place is continued: a plane is
fitted to it around each pixel, by normalised convolution of the first order (Knutsson and
Westin, "Normalized and Differential Convolution", CVPR 1993).
"""

from __future__ import annotations

import cv2
import numpy as np

# All lengths here are in pixels of the coarse scale.
_SIGMA = 5.0  # of the Gaussian within which a plane is fitted
_RIDGE = 0.1  # variance of places, in squared sigmas, from which a slope is believed
_DEPTH_SIGMA = 2.0  # what is nearer to the edge than this counts less
_SOME = 1e-3  # of the weight is left to it, for parts too thin to have a depth
_SURE_TRIP = 0.5  # error of the way there and back, of motion that is carried on
REACH_FROM, REACH_FULL = 0.01, 0.06  # weight from which it reaches, and from which in full
INSIDE_FROM, INSIDE_FULL = 0.8, 0.95  # alpha, deep in the subject, that keeps its own flow
_STEP = 4  # the fit is as smooth as its Gaussian: it is made at a quarter of the scale

_Planes = list[np.ndarray]


def extrapolate_flow(
    x: np.ndarray, y: np.ndarray, alpha: np.ndarray, trip_squared: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The flow with the subject's own in its band, and how much of it was replaced, 0..1.

    x, y: the flow. alpha: 0..1. trip_squared: by how much the way there and back misses.
    All are (h, w) float32, as are the three results.
    """
    inside = cv2.exp(trip_squared * np.float32(-0.5 / _SURE_TRIP**2))
    inside *= _fourth_power(alpha)
    near = _reduced(inside)
    depth = _fourth_power(cv2.GaussianBlur(_reduced(alpha), (0, 0), _DEPTH_SIGMA / _STEP))
    carried = _continued(
        near * (depth + np.float32(_SOME)),
        [_reduced(inside * flow) / np.maximum(near, np.float32(1e-9)) for flow in (x, y)],
    )
    deep = alpha * np.minimum(_enlarged(depth, alpha.shape) * 2, 1)
    reach = _enlarged(_ramp(_blurred(near), REACH_FROM, REACH_FULL), alpha.shape)
    reach *= 1 - _ramp(deep, INSIDE_FROM, INSIDE_FULL)
    replaced = []
    for flow, plane in zip((x, y), carried, strict=True):
        change = _enlarged(plane, alpha.shape)
        change -= flow
        change *= reach
        change += flow
        replaced.append(change)
    return replaced[0], replaced[1], reach


def _fourth_power(values: np.ndarray) -> np.ndarray:
    """By two products: much faster than a power."""
    square = values * values
    square *= square
    return np.asarray(square)


def _continued(weight: np.ndarray, flow: _Planes) -> _Planes:
    """For each pixel the value there of the plane that fits ``flow`` best around it.

    weight, and each of the flow's planes: (h, w) float32. Where nothing has weight, zero.
    """
    height, width = weight.shape
    x = np.arange(width, dtype=np.float32) * np.float32(_STEP / _SIGMA)
    y = np.arange(height, dtype=np.float32)[:, None] * np.float32(_STEP / _SIGMA)
    moments = [weight, weight * x, weight * y]
    products = [moments[1] * x, moments[1] * y, moments[2] * y]
    sums = [part * moment for part in flow for moment in moments]
    total, *means = _blurred_all([*moments, *products, *sums])
    total = np.maximum(total, np.float32(1e-9))
    for mean in means:
        mean /= total
    mean_x, mean_y, xx, xy, yy, *means = means
    xx += np.float32(_RIDGE) - mean_x * mean_x
    yy += np.float32(_RIDGE) - mean_y * mean_y
    xy -= mean_x * mean_y
    away_x, away_y = x - mean_x, y - mean_y
    # The plane's height here is its mean and, times slope, how far here is from there.
    scale = 1 / (xx * yy - xy * xy)
    by_x = (yy * away_x - xy * away_y) * scale
    by_y = (xx * away_y - xy * away_x) * scale
    return [
        mean + (with_x - mean * mean_x) * by_x + (with_y - mean * mean_y) * by_y
        for mean, with_x, with_y in (means[:3], means[3:])
    ]


def _blurred_all(planes: _Planes) -> _Planes:
    """Planes, a multiple of four of them, blurred: OpenCV takes four at a time faster."""
    fours = [cv2.merge(planes[start : start + 4]) for start in range(0, len(planes), 4)]
    return [plane for four in fours for plane in cv2.split(_blurred(four))]


def _blurred(planes: np.ndarray) -> np.ndarray:
    """With each pixel spread as far as the subject's motion is."""
    return np.asarray(cv2.GaussianBlur(planes, (0, 0), _SIGMA / _STEP))


def _reduced(plane: np.ndarray) -> np.ndarray:
    """A plane at the scale of the fit."""
    height, width = (-(-side // _STEP) for side in plane.shape)
    return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA))


def _enlarged(plane: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A plane of the fit at the coarse scale, ``shape``."""
    return np.asarray(cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_LINEAR))


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 up to ``low``, 1 from ``high`` on, even between."""
    return np.asarray(np.clip((values - np.float32(low)) * np.float32(1 / (high - low)), 0, 1))

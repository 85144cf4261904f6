"""Grey areas, redrawn from the picture's colours: a matting Laplacian, solved by filters.

Levin, Lischinski, Weiss, "A Closed-Form Solution to Natural Image Matting" (PAMI 2008),
in the form of He, Sun, Tang, "Fast Matting Using Large Kernel Matting Laplacian
Matrices" (CVPR 2010): the Laplacian times an alpha is that alpha less what the linear
colour models of all windows around a pixel make of it, so it takes a guided filter and
no matrix. Alpha is asked to follow the colours where the network made large parts half
transparent, and to stay near what it was at edges, where the networks and the filter
do better than the Laplacian: over a textured background it takes texture for hair.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from vidmatte.alpha.box import Box, WorkingFrame, box_around, soft_or_edge
from vidmatte.alpha.confidence import flatness, halved

SOFT_LOW, SOFT_HIGH = 0.03, 0.97
_BAND_REACH = 3  # dilation of what is soft, working pixels
_RADIUS = 2  # of the colour models' windows, working pixels
_EPSILON = 1e-4  # their regulariser, squared colour in 0..1
STEPS, TOLERANCE = 15, 1e-3  # of the conjugate gradients; the latter of the residual's length
_SMALLEST = 24  # side of the smallest picture solved for, working pixels
HOLD_SURE, HOLD_EDGE, HOLD_FLAT = 4.0, 3.0, 0.0005  # weights of what alpha was


def solve_doubt(rgb: np.ndarray, alpha: np.ndarray) -> None:
    """Redraw the grey areas of alpha, in place.

    rgb: (H, W, 3) uint8; alpha: (H, W) float32 in 0..1, steady already. What changes is
    found at the working scale and brought up to the full one.
    """
    view = WorkingFrame.of(rgb, alpha)
    band = _soft_band(view.alpha)
    flat = flatness(halved(view.alpha))
    if flat is None or not band.any():
        return
    height, width = view.alpha.shape
    box = box_around(band).grown(4 * _RADIUS + 2, height, width)
    flat = cv2.resize(flat, (width, height), interpolation=cv2.INTER_LINEAR)
    hold = np.float32(HOLD_EDGE) * np.float32(HOLD_FLAT / HOLD_EDGE) ** box.crop(flat)
    hold = np.where(box.crop(band) > 0, hold, np.float32(HOLD_SURE)).astype(np.float32)
    before = box.crop(view.alpha)
    solved = solve(box.crop(view.rgb), before, hold)
    change = (np.clip(solved, 0, 1) - before) * cv2.GaussianBlur(
        box.crop(band).astype(np.float32), (0, 0), 1.0
    )
    add_at_full_size(alpha, change, box, view.alpha.shape)


def _soft_band(alpha: np.ndarray) -> np.ndarray:
    """1 where alpha is soft or beside a hard edge, and a little more: (h, w) uint8."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _BAND_REACH + 1,) * 2)
    return np.asarray(cv2.dilate(soft_or_edge(alpha, SOFT_LOW, SOFT_HIGH), kernel))


def add_at_full_size(
    alpha: np.ndarray, change: np.ndarray, box: Box, working: tuple[int, ...]
) -> None:
    """Add a change (box's shape, working pixels) to alpha (H, W), which stays in 0..1."""
    full = np.zeros(working, np.float32)
    box.crop(full)[:] = change
    height, width = alpha.shape
    alpha += cv2.resize(full, (width, height), interpolation=cv2.INTER_LINEAR)
    np.clip(alpha, 0, 1, out=alpha)


def solve(rgb: np.ndarray, alpha: np.ndarray, hold: np.ndarray) -> np.ndarray:
    """The alpha that follows the colours and stays near ``alpha`` where ``hold`` is large.

    rgb: (h, w, 3) uint8; alpha, hold: (h, w) float32; hold is in units of the Laplacian's
    diagonal. Conjugate gradients with a diagonal preconditioner, begun at the solution
    for half the size, which has gone further than a few steps do here.
    """
    explained = _colour_models(rgb)

    def system(picture: np.ndarray) -> np.ndarray:
        return np.asarray(picture - explained(picture) + hold * picture)

    def dot(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.vdot(one, other))

    result = _start(rgb, alpha, hold)
    residual = hold * alpha - system(result)
    ease = 1 / (1 + hold)
    eased = ease * residual
    direction, length = eased.copy(), dot(residual, eased)
    least = TOLERANCE**2 * length
    for _ in range(STEPS):
        if length <= least:
            break
        ahead = system(direction)
        step = np.float32(length / dot(direction, ahead))
        result += step * direction
        residual -= step * ahead
        eased = ease * residual
        last, length = length, dot(residual, eased)
        direction = eased + np.float32(length / last) * direction
    return result


def _start(rgb: np.ndarray, alpha: np.ndarray, hold: np.ndarray) -> np.ndarray:
    """Alpha with what changes in the solution for half the size."""
    height, width = (size // 2 for size in alpha.shape)
    if min(height, width) < _SMALLEST:
        return alpha.copy()
    parts = (rgb, alpha, hold)
    small = [cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA) for part in parts]
    change = solve(*small) - small[1]
    return np.asarray(alpha + cv2.resize(change, alpha.shape[::-1], interpolation=cv2.INTER_LINEAR))


def _colour_models(rgb: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function of (h, w) float32 pictures: what local linear models of ``rgb`` make of one.

    Equations 14 to 16 of He, Sun, Tang, "Guided Image Filtering" (PAMI 2013); what
    depends on the colours alone is computed once.
    """
    size = (2 * _RADIUS + 1,) * 2

    def mean(picture: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.blur(picture, size))

    # Colours about zero keep the differences of squares exact enough in float32.
    planes = cv2.split(rgb.astype(np.float32) * np.float32(1 / 255) - np.float32(0.5))
    means = [mean(plane) for plane in planes]

    def covariance(one: int, other: int) -> np.ndarray:
        product = mean(planes[one] * planes[other]) - means[one] * means[other]
        return np.asarray(product + np.float32(_EPSILON if one == other else 0))

    rr, rg, rb = (covariance(0, other) for other in range(3))
    gg, gb, bb = covariance(1, 1), covariance(1, 2), covariance(2, 2)
    c_rr, c_rg, c_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    c_gg, c_gb, c_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    scale = 1 / np.maximum(rr * c_rr + rg * c_rg + rb * c_rb, np.float32(_EPSILON**3))
    rows = ((c_rr, c_rg, c_rb), (c_rg, c_gg, c_gb), (c_rb, c_gb, c_bb))
    inverse = [[part * scale for part in row] for row in rows]

    def explained(picture: np.ndarray) -> np.ndarray:
        average = mean(picture)
        shared = [mean(p * picture) - m * average for p, m in zip(planes, means, strict=True)]
        slopes = [sum(part * c for part, c in zip(row, shared, strict=True)) for row in inverse]
        base = average - sum(slope * m for slope, m in zip(slopes, means, strict=True))
        made = mean(base)
        for slope, plane in zip(slopes, planes, strict=True):
            made += mean(np.asarray(slope)) * plane
        return made

    return explained

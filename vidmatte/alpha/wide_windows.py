"""Gaussians and discs over wide windows, in a fraction of their usual time."""

from __future__ import annotations

from math import sqrt

import cv2
import numpy as np

WIDEST_EXACT = 32.0  # pixels of standard deviation from which on a Gaussian is made at half size
BEFORE_HALVING = 1.5  # pixels: so soft, a matte has nothing that half the pixels cannot show
BORDER = 8  # pixels, even: beyond it, what lies around a picture that was made so soft is even
#: Variance, in square pixels, of that softening, of the mean of two pixels, and of the linear
#: interpolation back (at a quarter of the larger pixels' distance, so 1/4 * 3/4 * 2 * 2).
OF_HALVING = BEFORE_HALVING**2 + 1 / 4 + 3 / 4

#: A disc of 5 pixels' radius is the Minkowski sum of these rows of pixels: a step from one to the
#: next, (down, right), and how many steps.
RADIUS = 5
ROWS = (
    ((1, 0), 2), ((0, 1), 2), ((1, 1), 1), ((1, -1), 1),
    ((1, 2), 1), ((1, -2), 1), ((2, 1), 1), ((2, -1), 1),
)  # fmt: skip


def gaussian(alpha: np.ndarray, sigma: float) -> np.ndarray:
    """(H, W) float32 softened by a Gaussian of ``sigma`` pixels; its borders go on outside.

    From ``WIDEST_EXACT`` on the work is done at half the size, and again: variances add up, so
    the Gaussian's is reduced by the softening of halving and doubling. For alpha in 0..1
    the result is within 0.01/255 of the exact sum.
    """
    if sigma < WIDEST_EXACT:
        soft = cv2.GaussianBlur(alpha, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        return np.asarray(soft)
    height, width = alpha.shape
    bottom, right = BORDER + height % 2, BORDER + width % 2
    framed = cv2.copyMakeBorder(alpha, BORDER, bottom, BORDER, right, cv2.BORDER_REPLICATE)
    framed = cv2.GaussianBlur(framed, (0, 0), BEFORE_HALVING, borderType=cv2.BORDER_REPLICATE)
    size = framed.shape[1], framed.shape[0]
    half = cv2.resize(framed, (size[0] // 2, size[1] // 2), interpolation=cv2.INTER_AREA)
    half = gaussian(half, sqrt(sigma**2 - OF_HALVING) / 2)
    full = cv2.resize(half, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(full[BORDER : BORDER + height, BORDER : BORDER + width])


def discs(alpha: np.ndarray, times: int, operation: int) -> np.ndarray:
    """(H, W) float32 after ``times`` erosions or dilations by the disc of ``RADIUS``.

    operation: cv2.MORPH_ERODE or MORPH_DILATE. Outside of the picture is nothing. The very same
    values as those of one after the other: discs add up row by row, and an extreme over a
    long row of pixels is one of two extremes over half of it.
    """
    extreme, nothing = (cv2.max, -np.inf) if operation == cv2.MORPH_DILATE else (cv2.min, np.inf)
    reach = (RADIUS * times,) * 4
    found = cv2.copyMakeBorder(alpha, *reach, cv2.BORDER_CONSTANT, value=nothing)
    for (down, right), steps in ROWS:
        seen, wanted = 1, times * steps + 1
        while seen < wanted:
            more = min(seen, wanted - seen)
            y, x = more * down, more * right
            height, width = found.shape[0] - y, found.shape[1] - abs(x)
            one, other = max(-x, 0), max(x, 0)  # where each of the two begins
            found = extreme(found[:height, one : one + width], found[y:, other : other + width])
            seen += more
    return np.asarray(found)

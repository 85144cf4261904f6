"""The soft edge drawn along the picture's own detail: a guided filter in the edge band.

He, Sun, Tang, "Guided Image Filtering" (PAMI 2013), with a colour guide, and its
fast form (He, Sun, "Fast Guided Filter", 2015): the linear models alpha = a . rgb + b
are fitted at the working scale and applied to the full-resolution colours. Where
subject and background share their colours (a dark stripe before dark ground) no such
model holds; a window therefore counts less, and the edge is redrawn less, the more of
alpha its model does not explain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.alpha.box import Box, Pixels, box_around, sample

_WHOLE_SIDE = 800  # pictures with a shorter longer side are worked on as they are,
_WORKING_SIDE = 960  # larger ones at half, or so that theirs is about this
_RADIUS = 5  # of the fit's window, working pixels
_EPSILON = 5e-5 * 255**2  # regulariser, squared 8-bit codes
_GOOD_FIT = 0.002  # residual variance of alpha that counts as a full fit
_POOR_FIT = 0.045  # at which the redrawn edge counts exp(-1)
SOFT_LOW, SOFT_HIGH = 0.05, 0.95
_BAND_REACH = 2  # dilation of the edge band, working pixels
_BAND_SIGMA = 1.0  # its soft border, working pixels
_STRIP = 64  # rows of windows that are fitted together, where there are any to fit
_READ_AROUND = 2  # working pixels around those wanted whose models are read
_AT_ONCE = 16384  # windows solved together: what they need stays in the core's cache


def _working_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) at which motion and fits are computed: full size over an integer."""
    side = max(height, width)
    factor = 1 if side < _WHOLE_SIDE else max(2, round(side / _WORKING_SIDE))
    return max(1, round(height / factor)), max(1, round(width / factor))


@dataclass
class WorkingFrame:
    """A frame at the working scale.

    rgb: (h, w, 3) uint8, grey: (h, w) uint8, alpha: (h, w) float32 in 0..1.
    box: where alpha is not zero.
    """

    rgb: np.ndarray
    grey: np.ndarray
    alpha: np.ndarray
    box: Box

    @classmethod
    def of(cls, rgb: np.ndarray, alpha: np.ndarray) -> WorkingFrame:
        """Reduce a frame: rgb (H, W, 3) uint8 and alpha (H, W) float32."""
        height, width = _working_size(*alpha.shape)
        small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
        small_alpha = reduce_alpha(alpha, height, width)
        return cls(
            small,
            cv2.cvtColor(small, cv2.COLOR_RGB2GRAY),
            small_alpha,
            box_around(small_alpha > SOFT_LOW / 5),
        )


def reduce_alpha(alpha: np.ndarray, height: int, width: int) -> np.ndarray:
    """Area mean of alpha at height x width."""
    return np.asarray(cv2.resize(alpha, (width, height), interpolation=cv2.INTER_AREA))


def refine_edges(
    rgb: np.ndarray, alpha: np.ndarray, view: WorkingFrame, share: np.ndarray | None = None
) -> None:
    """Redraw the edge band of alpha by the colours of the frame, in place.

    rgb: (H, W, 3) uint8; alpha: (H, W) float32 in 0..1; view: the same, reduced;
    share: (h, w) float32 in 0..1 at the working scale, how far; None is wholly. Outside
    the band nothing changes.
    """
    weight, box = _edge_band(view.alpha)
    if box.is_empty:
        return
    if share is not None:
        weight = weight * box.crop(share)
    height, width = alpha.shape
    wanted = weight > 1 / 255
    pixels = pixels_under(wanted, box, view.alpha.shape, height, width)
    if not len(pixels):
        return
    models, doubt, around = _fit_models(view, wanted, box)
    x, y = to_working(pixels, alpha.shape, view.alpha.shape)
    drawn = _predicted(sample(models, x - around.left, y - around.top), pixels.of(rgb))
    mix = sample(doubt, x - around.left, y - around.top)
    mix *= np.float32(-1 / _POOR_FIT)
    np.exp(mix, out=mix)
    mix *= sample(weight, x - box.left, y - box.top)
    before = pixels.of(alpha)
    np.clip(drawn, 0, 1, out=drawn)
    drawn -= before
    drawn *= mix
    drawn += before
    pixels.put(alpha, drawn)


def _predicted(models: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Alpha (N,) float32 by models (N, 4) float32 of colours (N, 3) uint8."""
    slopes_and_alpha = np.empty((4, len(models), 1), np.float32)
    cv2.split(models[:, None], list(slopes_and_alpha))
    *slopes, alpha = slopes_and_alpha
    for slope, colour in zip(slopes, cv2.split(colours[:, None]), strict=True):
        cv2.multiply(slope, colour, slope, 1, cv2.CV_32F)
        cv2.add(alpha, slope, alpha)
    return np.asarray(alpha[:, 0])


def _edge_band(alpha: np.ndarray) -> tuple[np.ndarray, Box]:
    """Where the edge is redrawn, at the working scale, and the box around it.

    The band is what is soft, or beside a hard edge, and a little more; its weight
    (box's shape, float32) falls softly to zero.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _BAND_REACH + 1,) * 2)
    soft = soft_or_edge(alpha, SOFT_LOW, SOFT_HIGH)
    box = box_around(soft)
    if box.is_empty:
        return np.zeros((0, 0), np.float32), box
    box = box.grown(_BAND_REACH + round(3 * _BAND_SIGMA) + 1, *alpha.shape)
    wide = cv2.dilate(box.crop(soft).astype(np.float32), kernel)
    return cv2.GaussianBlur(wide, (0, 0), _BAND_SIGMA), box


def soft_or_edge(alpha: np.ndarray, low: float, high: float) -> np.ndarray:
    """1 where alpha is from low to high, or beside a hard edge: (h, w) uint8."""
    solid = (alpha > 0.5).astype(np.uint8)
    hard = cv2.morphologyEx(solid, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    return np.asarray((cv2.inRange(alpha, low, high) | hard) > 0).view(np.uint8)


def _fit_models(
    view: WorkingFrame, wanted: np.ndarray, box: Box
) -> tuple[np.ndarray, np.ndarray, Box]:
    """Coefficients (h, w, 4) of alpha = a . rgb + b, the residual variance (h, w), and
    the box that both cover.

    wanted: where in ``box``, bool of its shape; nothing is to be read further than
    ``_READ_AROUND`` from there. Both float32. Equations 14 to 16 of the paper; the models of
    all windows around a pixel are averaged, each by how well it fits.
    """
    full = view.alpha.shape
    around = box.grown(_READ_AROUND, *full)
    models = np.zeros((*around.shape, 4), np.float32)
    doubt = np.zeros(around.shape, np.float32)
    for part in _parts_with(wanted, box):
        part = part.grown(_READ_AROUND, *full)
        seen = part.grown(2 * _RADIUS, *full)
        fits = _fit_part(seen.crop(view.rgb), seen.crop(view.alpha))
        inner = part.moved(-seen.top, -seen.left)
        target = part.moved(-around.top, -around.left)
        *slopes, constant, left = (inner.crop(plane) for plane in fits)
        cv2.merge([*slopes, constant], target.crop(models))
        target.crop(doubt)[:] = left
    return models, doubt, around


def _parts_with(wanted: np.ndarray, box: Box) -> Iterator[Box]:
    """Boxes that hold all that is ``wanted``, bool of the shape of ``box``, and little else.

    What lies closer together than the windows reach is fitted together.
    """
    for top in range(0, len(wanted), _STRIP):
        strip = wanted[top : top + _STRIP]
        columns = np.flatnonzero(strip.any(axis=0))
        gaps = np.flatnonzero(np.diff(columns) > 4 * _RADIUS)
        for run in np.split(columns, gaps + 1):
            if len(run):
                part = Box(top, int(run[0]), top + len(strip), int(run[-1]) + 1)
                yield part.moved(box.top, box.left)


def _fit_part(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The same for a part: (5, h, w) float32, good where all windows are inside."""
    means = _window_means(rgb, alpha)
    flat = means.reshape(len(means), -1)
    for start in range(0, alpha.size, _AT_ONCE):
        _solve(flat[:, start : start + _AT_ONCE])
    *fits, total = means[:6]
    size = (2 * _RADIUS + 1,) * 2
    for plane in (*fits, total):
        cv2.blur(plane, size, plane)
    np.reciprocal(total, out=total)
    for plane in fits:
        plane *= total
    return np.asarray(means[:5])


def _window_means(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Means over the window around each pixel, (14, h, w) float32.

    Of r, g, b and alpha (p), then of rr, rg, rb, gg, gb, bb, rp, gp, bp and pp. Colours
    are 8-bit codes: their sums are integers, which is exact and faster.
    """
    size = (2 * _RADIUS + 1,) * 2
    means = np.empty((14, *alpha.shape), np.float32)
    free = iter(means)
    colours = cv2.split(rgb)
    for colour in colours:
        cv2.boxFilter(colour, cv2.CV_32F, size, next(free))
    cv2.blur(alpha, size, next(free))
    codes = [colour.astype(np.uint16) for colour in colours]
    product = np.empty_like(codes[0])
    for one in range(3):
        for other in range(one, 3):
            np.multiply(codes[one], codes[other], out=product)
            cv2.boxFilter(product, cv2.CV_32F, size, next(free))
    for factor in (*colours, alpha):
        cv2.blur(cv2.multiply(factor, alpha, dtype=cv2.CV_32F), size, next(free))
    return means


def _solve(means: np.ndarray) -> None:
    """The models of N windows, each times its weight, by LDL' decomposition.

    means: (14, N) float32 of ``_window_means``. They are used up: the first six become
    a for r, g and b, then b, the variance left, and the weight.
    """
    r, g, b, p, rr, rg, rb, gg, gb, bb, rp, gp, bp, pp = means
    scratch = np.empty((12, means.shape[1]), np.float32)
    product, per_rr, per_gg, g_by_r, b_by_r, b_by_g, *fits = scratch

    def less(plane: np.ndarray, one: np.ndarray, other: np.ndarray) -> None:
        np.multiply(one, other, out=product)
        np.subtract(plane, product, out=plane)

    for plane, one, other in (
        (rr, r, r), (rg, r, g), (rb, r, b), (gg, g, g), (gb, g, b), (bb, b, b),
        (rp, r, p), (gp, g, p), (bp, b, p), (pp, p, p),
    ):  # fmt: skip
        less(plane, one, other)  # means of products become covariances
    for plane in (rr, gg, bb):
        plane += np.float32(_EPSILON)
    np.reciprocal(rr, out=per_rr)
    np.multiply(rg, per_rr, out=g_by_r)
    np.multiply(rb, per_rr, out=b_by_r)
    less(gg, g_by_r, rg)
    less(gb, g_by_r, rb)
    less(gp, g_by_r, rp)
    np.reciprocal(gg, out=per_gg)
    np.multiply(gb, per_gg, out=b_by_g)
    for plane, one, other in (
        (bb, b_by_r, rb),
        (bb, b_by_g, gb),
        (bp, b_by_r, rp),
        (bp, b_by_g, gp),
    ):
        less(plane, one, other)
    a_r, a_g, a_b, constant, left, weight = fits
    np.multiply(rp, per_rr, out=a_r)
    np.multiply(gp, per_gg, out=a_g)
    np.divide(bp, bb, out=a_b)
    for one, other in ((a_r, rp), (a_g, gp), (a_b, bp)):
        less(pp, one, other)  # what each explains of alpha's variance
    less(a_g, b_by_g, a_b)
    less(a_r, g_by_r, a_g)
    less(a_r, b_by_r, a_b)
    constant[:] = p
    for one, other in ((a_r, r), (a_g, g), (a_b, b)):
        less(constant, one, other)
    np.maximum(pp, 0, out=left)
    np.add(left, np.float32(_GOOD_FIT), out=weight)
    np.reciprocal(weight, out=weight)
    for plane in (a_r, a_g, a_b, constant, left):
        plane *= weight
    means[:6] = scratch[6:]


def pixels_under(
    mask: np.ndarray, box: Box, working: tuple[int, ...], height: int, width: int
) -> Pixels:
    """The full-resolution pixels whose working pixel in ``box`` is set, and one more around."""
    if box.is_empty:
        return Pixels(np.zeros((0, 0), np.uint8), box, width)
    around = box.grown(1, working[0], working[1])
    wide = np.zeros(around.shape, np.uint8)
    wide[
        box.top - around.top : box.bottom - around.top,
        box.left - around.left : box.right - around.left,
    ] = mask
    wide = cv2.dilate(wide, np.ones((3, 3), np.uint8))
    full = around.enlarged(working, height, width)
    rows, columns = full.shape
    return Pixels(cv2.resize(wide, (columns, rows), interpolation=cv2.INTER_NEAREST), full, width)


def to_working(
    pixels: Pixels, full: tuple[int, ...], working: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of the pixels' centres at the working scale."""
    across, down = working[1] / full[1], working[0] / full[0]
    return (
        (pixels.x + np.float32(0.5)) * np.float32(across) - np.float32(0.5),
        (pixels.y + np.float32(0.5)) * np.float32(down) - np.float32(0.5),
    )

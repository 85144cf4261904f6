"""The soft edge drawn along the picture's own detail: a guided filter in the edge band.

He, Sun, Tang, "Guided Image Filtering" (PAMI 2013), with a colour guide, and its
fast form (He, Sun, "Fast Guided Filter", 2015): the linear models alpha = a . rgb + b
are fitted to the pixels of the working scale, in windows around every second of them along
each side, and applied to the full-resolution colours. Where subject and background share their
colours (a dark stripe before dark ground) no such model holds; a window therefore counts less,
and the edge is redrawn less, the more of alpha its model does not explain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from vidmatte.alpha.box import (
    SOFT_HIGH,
    SOFT_LOW,
    Box,
    WorkingFrame,
    box_around,
    pixels_under,
    sample,
    soft_or_edge,
    to_working,
)

STEP = 2  # working pixels from one fit to the next, along a side: a cell of fits
RADIUS = 2  # of the fit's window, cells
_WINDOW = (2 * RADIUS + 1,) * 2
AROUND = 4 * RADIUS  # more rows, or columns, of cells than models that windows of windows need
EPSILON = 5e-5 * 255**2  # regulariser, squared 8-bit codes
GOOD_FIT = 0.002  # residual variance of alpha that counts as a full fit
POOR_FIT = 0.045  # at which the redrawn edge counts exp(-1)
BAND_REACH = 2  # dilation of the edge band, working pixels
BAND_SIGMA = 1.0  # its soft border, working pixels
_STRIP = 48  # rows of cells that are fitted together, where there are any to fit
_READ_AROUND = 1  # cells around those wanted whose models are read
_AT_ONCE = 16384  # windows solved together: what they need stays in the core's cache


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
    wanted = (weight > 1 / 255).view(np.uint8)
    pixels = pixels_under(wanted, box, view.alpha.shape, height, width)
    if not len(pixels):
        return
    models, trust, around = _fit_models(view, wanted, box)
    x, y = to_working(pixels.x, pixels.y, alpha.shape, [side / STEP for side in view.alpha.shape])
    x -= np.float32(around.left)
    y -= np.float32(around.top)
    drawn = _predicted(sample(models, x, y), pixels.of(rgb))
    mix = sample(trust, x, y)
    x, y = to_working(pixels.x, pixels.y, alpha.shape, view.alpha.shape)
    mix *= sample(weight, x - np.float32(box.left), y - np.float32(box.top))
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
    there = box_around(alpha > SOFT_LOW / 2).grown(1, *alpha.shape)
    if there.is_empty:
        return np.zeros((0, 0), np.float32), there
    soft = soft_or_edge(there.crop(alpha), SOFT_LOW, SOFT_HIGH)
    box = box_around(soft).moved(there.top, there.left)
    if box.is_empty:
        return np.zeros((0, 0), np.float32), box
    box = box.grown(BAND_REACH + round(3 * BAND_SIGMA) + 1, *alpha.shape)
    wide = np.zeros(box.shape, np.uint8)
    inner = box.common(there)
    inner.moved(-box.top, -box.left).crop(wide)[:] = inner.moved(-there.top, -there.left).crop(soft)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * BAND_REACH + 1,) * 2)
    wide = cv2.dilate(wide, kernel).astype(np.float32)
    return cv2.GaussianBlur(wide, (0, 0), BAND_SIGMA), box


def _fit_models(
    view: WorkingFrame, wanted: np.ndarray, box: Box
) -> tuple[np.ndarray, np.ndarray, Box]:
    """Coefficients (h, w, 4) of alpha = a . rgb + b, how far they are to be followed (h, w), and
    the box of cells that both cover.

    wanted: 1 where in ``box``, uint8 of its shape, else 0; nothing is to be read further than
    ``_READ_AROUND`` cells from there. Both float32. Equations 14 to 16 of the paper; the models of
    all windows around a cell are averaged, each by how well it fits.
    """
    cells = [-(-side // STEP) for side in view.alpha.shape]
    wanted, box = _in_cells(wanted, box)
    around = box.grown(_READ_AROUND, *cells)
    models = np.zeros((*around.shape, 4), np.float32)
    trust = np.zeros(around.shape, np.float32)
    parts = [part.grown(_READ_AROUND, *cells) for part in _parts_with(wanted, box)]
    sizes = [np.prod([side + 2 * RADIUS for side in part.shape]) for part in parts]
    ends = np.cumsum(sizes)
    means = np.empty((14, ends[-1]), np.float32)
    for part, size, end in zip(parts, sizes, ends, strict=True):
        found = _window_means(view, part)
        means[:, end - size : end].reshape(found.shape)[:] = found
    for start in range(0, means.shape[1], _AT_ONCE):
        _solve(means[:, start : start + _AT_ONCE])
    for part, size, end in zip(parts, sizes, ends, strict=True):
        *slopes, constant, left = _averaged(means[:6, end - size : end], part)
        target = part.moved(-around.top, -around.left)
        cv2.merge([*slopes, constant], target.crop(models))
        cv2.exp(left * np.float32(-1 / POOR_FIT), target.crop(trust))
    return models, trust, around


def _in_cells(wanted: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
    """The cells with a pixel that is ``wanted``, 0 or 1 in the shape of ``box``; their box."""
    cells = Box(box.top // STEP, box.left // STEP, -(-box.bottom // STEP), -(-box.right // STEP))
    height, width = cells.shape
    full = np.zeros((STEP * height, STEP * width), np.uint8)
    # By 255: the mean of a cell with one such pixel is no 0 then.
    box.moved(-STEP * cells.top, -STEP * cells.left).crop(full)[:] = wanted * np.uint8(255)
    return np.asarray(cv2.resize(full, (width, height), interpolation=cv2.INTER_AREA)), cells


def _parts_with(wanted: np.ndarray, box: Box) -> Iterator[Box]:
    """Boxes that hold all that is ``wanted``, uint8 of the shape of ``box``, and little else.

    What lies closer together than the windows reach is fitted together.
    """
    for top in range(0, len(wanted), _STRIP):
        strip = wanted[top : top + _STRIP]
        columns = np.flatnonzero(cv2.reduce(strip, 0, cv2.REDUCE_MAX))
        if not len(columns):
            continue
        gaps = np.flatnonzero(np.diff(columns) > 4 * RADIUS)
        lefts, rights = columns[[0, *(gaps + 1)]], columns[[*gaps, -1]]
        for left, right in zip(lefts.tolist(), rights.tolist(), strict=True):
            yield Box(top, left, top + len(strip), right + 1).moved(box.top, box.left)


def _window_means(view: WorkingFrame, part: Box) -> np.ndarray:
    """Means over the window around each cell of a part and ``RADIUS`` more on all sides,
    (14, h, w) float32.

    Of r, g, b and alpha (p), then of rr, rg, rb, gg, gb, bb, rp, gp, bp and pp, all of working
    pixels.
    """
    top, left = (STEP * (first - AROUND // 2) for first in (part.top, part.left))
    height, width = (side + AROUND for side in part.shape)
    pixels = Box(top, left, top + STEP * height, left + STEP * width)
    planes = np.empty((14, *pixels.shape), np.float32)
    for plane, colour in zip(planes, cv2.split(_framed_crop(view.rgb, pixels)), strict=False):
        plane[:] = colour
    planes[3] = _framed_crop(view.alpha, pixels)
    np.multiply(planes[0], planes[:3], out=planes[4:7])
    np.multiply(planes[1], planes[1:3], out=planes[7:9])
    np.multiply(planes[2], planes[2], out=planes[9])
    np.multiply(planes[3], planes[:4], out=planes[10:])
    # One below the other, in one call: the means at the border of two planes are left out.
    tall = planes.reshape(-1, pixels.shape[1])
    cells = cv2.resize(tall, (width, 14 * height), interpolation=cv2.INTER_AREA)
    return _inner(cv2.blur(cells, _WINDOW, cells).reshape(14, height, width))


def _framed_crop(picture: np.ndarray, box: Box) -> np.ndarray:
    """The part of a picture in ``box``, which may go beyond it: there it is mirrored."""
    inner = box.common(Box(0, 0, *picture.shape[:2]))
    if inner == box:
        return box.crop(picture)
    return np.asarray(
        cv2.copyMakeBorder(
            inner.crop(picture),
            inner.top - box.top,
            box.bottom - inner.bottom,
            inner.left - box.left,
            box.right - inner.right,
            cv2.BORDER_REFLECT_101,
        )
    )


def _averaged(models: np.ndarray, part: Box) -> list[np.ndarray]:
    """The mean models around the cells of a part: five planes (h, w) float32.

    models: (6, N) of ``_solve``, of the part and ``RADIUS`` more cells on all sides.
    """
    height, width = (side + 2 * RADIUS for side in part.shape)
    tall = np.ascontiguousarray(models).reshape(-1, width)
    *fits, total = _inner(cv2.blur(tall, _WINDOW, tall).reshape(6, height, width))
    total = np.reciprocal(total)
    return [plane * total for plane in fits]


def _inner(planes: np.ndarray) -> np.ndarray:
    """The cells of (C, h, w) planes whose windows are inside."""
    return planes[:, RADIUS:-RADIUS, RADIUS:-RADIUS]


def _solve(means: np.ndarray) -> None:
    """The models of N windows, each times its weight, by LDL' decomposition.

    means: (14, N) float32 of ``_window_means``. They are used up: the first six become
    a for r, g and b, then b, the variance left, and the weight.
    """
    scratch = np.empty((12, means.shape[1]), np.float32)
    product, factors, fits = scratch[0], scratch[1:6], scratch[6:]
    _to_covariances(means, product)
    _eliminate(means, factors, product)
    _substitute_back(means, factors, fits, product)
    _weigh(means, fits)
    means[:6] = fits


def _subtract_products(
    terms: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], product: np.ndarray
) -> None:
    """``plane -= one * other`` for each (plane, one, other), in order. product: overwritten."""
    for plane, one, other in terms:
        np.multiply(one, other, out=product)
        np.subtract(plane, product, out=plane)


def _to_covariances(means: np.ndarray, product: np.ndarray) -> None:
    """Turn the means of products into covariances, regularised those of the colours."""
    r, g, b, p, rr, rg, rb, gg, gb, bb, rp, gp, bp, pp = means
    _subtract_products(
        (
            (rr, r, r), (rg, r, g), (rb, r, b), (gg, g, g), (gb, g, b), (bb, b, b),
            (rp, r, p), (gp, g, p), (bp, b, p), (pp, p, p),
        ),
        product,
    )  # fmt: skip
    for plane in (rr, gg, bb):
        plane += np.float32(EPSILON)


def _eliminate(means: np.ndarray, factors: np.ndarray, product: np.ndarray) -> None:
    """The decomposition: gg, bb and what alpha shares with them without what r, then g, explain.

    factors: (5, N), out: 1 / rr, 1 / gg, and the entries of L, g by r, b by r and b by g.
    """
    rr, rg, rb, gg, gb, bb, rp, gp, bp, _ = means[4:]
    per_rr, per_gg, g_by_r, b_by_r, b_by_g = factors
    np.reciprocal(rr, out=per_rr)
    np.multiply(rg, per_rr, out=g_by_r)
    np.multiply(rb, per_rr, out=b_by_r)
    _subtract_products(((gg, g_by_r, rg), (gb, g_by_r, rb), (gp, g_by_r, rp)), product)
    np.reciprocal(gg, out=per_gg)
    np.multiply(gb, per_gg, out=b_by_g)
    _subtract_products(
        ((bb, b_by_r, rb), (bb, b_by_g, gb), (bp, b_by_r, rp), (bp, b_by_g, gp)), product
    )


def _substitute_back(
    means: np.ndarray, factors: np.ndarray, fits: np.ndarray, product: np.ndarray
) -> None:
    """The slopes and the constant, the first four of ``fits``; pp becomes the variance left."""
    r, g, b, p, _, _, _, _, _, bb, rp, gp, bp, pp = means
    per_rr, per_gg, g_by_r, b_by_r, b_by_g = factors
    a_r, a_g, a_b, constant, _, _ = fits
    np.multiply(rp, per_rr, out=a_r)
    np.multiply(gp, per_gg, out=a_g)
    np.divide(bp, bb, out=a_b)
    # What each explains of alpha's variance, before its slope is that of r, g or b alone.
    _subtract_products(((pp, a_r, rp), (pp, a_g, gp), (pp, a_b, bp)), product)
    _subtract_products(((a_g, b_by_g, a_b), (a_r, g_by_r, a_g), (a_r, b_by_r, a_b)), product)
    constant[:] = p
    _subtract_products(((constant, a_r, r), (constant, a_g, g), (constant, a_b, b)), product)


def _weigh(means: np.ndarray, fits: np.ndarray) -> None:
    """Multiply the fits by their weight, which falls with the variance that they leave."""
    *_, pp = means
    *_, left, weight = fits
    np.maximum(pp, 0, out=left)
    np.add(left, np.float32(GOOD_FIT), out=weight)
    np.reciprocal(weight, out=weight)
    fits[:5] *= weight

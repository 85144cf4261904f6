"""The soft edge drawn along the picture's own detail: a guided filter in the edge band.

He, Sun, Tang, "Guided Image Filtering" (PAMI 2013), with a colour guide, and its
fast form (He, Sun, "Fast Guided Filter", 2015): the linear models alpha = a . rgb + b
are fitted at the working scale and applied to the full-resolution colours. Where
subject and background share their colours (a dark stripe before dark ground) no such
model holds; a window therefore counts the less, and the edge is redrawn the less, the
more of alpha its model leaves unexplained.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.alpha.box import Box, Pixels, box_around, sample

WHOLE_SIDE = 800  # pictures with a shorter longer side are worked on as they are,
WORKING_SIDE = 960  # larger ones at half, or so that theirs is about this
RADIUS = 5  # of the fit's window, working pixels
EPSILON = 1e-4  # regulariser, squared colour in 0..1
GOOD_FIT = 0.002  # variance of alpha that any model may leave unexplained
POOR_FIT = 0.045  # at which the redrawn edge counts exp(-1)
SOFT_LOW, SOFT_HIGH = 0.05, 0.95
BAND_REACH = 2  # dilation of the edge band, working pixels
BAND_SIGMA = 1.0  # its soft border, working pixels


def working_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) at which motion and fits are computed: a whole fraction."""
    side = max(height, width)
    factor = 1 if side < WHOLE_SIDE else max(2, round(side / WORKING_SIDE))
    return max(1, round(height / factor)), max(1, round(width / factor))


@dataclass
class View:
    """A frame at the working scale.

    rgb: (h, w, 3) uint8, grey: (h, w) uint8, alpha: (h, w) float32 in 0..1.
    box: where alpha is not zero.
    """

    rgb: np.ndarray
    grey: np.ndarray
    alpha: np.ndarray
    box: Box

    @classmethod
    def of(cls, rgb: np.ndarray, alpha: np.ndarray) -> View:
        """Reduce a frame: rgb (H, W, 3) uint8 and alpha (H, W) float32."""
        height, width = working_size(*alpha.shape)
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


def refine_edges(rgb: np.ndarray, alpha: np.ndarray, view: View, share: float = 1.0) -> None:
    """Redraw the edge band of alpha by the colours of the frame, in place.

    rgb: (H, W, 3) uint8; alpha: (H, W) float32 in 0..1; view: the same, reduced;
    share: 0..1, how far. Outside the band nothing changes.
    """
    weight, box = edge_band(view.alpha)
    if box.is_empty:
        return
    height, width = alpha.shape
    pixels = pixels_under(weight > 1 / 255, box, view.alpha.shape, height, width)
    around = box.grown(2 * RADIUS + 1, *view.alpha.shape)
    models, doubt = fit_models(around.crop(view.rgb), around.crop(view.alpha))
    x, y = to_working(pixels, alpha.shape, view.alpha.shape)
    model = sample(models, x - around.left, y - around.top)
    colour = pixels.of(rgb).astype(np.float32)
    drawn = np.einsum("nc,nc->n", model[:, :3], colour) / np.float32(255) + model[:, 3]
    mix = sample(weight, x - box.left, y - box.top) * np.float32(share)
    mix *= np.exp(sample(doubt, x - around.left, y - around.top) * np.float32(-1 / POOR_FIT))
    before = pixels.of(alpha)
    pixels.put(alpha, before + mix * (np.clip(drawn, 0, 1) - before))


def edge_band(alpha: np.ndarray) -> tuple[np.ndarray, Box]:
    """Where the edge is redrawn, at the working scale, and the box around it.

    The band is what is soft, or beside a hard edge, and a little more; its weight
    (box's shape, float32) falls softly to zero.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * BAND_REACH + 1,) * 2)
    solid = (alpha > 0.5).astype(np.uint8)
    hard = cv2.morphologyEx(solid, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    soft = cv2.inRange(alpha, SOFT_LOW, SOFT_HIGH) | hard
    box = box_around(soft)
    if box.is_empty:
        return np.zeros((0, 0), np.float32), box
    box = box.grown(BAND_REACH + round(3 * BAND_SIGMA) + 1, *alpha.shape)
    wide = cv2.dilate((box.crop(soft) > 0).astype(np.float32), kernel)
    return cv2.GaussianBlur(wide, (0, 0), BAND_SIGMA), box


def fit_models(rgb: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (h, w, 4) of alpha = a . rgb + b, and the variance (h, w) they leave.

    rgb: (h, w, 3) uint8; alpha: (h, w) float32; all results float32. Equations 14 to
    16 of the paper, the symmetric 3x3 systems solved by their cofactors; the models of
    all windows around a pixel are averaged, each by how well it fits.
    """
    size = (2 * RADIUS + 1,) * 2

    def mean(picture: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.blur(picture, size))

    red, green, blue = cv2.split(rgb.astype(np.float32) * np.float32(1 / 255))
    mean_r, mean_g, mean_b, mean_p = mean(red), mean(green), mean(blue), mean(alpha)
    rr = mean(red * red) - mean_r * mean_r + EPSILON
    rg = mean(red * green) - mean_r * mean_g
    rb = mean(red * blue) - mean_r * mean_b
    gg = mean(green * green) - mean_g * mean_g + EPSILON
    gb = mean(green * blue) - mean_g * mean_b
    bb = mean(blue * blue) - mean_b * mean_b + EPSILON
    rp = mean(red * alpha) - mean_r * mean_p
    gp = mean(green * alpha) - mean_g * mean_p
    bp = mean(blue * alpha) - mean_b * mean_p
    c_rr, c_rg, c_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    c_gg, c_gb, c_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    scale = 1 / (rr * c_rr + rg * c_rg + rb * c_rb)
    a_r = (c_rr * rp + c_rg * gp + c_rb * bp) * scale
    a_g = (c_rg * rp + c_gg * gp + c_gb * bp) * scale
    a_b = (c_rb * rp + c_gb * gp + c_bb * bp) * scale
    b = mean_p - a_r * mean_r - a_g * mean_g - a_b * mean_b
    explained = a_r * rp + a_g * gp + a_b * bp
    left = np.maximum(mean(alpha * alpha) - mean_p * mean_p - explained, 0)
    weight = 1 / (left + np.float32(GOOD_FIT))
    planes = (a_r, a_g, a_b, b)
    models = mean(cv2.merge([plane * weight for plane in planes]))
    total = 1 / mean(weight)
    return models * total[..., None], mean(left * weight) * total


def pixels_under(
    mask: np.ndarray, box: Box, working: tuple[int, ...], height: int, width: int
) -> Pixels:
    """The full-resolution pixels whose working pixel in ``box`` is set, and one more around."""
    if box.is_empty:
        return Pixels(np.zeros((0, 0), np.uint8), box, width)
    down, across = height / working[0], width / working[1]
    around = box.grown(1, working[0], working[1])
    wide = np.zeros(around.shape, np.uint8)
    wide[
        box.top - around.top : box.bottom - around.top,
        box.left - around.left : box.right - around.left,
    ] = mask
    wide = cv2.dilate(wide, np.ones((3, 3), np.uint8))
    full = Box(
        int(around.top * down),
        int(around.left * across),
        min(int(np.ceil(around.bottom * down)), height),
        min(int(np.ceil(around.right * across)), width),
    )
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

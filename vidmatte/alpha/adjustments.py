"""What a person changes on a matte by hand, at full precision, in one fixed order.

The order of ``apply``: threshold, gamma, keep-largest, remove-specks, fill-holes,
dilate, erode, feather, garbage matte, holdout matte, invert. Each step does nothing
at its default. ``despill`` changes the colours, after all that.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.alpha.wide_windows import RADIUS, discs, gaussian

#: Heights over nothing at which specks are looked for, and under 1 holes: finer towards the
#: end, so that what lies in a haze goes down to it.
_AREA_LEVELS = np.array([*np.arange(7, 0, -1) / 8, *0.5 ** np.arange(4, 9), 0], np.float32)
_MANY_STEPS = 8  # of RADIUS, of which larger discs are composed: so many are quicker together
SOLID, FAINT = 0.5, 0.1
_FAINT_SHARE = 0.01  # of the largest thing's area, from which a faint one is a thing of its own
SPILL_CHANNELS = {"red": 0, "green": 1, "blue": 2}


@dataclass(frozen=True)
class Adjustments:
    """Values of the controls; the defaults change nothing.

    threshold: alpha at and below the first becomes 0, at and above the second 1.
    gamma: alpha ** (1 / gamma); above 1 thickens soft parts, below 1 thins them.
    erode, dilate, feather: pixels, fractions allowed. fill_holes, remove_specks:
    areas in pixels up to which they go.
    garbage, holdout: (H, W) float32 in 0..1, where the subject never, or always, is.
    """

    threshold: tuple[float, float] = (0.0, 1.0)
    gamma: float = 1.0
    keep_largest: bool = False
    remove_specks: int = 0
    fill_holes: int = 0
    dilate: float = 0.0
    erode: float = 0.0
    feather: float = 0.0
    invert: bool = False
    garbage: np.ndarray | None = None
    holdout: np.ndarray | None = None


def apply(alpha: np.ndarray, controls: Adjustments) -> np.ndarray:
    """Alpha (H, W) float32 in 0..1 after all controls, in the order of the module.

    Where no control is set, the given array. Raises ValueError for a mask of another
    size and for a threshold or gamma that is not allowed.
    """
    if controls.threshold != (0.0, 1.0):
        alpha = _threshold(alpha, *controls.threshold)
    if controls.gamma != 1:
        alpha = _gamma(alpha, controls.gamma)
    if controls.keep_largest:
        alpha = _keep_largest(alpha)
    if controls.remove_specks:
        alpha = _remove_specks(alpha, controls.remove_specks)
    if controls.fill_holes:
        alpha = _fill_holes(alpha, controls.fill_holes)
    if controls.dilate:
        alpha = _dilate(alpha, controls.dilate)
    if controls.erode:
        alpha = _erode(alpha, controls.erode)
    if controls.feather:
        alpha = _feather(alpha, controls.feather)
    alpha = _apply_masks(alpha, controls.garbage, controls.holdout)
    return 1 - alpha if controls.invert else alpha


def _apply_masks(
    alpha: np.ndarray, garbage: np.ndarray | None, holdout: np.ndarray | None
) -> np.ndarray:
    """Alpha held to 0 by the garbage matte, then to 1 by the holdout matte."""
    if garbage is not None:
        alpha = np.minimum(alpha, 1 - _resized_to(garbage, alpha))
    if holdout is not None:
        alpha = np.maximum(alpha, _resized_to(holdout, alpha))
    return alpha


def _resized_to(mask: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The mask, if it is as large as alpha. Raises ValueError if not."""
    if mask.shape != alpha.shape:
        raise ValueError(f"the mask is {mask.shape} and the matte {alpha.shape}: equal sizes")
    return mask


def _threshold(alpha: np.ndarray, low: float, high: float) -> np.ndarray:
    """Levels: ``low`` becomes 0 and ``high`` 1, linear between. Raises ValueError."""
    if not 0 <= low < high <= 1:
        raise ValueError(f"threshold {low:g},{high:g}: 0 <= LOW < HIGH <= 1 is allowed")
    stretched = (alpha - np.float32(low)) * np.float32(1 / (high - low))
    return np.asarray(np.clip(stretched, 0, 1))


def _gamma(alpha: np.ndarray, value: float) -> np.ndarray:
    """alpha ** (1 / value); 0 and 1 stay. Raises ValueError."""
    if value <= 0:
        raise ValueError(f"gamma {value:g}: more than 0 is allowed")
    return np.asarray(cv2.pow(alpha, 1 / value))


def _erode(alpha: np.ndarray, pixels: float) -> np.ndarray:
    """Move the edge inward; a fraction of a pixel takes that share of its coverage."""
    return _morph(alpha, pixels, cv2.MORPH_ERODE)


def _dilate(alpha: np.ndarray, pixels: float) -> np.ndarray:
    """Move the edge outward, in steps as fine as ``erode``'s."""
    return _morph(alpha, pixels, cv2.MORPH_DILATE)


def _morph(alpha: np.ndarray, pixels: float, operation: int) -> np.ndarray:
    """Grey morphology with a disc whose radius may be a fraction."""
    if pixels < 0:
        raise ValueError(f"{pixels:g} pixels: 0 and more is allowed; erode and dilate are apart")
    steps, rest = divmod(int(pixels), RADIUS)
    if steps >= _MANY_STEPS:
        alpha, steps = discs(alpha, steps, operation), 0
    for step in [RADIUS] * steps + [rest]:
        if step > 1:
            alpha = cv2.morphologyEx(alpha, operation, disc(step))
    share = pixels - int(pixels)
    for part in (1.0 if rest == 1 else 0.0, share):
        if part:
            alpha = alpha + np.float32(part) * (_one_step(alpha, operation) - alpha)
    return alpha


def _one_step(alpha: np.ndarray, operation: int) -> np.ndarray:
    """Alpha with its edges moved by one pixel.

    A cross moves diagonal edges too little and a square too far; by this mean of both they
    go as far as level and upright ones.
    """
    cross = cv2.morphologyEx(alpha, operation, disc(1))
    square = cv2.morphologyEx(alpha, operation, np.ones((3, 3), np.uint8))
    return np.asarray(cross + np.float32(np.sqrt(2) - 1) * (square - cross))


def disc(radius: int) -> np.ndarray:
    """A filled circle as a (2 radius + 1) square mask, as wide as it is high.

    Its reach is that of a circle within 11 % in every direction with a radius of two pixels,
    6 % with three and four, 2 % with five.
    """
    away = np.arange(-radius, radius + 1) ** 2
    return (away + away[:, None] <= radius * radius + radius // 2).astype(np.uint8)


def _feather(alpha: np.ndarray, pixels: float) -> np.ndarray:
    """Soften by a Gaussian of ``pixels`` / 2 standard deviation."""
    if pixels <= 0:
        raise ValueError(f"feather {pixels:g}: more than 0 is allowed")
    return np.asarray(np.clip(gaussian(alpha, pixels / 2), 0, 1))


def _fill_holes(alpha: np.ndarray, area: int) -> np.ndarray:
    """Holes of at most ``area`` pixels, enclosed by the subject, take its alpha.

    An area closing (Vincent, "Morphological Area Openings and Closings", 1993) at a
    few levels of alpha, so that soft rims go with their hole; nothing is ever lowered.
    """
    result = alpha.copy()
    for level in 1 - _AREA_LEVELS:
        low = (alpha < level).view(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(low, connectivity=4)
        small = stats[:, cv2.CC_STAT_AREA] <= area
        small[0] = False
        small[np.unique(_border_of(labels))] = False
        if count > 1 and small.any():
            filled = small[labels]
            result[filled] = np.maximum(result[filled], level)
    return result


def _border_of(labels: np.ndarray) -> np.ndarray:
    """The values along a picture's four sides."""
    return np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])


def _remove_specks(alpha: np.ndarray, area: int) -> np.ndarray:
    """Islands of at most ``area`` pixels go; an area opening, nothing is ever raised."""
    result = alpha.copy()
    for level in _AREA_LEVELS:
        labels, areas = _regions(alpha, level)
        small = areas <= area
        small[0] = False
        if small.any():
            gone = small[labels]
            result[gone] = np.minimum(result[gone], level)
    return result


def _keep_largest(alpha: np.ndarray) -> np.ndarray:
    """Only the largest thing stays, with the soft pixels that are nearest to it.

    Things are regions that are solid, and faint ones that stand apart; where nothing is
    solid the largest is a faint one.
    """
    solid, faint = _regions(alpha, SOLID), _regions(alpha, FAINT)
    labels, areas = solid if len(solid[1]) > 1 else faint
    if len(areas) == 1:
        return alpha
    largest = labels == 1 + int(areas[1:].argmax())
    apart = faint[1] >= _FAINT_SHARE * largest.sum()
    apart[np.unique(faint[0][largest])] = apart[0] = False
    others = (labels > 0) & ~largest | apart[faint[0]]
    if not others.any():
        return alpha
    to_largest, to_others = (
        cv2.distanceTransform((~thing).view(np.uint8), cv2.DIST_L2, 5)
        for thing in (largest, others)
    )
    return np.where(to_largest <= to_others, alpha, np.float32(0))


def _regions(alpha: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """What is above a level, each region by a number of its own, and their areas.

    Labels (H, W) int32, 0 for what is not; areas (N + 1,), the first of what is not.
    """
    high = (alpha > level).view(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(high, connectivity=8)
    return np.asarray(labels), np.asarray(stats[:, cv2.CC_STAT_AREA])


def despill(rgb: np.ndarray, colour: str, strength: float = 1.0) -> np.ndarray:
    """Take a screen's light off the subject.

    rgb: (H, W, 3) uint8 or uint16. colour: red, green or blue; that channel is held
    to the mean of the two others, by ``strength`` 0..1. Returns a new array. Raises
    ValueError for another colour.
    """
    if colour not in SPILL_CHANNELS:
        raise ValueError(f"despill {colour}: choose from {', '.join(SPILL_CHANNELS)}")
    channel = SPILL_CHANNELS[colour]
    one, other = (rgb[..., place] for place in range(3) if place != channel)
    screen = rgb[..., channel].astype(np.float32)
    limit = (one.astype(np.float32) + other) / 2
    result = np.array(rgb)
    held = screen - np.float32(strength) * np.maximum(screen - limit, 0)
    result[..., channel] = np.rint(held).astype(rgb.dtype)
    return result

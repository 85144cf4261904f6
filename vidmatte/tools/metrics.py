"""Errors of alpha mattes against a known truth.

Every function takes alpha as (H, W) float32 in 0..1, prediction first. The scale of
each number is that of the tables in the video matting literature (Lin et al.,
"Robust High-Resolution Video Matting with Temporal Guidance", WACV 2022,
https://github.com/PeterL1n/RobustVideoMatting): MAD and MSE x 1e3, Grad and
Conn / 1e3, dtSSD x 1e2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

_GRADIENT_SIGMA = 1.4
CONNECTIVITY_STEPS, CONNECTIVITY_TOLERANCE = 10, 0.15
_MOTION_MARGIN = 32  # pixels around mattes in which their motion is sought
_SMALLEST = 16  # side of a picture below which OpenCV's search finds no motion, or breaks


def mad(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Mean absolute difference, x 1e3."""
    return float(cv2.absdiff(prediction, truth).mean(dtype=np.float64)) * 1e3


def mse(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared error, x 1e3."""
    return float(np.square(prediction - truth).mean(dtype=np.float64)) * 1e3


def _gradient_error(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Grad: sum of squared differences of the gradients' lengths, / 1e3.

    Rhemann et al., "A Perceptually Motivated Online Benchmark for Image Matting"
    (CVPR 2009): first derivatives of a Gaussian of sigma 1.4, filters of unit length,
    each alpha stretched to 0..1 first, as the benchmark's own code does it.
    """
    difference = _gradient_length(prediction) - _gradient_length(truth)
    return float(np.square(difference).sum(dtype=np.float64)) / 1e3


def _gradient_length(alpha: np.ndarray) -> np.ndarray:
    """Length of the Gaussian gradient of alpha stretched to 0..1."""
    low, high = float(alpha.min()), float(alpha.max())
    stretched = (alpha - np.float32(low)) / np.float32(high - low) if high > low else alpha * 0
    reach = int(np.ceil(_GRADIENT_SIGMA * np.sqrt(-2 * np.log(np.sqrt(2 * np.pi) * 0.01 * 1.4))))
    at = np.arange(-reach, reach + 1, dtype=np.float64)
    bell = np.exp(-(at**2) / (2 * _GRADIENT_SIGMA**2))
    slope = -at * bell
    norm = np.sqrt((bell**2).sum() * (slope**2).sum())
    across = cv2.sepFilter2D(stretched, -1, slope / norm, bell, borderType=cv2.BORDER_REPLICATE)
    down = cv2.sepFilter2D(stretched, -1, bell / norm, slope, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.magnitude(across, down))


def _connectivity_error(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Conn: how much of each matte hangs loose from what both agree on, / 1e3.

    Rhemann et al. 2009, with the steps of 0.1 and the tolerance of 0.15 of their code:
    a pixel's degree of connectedness falls with the distance between its alpha and
    the highest threshold at which it belongs to the largest region of both mattes.
    """
    connected = _connected_alpha(cv2.min(prediction, truth))
    degrees = (_degree_of(alpha, connected) for alpha in (prediction, truth))
    return float(cv2.sumElems(cv2.absdiff(*degrees))[0]) / 1e3


def _connected_alpha(both: np.ndarray) -> np.ndarray:
    """The highest step up to which each pixel is in the largest region at every step, 0..1.

    both: (H, W) float32, the lower alpha of the two mattes.
    """
    steps = np.arange(1, CONNECTIVITY_STEPS + 1) * (1 / CONNECTIVITY_STEPS)
    connected = np.zeros(both.shape, np.float32)
    # Where not even the first step is reached there is nothing to look for.
    x, y, width, height = cv2.boundingRect(_reached(both, steps[0]))
    if not width:
        return connected
    inside = np.s_[y : y + height, x : x + width]
    both, found = np.ascontiguousarray(both[inside]), connected[inside]
    member = np.full(both.shape, 255, np.uint8)
    for step in steps:
        member &= _largest_region(_reached(both, step))
        if not member.any():
            break
        found[member > 0] = step
    return connected


def _degree_of(alpha: np.ndarray, connected: np.ndarray) -> np.ndarray:
    """Degree of connectedness: 1 less the distance, where that is beyond the tolerance."""
    distance = cv2.subtract(alpha, connected)
    below = float(np.nextafter(np.float32(CONNECTIVITY_TOLERANCE), np.float32(0)))
    cv2.threshold(distance, below, 0, cv2.THRESH_TOZERO, dst=distance)
    return np.asarray(1 - distance)


def _reached(alpha: np.ndarray, step: float) -> np.ndarray:
    """Where alpha (H, W) float32 is no less than a step: 1, else 0, uint8."""
    return (alpha >= _no_less(step)).view(np.uint8)


def _no_less(value: float) -> float:
    """The smallest float32 that is not below ``value``."""
    near = np.float32(value)
    return float(near if near >= value else np.nextafter(near, np.float32(2)))


def _largest_region(mask: np.ndarray) -> np.ndarray:
    """The largest 4-connected region of a (H, W) uint8 mask, as 0 and 255."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count == 1:
        return np.zeros_like(mask)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    return np.asarray(cv2.inRange(labels, largest, largest))


def dtssd(
    prediction: np.ndarray,
    truth: np.ndarray,
    last_prediction: np.ndarray,
    last_truth: np.ndarray,
) -> float:
    """dtSSD of one pair of frames: root mean square of the changes' difference, x 1e2.

    Erofeev et al., "Perceptually Motivated Benchmark for Video Matting" (BMVC 2015),
    as a mean over pixels instead of their sum, like Lin et al.
    """
    difference = (prediction - last_prediction) - (truth - last_truth)
    return float(np.sqrt(np.square(difference).mean(dtype=np.float64))) * 1e2


def messd_dt(
    prediction: np.ndarray,
    truth: np.ndarray,
    last_prediction: np.ndarray,
    last_truth: np.ndarray,
    motion: np.ndarray,
) -> float:
    """MESSDdt of one pair of frames: change of the squared error along the motion, x 1e3.

    Erofeev et al. 2015: mean over pixels of |(p - g)^2 now - (p - g)^2 then|, the
    latter taken where the pixel was. motion: (H, W, 2) float32, from this frame to
    the last one, x then y.
    """
    now, then = np.square(prediction - truth), np.square(last_prediction - last_truth)
    moved, inside = follow(then, motion)
    return float(np.abs(now - moved)[inside].mean(dtype=np.float64)) * 1e3 if inside.any() else 0.0


def flicker(
    prediction: np.ndarray,
    truth: np.ndarray,
    last_prediction: np.ndarray,
    last_truth: np.ndarray,
    motion: np.ndarray,
) -> float:
    """The part of the error that changes while the subject moves, x 1e2.

    Root mean square of the error now minus the last frame's error moved along. An
    error that merely travels with the subject (a strand that is always missing)
    does not count, as it does in dtSSD. Pixels that came from outside the frame are
    omitted. motion: as for ``messd_dt``.
    """
    moved, inside = follow(last_prediction - last_truth, motion)
    change = (prediction - truth - moved)[inside]
    return float(np.sqrt(np.square(change).mean(dtype=np.float64))) * 1e2 if change.size else 0.0


def follow(last: np.ndarray, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture of the last frame moved to this one, and where it came from inside."""
    height, width = last.shape
    x = motion[..., 0] + np.arange(width, dtype=np.float32)
    y = motion[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    moved = cv2.remap(last, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return moved, inside


def _estimated_motion(now: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Motion from this frame to the last where none is known: (H, W, 2) float32.

    now, last: (H, W, 3) uint8 pictures, or (H, W) uint8 mattes. Pictures under 16
    pixels high or wide are taken to be still.
    """
    if now.ndim == 3:
        now, last = cv2.cvtColor(now, cv2.COLOR_RGB2GRAY), cv2.cvtColor(last, cv2.COLOR_RGB2GRAY)
    still = np.zeros((*now.shape, 2), np.float32)
    if min(now.shape) < _SMALLEST:
        return still
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(search.calc(now, last, still))


def _motion_of_mattes(now: np.ndarray, last: np.ndarray) -> np.ndarray:
    """``_estimated_motion`` of two mattes, sought where either has something: (H, W, 2)."""
    height, width = now.shape
    motion = np.zeros((height, width, 2), np.float32)
    x, y, across, down = cv2.boundingRect(_codes(cv2.max(now, last)))
    if across:
        rows = slice(max(0, y - _MOTION_MARGIN), min(height, y + down + _MOTION_MARGIN))
        columns = slice(max(0, x - _MOTION_MARGIN), min(width, x + across + _MOTION_MARGIN))
        near = (np.ascontiguousarray(_codes(matte)[rows, columns]) for matte in (now, last))
        motion[rows, columns] = _estimated_motion(*near)
    return motion


@dataclass
class Score:
    """The measures of a sequence, frame by frame; only the last frame is held.

    estimates: where no motion is given, MESSDdt goes by that of the truth's mattes.
    """

    estimates: bool = False
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    _last: tuple[np.ndarray, np.ndarray] | None = None

    def add(
        self, prediction: np.ndarray, truth: np.ndarray, motion: np.ndarray | None = None
    ) -> dict[str, float]:
        """Take the next frame; its measures, by name.

        motion: where each pixel was in the last frame, as for ``messd_dt``; MESSDdt and
        flicker are found along it. Raises ValueError where the shapes differ.
        """
        if prediction.shape != truth.shape:
            raise ValueError(
                f"prediction is {prediction.shape} and truth {truth.shape}: score equal sizes"
            )
        here = prediction, truth
        found = {
            "mad": mad(*here),
            "mse": mse(*here),
            "grad": _gradient_error(*here),
            "conn": _connectivity_error(*here),
        }
        if self._last is not None:
            found |= self._changes(here, self._last, motion)
        self._last = prediction.copy(), truth.copy()
        for name, value in found.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1
        return found

    def _changes(
        self,
        here: tuple[np.ndarray, np.ndarray],
        last: tuple[np.ndarray, np.ndarray],
        motion: np.ndarray | None,
    ) -> dict[str, float]:
        """The measures of a pair of frames."""
        found = {"dtssd": dtssd(*here, *last)}
        if motion is not None:
            found["messd_dt"] = messd_dt(*here, *last, motion)
            found["flicker"] = flicker(*here, *last, motion)
        elif self.estimates:
            along = _motion_of_mattes(here[1], last[1])
            found["messd_dt"] = messd_dt(*here, *last, along)
        return found

    def means(self) -> dict[str, float]:
        """Each measure's mean over its frames, or pairs of frames, by name."""
        return {name: total / self.counts[name] for name, total in self.sums.items()}


def _codes(alpha: np.ndarray) -> np.ndarray:
    """Alpha as (H, W) uint8."""
    return np.asarray(cv2.multiply(alpha, 255.0, dtype=cv2.CV_8U))

"""Test-time augmentation of a segmentation network: plain, mirrored or inset views of a frame.

A network's errors change with the view of a picture; the subject does not. Consecutive
frames therefore get alternating views, and the temporal filter averages their alphas along
the motion: as good as several views of each frame, without more runs of the network. In an
inset view, surrounded by the picture's reflection, a subject that the frame cuts off does
not touch the border.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.core.frame import Frame

_INSET = 0.04  # share of the network's input, on each side, that is reflection


@dataclass(frozen=True)
class View:
    """One view of a picture."""

    mirrored: bool = False
    inset: bool = False

    def apply(self, picture: np.ndarray, width: int, height: int) -> np.ndarray:
        """The view of a picture (H, W, 3) uint8: (height, width, 3) uint8."""
        across, down = self.margin(width), self.margin(height)
        view = _resize(picture, width - 2 * across, height - 2 * down)
        if across or down:
            view = cv2.copyMakeBorder(view, down, down, across, across, cv2.BORDER_REFLECT_101)
        return view[:, ::-1] if self.mirrored else view

    def undo(self, matte: np.ndarray) -> np.ndarray:
        """The picture's part of a matte (height, width) of the view, unmirrored."""
        height, width = matte.shape
        across, down = self.margin(width), self.margin(height)
        inner = matte[down : height - down, across : width - across]
        return inner[:, ::-1] if self.mirrored else inner

    def margin(self, side: int) -> int:
        """Pixels of reflection at either end of a side of the network's input."""
        return round(_INSET * side) if self.inset else 0


PLAIN = View()
#: Pairs of a straight view and a mirrored one.
_ALTERNATING = (View(inset=True), View(mirrored=True), PLAIN, View(mirrored=True, inset=True))
#: The views of consecutive frames, repeated cyclically, by the schedule's name.
SCHEDULES: dict[str, tuple[tuple[View, ...], ...]] = {
    "plain": ((PLAIN,),),
    "two": tuple((view,) for view in _ALTERNATING[:2]),
    "four": tuple((view,) for view in _ALTERNATING),
    "both": (_ALTERNATING[:2], _ALTERNATING[2:]),
}


def _phase_of(frame: Frame, schedule: str) -> int:
    """The position of a frame in the schedule; a shot begins with the first."""
    in_order = 0 if frame.new_shot else frame.index
    return (in_order if frame.turn is None else frame.turn) % len(SCHEDULES[schedule])


def views_of(frame: Frame, schedule: str) -> tuple[View, ...]:
    """The views of a frame."""
    return SCHEDULES[schedule][_phase_of(frame, schedule)]


def mark_views(frame: Frame, schedules: Iterable[str]) -> None:
    """Record in a frame which views were used, for the temporal filter.

    schedules: of all networks that contribute to its alpha; alternating ones are in phase.
    """
    for schedule in schedules:
        frame.augment_phase = max(frame.augment_phase, _phase_of(frame, schedule))
        frame.mirrored |= all(view.mirrored for view in views_of(frame, schedule))


def _resize(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize (H, W, 3) uint8 without aliasing: by area where it shrinks, else linear."""
    shrinks = picture.shape[1] > width or picture.shape[0] > height
    kind = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=kind))


_SMOOTHING = 3.0  # sigma of the difference's blur, in pixels of mattes about 320 wide
APART, FAR_APART = 0.1, 0.3  # smoothed difference of alpha beyond that of edges
LITTLE_SHARED, SHARED = 0.65, 0.85  # share of a region that is subject in both mattes
_TAKEN = 0.85  # of the way from the mean to the larger matte


def agreement(straight: np.ndarray, mirrored: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Where two small mattes, (h, w) float32, differ in more than their edges.

    Returns two (h, w) float32 maps in 0..1: the weights of the larger matte and of the
    straight one against the mean. None where the mean is sufficient.
    """
    apart = cv2.GaussianBlur(cv2.absdiff(straight, mirrored), (0, 0), _SMOOTHING)
    apart = np.clip((apart - np.float32(APART)) * np.float32(1 / (FAR_APART - APART)), 0, 1)
    if not apart.any():
        return None
    either = (cv2.max(straight, mirrored) > 0.5).astype(np.uint8)
    both = cv2.min(straight, mirrored) > 0.5
    count, labels, stats, _ = cv2.connectedComponentsWithStats(either, connectivity=4)
    areas = np.maximum(stats[:, cv2.CC_STAT_AREA], 1)  # the background may be empty
    shared = np.bincount(labels[both], minlength=count) / areas
    known = np.clip((shared - LITTLE_SHARED) / (SHARED - LITTLE_SHARED), 0, 1)
    known[0] = 0
    of_known = cv2.GaussianBlur(known.astype(np.float32)[labels], (0, 0), _SMOOTHING / 2)
    of_known = cv2.dilate(of_known, np.ones((5, 5), np.uint8))
    return np.float32(_TAKEN) * apart * of_known, apart * (1 - of_known)


def reconcile(
    straight: np.ndarray, mirrored: np.ndarray, larger: np.ndarray, own: np.ndarray
) -> np.ndarray:
    """One matte of two by the maps of ``agreement``, all of one shape."""
    mean = straight + mirrored
    mean *= np.float32(0.5)
    merged = np.maximum(straight, mirrored)
    merged -= mean
    merged *= larger
    merged += mean
    toward_own = np.subtract(straight, mean, out=mean)  # in place: these may be large
    toward_own *= own
    merged += toward_own
    return np.asarray(merged)

"""How a salient network is shown a frame: plain, mirrored, or inset in its own reflection.

A network's mistakes change with the way it is shown a picture; the subject does not.
Frames that follow each other are therefore shown in turns, and the temporal filter, which
averages them along the motion, brings together what they say: as good as asking several
times, at no run more. Inset, a subject that the frame cuts off does not touch the border.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.core.frame import Frame

_INSET = 0.04  # of the network's input, on each side, that shows a reflection


@dataclass(frozen=True)
class View:
    """One way to show a picture."""

    mirrored: bool = False
    inset: bool = False

    def apply(self, picture: np.ndarray, width: int, height: int) -> np.ndarray:
        """A picture (H, W, 3) uint8 as it is shown: (height, width, 3) uint8."""
        across, down = self._margin(width), self._margin(height)
        shown = _resize(picture, width - 2 * across, height - 2 * down)
        if across or down:
            shown = cv2.copyMakeBorder(shown, down, down, across, across, cv2.BORDER_REFLECT_101)
        return shown[:, ::-1] if self.mirrored else shown

    def undo(self, seen: np.ndarray) -> np.ndarray:
        """The picture's part of a matte (height, width) of what was shown, turned back."""
        height, width = seen.shape
        across, down = self._margin(width), self._margin(height)
        inner = seen[down : height - down, across : width - across]
        return inner[:, ::-1] if self.mirrored else inner

    def _margin(self, side: int) -> int:
        return round(_INSET * side) if self.inset else 0


PLAIN = View()
ALTERNATING = (View(inset=True), View(mirrored=True), PLAIN, View(mirrored=True, inset=True))
#: The looks at a frame, and at those that follow it; then the same again.
SCHEDULES: dict[str, tuple[tuple[View, ...], ...]] = {
    "plain": ((PLAIN,),),
    "two": tuple((look,) for look in ALTERNATING[:2]),
    "four": tuple((look,) for look in ALTERNATING),
    "both": (ALTERNATING[:2], ALTERNATING[2:]),
}


def _phase_of(frame: Frame, way: str) -> int:
    """Which of the way's turns a frame is shown in; a shot always begins with the first."""
    return 0 if frame.new_shot else frame.index % len(SCHEDULES[way])


def views_of(frame: Frame, way: str) -> tuple[View, ...]:
    """The looks that are taken at a frame."""
    return SCHEDULES[way][_phase_of(frame, way)]


def mark_views(frame: Frame, ways: Iterable[str]) -> None:
    """Put down in a frame how it was shown, for the temporal filter.

    ways: of all networks that have a part in its alpha; those that take turns take the same.
    """
    for way in ways:
        frame.augment_phase = max(frame.augment_phase, _phase_of(frame, way))
        frame.mirrored |= all(look.mirrored for look in views_of(frame, way))


def _resize(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize (H, W, 3) uint8 without aliasing: by area where it shrinks, else linear."""
    shrinks = picture.shape[1] > width or picture.shape[0] > height
    kind = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=kind))


_SMOOTHING = 3.0  # of the difference, in pixels of mattes about 320 wide
APART, FAR_APART = 0.1, 0.3  # smoothed difference of alpha that edges alone do not make
LITTLE_SHARED, SHARED = 0.65, 0.85  # share of a thing that both mattes call subject
_TAKEN = 0.85  # of the way from the mean to the larger matte


def agreement(straight: np.ndarray, mirrored: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Where two small mattes, (h, w) float32, differ in more than their edges.

    Returns two (h, w) float32 maps in 0..1: how far to go from the mean towards the
    larger matte, and towards the straight one. None where the mean will do.
    """
    apart = cv2.GaussianBlur(cv2.absdiff(straight, mirrored), (0, 0), _SMOOTHING)
    apart = np.clip((apart - np.float32(APART)) * np.float32(1 / (FAR_APART - APART)), 0, 1)
    if not apart.any():
        return None
    either = (cv2.max(straight, mirrored) > 0.5).astype(np.uint8)
    both = cv2.min(straight, mirrored) > 0.5
    count, things, facts, _ = cv2.connectedComponentsWithStats(either, connectivity=4)
    areas = np.maximum(facts[:, cv2.CC_STAT_AREA], 1)  # where all is subject, 0 around it
    shared = np.bincount(things[both], minlength=count) / areas
    known = np.clip((shared - LITTLE_SHARED) / (SHARED - LITTLE_SHARED), 0, 1)
    known[0] = 0
    of_known = cv2.GaussianBlur(known.astype(np.float32)[things], (0, 0), _SMOOTHING / 2)
    of_known = cv2.dilate(of_known, np.ones((5, 5), np.uint8))
    return np.float32(_TAKEN) * apart * of_known, apart * (1 - of_known)


def reconcile(
    straight: np.ndarray, mirrored: np.ndarray, larger: np.ndarray, own: np.ndarray
) -> np.ndarray:
    """One matte of two by the maps of a ``verdict``, all of one shape."""
    mean = np.float32(0.5) * (straight + mirrored)
    return np.asarray(
        mean + larger * (np.maximum(straight, mirrored) - mean) + own * (straight - mean)
    )

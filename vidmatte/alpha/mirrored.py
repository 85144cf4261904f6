"""Two mattes of one picture, the second from its mirror image, made into one.

A network's faults are not symmetric: what it misses in a picture it often sees in the
mirror image. The mean of both is the better one at edges. Where they differ in whole
parts the mean would be half transparent, so there a decision is made: a part of
something that both call the subject is likely subject; anything else is left to the
picture as it is. How much both agree on decides which it is: an arm is a small part of a
body, while a rock that swallows the subject is not.
"""

from __future__ import annotations

import cv2
import numpy as np

SMOOTHING = 3.0  # of the difference, in pixels of mattes about 320 wide
APART, FAR_APART = 0.1, 0.3  # smoothed difference of alpha that edges alone do not make
LITTLE_SHARED, SHARED = 0.65, 0.85  # share of a thing that both mattes call subject
TAKEN = 0.85  # of the way from the mean to the larger matte


def verdict(straight: np.ndarray, mirrored: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Where two small mattes, (h, w) float32, differ in more than their edges.

    Returns two (h, w) float32 maps in 0..1: how far to go from the mean towards the
    larger matte, and towards the straight one. None where the mean will do.
    """
    apart = cv2.GaussianBlur(cv2.absdiff(straight, mirrored), (0, 0), SMOOTHING)
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
    of_known = cv2.GaussianBlur(known.astype(np.float32)[things], (0, 0), SMOOTHING / 2)
    of_known = cv2.dilate(of_known, np.ones((5, 5), np.uint8))
    return np.float32(TAKEN) * apart * of_known, apart * (1 - of_known)


def reconcile(
    straight: np.ndarray, mirrored: np.ndarray, larger: np.ndarray, own: np.ndarray
) -> np.ndarray:
    """One matte of two by the maps of a ``verdict``, all of one shape."""
    mean = np.float32(0.5) * (straight + mirrored)
    return np.asarray(
        mean + larger * (np.maximum(straight, mirrored) - mean) + own * (straight - mean)
    )

"""Where each pixel of a small frame lies in its neighbour, and how far that can be trusted.

Dense inverse search (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV
2016, as in OpenCV) both ways between two grey pictures, then a round trip and a look at the
colours: what does not come back to itself, or arrives at another colour, is not trusted.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.alpha.guidance.coarse_features import squared_length
from vidmatte.alpha.guidance.store import FlowStore

# Pixels of round-trip error that are normal: of a still pixel, and more for each pixel moved.
_ROUND_TRIP, _ROUND_TRIP_PER_PIXEL = 0.8, 0.1
# Squared Lab distance that noise alone makes, and the deviation beyond it.
_COLOUR_NOISE, _COLOUR_SIGMA = 30.0, 14.0


@dataclass(frozen=True)
class Motion:
    """Motion from a frame to its neighbour, at the work size.

    x, y: (h, w) float32, where each pixel lies in the neighbour. trust: (h, w) float32, 0..1.
    """

    x: np.ndarray
    y: np.ndarray
    trust: np.ndarray

    def carry(self, values: np.ndarray, outside: float = 0) -> np.ndarray:
        """The neighbour's values (h, w) float32 moved to this frame; what lies outside of it."""
        return np.asarray(
            cv2.remap(
                values,
                self.x,
                self.y,
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=outside,
            )
        )


_FLOW_STEPS = 64  # of a pixel, in which flow is kept


class MotionSearch:
    """Finds motion between small frames. Not for use by two threads at once.

    flows: remembers what was found; None to find it each time.
    """

    def __init__(self, flows: FlowStore | None = None) -> None:
        self._flows = flows
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._search.setFinestScale(1)

    def flow(self, grey: np.ndarray, other: np.ndarray, width: int, height: int) -> np.ndarray:
        """Flow from grey to other, both (H, W) uint8, as (height, width, 2) float32 pixels."""
        found = self._search.calc(grey, other, None)
        small = cv2.resize(found, (width, height), interpolation=cv2.INTER_AREA)
        scale = np.array([width / grey.shape[1], height / grey.shape[0]], np.float32)
        return np.asarray(small * scale)

    def between(
        self,
        grey: np.ndarray,
        other_grey: np.ndarray,
        lab: np.ndarray,
        other_lab: np.ndarray,
        pair: tuple[int, int] | None = None,
    ) -> Motion:
        """Motion from a frame to another one.

        grey, other_grey: (H, W) uint8. lab, other_lab: (h, w, 3) float32 at the work size.
        pair: the two frames' numbers, if they are neighbours in the clip of ``flows``.
        """
        height, width = lab.shape[:2]
        codes = self._flows.get(*pair, (height, width)) if self._flows and pair else None
        if codes is None:
            ways = (grey, other_grey), (other_grey, grey)
            found = np.stack([self.flow(one, other, width, height) for one, other in ways])
            steps = np.rint(found * np.float32(_FLOW_STEPS))
            codes = np.clip(steps, -(1 << 15), (1 << 15) - 1).astype(np.int16)
            if self._flows and pair:
                self._flows.put(*pair, codes)
        flow, back = codes * np.float32(1 / _FLOW_STEPS)
        return _trusted_motion(lab, other_lab, flow, back)


def _trusted_motion(
    lab: np.ndarray, other_lab: np.ndarray, flow: np.ndarray, back: np.ndarray
) -> Motion:
    """Motion along ``flow`` (h, w, 2), trusted where ``back`` returns and colours agree."""
    height, width = lab.shape[:2]
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    trip = squared_length(flow + _at(x, y, back))
    normal = np.sqrt(squared_length(flow))
    normal *= np.float32(_ROUND_TRIP_PER_PIXEL)
    normal += np.float32(_ROUND_TRIP)
    trip /= np.square(normal)
    trust = _trust(trip, cv2.blur(squared_length(_at(x, y, other_lab) - lab), (3, 3)))
    trust *= (x >= 0) & (x < width - 1) & (y >= 0) & (y < height - 1)
    return Motion(x, y, trust)


def _at(x: np.ndarray, y: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The values (h, w, C) float32 at places; those outside are as at the border."""
    return np.asarray(cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _trust(trip: np.ndarray | float, colour: np.ndarray) -> np.ndarray:
    """From the squared error of a round trip, 1 is normal, and the squared Lab distance."""
    colour = colour - np.float32(_COLOUR_NOISE)
    np.maximum(colour, 0, out=colour)
    colour *= np.float32(1 / _COLOUR_SIGMA**2)
    return np.asarray(cv2.exp(np.float32(-0.5) * (trip + colour)))


_OWN_TRUST = 0.5  # of flow: from there on it is not replaced
_OWN_INSIDE = 0.7  # the moved field from which a pixel shows the subject's motion
_FEWEST_OWN = 50  # pixels that the subject's motion is found from
_MOST_ASKED = 500  # pixels that one motion is found from
_OWN_GAIN = 1.2  # times: so much worse must flow predict a pixel's colour
_OWN_NOISE = 10.0  # and by so much, of squared Lab distance


def with_own_motion(
    motion: Motion, field: np.ndarray, lab: np.ndarray, last_lab: np.ndarray
) -> Motion:
    """The motion where flow fails on the subject: there, that of the subject as one body.

    Flow goes from coarse to fine, and loses what is thin and moves far: arms. Where it is not
    trusted, and a shift, turn and scale found from the rest of the subject leads to the subject
    and predicts the colour better, that is taken. field: the neighbour's (h, w) float32 0..1.
    lab, last_lab: colours (h, w, 3) float32 of the frame and of its neighbour.
    """
    doubted = motion.trust < _OWN_TRUST
    inside = motion.carry(field) > _OWN_INSIDE
    body = one_motion(motion, inside & ~doubted, _FEWEST_OWN)
    if body is None:
        return motion
    own = Motion(*body, motion.trust)
    errors = [
        cv2.blur(squared_length(_at(one.x, one.y, last_lab) - lab), (3, 3)) for one in (motion, own)
    ]
    better = np.float32(_OWN_GAIN) * errors[1] + np.float32(_OWN_NOISE) < errors[0]
    taken = doubted & better & (own.carry(field) > 0.5)
    pairs = (motion.x, own.x), (motion.y, own.y), (motion.trust, _trust(0.0, errors[1]))
    return Motion(*(np.where(taken, new, old) for old, new in pairs))


def one_motion(
    motion: Motion, mask: np.ndarray, fewest: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """The one shift, turn and scale that most of a mask (h, w) bool follows.

    Where it leads to, x and y, (h, w) float32; None from fewer than ``fewest`` pixels.
    """
    rows, columns = np.nonzero(mask)
    if len(rows) < fewest:
        return None
    step = max(1, len(rows) // _MOST_ASKED)
    rows, columns = rows[::step], columns[::step]
    here = np.stack([columns, rows], 1).astype(np.float32)
    there = np.stack([motion.x[rows, columns], motion.y[rows, columns]], 1)
    found, _ = cv2.estimateAffinePartial2D(
        here, there, method=cv2.RANSAC, ransacReprojThreshold=1.0
    )
    if found is None:
        return None
    m = found.astype(np.float32)
    y, x = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]].astype(np.float32)
    return m[0, 0] * x + m[0, 1] * y + m[0, 2], m[1, 0] * x + m[1, 1] * y + m[1, 2]


def blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    """Values (h, w) float32 blurred at a quarter of the size: by 8 and more nothing is lost."""
    height, width = values.shape
    quarter = -(-width // 4), -(-height // 4)
    small = cv2.resize(values, quarter, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 4)
    return np.asarray(cv2.resize(small, (width, height)))

"""What the field does with the network's alpha: others vanish, hair stays the network's.

The gate multiplies the network's alpha; its verdict on soft pixels is carried outward from
what the network surely marks, so that a strand goes with its owner. The core makes opaque
what the field is sure of, a little inside its edge. Where the network marks the inside of the
subject and not what lies beside it, the edge between is the network's, up to a little outside
the field. Where it is blind to the inside, the edge is the field's, which the frame's colours
can place better.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.alpha.box import WorkingFrame, box_around
from vidmatte.alpha.matting_laplacian import solve

_CORE_INSET = 2  # pixels of the work picture, like all lengths here
_CORE_SIGMA = 1.2
_INSIDE, _OUTSIDE = 2.5, 4.0  # from the field's edge: what it is sure of, on both sides
_NEAR = 5  # sigma within which what the network marks there says whether it sees the edge
_REACH = 13  # width and height of what around another subject the gate does not open
_BLIND, _SEES = 0.6, 0.85  # of the share marked inside, for its edge less that outside
_RAMP = 0.7, 1.0  # of the field where it is the alpha: what it doubts is background more often
_THIN = 0.7  # of the greatest depth nearby, from which a pixel of a thin part is sure
_BAND_INSIDE, _BAND_OUTSIDE = 4.5, 3.5  # of the band that is solved from the colours
_BAND_START = 0.5, 1.0  # ramp of the field, from which the band is taken and to which it is held
_HOLD_SURE, _HOLD_BAND = 100.0, 0.01  # how much, in units of the matting Laplacian's diagonal
_BAND_RAMP = 0.1, 0.9  # of the solution: where both sides look alike it leaves a haze
_AROUND = 8  # solved together with the band


@dataclass(frozen=True)
class Gate:
    """A frame's gate at the work size, (h, w) float32 0..1.

    gate: factor of the network's alpha. core: alpha is at least that. blind: how far the network
    misses the subject, so that the edge is the field's. field: what the gate was made of.
    """

    gate: np.ndarray
    core: np.ndarray
    blind: np.ndarray
    field: np.ndarray

    def apply(self, alpha: np.ndarray, picture: np.ndarray | None = None) -> np.ndarray:
        """The wanted subject's alpha, (H, W) float32, of the network's alpha of any size.

        picture: the frame, (H, W, 3) uint8 RGB, from whose colours the edge is found where the
        network is blind; without it the edge is the field's own.
        """
        size = alpha.shape[1], alpha.shape[0]
        result = alpha * cv2.resize(self.gate, size)
        if not self.blind.any():
            least = cv2.resize(self.core, size)
        elif picture is None:
            edge = _ramp(self.field, *_RAMP)
            least = cv2.resize(self.core + self.blind * np.maximum(edge - self.core, 0), size)
        else:
            edge = _solved(self.field, self.blind > 0, picture)
            least, blind = cv2.resize(self.core, size), cv2.resize(self.blind, size)
            least += blind * np.maximum(edge - least, 0)
        return np.asarray(np.maximum(result, least))


def make_gate(
    field: np.ndarray, alpha: np.ndarray, *, core: bool = True, fill: bool = True
) -> Gate:
    """The gate of a field and the network's alpha, both (h, w) float32 at the work size.

    core: False leaves what the network misses as it is. fill: False leaves its edges so, for an
    alpha that has passed a gate before.
    """
    weight = np.clip(alpha - 0.4, 0, 1) + np.float32(1e-3)
    outward = cv2.GaussianBlur(field * weight, (0, 0), 3) / cv2.GaussianBlur(weight, (0, 0), 3)
    inner = np.clip((alpha - 0.4) / 0.2, 0, 1)
    gate = _ramp(outward + inner * (field - outward), 0.3, 0.7)
    inside, near = _sure_inside(field, _INSIDE), _within(field, _OUTSIDE)
    marks, sees = _seen_parts(alpha, inside, near)
    others = cv2.dilate(((alpha > 0.5) & ~near).astype(np.uint8), np.ones((_REACH, _REACH)))
    beyond = (near & (others == 0)).astype(np.float32)
    gate = np.maximum(gate, sees * cv2.GaussianBlur(beyond, (0, 0), 0.8))
    least, blind = np.zeros_like(field), np.zeros_like(field)
    if core:
        side = 2 * _CORE_INSET + 1
        shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        least = cv2.erode((field > 0.8).astype(np.uint8), shape).astype(np.float32)
        least = cv2.GaussianBlur(least, (0, 0), _CORE_SIGMA)
        blind = 1 - marks if fill else blind
    return Gate(gate, least, blind, field)


def unseen_share(field: np.ndarray, alpha: np.ndarray) -> float:
    """How much of the field's sure inside the network does not mark, 0..1; 0 without any."""
    inside = field > 0.8
    if not inside.any():
        return 0.0
    return float((alpha[inside] < 0.5).mean())


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.asarray(np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1))


def _sure_inside(field: np.ndarray, inset: float) -> np.ndarray:
    """What is so deep inside the field, and the middle of parts that are nowhere: (h, w) bool."""
    depth = cv2.distanceTransform((field > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    reach = 2 * int(inset) + 3
    deepest = cv2.dilate(depth, np.ones((reach, reach), np.uint8))
    return np.asarray((depth > 0) & (depth >= np.minimum(inset, _THIN * deepest)))


def _within(field: np.ndarray, distance: float) -> np.ndarray:
    """The field and what is so near to it, (h, w) bool."""
    away = cv2.distanceTransform((field <= 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    return np.asarray(away <= distance)


def _seen_parts(
    alpha: np.ndarray, inside: np.ndarray, near: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How far the network marks the subject, and how far it sees its edge, (h, w) float32 0..1.

    It sees the edge where it marks what is inside nearby and nothing of what is outside.
    """

    def mean(where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weight = where.astype(np.float32)
        total = cv2.GaussianBlur(weight, (0, 0), _NEAR)
        marked = cv2.GaussianBlur(alpha * weight, (0, 0), _NEAR)
        return marked / np.maximum(total, np.float32(1e-3)), total

    (mine, total), (rest, _) = mean(inside), mean(~near)
    there = _ramp(total, 0, 0.01)
    return _ramp(mine, _BLIND, _SEES) * there, _ramp(mine - rest, _BLIND, _SEES) * there


def _solved(field: np.ndarray, blind: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """The field's edge found from the frame's colours, (H, W) float32 0..1.

    blind: (h, w) bool, where that counts. picture: (H, W, 3) uint8 RGB. The field decides what
    is further from its edge, the matting Laplacian the band between.
    """
    start = _ramp(field, *_BAND_START)
    inside, near = _sure_inside(start, _BAND_INSIDE), _within(start, _BAND_OUTSIDE)
    start = np.where(inside, 1, near * start).astype(np.float32)
    height, width = picture.shape[:2]
    part = blind & near
    if part.any():
        view = WorkingFrame.of(picture, np.zeros((height, width), np.float32))
        rows, columns = view.alpha.shape
        start = cv2.resize(start, (columns, rows))
        band = cv2.resize((near & ~inside).astype(np.float32), (columns, rows))
        around = round(_AROUND * columns / field.shape[1])
        box = box_around(part).enlarged(field.shape, rows, columns).grown(around, rows, columns)
        hold = np.float32(_HOLD_SURE) * np.float32(_HOLD_BAND / _HOLD_SURE) ** box.crop(band)
        found = solve(box.crop(view.rgb), box.crop(start), hold)
        box.crop(start)[:] = _ramp(found, *_BAND_RAMP)
    return np.asarray(cv2.resize(start, (width, height)))

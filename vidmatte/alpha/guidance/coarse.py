"""A frame as the guidance sees it: small, with the network's alpha and its features.

Everything here works at about 320 x 180, whatever the frame's size and shape, so that the
cost a frame is the same for 360p and for 8K.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from vidmatte.alpha.guidance.features import TensorProjection, stack_features

_WORK_AREA = 320 * 180  # pixels of the work picture
_FLOW_SCALE = 1.5  # motion is searched at so many times the work size


def work_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of the work picture of a frame, even numbers, never larger than it."""
    scale = min(1.0, (_WORK_AREA / (width * height)) ** 0.5)
    return max(2 * round(width * scale / 2), 16), max(2 * round(height * scale / 2), 16)


@dataclass(frozen=True)
class CoarseFrame:
    """What is kept of a frame, in about 0.9 MB with a network's features.

    picture: (h, w, 3) uint8 RGB at the work size. grey: uint8, 1.5 times as large.
    alpha_codes: (h, w) uint8, the network's alpha. tensors: projected, (C, h', w') float16.
    """

    picture: np.ndarray
    grey: np.ndarray
    alpha_codes: np.ndarray
    tensors: tuple[np.ndarray, ...] = ()

    @property
    def height(self) -> int:
        return int(self.picture.shape[0])

    @property
    def width(self) -> int:
        return int(self.picture.shape[1])

    @cached_property
    def alpha(self) -> np.ndarray:
        """The network's alpha, (h, w) float32 0..1."""
        return self.alpha_codes.astype(np.float32) / np.float32(255)

    @cached_property
    def lab(self) -> np.ndarray:
        """(h, w, 3) float32: L 0..100, a and b about -128..127."""
        return np.asarray(cv2.cvtColor(self.picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))

    @cached_property
    def features(self) -> np.ndarray:
        """(h / 2, w / 2, D) float32."""
        return stack_features(self.lab, self.tensors)


class CoarseFrameMaker:
    """Makes coarse frames of one clip; the first frame's tensors set their projection."""

    def __init__(self) -> None:
        self._projection: TensorProjection | None = None

    def make(
        self, rgb: np.ndarray, alpha: np.ndarray, tensors: Sequence[np.ndarray] = ()
    ) -> CoarseFrame:
        """A coarse frame.

        rgb: (H, W, 3) uint8. alpha: (H', W') float32 0..1 of any size over the whole frame,
        before any filter. tensors: (C, h', w'), over the whole frame, the same ones each time.
        """
        width, height = work_size(rgb.shape[1], rgb.shape[0])
        large = (round(_FLOW_SCALE * width), round(_FLOW_SCALE * height))
        middle = _reduced(rgb, *large)
        if self._projection is None:
            self._projection = TensorProjection(tensors)
        codes = np.rint(np.clip(_reduced(alpha, width, height), 0, 1) * 255).astype(np.uint8)
        return CoarseFrame(
            picture=_reduced(middle, width, height),
            grey=np.asarray(cv2.cvtColor(middle, cv2.COLOR_RGB2GRAY)),
            alpha_codes=codes,
            tensors=self._projection(tensors),
        )


def _reduced(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """A picture at another size: the mean of what falls together, or bilinear if larger."""
    smaller = width <= picture.shape[1] and height <= picture.shape[0]
    way = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=way))

"""A trimap: what is certain about a frame, and a band in which alpha is found from the colours.

White is subject, black is not. What lies between them is solved for with the matting Laplacian
of ``matting_laplacian``; there the network's alpha counts a little, so that it decides where the
colours do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from vidmatte.alpha.box import WorkingFrame, box_around
from vidmatte.alpha.masks import MaskFile
from vidmatte.alpha.matting_laplacian import add_at_full_size, solve
from vidmatte.core.frame import Clip, Frame
from vidmatte.settings import SubjectOptions

_BLACK, _WHITE = 0.05, 0.95  # of the trimap: up to and from which alpha is certain
_HOLD_CERTAIN = 100.0  # weights of what alpha was, in units of the Laplacian's diagonal
_HOLD_UNKNOWN = 0.001
_AROUND = 16  # working pixels of the certain parts that are solved with the band


class Trimap:
    """The trimaps of a clip's frames: one picture for all of them, or one for each.

    Raises SourceMissingError, SourceError, UsageError where their number or shape is another.
    """

    def __init__(self, path: Path, clip: Clip) -> None:
        self._file = MaskFile("--trimap", path, clip)

    def at(self, index: int) -> np.ndarray:
        """The trimap of the source's frame ``index``, counted from the in point: (H, W) float32 in
        0..1. Raises SourceError, UsageError."""
        return self._file.at(index)

    def file(self, index: int) -> Path:
        """The file of the same."""
        return self._file.file(index)

    def solved_frames(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The frames, each with alpha found in the unknown band of its trimap, in place."""
        for frame in frames:
            assert frame.alpha is not None
            _solve_trimap(frame.rgb, frame.alpha, self._of(frame))
            yield frame

    def held_frames(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The frames with exactly 1 and 0 where their trimap is certain: averages along the motion
        may have changed that."""
        for frame in frames:
            assert frame.alpha is not None
            _hold_certain(frame.alpha, self._of(frame))
            yield frame

    def _of(self, frame: Frame) -> np.ndarray:
        return self.at(frame.place)


def open_trimap(settings: SubjectOptions, clip: Clip) -> Trimap | None:
    """The trimap that the settings name, if any."""
    return None if settings.trimap is None else Trimap(Path(settings.trimap), clip)


def check_trimap(settings: SubjectOptions, clip: Clip) -> None:
    """Raise UsageError or SourceError where the trimap, if any, does not fit the clip."""
    if (trimap := open_trimap(settings, clip)) is not None:
        trimap.at(0)


def _hold_certain(alpha: np.ndarray, trimap: np.ndarray) -> None:
    """Set alpha to 1 and 0 where the trimap is certain, in place; both (H, W) float32 0..1."""
    alpha[trimap >= _WHITE] = 1
    alpha[trimap <= _BLACK] = 0


def _solve_trimap(rgb: np.ndarray, alpha: np.ndarray, trimap: np.ndarray) -> None:
    """Find alpha in the unknown band of a trimap, in place.

    rgb: (H, W, 3) uint8; alpha: the network's, trimap: (H, W) float32 in 0..1.
    """
    _hold_certain(alpha, trimap)
    view = WorkingFrame.of(rgb, alpha)
    height, width = view.alpha.shape
    unknown = ((trimap > _BLACK) & (trimap < _WHITE)).astype(np.float32)
    share = cv2.resize(unknown, (width, height), interpolation=cv2.INTER_AREA)
    if not share.any():
        return
    box = box_around(share > 0).grown(_AROUND, height, width)
    share, before = box.crop(share), box.crop(view.alpha)
    hold = np.float32(_HOLD_CERTAIN) * np.float32(_HOLD_UNKNOWN / _HOLD_CERTAIN) ** share
    found = np.clip(solve(box.crop(view.rgb), before, hold), 0, 1)
    add_at_full_size(alpha, found - before, box, view.alpha.shape)
    _hold_certain(alpha, trimap)

"""The temporal filter for the one frame in view, from the frames of its window."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from vidmatte.alpha.temporal_filter import TemporalFilter
from vidmatte.alpha.track import TrackedFrame


@dataclass
class SmallFrame:
    """What the temporal filter needs of a frame; see ``Frame``."""

    rgb: np.ndarray
    alpha: np.ndarray | None
    new_shot: bool
    mirrored: bool
    augment_phase: int


_Window = list[TrackedFrame[SmallFrame]]


class Smoother:
    """Filters one frame of a window at a time, and keeps the motion of the last window: another
    strength of the filter then takes a fraction of the time."""

    def __init__(self) -> None:
        self._key: object = None
        self._window: _Window = []

    def alpha(
        self, key: object, frames: Iterable[SmallFrame], place: int, smooth: TemporalFilter
    ) -> np.ndarray:
        """The alpha (h, w) float32 of the window's frame number ``place`` after the filter.

        key: of the window; for the last one ``frames`` is not read. smooth: of one mode and kind of
        refinement in all calls.
        """
        if smooth.refine == "best":  # its second average needs every frame, finished
            return filtered(frames, place, smooth)
        if self._key != key:
            window = list(smooth.track_stage(frames))
            self._key, self._window = key, _lightened(window, place)
        copies = [_copy_of(item) for item in self._window]
        return _alpha_at(smooth.average_stage(copies), place)


def filtered(frames: Iterable[SmallFrame], place: int, smooth: TemporalFilter) -> np.ndarray:
    """The alpha of frame number ``place`` after the filter; the frames' own alphas change."""
    return _alpha_at(smooth.average_stage(smooth.track_stage(frames)), place)


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture at (width, height): the mean of what falls together."""
    if picture.shape[1::-1] == size:
        return picture
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def _alpha_at(frames: Iterable[SmallFrame], place: int) -> np.ndarray:
    for index, frame in enumerate(frames):
        if index == place and frame.alpha is not None:
            return frame.alpha
    raise RuntimeError(f"the temporal filter gave no frame at place {place}")


def _lightened(window: _Window, wanted: int) -> _Window:
    """The window with what is needed to average the frame at place ``wanted``; of the others only
    their samples and motion."""
    nothing = np.zeros((1, 1), np.float32)
    for place, item in enumerate(window):
        if place != wanted and item.frame is not None:
            item.frame, item.view = replace(item.frame, rgb=nothing, alpha=nothing), None
    return window


def _copy_of(item: TrackedFrame[SmallFrame]) -> TrackedFrame[SmallFrame]:
    """A copy that the filter may change and use up."""
    frame = item.frame
    if frame is not None and frame.alpha is not None:
        frame = replace(frame, alpha=frame.alpha.copy())
    view = None if item.view is None else replace(item.view)
    return replace(item, frame=frame, view=view)

"""What can be said of a matte without knowing the truth: empty, full, jumping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import cv2
import numpy as np

from vidmatte.alpha.shot_detection import THUMBNAIL, pixel_grid, warp
from vidmatte.core.frame import Frame

_EMPTY_SHARE = 0.0005  # of the picture covered, under which a matte counts as empty
_FULL_SHARE = 0.995
_JUMP_SHARE = 0.015  # of the picture whose alpha changes without a motion that explains it
_NAMED_RANGES = 5


@dataclass
class Quality:
    """Numbers of frames with each fault, in order.

    lost: where the chosen subject was not found. doubtful: where a correction of the chosen
    subject is likely worth most, the best first, as --subject counts frames.
    """

    frames: int = 0
    empty: list[int] = field(default_factory=list)
    full: list[int] = field(default_factory=list)
    jumps: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    doubtful: list[int] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What a user should look at, a line for each fault that there is."""
        named = (
            (self.empty, "without a subject"),
            (self.full, "marked entirely as subject"),
            (self.jumps, "where the matte jumps more than the motion explains"),
            (self.lost, "where the chosen subject was not found"),
        )
        lines = [
            f"{len(numbers)} of {self.frames} frames {what}: {_ranges_text(numbers)}"
            for numbers, what in named
            if numbers
        ]
        if self.doubtful:
            frames = ", ".join(f"f{number}" for number in self.doubtful)
            lines.append(
                f"the subject is least certain at {frames}: if it is wrong there, add a --subject"
                f" with @f{self.doubtful[0]}"
            )
        return lines

    def as_facts(self) -> dict[str, Any]:
        """The same for JSON: inclusive ranges of frame numbers."""
        return {
            "empty": _ranges(self.empty),
            "full": _ranges(self.full),
            "jumps": _ranges(self.jumps),
            "subject_lost": _ranges(self.lost),
            "subject_doubtful": self.doubtful,
        }


class QualityMonitor:
    """Looks at finished frames as they go by and counts their faults."""

    def __init__(self) -> None:
        self.quality = Quality()
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._grid = pixel_grid()
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def observe(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The same frames, looked at."""
        for frame in frames:
            self._look(frame)
            yield frame

    def _look(self, frame: Frame) -> None:
        if frame.alpha is None:  # it stays on a device
            alpha = frame.on_device.summary.thumbnail
        else:
            alpha = np.asarray(cv2.resize(frame.alpha, THUMBNAIL, interpolation=cv2.INTER_AREA))
        small = cv2.resize(frame.rgb, THUMBNAIL, interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        quality, share = self.quality, float(alpha.mean())
        quality.frames += 1
        if share < _EMPTY_SHARE:
            quality.empty.append(frame.index)
        elif share > _FULL_SHARE:
            quality.full.append(frame.index)
        last, self._last = self._last, (grey, alpha)
        if last is not None and not frame.new_shot and self._jump(last, grey, alpha) > _JUMP_SHARE:
            quality.jumps.append(frame.index)

    def _jump(
        self, last: tuple[np.ndarray, np.ndarray], grey: np.ndarray, alpha: np.ndarray
    ) -> float:
        """Mean change of alpha that neither standing still nor the flow explains."""
        still = float(np.abs(alpha - last[1]).mean())
        if still <= _JUMP_SHARE:
            return still
        where = self._grid + self._flow.calc(grey, last[0], None)
        return min(still, float(np.abs(alpha - warp(last[1], where)).mean()))


def _ranges(numbers: list[int]) -> list[list[int]]:
    """[3, 4, 5, 9] -> [[3, 5], [9, 9]]."""
    runs = [
        [number for _, number in run]
        for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    ]
    return [[run[0], run[-1]] for run in runs]


def _ranges_text(numbers: list[int]) -> str:
    """[3, 4, 5, 9] -> '3-5, 9'; a long list ends in a count."""
    found = _ranges(numbers)
    named = [f"{first}-{last}" if first != last else str(first) for first, last in found]
    more = len(named) - _NAMED_RANGES
    return ", ".join(named[:_NAMED_RANGES]) + (f" and {more} more ranges" if more > 0 else "")

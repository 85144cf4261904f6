"""Several subjects followed together, frame by frame: what a streaming run calls.

Each subject has a tracker; motion and features of a frame are found once for all of them.
Where two subjects claim a pixel, the surer one has it. Subjects that are not wanted are
followed in the same way, so that they hold what is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from vidmatte.alpha.guidance.appearance import KeyFrame
from vidmatte.alpha.guidance.coarse import CoarseFrame
from vidmatte.alpha.guidance.motion import MotionSearch
from vidmatte.alpha.guidance.tracker import FieldStep, SubjectTracker, TrackerSettings


class Guide:
    """Follows subjects from one key frame on. Memory does not grow with the frames."""

    def __init__(
        self,
        frame: CoarseFrame,
        masks: Mapping[str, np.ndarray],
        settings: TrackerSettings | None = None,
    ) -> None:
        """Begin on ``frame`` with each subject's mask (h, w) float32 0..1, by name."""
        shared = shared_fields(dict(masks))
        self._trackers = {
            name: SubjectTracker(KeyFrame(frame, mask), settings=settings)
            for name, mask in shared.items()
        }
        self._search, self._last = MotionSearch(), frame

    def feed(self, frame: CoarseFrame, *, cut: bool = False) -> dict[str, FieldStep]:
        """Each subject's step on the next frame. cut: a shot begins with it."""
        last, self._last = self._last, frame
        motion = self._search.between(frame.grey, last.grey, frame.lab, last.lab)
        steps = {
            name: tracker.step(frame, motion, cut=cut) for name, tracker in self._trackers.items()
        }
        if len(steps) == 1:
            return steps
        shared = shared_fields({name: step.field for name, step in steps.items()})
        for name, field in shared.items():
            self._trackers[name].replace_field(field)
        return {name: replace(step, field=shared[name]) for name, step in steps.items()}


def shared_fields(fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Fields (h, w) float32 0..1 that add up to 1 at most: a pixel belongs to the surer one."""
    total = sum((field**2 for field in fields.values()), np.float32(0))
    over = np.sum(list(fields.values()), axis=0) > 1
    return {
        name: np.where(over, field**2 / np.maximum(total, 1e-6), field).astype(np.float32)
        for name, field in fields.items()
    }

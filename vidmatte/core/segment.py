"""The part of a clip that a run processes, and the state that it starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

State = dict[str, np.ndarray]
#: Findings to report, by frame number; see ``Frame.findings``.
Findings = Sequence[tuple[int, dict[str, list[str]]]]


@dataclass(frozen=True)
class Segment:
    """Frame numbers of a clip, counted from its in point.

    lead: the first that is read, for shot detection only. start: the first that goes through
    the network and the filters, to bring them into the state of a run over the clip.
    first: the first that is written. stop: the first that is not written any more, None for the
    end of the clip; later frames are read and matted as far as the filter's look-ahead
    needs them. Raises ValueError unless 0 <= lead <= start <= first < stop.
    """

    lead: int = 0
    start: int = 0
    first: int = 0
    stop: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.lead <= self.start <= self.first:
            raise ValueError(f"{self}: expected 0 <= lead <= start <= first")
        if self.stop is not None and self.stop <= self.first:
            raise ValueError(f"{self}: expected stop > first")

    def writes(self, index: int) -> bool:
        """Whether frame ``index`` is one of those that are written."""
        return index >= self.first and (self.stop is None or index < self.stop)


@dataclass(frozen=True)
class StartState:
    """What a run over a segment needs besides its frame numbers.

    pts: of the segment's frame ``lead``, in the clip's time base; None where it is unknown:
    then the frames before it are decoded and dropped. shots: whether a frame begins a shot, by
    number, as far as it is known. state: that of a recurrent network before frame ``start``,
    by name; None where it begins without one.
    """

    pts: int | None = 0
    shots: Mapping[int, bool] = field(default_factory=dict)
    state: State | None = None


@dataclass(frozen=True)
class History:
    """What earlier runs recorded of a clip's frames, by their numbers.

    times: pts in the clip's time base. shots: whether a frame begins a shot. states: functions
    that read a recurrent network's state before that frame. findings: those of their frames.
    """

    times: Mapping[int, int] = field(default_factory=dict)
    shots: Mapping[int, bool] = field(default_factory=dict)
    states: Mapping[int, Callable[[], State]] = field(default_factory=dict)
    findings: Findings = ()

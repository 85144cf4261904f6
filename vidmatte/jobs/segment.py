"""Where a run must begin so that the frames it writes are those of a run over the clip."""

from __future__ import annotations

from dataclasses import dataclass

from vidmatte.alpha.temporal_filter import TemporalFilter
from vidmatte.core.segment import History, Segment, StartState, State
from vidmatte.models.base import Network

#: Frames that go through network and filters before the first that is written, besides the
#: look-back of the temporal filter.
WARM_UP = 10
#: Frames before those that only shot detection reads: it remembers flashes of a few frames.
_LEAD = 24


@dataclass(frozen=True)
class Needs:
    """Which frames around a segment the network and the temporal filter need.

    state_count, batch_stride: see ``Network``. look_back: see ``TemporalFilter``. look_ahead: of
    both together.
    """

    state_count: int
    batch_stride: int
    look_back: int
    look_ahead: int

    @classmethod
    def of(cls, network: Network, smooth: TemporalFilter) -> Needs:
        """The needs of a network and a filter."""
        look_ahead = network.look_ahead + smooth.look_ahead
        return cls(network.state_count, network.batch_stride, smooth.look_back, look_ahead)

    def read_stop(self, segment: Segment) -> int | None:
        """The first frame that need not be read; None where the clip is read to its end.

        The last batch is as large as in a run over the clip: its size may affect the alphas.
        """
        if segment.stop is None:
            return None
        stop = segment.stop + self.look_ahead
        return stop + -stop % self.batch_stride


def plan_segment(
    first: int, stop: int | None, needs: Needs, history: History
) -> tuple[Segment, StartState]:
    """The segment that writes the frames from ``first`` to before ``stop``, and the state that a
    run over it starts from.

    It begins at the start of a batch. A recurrent network continues from a state in
    ``history``, or begins with a shot that is recorded there, else with the clip. Where the first
    frame to be written begins a shot, nothing before it matters.
    """
    start = max(0, first - needs.look_back - WARM_UP)
    start -= start % needs.batch_stride
    if history.shots.get(first) and not first % needs.batch_stride:
        start = first
    state: State | None = None
    if needs.state_count and start:
        start, state = _recurrent_start(start, needs.batch_stride, history)
    lead = max(0, start - _LEAD)
    pts = history.times.get(lead) if lead else 0
    return Segment(lead, start, first, stop), StartState(pts, history.shots, state)


def _recurrent_start(latest: int, stride: int, history: History) -> tuple[int, State | None]:
    """The last frame up to ``latest`` at which the state is known, and the state; None at the
    start of a shot."""
    usable = [index for index in history.states if index <= latest and not index % stride]
    cuts = [
        index
        for index, cut in history.shots.items()
        if cut and index <= latest and not index % stride
    ]
    start = max(usable, default=0)
    if (cut := max(cuts, default=0)) >= start:
        return cut, None
    return start, history.states[start]()

"""What gives a frame its alpha: one small class over every kind of network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from vidmatte.core.frame import Frame


class Network(ABC):
    """A loaded network.

    recurrent: sees consecutive frames in order and keeps a state that a new shot
    resets; else frames are independent and run ``batch`` at a time.
    about: what runs it (runtime, precision, threads), for the user.
    states: how many networks with a state are in it; see ``Frame.state``.
    """

    recurrent: bool
    description: str = ""
    state_count: int = 0
    batch: int = 1

    @property
    def batch_stride(self) -> int:
        """Every so many frames from the first, the batches begin anew."""
        return self.batch

    @abstractmethod
    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Write each frame's alpha into what ``Frame.fill_alpha`` gives (and set its
        ``foreground`` where the network gives one).

        Frames come out in the order in which they went in.
        """

    @abstractmethod
    def cancel(self) -> None:
        """Make a run under way end soon; safe from another thread."""

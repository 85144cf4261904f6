"""Several GPUs for one network: its weights on each, every run on one that is free.

Frames of a per-frame network go wherever there is room; a recurrent one's state is not
handed about, so there a shot stays where it began.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from vidmatte.core.frame import Frame
from vidmatte.models.base import Network
from vidmatte.models.runtimes.device import Arrays, Runner
from vidmatte.models.rvm import RecurrentNetwork

#: Frames taken in ahead for each GPU: a shot that begins among them is begun on another one.
_AHEAD = 24


class SharedRunner:
    """A network loaded several times over; see ``Runner``.

    Which copy takes which pictures is left to chance: they are the same network.
    """

    def __init__(self, runners: Sequence[Runner]) -> None:
        self.streams = sum(runner.streams for runner in runners)
        self.description = "; ".join(runner.description for runner in runners)
        self._runners = tuple(runners)
        self._free: SimpleQueue[Runner] = SimpleQueue()
        for place in range(max(runner.streams for runner in runners)):
            for runner in runners:
                if place < runner.streams:
                    self._free.put(runner)

    def run(self, inputs: Arrays, keep: tuple[str, ...] = ()) -> dict[str, Any]:
        """See ``Runner``. Waits for a copy that is free."""
        runner = self._free.get()
        try:
            return runner.run(inputs, keep)
        finally:
            self._free.put(runner)

    def cancel(self) -> None:
        """See ``Runner``; all copies end."""
        for runner in self._runners:
            runner.cancel()


class ShotDistributor(Network):
    """A recurrent network loaded several times over: shots side by side, each on one of them.

    That gains where a cut lies within the ``batch`` frames that are under way at once: much
    with shots of a second, nothing within a long one.
    """

    recurrent = True
    state_count = 1
    batch_stride = 1

    def __init__(self, networks: Sequence[RecurrentNetwork]) -> None:
        self.batch = _AHEAD * len(networks)
        self.description = "; ".join(network.description for network in networks)
        self.filter_profile = networks[0].filter_profile
        self._networks = tuple(networks)

    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        free: SimpleQueue[RecurrentNetwork] = SimpleQueue()
        for network in self._networks:
            free.put(network)
        under_way: deque[_Shot] = deque()  # the shot that each frame belongs to
        shot = _Shot()
        with ThreadPoolExecutor(len(self._networks), "vidmatte-network") as threads:
            try:
                for frame in frames:
                    if frame.new_shot or not under_way:
                        shot.end()
                        shot = _Shot()
                        threads.submit(shot.run, free)
                    shot.put(frame)
                    under_way.append(shot)
                    if len(under_way) == self.batch:
                        yield under_way.popleft().result()
                shot.end()
                while under_way:
                    yield under_way.popleft().result()
            finally:
                for left in {*under_way, shot}:
                    left.abandon()

    def cancel(self) -> None:
        for network in self._networks:
            network.cancel()


class _Shot:
    """One shot's frames on their way through a network, from one thread to another and back."""

    def __init__(self) -> None:
        self._inlet: SimpleQueue[Frame | None] = SimpleQueue()
        self._outlet: SimpleQueue[Frame | BaseException] = SimpleQueue()
        self._is_abandoned = False

    def put(self, frame: Frame) -> None:
        """Hand in the next frame."""
        self._inlet.put(frame)

    def end(self) -> None:
        """Say that no frame follows."""
        self._inlet.put(None)

    def abandon(self) -> None:
        """Say that no result is wanted any more."""
        self._is_abandoned = True
        self.end()

    def result(self) -> Frame:
        """The next frame with its alpha, once it is there. Raises what the network raised."""
        result = self._outlet.get()
        if isinstance(result, BaseException):
            raise result
        return result

    def run(self, free: SimpleQueue[RecurrentNetwork]) -> None:
        """Take a network that is free through the shot."""
        network = free.get()
        try:
            for frame in network.predict(self._frames()):
                self._outlet.put(frame)
        except BaseException as error:  # noqa: BLE001 (raised again where the result is awaited)
            self._outlet.put(error)
        finally:
            free.put(network)

    def _frames(self) -> Iterator[Frame]:
        while (frame := self._inlet.get()) is not None and not self._is_abandoned:
            yield frame

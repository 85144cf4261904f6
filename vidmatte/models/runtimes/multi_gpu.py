"""Several GPUs for one network: its weights on each, every run on a free one.

Frames of a per-frame network go to any free GPU; a recurrent state is not moved between
GPUs, so each shot stays on the one where it began.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from vidmatte.core.concurrency import map_in_order
from vidmatte.core.frame import Clip, Frame
from vidmatte.models.base import Network
from vidmatte.models.runtimes.device import Arrays, Runner
from vidmatte.models.rvm import RecurrentNetwork
from vidmatte.models.segmentation import SegmentationNetwork
from vidmatte.settings import Settings

#: Frames read ahead for each GPU: a shot that begins among them starts on another one.
_AHEAD = 24


class SharedRunner:
    """Several copies of a loaded network; see ``Runner``.

    Any free copy takes the next pictures: all are the same network.
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
        """See ``Runner``. Waits for a free copy."""
        runner = self._free.get()
        try:
            return runner.run(inputs, keep)
        finally:
            self._free.put(runner)

    def cancel(self) -> None:
        """See ``Runner``; cancels all copies."""
        for runner in self._runners:
            runner.cancel()


_Copy = TypeVar("_Copy", bound=Network)


class _Distributor(Network, Generic[_Copy]):
    """Copies of a network on several devices."""

    def __init__(self, networks: Sequence[_Copy], batch: int) -> None:
        first = networks[0]
        self.batch = batch
        self.description = "; ".join(network.description for network in networks)
        self.filter_profile, self.keeps_on = first.filter_profile, first.keeps_on
        self._networks = tuple(networks)

    def begin(self, clip: Clip, settings: Settings) -> None:
        for network in self._networks:
            network.begin(clip, settings)

    def cancel(self) -> None:
        for network in self._networks:
            network.cancel()


class BatchDistributor(_Distributor[SegmentationNetwork]):
    """Several copies of a per-frame network on devices of torch; any free one takes a batch.

    A frame's pixels and alpha are then on the device of that copy.
    """

    recurrent = False
    is_shareable = True

    def __init__(self, networks: Sequence[SegmentationNetwork]) -> None:
        super().__init__(networks, sum(network.batch for network in networks))

    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        free: SimpleQueue[SegmentationNetwork] = SimpleQueue()
        turns = [network for network in self._networks for _ in range(network.streams)]
        for network in turns:
            free.put(network)

        def matted(batch: list[Frame]) -> list[Frame]:
            network = free.get()
            try:
                return network.matte_batch(batch)
            finally:
                free.put(network)

        batches = self._networks[0].batches(frames)
        for batch in map_in_order(matted, batches, len(turns)):
            yield from batch


class ShotDistributor(_Distributor[RecurrentNetwork]):
    """Several copies of a recurrent network, which process shots in parallel, one shot each.

    That is faster where a cut is within the ``batch`` frames in flight: much faster with shots
    of a second, no faster within a long shot.
    """

    recurrent = True
    state_count = 1
    batch_stride = 1

    def __init__(self, networks: Sequence[RecurrentNetwork]) -> None:
        super().__init__(networks, _AHEAD * len(networks))

    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        free: SimpleQueue[RecurrentNetwork] = SimpleQueue()
        for network in self._networks:
            free.put(network)
        in_flight: deque[_Shot] = deque()  # the shot that each frame belongs to
        shot = _Shot()
        with ThreadPoolExecutor(len(self._networks), "vidmatte-network") as threads:
            try:
                for frame in frames:
                    if frame.new_shot or not in_flight:
                        shot.end()
                        shot = _Shot()
                        threads.submit(shot.run, free)
                    shot.put(frame)
                    in_flight.append(shot)
                    if len(in_flight) == self.batch:
                        yield in_flight.popleft().result()
                shot.end()
                while in_flight:
                    yield in_flight.popleft().result()
            finally:
                for each in {*in_flight, shot}:
                    each.abandon()


class _Shot:
    """The frames of one shot in flight, passed to a network's thread and back."""

    def __init__(self) -> None:
        self._inlet: SimpleQueue[Frame | None] = SimpleQueue()
        self._outlet: SimpleQueue[Frame | BaseException] = SimpleQueue()
        self._is_abandoned = False

    def put(self, frame: Frame) -> None:
        """Pass in the next frame."""
        self._inlet.put(frame)

    def end(self) -> None:
        """Signal that no frame follows."""
        self._inlet.put(None)

    def abandon(self) -> None:
        """Signal that no result is needed any more."""
        self._is_abandoned = True
        self.end()

    def result(self) -> Frame:
        """Wait for the next frame with its alpha. Raises the network's error."""
        result = self._outlet.get()
        if isinstance(result, BaseException):
            raise result
        return result

    def run(self, free: SimpleQueue[RecurrentNetwork]) -> None:
        """Process the shot with a free network."""
        network = free.get()
        try:
            for frame in network.predict(self._frames()):
                self._outlet.put(frame)
        except BaseException as error:  # noqa: BLE001 (raised again in ``result``)
            self._outlet.put(error)
        finally:
            free.put(network)

    def _frames(self) -> Iterator[Frame]:
        while (frame := self._inlet.get()) is not None and not self._is_abandoned:
            yield frame

"""What bounds a run: the queues between stages, the ring of frame slots, and the stop flag.

A slot of the ring has one owner at a time: the ring, or the frame that holds it. There are
never more frames in flight than slots, whatever the length of the clip; when no slot is free,
reading waits. That wait is the back-pressure of the pipeline.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

import av
import numpy as np

from vidmatte.core.concurrency import usable_cores
from vidmatte.core.frame import Clip, Frame
from vidmatte.models.runtimes.device import Device
from vidmatte.pixels.formats import copy_planes, plane_arrays, set_colour
from vidmatte.pixels.network_rgb import NetworkRgb
from vidmatte.readers.base import DecodedPicture

Item = TypeVar("Item")
POLL_SECONDS = 0.1


class Cancelled(Exception):  # noqa: N818 (not an error: ends a stage when the run is over)
    """Raised inside a stage when the run was stopped."""


class StopFlag:
    """Set once, by the first failure or by the caller that ends the run early."""

    def __init__(self) -> None:
        self._is_set = False
        # Garbage collection that closes a stream may run in the middle of ``set``.
        self._lock = threading.RLock()
        self.error: BaseException | None = None

    def set(self, error: BaseException | None = None) -> None:
        """Stop the run; only the first error is stored."""
        with self._lock:
            if self.error is None:
                self.error = error
            self._is_set = True

    def is_set(self) -> bool:
        """True once the run is to end."""
        return self._is_set


class _WaitTimer:
    """How long one thread has waited; other threads may read it meanwhile."""

    def __init__(self) -> None:
        self._state: tuple[float, float | None] = (
            0.0,
            None,
        )  # one tuple, so that a reader sees both parts of the same state

    def __enter__(self) -> None:
        self._state = self._state[0], time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._state = self.seconds(), None

    def seconds(self) -> float:
        """Until now."""
        before, began = self._state
        return before if began is None else before + time.perf_counter() - began


class StageQueue(Generic[Item]):
    """A bounded queue with an end, from one stage to the next.

    Every wait checks the stop flag, so that a dead stage never hangs another.
    ``put_wait`` and ``get_wait`` are the seconds that either side has waited, including a wait
    in progress.
    """

    def __init__(self, size: int, stop: StopFlag) -> None:
        self._queue: queue.Queue[Item | None] = queue.Queue(size)
        self._stop = stop
        self._put, self._got = _WaitTimer(), _WaitTimer()

    @property
    def put_wait(self) -> float:
        """Seconds that the stage before has waited."""
        return self._put.seconds()

    @property
    def get_wait(self) -> float:
        """Seconds that the stage after has waited."""
        return self._got.seconds()

    def put(self, item: Item | None) -> None:
        """Pass an item on (None: the end). Raises Cancelled when the run was stopped."""
        with self._put:
            while not self._stop.is_set():
                try:
                    self._queue.put(item, timeout=POLL_SECONDS)
                    return
                except queue.Full:
                    continue
            raise Cancelled

    def __iter__(self) -> Iterator[Item]:
        """Items up to the end. Raises Cancelled when the run was stopped."""
        while (item := self._get()) is not None:
            yield item

    def _get(self) -> Item | None:
        with self._got:
            while not self._stop.is_set():
                try:
                    return self._queue.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    continue
            raise Cancelled


#: Frames that may wait between two stages: eight at most, and no more than two beside one per core,
#: since on few cores a longer queue takes memory without adding speed.
_DEEPEST_QUEUE, _BESIDE_CORES = 8, 2


class Slot:
    """Memory for one frame: its planes and its RGB for the network; its alpha as soon as there is
    one."""

    def __init__(self, clip: Clip, device: Device) -> None:
        self.picture = av.VideoFrame(clip.width, clip.height, clip.working_format)
        self.rgb = device.host_array((clip.height, clip.width, 3), np.uint8)
        self.alpha: np.ndarray | None = None
        set_colour(self.picture, clip.colour)

    @staticmethod
    def size_of(clip: Clip) -> int:
        """Bytes that one slot takes, with alpha."""
        sample = av.VideoFrame(clip.width, clip.height, clip.working_format)
        planes = sum(plane.nbytes for plane in plane_arrays(sample))
        return planes + clip.width * clip.height * (3 + 4)


class Ring:
    """``count`` slots for the frames of one clip."""

    def __init__(self, clip: Clip, count: int, device: Device, stop: StopFlag) -> None:
        self.count = count
        self._clip = clip
        self._stop = stop
        self._network_rgb = NetworkRgb(clip)
        # The slot returned last is reused first: it is still in the CPU's cache, and slots that
        # are never used take no memory.
        self._free = deque(Slot(clip, device) for _ in range(count))
        # Apart from the slots: frames that wait for the network have no alpha.
        size = clip.height, clip.width
        self._free_alphas = deque(device.host_array(size, np.float32) for _ in range(count))
        self._count_free: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(count):
            self._count_free.put(None)

    def fill(self, picture: DecodedPicture, index: int) -> Frame:
        """A frame that holds a copy of ``picture`` in a free slot; waits for one.

        It has no alpha yet, only memory for it. Raises Cancelled when the run is stopped.
        """
        slot = self._take()
        copy_planes(picture.pixels, slot.picture)
        self._network_rgb.view(slot.picture, slot.rgb)
        return Frame(
            index=index,
            pts=picture.pts,
            duration=picture.duration,
            time_base=self._clip.time_base,
            picture=slot.picture,
            rgb=slot.rgb,
            name=picture.name,
            source_index=picture.source_index,
            alpha_buffer=lambda: self._alpha_of(slot),
            return_slot=lambda: self._put_back(slot),
        )

    def _alpha_of(self, slot: Slot) -> np.ndarray:
        if slot.alpha is None:
            slot.alpha = self._free_alphas.pop()
        return slot.alpha

    def _put_back(self, slot: Slot) -> None:
        alpha, slot.alpha = slot.alpha, None
        if alpha is not None:
            self._free_alphas.append(alpha)
        self._free.append(slot)
        self._count_free.put(None)

    def _take(self) -> Slot:
        while not self._stop.is_set():
            try:
                self._count_free.get(timeout=POLL_SECONDS)
                return self._free.pop()
            except queue.Empty:
                continue
        raise Cancelled


def queue_depth(clip: Clip, budget: int, held: int, queues: int) -> int:
    """How many frames may wait between two stages, within a memory budget in bytes.

    The stages hold ``held`` frames whatever the budget; the rest of it is divided among the
    ``queues``, at least one frame each and at most eight, or two more than there are cores.
    """
    affordable = budget // Slot.size_of(clip) - held
    deepest = min(_DEEPEST_QUEUE, usable_cores() + _BESIDE_CORES)
    return max(1, min(deepest, affordable // queues))

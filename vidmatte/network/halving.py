"""Batches that do not fit into memory are halved, and the run goes on."""

from __future__ import annotations

from typing import Any

import numpy as np

from vidmatte.errors import DeviceError
from vidmatte.network.device import Arrays, Runner

#: What onnxruntime, CUDA and torch say where memory does not suffice; onnxruntime has no
#: class for it.
SAID = ("out of memory", "failed to allocate memory", "smaller than requested bytes", "bad_alloc")


class HalvingRunner:
    """A runner of batches, all outputs numpy arrays with the batch first.

    A batch too large for the memory is run in halves, and so are those after it.
    """

    def __init__(self, runner: Runner, device: str) -> None:
        self.streams = runner.streams
        self.about = runner.about
        self._runner = runner
        self._device = device
        self._most: int | None = None  # in one run, once some did not fit

    def run(self, inputs: Arrays, keep: tuple[str, ...] = ()) -> dict[str, Any]:
        """See ``Runner.run``. Raises DeviceError where even one picture does not fit."""
        count = len(next(iter(inputs.values())))
        size = min(count, self._most or count)
        done: list[dict[str, Any]] = []
        start = 0
        while start < count:
            part = {name: value[start : start + size] for name, value in inputs.items()}
            try:
                done.append(self._runner.run(part, keep))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    raise DeviceError(
                        f"{self._device}: the memory does not suffice for one picture: choose a"
                        " smaller model or another --device"
                    ) from error
                self._most = size = size // 2
                continue
            start += size
        if len(done) == 1:
            return done[0]
        return {name: np.concatenate([part[name] for part in done]) for name in done[0]}

    def cancel(self) -> None:
        """See ``Runner.cancel``."""
        self._runner.cancel()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a run failed for lack of memory, the device's or the machine's."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in SAID)

"""Runners that split a batch which does not fit into memory, and report running out of memory
in one line."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np

from vidmatte.core.memory import device_oom_error, is_out_of_memory
from vidmatte.models.runtimes.device import Arrays, Runner


class MemoryGuard:
    """A runner that reports running out of memory as a DeviceError with the next step.

    device: its name, 'cpu' or 'cuda:N'.
    """

    def __init__(self, runner: Runner, device: str) -> None:
        self.streams = runner.streams
        self.description = runner.description
        self._runner = runner
        self._device = device

    def run(self, inputs: Arrays, keep: tuple[str, ...] = ()) -> dict[str, Any]:
        """See ``Runner.run``. Raises DeviceError where not even one picture fits."""
        try:
            return self._run(inputs, keep)
        except Exception as error:
            if is_out_of_memory(error):
                raise device_oom_error(self._device, "one picture") from error
            raise

    def cancel(self) -> None:
        """See ``Runner.cancel``."""
        self._runner.cancel()

    def _run(self, inputs: Arrays, keep: tuple[str, ...]) -> dict[str, Any]:
        return self._runner.run(inputs, keep)


class BatchSplittingRunner(MemoryGuard):
    """A runner of batches; all outputs have the batch first.

    A batch too large for the memory is run in halves, and so are those after it. One that
    fails otherwise is run one picture at a time, as many networks are exported for a single
    one (a Reshape to fixed sizes); if that works, so are those after it, and ``report`` gets
    one line.
    """

    def __init__(
        self, runner: Runner, device: str, report: Callable[[str], None] = lambda _: None
    ) -> None:
        super().__init__(runner, device)
        self._report = report
        self._report_lock = Lock()
        self._is_reported = False
        self._most: int | None = None  # pictures per run, once a batch did not fit
        self._cancels = 0

    def cancel(self) -> None:
        """See ``Runner.cancel``."""
        self._cancels += 1
        super().cancel()

    def _run(self, inputs: Arrays, keep: tuple[str, ...]) -> dict[str, Any]:
        count = len(next(iter(inputs.values())))
        size = min(count, self._most or count)
        done: list[dict[str, Any]] = []
        start = failed = 0
        cancels = self._cancels
        while start < count:
            part = {name: value[start : start + size] for name, value in inputs.items()}
            try:
                done.append(self._runner.run(part, keep))
            except Exception as error:
                if size == 1 or cancels != self._cancels:
                    raise
                if is_out_of_memory(error):
                    self._most = size = size // 2
                else:
                    failed, size = size, 1
                continue
            start += size
            if failed:
                self._take_one_by_one(failed)
        if len(done) == 1:
            return done[0]
        return {name: _joined([part[name] for part in done]) for name in done[0]}

    def _take_one_by_one(self, failed: int) -> None:
        """Run one picture at a time from now on. failed: the size of the batch that failed."""
        self._most = 1
        with self._report_lock:
            is_reported, self._is_reported = self._is_reported, True
        if not is_reported:
            self._report(
                f"the network does not take {failed} pictures at once, only one: running them one"
                " by one, as with --batch 1"
            )


def _joined(parts: list[Any]) -> Any:
    """One array of several, or one tensor of several on a device."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    import torch

    return torch.cat(parts)

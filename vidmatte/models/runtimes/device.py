"""Where a network runs, and its memory.

On the CPU, onnxruntime takes and gives numpy arrays. On a CUDA device, inputs and outputs are
torch tensors on the device (``torch_device``), and frames in flight are in pinned host memory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from threading import Lock
from typing import Any, Protocol

import numpy as np

Arrays = Mapping[str, Any]


class Runner(Protocol):
    """A loaded network: named inputs in, named outputs out.

    Unknown inputs are ignored.
    streams: how many threads may call ``run`` at once. description: runtime, precision and
    threads, for the user.
    """

    streams: int
    description: str

    def run(self, inputs: Arrays, keep: tuple[str, ...] = ()) -> dict[str, Any]:
        """All outputs by name: numpy arrays, except those in ``keep``.

        keep: names of the outputs that are only fed back; they may stay on the device.
        """

    def cancel(self) -> None:
        """Make a run in progress end soon, with an error; safe from another thread."""


class Device:
    """Where the network runs. This class: the CPU; see ``torch_device``."""

    name = "cpu"
    default_batch = 1  # all cores work on one frame; a larger batch only takes memory
    parts: tuple[Device, ...] = ()  # where there are several

    def providers(self) -> list[Any]:
        """onnxruntime's execution providers, first choice first."""
        return ["CPUExecutionProvider"]

    def host_array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Host memory for one slot of the ring."""
        return np.empty(shape, dtype)

    def runner(self, session: Any) -> Runner:
        """A runner of a session on this device."""
        return CpuRunner(session)


class CpuRunner:
    """A session fed with numpy arrays.

    One stream where the session's threads share a frame: with isnet, a second concurrent frame
    would take a gigabyte and gain nothing.
    """

    def __init__(self, session: Any, streams: int = 1) -> None:
        self.streams = streams
        self._session = session
        threads = session.get_session_options().intra_op_num_threads
        self.description = f"onnxruntime, float32, threads: {threads}"
        self._inputs = {item.name for item in session.get_inputs()}
        self._outputs = [output.name for output in session.get_outputs()]
        self._new_options = onnxruntime().RunOptions
        self._active: set[Any] = set()

    def run(self, inputs: Arrays, keep: tuple[str, ...] = ()) -> dict[str, Any]:  # noqa: ARG002
        options = self._new_options()  # a cancelled run's options would also cancel this one
        self._active.add(options)
        try:
            fed = {name: value for name, value in inputs.items() if name in self._inputs}
            values = self._session.run(self._outputs, fed, options)
        finally:
            self._active.discard(options)
        return dict(zip(self._outputs, values, strict=True))

    def cancel(self) -> None:
        for options in tuple(self._active):
            options.terminate = True


def on_host(value: Any) -> np.ndarray:
    """An output of ``keep`` as a numpy array, copied from its device if necessary."""
    return np.asarray(value if isinstance(value, np.ndarray) else value.cpu())


FATAL_ONLY = 4
_SILENCE = "ORT_DISABLE_TELEMETRY"
_importing = Lock()


def onnxruntime() -> Any:
    """The module; always imported through this function.

    By default it writes an identifier of this device into the user's cache folder, sends
    telemetry, and prints its warnings on stderr; all of that is disabled here.
    """
    with _importing:
        # It reads the variable at import only: the environment is restored afterwards.
        is_ours = _SILENCE not in os.environ
        os.environ.setdefault(_SILENCE, "1")
        try:
            import onnxruntime as module
        finally:
            if is_ours:
                del os.environ[_SILENCE]
    module.set_default_logger_severity(FATAL_ONLY)
    return module

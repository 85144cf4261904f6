"""Where a network runs, and its memory.

On the CPU, onnxruntime takes and gives numpy arrays. On a CUDA device, inputs and outputs are
torch tensors on the device (``torch_device``), and frames in flight are in pinned host memory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Protocol

import numpy as np

from vidmatte.errors import DeviceError
from vidmatte.settings.values import parse_device, parsed

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
    """Where the network runs. This class: the CPU; see ``TorchDevice`` and ``_SeveralDevices``."""

    name = "cpu"
    default_batch = 1  # all cores work on one frame; a larger batch only takes memory
    parts: tuple[Device, ...] = ()  # the devices of a SeveralDevices

    def providers(self) -> list[Any]:
        """onnxruntime's execution providers, first choice first."""
        return ["CPUExecutionProvider"]

    def host_array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Host memory for one slot of the ring."""
        return np.empty(shape, dtype)

    def runner(self, session: Any) -> Runner:
        """A runner of a session on this device."""
        return CpuRunner(session)


class _SeveralDevices(Device):
    """Several devices that share a clip's frames, in host memory that all can use."""

    def __init__(self, parts: Sequence[Device]) -> None:
        self.name = ",".join(part.name for part in parts)
        self.parts = tuple(parts)
        self.default_batch = parts[0].default_batch

    def host_array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return self.parts[0].host_array(shape, dtype)


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


def choose_device(requested: str) -> tuple[Device, str | None]:
    """The device for ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or several as ``cuda:0,cuda:1``,
    and a note for the user.

    ``auto`` takes a working GPU; where a GPU exists but cannot be used, the note says in one
    line what is missing. Raises UsageError for other text, DeviceError where a GPU is
    requested by name and cannot be used.
    """
    named = parsed("--device", requested, parse_device)
    if named == ():
        return Device(), None
    numbers = (0,) if named is None else named
    for number in numbers:
        missing = _missing_for_cuda(number)
        if missing is not None and requested == "auto":
            return Device(), f"running on the CPU: {missing}" if _has_nvidia_gpu() else None
        if missing is not None:
            raise DeviceError(f"--device {requested}: {missing}; use --device cpu")
    from vidmatte.models.runtimes.torch_device import TorchDevice

    devices = [TorchDevice(f"cuda:{number}") for number in numbers]
    return (devices[0] if len(devices) == 1 else _SeveralDevices(devices)), None


def _has_nvidia_gpu() -> bool:
    """True where the NVIDIA driver shows a GPU."""
    from pathlib import Path

    return any(Path("/proc/driver/nvidia/gpus").glob("*")) or Path("/dev/nvidia0").exists()


def _missing_for_cuda(number: int) -> str | None:
    """One line on why CUDA cannot be used, or None where it can."""
    if "CUDAExecutionProvider" not in onnxruntime().get_available_providers():
        return "this onnxruntime is built without CUDA (pip install onnxruntime-gpu instead)"
    try:
        import torch
    except ImportError:
        return "torch is not installed (pip install torch)"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device (a CPU build of torch, or no driver)"
    if number >= torch.cuda.device_count():
        return f"there is no CUDA device {number}, only {torch.cuda.device_count()}"
    return None


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

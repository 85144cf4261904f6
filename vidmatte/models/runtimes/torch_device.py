"""The one file in which CUDA differs from the CPU: torch's tensors, streams and copies.

All work on a device is queued on torch's current stream; only the copies have streams of their
own, so that a frame comes and goes while others are worked on. The same code runs over torch's
CPU device, where a copy is a copy too, which is how it is tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from vidmatte.errors import DeviceError
from vidmatte.models.runtimes.device import Arrays, Device, Runner, onnxruntime
from vidmatte.settings.values import parse_device, parsed

Tensor = Any  # torch's types are not checked: torch is optional


@dataclass
class DeviceFrame:
    """A frame's pixels on a device; where ``Frame.on_device`` is one, its alpha stays there.

    rgb: (3, H, W) uint8. alpha: (H, W) float32 in 0..1. Both None before the network.
    """

    device: TorchDevice
    rgb: Tensor = None
    alpha: Tensor = None


@dataclass
class Copies:
    """Bytes copied to the device and from it, and how many times."""

    up: int = 0
    down: int = 0
    uploads: int = 0
    downloads: int = 0


class TorchDevice(Device):
    """A device of torch: ``cuda:N``, one GPU by its number, or ``cpu``."""

    default_batch = 8

    def __init__(self, place: str) -> None:
        self.place = place
        self.is_cuda = place.startswith("cuda")
        self.name = place if self.is_cuda else f"torch {place}"
        self.copies = Copies()
        self._lock = Lock()
        self._streams: dict[str, Any] = {}

    def providers(self) -> list[Any]:
        if not self.is_cuda:
            return ["CPUExecutionProvider"]
        number = int(self.place.partition(":")[2] or 0)
        return [("CUDAExecutionProvider", {"device_id": number}), "CPUExecutionProvider"]

    def host_array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        import torch

        kind = {np.dtype(np.uint8): torch.uint8, np.dtype(np.float32): torch.float32}
        memory: np.ndarray = torch.empty(
            shape, dtype=kind[np.dtype(dtype)], pin_memory=self.is_cuda
        ).numpy()
        return memory

    def runner(self, session: Any) -> Runner:
        return _BoundRunner(session, self)

    def upload(self, array: np.ndarray) -> Tensor:
        """A copy of the array on the device; later work there waits for it.

        The array may change once work that uses the copy is over, or at once where its memory is
        not pinned.
        """
        import torch

        given = torch.from_numpy(np.ascontiguousarray(array))
        with self._lock:
            self.copies.up += array.nbytes
            self.copies.uploads += 1
        if not self.is_cuda:
            return given.clone()
        now, own = torch.cuda.current_stream(self.place), self._stream("up")
        with torch.cuda.stream(own):
            copy = given.to(self.place, non_blocking=True)
        now.wait_stream(own)
        copy.record_stream(now)
        return copy

    def download(self, tensor: Tensor, into: np.ndarray | None = None) -> np.ndarray:
        """A copy of the tensor in host memory, written to ``into`` if given; waits for it."""
        import torch

        if into is None:
            given = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=self.is_cuda)
        else:
            given = torch.from_numpy(into)
        with self._lock:
            self.copies.down += given.nbytes
            self.copies.downloads += 1
        if not self.is_cuda:
            given.copy_(tensor)
            return np.asarray(given.numpy())
        own = self._stream("down")
        own.wait_stream(torch.cuda.current_stream(self.place))
        with torch.cuda.stream(own):
            given.copy_(tensor, non_blocking=True)
            tensor.record_stream(own)
            done = own.record_event()
        done.synchronize()
        return np.asarray(given.numpy())

    def wait(self) -> None:
        """Wait until the work queued so far is done."""
        import torch

        if self.is_cuda:
            torch.cuda.current_stream(self.place).record_event().synchronize()

    def _stream(self, name: str) -> Any:
        """The stream of copies one way."""
        import torch

        with self._lock:
            if name not in self._streams:
                self._streams[name] = torch.cuda.Stream(self.place)
            return self._streams[name]


class _SeveralDevices(Device):
    """Several devices that share a clip's frames, in host memory that all can use."""

    def __init__(self, parts: Sequence[Device]) -> None:
        self.name = ",".join(part.name for part in parts)
        self.parts = tuple(parts)
        self.default_batch = parts[0].default_batch

    def host_array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return self.parts[0].host_array(shape, dtype)


#: onnxruntime's names of what networks give, as torch has them.
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
_IN_FLIGHT = 2  # runs at once: while one is on the device, the next one's pictures are prepared


class _BoundRunner:
    """A session whose inputs and outputs are torch tensors on a device, bound by address.

    The runtime has a stream of its own: each run waits for the inputs, and the next work on the
    device for the run. Nothing that the runtime allocates is handed out, as it would be reused
    while torch still reads it.
    """

    def __init__(self, session: Any, device: TorchDevice) -> None:
        self.streams = _IN_FLIGHT
        self.description = f"onnxruntime on {device.name}"
        self._session, self._device = session, device
        self._inputs = {item.name for item in session.get_inputs()}
        self._outputs = {item.name: item.type for item in session.get_outputs()}
        self._new_options = onnxruntime().RunOptions
        self._active: set[Any] = set()
        self._shapes: dict[Any, dict[str, tuple[int, ...]]] = {}  # of the outputs, by the inputs

    def run(self, inputs: Arrays, keep: tuple[str, ...] = ()) -> dict[str, Any]:
        """See ``Runner.run``; inputs are numpy arrays or tensors on the device."""
        options = self._new_options()  # a cancelled run's options would also cancel this one
        self._active.add(options)
        try:
            found = self._run(
                {name: inputs[name] for name in self._inputs & inputs.keys()}, options
            )
        finally:
            self._active.discard(options)
        return {
            name: value if name in keep else self._device.download(value)
            for name, value in found.items()
        }

    def cancel(self) -> None:
        """See ``Runner.cancel``."""
        for options in tuple(self._active):
            options.terminate = True

    def _run(self, inputs: dict[str, Any], options: Any) -> dict[str, Tensor]:
        """All outputs, as tensors on the device."""
        key = _key_of(inputs)
        tensors = {
            name: (
                self._device.upload(value) if isinstance(value, np.ndarray) else value
            ).contiguous()
            for name, value in inputs.items()
        }
        binding, place = self._session.io_binding(), self._device.place.partition(":")
        kind, number = place[0], int(place[2] or 0)
        for name, tensor in tensors.items():
            shape = tuple(tensor.shape)
            binding.bind_input(name, kind, number, np.float32, shape, tensor.data_ptr())
        shapes = self._shapes.get(key)
        found = {} if shapes is None else self._allocated(shapes)
        for name, tensor in found.items():
            dtype = np.dtype(_DTYPES[self._outputs[name]])
            shape = tuple(tensor.shape)
            binding.bind_output(name, kind, number, dtype, shape, tensor.data_ptr())
        if not found:
            for name in self._outputs:
                binding.bind_output(name, kind, number)
        self._device.wait()
        self._session.run_with_iobinding(binding, options)
        if found:
            return found
        return self._copied(key, binding.get_outputs())

    def _allocated(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Memory for the outputs of the types that torch has."""
        import torch

        return {
            name: torch.empty(
                shape, dtype=getattr(torch, _DTYPES[self._outputs[name]]), device=self._device.place
            )
            for name, shape in shapes.items()
        }

    def _copied(self, key: Any, values: list[Any]) -> dict[str, Tensor]:
        """Copies of the runtime's own outputs, whose shapes are kept for the next run."""
        import torch

        found = {
            name: torch.from_dlpack(value).clone()
            for name, value in zip(self._outputs, values, strict=True)
        }
        self._device.wait()
        if all(kind in _DTYPES for kind in self._outputs.values()):
            self._shapes[key] = {name: tuple(tensor.shape) for name, tensor in found.items()}
        return found


def _key_of(inputs: dict[str, Any]) -> Any:
    """What the shapes of a network's outputs depend on: the inputs' shapes, and the values of
    single numbers, such as a scale."""
    return tuple(
        (name, tuple(value.shape), float(value.reshape(-1)[0]) if _is_number(value) else None)
        for name, value in sorted(inputs.items())
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.size == 1


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
    devices = [TorchDevice(f"cuda:{number}") for number in numbers]
    return (devices[0] if len(devices) == 1 else _SeveralDevices(devices)), None


def _has_nvidia_gpu() -> bool:
    """True where the NVIDIA driver shows a GPU."""
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

"""The one file in which CUDA differs from the CPU: torch's tensors, streams and copies.

All work on a device is queued on torch's current stream; only the copies have streams of their
own, so that a frame comes and goes while others are worked on. The same code runs over torch's
CPU device, where a copy is a copy too, which is how it is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from threading import Lock, Semaphore
from typing import Any

import numpy as np

from vidmatte.errors import DeviceError
from vidmatte.models.runtimes.bound_runner import BoundRunner
from vidmatte.models.runtimes.device import Device, Runner, onnxruntime
from vidmatte.settings.values import parse_device, parsed

Tensor = Any  # torch's types are not checked: torch is optional


@dataclass(frozen=True)
class AlphaSummary:
    """What writers and reports look at of an alpha (H, W) that stays on a device.

    thumbnail: reduced, float32. rows, columns: the highest alpha in each. soft_rows, soft_columns:
    where there is a soft pixel, bool.
    """

    thumbnail: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    soft_rows: np.ndarray
    soft_columns: np.ndarray

    def visible_box(self, full_scale: int) -> tuple[int, int, int, int]:
        """x, y, width and height of what is not 0 in codes up to ``full_scale``."""
        return _box_of(*(np.rint(part * full_scale) > 0 for part in (self.rows, self.columns)))

    @property
    def soft_box(self) -> tuple[int, int, int, int]:
        """The same of the soft pixels."""
        return _box_of(self.soft_rows, self.soft_columns)


def _box_of(rows: np.ndarray, columns: np.ndarray) -> tuple[int, int, int, int]:
    """x, y, width and height of the box from the first to the last True."""
    y, x = np.flatnonzero(rows), np.flatnonzero(columns)
    if not (len(x) and len(y)):
        return 0, 0, 0, 0
    return int(x[0]), int(y[0]), int(x[-1] - x[0] + 1), int(y[-1] - y[0] + 1)


@dataclass
class DeviceFrame:
    """A frame's pixels on a device; where ``Frame.on_device`` is one, its alpha stays there.

    rgb: (3, H, W) uint8. alpha: (H, W) float32 in 0..1. foreground: the network's colours,
    (3, H, W) uint8. All None before the network. summary: of the finished alpha. checks: what is
    to be called before the alpha leaves the device; they raise ModelError.
    """

    device: TorchDevice
    rgb: Tensor = None
    alpha: Tensor = None
    foreground: Tensor = None
    summary: AlphaSummary | None = None
    checks: list[Callable[[], None]] = field(default_factory=list)

    def lift(self, alpha: np.ndarray | None, foreground: np.ndarray | None = None) -> None:
        """Copy an alpha in host memory, (H, W) float32, to the device if none is there yet, and a
        foreground, (H, W, 3) uint8. Raises ValueError where there is no alpha at all."""
        if self.alpha is None:
            if alpha is None:
                raise ValueError("the frame has no alpha yet: the network comes before the filter")
            self.alpha = self.device.upload(alpha)
        if self.foreground is None and foreground is not None:
            self.foreground = self.device.upload(foreground).permute(2, 0, 1)

    def lower(self, into: np.ndarray) -> None:
        """Copy the alpha to host memory, (H, W) float32. Raises ModelError."""
        self.check()
        self.device.download(self.alpha, into)

    def check(self) -> None:
        """Call the ``checks``. Raises ModelError."""
        for check in self.checks:
            check()
        self.checks.clear()

    def foreground_on_host(self) -> np.ndarray | None:
        """A copy of the foreground in host memory, (H, W, 3) uint8; None where there is none."""
        if self.foreground is None:
            return None
        return self.device.download(self.foreground.permute(1, 2, 0).contiguous())

    def moved_to(self, device: TorchDevice) -> DeviceFrame:
        """The same pixels on another device, or itself where they are there."""
        if self.device is device:
            return self
        # torch makes the streams of both devices wait for a copy between them.
        rgb, alpha, foreground = (
            part if part is None else part.to(device.place, non_blocking=True)
            for part in (self.rgb, self.alpha, self.foreground)
        )
        return DeviceFrame(device, rgb, alpha, foreground, checks=self.checks)


@dataclass
class Copies:
    """Bytes copied to the device and from it, and how many times."""

    up: int = 0
    down: int = 0
    uploads: int = 0
    downloads: int = 0


_DRAWN_AT_ONCE = 3  # cut-outs: one is drawn, one comes, one goes


class TorchDevice(Device):
    """A device of torch: ``cuda:N``, one GPU by its number, or ``cpu``."""

    default_batch = 8
    computes_half = True  # networks may run in half precision there

    def __init__(self, place: str) -> None:
        self.place = place
        self.is_cuda = place.startswith("cuda")
        self.name = place if self.is_cuda else f"torch {place}"
        self.copies = Copies()
        #: Held while a cut-out is drawn, by a few threads at once.
        self.drawing = Semaphore(_DRAWN_AT_ONCE)
        self._lock = Lock()
        self._streams: dict[str, Any] = {}

    def providers(self) -> list[Any]:
        if not self.is_cuda:
            return ["CPUExecutionProvider"]
        number = int(self.place.partition(":")[2] or 0)
        # The default tries every algorithm for each new shape: the last batch's size, either
        # precision.
        how = {"device_id": number, "cudnn_conv_algo_search": "HEURISTIC"}
        return [("CUDAExecutionProvider", how), "CPUExecutionProvider"]

    def host_array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        import torch

        kind = {np.dtype(np.uint8): torch.uint8, np.dtype(np.float32): torch.float32}
        memory: np.ndarray = torch.empty(
            shape, dtype=kind[np.dtype(dtype)], pin_memory=self.is_cuda
        ).numpy()
        return memory

    def runner(self, session: Any) -> Runner:
        return BoundRunner(session, self)

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
        return self.start_download(tensor, into)()

    def start_download(
        self, tensor: Tensor, into: np.ndarray | None = None
    ) -> Callable[[], np.ndarray]:
        """The same without waiting: what it returns waits for the copy and gives it."""
        import torch

        if into is None:
            given = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=self.is_cuda)
        else:
            given = torch.from_numpy(into)
        with self._lock:
            self.copies.down += given.nbytes
            self.copies.downloads += 1
        found = np.asarray(given.numpy())
        if not self.is_cuda:
            given.copy_(tensor)
            return lambda: found
        own = self._stream("down")
        own.wait_stream(torch.cuda.current_stream(self.place))
        with torch.cuda.stream(own):
            given.copy_(tensor, non_blocking=True)
            tensor.record_stream(own)
            done = own.record_event(self._event())

        def wait() -> np.ndarray:
            done.synchronize()
            return found

        return wait

    def wait(self) -> None:
        """Wait until the work queued so far is done."""
        import torch

        if self.is_cuda:
            torch.cuda.current_stream(self.place).record_event(self._event()).synchronize()

    @staticmethod
    def _event() -> Any:
        """An event that a thread can wait for without taking a core, which the others need."""
        import torch

        return torch.cuda.Event(blocking=True)

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


def _is_built_for_cuda() -> bool:
    """Whether onnxruntime has CUDA. It is imported only where it has the library for it: on the
    CPU another runtime may be chosen, and it takes 16 MB."""
    found = find_spec("onnxruntime")
    if found is None or found.origin is None:
        return False
    if not any((Path(found.origin).parent / "capi").glob("*onnxruntime_providers_cuda*")):
        return False
    return "CUDAExecutionProvider" in onnxruntime().get_available_providers()


def _missing_for_cuda(number: int) -> str | None:
    """One line on why CUDA cannot be used, or None where it can."""
    if not _is_built_for_cuda():
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

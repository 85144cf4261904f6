"""Networks bound to torch tensors on a device, without a copy in host memory between the two."""

from __future__ import annotations

from typing import Any

import numpy as np

from vidmatte.models.runtimes.device import Arrays, onnxruntime

Tensor = Any  # torch's types are not checked: torch is optional

#: onnxruntime's names of what networks give, as torch has them.
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
_IN_FLIGHT = 2  # runs at once: while one is on the device, the next one's pictures are prepared


class BoundRunner:
    """A session whose inputs and outputs are torch tensors on a device, bound by address.

    The runtime has a stream of its own: each run waits for the inputs, and the next work on the
    device for the run. Nothing that the runtime allocates is handed out, as it would be reused
    while torch still reads it. device: a ``TorchDevice``.
    """

    def __init__(self, session: Any, device: Any) -> None:
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
            name: self._device.upload(value)
            if isinstance(value, np.ndarray)
            else value.contiguous()
            for name, value in inputs.items()
            if not _is_number(value)
        }
        shapes = self._shapes.get(key)
        found = {} if shapes is None else self._allocated(shapes)
        # Before anything is bound: where the network wants an input elsewhere, binding copies it.
        self._device.wait()
        binding, place = self._session.io_binding(), self._device.place.partition(":")
        kind, number = place[0], int(place[2] or 0)
        for name, tensor in tensors.items():
            shape = tuple(tensor.shape)
            binding.bind_input(name, kind, number, np.float32, shape, tensor.data_ptr())
        for name in inputs.keys() - tensors.keys():  # scales are read in host memory
            binding.bind_cpu_input(name, np.ascontiguousarray(inputs[name]))
        for name, tensor in found.items():
            dtype = np.dtype(_DTYPES[self._outputs[name]])
            shape = tuple(tensor.shape)
            binding.bind_output(name, kind, number, dtype, shape, tensor.data_ptr())
        if not found:
            for name in self._outputs:
                binding.bind_output(name, kind, number)
        self._session.run_with_iobinding(binding, options)
        return found or self._copied(key, binding.get_outputs())

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

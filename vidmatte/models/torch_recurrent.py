"""Recurrent networks on a torch device: their states, alpha and foreground stay there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from vidmatte.core.families import Family
from vidmatte.core.frame import Clip, Frame
from vidmatte.models.runtimes.device import Arrays, Runner
from vidmatte.models.runtimes.onnx_file import recurrence_of
from vidmatte.models.runtimes.torch_device import DeviceFrame, TorchDevice
from vidmatte.models.rvm import RecurrentNetwork
from vidmatte.models.torch_networks import Precision, factors, leave_alpha, uploaded
from vidmatte.pixels.torch_ops import Tensor
from vidmatte.settings import Settings


class _RecurrentRunner:
    """A recurrent network's runner in the precision of the clip; see ``Runner``.

    While both are compared each has a state of its own. Outputs are float32 in either, so a state
    goes from one to the other.
    """

    def __init__(self, full: Runner, precision: Precision, family: Family) -> None:
        self.streams, self.description = full.streams, full.description
        self._full, self._precision = full, precision
        self._names, self._logits = recurrence_of(family), family.logits
        self._last: dict[bool, dict[str, Any]] = {}  # outputs, by whether in half precision

    def run(self, inputs: Arrays, keep: tuple[str, ...] = ()) -> dict[str, Any]:
        """See ``Runner.run``."""
        found: dict[bool, dict[str, Any]] = {}

        def alphas(half: Runner | None) -> Tensor:
            given = inputs if half is None else self._continued(inputs)
            outputs = (half or self._full).run(given, keep)
            found[half is not None] = outputs
            alpha = outputs[self._names.alpha][0].float()
            return torch.sigmoid(alpha) if self._logits else alpha

        self._precision.choose(alphas, 1)
        self._last = found if len(found) > 1 else {}
        return found[min(found)]

    def cancel(self) -> None:
        """See ``Runner.cancel``; cancels it in either precision."""
        self._full.cancel()
        self._precision.cancel()

    def _continued(self, inputs: Arrays) -> Arrays:
        """The inputs, with the state of the last run in half precision where they have that of the
        same run in float32."""
        full, half = self._last.get(False, {}), self._last.get(True, {})
        states = self._names.states
        if not all(inputs[one.input] is full.get(one.output) for one in states):
            return inputs
        return {**inputs, **{one.input: half[one.output] for one in states}}


class DeviceRecurrent(RecurrentNetwork):
    """See ``RecurrentNetwork``; its states, alpha and foreground are made on the device.

    half, report: see ``DeviceSegmentation``.
    """

    def __init__(
        self,
        runner: Runner,
        family: Family,
        downsample: float,
        *,
        device: TorchDevice,
        half: Runner | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._precision = Precision(half, report)
        super().__init__(_RecurrentRunner(runner, self._precision, family), family, downsample)
        self.keeps_on = self._device = device
        self._kept = (*self._names.state_outputs, *self._names.results)
        self._scale, self._offset = factors(self._normalize, device)

    def begin(self, clip: Clip, settings: Settings) -> None:  # noqa: ARG002
        """See ``Network.begin``: the precision is chosen for each clip."""
        self._precision.begin()

    def _picture(self, frame: Frame) -> Tensor:
        pixels = uploaded(frame, self._device)
        return (pixels.rgb.float().mul_(self._scale).sub_(self._offset))[None]

    def _store(self, frame: Frame, outputs: dict[str, Any]) -> Frame:
        alpha = outputs[self._names.alpha][0, 0].float()
        alpha = torch.sigmoid(alpha) if self._logits else alpha
        pixels = frame.on_device or DeviceFrame(self._device)
        if self._names.foreground is not None:
            codes = outputs[self._names.foreground][0].float() * 255
            pixels.foreground = codes.round_().clamp_(0, 255).to(torch.uint8)
            if frame.on_device is None:
                frame.foreground = pixels.foreground_on_host()
        leave_alpha(frame, pixels, alpha.clamp(0, 1))
        return frame

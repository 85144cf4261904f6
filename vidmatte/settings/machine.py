"""The options of the machine that a run is on."""

from __future__ import annotations

from functools import partial
from typing import Literal

from vidmatte.settings.option import NO_EFFECT, OptionModel, option
from vidmatte.settings.values import DeviceName, Memory, Text, WholeNumber, parse_bytes

_machine = partial(option, group="Machine")


class MachineOptions(OptionModel):
    """Device, runtime, threads and memory of a run."""

    device: DeviceName = _machine(
        "auto", "cpu, cuda or cuda:0,cuda:1", metavar="DEVICE", decides=NO_EFFECT
    )
    runtime: Literal["auto", "onnxruntime", "openvino"] = _machine(
        "auto",
        "runtime of the network on the CPU; 'auto' is openvino where CPU and model allow bfloat16,"
        " else the faster one, measured on first use",
    )
    batch: WholeNumber = _machine(
        0,
        "frames per run of a per-frame network (0: automatic)",
        low=0,
        high=64,
        decides=NO_EFFECT,
    )
    threads: WholeNumber = _machine(
        0,
        "CPU threads of the network (0: automatic)",
        low=0,
        high=256,
        decides=NO_EFFECT,
    )
    memory: Memory = _machine(
        "256M",
        "memory budget for frames in flight",
        metavar="SIZE",
        decides=NO_EFFECT,
    )
    models_dir: Text | None = _machine(
        None,
        "where weights are stored (default: the platform's cache folder)",
        metavar="DIR",
        decides=NO_EFFECT,
    )

    @property
    def memory_bytes(self) -> int:
        """The frame memory budget in bytes."""
        return parse_bytes(self.memory)

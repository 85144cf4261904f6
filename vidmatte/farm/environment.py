"""What a machine is, as far as the bytes of a result depend on it."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence

import av
import cv2
import numpy as np

from vidmatte._version import __version__
from vidmatte.core.concurrency import cpu_facts
from vidmatte.errors import UsageError
from vidmatte.farm.plan import Environment, Plan
from vidmatte.models.registry import Model
from vidmatte.models.runtimes.choice import version_of

#: Flags of a CPU by which libraries choose between kernels that may round differently.
_RELEVANT = re.compile(r"(avx|amx|sve)\w*|fma|f16c|sse4_[12]|asimd\w*|bf16|i8mm")


def environment_of(model: Model) -> Environment:
    """The environment of this process, for a model. Raises DeviceError."""
    runtimes = model.runtimes
    libraries = {"opencv": cv2.__version__, "numpy": np.__version__, "av": av.__version__}
    libraries |= {name: _joined(av.library_versions[name]) for name in ("libavcodec", "libswscale")}
    package = "openvino" if any("OpenVINO" in one for one in runtimes) else "onnxruntime"
    if installed := version_of(package, f"{package}-gpu"):
        libraries[package] = installed
    return Environment(
        version=__version__,
        device=_device_of(model),
        runtimes=tuple(runtimes),
        instruction_set=_instruction_set(),
        libraries=libraries,
    )


def check_environment(found: Environment, plan: Plan, *, mixed: bool) -> list[str]:
    """How this machine differs from the plan's, a clause each. Raises UsageError where it does,
    unless ``mixed``."""
    clauses = found.differences(plan.environment)
    if clauses and not mixed:
        raise UsageError(
            f"this machine ({platform.node()}) differs from the plan's: {'; '.join(clauses)}: the"
            " frames may differ in a few codes; 'vidmatte segment --mixed' allows it"
        )
    return clauses


def check_weights(model: Model, plan: Plan) -> None:
    """Raise UsageError where the weights are not the plan's."""
    for part, planned in zip(model.weights, plan.weights, strict=True):
        if (part.family, part.sha256) != (planned.family, planned.sha256):
            raise UsageError(
                f"{planned.name}: other weights here ({part.path}, SHA-256 {part.sha256[:12]}...)"
                f" than in the plan ({planned.sha256[:12]}...): use the plan's"
            )


def _instruction_set() -> tuple[str, ...]:
    """The machine's architecture and those flags of its CPU that results may depend on, sorted."""
    if facts := cpu_facts():
        found = set((facts.get("flags") or facts.get("Features", "")).split())
    else:  # no Linux
        found = {word.strip("*").lower() for word in cv2.getCPUFeaturesLine().split()
                 if not word.endswith("?")}  # fmt: skip
    return (platform.machine(), *sorted(flag for flag in found if _RELEVANT.fullmatch(flag)))


def _device_of(model: Model) -> str:
    """'cpu', or the GPU's product name: its number differs from machine to machine."""
    if not model.device.name.startswith("cuda"):
        return model.device.name
    import torch

    return ", ".join(
        torch.cuda.get_device_name(part.name) for part in model.device.parts or (model.device,)
    )


def _joined(numbers: Sequence[int]) -> str:
    return ".".join(map(str, numbers))

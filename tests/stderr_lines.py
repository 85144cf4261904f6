"""The lines that a run prints to stderr, without the one that depends on the CPU."""

from __future__ import annotations

from vidmatte.models.runtimes.device import Device
from vidmatte.models.runtimes.openvino import advice


def lines_of(stderr: str) -> list[str]:
    """The lines of ``stderr`` without the advice to install OpenVINO.

    It comes first when a network is loaded on a CPU on which OpenVINO would be faster.
    """
    lines = stderr.strip().splitlines()
    return lines[1:] if lines and lines[0] == advice("auto", True, Device()) else lines

"""What runs say on stderr, apart from what depends on the machine's CPU."""

from __future__ import annotations

from vidmatte.models.runtimes.device import Device
from vidmatte.models.runtimes.openvino import advice


def lines_of(said: str) -> list[str]:
    """The lines of ``said`` but for the advice to install OpenVINO.

    It stands first, where a network is loaded on a CPU that OpenVINO would serve.
    """
    lines = said.strip().splitlines()
    return lines[1:] if lines and lines[0] == advice("auto", True, Device()) else lines

"""What a DPX header says of the curve of its samples, and what is to be believed of it.

Layout: SMPTE ST 268, "image element 0".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

TRANSFER, BITS = 801, 803  # places of two bytes
_LINEAR = 2
_MAGIC = (b"SDPX", b"XPDS")
_DEEPEST = 12  # bits


def is_linear_in_name(file: Path) -> bool:
    """Whether a DPX of up to 12 bits calls its samples linear light.

    FFmpeg wrote that into every DPX for long (5.1 does), whatever its samples are, and so few
    bits of linear light would show bands in every shadow: they are a picture for display. 16
    bits may well be linear light and are taken at their word. Raises OSError.
    """
    if file.suffix.lower() != ".dpx":
        return False
    with file.open("rb") as opened:
        head = opened.read(BITS + 1)
    is_whole = head.startswith(_MAGIC) and len(head) > BITS
    return is_whole and head[TRANSFER] == _LINEAR and head[BITS] <= _DEEPEST


def dpx_notes(files: list[Path]) -> Iterator[str]:
    """A warning where the header of the first of ``files`` is not believed."""
    if is_linear_in_name(files[0]):
        yield (
            f"{files[0].name}: its header says linear light, as older FFmpegs write into every DPX;"
            " it is taken as sRGB: write linear light as EXR or as DPX of 16 bits"
        )

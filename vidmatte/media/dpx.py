"""The transfer curve in a DPX header, and when to trust it.

Layout: SMPTE ST 268, "image element 0".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

TRANSFER, BITS = 801, 803  # offsets of two one-byte fields
_LINEAR = 2
_MAGIC = (b"SDPX", b"XPDS")
_DEEPEST = 12  # bits


def is_linear_in_name(file: Path) -> bool:
    """Whether a DPX of up to 12 bits declares its samples to be linear light.

    Older FFmpegs (such as 5.1) write that into every DPX, whatever its samples are, and so few
    bits of linear light would show banding in shadows: they are display-referred. With 16
    bits linear light is plausible, so the header is trusted. Raises OSError.
    """
    if file.suffix.lower() != ".dpx":
        return False
    with file.open("rb") as opened:
        head = opened.read(BITS + 1)
    is_complete = head.startswith(_MAGIC) and len(head) > BITS
    return is_complete and head[TRANSFER] == _LINEAR and head[BITS] <= _DEEPEST


def dpx_notes(files: list[Path]) -> Iterator[str]:
    """A warning if the header of the first of ``files`` is not trusted."""
    if is_linear_in_name(files[0]):
        yield (
            f"{files[0].name}: its header says linear light, as older FFmpegs write into every DPX;"
            " it is treated as sRGB: write linear light as EXR or 16-bit DPX"
        )

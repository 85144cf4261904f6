"""What a DPX header says: its transfer curve, when to trust it, its frame rate and timecode.

Layout: SMPTE ST 268, "image element 0", "motion-picture film" and "television".
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

TRANSFER, BITS = 801, 803  # offsets of two one-byte fields
_LINEAR = 2
_MAGIC = (b"SDPX", b"XPDS")
_DEEPEST = 12  # bits
_FILM_RATE, _TIMECODE, _TELEVISION_RATE = 1724, 1920, 1940  # offsets of four-byte fields
_UNDEFINED = (0, 0xFFFFFFFF)


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


def dpx_time(file: Path) -> tuple[float | None, int | None]:
    """The frames per second and the timecode in a DPX header, each None where it is undefined.

    The timecode is a word for ``timecode.from_bcd``. Raises OSError.
    """
    with file.open("rb") as opened:
        head = opened.read(_TELEVISION_RATE + 4)
    if not head.startswith(_MAGIC) or len(head) < _TELEVISION_RATE + 4:
        return None, None
    order = ">" if head.startswith(_MAGIC[0]) else "<"
    (word,) = struct.unpack_from(order + "I", head, _TIMECODE)
    rates = (struct.unpack_from(order + "f", head, at)[0] for at in (_TELEVISION_RATE, _FILM_RATE))
    stated = (rate for rate in rates if math.isfinite(rate) and rate > 0)
    return next(stated, None), None if word in _UNDEFINED else word

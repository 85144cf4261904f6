"""OpenEXR: what FFmpeg's decoder ignores in a header; see ``exr_writer`` for the encoder.

https://openexr.com/en/latest/OpenEXRFileLayout.html
"""

from __future__ import annotations

import struct
from io import SEEK_CUR, BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vidmatte.core.colour import to_bt709
from vidmatte.errors import SourceError

MAGIC = 20000630
_MULTI_PART = 0x10  # in the second byte of the version
_CHANNEL, _SHOWN = 16, 4  # bytes after a channel's name; names in a message
_BOX = 16  # bytes: x and y of the first pixel, x and y of the last
_MOST_READ, _LONGEST_NAME = 1 << 16, 256  # bytes of a value, and of a name


def check_window(file: Path, data: bytes) -> None:
    """Raise SourceError for an OpenEXR picture whose display window does not begin at 0, 0:
    FFmpeg decodes it shifted by that offset.
    """
    value = _attributes(BytesIO(data)).get("displayWindow", b"")
    if len(value) != _BOX:
        return
    left, top, *_ = struct.unpack("<4i", value)
    if left or top:
        raise SourceError(
            f"{file}: its display window begins at {left}, {top}; only 0, 0 is supported:"
            " save it with a display window that begins there"
        )


def window_of(data: bytes) -> tuple[int, int]:
    """Width and height of the larger of a picture's two windows. Raises struct.error."""
    found = _attributes(BytesIO(data))
    sides = [(0, 0)]
    for name in ("dataWindow", "displayWindow"):
        left, top, right, bottom = struct.unpack_from("<4i", found.get(name, bytes(_BOX)))
        sides.append((abs(right - left) + 1, abs(bottom - top) + 1))
    return max(sides, key=lambda side: side[0] * side[1])


def _attributes(file: BinaryIO) -> dict[str, bytes]:
    """The attributes of the first part, by name; of large values the beginning. Empty for a
    file of another format, up to the fault for a damaged header."""
    found: dict[str, bytes] = {}
    head = file.read(8)
    if len(head) < 8 or struct.unpack_from("<I", head)[0] != MAGIC:
        return found
    while name := _name(file):
        _name(file)  # that of its type
        size = int.from_bytes(file.read(4), "little", signed=True)
        if size < 0:
            break
        found[name] = file.read(min(size, _MOST_READ))
        file.seek(max(0, size - _MOST_READ), SEEK_CUR)
    return found


def _name(file: BinaryIO) -> str:
    """A name up to its NUL; empty at the end of the header, or where none follows."""
    letters = bytearray()
    while (letter := file.read(1)) not in (b"\0", b"") and len(letters) < _LONGEST_NAME:
        letters += letter
    return letters.decode("utf-8", "replace") if letter == b"\0" else ""


def exr_layer(file: Path, data: bytes) -> str:
    """The layer to decode: empty for the main one, else the first with colours of its own.

    Raises SourceError for a file without one, or of luma and chroma, which FFmpeg does not read.
    """
    channels = _channels(data)
    names = set(channels)
    if {"RY", "BY"} & names:
        raise SourceError(
            f"{file}: an OpenEXR of luma and chroma is not supported: save it with channels R, G, B"
        )
    if not channels or {"R", "G", "B"} <= names or "Y" in names:
        return ""
    for name in channels:
        layer = name.rpartition(".")[0]
        if layer and {f"{layer}.{colour}" for colour in "RGB"} <= names:
            return layer
    raise SourceError(
        f"{file}: it has no channels R, G, B or Y, but {', '.join(channels[:_SHOWN])}: save its"
        " colours as R, G, B"
    )


def left_out_of_exr(file: Path, data: bytes) -> str | None:
    """A clause on the layers, channels and parts that are not read; None where all are.

    Raises SourceError: see ``exr_layer``.
    """
    layer = exr_layer(file, data)
    others: dict[str, None] = {}  # in order, each once
    for name in _channels(data):
        of_layer, _, channel = name.rpartition(".")
        if of_layer != layer or channel not in ("R", "G", "B", "A", "Y"):
            others[name if of_layer == layer else of_layer or name] = None
    shown = [*others][:_SHOWN] + (["..."] if len(others) > _SHOWN else [])
    if data[5] & _MULTI_PART:
        shown.append("its further parts (views or layers)")
    used = f"layer {layer}" if layer else "main layer"
    return f"its {used} is used, without {', '.join(shown)}" if shown else None


def _channels(data: bytes) -> list[str]:
    """The names of the first part's channels, in order."""
    value = BytesIO(_attributes(BytesIO(data)).get("channels", b""))
    names = []
    while name := _name(value):
        names.append(name)
        value.seek(_CHANNEL, SEEK_CUR)
    return names


def exr_time(file: Path) -> tuple[float | None, int | None]:
    """The frames per second and the timecode in a file's header, each None where it is missing.

    The timecode is a word for ``timecode.from_bcd``. Raises OSError.
    """
    with file.open("rb") as opened:
        found = _attributes(opened)
    rate, word = found.get("framesPerSecond", b""), found.get("timeCode", b"")
    number, divisor = struct.unpack("<iI", rate) if len(rate) == 8 else (0, 0)
    return (
        number / divisor if number > 0 and divisor else None,
        int.from_bytes(word[:4], "little") if len(word) == 8 else None,
    )


def exr_chromaticities(file: Path) -> tuple[float, ...] | None:
    """CIE x, y of red, green, blue and white in a file's header; None where they are missing or
    span no colours. Raises OSError."""
    with file.open("rb") as opened:
        value = _attributes(opened).get("chromaticities", b"")
    if len(value) != 32:
        return None
    found = struct.unpack("<8f", value)
    try:
        to_bt709(found)
    except (ValueError, np.linalg.LinAlgError):
        return None
    return found

"""OpenEXR: what FFmpeg's decoder ignores in a header, and an encoder.

https://openexr.com/en/latest/OpenEXRFileLayout.html
"""

from __future__ import annotations

import importlib.util
import struct
import tempfile
from io import SEEK_CUR, BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from isal import isal_zlib

from vidmatte.core.colour import (
    CHROMATICITIES,
    LINEAR,
    MATRIX_NAMES,
    TRANSFER_NAMES,
    ColourTags,
    to_bt709,
)
from vidmatte.core.frame import Clip
from vidmatte.core.timecode import later, to_bcd
from vidmatte.errors import SourceError
from vidmatte.pixels import planes

_MULTI_PART = 0x10  # in the second byte of the version
_CHANNEL, _SHOWN = 16, 4  # bytes after a channel's name; names in a message
_FASTEST_TIMECODE = 60  # frames per second that the word of a timecode counts
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
    if len(head) < 8 or struct.unpack_from("<I", head)[0] != _MAGIC:
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


_MAGIC, VERSION = 20000630, 2
#: By name the code of a compression and the lines of one block.
_OWN_METHODS = {"none": (0, 1), "zips": (2, 1), "zip": (3, 16)}
#: Those that the package OpenEXR encodes, by its names; dwaa is lossy, piz is good at grain.
_OTHER_METHODS = {"piz": "PIZ_COMPRESSION", "dwaa": "DWAA_COMPRESSION"}
ZIP_LEVEL = 2
HALF, FLOAT = 1, 2
_HALF_MAX = np.float32(65504)  # the largest half float


class ExrWriter:
    """Encodes gbrapf32le pictures as OpenEXR.

    kind: HALF or FLOAT. colour: the tags of the pictures.
    alpha: ``straight`` or ``premultiplied``. compression: zip, zips, piz or dwaa; the last two
    need the package OpenEXR.
    """

    def __init__(
        self, clip: Clip, kind: int, colour: ColourTags, alpha: str, compression: str = "zip"
    ) -> None:
        self._kind, self._clip = kind, clip
        self._other = _OTHER_METHODS.get(compression)
        method, self._lines = _OWN_METHODS["none" if self._other else compression]
        self._packs = method != 0
        self._header = _header(clip, kind, colour, alpha, method)

    def encode(self, picture: av.VideoFrame) -> list[bytes]:
        """The file, as a list of one bytes object. The picture's time gives its timecode."""
        green, blue, red, alpha = planes.plane_views(picture)
        # Rows of all channels, channels in the order of their names.
        lines = np.stack([self._stored(plane) for plane in (alpha, blue, green, red)], axis=1)
        blocks = []
        for first in range(0, len(lines), self._lines):
            raw = lines[first : first + self._lines].tobytes()
            data = _deflated(raw) if self._packs else raw
            blocks.append(struct.pack("<ii", first, len(data)) + data)
        at = len(self._header) + 8 * len(blocks)
        offsets = np.cumsum([at, *(len(block) for block in blocks[:-1])], dtype="<u8")
        file = b"".join([self._header_at(picture), offsets.tobytes(), *blocks])
        return [file if self._other is None else _recompressed(file, self._other)]

    def _header_at(self, picture: av.VideoFrame) -> bytes:
        """The header with the timecode of the picture, by its time from the clip's start."""
        start, rate = self._clip.timecode, self._clip.rate
        if start is None or picture.pts is None or rate > _FASTEST_TIMECODE:
            return self._header
        frame = round(picture.pts * self._clip.time_base * rate)
        word = to_bcd(later(start, frame, rate), rate)
        before, mark, after = self._header.partition(b"timeCode\0timecode\0")
        return b"".join([before, mark, after[:4], struct.pack("<I", word), after[8:]])

    def _stored(self, plane: np.ndarray) -> np.ndarray:
        """A float32 plane as it is stored in the file."""
        if self._kind == FLOAT:
            return plane.astype("<f4")
        # Larger values would become infinite, which spreads with every filter.
        return np.asarray(np.clip(plane, -_HALF_MAX, _HALF_MAX).astype("<f2"))


def _deflated(raw: bytes) -> bytes:
    """One block by the ZIP method: even and odd bytes split, differences, deflate.

    As the format requires, a block that would grow is stored uncompressed.
    """
    source = np.frombuffer(raw, np.uint8)
    split = np.concatenate([source[::2], source[1::2]])
    steps = np.diff(split, prepend=np.uint8(0)).astype(np.uint8) + np.uint8(128)
    steps[0] = split[0]
    data = isal_zlib.compress(steps, ZIP_LEVEL)
    return data if len(data) < len(raw) else raw


def missing_method(compression: str) -> str | None:
    """Why a compression cannot be written here; None where it can."""
    if compression in _OTHER_METHODS and importlib.util.find_spec("OpenEXR") is None:
        return "it needs the package OpenEXR (pip install OpenEXR)"
    return None


def _recompressed(file: bytes, method: str) -> bytes:
    """The file with another compression, all its attributes kept."""
    openexr: Any = importlib.import_module("OpenEXR")
    with tempfile.TemporaryDirectory(prefix="vidmatte-") as folder:
        plain, packed = Path(folder) / "plain.exr", Path(folder) / "packed.exr"
        plain.write_bytes(file)
        with openexr.File(str(plain), separate_channels=True) as opened:
            opened.parts[0].header["compression"] = getattr(openexr, method)
            opened.write(str(packed))
        return packed.read_bytes()


def _header(clip: Clip, kind: int, colour: ColourTags, alpha: str, method: int) -> bytes:
    """Magic number, version and attributes."""
    box = struct.pack("<4i", 0, 0, clip.width - 1, clip.height - 1)
    channel = struct.pack("<iB3xii", kind, 0, 1, 1)
    channels = b"".join(name + b"\0" + channel for name in (b"A", b"B", b"G", b"R")) + b"\0"
    rate = clip.rate
    attributes = [
        ("channels", "chlist", channels),
        ("compression", "compression", bytes([method])),
        ("dataWindow", "box2i", box),
        ("displayWindow", "box2i", box),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", float(clip.sample_aspect_ratio))),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
        ("framesPerSecond", "rational", struct.pack("<iI", rate.numerator, rate.denominator)),
        ("transfer", "string", TRANSFER_NAMES.get(colour.transfer, "unspecified").encode()),
        ("alpha", "string", alpha.encode()),
        ("comments", "string", _header_attributes(clip, colour, alpha).encode()),
    ]
    if clip.kind == "picture":
        attributes = [each for each in attributes if each[0] != "framesPerSecond"]
    if points := colour.chromaticities or CHROMATICITIES.get(colour.primaries):
        attributes.append(("chromaticities", "chromaticities", struct.pack("<8f", *points)))
    if clip.timecode is not None and rate <= _FASTEST_TIMECODE:
        attributes.append(("timeCode", "timecode", struct.pack("<II", 0, 0)))  # see encode
    parts = [struct.pack("<ii", _MAGIC, VERSION)]
    for name, of_type, value in attributes:
        parts += [name.encode(), b"\0", of_type.encode(), b"\0"]
        parts += [struct.pack("<i", len(value)), value]
    return b"".join([*parts, b"\0"])


def _header_attributes(clip: Clip, colour: ColourTags, alpha: str) -> str:
    """A readable comment on alpha, colours and the source's matrix."""
    values = (
        "linear light"
        if colour.transfer == LINEAR
        else f"unchanged code values ({TRANSFER_NAMES.get(colour.transfer, 'unknown')} curve)"
    )
    matrix = MATRIX_NAMES.get(clip.colour.matrix, str(clip.colour.matrix))
    return f"{alpha} alpha; colours are {values}; the source's matrix was {matrix}"

"""OpenEXR: a check for what FFmpeg's decoder ignores, and an encoder.

https://openexr.com/en/latest/OpenEXRFileLayout.html
"""

from __future__ import annotations

import importlib.util
import struct
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np
from isal import isal_zlib

from vidmatte.core.colour import (
    BT470BG,
    BT709,
    BT2020,
    DCI_P3,
    DISPLAY_P3,
    LINEAR,
    MATRIX_NAMES,
    SMPTE170M,
    SMPTE240M,
    TRANSFER_NAMES,
    ColourTags,
)
from vidmatte.core.frame import Clip
from vidmatte.errors import SourceError
from vidmatte.pixels import planes

_MAGIC = 20000630
_BOX = 16  # bytes: x and y of the first pixel, x and y of the last


def check_window(file: Path, data: bytes) -> None:
    """Raise SourceError for an OpenEXR picture whose display window does not begin at 0, 0:
    FFmpeg decodes it shifted by that offset.
    """
    value = _attribute(data, b"displayWindow")
    if value is None or len(value) != _BOX:
        return
    left, top, *_ = struct.unpack("<4i", value)
    if left or top:
        raise SourceError(
            f"{file}: its display window begins at {left}, {top}; only 0, 0 is supported:"
            " save it with a display window that begins there"
        )


def _attribute(data: bytes, attribute: bytes) -> bytes | None:
    """The value of an attribute in the header of the first part; None if missing."""
    if len(data) < 8 or struct.unpack_from("<I", data)[0] != _MAGIC:
        return None
    at = 8
    while (end := data.find(b"\0", at)) > at:
        name = data[at:end]
        at = data.find(b"\0", end + 1) + 1  # after the name of its type
        if not at or at + 4 > len(data):
            return None
        (size,) = struct.unpack_from("<I", data, at)
        if name == attribute:
            return data[at + 4 : at + 4 + size]
        at += 4 + size
    return None


VERSION = 2
#: By name the code of a compression and the lines of one block.
_OWN_METHODS = {"none": (0, 1), "zips": (2, 1), "zip": (3, 16)}
#: Those that the package OpenEXR encodes, by its names; dwaa is lossy, piz is good at grain.
_OTHER_METHODS = {"piz": "PIZ_COMPRESSION", "dwaa": "DWAA_COMPRESSION"}
ZIP_LEVEL = 2
HALF, FLOAT = 1, 2
_HALF_MAX = np.float32(65504)  # the largest half float

#: CIE x, y of red, green, blue and white, ITU-T H.273 table 2.
_CHROMATICITIES = {
    BT709: (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, 0.3127, 0.3290),
    BT470BG: (0.640, 0.330, 0.290, 0.600, 0.150, 0.060, 0.3127, 0.3290),
    SMPTE170M: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, 0.3127, 0.3290),
    SMPTE240M: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, 0.3127, 0.3290),
    BT2020: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    DCI_P3: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    DISPLAY_P3: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
}


class ExrWriter:
    """Encodes gbrapf32le pictures as OpenEXR.

    kind: HALF or FLOAT. colour: the tags of the pictures.
    alpha: ``straight`` or ``premultiplied``. compression: zip, zips, piz or dwaa; the last two
    need the package OpenEXR.
    """

    def __init__(
        self, clip: Clip, kind: int, colour: ColourTags, alpha: str, compression: str = "zip"
    ) -> None:
        self._kind = kind
        self._other = _OTHER_METHODS.get(compression)
        method, self._lines = _OWN_METHODS["none" if self._other else compression]
        self._packs = method != 0
        self._header = _header(clip, kind, colour, alpha, method)

    def encode(self, picture: av.VideoFrame) -> list[bytes]:
        """The file, as a list of one bytes object."""
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
        file = b"".join([self._header, offsets.tobytes(), *blocks])
        return [file if self._other is None else _recompressed(file, self._other)]

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
    if colour.primaries in _CHROMATICITIES:
        values = struct.pack("<8f", *_CHROMATICITIES[colour.primaries])
        attributes.append(("chromaticities", "chromaticities", values))
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

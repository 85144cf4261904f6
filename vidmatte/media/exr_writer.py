"""OpenEXR: an encoder of half and 32-bit float channels with any names.

https://openexr.com/en/latest/OpenEXRFileLayout.html
"""

from __future__ import annotations

import importlib.util
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
from isal import isal_zlib

from vidmatte.core.colour import (
    CHROMATICITIES,
    LINEAR,
    MATRIX_NAMES,
    TRANSFER_NAMES,
    ColourTags,
)
from vidmatte.core.frame import Clip
from vidmatte.core.timecode import later, to_bcd
from vidmatte.media.exr import MAGIC
from vidmatte.pixels import planes

_FASTEST_TIMECODE = 60  # frames per second that the word of a timecode counts
_VERSION, _LONG_NAMES = 2, 0x400
_SHORT_NAME = 31  # bytes of a name that needs no mark
#: By name the code of a compression and the lines of one block.
_OWN_METHODS = {"none": (0, 1), "zips": (2, 1), "zip": (3, 16)}
#: Those that the package OpenEXR encodes, by its names; dwaa is lossy, piz is good at grain.
_OTHER_METHODS = {"piz": "PIZ_COMPRESSION", "dwaa": "DWAA_COMPRESSION"}
_ZIP_LEVEL = 2
HALF, FLOAT = 1, 2
_HALF_MAX = np.float32(65504)  # the largest half float


class ExrWriter:
    """Encodes pictures as OpenEXR, with the channels R, G, B and A and any further ones.

    kind: of those four, HALF or FLOAT. colour: the tags of the pictures. alpha: ``straight`` or
    ``premultiplied``. compression: zip, zips, piz or dwaa; the last two need the package OpenEXR.
    further: more channels by name, with the kind of each. attributes: more strings of the header.
    """

    def __init__(
        self,
        clip: Clip,
        kind: int,
        colour: ColourTags,
        alpha: str,
        compression: str = "zip",
        *,
        further: Mapping[str, int] | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        self._clip = clip
        self._other = _OTHER_METHODS.get(compression)
        method, self._lines = _OWN_METHODS["none" if self._other else compression]
        self._packs = method != 0
        kinds = {**dict.fromkeys("ABGR", kind), **(further or {})}
        self._kinds = {name: kinds[name] for name in sorted(kinds)}  # as they lie in the file
        texts = {
            "transfer": TRANSFER_NAMES.get(colour.transfer, "unspecified"),
            "alpha": alpha,
            "comments": _comments(clip, colour, alpha),
            **(attributes or {}),
        }
        self._header = _header(clip, self._kinds, colour, method, texts)

    def encode(self, picture: av.VideoFrame) -> list[bytes]:
        """The file of a gbrapf32le picture, as a list of one bytes object. Its time gives its
        timecode."""
        channels = dict(zip("GBRA", planes.plane_views(picture), strict=True))
        return [self.pack(channels, self._timecode_of(picture))]

    def pack(self, channels: Mapping[str, np.ndarray], timecode: int | None) -> bytes:
        """The file of all channels, (H, W) float32 each. timecode: a word, see
        ``timecode.to_bcd``; None where it is unknown."""
        stored = [_stored(channels[name], kind) for name, kind in self._kinds.items()]
        lines = np.concatenate([one.view(np.uint8) for one in stored], axis=1)
        blocks = []
        for first in range(0, len(lines), self._lines):
            raw = lines[first : first + self._lines].tobytes()
            data = _deflated(raw) if self._packs else raw
            blocks.append(struct.pack("<ii", first, len(data)) + data)
        at = len(self._header) + 8 * len(blocks)
        offsets = np.cumsum([at, *(len(block) for block in blocks[:-1])], dtype="<u8")
        file = b"".join([self._header_with(timecode), offsets.tobytes(), *blocks])
        return file if self._other is None else _recompressed(file, self._other)

    def _timecode_of(self, picture: av.VideoFrame) -> int | None:
        """The word of a picture's timecode, by its time from the clip's start."""
        start, rate = self._clip.timecode, self._clip.rate
        if start is None or picture.pts is None or rate > _FASTEST_TIMECODE:
            return None
        frame = round(picture.pts * self._clip.time_base * rate)
        return to_bcd(later(start, frame, rate), rate)

    def _header_with(self, timecode: int | None) -> bytes:
        """The header with a timecode in its place, if it has one."""
        before, mark, after = self._header.partition(b"timeCode\0timecode\0")
        if timecode is None or not mark:
            return self._header
        return b"".join([before, mark, after[:4], struct.pack("<I", timecode), after[8:]])


def _stored(plane: np.ndarray, kind: int) -> np.ndarray:
    """A float32 plane as it is stored in the file."""
    if kind == FLOAT:
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
    data = isal_zlib.compress(steps, _ZIP_LEVEL)
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


def _header(
    clip: Clip, kinds: Mapping[str, int], colour: ColourTags, method: int, texts: Mapping[str, str]
) -> bytes:
    """Magic number, version and attributes."""
    box = struct.pack("<4i", 0, 0, clip.width - 1, clip.height - 1)
    channels = [
        name.encode() + b"\0" + struct.pack("<iB3xii", kind, 0, 1, 1)
        for name, kind in kinds.items()
    ]
    rate = clip.rate
    attributes = [
        ("channels", "chlist", b"".join(channels) + b"\0"),
        ("compression", "compression", bytes([method])),
        ("dataWindow", "box2i", box),
        ("displayWindow", "box2i", box),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", float(clip.sample_aspect_ratio))),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
        ("framesPerSecond", "rational", struct.pack("<iI", rate.numerator, rate.denominator)),
        *((name, "string", text.encode()) for name, text in texts.items()),
    ]
    if clip.kind == "picture":
        attributes = [each for each in attributes if each[0] != "framesPerSecond"]
    if points := colour.chromaticities or CHROMATICITIES.get(colour.primaries):
        attributes.append(("chromaticities", "chromaticities", struct.pack("<8f", *points)))
    if clip.timecode is not None and rate <= _FASTEST_TIMECODE:
        attributes.append(("timeCode", "timecode", struct.pack("<II", 0, 0)))  # see pack
    longest = max(len(name.encode()) for name in [*kinds, *(each[0] for each in attributes)])
    mark = _LONG_NAMES if longest > _SHORT_NAME else 0
    parts = [struct.pack("<ii", MAGIC, _VERSION | mark)]
    for name, of_type, value in attributes:
        parts += [name.encode(), b"\0", of_type.encode(), b"\0"]
        parts += [struct.pack("<i", len(value)), value]
    return b"".join([*parts, b"\0"])


def _comments(clip: Clip, colour: ColourTags, alpha: str) -> str:
    """A readable comment on alpha, colours and the source's matrix."""
    values = (
        "linear light"
        if colour.transfer == LINEAR
        else f"unchanged code values ({TRANSFER_NAMES.get(colour.transfer, 'unknown')} curve)"
    )
    matrix = MATRIX_NAMES.get(clip.colour.matrix, str(clip.colour.matrix))
    return f"{alpha} alpha; colours are {values}; the source's matrix was {matrix}"

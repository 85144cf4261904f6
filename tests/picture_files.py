"""Picture files written by hand, with headers that no encoder at hand writes."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np

#: Attributes of OpenEXR: the type and the value's bytes, by name.
Attributes = dict[str, tuple[str, bytes]]
ACESCG = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)


def chromaticities(*values: float) -> Attributes:
    """The attribute for CIE x, y of red, green, blue and white."""
    return {"chromaticities": ("chromaticities", struct.pack("<8f", *values))}


def write_exr(path: Path, channels: dict[str, np.ndarray], attributes: Attributes) -> Path:
    """An uncompressed OpenEXR file of float channels, (H, W) each, in scan lines."""
    height, width = next(iter(channels.values())).shape
    box = struct.pack("<4i", 0, 0, width - 1, height - 1)
    described = b"".join(
        name.encode() + b"\0" + struct.pack("<iB3xii", 2, 0, 1, 1) for name in sorted(channels)
    )
    header: Attributes = {
        "channels": ("chlist", described + b"\0"),
        "compression": ("compression", b"\0"),
        "dataWindow": ("box2i", box),
        "displayWindow": ("box2i", box),
        "lineOrder": ("lineOrder", b"\0"),
        "pixelAspectRatio": ("float", struct.pack("<f", 1)),
        "screenWindowCenter": ("v2f", struct.pack("<2f", 0, 0)),
        "screenWindowWidth": ("float", struct.pack("<f", 1)),
        **attributes,
    }
    parts = [struct.pack("<ii", 20000630, 2)]
    for name, (kind, value) in header.items():
        parts += [f"{name}\0{kind}\0".encode(), struct.pack("<i", len(value)), value]
    start = len(b"".join([*parts, b"\0"])) + 8 * height
    line = 8 + 4 * width * len(channels)
    offsets = struct.pack(f"<{height}Q", *(start + line * row for row in range(height)))
    rows = np.stack([channels[name].astype("<f4") for name in sorted(channels)], axis=1)
    lines = [struct.pack("<ii", y, line - 8) + row.tobytes() for y, row in enumerate(rows)]
    path.write_bytes(b"".join([*parts, b"\0", offsets, *lines]))
    return path


def rgb_channels(rgb: np.ndarray) -> dict[str, np.ndarray]:
    """(H, W, 3) as channels R, G, B."""
    return dict(zip("RGB", np.moveaxis(rgb, -1, 0), strict=True))


@dataclass
class HeifPart:
    """An item of a HEIF file; ``parts`` are the numbers (from 1) of those that it is made from,
    ``alpha_of`` that of the picture whose alpha it is."""

    kind: str
    data: bytes
    properties: Sequence[tuple[str, bytes]] = ()
    parts: Sequence[int] = ()
    alpha_of: int = 0


@contextlib.contextmanager
def same_priority() -> Iterator[None]:
    """SVT-AV1 gives the thread that opens it real-time priority where root runs it, and whatever
    that thread starts later would inherit it: a browser then stops the machine."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, priority)


def coded_part(rgb: np.ndarray, codec: str = "libx265", pixel_format: str = "yuv420p") -> HeifPart:
    """A picture (H, W, 3) uint8, coded as HEVC or AV1, as bt601 of full range."""
    file = BytesIO()
    with same_priority(), av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=25)
        context = stream.codec_context
        context.height, context.width = rgb.shape[:2]
        context.pix_fmt, context.color_range, context.colorspace = pixel_format, 2, 5
        context.options = {
            "libx265": {"x265-params": "log-level=error:keyint=1", "crf": "4"},
            "libsvtav1": {"crf": "10", "preset": "10"},
        }.get(codec, {})
        picture = av.VideoFrame.from_ndarray(rgb, "rgb24")
        picture = picture.reformat(format=pixel_format, dst_colorspace=5, dst_color_range=2)
        for packet in [*stream.encode(picture), *stream.encode(None)]:
            container.mux(packet)
    file.seek(0)
    with av.open(file) as container:
        (stream,) = container.streams.video
        extradata = stream.codec_context.extradata
        data = bytes(next(container.demux(stream)))
    kind, config = ("hvc1", "hvcC") if codec == "libx265" else ("av01", "av1C")
    size = struct.pack(">4xII", rgb.shape[1], rgb.shape[0])
    return HeifPart(kind, data, [(config, bytes(extradata or b"")), ("ispe", size)])


def grid_part(rows: int, columns: int, width: int, height: int, **more: Any) -> HeifPart:
    """A grid of the items 2, 3, ..., row by row, of which ``width`` x ``height`` are shown."""
    data = struct.pack(">4B2H", 0, 0, rows - 1, columns - 1, width, height)
    return HeifPart("grid", data, parts=range(2, 2 + rows * columns), **more)


def write_heif(path: Path, items: Sequence[HeifPart], brand: bytes = b"heic") -> Path:
    """A HEIF file whose primary item is the first; the bytes of derived items lie in idat."""
    known = [one for item in items for one in item.properties]
    idat = b"".join(item.data for item in items if item.parts)
    numbers = range(1, len(items) + 1)
    infe = b"".join(
        _box(b"infe", struct.pack(">B3xHH4sx", 2, number, 0, item.kind.encode()))
        for number, item in zip(numbers, items, strict=True)
    )
    refs = b""
    ipma = b""
    at = 0
    for number, item in zip(numbers, items, strict=True):
        if item.parts:
            refs += _box(b"dimg", struct.pack(f">HH{len(item.parts)}H", number, len(item.parts),
                                              *item.parts))  # fmt: skip
        if item.alpha_of:
            refs += _box(b"auxl", struct.pack(">HHH", number, 1, item.alpha_of))
        places = range(at + 1, at + 1 + len(item.properties))
        at += len(item.properties)
        ipma += struct.pack(">HB", number, len(places)) + struct.pack(f">{len(places)}H", *places)
    ipco = b"".join(_box(kind.encode(), value) for kind, value in known)

    def head(start: int) -> bytes:
        iloc, inside = struct.pack(">B3x2BH", 1, 0x44, 0x00, len(items)), 0
        for number, item in zip(numbers, items, strict=True):
            derived = bool(item.parts)
            iloc += struct.pack(">4HII", number, derived, 0, 1, inside if derived else start,
                                len(item.data))  # fmt: skip
            inside, start = (
                (inside + len(item.data), start) if derived else (inside, start + len(item.data))
            )
        meta = b"".join([
            _box(b"hdlr", struct.pack(">8x4s12xx", b"pict")),
            _box(b"pitm", struct.pack(">4xH", 1)),
            _box(b"iinf", struct.pack(">4xH", len(items)) + infe),
            _box(b"iref", bytes(4) + refs) if refs else b"",
            _box(b"iprp", _box(b"ipco", ipco)
                 + _box(b"ipma", struct.pack(">B2xBI", 0, 1, len(items)) + ipma)),
            _box(b"idat", idat) if idat else b"",
            _box(b"iloc", iloc),
        ])  # fmt: skip
        brands = _box(b"ftyp", brand + bytes(4) + b"mif1" + brand)
        return brands + _box(b"meta", bytes(4) + meta)

    samples = b"".join(item.data for item in items if not item.parts)
    path.write_bytes(head(len(head(0)) + 8) + _box(b"mdat", samples))
    return path


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content

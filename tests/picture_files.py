"""Picture files written by hand, with headers that no encoder at hand writes."""

from __future__ import annotations

import struct
from pathlib import Path

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

"""JPEG: the density and the ICC profile, which OpenCV's encoder does not write.

https://www.w3.org/Graphics/JPEG/jfif3.pdf
https://www.color.org/specification/ICC.1-2022-05.pdf (annex B.4)
"""

from __future__ import annotations

import struct

_START, _APP0, _APP2 = b"\xff\xd8", b"\xff\xe0", b"\xff\xe2"
_JFIF = b"JFIF\0"
_ICC = b"ICC_PROFILE\0"
_ICC_PART = 65519  # bytes of a profile in one segment
_PER_INCH = 1


def with_density(jpeg: bytes, dpi: int) -> bytes:
    """The file with a density of ``dpi`` pixels per inch. Raises ValueError for a file that does
    not begin with a JFIF header."""
    if jpeg[:4] != _START + _APP0 or jpeg[6:11] != _JFIF:
        raise ValueError("not a JPEG file with a JFIF header")
    return jpeg[:13] + struct.pack(">BHH", _PER_INCH, dpi, dpi) + jpeg[18:]


def jpeg_with_profile(jpeg: bytes, profile: bytes) -> bytes:
    """The file with an ICC profile behind its JFIF header."""
    parts = [profile[at : at + _ICC_PART] for at in range(0, len(profile), _ICC_PART)]
    segments = b"".join(
        _APP2
        + struct.pack(">H", 2 + len(_ICC) + 2 + len(part))
        + _ICC
        + bytes([number, len(parts)])
        + part
        for number, part in enumerate(parts, 1)
    )
    (length,) = struct.unpack(">H", jpeg[4:6])
    return jpeg[: 4 + length] + segments + jpeg[4 + length :]

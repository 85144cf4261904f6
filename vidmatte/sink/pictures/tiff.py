"""What FFmpeg's TIFF encoder does not say: that alpha is multiplied into the colours.

TIFF 6.0, section 18.
"""

from __future__ import annotations

import struct

EXTRA_SAMPLES = 338
SHORT = 3
ASSOCIATED = 1  # alpha: the colours are premultiplied; the encoder writes 2, that they are not


def with_associated_alpha(tiff: bytes) -> bytes:
    """A little-endian TIFF of one picture with alpha, said to be premultiplied."""
    data = bytearray(tiff)
    (place,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, place)
    for entry in range(place + 2, place + 2 + 12 * count, 12):
        if struct.unpack_from("<HHI", data, entry) == (EXTRA_SAMPLES, SHORT, 1):
            struct.pack_into("<H", data, entry + 8, ASSOCIATED)
    return bytes(data)

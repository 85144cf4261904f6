"""Damage in FFV1 packets. Their slices may have checksums, but FFmpeg's decoder only logs a
mismatch and conceals it with the previous frame.

https://www.rfc-editor.org/rfc/rfc9043 (section 4.9, slice footer)
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import av

#: Bytes of a slice's footer: its size in 3, a status, and a CRC-32 over the slice.
_FOOTER = 8
#: Packets tested; one with valid checksums shows that the clip has them.
_TRIED = 16
#: FFV1 orders the bits of a byte in reverse to zlib.
_MIRRORED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
#: zlib inverts a CRC before and after; undone, that of a slice with its footer is zero.
_INVERTED = 0xFFFFFFFF


def _is_intact(packet: av.Packet) -> bool:
    """Whether a packet is a series of slices with valid CRC-32."""
    data = bytes(packet)
    mirrored = memoryview(data.translate(_MIRRORED))
    end = len(data)
    while end > 0:
        size = int.from_bytes(data[max(0, end - _FOOTER) : end - _FOOTER + 3])
        start = end - _FOOTER - size
        # Zeros have a CRC of zero, so an empty slice does not count.
        if start < 0 or not size or zlib.crc32(mirrored[start:end], _INVERTED) != _INVERTED:
            return False
        end = start
    return True


def have_checksums(packets: Iterable[av.Packet]) -> bool:
    """Whether a clip has checksums, by its first packets: possible from FFV1 version 3 on."""
    return any(_is_intact(packet) for packet in islice(packets, _TRIED) if packet.size)


def intact_packets(
    packets: Iterable[av.Packet], report: Callable[[av.Packet, str], None]
) -> Iterator[av.Packet]:
    """The packets without damaged ones and those after one up to the next key frame, which
    are predicted from it. Damaged ones are passed to ``report``, with the reason."""
    is_broken = False
    for packet in packets:
        if packet.size:
            if not _is_intact(packet):
                report(packet, "its CRC-32 is wrong")
                is_broken = True
                continue
            is_broken = is_broken and not packet.is_keyframe
        if not is_broken or not packet.size:
            yield packet

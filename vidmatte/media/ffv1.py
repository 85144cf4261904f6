"""Whether FFV1 packets are whole. Their slices may bear checksums, but FFmpeg's decoder only
writes to its log that one is wrong, and patches the picture up with the frame before.

https://www.rfc-editor.org/rfc/rfc9043 (section 4.9, slice footer)
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import av

#: Of a slice: its size in 3 bytes, a status, and a CRC-32 over all of it.
_FOOTER = 8
#: Packets of which one must be whole for a clip to be known as one with checksums.
_TRIED = 16
#: FFV1 takes the bits of a byte the other way round than zlib does.
_MIRRORED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
#: zlib begins and ends with this; a slice with its own CRC-32 behind it leaves zero.
_INVERTED = 0xFFFFFFFF


def _is_intact(packet: av.Packet) -> bool:
    """Whether a packet is a row of slices whose CRC-32 are right."""
    data = bytes(packet)
    mirrored = memoryview(data.translate(_MIRRORED))
    end = len(data)
    while end > 0:
        size = int.from_bytes(data[max(0, end - _FOOTER) : end - _FOOTER + 3])
        start = end - _FOOTER - size
        # Zeros have a CRC of zero: an empty slice is no slice.
        if start < 0 or not size or zlib.crc32(mirrored[start:end], _INVERTED) != _INVERTED:
            return False
        end = start
    return True


def have_checksums(packets: Iterable[av.Packet]) -> bool:
    """Whether the packets of a clip, the first of which these are, bear checksums: FFV1 from
    version 3 on may."""
    return any(_is_intact(packet) for packet in islice(packets, _TRIED) if packet.size)


def intact_packets(
    packets: Iterable[av.Packet], tell: Callable[[av.Packet, str], None]
) -> Iterator[av.Packet]:
    """The packets without the damaged ones, each of which ``tell`` is told, and without those
    after one up to the next key frame: their decoding goes on from what it spoilt."""
    spoilt = False
    for packet in packets:
        if packet.size:
            if not _is_intact(packet):
                tell(packet, "its CRC-32 is wrong")
                spoilt = True
                continue
            spoilt = spoilt and not packet.is_keyframe
        if not spoilt or not packet.size:
            yield packet

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
FOOTER = 8
#: Packets of which one must be whole for a clip to be known as one with checksums.
TRIED = 16
#: FFV1 takes the bits of a byte the other way round than zlib does.
MIRRORED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
#: zlib begins and ends with this; a slice with its own CRC-32 behind it leaves zero.
INVERTED = 0xFFFFFFFF


def is_whole(packet: av.Packet) -> bool:
    """Whether a packet is a row of slices whose CRC-32 are right."""
    data = bytes(packet)
    mirrored = memoryview(data.translate(MIRRORED))
    end = len(data)
    while end > 0:
        size = int.from_bytes(data[max(0, end - FOOTER) : end - FOOTER + 3])
        start = end - FOOTER - size
        # Zeros have a CRC of zero: an empty slice is no slice.
        if start < 0 or not size or zlib.crc32(mirrored[start:end], INVERTED) != INVERTED:
            return False
        end = start
    return True


def bear_checksums(packets: Iterable[av.Packet]) -> bool:
    """Whether the packets of a clip, the first of which these are, bear checksums: FFV1 from
    version 3 on may."""
    return any(is_whole(packet) for packet in islice(packets, TRIED) if packet.size)


def whole_packets(
    packets: Iterable[av.Packet], tell: Callable[[av.Packet, str], None]
) -> Iterator[av.Packet]:
    """The packets without the damaged ones, each of which ``tell`` is told, and without those
    after one up to the next key frame: their decoding goes on from what it spoilt."""
    spoilt = False
    for packet in packets:
        if packet.size:
            if not is_whole(packet):
                tell(packet, "its CRC-32 is wrong")
                spoilt = True
                continue
            spoilt = spoilt and not packet.is_keyframe
        if not spoilt or not packet.size:
            yield packet

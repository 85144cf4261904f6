"""MPEG-4 Part 2 in which packets are not frames: DivX packs two into one, and encoders fill places
with frames that are not coded.

Layout: ISO/IEC 14496-2, 6.2.3 (video object layer) and 6.2.5 (video object plane).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import av
from av.bitstream import BitStreamFilterContext
from av.video.stream import VideoStream

from vidmatte.media.h264 import BitReader

_START = b"\0\0\1"
_VOP = b"\0\0\1\xb6"
_LAYERS = range(0x20, 0x30)  # start codes
_EXTENDED_ASPECT = 15
_VBV_BITS = 79
_HEAD = 64  # bytes that hold a layer's head


class CodedVops:
    """Distinguishes packets with a coded picture from those that repeat the one before, packet by
    packet. extradata: the codec's; may be empty."""

    waiting = None  # see FieldPairs
    is_intra = False

    def __init__(self, extradata: bytes) -> None:
        self._time_bits: int | None = None
        self._learn(extradata)

    def begins_frame(self, data: memoryview) -> bool:
        """Whether the next packet has a coded picture."""
        whole = bytes(data)
        self._learn(whole)
        at = whole.find(_VOP)
        while at >= 0:
            if self._is_coded(whole[at + len(_VOP) : at + _HEAD]):
                return True
            at = whole.find(_VOP, at + len(_VOP))
        return False

    def _is_coded(self, head: bytes) -> bool:
        """Whether the VOP after a start code is coded; true where its head cannot be read."""
        if self._time_bits is None:
            return True
        bits = BitReader(head)
        try:
            bits.u(2)
            while bits.u():
                pass
            bits.u(2 + self._time_bits)
            return bool(bits.u())
        except IndexError:
            return True

    def _learn(self, data: bytes) -> None:
        """Remember how long times are where ``data`` has the head of a layer before a picture."""
        at = data.find(_START)
        while 0 <= at < len(data) - 4 and data[at + 3] != _VOP[3]:
            if data[at + 3] in _LAYERS:
                self._read_layer(BitReader(data[at + 4 : at + 4 + _HEAD]))
            at = data.find(_START, at + 3)

    def _read_layer(self, bits: BitReader) -> None:
        version = 1
        try:
            bits.u(1 + 8)
            if bits.u():
                version = bits.u(4)
                bits.u(3)
            if bits.u(4) == _EXTENDED_ASPECT:
                bits.u(8 + 8)
            if bits.u():
                bits.u(2 + 1)
                if bits.u():
                    bits.u(_VBV_BITS)
            if bits.u(2) == 3 and version != 1:
                bits.u(4)
            bits.u()
            self._time_bits = max(1, (bits.u(16) - 1).bit_length())
        except IndexError:  # damaged: the decoder reports it
            return


def unpacked(packets: Iterable[av.Packet], stream: VideoStream) -> Iterator[av.Packet]:
    """The packets of an MPEG-4 stream with one frame each, as FFmpeg's filter divides them."""
    divide = BitStreamFilterContext("mpeg4_unpack_bframes", stream)
    for packet in packets:
        if not packet.size:
            yield packet
            continue
        for one in divide.filter(packet):
            one.stream = stream
            yield one

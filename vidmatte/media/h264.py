"""H.264 in which the two fields of a frame are packets of their own (PAFF): which belong together.

FFmpeg's demuxers and PyAV hand out such packets without a word on what is in them. Parameter sets
and slice headers are read as in ITU-T H.264, 7.3.2.1, 7.3.2.2 and 7.3.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_SLICES, _IDR, _SPS, _PPS = (1, 5), 5, 7, 8  # NAL unit types
_WITH_CHROMA_FORMAT = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
_INTRA_PROFILES = (110, 122, 244)  # where constraint_set3_flag is set
_CAVLC_444_INTRA = 44
_HEAD = 64  # bytes in which a slice's header has what is read of it
_MOST_BITS = 32  # of an Exp-Golomb code


class BitReader:
    """The bits of a NAL unit. Raises IndexError at its end, ValueError for what is no code."""

    def __init__(self, data: bytes) -> None:
        data = data.replace(b"\0\0\3", b"\0\0")  # emulation prevention
        self._bits, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def u(self, count: int = 1) -> int:
        """An unsigned number of ``count`` bits."""
        self._left -= count
        if self._left < 0:
            raise IndexError("the NAL unit ends early")
        return self._bits >> self._left & ((1 << count) - 1)

    def ue(self) -> int:
        """An Exp-Golomb code."""
        zeros = 0
        while not self.u():
            zeros += 1
            if zeros > _MOST_BITS:
                raise ValueError("not an Exp-Golomb code")
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        """A signed Exp-Golomb code."""
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)


@dataclass(frozen=True)
class _Sps:
    """What slice headers depend on. is_intra: of a profile in which each packet is a frame."""

    has_fields: bool
    frame_num_bits: int
    has_colour_planes: bool
    is_intra: bool


def _read_sps(bits: BitReader) -> tuple[int, _Sps]:
    """A sequence parameter set and its number."""
    profile, constraints = bits.u(8), bits.u(8)
    bits.u(8)
    number = bits.ue()
    colour_planes = False
    if profile in _WITH_CHROMA_FORMAT:
        chroma = bits.ue()
        colour_planes = chroma == 3 and bool(bits.u())
        bits.ue(), bits.ue(), bits.u()
        if bits.u():
            _skip_scaling_lists(bits, 8 if chroma != 3 else 12)
    frame_num_bits = bits.ue() + 4
    order = bits.ue()
    if order == 0:
        bits.ue()
    elif order == 1:
        bits.u(), bits.se(), bits.se()
        for _ in range(bits.ue()):
            bits.se()
    bits.ue(), bits.u(), bits.ue(), bits.ue()
    intra = profile == _CAVLC_444_INTRA or (profile in _INTRA_PROFILES and constraints & 0x10 > 0)
    return number, _Sps(not bits.u(), frame_num_bits, colour_planes, intra)


def _skip_scaling_lists(bits: BitReader, count: int) -> None:
    """7.3.2.1.1.1: ``count`` lists, each present or not."""
    for number in range(count):
        if not bits.u():
            continue
        last = following = 8
        for _ in range(16 if number < 6 else 64):
            if following:
                following = (last + bits.se()) % 256
            last = following or last


class _Field(NamedTuple):
    """What a slice says of the field that it is of. parity: 1 for the bottom field."""

    frame_num: int
    parity: int
    is_idr: bool

    def completes(self, first: _Field | None) -> bool:
        """Whether it is the second field of the frame that ``first`` begins, as FFmpeg's decoder
        has it; an IDR field completes no other."""
        return first is not None and self in (
            (first.frame_num, 1 - first.parity, False),
            (first.frame_num, 1 - first.parity, first.is_idr),
        )


class FieldPairs:
    """Distinguishes the second field of a frame from packets that begin one, packet by packet.

    extradata: the codec's, as avcC or as NAL units with start codes; may be empty.
    """

    def __init__(self, extradata: bytes) -> None:
        self._sps: dict[int, _Sps] = {}
        self._pps: dict[int, int] = {}  # its SPS
        self._first: _Field | None = None  # a field without second
        self._prefix = 0  # bytes of a NAL unit's length; 0: start codes
        if extradata[:1] == b"\1" and len(extradata) > 6:
            self._prefix = (extradata[4] & 3) + 1
        for unit in _avcc_sets(extradata) if self._prefix else _by_start_code(extradata):
            self._learn(unit)

    @property
    def waiting(self) -> int | None:
        """The parity of the latest packet where that is a field whose second is still to come."""
        return None if self._first is None else self._first.parity

    @property
    def are_possible(self) -> bool:
        """Whether pictures may be fields: also where no parameter set is known yet."""
        return not self._sps or any(sps.has_fields for sps in self._sps.values())

    @property
    def is_intra(self) -> bool:
        """Whether all parameter sets are of intra profiles: their encoders write whole frames."""
        return bool(self._sps) and all(sps.is_intra for sps in self._sps.values())

    def begins_frame(self, data: memoryview) -> bool:
        """Whether the next packet begins a frame: false for one with the second field alone."""
        fields: list[_Field | None] = []
        for unit in self._units(data):
            self._learn(unit)
            if unit and unit[0] & 31 in _SLICES:
                field = self._field_of(unit[0] & 31 == _IDR, bytes(unit[1:_HEAD]))
                if not fields or fields[-1] != field:
                    fields.append(field)
                if field is None:
                    break
        begins = not fields  # what cannot be read counts as a frame
        for field in fields:
            if field is None:
                self._first, begins = None, True
            elif field.completes(self._first):
                self._first = None
            else:
                self._first, begins = field, True
        return begins

    def _units(self, data: memoryview) -> Iterator[memoryview]:
        return _by_length(data, self._prefix) if self._prefix else _by_start_code(data)

    def _learn(self, unit: bytes | memoryview) -> None:
        """Remember a parameter set."""
        kind = unit[0] & 31 if unit else 0
        if kind not in (_SPS, _PPS):
            return
        bits = BitReader(bytes(unit[1:]))
        try:
            if kind == _SPS:
                number, sps = _read_sps(bits)
                self._sps[number] = sps
            else:
                self._pps[bits.ue()] = bits.ue()
        except (IndexError, ValueError):  # damaged: the decoder reports it
            return

    def _field_of(self, is_idr: bool, head: bytes) -> _Field | None:
        """The field that a slice is of; None for that of a frame, and where its header cannot be
        read."""
        bits = BitReader(head)
        try:
            bits.ue(), bits.ue()
            sps = self._sps[self._pps[bits.ue()]]
            if not sps.has_fields:
                return None
            if sps.has_colour_planes:
                bits.u(2)
            frame_num = bits.u(sps.frame_num_bits)
            is_field = bits.u()
            return _Field(frame_num, bits.u(), is_idr) if is_field else None
        except (IndexError, KeyError, ValueError):
            return None


def _avcc_sets(extradata: bytes) -> Iterator[bytes]:
    """The parameter sets of an avcC record (ISO/IEC 14496-15, 5.3.3.1)."""
    at, count = 6, extradata[5] & 31
    for left in (1, 0):
        for _ in range(count):
            size = int.from_bytes(extradata[at : at + 2], "big")
            yield extradata[at + 2 : at + 2 + size]
            at += 2 + size
        if left and at < len(extradata):
            count, at = extradata[at], at + 1
        else:
            count = 0


def _by_length(data: memoryview, prefix: int) -> Iterator[memoryview]:
    """NAL units that follow their lengths of ``prefix`` bytes."""
    at = 0
    while at + prefix < len(data):
        size = int.from_bytes(data[at : at + prefix], "big")
        at += prefix
        yield data[at : at + size]
        at += size


def _by_start_code(data: bytes | memoryview) -> Iterator[memoryview]:
    """NAL units between start codes."""
    whole = bytes(data)
    view = memoryview(whole)
    at = whole.find(b"\0\0\1")
    while at >= 0:
        following = whole.find(b"\0\0\1", at + 3)
        yield view[at + 3 : following if following >= 0 else len(whole)]
        at = following

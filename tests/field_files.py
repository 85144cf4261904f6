"""Files as cameras, recorders and old tools leave them, which no encoder here writes.

Field-coded H.264 is written bit by bit from ITU-T H.264, its samples uncompressed; the others are
copies of encoded clips in which packets lose their times or change their form.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from codes import code_planes
from media import BT709
from scene import draw_ball

SIDE = 64  # pixels: width and height of the field-coded clips


class _Bits:
    """A bit string with the codes of H.264."""

    def __init__(self) -> None:
        self.text = ""

    def u(self, value: int, count: int = 1) -> _Bits:
        """``count`` bits."""
        self.text += f"{value:0{count}b}"
        return self

    def ue(self, *values: int) -> _Bits:
        """Exp-Golomb codes; se(0) is the same as ue(0)."""
        for value in values:
            digits = f"{value + 1:b}"
            self.text += "0" * (len(digits) - 1) + digits
        return self

    def pcm(self, samples: bytes) -> _Bits:
        """Samples at the next full byte."""
        self.text += "0" * (-len(self.text) % 8)
        self.text += f"{int.from_bytes(samples, 'big'):0{8 * len(samples)}b}"
        return self

    def unit(self, head: int) -> bytes:
        """The bits as a NAL unit with the stop bit, its start code and its guard bytes."""
        text = self.text + "1"
        text += "0" * (-len(text) % 8)
        body, zeros = bytearray(), 0
        for byte in int(text, 2).to_bytes(len(text) // 8, "big"):
            if zeros >= 2 and byte <= 3:
                body.append(3)
                zeros = 0
            body.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return b"\0\0\0\1" + bytes([head]) + bytes(body)


def _parameter_sets() -> bytes:
    """SPS (Main profile, 64x64 with fields, 50 fields a second) and PPS (CAVLC)."""
    sps = _Bits().u(77, 8).u(0, 8).u(30, 8).ue(0, 0, 2, 1).u(0).ue(SIDE // 16 - 1, SIDE // 32 - 1)
    sps.u(0b00101, 5)  # fields, no MBAFF, direct_8x8_inference, no cropping, VUI
    sps.u(0, 4).u(1).u(1, 32).u(50, 32).u(1).u(0, 4)
    pps = _Bits().ue(0, 0).u(0, 2).ue(0, 0, 0).u(0, 3).ue(0, 0, 0).u(0, 3)
    return sps.unit(0x67) + pps.unit(0x68)


def _picture(
    planes: Sequence[np.ndarray], number: int, parity: int | None, head: int, frame_num: int
) -> bytes:
    """One picture of I_PCM macroblocks: a field of ``parity`` or, None, a frame."""
    slice_ = _Bits().ue(0, 7, 0).u(frame_num, 4)
    slice_.u(0) if parity is None else slice_.u(1).u(parity)
    if head & 31 == 5:
        slice_.ue(number % 2).u(0, 2)
    else:
        slice_.u(0)
    slice_.ue(0)
    for row in range(planes[0].shape[0] // 16):
        for column in range(SIDE // 16):
            slice_.ue(25)
            block = b""
            for plane, size in zip(planes, (16, 8, 8), strict=True):
                at = np.s_[row * size : (row + 1) * size, column * size : (column + 1) * size]
                block += plane[at].tobytes()
            slice_.pcm(block)
    return b"\0\0\0\1\x09\xf0" + slice_.unit(head)


def field_units(
    frames: int, framed: Sequence[int] = (), group: int = 1
) -> Iterator[tuple[int, bytes]]:
    """The access units of a clip of ``draw_ball``, each with its time in fields: two fields a
    frame, but for the frames of ``framed``, which are one picture each. group: frames from one
    IDR picture to the next."""
    for number in range(frames):
        planes = code_planes(draw_ball(number, SIDE, SIDE).rgb, "yuv420p", BT709)
        planes = [np.clip(plane, 1, 254) for plane in planes]
        first, frame_num = 0x61 if number % group else 0x65, number % group % 16
        if number in framed:
            yield 2 * number, _parameter_sets() + _picture(planes, number, None, first, frame_num)
            continue
        for parity, head in ((0, first), (1, 0x61)):
            field = [plane[parity::2] for plane in planes]
            picture = _picture(field, number // group, parity, head, frame_num)
            yield 2 * number + parity, (b"" if parity else _parameter_sets()) + picture


@lru_cache(maxsize=8)
def _stored_units(frames: int, framed: tuple[int, ...], group: int) -> list[tuple[int, bytes]]:
    """The same for several containers."""
    return list(field_units(frames, framed, group))


def make_field_coded(
    path: Path,
    frames: int = 12,
    *,
    framed: Sequence[int] = (),
    lost: Sequence[int] = (),
    joined: bool = False,
    group: int = 1,
) -> Path:
    """H.264 of 25 frames a second in which each field is a packet of its own.

    framed: frames that are coded as one picture. lost: numbers of fields that are missing.
    group: see ``field_units``. joined: both fields of a frame in one packet, as most cameras write
    MP4.
    """
    units = [unit for unit in _stored_units(frames, tuple(framed), group) if unit[0] not in lost]
    if joined:
        whole: dict[int, bytes] = {}
        for at, data in units:
            whole[at // 2 * 2] = whole.get(at // 2 * 2, b"") + data
        units = list(whole.items())
    raw = io.BytesIO(b"".join(data for _, data in units))
    with av.open(raw, format="h264") as given, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(given.streams.video[0])
        for at, data in units:
            packet = av.Packet(data)
            packet.pts = packet.dts = at * 1800
            packet.duration = 1800
            packet.time_base, packet.stream = Fraction(1, 90000), stream
            packet.is_keyframe = at % (2 * group) == 0
            target.mux(packet)
    return path


def without_composition_times(movie: Path, path: Path, *, shifted: bool = True) -> Path:
    """A copy whose packets are presented, as they state it, when they are decoded.

    shifted: from zero on; else as in ``movie``, whose first packets lie before zero.
    """
    with av.open(str(movie)) as given, av.open(str(path), "w") as target:
        streams = {
            stream.index: target.add_stream_from_template(stream) for stream in given.streams
        }
        first: int | None = None
        for packet in given.demux():
            if not packet.size:
                continue
            if packet.stream.type == "video":
                first = packet.dts if first is None and shifted else first
                packet.pts = packet.dts = packet.dts - (first or 0)
            packet.stream = streams[packet.stream_index]
            target.mux(packet)
    return path


def joined_tracks(movies: Sequence[Path], path: Path, default: int | None) -> Path:
    """A movie with the tracks of several; the one of ``default``, from 0 on, is marked so."""
    with av.open(str(path), "w") as target:
        opened = [av.open(str(movie)) for movie in movies]
        streams = [target.add_stream_from_template(given.streams.video[0]) for given in opened]
        for number, stream in enumerate(streams):
            stream.disposition = av.stream.Disposition(number == default)
        for given, stream in zip(opened, streams, strict=True):
            for packet in given.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    target.mux(packet)
            given.close()
    return path


_VOP = b"\0\0\1\xb6"


def _is_b_frame(vop: bytes) -> bool:
    """Whether an MPEG-4 packet is a B-VOP."""
    return vop[vop.index(_VOP) + 4] >> 6 == 2


def _not_coded(number: int) -> bytes:
    """A P-VOP that is not coded (ISO/IEC 14496-2, 6.2.5), at 25 ticks a second."""
    bits = f"0101{number % 25:05b}10"
    bits += "0" + "1" * (-(len(bits) + 1) % 8)
    return _VOP + int(bits, 2).to_bytes(len(bits) // 8, "big")


def _write_chunks(path: Path, movie: Path, chunks: Sequence[bytes]) -> Path:
    """An MPEG-4 movie with the head of another, 25 packets a second."""
    with av.open(str(movie)) as given, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(given.streams.video[0])
        for number, chunk in enumerate(chunks):
            packet = av.Packet(chunk)
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = Fraction(1, 25), stream
            packet.is_keyframe = number == 0
            target.mux(packet)
    return path


def _chunks_of(movie: Path) -> list[bytes]:
    """The packets of a movie in the file's order."""
    with av.open(str(movie)) as given:
        return [bytes(packet) for packet in given.demux(video=0) if packet.size]


def packed(movie: Path, path: Path, *, signed: bool = True) -> Path:
    """A copy of an MPEG-4 movie of 25 frames a second as DivX packs it into AVI: a reference frame
    and the first B-frame after it share a packet, and a frame that is not coded ends their group.

    signed: with the user data by which DivX says so.
    """
    groups: list[list[bytes]] = []
    for vop in _chunks_of(movie):
        if _is_b_frame(vop):
            groups[-1].append(vop)
        else:
            groups.append([vop])
    chunks: list[bytes] = []
    for group in groups:
        chunks += [b"".join(group[:2]), *group[2:]]
        chunks += [_not_coded(len(chunks))] * (len(group) > 1)
    if signed:
        chunks[0] = b"\0\0\1\xb2DivX503b1393p" + chunks[0]
    return _write_chunks(path, movie, chunks)


def with_places_filled(movie: Path, path: Path, at: int, count: int) -> Path:
    """A copy of an MPEG-4 movie with ``count`` frames that are not coded before frame ``at``."""
    chunks = _chunks_of(movie)
    chunks[at:at] = [_not_coded(at + number) for number in range(count)]
    return _write_chunks(path, movie, chunks)

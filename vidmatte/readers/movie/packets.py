"""The packets of a movie's picture: which of them begin a frame, and when it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from vidmatte.media.h264 import FieldPairs
from vidmatte.media.mpeg4 import CodedVops, unpacked
from vidmatte.readers.movie.missing_timestamps import MAX_REORDER, in_display_order

#: Containers that may store only the decoding order of frames.
DECODE_ORDER_ONLY = {"avi", "mxf"}
#: Streams without a container: they have no timestamps but those that FFmpeg invents.
RAW_STREAMS = {"h264", "hevc", "vvc", "obu", "mjpeg", "dirac", "cavsvideo", "avs2", "avs3", "vc1"}
#: Containers with one time a packet, of its decoding; its pts is guessed by FFmpeg.
DTS_ONLY = {"avi", "asf"}
TRUNCATED = "the file is truncated"
_DAY_S = 86_400  # seconds between two frames, which are damage
_MOST_FAILURES = 3  # in a row, after which nothing follows that can be read
_CHUNK = 1 << 20  # bytes


class Stamps(Enum):
    """Where a frame's time is in its packet.

    PTS: the pts, or the dts where it is missing. DTS: the dts, see ``DTS_ONLY``. COUNT: nowhere;
    frames are numbered from 0.
    """

    PTS = "pts"
    DTS = "dts"
    COUNT = "count"


def packets_from(
    container: InputContainer, *streams: Stream, failures: list[str] | None = None
) -> Iterator[av.Packet]:
    """The packets of ``streams``, or of all, in the file's order, and an empty one of each at
    the end.

    PyAV 18.1 raises IndexError at a packet of a stream that first appears in the middle, as in
    damaged transport streams; it is skipped. failures: where it is given, what the demuxer cannot
    read is skipped too, and its reasons are added; a file that cannot be read is still an error.
    Raises av.FFmpegError.
    """
    in_a_row = 0
    while in_a_row <= _MOST_FAILURES:
        try:
            for packet in container.demux(*streams):
                in_a_row = 0
                if failures is not None and packet.is_corrupt and _is_incomplete(packet, container):
                    failures.append(TRUNCATED)
                    continue
                yield packet
            return
        except IndexError:
            continue  # that packet has been read: go on with the next
        except av.error.FFmpegError as error:
            if failures is None or (isinstance(error, OSError) and not _is_readable(container)):
                raise
            failures.append(error.strerror or str(error))
            in_a_row += 1
    for stream in streams:
        last = av.Packet()
        last.stream = stream
        yield last


def _is_incomplete(packet: av.Packet, container: InputContainer) -> bool:
    """Whether the file ends before the packet does, in containers that state both exactly."""
    if packet.pos is None or not container.format.name.startswith("mov"):
        return False
    return packet.pos + packet.size >= Path(container.name).stat().st_size


def _is_readable(container: InputContainer) -> bool:
    """Whether the system can read the file: demuxers report "I/O error" for damage too."""
    try:
        with Path(container.name).open("rb") as file:
            while file.read(_CHUNK):
                pass
    except OSError:
        return False
    return True


def frame_starts(stream: VideoStream) -> FieldPairs | CodedVops | None:
    """What distinguishes packets that begin a frame from others; None where all of them do."""
    context = stream.codec_context
    if context.name == "mpeg4":
        return CodedVops(context.extradata or b"")
    if context.name != "h264":
        return None
    pairs = FieldPairs(context.extradata or b"")
    return pairs if pairs.are_possible else None


def divided(packets: Iterable[av.Packet], stream: VideoStream) -> Iterable[av.Packet]:
    """The packets of ``stream``, none with more than one frame."""
    return unpacked(packets, stream) if stream.codec_context.name == "mpeg4" else packets


def frame_packets(
    packets: Iterable[av.Packet],
    starts: FieldPairs | CodedVops | None,
    stamps: Stamps | None = None,
) -> Iterator[tuple[av.Packet, bool]]:
    """Each packet of a stream, and whether it begins a frame, rather than adding a second field
    to one, repeating one or ending the stream.

    starts: see ``frame_starts``. stamps: what becomes the pts of the frame that is decoded from a
    packet; None leaves the pts.
    """
    number = 0
    for packet in packets:
        begins = packet.size > 0 and (starts is None or starts.begins_frame(memoryview(packet)))
        if stamps is Stamps.COUNT and packet.size:
            number += begins
            packet.pts = packet.dts = number - 1
        elif stamps is not None and begins:
            packet.pts = _stamp_of(packet, stamps)
        yield packet, begins


def _stamp_of(packet: av.Packet, stamps: Stamps) -> int | None:
    """The time of a packet's frame by PTS or DTS."""
    if stamps is Stamps.PTS and packet.pts is not None:
        return packet.pts
    return packet.dts


@dataclass
class PacketTimes:
    """The timestamps of a stream's frames in its time base, in the order of the file.

    all: those of every frame that has one; plausible: without duplicate and out-of-order ones.
    without: how many frames have none; last: how many of those come last. jump_back: the number
    of the frame at which the times go back and stay there; None where they do not. fields: how
    many packets are the second field of a frame. first_key: time of the first key frame.
    is_rising: each is later than the one before. is_intra: all are key frames. are_dts: see
    ``Stamps.DTS``. numbers: how many ``Stamps.COUNT`` gives, but for a last field alone.
    failures: why parts of the file could not be read.
    """

    all: list[int] = field(default_factory=list)
    plausible: list[int] = field(default_factory=list)
    without: int = 0
    last: int = 0
    jump_back: int | None = None
    fields: int = 0
    first_key: int | None = None
    is_rising: bool = True
    is_intra: bool = True
    are_dts: bool = False
    numbers: int = 0
    failures: list[str] = field(default_factory=list)


def read_packet_times(
    container: InputContainer, stream: VideoStream, stamps: Stamps, *, to_first_drop: bool = False
) -> PacketTimes:
    """Every frame's timestamp, by reading all packets of a container that was not read yet.

    to_first_drop: stop where a timestamp is earlier than the one before.
    """
    found = PacketTimes(are_dts=stamps is Stamps.DTS)
    starts = frame_starts(stream)
    packets = divided(packets_from(container, stream, failures=found.failures), stream)
    frames = _shown_frames(frame_packets(packets, starts), starts, found, stamps)
    going_back = 0  # packets in succession
    for number, (packet, follows) in enumerate(in_display_order(frames, _decoded_at)):
        stamp = _stamp_of(packet, stamps)
        if stamp is not None and found.all and (stamp - found.all[-1]) * packet.time_base > _DAY_S:
            stamp = None  # garbage after the last frame
        if stamp is None:
            found.without, found.last = found.without + 1, found.last + 1
            continue
        found.last = 0
        found.is_rising &= not found.all or stamp > found.all[-1]
        found.all.append(stamp)
        if to_first_drop and not found.is_rising:
            break
        if follows:
            going_back = 0
            found.plausible.append(stamp)
        else:
            going_back += 1
            if going_back > MAX_REORDER and found.jump_back is None:
                found.jump_back = number - MAX_REORDER
    return found


def _shown_frames(
    read: Iterable[tuple[av.Packet, bool]],
    starts: FieldPairs | CodedVops | None,
    found: PacketTimes,
    stamps: Stamps,
) -> Iterator[av.Packet]:
    """The packets that begin a frame that is shown; notes in ``found`` what the others are.

    A field whose second is missing is shown by no decoder. It counts as a damaged frame where its
    time is one: where it has the parity of other first fields, and more frames follow.
    """
    has_key = False
    held: av.Packet | None = None
    alone = usual = None  # parity of a field without second, and of the first fields
    for packet, begins in read:
        if not begins:
            if packet.size and isinstance(starts, FieldPairs):
                found.fields, usual, alone = found.fields + 1, alone, None
            continue
        if held is not None and (alone is None or alone == usual):
            yield held
        alone, held = None if starts is None else starts.waiting, None
        found.numbers += 1
        found.is_intra &= packet.is_keyframe
        has_key |= packet.is_keyframe
        if packet.is_discard:
            continue
        if has_key and found.first_key is None:
            found.first_key = _stamp_of(packet, stamps)
        held = packet
    if held is not None and alone is None:
        yield held
    found.numbers -= alone is not None


def _decoded_at(packet: av.Packet) -> int | None:
    """A packet's dts, which grows from packet to packet. The pts is no substitute where it is
    missing: among the dts of others it goes back wherever frames are reordered."""
    return packet.dts

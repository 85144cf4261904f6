"""A movie's frames from its packets, in order; from damaged ones as far as there are any."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, dropwhile, islice
from pathlib import Path

import av

from vidmatte.media.ffv1 import have_checksums, intact_packets
from vidmatte.readers.movie.container import (
    open_container,
    packets_of,
    picture_stream,
    read_errors_as,
)
from vidmatte.readers.movie.timing import Timing

#: Containers that time only some of their packets: after a jump the rest would be guessed.
DETECT_ERRORS = {"mpeg"}
#: Takes a packet that does not decode, and the reason.
_Report = Callable[[av.Packet, str], None]


@dataclass
class _DecodeProgress:
    """The latest times of packets that were read and of frames that came of them, in the
    stream's time base, None before the first; how many there were of both, and how many
    packets failed."""

    read: int | None = None
    given: int | None = None
    packets: int = 0
    frames: int = 0
    failed: int = 0

    @property
    def is_missing_frames(self) -> bool:
        """Whether the last frames did not come."""
        return self.read is not None and self.is_beyond(self.read)

    def is_beyond(self, pts: int | None) -> bool:
        """Whether a time comes after those of all frames that were given."""
        return pts is not None and (self.given is None or pts > self.given)


class PacketDecoder:
    """The open file of a movie. tell: called with the reason where a packet does not decode;
    what it raises ends the reading."""

    def __init__(self, path: Path, timing: Timing, tell: Callable[[str], None]) -> None:
        self._path, self._timing, self._tell = path, timing, tell
        self.container = open_container(path)
        self._has_checksums = False
        if picture_stream(self.container, path).codec_context.name == "ffv1":
            with open_container(path) as other:
                first = packets_of(other, picture_stream(other, path), path)
                self._has_checksums = have_checksums(first)

    def close(self) -> None:
        """Let go of the file; harmless when done twice, fatal under a reading thread."""
        self.container.close()

    def reopen(self) -> None:
        """Begin again at the start of the file."""
        self.container.close()
        self.container = open_container(self._path)

    def frames(self, start: Fraction | None) -> Iterator[av.VideoFrame]:
        """Frames in order: all, or from a key frame on, where the container can tell one at
        or before ``start`` (seconds of its timeline).

        Where one of the last packets does not decode, FFmpeg's frame threads lose the good
        frames that the decoder still holds: these are decoded once more without such threads.
        """
        reach = _DecodeProgress()

        def tell(_: av.Packet, reason: str) -> None:
            self._tell(reason)

        def tell_later(packet: av.Packet, reason: str) -> None:
            if done.is_beyond(packet.pts):  # the others were told before
                self._tell(reason)

        yield from _decoded(self._packets(start, "AUTO", tell), tell, reach)
        if self._timing.is_reordered:  # times do not tell, and counts only where nothing failed
            if reach.frames < reach.packets and not reach.failed:
                self.reopen()
                frames = _decoded(self._packets(None, "SLICE", tell), tell, _DecodeProgress())
                yield from islice(frames, reach.frames, None)
        elif reach.is_missing_frames:
            done = _DecodeProgress(given=reach.given)
            self.reopen()
            if done.given is not None and self.container.format.name not in DETECT_ERRORS:
                start = done.given * self._timing.stream_time_base
            packets = self._packets(start, "SLICE", tell_later)
            first = next(packets, None)
            if first is None or done.is_beyond(first.pts):  # the jump missed
                self.reopen()
                packets = self._packets(None, "SLICE", tell_later)
            else:
                packets = chain([first], packets)
            frames = _decoded(packets, tell_later, _DecodeProgress())
            yield from dropwhile(lambda frame: not done.is_beyond(frame.pts), frames)

    def _packets(self, start: Fraction | None, threads: str, tell: _Report) -> Iterator[av.Packet]:
        """The packets for ``frames``. threads: PyAV's name of those that the decoder may use."""
        stream = picture_stream(self.container, self._path)
        stream.thread_type = threads
        packets = packets_of(self.container, stream, self._path)
        if start is not None:
            stamp = int(start / self._timing.stream_time_base)
            with read_errors_as(self._path):
                self.container.seek(stamp, stream=stream, backward=True)
            packets = dropwhile(lambda packet: not packet.is_keyframe, packets)
        return intact_packets(packets, tell) if self._has_checksums else packets


def _decoded(
    packets: Iterable[av.Packet], tell: _Report, reach: _DecodeProgress
) -> Iterator[av.VideoFrame]:
    """Frames in order; packets that do not decode are passed over and told.

    Decoders answer damage with any of FFmpeg's errors, "operation not permitted" too.
    """
    for packet in packets:
        if packet.pts is not None and not packet.is_discard:
            reach.read = packet.pts if reach.read is None else max(reach.read, packet.pts)
        reach.packets += packet.size > 0 and not packet.is_discard
        try:
            frames = packet.decode()
        except MemoryError:  # FFmpeg's too; damage, whatever else it gives, gives none
            raise
        except av.error.FFmpegError as error:
            reach.failed += packet.size > 0
            tell(packet, error.strerror or str(error))
            continue
        for frame in frames:
            assert isinstance(frame, av.VideoFrame)
            reach.frames += 1
            if reach.is_beyond(frame.pts):
                reach.given = frame.pts
            yield frame

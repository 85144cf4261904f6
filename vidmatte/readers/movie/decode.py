"""Decoding a movie's packets to frames in order, past packets that do not decode."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, dropwhile, islice

import av

from vidmatte.media.ffv1 import have_checksums, intact_packets
from vidmatte.readers.movie.container import MovieFile, packets_of, read_errors_as
from vidmatte.readers.movie.missing_timestamps import MAX_REORDER
from vidmatte.readers.movie.packets import DECODE_ORDER_ONLY, Stamps, frame_packets, frame_starts
from vidmatte.readers.movie.timing import Timing

#: Containers with timestamps on some packets only: after a seek the others would be guessed.
_SOME_TIMES = {"mpeg"}
#: Called with a packet that does not decode, and the reason.
_Report = Callable[[av.Packet, str], None]


@dataclass
class _DecodeProgress:
    """How far decoding has come.

    read_pts, decoded_pts: the latest of the packets read and of the frames decoded, in the
    stream's time base, None before the first. last_read, last_decoded: those of the last ones.
    frames, failed: how many frames were decoded, and packets that did not decode.
    """

    read_pts: int | None = None
    decoded_pts: int | None = None
    last_read: deque[int] = field(default_factory=lambda: deque(maxlen=MAX_REORDER))
    last_decoded: deque[int | None] = field(default_factory=lambda: deque(maxlen=4 * MAX_REORDER))
    frames: int = 0
    failed: int = 0

    def has_read(self, pts: int) -> None:
        """Note a packet that begins a frame."""
        self.read_pts = pts if self.read_pts is None else max(self.read_pts, pts)
        self.last_read.append(pts)

    def has_decoded(self, pts: int | None) -> None:
        """Note a frame."""
        self.frames += 1
        self.last_decoded.append(pts)
        if self.is_beyond(pts):
            self.decoded_pts = pts

    @property
    def is_missing_frames(self) -> bool:
        """Whether the last frames were not decoded."""
        return self.read_pts is not None and self.is_beyond(self.read_pts)

    @property
    def is_missing_last(self) -> bool:
        """Whether one of the last packets gave no frame, of timestamps in decoding order."""
        return not set(self.last_read) <= set(self.last_decoded)

    def is_beyond(self, pts: int | None) -> bool:
        """Whether ``pts`` is later than those of all decoded frames."""
        return pts is not None and (self.decoded_pts is None or pts > self.decoded_pts)


class PacketDecoder:
    """The open file of a movie.

    on_error: called with the reason where a packet does not decode; an exception from it ends
    the decoding.
    """

    def __init__(self, file: MovieFile, timing: Timing, on_error: Callable[[str], None]) -> None:
        self._file, self._timing, self._on_error = file, timing, on_error
        self.container = file.open()
        self._has_checksums = False
        if file.stream(self.container).codec_context.name == "ffv1":
            with file.open() as other:
                first = packets_of(other, file.stream(other), file.path)
                self._has_checksums = have_checksums(first)

    @property
    def can_seek(self) -> bool:
        """Whether frames have their own times after a seek too, not those of a count."""
        container, timing = self.container.format.name, self._timing
        if timing.is_reordered and container in DECODE_ORDER_ONLY:
            return False
        return timing.stamps is not Stamps.COUNT and container not in _SOME_TIMES

    def close(self) -> None:
        """Close the file; safe to call twice, never while a thread decodes."""
        self.container.close()

    def reopen(self) -> None:
        """Start again at the beginning of the file."""
        self.container.close()
        self.container = self._file.open()

    def frames(self, start: Fraction | None) -> Iterator[av.VideoFrame]:
        """Frames in order: all, or from a key frame at or before ``start`` (seconds of the
        container's timeline) where the container has one.

        Where one of the last packets does not decode, FFmpeg's frame threads drop the good
        frames that the decoder still holds: these are decoded again without frame threads.
        """
        progress = _DecodeProgress()

        def report(_: av.Packet, reason: str) -> None:
            self._on_error(reason)

        def report_new(packet: av.Packet, reason: str) -> None:
            if done.is_beyond(packet.pts):  # the earlier ones have been reported
                self._on_error(reason)

        yield from self._decoded(self._packets(start, "AUTO", report), report, progress)
        if self._timing.is_reordered:  # pts are no help, and counts only where nothing failed
            if progress.is_missing_last and not progress.failed:
                self.reopen()
                packets = self._packets(start, "SLICE", report)
                frames = self._decoded(packets, report, _DecodeProgress())
                yield from islice(frames, progress.frames, None)
        elif progress.is_missing_frames:
            done = _DecodeProgress(decoded_pts=progress.decoded_pts)
            self.reopen()
            if done.decoded_pts is not None and self.container.format.name not in _SOME_TIMES:
                start = done.decoded_pts * self._timing.stream_time_base
            packets = self._packets(start, "SLICE", report_new)
            first = next(packets, None)
            if first is None or done.is_beyond(first.pts):  # the seek missed
                self.reopen()
                packets = self._packets(None, "SLICE", report_new)
            else:
                packets = chain([first], packets)
            frames = self._decoded(packets, report_new, _DecodeProgress())
            yield from dropwhile(lambda frame: not done.is_beyond(frame.pts), frames)

    def _packets(
        self, start: Fraction | None, thread_type: str, report: _Report
    ) -> Iterator[av.Packet]:
        """The packets for ``frames``. thread_type: of the decoder, by PyAV's name."""
        stream = self._file.stream(self.container)
        stream.thread_type = thread_type
        is_damaged = self._timing.failure is not None
        packets = packets_of(self.container, stream, self._file.path, is_damaged=is_damaged)
        if start is not None:
            stamp = int(start / self._timing.stream_time_base)
            with read_errors_as(self._file.path):
                self.container.seek(stamp, stream=stream, backward=True)
            packets = dropwhile(lambda packet: not packet.is_keyframe, packets)
        return intact_packets(packets, report) if self._has_checksums else packets

    def _decoded(
        self, packets: Iterable[av.Packet], report: _Report, progress: _DecodeProgress
    ) -> Iterator[av.VideoFrame]:
        """Frames in order; packets that do not decode are skipped and reported.

        Decoders raise any of FFmpeg's errors on damage, "operation not permitted" too.
        """
        stream = self._file.stream(self.container)
        for packet, begins in frame_packets(packets, frame_starts(stream), self._timing.rewritten):
            if begins and packet.pts is not None and not packet.is_discard:
                progress.has_read(packet.pts)
            try:
                frames = packet.decode()
            except MemoryError:  # FFmpeg's too; damage never raises it
                raise
            except av.error.FFmpegError as error:
                progress.failed += packet.size > 0
                report(packet, error.strerror or str(error))
                continue
            for frame in frames:
                assert isinstance(frame, av.VideoFrame)
                progress.has_decoded(frame.pts)
                yield frame

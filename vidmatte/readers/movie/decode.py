"""Decoding a movie's packets to frames in order, past packets that do not decode."""

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
from vidmatte.settings.values import MAX_PIXELS

#: Containers with timestamps on some packets only: after a seek the others would be guessed.
DETECT_ERRORS = {"mpeg"}
#: Called with a packet that does not decode, and the reason.
_Report = Callable[[av.Packet, str], None]


@dataclass
class _DecodeProgress:
    """How far decoding has come.

    read_pts, decoded_pts: the latest of the packets read and of the frames decoded, in the
    stream's time base, None before the first. packets, frames, failed: how many packets were
    read, frames decoded, and packets that did not decode.
    """

    read_pts: int | None = None
    decoded_pts: int | None = None
    packets: int = 0
    frames: int = 0
    failed: int = 0

    @property
    def is_missing_frames(self) -> bool:
        """Whether the last frames were not decoded."""
        return self.read_pts is not None and self.is_beyond(self.read_pts)

    def is_beyond(self, pts: int | None) -> bool:
        """Whether ``pts`` is later than those of all decoded frames."""
        return pts is not None and (self.decoded_pts is None or pts > self.decoded_pts)


class PacketDecoder:
    """The open file of a movie.

    on_error: called with the reason where a packet does not decode; an exception from it ends
    the decoding.
    """

    def __init__(
        self,
        path: Path,
        timing: Timing,
        on_error: Callable[[str], None],
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._path, self._timing, self._on_error = path, timing, on_error
        self._max_pixels = max_pixels
        self.container = open_container(path, max_pixels)
        self._has_checksums = False
        if picture_stream(self.container, path).codec_context.name == "ffv1":
            with open_container(path, max_pixels) as other:
                first = packets_of(other, picture_stream(other, path), path)
                self._has_checksums = have_checksums(first)

    def close(self) -> None:
        """Close the file; safe to call twice, never while a thread decodes."""
        self.container.close()

    def reopen(self) -> None:
        """Start again at the beginning of the file."""
        self.container.close()
        self.container = open_container(self._path, self._max_pixels)

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

        yield from _decoded(self._packets(start, "AUTO", report), report, progress)
        if self._timing.is_reordered:  # pts are no help, and counts only where nothing failed
            if progress.frames < progress.packets and not progress.failed:
                self.reopen()
                frames = _decoded(self._packets(None, "SLICE", report), report, _DecodeProgress())
                yield from islice(frames, progress.frames, None)
        elif progress.is_missing_frames:
            done = _DecodeProgress(decoded_pts=progress.decoded_pts)
            self.reopen()
            if done.decoded_pts is not None and self.container.format.name not in DETECT_ERRORS:
                start = done.decoded_pts * self._timing.stream_time_base
            packets = self._packets(start, "SLICE", report_new)
            first = next(packets, None)
            if first is None or done.is_beyond(first.pts):  # the seek missed
                self.reopen()
                packets = self._packets(None, "SLICE", report_new)
            else:
                packets = chain([first], packets)
            frames = _decoded(packets, report_new, _DecodeProgress())
            yield from dropwhile(lambda frame: not done.is_beyond(frame.pts), frames)

    def _packets(
        self, start: Fraction | None, thread_type: str, report: _Report
    ) -> Iterator[av.Packet]:
        """The packets for ``frames``. thread_type: of the decoder, by PyAV's name."""
        stream = picture_stream(self.container, self._path)
        stream.thread_type = thread_type
        packets = packets_of(self.container, stream, self._path)
        if start is not None:
            stamp = int(start / self._timing.stream_time_base)
            with read_errors_as(self._path):
                self.container.seek(stamp, stream=stream, backward=True)
            packets = dropwhile(lambda packet: not packet.is_keyframe, packets)
        return intact_packets(packets, report) if self._has_checksums else packets


def _decoded(
    packets: Iterable[av.Packet], report: _Report, progress: _DecodeProgress
) -> Iterator[av.VideoFrame]:
    """Frames in order; packets that do not decode are skipped and reported.

    Decoders raise any of FFmpeg's errors on damage, "operation not permitted" too.
    """
    for packet in packets:
        if packet.pts is not None and not packet.is_discard:
            latest = progress.read_pts
            progress.read_pts = packet.pts if latest is None else max(latest, packet.pts)
        progress.packets += packet.size > 0 and not packet.is_discard
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
            progress.frames += 1
            if progress.is_beyond(frame.pts):
                progress.decoded_pts = frame.pts
            yield frame

"""A movie's file, opened: its packets, its picture stream and its first frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from vidmatte.errors import SourceError, UsageError
from vidmatte.media.demux import not_readable, open_media
from vidmatte.media.limits import check_frame, too_large
from vidmatte.media.stated_size import missing_end
from vidmatte.readers.movie.packets import (
    Stamps,
    divided,
    frame_packets,
    frame_starts,
    packets_from,
)
from vidmatte.settings.values import MAX_PIXELS

if TYPE_CHECKING:
    from vidmatte.readers.movie.timing import Timing


@contextmanager
def read_errors_as(path: Path) -> Iterator[None]:
    """Turn FFmpeg's errors of reading, not of decoding, into SourceError."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise SourceError(
            f"{path}: reading it fails ({error.strerror}): is its drive still connected, and the"
            " file complete? copy it again"
        ) from error


def packets_of(
    container: InputContainer, stream: VideoStream, path: Path, *, is_damaged: bool = False
) -> Iterator[av.Packet]:
    """The packets of a stream, and an empty packet at its end. is_damaged: what the demuxer
    cannot read is skipped. Raises SourceError."""
    is_png = stream.codec_context.name == "png"
    with read_errors_as(path):
        packets = packets_from(container, stream, failures=[] if is_damaged else None)
        for packet in divided(packets, stream):
            if is_png and packet.size:
                check_frame(path, bytes(packet))
            yield packet


def open_container(path: Path, max_pixels: int | None = MAX_PIXELS) -> InputContainer:
    """Open a movie for reading; see ``open_media``. Raises SourceError, also where a stream's
    frames have more than ``max_pixels`` pixels."""
    try:
        container = open_media(path, max_pixels)
    except av.error.FFmpegError as error:
        raise not_readable(path, error, "movie") from error
    sizes = [(s.width, s.height) for s in container.streams.video if s.codec_context is not None]
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    if max_pixels is not None and width * height > max_pixels:
        container.close()
        raise too_large(path, f"{width}x{height}", max_pixels)
    return container


#: What the mark of a default track is worth in pixels where FFmpeg's tools choose one.
_WEIGHT_OF_DEFAULT = 5_000_000


def video_tracks(container: InputContainer) -> list[VideoStream]:
    """The video tracks in the container's order, without cover art."""
    cover = av.stream.Disposition.attached_pic
    videos = [one for one in container.streams.video if not one.disposition & cover]
    brands = container.metadata.get("compatible_brands", "")
    if "avis" in brands or "msf1" in brands:
        # The still picture of an animated AVIF or HEIC is a stream too, without a duration.
        return [stream for stream in videos if stream.duration is not None] or videos
    return videos


def is_default(stream: VideoStream) -> bool:
    """Whether a track is marked as the one to show."""
    return bool(stream.disposition & av.stream.Disposition.default)


def picture_stream(container: InputContainer, path: Path, track: int = 0) -> VideoStream:
    """Video track number ``track``, counted from 1, or, 0, the one that ffmpeg picks: the largest,
    where a default track counts as 5 million pixels more; only tracks that have a decoder.

    Raises SourceError; UsageError for a track that does not exist.
    """
    tracks = video_tracks(container)
    if not tracks:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise SourceError(f"{path}: it has no video stream (it has: {kinds})")
    if track > len(tracks):
        raise UsageError(
            f"--video-track {track}: {path.name} has {len(tracks)} video"
            f" track{'s' if len(tracks) > 1 else ''}: use a number from 1 to {len(tracks)}"
        )
    known = [stream for stream in tracks if stream.codec_context is not None]
    chosen = tracks[track - 1] if track else max(known, key=_rank, default=tracks[0])
    if chosen.codec_context is None:
        raise SourceError(f"{path}: no decoder for its video codec")
    return chosen


def _rank(stream: VideoStream) -> int:
    """How ffmpeg ranks a video track."""
    return stream.width * stream.height + _WEIGHT_OF_DEFAULT * is_default(stream)


@dataclass(frozen=True)
class MovieFile:
    """A movie's file and the video track of it that is read; track: see ``picture_stream``."""

    path: Path
    track: int = 0
    max_pixels: int = MAX_PIXELS

    def open(self) -> InputContainer:
        """See ``open_container``."""
        return open_container(self.path, self.max_pixels)

    def stream(self, container: InputContainer) -> VideoStream:
        """The track in ``container``, which ``open`` gave. Raises SourceError, UsageError."""
        return picture_stream(container, self.path, self.track)


def first_frame(
    container: InputContainer, stream: VideoStream, path: Path, timing: Timing
) -> tuple[av.VideoFrame, int]:
    """The first frame that decodes, and the pts that the clip begins with, in the stream's
    time base.

    Only a decoded frame states format, range and rotation reliably. Where packets before it do
    not decode, the clip begins with the earliest of them. Raises SourceError if nothing decodes.
    """
    undecodable: list[int] = []
    reason = "it has no frame"
    packets = packets_of(container, stream, path, is_damaged=timing.failure is not None)
    for packet, _ in frame_packets(packets, frame_starts(stream), timing.rewritten):
        try:
            frame = next(iter(packet.decode()), None)
        except av.error.FFmpegError as error:
            reason = f"none of its frames decodes ({error.strerror})"
            if packet.pts is not None and not packet.is_discard:
                undecodable.append(packet.pts)
            continue
        if frame is not None:
            return frame, min([frame.pts or 0, *undecodable])
    if not stream.width:  # FFmpeg forgets a size that is not allowed
        reason += ", or they have more pixels than --max-megapixels allows"
    raise SourceError(f"{path}: {reason}: is it the right file, and complete? copy it again")


#: Containers whose header gives the duration of the longest track. For others FFmpeg derives it
#: from the index or from the last packets.
_DURATION_OF_LONGEST = ("matroska,webm", "flv")
_SLACK = 3  # frames: rounding of time bases and encoders, padding of sound codecs


def check_duration(
    file: MovieFile, container: InputContainer, stream: VideoStream, timing: Timing
) -> str | None:
    """A warning where the video ends clearly before the duration that the header states, or the
    file before the size that it states.

    Raises SourceError where reading fails.
    """
    if timing.stamps is Stamps.COUNT:  # what the header states counts other things
        return missing_end(file.path)
    return _missing_time(file, container, stream, timing) or missing_end(file.path)


def _missing_time(
    file: MovieFile, container: InputContainer, stream: VideoStream, timing: Timing
) -> str | None:
    """See ``check_duration``."""
    declared = _declared_end(container, stream)
    if declared is None or not timing.frame_count or timing.frame_count < 2:
        return None
    end, slack = timing.moment(timing.frame_count), _SLACK / timing.rate
    # The last frame of a variable rate may last as long as others did.
    longest = max((after - before for before, after in pairwise(timing.times)), default=0)
    slack += 2 * longest * timing.stream_time_base
    if declared - end <= slack:
        return None
    if container.format.name in _DURATION_OF_LONGEST:
        enough = declared - slack
        if _last_end(file, end, enough) >= enough:
            return None
    return (
        f"the file states {float(declared):.2f} s, {float(end - timing.moment(0)):.2f} s of video"
        " could be read"
    )


def _declared_end(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """The earliest end of the video by the header, in seconds; None where it states none."""
    if container.format.name in _DURATION_OF_LONGEST:
        return None if container.duration is None else Fraction(container.duration, av.time_base)
    if container.format.name == "avi" and stream.average_rate:
        return stream.frames / Fraction(stream.average_rate)
    if container.format.name == "mxf" and stream.duration and stream.time_base:
        return ((stream.start_time or 0) + stream.duration) * stream.time_base
    return None


def _last_end(file: MovieFile, after: Fraction, enough: Fraction) -> Fraction:
    """Where the last packet of any track ends, in seconds, ``after`` or later.

    Reading stops at the first packet that ends at ``enough`` or later.
    """
    end = after
    with file.open() as container, read_errors_as(file.path):
        stream = file.stream(container)
        if len(stream.index_entries) > 1:  # an index; without one a seek would read all packets too
            container.seek(int(after / (stream.time_base or 1)), stream=stream)
        for packet in packets_from(container):
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None:
                end = max(end, (stamp + (packet.duration or 0)) * packet.time_base)
            if end >= enough:
                break
    return end

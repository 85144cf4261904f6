"""A movie's file, opened: its packets, its picture stream and its first frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from vidmatte.errors import SourceError
from vidmatte.media.demux import not_readable, open_media
from vidmatte.media.limits import check_frame, too_large
from vidmatte.media.stated_size import missing_end
from vidmatte.readers.movie.timing import Timing, packets_from
from vidmatte.settings.values import MAX_PIXELS


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


def packets_of(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[av.Packet]:
    """The packets of a stream, and an empty packet at its end. Raises SourceError."""
    is_png = stream.codec_context.name == "png"
    with read_errors_as(path):
        for packet in packets_from(container, stream):
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


def picture_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first video stream that is no cover art. Raises SourceError."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            if stream.codec_context is None:
                raise SourceError(f"{path}: no decoder for its video codec")
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    raise SourceError(f"{path}: it has no video stream (it has: {kinds})")


def check_complete(path: Path, stream: VideoStream) -> None:
    """Raise SourceError when the container's index points past the end of the file."""
    size = path.stat().st_size
    entries = stream.index_entries
    complete = sum(1 for entry in entries if entry.pos + entry.size <= size)
    if complete < len(entries):
        raise SourceError(
            f"{path}: the file is truncated: it holds {complete} of its {len(entries)} frames:"
            " copy it again, or remux the rest with ffmpeg -i IN -c copy OUT"
        )


def first_frame(
    container: InputContainer, stream: VideoStream, path: Path
) -> tuple[av.VideoFrame, int]:
    """The first frame that decodes, and the pts that the clip begins with, in the stream's
    time base.

    Only a decoded frame states format, range and rotation reliably. Where packets before it do
    not decode, the clip begins with the earliest of them. Raises SourceError if nothing decodes.
    """
    undecodable: list[int] = []
    reason = "it has no frame"
    for packet in packets_of(container, stream, path):
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
#: from the index (which ``check_complete`` checks) or from the last packets.
_DURATION_OF_LONGEST = ("matroska,webm", "flv")
_SLACK = 3  # frames: rounding of time bases and encoders, padding of sound codecs


def check_duration(
    path: Path, container: InputContainer, stream: VideoStream, timing: Timing
) -> str | None:
    """A warning where the video ends clearly before the duration that the header states, or the
    file before the size that it states.

    Raises SourceError where reading fails.
    """
    return _missing_time(path, container, stream, timing) or missing_end(path)


def _missing_time(
    path: Path, container: InputContainer, stream: VideoStream, timing: Timing
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
        if _last_end(path, end, enough) >= enough:
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


def _last_end(path: Path, after: Fraction, enough: Fraction) -> Fraction:
    """Where the last packet of any track ends, in seconds, ``after`` or later.

    Reading stops at the first packet that ends at ``enough`` or later.
    """
    end = after
    with open_container(path) as container, read_errors_as(path):
        stream = picture_stream(container, path)
        if len(stream.index_entries) > 1:  # an index; without one a seek would read all packets too
            container.seek(int(after / (stream.time_base or 1)), stream=stream)
        for packet in packets_from(container):
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None:
                end = max(end, (stamp + (packet.duration or 0)) * packet.time_base)
            if end >= enough:
                break
    return end

"""How long a movie's header says that it is, where that is longer than what can be read.

A file that was cut short in the middle of a copy ends early, and its packets do not tell.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from vidmatte.source.movie.opened import open_container, picture_stream, reading
from vidmatte.source.movie.packets import packets_from
from vidmatte.source.movie.timing import Timing

#: Containers whose header gives the length of the longest track. What others say is no
#: statement: FFmpeg finds it in the index (which is checked by itself) or in the last packets.
OF_ALL_TRACKS = ("matroska,webm", "flv")
SLACK = 3  # frames: clocks and encoders that round, sound codecs that fill up


def short_of_stated(
    path: Path, container: InputContainer, stream: VideoStream, timing: Timing
) -> str | None:
    """What there is to be said where the video ends clearly before the length that is stated.

    Raises SourceError where reading fails.
    """
    stated = stated_end(container, stream)
    if stated is None or not timing.frame_count or timing.frame_count < 2:
        return None
    end, slack = timing.moment(timing.frame_count), SLACK / timing.rate
    # The last frame of a variable rate may last as long as others did.
    longest = max((after - before for before, after in pairwise(timing.times)), default=0)
    slack += 2 * longest * timing.stream_time_base
    if stated - end <= slack:
        return None
    if container.format.name in OF_ALL_TRACKS:
        enough = stated - slack
        if last_end(path, end, enough) >= enough:
            return None
    return (
        f"the file says {float(stated):.2f} s, {float(end - timing.moment(0)):.2f} s of video"
        " could be read"
    )


def stated_end(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """When the header lets the video end at the earliest, in seconds; None where it does not
    tell."""
    if container.format.name in OF_ALL_TRACKS:
        return None if container.duration is None else Fraction(container.duration, av.time_base)
    if container.format.name == "avi" and stream.average_rate:
        return stream.frames / Fraction(stream.average_rate)
    if container.format.name == "mxf" and stream.duration and stream.time_base:
        return ((stream.start_time or 0) + stream.duration) * stream.time_base
    return None


def last_end(path: Path, after: Fraction, enough: Fraction) -> Fraction:
    """Where the last packet of any track ends, in seconds, ``after`` or later.

    What comes after the first that ends at ``enough`` is not read.
    """
    end = after
    with open_container(path) as container, reading(path):
        stream = picture_stream(container, path)
        if len(stream.index_entries) > 1:  # an index; else a search would read all, too
            container.seek(int(after / (stream.time_base or 1)), stream=stream)
        for packet in packets_from(container):
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None:
                end = max(end, (stamp + (packet.duration or 0)) * packet.time_base)
            if end >= enough:
                break
    return end

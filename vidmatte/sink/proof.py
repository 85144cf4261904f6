"""The written file, opened again and held against what was meant to be written."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from vidmatte.colour import ColourTags
from vidmatte.errors import ProofError
from vidmatte.frame import Clip
from vidmatte.sink.formats import Format


@dataclass(frozen=True)
class Expected:
    """What a movie has to hold. Times in seconds on the output's timeline: of the
    first frame, of the last, and of the end of the last."""

    frames: int
    first: Fraction
    last: Fraction
    end: Fraction
    sound: int
    colour: ColourTags


def prove_movie(path: Path, clip: Clip, row: Format, expected: Expected) -> None:
    """Raise ProofError that names everything in which the file at ``path`` differs.

    Packets are counted and timed without decoding; the first and the last frame are
    decoded. Where the container has a full index (mov), only that is read.
    """
    try:
        with av.open(str(path)) as container:
            differences = compare(container, clip, row, expected)
    except (av.FFmpegError, OSError, IndexError) as error:
        raise ProofError(f"{path.name} cannot be read back: {error}") from error
    if differences:
        raise ProofError(
            f"{path.name}, read back, is not what was written: {'; '.join(differences)}"
        )


def compare(
    container: av.container.InputContainer, clip: Clip, row: Format, expected: Expected
) -> list[str]:
    """What differs, one clause each."""
    video = container.streams.video[0]
    context = video.codec_context
    times = packet_times(container, video)
    # One unit of the container's clock: WebM counts milliseconds.
    slack = video.time_base or Fraction(1, 1000)
    found: list[tuple[str, object, object]] = [
        ("frames", len(times), expected.frames),
        ("size", (context.width, context.height), (clip.width, clip.height)),
        ("sound tracks", len(container.streams.audio), expected.sound),
    ]
    if row.codec_tag is not None:
        found.append(("codec tag", context.codec_tag, row.codec_tag))
    if clip.constant_rate and expected.frames > 1 and row.container == "mov":
        found.append(("rate", video.average_rate, clip.rate))
    differences = [f"{what} {is_} instead of {meant}" for what, is_, meant in found if is_ != meant]
    if times:
        moments = [
            ("first frame", times[0], expected.first),
            ("last frame", times[-1], expected.last),
        ]
        differences += [
            f"{what} at {float(is_):.6f} s instead of {float(meant):.6f} s"
            for what, is_, meant in moments
            if abs(is_ - meant) > slack
        ]
    return differences


def packet_times(
    container: av.container.InputContainer, video: av.video.stream.VideoStream
) -> list[Fraction]:
    """The moments of all video packets, in order of display, in seconds."""
    unit = video.time_base or Fraction(1)
    times = [packet.pts * unit for packet in container.demux(video) if packet.pts is not None]
    return sorted(times)

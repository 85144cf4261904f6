"""Reopens a written movie and compares it with what was meant to be written."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from vidmatte.core import timecode
from vidmatte.core.colour import BT470BG, SMPTE170M, ColourTags
from vidmatte.core.frame import Clip
from vidmatte.errors import VerificationError
from vidmatte.media.demux import open_media
from vidmatte.media.webp import read_webp
from vidmatte.pixels.planes import is_yuv
from vidmatte.readers.movie.describe import find_tag
from vidmatte.writers.encoders import frame_colour
from vidmatte.writers.format_spec import Container, Expected, OutputFormat

#: Seconds by which the end of a sound track may differ from what was written: codecs pad
#: the last packet, and players cut it.
_SOUND_SLACK = Fraction(1, 10)
_MILLISECOND = Fraction(1, 1000)


def verify_movie(path: Path, clip: Clip, row: OutputFormat, expected: Expected) -> None:
    """Raise VerificationError that lists every difference of the file at ``path``.

    All packets are counted and timed; the first and the last frame are decoded. For an
    intra-only codec in a container with an index, the index is read instead of the packets.
    """
    rules = row.movie
    try:
        if (compare := rules.verification.differences) is not None:
            differences = list(compare(path, clip, expected))
        else:
            with open_media(path, None) as file:
                differences = list(_compare(file, clip, row, rules, expected))
    except (av.FFmpegError, OSError, IndexError, ValueError) as error:
        raise VerificationError(f"{path.name} cannot be read back: {error}") from error
    if differences:
        raise VerificationError(
            f"{path.name}, read back, differs from what was written: {'; '.join(differences)}"
        )


def _compare(
    file: InputContainer, clip: Clip, row: OutputFormat, rules: Container, expected: Expected
) -> Iterator[str]:
    """One clause per difference."""
    video, exact = file.streams.video[0], rules.verification
    context = video.codec_context
    sounds = file.streams.audio
    yield from _check_equal("sound tracks", len(sounds), len(expected.sound))
    if row.codec_tag is not None:
        yield from _check_equal("codec tag", context.codec_tag, row.codec_tag)
    if clip.constant_rate and expected.frames > 1 and exact.rate:
        yield from _check_equal("rate", video.average_rate, clip.rate)
    yield from _compare_head(file, video, clip, rules)
    yield from _compare_pictures(file, clip, row, expected)
    times = _indexed(video) if exact.has_index and row.intra else None
    ends: dict[int, Fraction] = {}
    if times is None:
        times, ends = _scanned(file, video)
    else:
        ends = {sound.index: _declared_end(sound) for sound in sounds}
    yield from _check_equal("frames", len(times), expected.frames)
    if times:
        # One tick of the container's clock: Matroska and WebM count milliseconds.
        slack = video.time_base or Fraction(1, 1000)
        yield from _check_close("the first frame", times[0], expected.first, slack)
        yield from _check_close("the last frame", times[-1], expected.last, slack)
        if exact.end:
            yield from _check_close("the end", _declared_end(video), expected.end, slack)
    for sound, end in zip(sounds, expected.sound, strict=False):
        name = f"the end of sound {sound.index}"
        yield from _check_close(name, ends.get(sound.index, Fraction(0)), end, _SOUND_SLACK)


def compare_webp(path: Path, clip: Clip, expected: Expected) -> Iterator[str]:
    """One clause per difference in an animated WebP. Raises ValueError, OSError."""
    found = read_webp(path)
    size = f"{found.width}x{found.height}"
    yield from _check_equal("size", size, f"{clip.width}x{clip.height}")
    if expected.frames > 1 and not found.lengths:
        yield (
            f"a still picture instead of {expected.frames} frames: libwebp merges identical"
            " frames: choose another format"
        )
    if len(found.lengths) > expected.frames:
        yield f"frames: {len(found.lengths)} instead of {expected.frames}"
    if found.lengths:
        length = expected.end - expected.first
        yield from _check_close("the end", sum(found.lengths, Fraction(0)), length, _MILLISECOND)
        yield from _check_equal("loops (0: endless)", found.loops, 0)


def _compare_head(
    file: InputContainer, video: VideoStream, clip: Clip, rules: Container
) -> Iterator[str]:
    """Differences in the sample aspect ratio and in the first frame's timecode."""
    if rules.pixel_aspect:
        # Matroska stores it as a display size, in integer pixels.
        aspect, meant = video.sample_aspect_ratio or Fraction(1), clip.sample_aspect_ratio
        if abs(aspect - meant) * clip.width > 1:
            yield f"pixel aspect: {aspect} instead of {meant}"
    if clip.timecode and rules.timecode:
        found = find_tag("timecode", file)
        if found is None or not timecode.is_equal(found, clip.timecode, clip.rate):
            yield from _check_equal("timecode", found, clip.timecode)


def _compare_pictures(
    file: InputContainer, clip: Clip, row: OutputFormat, expected: Expected
) -> Iterator[str]:
    """Differences in the first and in the last picture."""
    video = file.streams.video[0]
    first = next(file.decode(video), None)
    file.seek(max(0, round(expected.last / (video.time_base or 1))), stream=video)
    last = None
    for last in file.decode(video):  # noqa: B007 (only the last one is used)
        pass
    for name, picture in (("the first picture", first), ("the last picture", last)):
        if picture is None:
            yield f"{name} does not decode"
            continue
        size = f"{picture.width}x{picture.height}"
        yield from _check_equal(f"{name}'s size", size, f"{clip.width}x{clip.height}")
        meant = row.decoded_format or row.pixel_format(clip)
        yield from _check_equal(f"{name}'s format", picture.format.name, meant)
        if row.colour_rules.tagged:
            yield from _compare_tags(name, picture, frame_colour(row, expected.colour))
    file.seek(0)


def _compare_tags(name: str, picture: av.VideoFrame, meant: ColourTags) -> Iterator[str]:
    """Differences in colour tags. bt470bg and smpte170m count as one matrix, as in VP9."""
    tags = meant.as_names()
    found = ColourTags(
        matrix=int(picture.colorspace),
        range=int(picture.color_range),
        primaries=int(picture.color_primaries),
        transfer=int(picture.color_trc),
    )
    if {found.matrix, meant.matrix} == {BT470BG, SMPTE170M}:
        found = found.with_matrix(meant.matrix, found.range)
    for tag, value in found.as_names().items():
        is_stored = tag in ("primaries", "transfer") or is_yuv(picture.format.name)
        if is_stored and tags[tag] != "unspecified":
            yield from _check_equal(f"{name}'s {tag}", value, tags[tag])


def _check_equal(what: str, found: object, meant: object) -> Iterator[str]:
    """A clause if two values differ."""
    if found != meant:
        yield f"{what}: {found} instead of {meant}"


def _check_close(what: str, found: Fraction, meant: Fraction, slack: Fraction) -> Iterator[str]:
    """A clause if two times differ by more than ``slack`` seconds."""
    if abs(found - meant) > slack:
        yield f"{what} is at {float(found):.6f} s instead of {float(meant):.6f} s"


def _indexed(video: VideoStream) -> list[Fraction]:
    """The times of all frames in seconds, from the container's index."""
    unit = video.time_base or Fraction(1)
    return sorted(entry.timestamp * unit for entry in video.index_entries)


def _scanned(
    container: InputContainer, video: VideoStream
) -> tuple[list[Fraction], dict[int, Fraction]]:
    """The times of all frames and the end of each other stream, in seconds, from packets."""
    times: list[Fraction] = []
    ends: dict[int, Fraction] = {}
    for packet in container.demux():
        if packet.pts is None or packet.time_base is None:
            continue
        start = packet.pts * packet.time_base
        if packet.stream_index == video.index:
            times.append(start)
        else:
            end = start + (packet.duration or 0) * packet.time_base
            ends[packet.stream_index] = max(end, ends.get(packet.stream_index, end))
    return sorted(times), ends


def _declared_end(stream: Stream) -> Fraction:
    """The end of a stream in seconds, as the container declares it."""
    if stream.duration is None or stream.time_base is None:
        return Fraction(0)
    return ((stream.start_time or 0) + stream.duration) * stream.time_base

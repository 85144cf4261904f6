"""The Clip of a movie, from its container, its stream and its first decoded frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from vidmatte.core import timecode
from vidmatte.core.colour import FULL, LIMITED, UNSPECIFIED, ColourTags
from vidmatte.core.frame import Clip
from vidmatte.core.names import counted
from vidmatte.core.orientation import Orientation, orientation_of, tilt_of
from vidmatte.core.source import AudioTrack, Source, VideoTrack
from vidmatte.pixels.formats import bit_depth, grey_to_yuv, upright_format
from vidmatte.readers.movie.container import is_default, video_tracks
from vidmatte.readers.movie.display import display_facts
from vidmatte.readers.movie.sound_tracks import SoundTracks
from vidmatte.readers.movie.timing import Timing
from vidmatte.settings import Settings

_ALPHA_BESIDE = ("vp8", "vp9", "libvpx", "libvpx-vp9")
_FIELDS = (2, 3, 4, 5)  # AVFieldOrder: the interlaced orders; 1 is progressive


def describe(
    source: Source,
    container: InputContainer,
    stream: VideoStream,
    first: av.VideoFrame,
    timing: Timing,
    sound: SoundTracks,
    stated: Mapping[str, int],
) -> Clip:
    """The Clip of a movie, from its stream and its first decoded frame.

    stated: colour tags that the options state, whatever the stream does.
    """
    orientation = orientation_of(first)
    width, height, aspect = _upright_size(stream, first, orientation)
    declared = _declared_colour(first, stream).with_stated(stated)
    working = upright_format(first.format.name, orientation, first.width, first.height)
    if declared.range == LIMITED and first.format.name.startswith("gray"):
        working = grey_to_yuv(working)
    return Clip(
        source=source,
        kind="movie",
        width=width,
        height=height,
        rate=timing.rate,
        time_base=timing.time_base,
        pixel_format=first.format.name,
        working_format=working,
        bit_depth=bit_depth(first.format.name),
        colour=declared.resolved(first.width, first.height, av.VideoFormat(working).is_rgb),
        declared_colour=declared,
        constant_rate=timing.constant,
        frame_count=timing.frame_count,
        origin=_find_origin(container, timing, sound.readable),
        sample_aspect_ratio=aspect,
        orientation=orientation,
        interlaced=first.interlaced_frame or stream.codec_context.field_order in _FIELDS,
        # That of VP8 and VP9 is a second stream within the packets, which is not decoded.
        has_alpha=any(component.is_alpha for component in first.format.components)
        or (
            stream.codec_context.name in _ALPHA_BESIDE and find_tag("alpha_mode", container) == "1"
        ),
        container=container.format.name,
        codec=stream.codec_context.name,
        timecode=find_tag("timecode", container),
        reel=find_tag("reel_name", container),
        video=tuple(_video_tracks(container, stream)),
        audio=sound.tracks,
        display=display_facts(source.path, container.format.name, first),
    )


def _upright_size(
    stream: VideoStream, first: av.VideoFrame, orientation: Orientation
) -> tuple[int, int, Fraction]:
    """Width, height and sample aspect ratio once the picture is upright."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if orientation.swaps_sides:
        return first.height, first.width, 1 / aspect
    return first.width, first.height, aspect


def with_timecode_checked(clip: Clip) -> tuple[Clip, list[str]]:
    """The clip, without a timecode that does not exist at its rate, and a warning where it had
    one. FFmpeg drops such a timecode from a mov silently.
    """
    checked, warnings = timecode.valid_or_dropped(
        clip.source.name, clip.timecode, lambda text: timecode.validated(text, clip.rate)
    )
    return replace(clip, timecode=checked), warnings


def _declared_colour(frame: av.VideoFrame, stream: VideoStream) -> ColourTags:
    """The colour tags of the frame, with the container's where the frame has none.

    0 counts as unspecified: it is reserved, or means RGB where the samples are not RGB.
    """

    def first_specified(*values: int) -> int:
        specified = (int(value) for value in values if value not in (0, UNSPECIFIED))
        return next(specified, UNSPECIFIED)

    full = frame.format.name.startswith("yuvj")
    return ColourTags(
        matrix=first_specified(frame.colorspace, stream.colorspace),
        range=FULL if full else int(frame.color_range or stream.color_range),
        primaries=first_specified(frame.color_primaries, stream.color_primaries),
        transfer=first_specified(frame.color_trc, stream.color_trc),
    )


def _find_origin(
    container: InputContainer, timing: Timing, audio: tuple[AudioTrack, ...]
) -> Fraction:
    """The time that becomes zero in the output, in seconds on the container's timeline.

    It is the first frame's, or that of a sound track that begins a frame or more
    before it; a shorter lead is the priming of a sound codec.
    """
    start = timing.first * timing.stream_time_base
    sound_starts = [
        track.start_time * track.time_base
        for track in (container.streams[one.index] for one in audio)
        if track.start_time is not None and track.time_base is not None
    ]
    earliest = min([start, *sound_starts])
    if start - earliest < 1 / timing.rate:
        return start
    return start - round((start - earliest) / timing.time_base) * timing.time_base


def find_tag(name: str, container: InputContainer) -> str | None:
    """A metadata entry of the container or of any stream; Matroska writes keys in capitals."""
    for metadata in (container.metadata, *(stream.metadata for stream in container.streams)):
        for key, value in metadata.items():
            if key.lower() == name:
                return value
    return None


def _uncarried_notes(clip: Clip, container: InputContainer, first: av.VideoFrame) -> Iterator[str]:
    """One line each on what no output gets: subtitles and chapters, a rotation that is no
    quarter turn, Dolby Vision."""
    name = clip.source.name
    if (dolby := clip.display.dolby_note()) is not None:
        yield f"{name}: {dolby}"
    if (tilt := tilt_of(first)) is not None:
        yield (
            f"{name}: its display matrix {tilt}: only the nearest quarter turn is applied;"
            " the rest is for the program that shows the result"
        )
    count = len(container.streams.subtitles)
    found = [counted(count, "subtitle track")] if count else []
    found += ["chapters"] if container.chapters() else []
    if found:
        yield f"{name}: it has {' and '.join(found)}: they are not copied"


def _video_tracks(container: InputContainer, read: VideoStream) -> Iterator[VideoTrack]:
    """The video tracks in container order. read: the one whose frames are read."""
    for stream in video_tracks(container):
        context = stream.codec_context
        known = context is not None
        yield VideoTrack(
            codec=context.name if known else "unknown",
            width=stream.width if known else 0,
            height=stream.height if known else 0,
            is_default=is_default(stream),
            is_read=stream.index == read.index,
        )


def opening_notes(
    container: InputContainer, clip: Clip, timing: Timing, settings: Settings, first: av.VideoFrame
) -> Iterator[str]:
    """What is to be said of a movie when it is opened, one line each. first: a decoded frame."""
    name = clip.source.name
    if timing.is_rate_assumed:
        yield f"{name}: it states no frame rate: using {timing.rate}, or give --fps"
    if not settings.video_track:
        yield from _track_notes(name, clip.video)
    yield from _uncarried_notes(clip, container, first)


def _track_notes(name: str, tracks: Sequence[VideoTrack]) -> Iterator[str]:
    """One line where a movie has several video tracks, which says what is read."""
    if len(tracks) > 1:
        number = next(number for number, track in enumerate(tracks, 1) if track.is_read)
        why = "the default one" if tracks[number - 1].is_default else "the largest"
        yield (
            f"{name}: it has {len(tracks)} video tracks: track {number}, {why}, is read;"
            " --video-track chooses"
        )

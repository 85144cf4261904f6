"""One row of the table of output formats: what it fixes, and what follows for a clip.

All that the package knows of a format, its container, its codec and who encodes it stands in
its row: no other module asks for their names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
from av.video.stream import VideoStream

from vidmatte.core.colour import (
    BT709,
    BT2020,
    FULL,
    IDENTITY,
    LIMITED,
    LINEAR,
    TO_LINEAR,
    UNSPECIFIED,
    ColourTags,
    linear_matrix,
)
from vidmatte.core.frame import Clip
from vidmatte.media.icc import is_srgb, profile_name
from vidmatte.pixels.planes import is_rgb, is_yuv

#: The largest width or height that any format holds.
LARGEST = 65535


@dataclass(frozen=True)
class Expected:
    """What a movie has to hold. Times in seconds on the output's timeline: of the
    first frame, of the last, of the end of the last, and of the end of each sound."""

    frames: int
    first: Fraction
    last: Fraction
    end: Fraction
    sound: tuple[Fraction, ...]
    colour: ColourTags


@dataclass(frozen=True)
class SoundEncoder:
    """An encoder of sound. name: FFmpeg's. bit_rate: bits a second and channel; None of one
    that loses nothing. clock: samples a second, of one that has no other rate, whatever rate
    its packets say that the sound came from."""

    name: str
    bit_rate: int | None = None
    clock: int | None = None


@dataclass(frozen=True)
class SoundRules:
    """What becomes of a clip's sound in a container.

    copied: codecs, by FFmpeg's names, whose packets are copied as they are.
    encoder: for all others; None: PCM of the source's depth.
    has_edit_list: packets before time zero stay in the file, and players skip them.
    """

    copied: frozenset[str]
    encoder: SoundEncoder | None = None
    has_edit_list: bool = False


@dataclass(frozen=True)
class VerificationRules:
    """What a container states exactly, so that a finished file is compared with it.

    rate: a constant frame rate. end: where the last frame ends, to a unit of its clock.
    has_index: the times of all frames stand in an index, so that no packet need be read.
    differences: compares a file that FFmpeg does not read: a clause for each difference.
    """

    rate: bool = False
    end: bool = False
    has_index: bool = False
    differences: Callable[[Path, Clip, Expected], Iterator[str]] | None = None


@dataclass(frozen=True)
class Container:
    """What a movie's container holds, and what FFmpeg's muxer needs help with.

    muxer: FFmpeg's name for it. options: for the muxer.
    sound: what becomes of sound; None: it holds none.
    timecode, pixel_aspect: it holds the first frame's timecode, and the shape of a pixel.
    states_duration: it states one duration for all frames, unless the encoder has no rate.
    has_edit_list_clock: edit lists count in a clock of their own, set by ``movie_timescale``.
    patch: changes a finished file before it is verified: (file, format, clip, what it holds).
    """

    muxer: str
    sound: SoundRules | None = None
    timecode: bool = False
    pixel_aspect: bool = False
    states_duration: bool = False
    has_edit_list_clock: bool = False
    options: dict[str, str] = field(default_factory=dict)
    patch: Callable[[Path, OutputFormat, Clip, Expected], None] | None = None
    verification: VerificationRules = VerificationRules()


@dataclass(frozen=True)
class Limits:
    """What pictures must be like. max_size: the largest width or height, in pixels.

    max_rate: frames a second that the container's clock tells apart, None for any.
    """

    max_size: int = LARGEST
    min_height: int = 1
    max_rate: int | None = None
    width_multiple: int = 1
    height_multiple: int = 1


@dataclass(frozen=True)
class ColourRules:
    """How colours are stored.

    range: 1 or 2 where the format fixes the colour range, None keeps the source's.
    linear: colours are brought to linear light where their curve has an agreed inverse.
    tagged: the file says what its colours are.
    icc_profile: it embeds the source's ICC profile where that is for R'G'B'.
    constant_luminance: it has a number for the matrix bt2020c; else bt2020nc takes its place.
    frame_tags: what the codec's own frame headers say of colours, given the container's tags.
    keeps_layout: YCbCr sources keep their chroma layout where the codec has it with alpha.
    """

    range: int | None = None
    linear: bool = False
    tagged: bool = True
    icc_profile: bool = False
    constant_luminance: bool = True
    frame_tags: Callable[[ColourTags], ColourTags] | None = None
    keeps_layout: bool = False


@dataclass(frozen=True)
class EncoderSpec:
    """What an encoder is made for: pictures of ``row`` for ``clip``, tagged with ``colour``.

    premultiplied: their colours are multiplied by alpha. profile: the ICC profile to embed.
    """

    row: OutputFormat
    clip: Clip
    colour: ColourTags
    premultiplied: bool = False
    profile: bytes | None = None


class FrameEncoder(Protocol):
    """Encodes one picture at a time, each by itself. One for each worker thread."""

    def encode(self, picture: av.VideoFrame) -> Sequence[Any]:
        """A picture file's bytes in pieces, or a movie's ``av.Packet`` in a list."""


class StreamEncoder(Protocol):
    """Encodes the pictures of a movie's stream in order, as the thread that writes hands them
    over; it may hold pictures back."""

    def encode(self, picture: av.VideoFrame | None) -> list[av.Packet]:
        """Packets that are ready; None flushes."""


@dataclass(frozen=True)
class OutputFormat:
    """One row: how frames become this kind of file.

    container: of a movie; None writes one picture file a frame.
    codec: FFmpeg's encoder, or what messages call one outside FFmpeg.
    alpha: what a user reads of it. straight_only: what opens such files takes colours for
    straight, whatever they are. has_alpha: pictures have an alpha channel.
    pixel_format: what the encoder takes, given the clip.
    options: for FFmpeg's encoder; narrow_options: in their place where a picture is at most
    3 pixels wide or high. quantiser: a fixed one, 1 is the finest.
    intra: every frame stands alone, so a pool of encoders makes the same bytes.
    encoder: makes the encoder of one worker; None: FFmpeg's ``codec``.
    stream_encoder: makes the encoder of a movie whose frames do not stand alone; None:
    FFmpeg's ``codec``.
    decoded_format: what FFmpeg's decoder gives where it is not what the encoder takes.
    read_back: width, height and pixel format of a picture file, for files that FFmpeg does not
    read; raises ValueError, OSError.
    deeper: the format of the same files with more bits a sample, where there is one.
    for_odd_widths: the format that takes its place where a picture's width is odd.
    """

    name: str
    suffixes: tuple[str, ...]
    container: Container | None
    codec: str
    depth: str
    alpha: str
    good_for: str
    pixel_format: Callable[[Clip], str]
    codec_tag: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    narrow_options: dict[str, str] | None = None
    quantiser: int | None = None
    intra: bool = True
    encoder: Callable[[EncoderSpec], FrameEncoder] | None = None
    stream_encoder: Callable[[VideoStream], StreamEncoder] | None = None
    decoded_format: str | None = None
    read_back: Callable[[Path], tuple[int, int, str]] | None = None
    straight_only: bool = False
    has_alpha: bool = True
    deeper: str | None = None
    for_odd_widths: OutputFormat | None = None
    colour_rules: ColourRules = ColourRules()
    limits: Limits = Limits()

    @property
    def movie(self) -> Container:
        """The container of a movie. Raises ValueError for a format of pictures."""
        if self.container is None:
            raise ValueError(f"{self.name} is a format of pictures, not of movies")
        return self.container


def always(pixel_format: str) -> Callable[[Clip], str]:
    """The same pixel format whatever the clip."""
    return lambda _clip: pixel_format


def with_alpha(clip: Clip) -> str:
    """The format that holds every sample of the clip's own and alpha of the same depth.

    YCbCr of 12 and 14 bits and RGB of 14 go up to 16, where every sample still comes back:
    FFmpeg before 6.0 does not read FFV1 with such alpha. 8-bit planar RGB with alpha
    is no format of FFV1 and becomes packed.
    """
    name = clip.working_format
    depth = clip.bit_depth if clip.bit_depth <= 16 else 16
    if not is_yuv(name):
        return "bgra" if depth == 8 else f"gbrap{next(d for d in (10, 12, 16) if d >= depth)}le"
    layout = next((part for part in ("420", "422") if name.startswith(f"yuv{part}")), "444")
    if depth == 8:
        return f"yuva{layout}p"
    return f"yuva{layout}p{next(d for d in (9, 10, 16) if d >= depth)}le"


def output_colour(clip: Clip, row: OutputFormat) -> ColourTags:
    """The tags that ``row`` gives a picture of ``clip``.

    YCbCr sources keep their matrix (bt2020c becomes bt2020nc where the format has no number
    for it), and their range unless the format fixes one, so that nothing is converted. RGB and
    grey sources become bt2020nc where their primaries are bt2020 and bt709 otherwise,
    limited range. RGB and grey outputs are full range; linear formats say so where the
    source's curve can be undone.
    """
    colour, target = clip.colour, row.pixel_format(clip)
    if row.colour_rules.linear and colour.transfer in TO_LINEAR:
        colour = replace(colour, transfer=LINEAR)
    if not is_yuv(target):
        return colour.with_matrix(IDENTITY if is_rgb(target) else UNSPECIFIED, FULL)
    if not is_yuv(clip.working_format):
        matrix = BT2020 if colour.primaries == BT2020 else BT709
        return colour.with_matrix(matrix, row.colour_rules.range or LIMITED)
    has_number = row.colour_rules.constant_luminance
    matrix = colour.matrix if has_number else linear_matrix(colour.matrix)
    return colour.with_matrix(matrix, row.colour_rules.range or colour.range)


def profile_for(clip: Clip, row: OutputFormat) -> bytes | None:
    """The source's profile where ``row`` holds one and it speaks of R'G'B'."""
    profile = clip.icc_profile
    is_held = row.colour_rules.icc_profile and profile and profile[16:20] == b"RGB "
    return profile if is_held else None


def profile_notes(clip: Clip, row: OutputFormat) -> Iterator[str]:
    """A line where the source's profile says other colours than sRGB and is lost."""
    profile = clip.icc_profile
    if profile is None or is_srgb(profile) or profile_for(clip, row):
        return
    name = profile_name(profile)
    if row.colour_rules.icc_profile:
        yield f"{row.name} holds R, G, B: the source's ICC profile ({name}) is not for that"
    else:
        yield (
            f"{row.name} holds no ICC profile: the source's ({name}) is lost, and its colours are"
            " taken for sRGB's; png and tiff16 keep it"
        )

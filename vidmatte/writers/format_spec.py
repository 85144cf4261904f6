"""An output format as a table row, and the tags and pixel format that it gives a clip.

Everything specific to a format (container, codec, encoder) is in its row: no other module
compares format names.
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

#: The largest width or height of any format, in pixels.
LARGEST = 65535


@dataclass(frozen=True)
class Expected:
    """What a finished movie must contain. Times in seconds on the output's timeline: start of
    the first and of the last frame, end of the last frame, end of each sound track."""

    frames: int
    first: Fraction
    last: Fraction
    end: Fraction
    sound: tuple[Fraction, ...]
    colour: ColourTags


@dataclass(frozen=True)
class SoundEncoder:
    """A sound encoder. name: FFmpeg's. bit_rate: bits per second and channel; None for lossless.
    clock: the only sample rate (Hz) of an encoder that has one, whatever source rate its
    packets declare."""

    name: str
    bit_rate: int | None = None
    clock: int | None = None


@dataclass(frozen=True)
class SoundRules:
    """How a clip's sound is written to a container.

    copied: codecs, by FFmpeg's names, whose packets are copied as they are.
    encoder: for all others; None: PCM of the source's depth.
    has_edit_list: packets before time zero are written, and players skip them.
    """

    copied: frozenset[str]
    encoder: SoundEncoder | None = None
    has_edit_list: bool = False


@dataclass(frozen=True)
class VerificationRules:
    """What a container stores exactly, so that a finished file can be checked for it.

    rate: a constant frame rate. end: where the last frame ends, to a unit of its clock.
    has_index: an index lists the times of all frames, so that packets need not be read.
    differences: compares a file that FFmpeg cannot read: one clause per difference.
    """

    rate: bool = False
    end: bool = False
    has_index: bool = False
    differences: Callable[[Path, Clip, Expected], Iterator[str]] | None = None


@dataclass(frozen=True)
class Container:
    """What a movie's container supports, and what FFmpeg's muxer needs help with.

    muxer: FFmpeg's name for it. options: for the muxer.
    sound: how sound is written; None: sound is not supported. one_rate: it stores no times.
    timecode, pixel_aspect, hdr_metadata, clean_aperture: it stores the first frame's timecode, the
    sample aspect ratio, and those of ``DisplayFacts``.
    states_duration: it declares one duration for all frames if the encoder has a rate.
    has_edit_list_clock: edit lists have a time scale of their own, the muxer option
    ``movie_timescale``.
    patch: changes a finished file before it is verified: (file, format, clip, content).
    """

    muxer: str
    sound: SoundRules | None = None
    timecode: bool = False
    pixel_aspect: bool = False
    hdr_metadata: bool = False
    clean_aperture: bool = False
    states_duration: bool = False
    one_rate: bool = False
    has_edit_list_clock: bool = False
    options: dict[str, str] = field(default_factory=dict)
    patch: Callable[[Path, OutputFormat, Clip, Expected], None] | None = None
    verification: VerificationRules = VerificationRules()


@dataclass(frozen=True)
class Limits:
    """Limits on size (pixels) and rate. max_size: the largest width or height.

    max_rate: the most frames per second that the container's clock resolves, None for any.
    """

    max_size: int = LARGEST
    min_height: int = 1
    max_rate: int | None = None
    width_multiple: int = 1
    height_multiple: int = 1


@dataclass(frozen=True)
class ColourRules:
    """How colours are stored.

    range: 1 (limited) or 2 (full) if the format fixes it; None keeps the source's.
    linear: converted to linear light where the transfer curve has a standard inverse.
    tagged: the file stores colour tags.
    icc_profile: it embeds the source's ICC profile if that is for R'G'B'.
    constant_luminance: it supports the matrix bt2020c; else bt2020nc replaces it.
    frame_tags: the tags in the codec's own frame headers, given the container's tags.
    chromaticities: it stores any primaries; else those without a number become bt709's.
    keeps_layout: YCbCr sources keep their chroma subsampling where the codec has it with alpha.
    """

    range: int | None = None
    linear: bool = False
    tagged: bool = True
    icc_profile: bool = False
    constant_luminance: bool = True
    frame_tags: Callable[[ColourTags], ColourTags] | None = None
    chromaticities: bool = False
    keeps_layout: bool = False


@dataclass(frozen=True)
class EncoderSpec:
    """What an encoder is built for: pictures of ``row`` for ``clip``, tagged with ``colour``.

    premultiplied: the colours are multiplied by alpha. profile: the ICC profile to embed.
    """

    row: OutputFormat
    clip: Clip
    colour: ColourTags
    premultiplied: bool = False
    profile: bytes | None = None


class FrameEncoder(Protocol):
    """Encodes pictures one by one, independently. One for each worker thread."""

    def encode(self, picture: av.VideoFrame) -> Sequence[Any]:
        """A picture file as chunks of bytes, or a list of a movie's ``av.Packet``."""


class StreamEncoder(Protocol):
    """Encodes the pictures of a movie's stream in order, in the writing thread; it may buffer
    pictures."""

    def encode(self, picture: av.VideoFrame | None) -> list[av.Packet]:
        """Encode a picture, or flush with None; returns the packets that are ready."""


@dataclass(frozen=True)
class OutputFormat:
    """One row of the table: how frames are written in this format.

    container: of a movie; None writes one picture file per frame.
    codec: FFmpeg's encoder, or the name in messages of one outside FFmpeg.
    depth, alpha, good_for: descriptions for the user. straight_only: programs that open such
    files assume straight alpha. associated: by the format's definition colours are premultiplied,
    and programs that open such files assume it. has_alpha: pictures have an alpha channel.
    pixel_format: the encoder's input format, given the clip.
    options: for FFmpeg's encoder; narrow_options: replace them if a picture is at most
    3 pixels wide or high. quantiser: a fixed one, 1 is the finest.
    intra: every frame is a key frame, so encoders in parallel give the same bytes.
    encoder: makes the encoder of one worker; None: FFmpeg's ``codec``.
    stream_encoder: makes the encoder of a movie with inter-frame coding; None: FFmpeg's
    ``codec``. fill_of: the format with alpha whose colours alone it shows.
    decoded_format: the pixel format of FFmpeg's decoder, if it differs from the encoder's.
    read_back: width, height and pixel format of a picture file, for files that FFmpeg cannot
    read or decodes twice; raises ValueError, OSError, FFmpegError.
    deeper: the name of the format of the same files with more bits per sample, if any.
    quality: the options for a quality of 1..100, 100 is the best; None: it has one only.
    has_compression, stores_density: its encoder takes ``compression`` (OpenEXR's), ``dpi``.
    missing: why it cannot be written here, None where it can.
    for_odd_widths: the format that replaces it if a picture's width is odd.
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
    associated: bool = False
    has_alpha: bool = True
    fill_of: OutputFormat | None = None
    deeper: str | None = None
    for_odd_widths: OutputFormat | None = None
    quality: Callable[[int], dict[str, str]] | None = None
    has_compression: bool = False
    stores_density: bool = False
    missing: Callable[[], str | None] = lambda: None
    colour_rules: ColourRules = ColourRules()
    limits: Limits = Limits()

    def premultiplies(self, alpha: str) -> bool:
        """Whether colours are multiplied by alpha, by the option ``alpha``."""
        return self.associated if alpha == "auto" else alpha == "premultiplied"

    @property
    def movie(self) -> Container:
        """The container of a movie. Raises ValueError for a picture format."""
        if self.container is None:
            raise ValueError(f"{self.name} is a picture format, not a movie format")
        return self.container


def always(pixel_format: str) -> Callable[[Clip], str]:
    """A ``pixel_format`` that is the same for every clip."""
    return lambda _clip: pixel_format


def with_alpha(clip: Clip) -> str:
    """The pixel format that stores the clip's samples losslessly, and alpha of the same depth.

    YCbCr of 12 and 14 bits and RGB of 14 become 16 bits, which is lossless: FFmpeg before
    6.0 does not read FFV1 with alpha of those depths. FFV1 has no 8-bit planar RGB with
    alpha, so that becomes packed.
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

    YCbCr sources keep their matrix (bt2020c becomes bt2020nc where the format does not support
    it), and their range unless the format fixes one, so that nothing is converted. RGB and
    grey sources become bt2020nc where their primaries are bt2020 and bt709 otherwise,
    limited range. RGB and grey outputs are full range. Primaries without a number become bt709
    where the format cannot store them; linear formats are tagged as linear
    where the source's curve can be inverted.
    """
    colour, target = clip.colour, row.pixel_format(clip)
    if colour.chromaticities is not None and not row.colour_rules.chromaticities:
        colour = replace(colour, primaries=BT709, chromaticities=None)
    if row.colour_rules.linear and colour.transfer in TO_LINEAR:
        colour = replace(colour, transfer=LINEAR)
    if not is_yuv(target):
        return colour.with_matrix(IDENTITY if is_rgb(target) else UNSPECIFIED, FULL)
    if not is_yuv(clip.working_format):
        matrix = BT2020 if colour.primaries == BT2020 else BT709
        return colour.with_matrix(matrix, row.colour_rules.range or LIMITED)
    is_supported = row.colour_rules.constant_luminance
    matrix = colour.matrix if is_supported else linear_matrix(colour.matrix)
    return colour.with_matrix(matrix, row.colour_rules.range or colour.range)


def profile_for(clip: Clip, row: OutputFormat) -> bytes | None:
    """The source's ICC profile if ``row`` can embed it and it is for R'G'B', else None."""
    profile = clip.icc_profile
    is_embedded = row.colour_rules.icc_profile and profile and profile[16:20] == b"RGB "
    return profile if is_embedded else None


def profile_notes(clip: Clip, row: OutputFormat) -> Iterator[str]:
    """A note if the source's profile is not sRGB and is not written."""
    profile = clip.icc_profile
    if profile is None or is_srgb(profile) or profile_for(clip, row):
        return
    name = profile_name(profile)
    if row.colour_rules.icc_profile:
        yield f"{row.name} stores R, G, B: the source's ICC profile ({name}) is not for RGB"
    else:
        yield (
            f"{row.name} has no ICC profile: the source's ({name}) is lost, and its colours are"
            " treated as sRGB; png and tiff16 keep it"
        )

"""One row of the table of output formats: what it fixes, and what follows for a clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

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

_ICC_HOLDERS = ("png", "tiff")  # codecs
#: The largest width or height that any format holds.
LARGEST = 65535


@dataclass(frozen=True)
class OutputFormat:
    """One row: how frames become this kind of file.

    container: FFmpeg's muxer; None writes one picture file a frame.
    pixel_format: what the encoder takes, given the clip.
    range: 1 or 2 where the format fixes the colour range, None keeps the source's.
    intra: every frame stands alone, so a pool of encoders makes the same bytes.
    quantiser: a fixed one for the encoder, 1 is the finest.
    decoded_format: what FFmpeg's decoder gives where it is not what the encoder takes.
    linear: colours are brought to linear light where their curve has an agreed inverse.
    tagged: the file says what its colours are.
    max_size: the largest width or height that the codec holds.
    min_height: lines that the codec asks for.
    max_rate: frames a second that the container's clock tells apart, None for any.
    """

    name: str
    suffixes: tuple[str, ...]
    container: str | None
    codec: str
    depth: str
    alpha: str
    good_for: str
    pixel_format: Callable[[Clip], str]
    codec_tag: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    quantiser: int | None = None
    range: int | None = None
    intra: bool = True
    max_size: int = LARGEST
    min_height: int = 1
    max_rate: int | None = None
    width_multiple: int = 1
    height_multiple: int = 1
    decoded_format: str | None = None
    linear: bool = False
    tagged: bool = True


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

    YCbCr sources keep their matrix (bt2020c is bt2020nc in VP9, which has no number for
    it), and their range unless the format fixes one, so that nothing is converted. RGB and
    grey sources become bt2020nc where their primaries are bt2020 and bt709 otherwise,
    limited range. RGB and grey outputs are full range; linear formats say so where the
    source's curve can be undone.
    """
    colour, target = clip.colour, row.pixel_format(clip)
    if row.linear and colour.transfer in TO_LINEAR:
        colour = replace(colour, transfer=LINEAR)
    if not is_yuv(target):
        return colour.with_matrix(IDENTITY if is_rgb(target) else UNSPECIFIED, FULL)
    if not is_yuv(clip.working_format):
        matrix = BT2020 if colour.primaries == BT2020 else BT709
        return colour.with_matrix(matrix, row.range or LIMITED)
    is_vp9 = row.codec == "libvpx-vp9"
    matrix = linear_matrix(colour.matrix) if is_vp9 else colour.matrix
    return colour.with_matrix(matrix, row.range or colour.range)


def profile_for(clip: Clip, row: OutputFormat) -> bytes | None:
    """The source's profile where ``row`` holds one and it speaks of R'G'B'."""
    profile = clip.icc_profile
    return profile if row.codec in _ICC_HOLDERS and profile and profile[16:20] == b"RGB " else None


def profile_notes(clip: Clip, row: OutputFormat) -> Iterator[str]:
    """A line where the source's profile says other colours than sRGB and is lost."""
    profile = clip.icc_profile
    if profile is None or is_srgb(profile) or profile_for(clip, row):
        return
    name = profile_name(profile)
    if row.codec in _ICC_HOLDERS:
        yield f"{row.name} holds R, G, B: the source's ICC profile ({name}) is not for that"
    else:
        yield (
            f"{row.name} holds no ICC profile: the source's ({name}) is lost, and its colours are"
            " taken for sRGB's; png and tiff16 keep it"
        )

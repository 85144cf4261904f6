"""The formats of a result that goes to standard output."""

from __future__ import annotations

from dataclasses import replace

from vidmatte.core.frame import Clip
from vidmatte.errors import UsageError
from vidmatte.writers.audio_tracks import PCM
from vidmatte.writers.extra_outputs import without_alpha
from vidmatte.writers.format_spec import (
    ColourRules,
    Container,
    OutputFormat,
    SoundRules,
    always,
    with_alpha,
)
from vidmatte.writers.formats import ALIASES, FORMATS


def _packed(clip: Clip) -> str:
    return "rgba" if clip.bit_depth <= 8 else "rgba64le"


def _y4m_cutout(clip: Clip) -> str:
    """The clip's layout with alpha, as far as Y4M has it without: YCbCr only."""
    name = with_alpha(clip)
    if name.startswith("yuva"):
        return name
    return "yuva444p" if clip.bit_depth <= 8 else "yuva444p16le"


_NUT = Container(
    "nut",
    sound=SoundRules(
        copied=frozenset({"aac", "mp3", "mp2", "ac3", "eac3", "flac", "vorbis"})
        | {name for name in PCM if name.endswith("le")}
    ),
    pixel_aspect=True,
    options={"strict": "-1"},
)
Y4M = Container("yuv4mpegpipe", pixel_aspect=True, one_rate=True, options={"strict": "-1"})
_RAW = Container("rawvideo", one_rate=True)

NUT = OutputFormat(
    "nut",
    (".nut",),
    _NUT,
    "rawvideo",
    "RGB, 8 bits, 16 for deeper sources",
    "straight",
    "pipes: exact times, sound",
    _packed,
    colour_rules=ColourRules(tagged=False),
)
_AS_SOURCE = ColourRules(tagged=False, keeps_layout=True)
STREAM_FORMATS: tuple[OutputFormat, ...] = (
    NUT,
    replace(
        NUT,
        name="nut-yuv",
        depth="the source's own layout and depth",
        alpha="straight, as deep as the picture",
        good_for="pipes: opaque samples unchanged, exact times, sound",
        pixel_format=with_alpha,
        colour_rules=_AS_SOURCE,
    ),
    replace(
        NUT,
        name="rawvideo",
        suffixes=(".rgba",),
        container=_RAW,
        depth="RGB, 8 bits",
        alpha="straight, 256 levels",
        good_for="pipes: RGBA samples and nothing else",
        pixel_format=always("rgba"),
    ),
    replace(
        NUT,
        name="y4m",
        suffixes=(".y4m",),
        container=Y4M,
        depth="the source's own layout and depth",
        alpha="none: add --matte FILE.y4m",
        good_for="pipes: the colours without alpha, at one rate",
        pixel_format=lambda clip: _y4m_cutout(clip).replace("yuva", "yuv"),
        has_alpha=False,
        colour_rules=_AS_SOURCE,
        fill_of=replace(NUT, name="y4m", pixel_format=_y4m_cutout, colour_rules=_AS_SOURCE),
    ),
)


def stream_format(name: str | None) -> OutputFormat:
    """The format of a result on standard output: NUT, or that of ``name``, which may be one of
    pictures too. Raises UsageError."""
    if name is None:
        return NUT
    rows = {row.name: row for row in STREAM_FORMATS}
    pictures = {row.name: row for row in FORMATS if row.container is None}
    wanted = name.lower().lstrip(".")
    row = (rows | pictures).get(ALIASES.get(wanted, wanted))
    if row is None:
        raise UsageError(
            f"--format {name}: with -o - choose from {', '.join(rows)} or a picture format:"
            f" {', '.join(pictures)}"
        )
    return row


def opaque_stream_format(name: str | None) -> OutputFormat:
    """The same for a subject on a background: without alpha. Raises UsageError."""
    row = stream_format(name)
    return replace(without_alpha(row), fill_of=None) if row.has_alpha or row.fill_of else row

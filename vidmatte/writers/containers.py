"""The movie containers: what each supports, and how its files are patched."""

from __future__ import annotations

from pathlib import Path

from vidmatte.core.frame import Clip
from vidmatte.media.matroska import patch_aspect
from vidmatte.media.quicktime import patch_vendor
from vidmatte.media.webp import patch_duration
from vidmatte.writers.audio_tracks import PCM
from vidmatte.writers.format_spec import (
    Container,
    Expected,
    OutputFormat,
    SoundEncoder,
    SoundRules,
    VerificationRules,
)
from vidmatte.writers.verify import compare_webp


def _patch_vendor_tag(path: Path, row: OutputFormat, _clip: Clip, _expected: Expected) -> None:
    """FFmpeg's muxer writes its own vendor: replace it by the one in the encoder's options."""
    vendor = row.options.get("vendor")
    if row.codec_tag is not None and vendor is not None:
        patch_vendor(path, row.codec_tag, vendor)


def _patch_pixel_aspect(path: Path, _row: OutputFormat, clip: Clip, _expected: Expected) -> None:
    """FFmpeg's muxer reads the pixel aspect only from the stream, where PyAV cannot set it."""
    if clip.sample_aspect_ratio != 1:
        patch_aspect(path, clip.sample_aspect_ratio)


def _patch_last_duration(path: Path, _row: OutputFormat, _clip: Clip, expected: Expected) -> None:
    """FFmpeg does not pass the last picture's duration to libwebp, which guesses it."""
    patch_duration(path, expected.end - expected.first)


#: Codecs that players and editors support in MPEG-4 files; FFmpeg's muxer would accept more.
_MPEG4_SOUND = frozenset({"aac", "alac", "mp3", "ac3", "eac3"})

MOV = Container(
    "mov",
    sound=SoundRules(copied=_MPEG4_SOUND | PCM.keys() - {"pcm_u8"}, has_edit_list=True),
    timecode=True,
    pixel_aspect=True,
    has_edit_list_clock=True,
    patch=_patch_vendor_tag,
    verification=VerificationRules(rate=True, end=True, has_index=True),
)
MP4 = Container(
    "mp4",
    sound=SoundRules(
        copied=_MPEG4_SOUND, encoder=SoundEncoder("aac", bit_rate=128_000), has_edit_list=True
    ),
    pixel_aspect=True,
    verification=VerificationRules(rate=True),
)
MATROSKA = Container(
    "matroska",
    sound=SoundRules(
        copied=frozenset(
            {"aac", "alac", "mp3", "mp2", "ac3", "eac3", "dts", "flac", "opus", "vorbis"}
            | {name for name in PCM if name.endswith("le")}
        )
    ),
    timecode=True,
    pixel_aspect=True,
    states_duration=True,
    patch=_patch_pixel_aspect,
)
WEBM = Container(
    "webm",
    sound=SoundRules(
        copied=frozenset({"opus", "vorbis"}),
        encoder=SoundEncoder("libopus", bit_rate=80_000, clock=48_000),
    ),
    pixel_aspect=True,
    states_duration=True,
    patch=_patch_pixel_aspect,
)
WEBP = Container(
    "webp",
    options={"loop": "0"},  # endless, as FFmpeg's GIF muxer does by default
    patch=_patch_last_duration,
    verification=VerificationRules(differences=compare_webp),
)
GIF = Container("gif")

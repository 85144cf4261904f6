"""The containers of movies, as rows: what each holds, and what is patched into its files."""

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


def _name_vendor(path: Path, row: OutputFormat, _clip: Clip, _expected: Expected) -> None:
    """FFmpeg's muxer writes its own vendor: give the file the one that its encoder was given."""
    vendor = row.options.get("vendor")
    if row.codec_tag is not None and vendor is not None:
        patch_vendor(path, row.codec_tag, vendor)


def _state_aspect(path: Path, _row: OutputFormat, clip: Clip, _expected: Expected) -> None:
    """FFmpeg's muxer takes it from the stream alone, where PyAV cannot put it."""
    if clip.sample_aspect_ratio != 1:
        patch_aspect(path, clip.sample_aspect_ratio)


def _state_end(path: Path, _row: OutputFormat, _clip: Clip, expected: Expected) -> None:
    """FFmpeg leaves the last picture's duration to libwebp, which guesses."""
    patch_duration(path, expected.end - expected.first)


#: Copied into a container is what players and editors take there, not all that FFmpeg's muxer
#: would swallow.
_MPEG4_SOUND = frozenset({"aac", "alac", "mp3", "ac3", "eac3"})

MOV = Container(
    "mov",
    sound=SoundRules(copied=_MPEG4_SOUND | PCM.keys() - {"pcm_u8"}, has_edit_list=True),
    timecode=True,
    pixel_aspect=True,
    has_edit_list_clock=True,
    patch=_name_vendor,
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
    patch=_state_aspect,
)
WEBM = Container(
    "webm",
    sound=SoundRules(
        copied=frozenset({"opus", "vorbis"}),
        encoder=SoundEncoder("libopus", bit_rate=80_000, clock=48_000),
    ),
    pixel_aspect=True,
    states_duration=True,
    patch=_state_aspect,
)
WEBP = Container(
    "webp",
    options={"loop": "0"},  # for ever, as GIF does by itself
    patch=_state_end,
    verification=VerificationRules(differences=compare_webp),
)
GIF = Container("gif")

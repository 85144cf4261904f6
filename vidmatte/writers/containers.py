"""The movie containers: what each supports, and how its files are patched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vidmatte.core.frame import NO_FACTS, Clip, DisplayFacts
from vidmatte.core.orientation import UPRIGHT
from vidmatte.media.matroska import patch_aspect, patch_light
from vidmatte.media.quicktime import (
    add_picture_boxes,
    aperture_box,
    light_box,
    mastering_box,
    patch_vendor,
)
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


def _patch_sample_entry(path: Path, row: OutputFormat, clip: Clip, expected: Expected) -> None:
    """FFmpeg's muxer writes its own vendor: replace it by the one in the encoder's options. HDR
    metadata and clean aperture PyAV cannot pass to it: add them."""
    if row.codec_tag is None:
        return
    if (vendor := row.options.get("vendor")) is not None:
        patch_vendor(path, row.codec_tag, vendor)
    light = _carried_light(clip, expected)
    boxes = [
        *([("mdcv", mastering_box(light.mastering))] if light.mastering else []),
        *([("clli", light_box(light.content_light))] if light.content_light else []),
        *([("clap", aperture_box(light.clean_aperture))] if light.clean_aperture else []),
    ]
    if boxes:
        add_picture_boxes(path, row.codec_tag, boxes)


def _carried_light(clip: Clip, expected: Expected) -> DisplayFacts:
    """What of the clip's facts is true of the result: HDR metadata where its transfer is PQ or
    HLG, the clean aperture where it lies as stored."""
    facts = clip.display if expected.colour.is_hdr else NO_FACTS
    aperture = clip.display.clean_aperture if clip.orientation == UPRIGHT else None
    return replace(facts, clean_aperture=aperture)


def _patch_video(path: Path, _row: OutputFormat, clip: Clip, expected: Expected) -> None:
    """FFmpeg's muxer reads pixel aspect and HDR metadata only from the stream, where PyAV cannot
    set them."""
    light = _carried_light(clip, expected)
    if light.mastering is not None or light.content_light is not None:
        patch_light(path, light)
    if clip.sample_aspect_ratio != 1:
        patch_aspect(path, clip.sample_aspect_ratio)


def _patch_last_duration(path: Path, _row: OutputFormat, _clip: Clip, expected: Expected) -> None:
    """FFmpeg does not pass the last picture's duration to libwebp, which guesses it."""
    patch_duration(path, expected.end - expected.first)


#: Codecs that players and editors support in MPEG-4 files; FFmpeg's muxer would accept more.
_MPEG4_SOUND = frozenset({"aac", "alac", "mp3", "ac3", "eac3"})

MOV = Container(
    "mov",
    hdr_metadata=True,
    clean_aperture=True,
    sound=SoundRules(copied=_MPEG4_SOUND | PCM.keys() - {"pcm_u8"}, has_edit_list=True),
    timecode=True,
    pixel_aspect=True,
    has_edit_list_clock=True,
    patch=_patch_sample_entry,
    verification=VerificationRules(rate=True, end=True, has_index=True),
)
MP4 = Container(
    "mp4",
    hdr_metadata=True,
    clean_aperture=True,
    sound=SoundRules(
        copied=_MPEG4_SOUND, encoder=SoundEncoder("aac", bit_rate=128_000), has_edit_list=True
    ),
    pixel_aspect=True,
    patch=_patch_sample_entry,
    verification=VerificationRules(rate=True),
)
MATROSKA = Container(
    "matroska",
    hdr_metadata=True,
    sound=SoundRules(
        copied=frozenset(
            {"aac", "alac", "mp3", "mp2", "ac3", "eac3", "dts", "flac", "opus", "vorbis"}
            | {name for name in PCM if name.endswith("le")}
        )
    ),
    timecode=True,
    pixel_aspect=True,
    states_duration=True,
    patch=_patch_video,
)
WEBM = Container(
    "webm",
    hdr_metadata=True,
    sound=SoundRules(
        copied=frozenset({"opus", "vorbis"}),
        encoder=SoundEncoder("libopus", bit_rate=80_000, clock=48_000),
    ),
    pixel_aspect=True,
    states_duration=True,
    patch=_patch_video,
)
WEBP = Container(
    "webp",
    options={"loop": "0"},  # endless, as FFmpeg's GIF muxer does by default
    patch=_patch_last_duration,
    verification=VerificationRules(differences=compare_webp),
)
APNG = Container("apng", options={"plays": "0"})  # endless, as GIF
GIF = Container("gif")

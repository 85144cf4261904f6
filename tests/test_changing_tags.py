"""Clips joined of two cameras, whose colour tags change on the way."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from codes import code_planes, frame_of
from media import BT601_525, BT709, BT709_FULL, BT2020_HLG, UNTAGGED

from vidmatte.core.colour import ColourTags
from vidmatte.errors import SourceError
from vidmatte.pixels.convert import exact_rgb
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

SIZE = (64, 48)
RGB = np.broadcast_to(np.array([200, 90, 40]) / 255, (48, 64, 3))
PRORES = {"profile": "hq"}
#: With bt709's primaries, so that the same R'G'B' are the same colours.
MATRIX_601 = replace(BT601_525, primaries=1)


def joined(
    path: Path,
    parts: list[ColourTags],
    codec: str = "prores_ks",
    pixel_format: str = "yuv422p10le",
    container: str | None = None,
) -> Path:
    """Three frames of each kind of tags, in one stream, all showing the same colour."""
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=25)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = *SIZE, pixel_format
        first = parts[0]
        context.colorspace, context.color_range = first.matrix, first.range
        context.color_primaries, context.color_trc = first.primaries, first.transfer
        if codec == "prores_ks":
            context.options = PRORES
        file.start_encoding()
        for number, tags in enumerate(tag for part in parts for tag in [part] * 3):
            encoder = _encoder(codec, pixel_format, tags)
            frame = frame_of(code_planes(RGB, pixel_format, tags), pixel_format)
            frame.colorspace, frame.color_range = tags.matrix, tags.range
            frame.color_primaries, frame.color_trc = tags.primaries, tags.transfer
            for packet in [*encoder.encode(frame), *encoder.encode(None)]:
                packet.stream, packet.time_base = stream, Fraction(1, 25)
                packet.pts = packet.dts = number
                packet.duration = 1
                file.mux(packet)
    return path


def _encoder(codec: str, pixel_format: str, tags: ColourTags) -> av.VideoCodecContext:
    """One for each frame, whose headers state the tags."""
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = *SIZE, pixel_format
    context.time_base = Fraction(1, 25)
    context.colorspace, context.color_range = tags.matrix, tags.range
    context.color_primaries, context.color_trc = tags.primaries, tags.transfer
    context.options = PRORES if codec == "prores_ks" else {"preset": "veryfast", "crf": "4"}
    return context


def colours(path: Path, **options: object) -> tuple[np.ndarray, list[str], ColourTags]:
    """The mean R, G, B of every frame by the clip's tags, and the warnings."""
    with open_reader(path, Settings(**options)) as source:
        tags = source.clip.colour
        found = [
            exact_rgb(one.pixels, tags, 255).reshape(-1, 3).mean(axis=0)
            for one in source.pictures()
        ]
        return np.array(found), list(source.warnings), tags


@pytest.mark.parametrize(
    ("codec", "pixel_format", "name", "parts"),
    [
        ("prores_ks", "yuv422p10le", "a.mov", [BT709, MATRIX_601]),
        ("prores_ks", "yuv422p10le", "a.mov", [MATRIX_601, BT709, MATRIX_601]),
        ("libx264", "yuv420p", "a.ts", [BT709, BT709_FULL]),
        ("libx264", "yuv420p", "a.ts", [BT709_FULL, MATRIX_601]),
        ("libx264", "yuv420p", "a.mkv", [MATRIX_601, BT709_FULL]),
    ],
)
@pytest.mark.parametrize("deinterlace", ["auto", "bwdif"])
def test_every_part_shows_the_same_colours(
    deinterlace: str, codec: str, pixel_format: str, name: str, parts: list[ColourTags],
    tmp_path: Path,
) -> None:  # fmt: skip
    path = joined(tmp_path / name, parts, codec, pixel_format)
    found, warnings, tags = colours(path, deinterlace=deinterlace)
    assert len(found) == 3 * len(parts)
    assert (tags.matrix, tags.range) == (parts[0].matrix, parts[0].range)
    assert np.abs(found - [200, 90, 40]).max() <= 3
    (line,) = [line for line in warnings if "colour tags change" in line]
    assert line.startswith(f"{name}: the colour tags change at 0.12 s (")
    assert "converted to the first frame's" in line


def test_what_is_not_stated_is_as_in_the_first_frame(tmp_path: Path) -> None:
    path = joined(tmp_path / "a.mov", [BT709, UNTAGGED, BT709])
    _, warnings, _ = colours(path)
    assert warnings == []


def in_bt709(rgb: np.ndarray) -> np.ndarray:
    """R'G'B' 0..255 with the primaries of Display P3 and the curve of bt709, in bt709.

    From the chromaticities (SMPTE EG 432-1 and ITU-R BT.709; both have the white D65), with the
    curve of BT.709, item 1.2.
    """
    codes = rgb / 255
    light = np.where(codes < 0.081, codes / 4.5, ((codes + 0.099) / 1.099) ** (1 / 0.45))
    matrix = [[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]]
    light = np.clip(matrix @ light, 0, 1)
    return 255 * np.where(light < 0.018, light * 4.5, 1.099 * light**0.45 - 0.099)


@pytest.mark.parametrize("pixel_format", ["yuv422p10le", "yuv444p10le"])
def test_other_primaries_are_converted(pixel_format: str, tmp_path: Path) -> None:
    other = ColourTags(1, 1, 12, 1)
    path = joined(tmp_path / "a.mov", [BT709, other], pixel_format=pixel_format)
    found, warnings, _ = colours(path)
    assert np.abs(found[:3] - [200, 90, 40]).max() <= 3
    assert np.abs(found[3:] - in_bt709(found[0])).max() <= 1.5
    assert np.abs(found[3] - found[0]).max() > 5
    assert warnings == [
        "a.mov: the colour tags change at 0.12 s (primaries bt709 to smpte432); primaries"
        " converted to the first frame's"
    ]


def test_primaries_without_a_definition_are_said_and_left(tmp_path: Path) -> None:
    film = ColourTags(1, 1, 22, 1)
    found, warnings, _ = colours(joined(tmp_path / "a.mov", [BT709, film]))
    assert np.abs(found - found[0]).max() < 0.5
    (line,) = warnings
    assert line.endswith("primaries read as the first frame's")


def test_another_curve_is_converted(tmp_path: Path) -> None:
    """By a colour that both parts show: sRGB's and bt709's codes of the same light differ."""
    srgb = ColourTags(1, 1, 1, 13)
    found, warnings, _ = colours(joined(tmp_path / "a.mov", [BT709, srgb]))
    light = ((found[0] / 255 + 0.055) / 1.055) ** 2.4
    expected = 255 * np.where(light < 0.018, light * 4.5, 1.099 * light**0.45 - 0.099)
    assert np.abs(found[3] - expected).max() <= 1.5
    assert "transfer bt709 to iec61966-2-1" in warnings[0] and "converted" in warnings[0]


def test_hdr_within_sdr_is_refused(tmp_path: Path) -> None:
    path = joined(tmp_path / "a.mov", [BT709, BT2020_HLG])
    with pytest.raises(
        SourceError, match=r"colours change at 0\.12 s .*arib-std-b67.* cut it there"
    ):
        colours(path)

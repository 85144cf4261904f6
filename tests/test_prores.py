"""ProRes frames of which only the slices that show something are encoded."""

from __future__ import annotations

import av
import numpy as np
import pytest
from test_cutout import make_clip

from vidmatte.core.colour import LIMITED, ColourTags
from vidmatte.media.prores import split_frame
from vidmatte.pixels import planes
from vidmatte.pixels.convert import set_tags
from vidmatte.writers.encoders import frame_colour, worker_encoder
from vidmatte.writers.extra_outputs import _PRORES_HQ
from vidmatte.writers.format_spec import EncoderSpec, OutputFormat
from vidmatte.writers.formats import by_name
from vidmatte.writers.prores import ProresEncoder

COLOUR = ColourTags(9, LIMITED, 9, 16)
EMPTY = (64, 512, 512, 0)


def blank(width: int, height: int, row: OutputFormat) -> av.VideoFrame:
    """A black, transparent picture, tagged as movies are."""
    frame = av.VideoFrame(width, height, row.pixel_format(make_clip()))
    for plane, code in zip(planes.plane_views(frame), EMPTY, strict=False):
        plane.fill(code)
    set_tags(frame, frame_colour(row, COLOUR))
    frame.pts, frame.time_base = 7, make_clip().time_base
    return frame


def encoded_twice(frame: av.VideoFrame, row: OutputFormat) -> tuple[av.Packet, av.Packet]:
    """The picture's packet of both encoders, FFmpeg's first."""
    clip = make_clip(width=frame.width, height=frame.height)
    spec = EncoderSpec(row, clip, COLOUR)
    (expected,) = worker_encoder(row, clip, COLOUR).encode(frame)
    encoder = ProresEncoder(spec)
    encoder.encode(blank(frame.width, frame.height, row))  # nothing is left of it
    (found,) = encoder.encode(frame)
    return expected, found


@pytest.mark.parametrize("name", ["prores", "prores-xq", "prores-hq"])
@pytest.mark.parametrize("size", [(384, 96), (720, 100), (1366, 40), (202, 33), (16, 16), (2, 300)])
def test_frames_are_ffmpegs_byte_for_byte(name: str, size: tuple[int, int]) -> None:
    row = _PRORES_HQ if name == "prores-hq" else by_name(name)
    width, height = size
    frame, random = blank(width, height, row), np.random.default_rng(3)
    for plane in planes.plane_views(frame):
        rows, columns = plane.shape
        plane[rows // 2 :, : columns // 4] = random.integers(64, 940, (rows - rows // 2, 1))
        plane[-3:, columns // 8 : columns // 5] += 5
    planes.plane_views(frame)[1][0, -1] += 1  # a single sample of chroma counts
    expected, found = encoded_twice(frame, row)
    assert bytes(found) == bytes(expected)
    assert (found.pts, found.is_keyframe) == (expected.pts, expected.is_keyframe) == (7, True)


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_empty_and_full_pictures(share: float) -> None:
    row, random = by_name("prores"), np.random.default_rng(1)
    frame = blank(1024, 1104, row)  # more slices than are encoded at once
    for plane in planes.plane_views(frame):
        used = plane[: round(share * len(plane))]
        used[:] = random.integers(64, 940, used.shape)
    expected, found = encoded_twice(frame, row)
    assert bytes(found) == bytes(expected)


def test_other_frames_are_not_cut_up() -> None:
    row = by_name("prores")
    _, packet = encoded_twice(blank(64, 32, row), row)
    data = bytes(packet)
    header, slices = split_frame(data)
    assert len(slices) == 2 and data.endswith(slices[-1]) and header in data
    for damaged in (data[:-1], data.replace(b"icpf", b"icpx")):
        with pytest.raises(ValueError, match="not a progressive ProRes frame"):
            split_frame(damaged)

"""Colour matrices that swscale does not support: one has a substitute, others are refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media import make_movie
from tiny_onnx import make_salient

import vidmatte
from vidmatte.core.colour import ColourTags
from vidmatte.core.orientation import UPRIGHT, Orientation
from vidmatte.errors import UsageError
from vidmatte.pixels.formats import Repacker
from vidmatte.pixels.network_rgb import NetworkRgb
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

BT2020C = ColourTags(10, 1, 9, 14)


def test_bt2020c_is_handled_as_bt2020nc(tmp_path: Path) -> None:
    model = {"model": str(make_salient(tmp_path / "tiny.onnx")), "family": "isnet"}
    seen = []
    for matrix in (9, 10):
        movie = make_movie(
            tmp_path / f"{matrix}.mp4", size=(64, 48), frames=2, rate=Fraction(25),
            pixel_format="yuv420p10le", colour=replace(BT2020C, matrix=matrix),
        )  # fmt: skip
        with vidmatte.stream(movie.path, **model) as frames:
            seen.append([(frame.rgb, frame.alpha) for frame in frames])
    for one, other in zip(*seen, strict=True):
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])
    for suffix, matrix in ((".mov", 9), (".webm", 9), (".mkv", 10)):
        out = tmp_path / f"out{suffix}"
        vidmatte.matte(tmp_path / "10.mp4", out, **model)
        with av.open(str(out)) as container:
            assert next(container.decode(video=0)).colorspace == matrix, suffix


@pytest.mark.parametrize("orientation", [UPRIGHT, Orientation(90)])
@pytest.mark.parametrize(("given", "working"), [("p010le", "yuv420p10le"), ("yuv422p", "yuv444p")])
def test_bt2020c_is_repacked(given: str, working: str, orientation: Orientation) -> None:
    frame = av.VideoFrame(64, 48, given)
    assert Repacker(working, orientation, BT2020C)(frame).format.name == working


def test_ycgco_is_refused_even_without_an_output_file(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", size=(64, 48), frames=1)
    with open_reader(movie.path, Settings()) as source:
        NetworkRgb(source.clip)
        with pytest.raises(UsageError, match="matrix is ycgco"):
            NetworkRgb(replace(source.clip, colour=ColourTags(8, 1, 1, 1)))

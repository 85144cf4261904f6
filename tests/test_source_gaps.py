"""Clips that miss frames: what is there keeps its time, and the gap is told of or kept."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media import Movie, make_movie
from readback import frame_times
from scene import read_index
from sink_support import write_clip

from vidmatte.settings import Settings
from vidmatte.sink import Sides
from vidmatte.source import open_source
from vidmatte.source.view import Viewer

DROPPED = [*range(7), *range(8, 16)]  # places of the frames, one of them empty


def read_times(path: Path, **options: object) -> tuple[list[int], list[Fraction]]:
    """Indices read from the pictures, and their times in seconds."""
    with open_source(path, Settings(**options)) as source:
        clip, viewer = source.clip, Viewer(source.clip)
        view = np.empty((clip.height, clip.width, 3), np.uint8)
        indices, times = [], []
        for picture in source.pictures():
            viewer.view(picture.pixels, view)
            indices.append(read_index(view))
            times.append(picture.pts * clip.time_base)
    return indices, times


def with_a_dropped_frame(path: Path) -> Movie:
    """15 frames at 25 fps, with an empty place after the seventh."""
    return make_movie(path, pts=DROPPED, codec="mpeg4", options={"b": "2M"})


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_dropped_frame_leaves_its_gap(suffix: str, tmp_path: Path) -> None:
    """In an AVI a tick is a frame: the gap is no rounding of its clock."""
    movie = with_a_dropped_frame(tmp_path / f"clip{suffix}")
    assert read_times(movie.path) == (list(range(15)), [place / movie.rate for place in DROPPED])
    indices, times = read_times(movie.path, in_point="f3", out_point="f10")
    assert indices == list(range(3, 10))
    assert times == [(place - 3) / movie.rate for place in DROPPED[3:10]]


def test_a_dropped_frame_is_a_gap_in_the_result_too(tmp_path: Path) -> None:
    movie = with_a_dropped_frame(tmp_path / "clip.avi")
    out, comp = tmp_path / "out.mov", tmp_path / "comp.mp4"
    write_clip(movie, out, sides=Sides(comp=comp))
    for path in (out, comp):
        assert frame_times(path) == [place / movie.rate for place in DROPPED]

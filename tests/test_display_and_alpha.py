"""Display matrices that are no quarter turns, and alpha that a decoder does not give."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest
from media import make_movie
from writer_support import disc, write_clip

from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings


def with_matrix(path: Path, *values: float) -> Path:
    """A clip whose track has the display matrix a b 0, c d 0, 0 0 1 (ISO/IEC 14496-12, 8.3.2)."""
    make_movie(path, frames=3, size=(64, 48))
    data = bytearray(path.read_bytes())
    a, b, c, d = values
    numbers = [*(round(one * 65536) for one in (a, b, 0, c, d, 0, 0, 0)), 1 << 30]
    struct.pack_into(">9i", data, data.find(b"tkhd") + 44, *numbers)
    path.write_bytes(data)
    return path


def turned(degrees: float) -> tuple[float, float, float, float]:
    """The matrix of a rotation clockwise."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return cosine, sine, -sine, cosine


@pytest.mark.parametrize(
    ("matrix", "rotation", "said"),
    [
        (turned(45), None, "rotates it by 45.0 degrees clockwise"),
        (turned(-2), 0, "rotates it by 2.0 degrees counter-clockwise"),
        (turned(92), 270, "rotates it by 92.0 degrees clockwise"),
        ((1, 0, 0.5, 1), 0, "slants it by 26.6 degrees"),
        ((-1, 0, 0.5, 1), 0, "slants it by 26.6 degrees"),
        (turned(90), 270, None),
        (turned(90.2), 270, None),
        ((-1, 0, 0, 1), 0, None),  # mirrored
        ((2, 0, 0, 2), 0, None),
        ((0, 0, 0, 0), 0, None),
    ],
)
def test_only_quarter_turns_are_applied_and_others_are_said(
    matrix: tuple[float, ...], rotation: int | None, said: str | None, tmp_path: Path
) -> None:
    with open_reader(with_matrix(tmp_path / "a.mov", *matrix), Settings()) as source:
        assert rotation in (None, source.clip.orientation.rotation)
        expected = [] if said is None else [
            f"a.mov: its display matrix {said}: only the nearest quarter turn is applied; the rest"
            " is for the program that shows the result"
        ]  # fmt: skip
        assert source.warnings == expected


@pytest.mark.parametrize("name", ["a.webm", "a.mkv"])
def test_the_alpha_of_vp9_is_noticed(name: str, tmp_path: Path) -> None:
    """It lies beside the packets, and FFmpeg's usual decoder does not give it."""
    clip = make_movie(tmp_path / "clip.mp4", frames=3, size=(64, 48))
    write_clip(clip, tmp_path / "a.webm", disc)
    path = (tmp_path / "a.webm").rename(tmp_path / name)
    with open_reader(path, Settings()) as source:
        assert source.clip.has_alpha
        assert source.warnings == [f"{name}: its own alpha is ignored, a new one is made"]
    plain = make_movie(tmp_path / "plain.webm", frames=3, size=(64, 48), codec="libvpx-vp9").path
    with open_reader(plain, Settings()) as source:
        assert not source.clip.has_alpha

"""Pixel aspect: every container that supports non-square pixels gets the tag."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from media import Movie, Tone, make_movie
from readback import frame_times, probe_stream, run_tool
from writer_support import write_clip

from vidmatte.errors import OutputError, VerificationError
from vidmatte.media.matroska import patch_aspect
from vidmatte.writers.extra_outputs import ExtraOutputs
from vidmatte.writers.format_spec import Expected
from vidmatte.writers.formats import by_name
from vidmatte.writers.verify import verify_movie

WIDE = Fraction(16, 15)


@pytest.fixture
def movie(source_movie: Callable[[str], Movie]) -> Movie:
    return source_movie("anamorphic 720x576")


@pytest.mark.parametrize("name", ["out.mov", "out.mkv", "out.webm"])
def test_the_pixel_aspect_is_kept(name: str, movie: Movie, tmp_path: Path) -> None:
    extras = ExtraOutputs(matte=tmp_path / "m.mkv", comp=tmp_path / "c.mp4")
    _, written = write_clip(movie, tmp_path / name, extras=extras)
    for path in (tmp_path / name, extras.matte, extras.comp):
        stream = probe_stream(path)
        assert stream["sample_aspect_ratio"] == "16:15"
        assert stream["display_aspect_ratio"] == "4:3"
        assert frame_times(path) == [pts * movie.time_base for pts in movie.pts]
    assert not written.notes


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_the_rest_of_the_header_is_unchanged(suffix: str, tmp_path: Path) -> None:
    """Checksums are valid, and the header's file positions still point to the right places."""
    square = make_movie(tmp_path / "clip.mp4", frames=30, audio=[Tone()], timecode="01:00:00:00")
    write_clip(square, plain := tmp_path / f"plain{suffix}")
    out = tmp_path / f"out{suffix}"
    shutil.copy(plain, out)
    patch_aspect(out, Fraction(8, 9))
    assert probe_stream(out)["sample_aspect_ratio"] == "57:64"  # 171 pixels wide instead of 192
    own = {"sample_aspect_ratio", "display_aspect_ratio"}
    for kind in ("video", "audio"):
        before, after = probe_stream(plain, kind), probe_stream(out, kind)
        assert {**after, **dict.fromkeys(own)} == {**before, **dict.fromkeys(own)}
    read = ("ffmpeg", "-v", "error", "-err_detect", "+crccheck+explode")
    assert run_tool(*read, "-ss", "1", "-i", out, "-f", "null", "-") == b""
    data = out.read_bytes()
    begin = data.index(b"\x18\x53\x80\x67") + 12  # the segment, after its size
    seek = rb"\x4d\xbb.\x53\xab\x84(.{4})\x53\xac[\x81-\x84](.+?)(?=\x4d\xbb|\xec)"
    seeks = re.findall(seek, data[: data.index(b"\x16\x54\xae\x6b\x40")], re.DOTALL)
    assert len(seeks) == 4
    for ident, place in seeks:
        assert data[begin + int.from_bytes(place, "big") :].startswith(ident)
    assert len(data) == plain.stat().st_size


def test_a_header_without_space_is_refused_and_a_missing_aspect_is_detected(
    source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie = source_movie("8-bit 709")
    clip, _ = write_clip(movie, out := tmp_path / "out.mkv", audio=False)
    end = clip.frame_count / clip.rate
    expected = Expected(clip.frame_count, Fraction(0), end - 1 / clip.rate, end, (), clip.colour)
    verify_movie(out, clip, by_name("ffv1"), expected)
    with pytest.raises(VerificationError, match="pixel aspect: 1 instead of 16/15"):
        verify_movie(out, replace(clip, sample_aspect_ratio=WIDE), by_name("ffv1"), expected)
    data = out.read_bytes()
    void = data.index(b"\xec\x01" + bytes(6))
    out.write_bytes(data[:void] + b"\xed" + data[void + 1 :])
    with pytest.raises(OutputError, match=r"out\.mkv: no pixel aspect can be added to its header"):
        patch_aspect(out, WIDE)


@pytest.mark.parametrize("name", ["out.gif", "out.webp"])
def test_formats_with_square_pixels_only_note_it(name: str, tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=3, sample_aspect_ratio=WIDE)
    _, written = write_clip(movie, tmp_path / name)
    assert [note for note in written.notes if "shown with square pixels" in note]

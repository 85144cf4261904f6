"""Damaged movies: the frame count is kept, damage is reported, and --strict stops."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from media import Movie, make_movie
from tiny_onnx import make_salient

from vidmatte.api import matte
from vidmatte.errors import OutputError, SourceError
from vidmatte.media.ffv1 import have_checksums
from vidmatte.pixels.formats import plane_arrays
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

CHECKED = {"level": "3", "slicecrc": "1", "slices": "4"}


def make_checked(path: Path, every: int = 4, **options: str) -> Movie:
    """FFV1 of 10 frames with slice checksums and a key frame every ``every`` frames."""
    coded = {**CHECKED, "g": str(every), **options}
    return make_movie(path, codec="ffv1", pixel_format="yuv420p", options=coded)


def packets_in(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def damage(movie: Movie, numbers: list[int], *, zeroed: bool = True) -> Path:
    """A copy with some packets zeroed, or a hundred bytes in their middle flipped."""
    data, path = movie.path.read_bytes(), movie.path.with_stem("damaged")
    for packet in (packets_in(movie.path)[number] for number in numbers):
        flipped = bytearray(packet)
        middle = slice(len(packet) // 2, len(packet) // 2 + 100)
        flipped[middle] = bytes(byte ^ 0x5A for byte in flipped[middle])
        assert data.count(packet) == 1
        data = data.replace(packet, bytes(len(packet)) if zeroed else bytes(flipped))
    path.write_bytes(data)
    return path


def read_luma(path: Path, **options: object) -> tuple[list[np.ndarray], list[int], list[str]]:
    """The luma of all frames, their frame numbers, and the warnings."""
    with open_reader(path, Settings(**options)) as source:
        clip = source.clip
        pictures = list(source.pictures())
        numbers = [round(picture.pts * clip.time_base * clip.rate) for picture in pictures]
        return [plane_arrays(picture.pixels)[0] for picture in pictures], numbers, source.warnings


def check_replaced(movie: Movie, damaged: Path, replaced: dict[int, int]) -> None:
    """The damaged clip's frames are those of the intact one, except some that are replaced by
    others; each is reported, and --strict stops."""
    intact, _, _ = read_luma(movie.path)
    found, numbers, warnings = read_luma(damaged)
    assert numbers == list(range(len(intact)))
    for number, picture in enumerate(found):
        assert np.array_equal(picture, intact[replaced.get(number, number)]), number
    times = [
        f"the frame at {float(number / movie.rate):.2f} s does not decode" for number in replaced
    ]
    assert len(warnings) == len(times)
    assert all(time in line for time, line in zip(times, warnings, strict=True))
    with pytest.raises(SourceError, match=r"does not decode \([^\n]*--strict stops here: "):
        read_luma(damaged, strict=True)


@pytest.mark.parametrize("zeroed", [True, False])
def test_a_wrong_checksum_breaks_the_frame_and_those_that_depend_on_it(
    zeroed: bool, tmp_path: Path
) -> None:
    movie = make_checked(tmp_path / "clip.mkv")
    damaged = damage(movie, [5], zeroed=zeroed)
    with av.open(str(damaged)) as container:  # the decoder reports nothing
        assert not any(frame.is_corrupt for frame in container.decode(video=0))
    check_replaced(movie, damaged, {5: 4, 6: 4, 7: 4})


def test_with_key_frames_only_one_wrong_checksum_breaks_one_frame(tmp_path: Path) -> None:
    movie = make_checked(tmp_path / "clip.mkv", every=1)
    check_replaced(movie, damage(movie, [0, 9], zeroed=False), {0: 1, 9: 8})


def test_ffv1_without_checksums_is_not_checked(tmp_path: Path) -> None:
    for options in ({"slicecrc": "0"}, {"level": "1", "slicecrc": "0", "slices": "1"}):
        movie = make_checked(tmp_path / "clip.mkv", **options)
        with av.open(str(movie.path)) as container:
            assert not have_checksums(container.demux(video=0))
        assert len(read_luma(movie.path, strict=True)[0]) == 10


@pytest.mark.parametrize("resume", [False, True])
def test_a_clip_without_any_good_frame_is_reported_with_the_next_step(
    resume: bool, tmp_path: Path
) -> None:
    movie = make_checked(tmp_path / "clip.mkv", every=20)
    damaged = damage(movie, [0], zeroed=False)
    model = str(make_salient(tmp_path / "tiny.onnx"))
    message = r"no frame to write[^\n]* is damaged\.mkv complete\? copy it again"
    with pytest.raises(OutputError, match=message):
        matte(damaged, tmp_path / "out.mov", model=model, family="isnet", resume=resume)


CODECS = {
    "prores_ks": (".mov", "yuv422p10le"),
    "libx264": (".mp4", "yuv420p"),
    "libx265": (".mp4", "yuv420p"),
    "libvpx-vp9": (".webm", "yuv420p"),
}


@pytest.mark.parametrize("codec", CODECS)
def test_a_broken_packet_at_the_end_loses_no_good_frame(codec: str, tmp_path: Path) -> None:
    suffix, pixel_format = CODECS[codec]
    movie = make_movie(
        tmp_path / f"clip{suffix}", frames=12, codec=codec, pixel_format=pixel_format
    )
    with av.open(str(movie.path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    lost = round(packets[-1].pts * packets[-1].time_base * movie.rate)
    check_replaced(movie, damage(movie, [11]), {lost: lost - 1})


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_one_good_frame_keeps_the_count(codec: str, tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=12, codec=codec)
    damaged = damage(movie, list(range(1, 12)))
    check_replaced(movie, damaged, dict.fromkeys(range(1, 12), 0))


def test_the_same_in_a_container_with_decoding_order_only(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.avi", frames=12, options={"bf": "2"})
    damaged = damage(movie, [11])
    intact, _, _ = read_luma(movie.path)
    found, numbers, warnings = read_luma(damaged)
    assert numbers == list(range(12))
    assert len(warnings) == 1
    assert "does not decode; the previous frame is repeated in its place" in warnings[0]
    assert sum(any(np.array_equal(one, other) for other in found) for one in intact) == 11
    with pytest.raises(SourceError, match="--strict stops here: "):
        read_luma(damaged, strict=True)


def test_a_frame_that_the_decoder_silently_drops_stops_a_strict_run(
    tmp_path: Path,
) -> None:
    movie = make_movie(tmp_path / "clip.mxf", frames=12, codec="mpeg2video", options={"bf": "0"})
    damaged = damage(movie, [5])
    assert len(read_luma(damaged)[0]) == 12
    with pytest.raises(
        SourceError, match=r"frame at 0\.20 s does not decode; --strict stops here: "
    ):
        read_luma(damaged, strict=True)

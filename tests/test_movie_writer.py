"""Written movies, read back by ffmpeg and ffprobe."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media import BT709, SOURCE_KINDS, Movie, make_movie, make_pictures
from readback import decode, decode_limited, frame_times, probe_stream
from scene import Picture, read_index
from tolerance import EXACT, PRORES_PICTURE, assert_close
from writer_support import disc, levels, read_frames, write_clip

from vidmatte.core.colour import FULL, LIMITED
from vidmatte.core.frame import Clip
from vidmatte.pixels import planes
from vidmatte.pixels.network_rgb import NetworkRgb
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.writers.extra_outputs import ExtraOutputs

PROGRESSIVE = [kind for kind in SOURCE_KINDS if "interlaced" not in kind]
#: How ffprobe may call a matrix with the same coefficients.
SAME_MATRIX = {"bt470bg": "smpte170m"}


def alphas(clip: Clip, count: int) -> np.ndarray:
    """(N, H, W) float64, the disc of every frame."""
    return np.stack([disc(i, clip.width, clip.height) for i in range(count)]).astype(np.float64)


def in_more_bits(level: np.ndarray, bits: int) -> np.ndarray:
    """10-bit alpha as a ProRes decoder expands it to more bits: upper bits repeated."""
    sixteen = (level << 6) | (level >> 4)
    return sixteen >> (16 - bits)


def steps(index: float, width: int, height: int, lit: bool = False) -> Picture:
    """The left half black, the right half white."""
    rgb = np.zeros((height, width, 3), np.float32)
    rgb[:, width // 2 :] = 1
    return Picture(rgb, np.ones((height, width), np.float32))


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (2, 3), (3, 2), (1, 400)])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "gbrp", "gray16le"])
@pytest.mark.thinned(4)
def test_ffv1_supports_the_narrowest_pictures(
    pixel_format: str, size: tuple[int, int], tmp_path: Path
) -> None:
    frame = av.VideoFrame(*size, pixel_format)
    for number, plane in enumerate(planes.plane_views(frame)):
        plane[...] = 60 + 20 * number
    with av.open(str(tmp_path / "narrow.nut"), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    extras = ExtraOutputs(matte=tmp_path / "m.mkv", comp=tmp_path / "c.mkv")
    write_clip(tmp_path / "narrow.nut", out := tmp_path / "out.mkv", levels, extras=extras)
    given, found = (decode(path, "rgb48le") for path in (tmp_path / "narrow.nut", out))
    assert np.array_equal(given, found)
    (matte,) = decode(tmp_path / "m.mkv", "gray16le")
    assert np.array_equal(matte[..., 0], np.rint(levels(0, *size) * 65535))


@pytest.mark.parametrize(("range_", "black", "white"), [(LIMITED, 16, 235), (FULL, 0, 255)])
@pytest.mark.parametrize("kind", ["libx265 gray", "ffv1 gray", "ffv1 gray10le", "ffv1 gray16le"])
def test_grey_movies_reach_black_and_white(
    kind: str, range_: int, black: int, white: int, tmp_path: Path
) -> None:
    """Their tagged range counts: limited grey is luma, in every result and for the network."""
    codec, pixel_format = kind.split()
    options = {"x265-params": f"lossless=1:log-level=none:range={['', 'limited', 'full'][range_]}"}
    movie = make_movie(
        tmp_path / "grey.mkv",
        size=(64, 48),
        frames=1,
        codec=codec,
        pixel_format=pixel_format,
        colour=replace(BT709, range=range_),
        options=options if codec == "libx265" else {},
        draw=steps,
    )
    unit = 2 ** (av.VideoFormat(pixel_format).components[0].bits - 8)
    stored = {black * unit, 235 * unit if range_ == LIMITED else 256 * unit - 1}
    with av.open(str(movie.path)) as container:
        frame = next(container.decode(video=0))
        assert (frame.format.name, frame.color_range) == (pixel_format, range_)
        assert {*np.unique(planes.plane_views(frame)[0])} == stored
    opaque = lambda index, width, height: np.ones((height, width), np.float32)  # noqa: E731
    write_clip(movie, tmp_path / "png", opaque, format="png16")
    found = decode(tmp_path / "png" / "000000.png", "rgba64le")[0, ..., :3]
    assert {*np.unique(found[:, :30])} == {0}
    assert {*np.unique(found[:, 34:])} == {65535}
    write_clip(movie, tmp_path / "out.mov", opaque)
    with av.open(str(tmp_path / "out.mov")) as container:
        luma = planes.plane_views(next(container.decode(video=0)))[0][..., [4, -4]] >> 2
    assert np.abs(luma.astype(int) - [64, 940]).max() <= 1
    with open_reader(movie.path, Settings()) as source:
        view = np.empty((48, 64, 3), np.uint8)
        NetworkRgb(source.clip).view(next(source.pictures()).pixels, view)
    assert {*np.unique(view)} == {0, 255}


@pytest.mark.parametrize("depth", ["9le", "10le", "12le", "14le", "16le"])
def test_ffv1_of_deep_rgb_is_read_by_other_decoders(depth: str, tmp_path: Path) -> None:
    """Each sample survives, and older FFV1 decoders support the layout."""
    movie = make_movie(
        tmp_path / "clip.mkv", size=(64, 48), frames=1, codec="ffv1", pixel_format=f"gbrp{depth}"
    )
    opaque = lambda index, width, height: np.ones((height, width), np.float32)  # noqa: E731
    write_clip(movie, out := tmp_path / "out.mkv", opaque)
    with av.open(str(movie.path)) as source, av.open(str(out)) as result:
        given, found = (next(container.decode(video=0)) for container in (source, result))
        assert found.format.name in ("gbrap10le", "gbrap12le", "gbrap16le")
        tops = [planes.full_scale(frame.format.name) for frame in (given, found)]
        for one, other in zip(planes.plane_views(given), planes.plane_views(found), strict=False):
            assert np.array_equal(np.rint(other / tops[1] * tops[0]), one)
    shown, expected = decode(out, "rgb24"), decode(movie.path, "rgb24")
    assert np.abs(shown.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", PROGRESSIVE)
@pytest.mark.thinned(6)
def test_prores_keeps_picture_alpha_time_and_tags(
    kind: str, source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie = source_movie(kind)
    clip, written = write_clip(movie, out := tmp_path / "out.mov")
    stream = probe_stream(out)
    assert (stream["codec_tag_string"], stream["profile"]) == ("ap4h", "4444")
    assert (stream["width"], stream["height"]) == movie.size
    assert int(stream["nb_frames"]) == movie.frames == written.frames
    # The picture: opaque pixels against ffmpeg's own decode of the source.
    found = decode(out, "yuva444p12le")
    expected = decode_limited(movie.path, clip.colour.range == FULL)
    alpha = alphas(clip, movie.frames)
    assert_close(decode(out, "yuv444p10le"), expected, PRORES_PICTURE, where=alpha == 1, full=1023)
    # Alpha: ten bits, rounded; every level survives, 0 and 1 exactly.
    level = found[..., 3] >> 2
    assert np.abs(level - alpha * 1023).max() <= 0.501
    assert np.array_equal(found[..., 3], in_more_bits(level.astype(int), 12))
    # Time: from zero, each frame at its time, the last as long as the others.
    start = movie.pts[0] * movie.time_base
    times = frame_times(out)
    origin = start - clip.origin
    assert times == [origin + (pts - movie.pts[0]) * movie.time_base for pts in movie.pts]
    assert Fraction(stream["duration_ts"]) * Fraction(stream["time_base"]) == written.seconds
    if clip.constant_rate:
        assert Fraction(stream["avg_frame_rate"]) == movie.rate
    # Tags.
    names = clip.colour.with_matrix(clip.colour.matrix, LIMITED).as_names()
    assert stream["color_range"] == names["range"]
    assert stream["color_space"] in (names["matrix"], SAME_MATRIX.get(names["matrix"]))
    assert stream["color_primaries"] in (names["primaries"], "bt470bg")
    aspect = clip.sample_aspect_ratio
    assert stream["sample_aspect_ratio"] == f"{aspect.numerator}:{aspect.denominator}"
    assert stream["field_order"] == "progressive"


@pytest.mark.parametrize("kind", PROGRESSIVE)
def test_ffv1_keeps_every_sample(
    kind: str, source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie = source_movie(kind)
    clip, _ = write_clip(movie, out := tmp_path / "out.mkv")
    _, frames = read_frames(movie.path, Settings(), disc)
    with av.open(str(out)) as container:
        for frame, found in zip(frames, container.decode(video=0), strict=True):
            arrays = planes.plane_views(found)
            full_scale = planes.full_scale(found.format.name)
            shift = full_scale.bit_length() - clip.bit_depth
            for plane, given in zip(arrays, planes.plane_views(frame.picture), strict=False):
                assert plane.shape == given.shape
                assert np.array_equal(plane, given.astype(plane.dtype) << shift)
            assert frame.alpha is not None
            assert np.abs(arrays[3] - frame.alpha.astype(float) * full_scale).max() <= 0.51
            assert found.colorspace == clip.colour.matrix
            assert found.color_range == clip.colour.range
            assert found.color_primaries == clip.colour.primaries
            assert found.color_trc == clip.colour.transfer


@pytest.mark.parametrize("kind", ["8-bit 709", "8-bit full range", "10-bit 709"])
def test_ffmpeg_reads_ffv1_as_the_source(
    kind: str, source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie = source_movie(kind)
    clip, _ = write_clip(movie, out := tmp_path / "out.mkv")
    opaque = alphas(clip, movie.frames) == 1
    for pixel_format in ("yuv444p10le", "rgb24"):
        found, expected = decode(out, pixel_format), decode(movie.path, pixel_format)
        assert_close(found, expected, EXACT, where=opaque)


@pytest.mark.parametrize("kind", ["8-bit 709", "odd size", "variable rate", "anamorphic 720x576"])
def test_webm_alpha_is_lossless(
    kind: str, source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    """Colours are lossy VP9, alpha is exact: no specks in transparent or opaque areas."""
    movie = source_movie(kind)
    clip, _ = write_clip(movie, out := tmp_path / "out.webm")
    stream = probe_stream(out)
    assert (stream["codec_name"], stream["tags"]["ALPHA_MODE"]) == ("vp9", "1")
    found = decode(out, "yuva444p", before=("-c:v", "libvpx-vp9"))
    alpha = alphas(clip, movie.frames)
    assert np.abs(found[..., 3] - alpha * 255).max() <= 0.51
    expected = decode(movie.path, "yuv444p")
    apart = np.abs(found[..., :3].astype(int) - expected)[alpha == 1]
    assert apart.mean() < 3
    start = movie.pts[0] * movie.time_base - clip.origin
    expected_times = [start + (pts - movie.pts[0]) * movie.time_base for pts in movie.pts]
    # WebM counts milliseconds: each time is rounded separately, so errors do not add up.
    assert all(
        abs(a - b) <= Fraction(1, 2000)
        for a, b in zip(frame_times(out), expected_times, strict=True)
    )


def test_webm_has_an_alpha_key_frame_at_every_key_frame(tmp_path: Path) -> None:
    """A seeking player starts both decoders there."""
    movie = make_movie(tmp_path / "clip.mp4", frames=300, size=(64, 36), options={"crf": "30"})
    write_clip(movie, out := tmp_path / "out.webm")
    keys = 0
    with av.open(str(out)) as container:
        for packet in container.demux(video=0):
            if packet.size and packet.is_keyframe:
                keys += 1
                addition = bytes(packet.get_sidedata("matroska_block_additional"))
                # VP9 uncompressed header: frame marker 2, profile 0, then 0 for a key frame.
                assert addition[8] & 0b11111100 == 0b10000000
    assert keys >= 2


def test_cineform_stores_rgba_within_its_loss(
    source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie = source_movie("10-bit 709")
    clip, _ = write_clip(movie, out := tmp_path / "out.mov", format="cineform")
    assert probe_stream(out)["codec_tag_string"] == "CFHD"
    _, frames = read_frames(movie.path, Settings(), disc)
    alpha = alphas(clip, movie.frames)
    with av.open(str(out)) as container:
        found = np.stack([planes.plane_views(f)[3].copy() for f in container.decode(video=0)])
    assert set(np.unique(found[alpha == 0])) == {0}
    assert set(np.unique(found[alpha == 1])) == {4095}
    assert np.abs(found - alpha * 4095).max() < 0.01 * 4095
    assert len(list(frames)) == len(found)


def test_prores_xq_has_its_own_tag(source_movie: Callable[[str], Movie], tmp_path: Path) -> None:
    write_clip(source_movie("8-bit 709"), out := tmp_path / "out.mov", format="prores-xq")
    assert probe_stream(out)["codec_tag_string"] == "ap4x"


def test_all_levels_of_alpha_survive_prores(
    source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    write_clip(source_movie("8-bit 709"), out := tmp_path / "out.mov", alpha=levels)
    assert len(np.unique(decode(out, "yuva444p12le")[..., 3])) == 1024


def test_the_mov_has_the_metadata_that_editors_need(
    source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie = source_movie("drop frame timecode")
    write_clip(movie, out := tmp_path / "out.mov")
    assert probe_stream(out)["tags"]["timecode"] == "01:00:00;00"
    track = probe_stream(out, "data")
    assert track["codec_tag_string"] == "tmcd"
    assert track["tags"]["timecode"] == "01:00:00;00"
    assert track["tags"]["reel_name"] == "A001C003"
    data = out.read_bytes()
    # Apple ProRes frame header, SMPTE RDD 36 table 2: vendor, chroma, alpha bits.
    header = data.index(b"icpf") + 4
    assert data[header + 4 : header + 8] == b"apl0"
    assert data[header + 12] >> 6 == 3, "4:4:4"
    assert data[header + 17] & 15 == 2, "alpha of 16 bits"
    assert probe_stream(out)["tags"]["vendor_id"] == "apl0"
    at = data.index(b"colr") + 4
    assert struct.unpack(">4s3H", data[at : at + 10]) == (b"nclc", 1, 1, 1)


def test_the_container_keeps_tags_that_prores_cannot_express(
    source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    write_clip(source_movie("anamorphic 720x576"), out := tmp_path / "out.mov")
    data = out.read_bytes()
    assert probe_stream(out)["tags"]["vendor_id"] == "apl0"
    at = data.index(b"colr") + 4
    assert struct.unpack(">4s3H", data[at : at + 10]) == (b"nclc", 5, 6, 5)


def test_a_full_range_source_becomes_limited_and_tagged_so(
    source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie = source_movie("8-bit full range")
    clip, _ = write_clip(movie, out := tmp_path / "out.mov")
    assert clip.colour.range == FULL
    assert probe_stream(out)["color_range"] == "tv"
    opaque = alphas(clip, movie.frames) == 1
    apart = np.abs(decode(out, "rgb24").astype(int) - decode(movie.path, "rgb24"))[opaque]
    assert apart.mean() < 0.5
    assert apart.max() <= 3


@pytest.mark.parametrize("suffix", [".mov", ".mkv", ".webm"])
def test_frames_stay_in_order(suffix: str, tmp_path: Path) -> None:
    """More frames than workers and queues hold, each with its number in the picture."""
    movie = make_movie(tmp_path / "clip.mp4", frames=70, size=(192, 108))
    write_clip(movie, out := tmp_path / f"out{suffix}")
    assert [read_index(picture) for picture in decode(out)] == list(range(70))


@pytest.mark.parametrize("suffix", [".mov", ".mkv", ".webm"])
def test_one_frame_is_a_movie_too(suffix: str, tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=1)
    _, written = write_clip(movie, out := tmp_path / f"out{suffix}")
    assert written.frames == 1
    assert written.seconds == Fraction(1, 25)
    assert len(decode(out)) == 1


def test_images_become_a_movie(tmp_path: Path) -> None:
    """RGB images at a given rate: bt709, limited range, tagged with the sRGB curve."""
    folder = tmp_path / "plates"
    make_pictures(folder, frames=3)
    clip, written = write_clip(folder, out := tmp_path / "out.mov", fps="24000/1001")
    assert (clip.rate, written.frames) == (Fraction(24000, 1001), 3)
    stream = probe_stream(out)
    assert stream["avg_frame_rate"] == "24000/1001"
    assert (stream["color_space"], stream["color_range"]) == ("bt709", "tv")
    original = np.stack(
        [planes.plane_views(f.picture)[0] for f in read_frames(folder, Settings(), disc)[1]]
    )
    opaque = alphas(clip, 3) == 1
    apart = np.abs(decode(out, "rgb24").astype(int) - original)[opaque]
    assert apart.mean() < 0.6
    assert apart.max() <= 3


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_a_variable_rate_has_no_default_duration(
    suffix: str, source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    """A default duration in the header would let players count frames instead of time."""
    for kind, constant in (("8-bit 709", True), ("variable rate", False)):
        write_clip(source_movie(kind), out := tmp_path / f"{constant}{suffix}")
        # Matroska element DefaultDuration, 23 E3 83, in the track's header.
        assert (b"\x23\xe3\x83" in out.read_bytes()[:2000]) == constant

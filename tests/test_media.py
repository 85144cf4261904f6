"""The tests' own media: ruler, audio and tags are as intended."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from media import SOURCE_KINDS, Movie, make_movie, make_pictures
from readback import beep_time, decode, frame_times, probe, probe_frames, probe_stream
from scene import RULER_BITS, draw_ball, draw_ramp, read_flash, read_index
from tiny_onnx import RecurrentReference, make_recurrent, make_salient, salient_alpha
from tolerance import CLIP_PICTURE, EXACT, ROUNDED_8, assert_close

from vidmatte.core.colour import FULL, LIMITED


@pytest.mark.parametrize("kind", SOURCE_KINDS)
def test_every_kind_reads_back_in_order(kind: str, source_movie: Callable[[str], Movie]) -> None:
    movie = source_movie(kind)
    pictures = decode(movie.path, "rgb24")
    assert pictures.shape == (movie.frames, movie.size[1], movie.size[0], 3)
    assert [read_index(picture) for picture in pictures] == list(range(movie.frames))
    lit = [index for index, picture in enumerate(pictures) if read_flash(picture)]
    assert lit == ([] if movie.flash is None else [movie.flash])
    if not movie.interlaced:
        drawn = np.round(movie.picture(1).rgb * 255).astype(np.uint8)
        assert_close(pictures[1], drawn, CLIP_PICTURE)


@pytest.mark.parametrize("kind", SOURCE_KINDS)
def test_every_kind_has_its_colour_tags(kind: str, source_movie: Callable[[str], Movie]) -> None:
    movie = source_movie(kind)
    stream = probe_stream(movie.path)
    tags = {
        "matrix": stream.get("color_space", "unspecified"),
        "range": stream.get("color_range", "unspecified"),
        "primaries": stream.get("color_primaries", "unspecified"),
        "transfer": stream.get("color_transfer", "unspecified"),
    }
    assert tags == movie.colour.as_names()
    written = stream["pix_fmt"].replace("yuvj", "yuv")
    assert written == movie.pixel_format
    assert movie.colour.range in (0, LIMITED, FULL)


@pytest.mark.parametrize("kind", SOURCE_KINDS)
def test_every_kind_has_its_timestamps(kind: str, source_movie: Callable[[str], Movie]) -> None:
    movie = source_movie(kind)
    times = frame_times(movie.path)
    expected = [pts * movie.time_base for pts in movie.pts]
    # Matroska counts in milliseconds.
    slack = Fraction(1, 1000) if movie.path.suffix == ".mkv" else 0
    assert all(abs(a - b) <= slack for a, b in zip(times, expected, strict=True)), times
    streams = [s for s in probe(movie.path)["streams"] if s["codec_type"] == "audio"]
    assert len(streams) == len(movie.audio)
    for track in range(len(movie.audio)):
        assert beep_time(movie.path, track) == pytest.approx(float(movie.flash_time), abs=0.002)


def test_special_kinds_are_special(source_movie: Callable[[str], Movie]) -> None:
    tmcd = probe_stream(source_movie("drop frame timecode").path, "data")
    assert tmcd["codec_tag_string"] == "tmcd"
    assert tmcd["tags"]["timecode"] == "01:00:00;00"
    assert tmcd["tags"]["reel_name"] == "A001C003"
    turned = probe_stream(source_movie("rotated by 90").path)
    assert (turned["width"], turned["height"]) == (192, 108)
    assert turned["side_data_list"][0]["rotation"] == 90
    assert probe_stream(source_movie("anamorphic 720x576").path)["sample_aspect_ratio"] == "16:15"
    fields = probe_frames(source_movie("4:2:2 interlaced").path)
    assert all(frame["interlaced_frame"] and frame["top_field_first"] for frame in fields)
    pace = np.diff([float(time) for time in frame_times(source_movie("variable rate").path)])
    assert pace.max() > 5 * pace.min()
    tracks = probe(source_movie("several tracks").path)["streams"][1:]
    assert [track["codec_name"] for track in tracks] == ["aac", "aac", "pcm_s16le"]
    assert [track["sample_rate"] for track in tracks] == ["48000", "44100", "48000"]


def test_ruler_counts_and_notices_damage() -> None:
    top = (1 << RULER_BITS) - 1
    for index in (0, 1, 255, 4095, top):
        assert read_index(draw_ball(index, 64, 48).rgb) == index
    with pytest.raises(ValueError, match="bits"):
        draw_ball(top + 1, 64, 48)
    with pytest.raises(ValueError, match="no ruler"):
        read_index(np.zeros((48, 64, 3), np.uint8))
    damaged = draw_ball(5, 64, 48).rgb
    damaged[-6:, 8:12] = damaged.max()
    with pytest.raises(ValueError, match="damaged"):
        read_index(damaged)


def test_clips_without_frames_and_with_one(tmp_path: Path) -> None:
    one = make_movie(tmp_path / "one.mp4", frames=1)
    assert decode(one.path).shape[0] == 1
    none = make_movie(tmp_path / "none.avi", frames=0, codec="mpeg4")
    assert probe_stream(none.path)["codec_name"] == "mpeg4"
    assert probe_frames(none.path) == []
    assert probe(make_movie(tmp_path / "none.mp4", frames=0).path)["streams"] == []


def test_lossless_ten_bit_ramp_has_all_its_levels(tmp_path: Path) -> None:
    movie = make_movie(
        tmp_path / "ramp.mkv",
        size=(1024, 16),
        frames=1,
        codec="ffv1",
        pixel_format="gray10le",
        draw=draw_ramp,
        colour=SOURCE_KINDS["8-bit full range"].options["colour"],
    )
    picture = decode(movie.path, "gray10le")[0, :, :, 0]
    assert_close(picture, np.tile(np.arange(1024, dtype=np.uint16), (16, 1)), EXACT)


@pytest.mark.parametrize(("suffix", "bits"), [(".png", 8), (".png", 16), (".tif", 16), (".jpg", 8)])
def test_image_folders(tmp_path: Path, suffix: str, bits: int) -> None:
    paths = make_pictures(tmp_path / "plates", suffix=suffix, bits=bits, frames=3, start=98)
    assert [path.name for path in paths] == [f"shot_{n:04d}{suffix}" for n in (98, 99, 100)]
    read = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1] for path in paths]
    assert [read_index(picture) for picture in read] == [0, 1, 2]
    assert read[0].dtype == (np.uint8 if bits == 8 else np.uint16)
    if suffix != ".jpg":
        peak = 255 if bits == 8 else 65535
        drawn = np.round(draw_ball(1, 192, 108).rgb.astype(np.float64) * peak)
        assert_close(read[1], drawn.astype(read[1].dtype), EXACT)


def test_the_tiny_segmentation_network_finds_the_ball(tmp_path: Path) -> None:
    session = onnxruntime.InferenceSession(make_salient(tmp_path / "tiny.onnx", 64))
    assert [(node.name, node.shape) for node in session.get_inputs()] == [("input", [1, 3, 64, 64])]
    scene = draw_ball(3, 64, 64)
    batch = scene.rgb.transpose(2, 0, 1)[None] - np.float32(0.5)
    alpha, side = session.run(None, {"input": batch})
    assert side.shape == (1, 1, 32, 32)
    np.testing.assert_allclose(alpha[0, 0], salient_alpha(scene.rgb), atol=1e-5)
    assert alpha[0, 0][scene.alpha == 1].min() > 1 - 1e-5
    assert alpha[0, 0][scene.alpha == 0].max() < 1e-5


def test_the_tiny_recurrent_network_has_a_state(tmp_path: Path) -> None:
    session = onnxruntime.InferenceSession(make_recurrent(tmp_path / "tiny.onnx"))
    reference = RecurrentReference()
    zeros = {f"r{n}i": np.zeros((1, 1, 1, 1), np.float32) for n in range(1, 5)}
    states = zeros
    for index in range(6):
        if index == 4:
            states = zeros
            reference.reset()
        rgb = draw_ball(index * 20, 96, 64).rgb
        feed = {"src": rgb.transpose(2, 0, 1)[None], "downsample_ratio": np.ones(1, np.float32)}
        fgr, pha, *new = session.run(None, feed | states)
        states = {f"r{n}i": state for n, state in enumerate(new, start=1)}
        np.testing.assert_allclose(pha[0, 0], reference.step(rgb), atol=1e-5)
        np.testing.assert_allclose(fgr[0], 1 - feed["src"][0], atol=1e-6)
    assert [state.shape[1] for state in new] == [16, 20, 40, 64]
    feed["downsample_ratio"] = np.full(1, 0.5, np.float32)
    assert session.run(["r1o"], feed | zeros)[0].shape == (1, 16, 16, 24)


def test_tolerance_reports_the_position_and_refuses_empty_comparisons() -> None:
    one, two = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    assert_close(one, two, EXACT)
    two[2, 3] = 9
    with pytest.raises(AssertionError, match=r"worst 9\.000 of 255.*\(2, 3\): 0 instead of 9"):
        assert_close(one, two, ROUNDED_8)
    assert_close(one, two, EXACT, where=two == 0)
    with pytest.raises(AssertionError, match="marks nothing"):
        assert_close(one, two, EXACT, where=two > 100)
    with pytest.raises(AssertionError, match="nothing to compare"):
        assert_close(one[:0], two[:0], EXACT)

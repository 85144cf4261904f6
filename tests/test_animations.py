"""Animated WebP and APNG: in, and APNG out."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media import make_movie, make_pictures
from readback import decode
from tiny_onnx import make_salient
from writer_support import disc, read_frames, write_clip

from vidmatte import matte
from vidmatte.errors import SourceError
from vidmatte.media.webp import WebpAnimation
from vidmatte.readers.images import read_picture
from vidmatte.readers.open import is_image, open_reader
from vidmatte.settings import Settings
from vidmatte.writers.render.cutout import quantised

#: Cleared after it; not blended with what lies below.
CLEARED, REPLACES = 1, 2


def chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def three(value: int) -> bytes:
    return struct.pack("<I", value)[:3]


def still(rgba: np.ndarray) -> bytes:
    """A lossless WebP's VP8L chunk."""
    encoder = av.CodecContext.create("libwebp", "w")
    encoder.height, encoder.width = rgba.shape[:2]
    encoder.pix_fmt, encoder.time_base = "bgra", Fraction(1, 25)
    encoder.options = {"lossless": "1"}
    picture = av.VideoFrame.from_ndarray(rgba, "rgba").reformat(format="bgra")
    data = b"".join(bytes(packet) for packet in [*encoder.encode(picture), *encoder.encode(None)])
    place = data.index(b"VP8L")
    (size,) = struct.unpack_from("<I", data, place + 4)
    return data[place : place + 8 + size + size % 2]


def write_webp(
    path: Path, size: tuple[int, int], parts: list[tuple[int, int, np.ndarray, int, int]]
) -> Path:
    """An animation of parts: x, y, R, G, B, alpha, milliseconds, flags."""
    width, height = size
    chunks = chunk(b"VP8X", bytes([0x12, 0, 0, 0]) + three(width - 1) + three(height - 1))
    chunks += chunk(b"ANIM", bytes(6))
    for x, y, rgba, duration, flags in parts:
        head = three(x // 2) + three(y // 2) + three(rgba.shape[1] - 1) + three(rgba.shape[0] - 1)
        chunks += chunk(b"ANMF", head + three(duration) + bytes([flags]) + still(rgba))
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks)
    return path


def flat(width: int, height: int, *rgba: int) -> np.ndarray:
    return np.broadcast_to(np.array(rgba, np.uint8), (height, width, 4)).copy()


RED, GREEN = (200, 20, 30, 255), (20, 180, 40, 255)


def drawn(path: Path, durations: tuple[int, ...] = (100, 40, 60, 80)) -> Path:
    """Red; a green part; a half transparent one, cleared after it; one that replaces."""
    parts = [
        (0, 0, flat(64, 48, *RED), REPLACES),
        (8, 10, flat(16, 12, *GREEN), 0),
        (0, 0, flat(32, 48, 0, 0, 255, 128), CLEARED),
        (40, 0, flat(24, 48, 9, 9, 9, 0), REPLACES),
    ]
    return write_webp(
        path, (64, 48),
        [(x, y, rgba, ms, flags) for (x, y, rgba, flags), ms in zip(parts, durations, strict=True)],
    )  # fmt: skip


def test_the_parts_of_an_animated_webp_are_put_together(tmp_path: Path) -> None:
    """As libwebp's own decoder has it; compared with it when this was written."""
    found = [one.to_ndarray() for one in WebpAnimation(drawn(tmp_path / "a.webp")).pictures()]
    first = flat(64, 48, *RED)
    second = first.copy()
    second[10:22, 8:24] = GREEN
    third = second.copy()
    blue = np.array([0, 0, 255])
    third[:, :32, :3] = np.rint((blue * 128 + second[:, :32, :3].astype(float) * 127) / 255)
    fourth = second.copy()
    fourth[:, :32] = 0
    fourth[:, 40:] = (9, 9, 9, 0)
    for one, expected in zip(found, (first, second, third, fourth), strict=True):
        assert np.array_equal(one[..., 3], expected[..., 3])
        visible = expected[..., 3] > 0
        assert np.abs(one.astype(int) - expected)[visible].max() <= 1


def test_an_animated_webp_is_a_clip_with_its_times(tmp_path: Path) -> None:
    path = drawn(tmp_path / "a.webp")
    assert not is_image(path)
    with open_reader(path, Settings()) as source:
        clip = source.clip
        assert (clip.kind, clip.frame_count, clip.constant_rate) == ("movie", 4, False)
        assert clip.rate == Fraction(4000, 280)
        assert [(one.pts, one.duration) for one in source.pictures()] == [
            (0, 100), (100, 40), (140, 60), (200, 80)
        ]  # fmt: skip
        assert source.warnings == ["a.webp: its own alpha is ignored, a new one is made"]
    with open_reader(drawn(tmp_path / "b.webp", (40,) * 4), Settings(in_point="f1")) as source:
        assert (source.clip.rate, source.clip.constant_rate) == (25, True)
        assert [one.pts for one in source.pictures()] == [0, 40, 80]
        assert [one.pts for one in source.pictures_from(1, 40)] == [40, 80]


def test_an_animated_webp_is_matted(tmp_path: Path) -> None:
    weights = make_salient(tmp_path / "net.onnx")
    path = drawn(tmp_path / "a.webp", (40,) * 4)
    result = matte(path, out := tmp_path / "out.mov", model=weights, family="isnet")
    assert (result.written.frames, result.written.rate) == (4, 25)
    assert decode(out, "rgba").shape == (4, 48, 64, 4)


def test_the_first_picture_stands_for_it_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = drawn(tmp_path / "in" / "a.webp")
    assert np.array_equal(read_picture(path).to_ndarray(), flat(64, 48, *RED))
    with open_reader(tmp_path / "in", Settings(fps="25")) as source:
        (line,) = [line for line in source.warnings if "animated" in line]
    assert line.startswith("in: 1 of its pictures are animated, like a.webp: the first frame")


@pytest.mark.parametrize("cut", [60, 200])
def test_a_damaged_one_is_refused(cut: int, tmp_path: Path) -> None:
    path = drawn(tmp_path / "a.webp")
    path.write_bytes(path.read_bytes()[:cut])
    refused = pytest.raises(SourceError, match=r"a\.webp: not a readable animated WebP")
    with refused, open_reader(path, Settings()):
        pass


@pytest.mark.parametrize("name", ["out.apng", "out.png"])
def test_apng_is_written_without_loss(name: str, tmp_path: Path) -> None:
    make_pictures(clip := tmp_path / "plates", frames=5, size=(64, 48))
    _, written = write_clip(clip, out := tmp_path / name, format="apng")
    assert (written.format, written.frames, written.rate) == ("apng", 5, 25)
    found = decode(out, "rgba")
    _, frames = read_frames(clip, Settings(), disc)
    for rgba, frame in zip(found, frames, strict=True):
        alpha = quantised(frame.alpha, 255)
        assert np.array_equal(rgba[..., 3], alpha)
        expected = frame.picture.to_ndarray(format="rgb24")
        assert np.array_equal(rgba[..., :3][alpha > 0], expected[alpha > 0])
    with open_reader(out, Settings()) as source:  # and back in
        assert (source.clip.frame_count, source.clip.rate) == (5, 25)


def test_apng_keeps_uneven_times(tmp_path: Path) -> None:
    pts = [0, 40, 140, 200, 230]
    clip = make_movie(
        tmp_path / "clip.mkv", size=(64, 48), pts=pts, time_base=Fraction(1, 1000), codec="ffv1"
    ).path
    write_clip(clip, out := tmp_path / "out.apng")
    with av.open(str(out)) as file:
        times = [frame.pts * frame.time_base * 1000 for frame in file.decode(video=0)]
    assert times == pts

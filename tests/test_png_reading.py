"""PNG files inflated for the decoder, with the samples in stored blocks: the same picture."""

from __future__ import annotations

import struct
import zlib
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest

from vidmatte.errors import SourceError
from vidmatte.media.png import _size_of_samples, with_stored_samples
from vidmatte.readers.images import read_picture

SAMPLES = {"grey": (0, 1), "rgb": (2, 3), "palette": (3, 1), "grey+a": (4, 2), "rgba": (6, 4)}
DEPTHS = {"grey": (1, 2, 4, 8, 16), "palette": (1, 2, 4, 8)}
KINDS = [
    (kind, depth, wide)
    for kind in SAMPLES
    for depth, wide in product(DEPTHS.get(kind, (8, 16)), (37, 1))
]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def lines_of(kind: str, depth: int, width: int, height: int) -> bytes:
    """Lines of noise with every PNG filter."""
    rng = np.random.default_rng(width * depth)
    long = (width * SAMPLES[kind][1] * depth + 7) // 8
    lines = rng.integers(0, 256, (height, 1 + long), np.uint8)
    lines[:, 0] = np.arange(height) % 5
    return lines.tobytes()


def png(
    kind: str,
    depth: int,
    width: int = 37,
    height: int = 150,
    *,
    pieces: int = 3,
    interlaced: int = 0,
) -> bytes:
    """A PNG of noise, its samples in several IDAT chunks, with text before and after them."""
    header = struct.pack(">IIBBBBB", width, height, depth, SAMPLES[kind][0], 0, 0, interlaced)
    lines = lines_of(kind, depth, width, height)
    data = zlib.compress(lines)
    step = -(-len(data) // 3)
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if kind == "palette" else b""
    return b"".join([
        b"\x89PNG\r\n\x1a\n",
        chunk(b"IHDR", header),
        palette,
        chunk(b"tEXt", b"Title\0before"),
        *(chunk(b"IDAT", data[at : at + step]) for at in range(0, len(data), step)),
        chunk(b"tEXt", b"Title\0behind"),
        chunk(b"IEND", b""),
    ])  # fmt: skip


def decoded(file: bytes) -> list[np.ndarray]:
    """Every plane that FFmpeg decodes from a PNG."""
    decoder = av.CodecContext.create("png", "r")
    frames = [*decoder.decode(av.Packet(file)), *decoder.decode(None)]
    assert len(frames) == 1
    planes = [
        np.frombuffer(plane, np.uint8).reshape(plane.height, -1) for plane in frames[0].planes
    ]
    used = frames[0].width * frames[0].format.padded_bits_per_pixel // 8
    return [planes[0][:, :used], *planes[1:]]


@pytest.mark.parametrize(("kind", "depth", "width"), KINDS)
def test_stored_samples_are_the_same_picture(kind: str, depth: int, width: int) -> None:
    file = png(kind, depth, width)
    stored = with_stored_samples(file)
    assert stored != file
    assert lines_of(kind, depth, width, 150)[:65535] in stored
    for one, other in zip(decoded(stored), decoded(file), strict=True):
        assert np.array_equal(one, other)


def test_more_than_a_block_of_samples() -> None:
    for width in (145, 436, 437):  # 65400, 196350, 196800 bytes and a filter's byte a line
        file = png("rgb", 8, width)
        assert np.array_equal(decoded(with_stored_samples(file))[0], decoded(file)[0])


def test_doubtful_files_are_passed_to_the_decoder_unchanged() -> None:
    file = png("rgb", 8)
    assert with_stored_samples(file) != file
    data = file.index(b"IDAT") + 40
    flipped = bytearray(file)
    flipped[data] ^= 1
    lines = lines_of("rgb", 8, 37, 150)
    others = {
        "interlaced": png("rgb", 8, interlaced=1),
        "a wrong byte": bytes(flipped),
        "cut short": file[: len(file) // 2],
        "cut after the samples": file[: file.rindex(b"tEXt") - 4],
        "too few lines": file.replace(struct.pack(">II", 37, 150), struct.pack(">II", 37, 151)),
        "too many lines": file.replace(struct.pack(">II", 37, 150), struct.pack(">II", 37, 149)),
        "another kind": b"\xff\xd8" + file,
        "a header alone": file[:33],
        "nothing": b"",
    }
    for what, other in others.items():
        assert with_stored_samples(other) == other, what
    assert _size_of_samples(file) == len(lines)


def test_a_damaged_picture_is_read_or_refused_as_by_the_decoder(tmp_path: Path) -> None:
    complete = png("rgb", 8)
    path = tmp_path / "damaged.png"
    for at in range(60, len(complete), len(complete) // 12):
        file = bytearray(complete)
        file[at] ^= 0x10
        try:
            expected = decoded(bytes(file))[0]
        except av.error.FFmpegError:
            expected = None
        path.write_bytes(file)
        try:
            found = read_picture(path).to_ndarray()
        except SourceError:
            assert expected is None
        else:
            assert expected is not None
            assert np.array_equal(found.reshape(len(found), -1), expected)

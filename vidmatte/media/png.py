"""The chunks of PNG and WebP files, and a fast PNG reader and writer."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from isal import isal_zlib
from isal.igzip_lib import IsalError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST = 1 << 24  # bytes read of one chunk at most


def png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk of a PNG, with the file positioned at its content."""
    at = len(PNG_SIGNATURE)
    while True:
        file.seek(at)
        if len(head := file.read(8)) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        yield kind, length
        at += 8 + length + 4  # a checksum follows


def webp_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The same for WebP, whose chunks begin at even offsets."""
    at = 12
    while True:
        file.seek(at)
        if len(head := file.read(8)) < 8:
            return
        kind, length = struct.unpack("<4sI", head)
        yield kind, length
        at += 8 + length + length % 2


def is_animated_png(path: Path) -> bool:
    """Whether a file is a PNG with several frames.

    https://www.w3.org/TR/png-3/#acTL-chunk
    """
    if not path.is_file() or not os.access(path, os.R_OK):
        return False
    with path.open("rb") as file:
        if file.read(len(PNG_SIGNATURE)) != PNG_SIGNATURE:
            return False
        for kind, _ in png_chunks(file):
            if kind == b"acTL":
                return int.from_bytes(file.read(4)) > 1
            if kind == b"IDAT":  # acTL comes before it
                break
    return False


_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # samples per pixel, by colour type
_ZLIB_HEAD = b"\x78\x01"
_LONGEST_BLOCK = 65535  # bytes


def with_stored_samples(file: bytes) -> bytes:
    """The same PNG with uncompressed samples, faster to decode.

    Returns the file itself if it is interlaced, damaged or not a PNG: errors are left to the
    decoder.
    """
    size = _size_of_samples(file)
    parts = _parts_of(file)
    if size is None or parts is None:
        return file
    head, deflated, tail = parts
    inflater = isal_zlib.decompressobj()
    try:
        samples = inflater.decompress(deflated, size + 1)
    except IsalError:  # type: ignore[misc]  # its stub calls it an instance
        return file
    if len(samples) != size or not inflater.eof:
        return file
    stored = [_ZLIB_HEAD, *_blocks(samples), struct.pack(">I", isal_zlib.adler32(samples))]
    length = struct.pack(">I", sum(map(len, stored)))
    checksum = isal_zlib.crc32(b"IDAT")
    for part in stored:
        checksum = isal_zlib.crc32(part, checksum)
    return b"".join([head, length, b"IDAT", *stored, struct.pack(">I", checksum), tail])


def read_back_png(path: Path) -> tuple[int, int, str]:
    """Width, height and pixel format of a PNG that FFmpeg has decoded, once: opening the file as
    a container would decode it first to find its size. Raises ValueError, OSError, FFmpegError."""
    decoder = av.CodecContext.create("png", "r")
    assert isinstance(decoder, VideoCodecContext)
    packet = av.Packet(with_stored_samples(path.read_bytes()))
    pictures = [*decoder.decode(packet), *decoder.decode(None)]
    if not pictures:
        raise ValueError("it has no picture")
    return pictures[0].width, pictures[0].height, pictures[0].format.name


def _size_of_samples(file: bytes) -> int | None:
    """Bytes of a PNG's samples, including the filter byte before each line.

    None if they are interlaced or the header is invalid.
    """
    if len(file) < 33 or not file.startswith(PNG_SIGNATURE) or file[12:16] != b"IHDR":
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", file, 16)
    if interlaced or colour not in _SAMPLES:
        return None
    return int(height * (1 + (width * _SAMPLES[colour] * depth + 7) // 8))


def _parts_of(file: bytes) -> tuple[bytes, bytes, bytes] | None:
    """The parts of a PNG: before its samples, the deflated samples, after them."""
    opened, begin = BytesIO(file), 0
    chunks = []
    for kind, length in png_chunks(opened):
        at = opened.tell()
        if kind == b"IDAT":
            begin = begin or at - 8  # its length and kind come before it
            chunks.append(file[at : at + length])
        elif begin:
            return file[:begin], b"".join(chunks), file[at - 8 :]
    return None


def _blocks(samples: bytes) -> list[bytes | memoryview]:
    """Stored (uncompressed) blocks of a deflate stream, as headers and data in turn."""
    view = memoryview(samples)
    found: list[bytes | memoryview] = []
    for begin in range(0, len(view), _LONGEST_BLOCK):
        block = view[begin : begin + _LONGEST_BLOCK]
        is_last = begin + _LONGEST_BLOCK >= len(view)
        found += [struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF), block]
    return found


#: The filter: the difference to the byte above. Of PNG's filters the fastest and, on film,
#: animation and cut-outs alike, the one with the smallest files.
_UP = 2
_LEVEL = 1  # of ISA-L's deflate; level 2 saves 0.5 %


class PngWriter:
    """Encodes pictures of a packed format with the sample order of PNG.

    head: the bytes of a file up to its samples, of a picture of any size.
    """

    def __init__(self, head: bytes, width: int, height: int, pixel_format: str) -> None:
        self._head = _with_size(head, width, height)
        pixel = sum(part.bits for part in av.VideoFormat(pixel_format).components) // 8
        self._lines = np.empty((height, 1 + width * pixel), np.uint8)
        self._lines[:, 0] = _UP

    def encode(self, picture: av.VideoFrame) -> list[bytes]:
        """The file, as a list of chunks."""
        plane = picture.planes[0]
        stored = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)
        samples, steps = stored[:, : self._lines.shape[1] - 1], self._lines[:, 1:]
        steps[0] = samples[0]
        np.subtract(samples[1:], samples[:-1], out=steps[1:])
        data = isal_zlib.compress(self._lines, _LEVEL)
        return [self._head, _chunk(b"IDAT", data), _chunk(b"IEND", b"")]


def _with_size(head: bytes, width: int, height: int) -> bytes:
    """The start of a PNG with another size in its header.

    https://www.w3.org/TR/png-3/#11IHDR
    """
    begin, end = len(PNG_SIGNATURE) + 8, len(PNG_SIGNATURE) + 8 + 13
    content = struct.pack(">II", width, height) + head[begin + 8 : end]
    return PNG_SIGNATURE + _chunk(b"IHDR", content) + head[end + 4 :]


def _chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk: length, kind, data and their CRC-32."""
    checked = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return b"".join([struct.pack(">I", len(data)), kind, data, struct.pack(">I", checked)])


#: PNG's other colour chunks, which could contradict the profile.
_PNG_COLOUR = (b"sRGB", b"cICP", b"cHRM", b"gAMA")


def png_with_profile(head: bytes, profile: bytes) -> bytes:
    """A PNG's bytes up to its samples, with the profile instead of other colour chunks."""
    parts, at = [head[:8]], 8
    while at < len(head):
        (length,) = struct.unpack_from(">I", head, at)
        if head[at + 4 : at + 8] not in _PNG_COLOUR:
            parts.append(head[at : at + 12 + length])
        at += 12 + length
    content = b"iCCPICC profile\0\0" + zlib.compress(profile)
    checksum = struct.pack(">I", zlib.crc32(content))
    chunk = struct.pack(">I", len(content) - 4) + content + checksum
    return b"".join([*parts[:2], chunk, *parts[2:]])  # after the header

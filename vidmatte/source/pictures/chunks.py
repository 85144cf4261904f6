"""The chunks that PNG and WebP files are made of, and what they say of a picture."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST = 1 << 24  # bytes that are read of one chunk


def png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk of a PNG, the file standing at its content."""
    at = len(PNG_SIGNATURE)
    while True:
        file.seek(at)
        if len(head := file.read(8)) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        yield kind, length
        at += 8 + length + 4  # a checksum follows


def webp_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The same of a WebP, whose chunks begin at even places."""
    at = 12
    while True:
        file.seek(at)
        if len(head := file.read(8)) < 8:
            return
        kind, length = struct.unpack("<4sI", head)
        yield kind, length
        at += 8 + length + length % 2


def is_animated_png(path: Path) -> bool:
    """Whether a file is a PNG of several pictures, shown one after the other.

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
            if kind == b"IDAT":  # acTL stands before it
                break
    return False


def animated_among(files: Sequence[Path]) -> list[str]:
    """A warning where pictures of a folder are animated: only the first of each is seen."""
    found = [file for file in files if is_animated_png(file)]
    if not found:
        return []
    return [
        f"{found[0].parent.name}: {len(found)} of its pictures are animated, like {found[0].name}:"
        " the first frame of each is taken; give an animated picture by itself"
    ]

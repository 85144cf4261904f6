"""The ICC profile embedded in a picture file, which defines its R'G'B'.

PyAV 18.1 crashes when it is read from a decoded PNG (see ``vidmatte.core.orientation``), so it
is read from the file: PNG (iCCP), JPEG (APP2), TIFF (tag 34675), WebP (ICCP), HEIF (colr).
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from vidmatte.media.heif_items import heif_profile
from vidmatte.media.png import LARGEST, png_chunks, webp_chunks

_TIFF_PROFILE = 34675
_MARK = b"ICC_PROFILE\0"  # of JPEG's segments; the segment's number and their count follow


def profile_of(file: Path) -> bytes | None:
    """The profile embedded in a picture; None if missing or damaged. Raises OSError."""
    with file.open("rb") as opened:
        head = opened.read(12)
        if head.startswith(b"\x89PNG"):
            profile = _png_profile(opened)
        elif head.startswith(b"\xff\xd8"):
            profile = _jpeg_profile(opened)
        elif head[:4] in (b"II*\0", b"MM\0*"):
            profile = _tiff_profile(opened, "<" if head.startswith(b"II") else ">")
        elif head[4:8] == b"ftyp":
            profile = heif_profile(file)
        elif head.startswith(b"RIFF") and head.endswith(b"WEBP"):
            profile = _webp_profile(opened)
        else:
            return None
    # ICC.1:2022, 7.2: 128 bytes and the count of tags, the signature at 36; the size is first.
    size = int.from_bytes(profile[:4])
    is_complete = 132 <= size <= len(profile) and profile[36:40] == b"acsp"
    return profile[:size] if is_complete else None


def _png_profile(file: BinaryIO) -> bytes:
    """iCCP: a name, 0, the method (0 is deflate) and the profile, deflated."""
    for kind, length in png_chunks(file):
        if kind == b"IDAT":
            break
        if kind == b"iCCP":
            _, _, packed = file.read(min(length, LARGEST)).partition(b"\0")
            try:
                return zlib.decompressobj().decompress(packed[1:], LARGEST)
            except zlib.error:  # decoders ignore it too
                break
    return b""


def _webp_profile(file: BinaryIO) -> bytes:
    """The ICCP chunk."""
    for kind, length in webp_chunks(file):
        if kind == b"ICCP":
            return file.read(min(length, LARGEST))
    return b""


def _jpeg_profile(file: BinaryIO) -> bytes:
    """APP2 segments, joined by their numbers (ICC.1:2022, annex B.4)."""
    segments: dict[int, bytes] = {}
    file.seek(2)
    while len(head := file.read(4)) == 4 and head[0] == 0xFF and head[1] not in (0xDA, 0xD9):
        content = file.read(max(0, struct.unpack(">H", head[2:])[0] - 2))
        if head[1] == 0xE2 and content.startswith(_MARK) and len(content) > len(_MARK) + 2:
            segments[content[len(_MARK)]] = content[len(_MARK) + 2 :]
    return b"".join(segments[number] for number in sorted(segments))


def _tiff_profile(file: BinaryIO, order: str) -> bytes:
    """Tag 34675 of the first picture."""
    file.seek(4)
    file.seek(*struct.unpack(order + "I", file.read(4).ljust(4, b"\0")))
    (count,) = struct.unpack(order + "H", file.read(2).ljust(2, b"\0"))
    entries = file.read(12 * count)
    for entry in range(0, len(entries) - 11, 12):
        tag, _, length, offset = struct.unpack_from(order + "HHII", entries, entry)
        if tag == _TIFF_PROFILE:
            file.seek(offset)
            return file.read(min(length, LARGEST))
    return b""


def profile_name(profile: bytes) -> str:
    """A profile's description, or its colour space: ``RGB``, ``GRAY``, ``CMYK``."""
    (count,) = struct.unpack_from(">I", profile, 128)
    table = profile[132 : 132 + 12 * count]
    for entry in range(0, len(table) - 11, 12):
        tag, offset, size = struct.unpack_from(">4sII", table, entry)
        text = profile[offset : offset + size]
        if tag == b"desc" and text.startswith(b"desc"):  # version 2: ASCII
            return text[12:].partition(b"\0")[0].decode("ascii", "replace")
        if tag == b"desc" and text.startswith(b"mluc") and len(text) >= 28:  # version 4: UTF-16
            length, start = struct.unpack_from(">II", text, 20)
            return text[start : start + length].decode("utf-16-be", "replace").rstrip("\0")
    return profile[16:20].decode("ascii", "replace").strip()


def is_srgb(profile: bytes) -> bool:
    """Whether a profile is named sRGB, which is assumed for files without one too."""
    return "srgb" in profile_name(profile).lower()


_UNDEFINED = 7  # TIFF's type of opaque bytes


def tiff_with_profile(tiff: bytes, profile: bytes) -> bytes:
    """A little-endian TIFF of one picture, with the profile in a new directory at its end."""
    (offset,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, offset)
    entries = [tiff[at : at + 12] for at in range(offset + 2, offset + 2 + 12 * count, 12)]
    body = tiff + bytes(len(tiff) % 2)
    entries.append(struct.pack("<HHII", _TIFF_PROFILE, _UNDEFINED, len(profile), len(body)))
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry))
    body += profile + bytes(len(profile) % 2)
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return body[:4] + struct.pack("<I", len(body)) + body[8:] + directory

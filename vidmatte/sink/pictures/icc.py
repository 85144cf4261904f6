"""ICC profiles in the pictures that are written: which formats hold one, and how."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from vidmatte.frame import Clip
from vidmatte.sink.row import Format
from vidmatte.source.pictures.icc import TIFF_PROFILE, is_srgb, profile_name

HOLDERS = ("png", "tiff")  # codecs
#: PNG's other words on colour, which would contradict the profile.
PNG_COLOUR = (b"sRGB", b"cICP", b"cHRM", b"gAMA")
UNDEFINED = 7  # TIFF's type of bytes that mean nothing to it


def profile_for(clip: Clip, row: Format) -> bytes | None:
    """The source's profile where ``row`` holds one and it speaks of R'G'B'."""
    profile = clip.icc_profile
    return profile if row.codec in HOLDERS and profile and profile[16:20] == b"RGB " else None


def profile_notes(clip: Clip, row: Format) -> Iterator[str]:
    """A line where the source's profile says other colours than sRGB and is lost."""
    profile = clip.icc_profile
    if profile is None or is_srgb(profile) or profile_for(clip, row):
        return
    name = profile_name(profile)
    if row.codec in HOLDERS:
        yield f"{row.name} holds R, G, B: the source's ICC profile ({name}) is not for that"
    else:
        yield (
            f"{row.name} holds no ICC profile: the source's ({name}) is lost, and its colours are"
            " taken for sRGB's; png and tiff16 keep it"
        )


def png_with_profile(head: bytes, profile: bytes) -> bytes:
    """A PNG's bytes up to its samples, with the profile for all words on colour."""
    kept, at = [head[:8]], 8
    while at < len(head):
        (length,) = struct.unpack_from(">I", head, at)
        if head[at + 4 : at + 8] not in PNG_COLOUR:
            kept.append(head[at : at + 12 + length])
        at += 12 + length
    content = b"iCCPICC profile\0\0" + zlib.compress(profile)
    checksum = struct.pack(">I", zlib.crc32(content))
    chunk = struct.pack(">I", len(content) - 4) + content + checksum
    return b"".join([*kept[:2], chunk, *kept[2:]])  # behind the header


def tiff_with_profile(tiff: bytes, profile: bytes) -> bytes:
    """A little-endian TIFF of one picture with the profile: a longer directory at its end."""
    (place,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, place)
    entries = [tiff[at : at + 12] for at in range(place + 2, place + 2 + 12 * count, 12)]
    body = tiff + bytes(len(tiff) % 2)
    entries.append(struct.pack("<HHII", TIFF_PROFILE, UNDEFINED, len(profile), len(body)))
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry))
    body += profile + bytes(len(profile) % 2)
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return body[:4] + struct.pack("<I", len(body)) + body[8:] + directory

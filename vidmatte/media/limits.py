"""What is checked before anything is decoded: the size that a picture states, and chunks of a PNG
that inflate to far more than they hold.

Headers: PNG (IHDR), JPEG (ITU-T T.81, B.2.2), TIFF 6.0, OpenEXR, DPX (SMPTE ST 268), BMP, TGA and
WebP.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from vidmatte.errors import SourceError
from vidmatte.media.exr import window_of
from vidmatte.media.png import PNG_SIGNATURE
from vidmatte.media.tiff import size_of as tiff_size

#: What a chunk may inflate to, and what chunks that do may hold together without a look.
_LARGEST_CHUNK, _SMALL_CHUNKS = 1 << 24, 1 << 16  # bytes
_BLOCKS = 1 << 17  # pixels
_DEFLATED = (b"iCCP", b"zTXt", b"iTXt")
_JPEG_SIZES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}


def check_pixels(file: Path, data: bytes, max_pixels: int) -> None:
    """Raise SourceError for a picture that states more than ``max_pixels`` pixels."""
    try:
        width, height = _stated_size(data, file.suffix.lower())
    except (struct.error, IndexError, ValueError):  # cut short: the decoder says so
        return
    if width * height > max_pixels:
        raise too_large(file, f"{width}x{height}", max_pixels)


def too_large(file: Path, size: str, max_pixels: int) -> SourceError:
    """The error for a picture or movie that has more pixels than are decoded."""
    return SourceError(
        f"{file}: {size} pixels are more than the {max_pixels / 1e6:g} million that"
        " --max-megapixels allows: raise it if the file is right, or scale the picture down"
    )


def decoder_limits(max_pixels: int) -> dict[str, str]:
    """The options of FFmpeg's decoders; they count the sides of their blocks and buffers too, so
    that the size that a file states has to be compared exactly by others."""
    return {"max_pixels": str(max_pixels + max_pixels // 4 + _BLOCKS)}


def _stated_size(data: bytes, suffix: str) -> tuple[int, int]:
    """Width and height by the header; 0, 0 where it has none that is known. Raises struct.error,
    IndexError, ValueError where it is cut short."""
    if data.startswith(PNG_SIGNATURE):
        width, height = struct.unpack_from(">II", data, 16)
    elif data.startswith(b"\xff\xd8"):
        width, height = next(_jpeg_sizes(data), (0, 0))
    elif data[:4] in (b"II*\0", b"MM\0*"):
        width, height = tiff_size(data)
    elif data[:4] == b"v/1\x01":
        width, height = window_of(data)
    elif data[:4] in (b"SDPX", b"XPDS"):
        order = ">" if data.startswith(b"S") else "<"
        width, height = struct.unpack_from(order + "II", data, 772)
    elif data.startswith(b"BM"):
        width, height = (abs(side) for side in struct.unpack_from("<ii", data, 18))
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        width, height = _webp_size(data)
    elif suffix == ".tga":
        width, height = struct.unpack_from("<HH", data, 12)
    else:
        return 0, 0
    return width, height


def _jpeg_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """The sizes in the frame headers of a JPEG."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        if data[at + 1] in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            yield width, height
        at += 2 + struct.unpack_from(">H", data, at + 2)[0] if data[at + 1] != 0xFF else 1


def _webp_size(data: bytes) -> tuple[int, int]:
    """The size in the first chunk of a WebP."""
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def without_bombs(png: bytes) -> bytes:
    """A PNG without the profile and the texts that would inflate to far more than a picture has
    use for; the file itself where there are none, as almost always, or where it is no PNG."""
    bombs = [] if not png.startswith(PNG_SIGNATURE) else list(_bombs(png))
    parts, at = [], 0
    for begin, end in bombs:
        parts.append(png[at:begin])
        at = end
    return b"".join([*parts, png[at:]]) if bombs else png


def _bombs(png: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of each chunk to leave out."""
    at, held = len(PNG_SIGNATURE), 0
    while at + 8 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        end = at + 12 + length
        if kind in _DEFLATED and not _is_plain_text(kind, png[at + 8 : at + 100]):
            held += length
            if held > _SMALL_CHUNKS and (kind != b"iCCP" or _is_bomb(png[at + 8 : end - 4])):
                yield at, end
        at = end


def _is_plain_text(kind: bytes, chunk: bytes) -> bool:
    """Whether it is an iTXt chunk, by its beginning, whose text is not deflated."""
    _, _, flags = chunk.partition(b"\0")
    return kind == b"iTXt" and flags[:1] == b"\0"


def _is_bomb(chunk: bytes) -> bool:
    """Whether the content of an iCCP chunk inflates to too much, or not at all."""
    _, _, packed = chunk.partition(b"\0")
    inflater = zlib.decompressobj()
    try:
        inflater.decompress(packed[1:], _LARGEST_CHUNK)
    except zlib.error:
        return True
    return not inflater.eof


def check_chunks(file: Path) -> None:
    """Raise SourceError for a PNG that a demuxer would inflate to far more than its pixels.

    A large profile or text is left out where a picture is decoded alone; where FFmpeg opens the
    file itself, as it does for an animated one, it cannot be.
    """
    with file.open("rb") as opened:
        if opened.read(len(PNG_SIGNATURE)) == PNG_SIGNATURE:
            opened.seek(0)
            check_frame(file, opened.read())


def check_frame(file: Path, png: bytes) -> None:
    """Raise SourceError for a PNG in ``file`` whose profile or texts are too large to inflate."""
    if png.startswith(PNG_SIGNATURE) and any(True for _ in _bombs(png)):
        raise SourceError(
            f"{file}: its colour profile or its texts are too large: save it again without them"
        )

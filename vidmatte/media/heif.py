"""Still pictures in HEIF files, HEIC and AVIF, of whose grids FFmpeg gives single tiles.

The file's items are found here and decoded by FFmpeg's HEVC, AV1, AVC or JPEG decoder; the
tiles of a grid are put together, cropped, rotated and mirrored.
ISO/IEC 23008-12 (HEIF) and 14496-12 (the boxes).
"""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from vidmatte.core.colour import BT470BG, FULL, LIMITED, UNSPECIFIED, ColourTags
from vidmatte.core.orientation import Orientation
from vidmatte.errors import SourceError
from vidmatte.media.heif_items import HeifError, HeifFile, HeifItem, number_at
from vidmatte.pixels.formats import (
    Repacker,
    chroma_steps,
    copy_planes,
    plane_arrays,
    upright_format,
)

_MOST_SIDE = 65535  # pixels
_MOST_DEPTH = 8  # items within items
#: The decoder of each kind of coded item, and the property that configures it.
_CODERS = {
    "hvc1": ("hevc", "hvcC"),
    "hev1": ("hevc", "hvcC"),
    "av01": ("libdav1d", "av1C"),
    "avc1": ("h264", "avcC"),
    "jpeg": ("mjpeg", ""),
}
_TOP_BOTTOM, _LEFT_RIGHT = Orientation(180, mirrored=True), Orientation(mirrored=True)


class _Decoder:
    """Decodes the pictures of one file."""

    def __init__(self, file: HeifFile) -> None:
        self._file = file

    def picture(self) -> av.VideoFrame:
        """The primary picture, upright and tagged. Raises HeifError, av.FFmpegError."""
        frame = self._decoded(self._file.primary, 0)
        _tag(frame, self._file.item(self._file.primary).properties)
        return frame

    def _decoded(self, number: int, depth: int) -> av.VideoFrame:
        """An item's picture, cropped and turned as its properties say."""
        item = self._file.item(number)
        if depth > _MOST_DEPTH:
            raise HeifError("its pictures refer to each other")
        if item.kind == "grid":
            frame = self._grid(item, depth)
        elif item.kind == "iden" and item.parts:
            frame = self._decoded(item.parts[0], depth + 1)
        elif item.kind in _CODERS:
            frame = self._coded(item)
        else:
            raise HeifError(f"its kind of picture, {item.kind}, is not supported")
        for kind, value in item.properties:
            frame = _transformed(frame, kind, value)
        return frame

    def _coded(self, item: HeifItem) -> av.VideoFrame:
        """The picture of an item with samples of its own."""
        name, configuration = _CODERS[item.kind]
        decoder = av.CodecContext.create(name, "r")
        assert isinstance(decoder, VideoCodecContext)
        decoder.thread_count = 1
        if configuration and (config := item.property(configuration)) is not None:
            decoder.extradata = config
        frames = [*decoder.decode(av.Packet(self._file.bytes_of(item))), *decoder.decode(None)]
        if not frames:
            raise HeifError("it is truncated")
        return _plain(frames[0])

    def _grid(self, item: HeifItem, depth: int) -> av.VideoFrame:
        """The tiles of a grid, put together row by row and cut off at the right and below."""
        head = self._file.bytes_of(item)
        wide = 4 if head[1] & 1 else 2
        rows, columns = head[2] + 1, head[3] + 1
        width, height = number_at(head, 4, wide), number_at(head, 4 + wide, wide)
        if len(item.parts) != rows * columns or not 0 < max(width, height) <= _MOST_SIDE:
            raise HeifError(f"its grid of {columns}x{rows} has {len(item.parts)} tiles")
        canvas: av.VideoFrame | None = None
        for place, part in enumerate(item.parts):
            tile = self._decoded(part, depth + 1)
            if canvas is None:
                if tile.width * columns < width or tile.height * rows < height:
                    raise HeifError("its tiles do not cover the picture")
                first, canvas = tile, av.VideoFrame(width, height, tile.format.name)
                _copy_tags(tile, canvas)
            same = (tile.width, tile.height, tile.format.name)
            if same != (first.width, first.height, first.format.name):
                raise HeifError("its tiles differ in size or format")
            _paste(tile, canvas, place % columns * tile.width, place // columns * tile.height)
        assert canvas is not None
        return canvas


def read_heif(file: Path, data: bytes) -> av.VideoFrame:
    """The primary picture of a HEIF file. Raises SourceError, av.FFmpegError."""
    try:
        return _Decoder(HeifFile(data)).picture()
    except HeifError as error:
        raise SourceError(
            f"{file}: not a readable HEIF picture ({error}): save it as PNG, TIFF or JPEG"
        ) from error


def _plain(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame; a yuvj420p and its like under the plain name, with the full range stated."""
    if not frame.format.name.startswith("yuvj"):
        return frame
    plain = av.VideoFrame(frame.width, frame.height, frame.format.name.replace("yuvj", "yuv"))
    copy_planes(frame, plain)
    _copy_tags(frame, plain)
    plain.color_range = FULL
    return plain


def _copy_tags(frame: av.VideoFrame, target: av.VideoFrame) -> None:
    target.colorspace, target.color_range = frame.colorspace, frame.color_range
    target.color_primaries, target.color_trc = frame.color_primaries, frame.color_trc


def _paste(tile: av.VideoFrame, canvas: av.VideoFrame, left: int, top: int) -> None:
    """Copy a tile to its place, as far as the canvas goes."""
    down, across = chroma_steps(canvas.format.name)
    if left % across or top % down:
        raise HeifError("its tiles cut through chroma samples")
    for target, plane in zip(plane_arrays(canvas), plane_arrays(tile), strict=True):
        y, x = top * plane.shape[0] // tile.height, left * plane.shape[1] // tile.width
        part = target[y : y + plane.shape[0], x : x + plane.shape[1]]
        np.copyto(part, plane[: part.shape[0], : part.shape[1]])


def _transformed(frame: av.VideoFrame, kind: str, value: bytes) -> av.VideoFrame:
    """The frame after a property that crops, rotates or mirrors it; else itself."""
    if kind == "clap":
        return _cropped(frame, value)
    if kind == "irot":
        return _turned(frame, Orientation(value[0] % 4 * 90))
    if kind == "imir":
        return _turned(frame, _LEFT_RIGHT if value[0] & 1 else _TOP_BOTTOM)
    return frame


def _turned(frame: av.VideoFrame, orientation: Orientation) -> av.VideoFrame:
    tags = _tags_of(frame)
    working = upright_format(frame.format.name, orientation, frame.width, frame.height)
    return Repacker(working, orientation, tags)(frame)


def _cropped(frame: av.VideoFrame, clap: bytes) -> av.VideoFrame:
    """The clean aperture: width, height, and how far its centre is from the frame's."""
    numbers = struct.unpack(">8i", clap[:32])
    if 0 in numbers[1::2]:
        raise HeifError("its crop is damaged")
    width, height, right, down = (Fraction(*numbers[place : place + 2]) for place in range(0, 8, 2))
    left = round((frame.width - width) / 2 + right)
    top = round((frame.height - height) / 2 + down)
    size = round(width), round(height)
    if min(left, top, *(length - 1 for length in size)) < 0:
        raise HeifError("its crop lies outside the picture")
    if left + size[0] > frame.width or top + size[1] > frame.height:
        raise HeifError("its crop lies outside the picture")
    rows, columns = chroma_steps(frame.format.name)
    if left % columns or top % rows:  # chroma samples of its own for each pixel
        full = "yuv444p" + frame.format.name.partition("p")[2]
        frame = Repacker(full, Orientation(), _tags_of(frame))(frame)
    result = av.VideoFrame(*size, frame.format.name)
    _copy_tags(frame, result)
    for target, plane in zip(plane_arrays(result), plane_arrays(frame), strict=True):
        y, x = top * plane.shape[0] // frame.height, left * plane.shape[1] // frame.width
        np.copyto(target, plane[y : y + target.shape[0], x : x + target.shape[1]])
    return result


def _tags_of(frame: av.VideoFrame) -> ColourTags:
    """The frame's tags, its range taken for full where it states none."""
    return ColourTags(
        int(frame.colorspace),
        int(frame.color_range) or FULL,
        int(frame.color_primaries),
        int(frame.color_trc),
    )


def _tag(frame: av.VideoFrame, properties: list[tuple[str, bytes]]) -> None:
    """Set the tags that the file states (colr), where they overrule the codec's.

    What neither states is bt601 at full range, as ISO/IEC 23000-22 (7.3.6.4) has it.
    """
    colours = (v for kind, v in properties if kind == "colr" and v[:4] == b"nclx" and len(v) > 10)
    if (stated := next(colours, None)) is not None:
        primaries, transfer, matrix = struct.unpack_from(">3H", stated, 4)
        frame.color_range = FULL if stated[10] & 0x80 else LIMITED
        if primaries != UNSPECIFIED:
            frame.color_primaries = primaries
        if transfer != UNSPECIFIED:
            frame.color_trc = transfer
        if matrix != UNSPECIFIED:
            frame.colorspace = matrix
    if not frame.color_range:
        frame.color_range = FULL
    if frame.colorspace == UNSPECIFIED and frame.format.name.startswith("yuv"):
        frame.colorspace = BT470BG

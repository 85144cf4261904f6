"""The slices of a ProRes frame: which ones are empty, and frames split and joined.

A picture is coded in slices of 16 rows and up to 8 macroblocks of 16 columns, independently of
each other (SMPTE RDD 36). With a fixed quantiser the bytes of a slice depend on its samples only,
not on the rest of the picture.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 16  # pixels of a macroblock, and rows of a slice
_WIDEST = 8  # macroblocks of a slice
_MAGIC = b"icpf"
_FRAME = struct.Struct(">I4s")  # size, magic; the frame's header follows
_LENGTH = struct.Struct(">H")  # of the frame's header, its first field
_SIZE_AT = 8  # of width and height in the frame's header
_PICTURE = struct.Struct(">BIHB")  # bytes of this header * 8, size, slices, log2(widest) * 16


@dataclass(frozen=True)
class Columns:
    """``count`` adjacent columns of slices, each ``width`` samples wide, starting at ``left``."""

    left: int
    width: int
    count: int

    def subsampled(self, step: int) -> Columns:
        """The same columns in a plane subsampled horizontally by ``step``."""
        return Columns(self.left // step, self.width // step, self.count)


def slice_columns(width: int) -> list[Columns]:
    """The columns of slices of a picture ``width`` pixels wide: 8 macroblocks each while they fit,
    then 4, 2 and 1."""
    found, left, widest = [], 0, _WIDEST
    blocks = -(-width // SIDE)
    while blocks:
        if count := blocks // widest:
            found.append(Columns(left, widest * SIDE, count))
            left, blocks = left + count * widest * SIDE, blocks % widest
        widest //= 2
    return found


def occupied(plane: np.ndarray, empty: int, columns: Sequence[Columns]) -> np.ndarray:
    """(rows, columns) bool: the slices in which a sample of a plane differs from ``empty``.

    plane: (H, W) uint16, its rows contiguous.
    """
    step = 4 if plane.shape[1] % 4 == 0 else 1  # samples that are compared at once
    if step == 4:
        plane, empty = plane.view(np.uint64), empty * 0x0001_0001_0001_0001
    differs = plane != plane.dtype.type(empty)
    if differs.shape[1] % 8 == 0:
        differs = differs.view(np.uint64)
    rows = np.bitwise_or.reduceat(differs, np.arange(0, len(differs), SIDE), axis=0).view(bool)
    starts = [part.left + at * part.width for part in columns for at in range(part.count)]
    return np.logical_or.reduceat(rows, np.array(starts) // step, axis=1)


def slices_of(
    plane: np.ndarray, columns: Columns, rows: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """(N, 16, width) samples of slices.

    plane: (H, W), at least as wide as ``columns``. rows, places: (N,) the row of each slice,
    ascending, and its index among the columns. Slices that reach below the plane repeat its last
    row, as FFmpeg's encoder does.
    """
    part = plane[:, columns.left : columns.left + columns.count * columns.width]
    shape = (-1, SIDE, columns.count, columns.width)
    full = len(part) // SIDE
    end = int(np.searchsorted(rows, full))
    found = part[: full * SIDE].reshape(shape)[rows[:end], :, places[:end]]
    if end == len(rows):
        return found
    last = part[full * SIDE :]
    last = cv2.copyMakeBorder(last, 0, SIDE - len(last), 0, 0, cv2.BORDER_REPLICATE)
    return np.concatenate([found, last.reshape(shape)[rows[end:] - full, :, places[end:]]])


def split_frame(frame: bytes) -> tuple[bytes, list[memoryview]]:
    """The header and the slices of a progressive frame. Raises ValueError for another."""
    _, magic = _FRAME.unpack_from(frame)
    (length,) = _LENGTH.unpack_from(frame, _FRAME.size)
    at = _FRAME.size + length
    bits, size, count, _ = _PICTURE.unpack_from(frame, at)
    if magic != _MAGIC or bits != 8 * _PICTURE.size or at + size != len(frame):
        raise ValueError("not a progressive ProRes frame")
    slices, view = [], memoryview(frame)
    begin = at + _PICTURE.size + 2 * count
    for length in struct.unpack_from(f">{count}H", frame, at + _PICTURE.size):
        slices.append(view[begin : begin + length])
        begin += length
    return frame[_FRAME.size : at], slices


def join_frame(
    header: bytes, width: int, height: int, slices: Sequence[bytes | memoryview]
) -> bytes:
    """A frame of width x height from its slices, row by row.

    header: of a frame of any size, as ``split_frame`` gives it.
    """
    sized = bytearray(header)
    struct.pack_into(">HH", sized, _SIZE_AT, width, height)
    table = struct.pack(f">{len(slices)}H", *map(len, slices))
    size = _PICTURE.size + len(table) + sum(map(len, slices))
    widest = (_WIDEST.bit_length() - 1) << 4
    picture = _PICTURE.pack(8 * _PICTURE.size, size, len(slices), widest)
    frame = _FRAME.pack(_FRAME.size + len(sized) + size, _MAGIC)
    return b"".join([frame, sized, picture, table, *slices])

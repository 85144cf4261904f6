"""ProRes: its colour tags, and an encoder that skips empty slices.

Of FFmpeg's two encoders prores_ks is used, its quantiser fixed at the finest, with slices of eight
macroblocks. Measured on 1080p cut-outs (a third of the slices occupied; core-milliseconds and KB a
frame, PSNR of the visible samples):

    prores_ks, quantiser 1, occupied slices only    24 ms   485 KB   69.4 dB
    prores_ks, quantiser 1 (the same bytes)         35 ms   485 KB   69.4 dB
    prores_ks, quantiser 2, 4                   31, 30 ms   372, 296 KB   64.2, 59.5 dB
    prores_ks, slices of 4, 2                   38, 41 ms   499, 529 KB   69.4 dB
    prores_ks, choosing its quantiser              213 ms   485 KB   69.4 dB, always 1
    prores_ks, 8 bits of alpha                      37 ms   395 KB   alpha off by 3 of 1023
    prores_aw                                       36 ms   480 KB   68.9 dB

Threads of the encoder cost the same: frames are encoded in parallel anyway. prores_ks also
supports odd widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import av
import cv2
import numpy as np

from vidmatte.core.colour import (
    BT470BG,
    BT709,
    BT2020,
    BT2020_10,
    BT2020_12,
    BT2020_CONSTANT,
    DCI_P3,
    DISPLAY_P3,
    HLG,
    PQ,
    SMPTE170M,
    SMPTE240M,
    UNSPECIFIED,
    ColourTags,
)
from vidmatte.media.prores import (
    SIDE,
    join_frame,
    occupied,
    slice_columns,
    slices_of,
    split_frame,
)
from vidmatte.pixels import planes
from vidmatte.pixels.convert import set_tags
from vidmatte.pixels.formats import chroma_steps
from vidmatte.writers.encoders import frame_colour, worker_encoder
from vidmatte.writers.format_spec import EncoderSpec

#: The values a ProRes frame header allows (SMPTE RDD 36); others are mapped to one
#: of the same curve or coefficients, else to unspecified. The container's own
#: tags keep the source's values.
_PRORES_MATRIX = {
    BT709: BT709,
    BT470BG: SMPTE170M,
    SMPTE170M: SMPTE170M,
    BT2020: BT2020,
    BT2020_CONSTANT: BT2020,
}
_PRORES_PRIMARIES = {
    BT709: BT709,
    BT470BG: BT470BG,
    SMPTE170M: SMPTE170M,
    SMPTE240M: SMPTE170M,
    BT2020: BT2020,
    DCI_P3: DCI_P3,
    DISPLAY_P3: DISPLAY_P3,
}
_PRORES_TRANSFER = {
    BT709: BT709,
    SMPTE170M: BT709,
    BT2020_10: BT709,
    BT2020_12: BT709,
    PQ: PQ,
    HLG: HLG,
}

#: Slices encoded in one call: their samples fit a core's cache.
_STACKED = 64
#: Above this share of occupied slices the full picture is encoded instead.
_MOSTLY = 0.8


def prores_tags(colour: ColourTags) -> ColourTags:
    """The tags of ``colour`` that a ProRes frame header can hold."""
    return ColourTags(
        matrix=_PRORES_MATRIX.get(colour.matrix, UNSPECIFIED),
        range=colour.range,
        primaries=_PRORES_PRIMARIES.get(colour.primaries, UNSPECIFIED),
        transfer=_PRORES_TRANSFER.get(colour.transfer, UNSPECIFIED),
    )


class ProresEncoder:
    """FFmpeg's encoder, fed only with the occupied slices of a picture.

    The others are black and transparent, and their bytes are encoded once. The result is identical
    to FFmpeg's encoding of the full picture, byte for byte.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        self._width, self._height = spec.clip.width, spec.clip.height
        self._whole = worker_encoder(spec.row, spec.clip, spec.colour)
        pixel_format = spec.row.pixel_format(spec.clip)
        step, depth = chroma_steps(pixel_format)[1], planes.full_scale(pixel_format) + 1
        self._steps = (1, step, step, 1)
        self._empty = (depth // 16, depth // 2, depth // 2, 0)
        self._columns = slice_columns(self._width)
        self._strips = [_Strip(spec, part.width, self._empty) for part in self._columns]

    def encode(self, picture: av.VideoFrame) -> list[av.Packet]:
        """The frame as one packet."""
        arrays = planes.plane_views(picture)
        if right := -self._width % SIDE:
            arrays = [
                _widened(plane, right // step)
                for plane, step in zip(arrays, self._steps, strict=False)
            ]
        used = self._occupied(arrays)
        if used.mean() > _MOSTLY:
            return self._whole.encode(picture)
        packet = av.Packet(self._joined(arrays, used))
        packet.is_keyframe = True
        packet.pts = picture.pts
        if picture.time_base is not None:
            packet.time_base = picture.time_base
        return [packet]

    def _occupied(self, arrays: list[np.ndarray]) -> np.ndarray:
        """(rows, columns) bool: the slices that are not black and transparent everywhere."""
        used: np.ndarray | None = None
        for plane, step, empty in zip(arrays, self._steps, self._empty, strict=False):
            columns = [part.subsampled(step) for part in self._columns]
            found = occupied(plane, empty, columns)
            used = found if used is None else used | found
        assert used is not None
        return used

    def _joined(self, arrays: list[np.ndarray], used: np.ndarray) -> bytes:
        """The frame: occupied slices encoded, blank ones filled in."""
        coded = np.empty(used.shape, object)
        first = 0
        for part, strip in zip(self._columns, self._strips, strict=True):
            here = np.s_[:, first : first + part.count]
            first += part.count
            coded[here].fill(strip.blank)
            rows, places = np.nonzero(used[here])
            for start in range(0, len(rows), _STACKED):
                some = rows[start : start + _STACKED], places[start : start + _STACKED]
                samples = [
                    slices_of(plane, part.subsampled(step), *some)
                    for plane, step in zip(arrays, self._steps, strict=False)
                ]
                for row, place, data in zip(*some, strip.encode(samples), strict=True):
                    coded[here][row, place] = data
        return join_frame(strip.header, self._width, self._height, list(coded.flat))


class _Strip:
    """An encoder for up to ``_STACKED`` slices of one width, stacked in one picture.

    blank: the bytes of a slice of ``empty`` samples. header: the frame header.
    """

    def __init__(self, spec: EncoderSpec, width: int, empty: Sequence[int]) -> None:
        clip = replace(spec.clip, width=width, height=SIDE * _STACKED)
        self._encoder = worker_encoder(spec.row, clip, spec.colour)
        self._picture = av.VideoFrame(clip.width, clip.height, spec.row.pixel_format(clip))
        set_tags(self._picture, frame_colour(spec.row, spec.colour))
        self._picture.time_base = clip.time_base
        self._empty = empty
        blank = [np.empty((0, 0), np.uint16)] * len(self._picture.planes)
        self.header, self.blank = b"", b""
        self.header, (first, *_) = self._frame(blank)
        self.blank = bytes(first)

    def encode(self, samples: Sequence[np.ndarray]) -> list[memoryview]:
        """The coded slices. samples: (N, 16, width) of each plane, N at most ``_STACKED``."""
        return self._frame(samples)[1][: len(samples[0])]

    def _frame(self, samples: Sequence[np.ndarray]) -> tuple[bytes, list[memoryview]]:
        """Header and slices of a frame that begins with the samples; the rest of it is empty."""
        arrays = planes.plane_views(self._picture)
        for plane, given, empty in zip(arrays, samples, self._empty, strict=False):
            rows = len(given) * SIDE
            plane[:rows] = given.reshape(rows, plane.shape[1])
            plane[rows:] = empty
        self._picture.pts = 0
        (packet,) = self._encoder.encode(self._picture)
        return split_frame(bytes(packet))


def _widened(plane: np.ndarray, right: int) -> np.ndarray:
    """The plane with its last column repeated ``right`` more times, as in FFmpeg's encoder."""
    return np.asarray(cv2.copyMakeBorder(plane, 0, 0, 0, right, cv2.BORDER_REPLICATE))

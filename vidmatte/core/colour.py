"""Colour tags: matrix, range, primaries and transfer, each its own value.

The numbers are those of ITU-T H.273 (FFmpeg uses the same), except ``range``,
where FFmpeg's 1 is limited ("tv") and 2 is full ("pc"). 2 means "unspecified"
for matrix, primaries and transfer, 0 for range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

LIMITED, FULL = 1, 2

#: Matrix, primaries or transfer that are not stated.
UNSPECIFIED = 2
#: Systems that have one number as a matrix and as primaries. That of bt709, smpte170m and
#: smpte240m is their transfer's too; bt470m and bt470bg are the gammas 2.2 and 2.8 there.
BT709, BT470M, BT470BG, SMPTE170M, SMPTE240M, BT2020 = 1, 4, 5, 6, 7, 9
#: Matrices: none, for R'G'B' as it is, and bt2020 with constant luminance.
IDENTITY, BT2020_CONSTANT = 0, 10
#: Primaries: P3 with the white of cinemas and with that of displays.
DCI_P3, DISPLAY_P3 = 11, 12
#: Transfers.
GAMMA22, GAMMA28, LINEAR, LOG100, LOG316, SRGB = 4, 5, 8, 9, 10, 13
BT2020_10, BT2020_12, PQ, HLG = 14, 15, 16, 18

MATRIX_NAMES = {
    0: "rgb",
    1: "bt709",
    2: "unspecified",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
    14: "ictcp",
}
_RANGE_NAMES = {0: "unspecified", LIMITED: "tv", FULL: "pc"}
_PRIMARIES_NAMES = {
    1: "bt709",
    2: "unspecified",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "film",
    9: "bt2020",
    10: "smpte428",
    11: "smpte431",
    12: "smpte432",
    22: "ebu3213",
}
TRANSFER_NAMES = {
    1: "bt709",
    2: "unspecified",
    4: "gamma22",
    5: "gamma28",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    9: "log100",
    10: "log316",
    11: "iec61966-2-4",
    12: "bt1361e",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    17: "smpte428",
    18: "arib-std-b67",
}

#: Luma weights (Kr, Kb) by matrix, ITU-T H.273 table 4.
LUMA_WEIGHTS = {
    BT709: (0.2126, 0.0722),
    BT470M: (0.30, 0.11),
    BT470BG: (0.299, 0.114),
    SMPTE170M: (0.299, 0.114),
    SMPTE240M: (0.212, 0.087),
    BT2020: (0.2627, 0.0593),
}


def linear_matrix(matrix: int) -> int:
    """The matrix that is computed with. bt2020c is none of R'G'B' alone; as in FFmpeg, bt2020nc
    stands in for it."""
    return BT2020 if matrix == BT2020_CONSTANT else matrix


def is_convertible(matrix: int) -> bool:
    """Whether pictures of this matrix can become RGB."""
    return linear_matrix(matrix) in LUMA_WEIGHTS


def same_matrix(one: int, other: int) -> bool:
    """Whether codes of two matrices stand for the same colours, as bt470bg's and smpte170m's."""
    one, other = linear_matrix(one), linear_matrix(other)
    return LUMA_WEIGHTS.get(one, one) == LUMA_WEIGHTS.get(other, other)


@dataclass(frozen=True)
class ColourTags:
    """What a stream says of its colours; numbers as in the module's docstring."""

    matrix: int = UNSPECIFIED
    range: int = 0
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED

    def resolved(self, width: int, height: int, is_rgb: bool) -> ColourTags:
        """Fill what is unspecified, by size, as FFmpeg's users expect.

        RGB pictures: matrix rgb, full range, sRGB transfer, bt709 primaries.
        YCbCr of 1280x720 and above: bt709. Below: bt470bg with 576 lines
        (625-line systems), else smpte170m. Limited range. What the stream does
        say is never overruled; a missing transfer or primaries follows the size.
        """
        if is_rgb:
            family, matrix, transfer, range_ = BT709, IDENTITY, SRGB, FULL
        else:
            is_hd = width >= 1280 or height >= 720
            family = BT709 if is_hd else BT470BG if height == 576 else SMPTE170M
            matrix, range_ = family, LIMITED
            transfer = BT709 if is_hd else SMPTE170M
        return ColourTags(
            matrix=matrix if self.matrix == UNSPECIFIED or is_rgb else self.matrix,
            range=self.range or range_,
            primaries=family if self.primaries == UNSPECIFIED else self.primaries,
            transfer=transfer if self.transfer == UNSPECIFIED else self.transfer,
        )

    @property
    def is_hdr(self) -> bool:
        """True for PQ and HLG transfers."""
        return self.transfer in (PQ, HLG)

    def as_names(self) -> dict[str, str]:
        """The four values by FFmpeg's names, for people and for JSON."""
        return {
            "matrix": MATRIX_NAMES.get(self.matrix, str(self.matrix)),
            "range": _RANGE_NAMES.get(self.range, str(self.range)),
            "primaries": _PRIMARIES_NAMES.get(self.primaries, str(self.primaries)),
            "transfer": TRANSFER_NAMES.get(self.transfer, str(self.transfer)),
        }

    def with_matrix(self, matrix: int, range_: int) -> ColourTags:
        """These primaries and transfer under another matrix and range."""
        return replace(self, matrix=matrix, range=range_)


def _camera_to_linear(code: np.ndarray) -> np.ndarray:
    """Inverse of the bt709 camera curve, ITU-T H.273 table 3."""
    return np.where(code < 0.081, code / 4.5, ((code + 0.099) / 1.099) ** (1 / 0.45))


def _display_to_linear(code: np.ndarray) -> np.ndarray:
    """Inverse of the sRGB curve, IEC 61966-2-1."""
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


#: Curves that have an agreed way to linear light. PQ, HLG and log pass as they are.
TO_LINEAR: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    BT709: _camera_to_linear,
    GAMMA22: lambda code: code**2.2,
    GAMMA28: lambda code: code**2.8,
    SMPTE170M: _camera_to_linear,
    SRGB: _display_to_linear,
    BT2020_10: _camera_to_linear,
    BT2020_12: _camera_to_linear,
}

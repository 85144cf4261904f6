"""Colour tags: matrix, range, primaries and transfer, each its own value.

The numbers are those of ITU-T H.273 (FFmpeg uses the same), except ``range``,
where FFmpeg's 1 is limited ("tv") and 2 is full ("pc"). 2 means "unspecified"
for matrix, primaries and transfer, 0 for range.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

_TAG_NAMES = {
    "matrix": MATRIX_NAMES,
    "range": _RANGE_NAMES,
    "primaries": _PRIMARIES_NAMES,
    "transfer": TRANSFER_NAMES,
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

#: CIE x, y of red, green, blue and white, ITU-T H.273 table 2.
CHROMATICITIES = {
    BT709: (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, 0.3127, 0.3290),
    BT470BG: (0.640, 0.330, 0.290, 0.600, 0.150, 0.060, 0.3127, 0.3290),
    SMPTE170M: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, 0.3127, 0.3290),
    SMPTE240M: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, 0.3127, 0.3290),
    BT2020: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    DCI_P3: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    DISPLAY_P3: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
}
#: Those of spaces for compositing, which have no number that a movie could be tagged with: ACES
#: 2065-1 (SMPTE ST 2065-1), ACEScg (Academy S-2014-004), CIE XYZ.
_WORKING_SPACES = {
    "aces2065-1": (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.0770, 0.32168, 0.33767),
    "acescg": (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767),
    "xyz": (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1 / 3, 1 / 3),
}
_SAME_POINT = 0.0015  # files round their chromaticities, and their white to 0.313, 0.329


def primaries_of(chromaticities: Sequence[float]) -> int:
    """The number of the primaries and white at these x, y; ``UNSPECIFIED`` where none has them."""
    for number, known in CHROMATICITIES.items():
        if _are_close(known, chromaticities):
            return number
    return UNSPECIFIED


def _are_close(known: Sequence[float], found: Sequence[float]) -> bool:
    return all(abs(one - other) <= _SAME_POINT for one, other in zip(known, found, strict=True))


def to_bt709(chromaticities: Sequence[float]) -> np.ndarray:
    """(3, 3): linear R, G, B of these chromaticities -> those of bt709, white to white.

    By way of CIE XYZ (SMPTE RP 177), with Bradford's adaptation of the white (ICC.1:2022, annex
    E). Raises ValueError where the chromaticities do not span a plane.
    """
    source, target = (_to_xyz(one) for one in (chromaticities, CHROMATICITIES[BT709]))
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367],
                         [0.0389, -0.0685, 1.0296]])  # fmt: skip
    white, wanted = (bradford @ one.sum(axis=1) for one in (source, target))
    adapted = np.linalg.solve(bradford, np.diag(wanted / white) @ bradford)
    return np.asarray(np.linalg.solve(target, adapted @ source))


def _to_xyz(chromaticities: Sequence[float]) -> np.ndarray:
    """(3, 3): linear R, G, B -> CIE XYZ, Y of white 1."""
    x, y = np.array(chromaticities, np.float64).reshape(4, 2).T
    if (y == 0).any():  # XYZ's own primaries: their light is not measured by Y alone
        y = np.where(y == 0, 1e-12, y)
    points = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    if abs(np.linalg.det(points[:, :3])) < 1e-9 or not np.isfinite(points).all():
        raise ValueError("the chromaticities span no colours")
    return np.asarray(points[:, :3] * np.linalg.solve(points[:, :3], points[:, 3]))


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


#: What people call whole sets of tags, by FFmpeg's names and others.
_SETS = {
    "bt709": {"matrix": BT709, "primaries": BT709, "transfer": BT709},
    "bt601": {"matrix": SMPTE170M, "primaries": SMPTE170M, "transfer": SMPTE170M},
    "bt601-625": {"matrix": BT470BG, "primaries": BT470BG, "transfer": SMPTE170M},
    "bt2020": {"matrix": BT2020, "primaries": BT2020, "transfer": BT2020_10},
    "pq": {"matrix": BT2020, "primaries": BT2020, "transfer": PQ},
    "hlg": {"matrix": BT2020, "primaries": BT2020, "transfer": HLG},
    "srgb": {"primaries": BT709, "transfer": SRGB},
    "display-p3": {"primaries": DISPLAY_P3, "transfer": SRGB},
    "linear": {"transfer": LINEAR},
}
_OTHER_NAMES = {
    "matrix": {"bt601": SMPTE170M, "bt2020": BT2020},
    "range": {"limited": LIMITED, "full": FULL},
    "primaries": {"bt601": SMPTE170M, "dci-p3": DCI_P3, "display-p3": DISPLAY_P3},
    "transfer": {"srgb": SRGB, "pq": PQ, "hlg": HLG, "bt601": SMPTE170M, "bt2020": BT2020_10},
}


def parse_tags(text: str) -> dict[str, int]:
    """'srgb', 'bt601,range=full' or 'primaries=bt2020,transfer=pq' -> numbers by kind of tag.

    Later words overrule earlier ones. Raises ValueError, with what is allowed.
    """
    found: dict[str, int] = {}
    for word in (part.strip().lower() for part in text.split(",")):
        kind, equals, name = word.partition("=")
        if not equals:
            if word not in _SETS:
                raise ValueError(f"{word!r} is none of {', '.join(_SETS)}, nor matrix=, range=,"
                                 " primaries= or transfer=")  # fmt: skip
            found |= _SETS[word]
            continue
        if kind not in _OTHER_NAMES:
            raise ValueError(f"{kind!r} is none of {', '.join(_OTHER_NAMES)}")
        names = {one: number for number, one in _TAG_NAMES[kind].items() if one != "unspecified"}
        names.pop("rgb", None)  # samples are R, G, B or not, whatever is said
        names |= _OTHER_NAMES[kind]
        if name not in names:
            raise ValueError(f"{kind} {name!r} is none of {', '.join(names)}")
        found[kind] = names[name]
    return found


@dataclass(frozen=True)
class ColourTags:
    """What a stream says of its colours; numbers as in the module's docstring.

    chromaticities: CIE x, y of red, green, blue and white, where no number of primaries has them.
    """

    matrix: int = UNSPECIFIED
    range: int = 0
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    chromaticities: tuple[float, ...] | None = None

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
        return replace(
            self,
            matrix=matrix if self.matrix == UNSPECIFIED or is_rgb else self.matrix,
            range=self.range or range_,
            primaries=family if self.has_no_primaries else self.primaries,
            transfer=transfer if self.transfer == UNSPECIFIED else self.transfer,
        )

    def with_stated(self, values: Mapping[str, int]) -> ColourTags:
        """These tags with others in their place, by name."""
        points = None if "primaries" in values else self.chromaticities
        return ColourTags(
            values.get("matrix", self.matrix),
            values.get("range", self.range),
            values.get("primaries", self.primaries),
            values.get("transfer", self.transfer),
            points,
        )

    @property
    def has_no_primaries(self) -> bool:
        """True where primaries are stated neither by a number nor by chromaticities."""
        return self.primaries == UNSPECIFIED and self.chromaticities is None

    @property
    def light(self) -> tuple[object, ...]:
        """What R'G'B' codes stand for: primaries and transfer."""
        return self.primaries, self.chromaticities, self.transfer

    @property
    def is_hdr(self) -> bool:
        """True for PQ and HLG transfers."""
        return self.transfer in (PQ, HLG)

    def as_names(self) -> dict[str, str]:
        """The four values by FFmpeg's names, for people and for JSON."""
        return {
            "matrix": MATRIX_NAMES.get(self.matrix, str(self.matrix)),
            "range": _RANGE_NAMES.get(self.range, str(self.range)),
            "primaries": self._primaries_name(),
            "transfer": TRANSFER_NAMES.get(self.transfer, str(self.transfer)),
        }

    def _primaries_name(self) -> str:
        """The name of the primaries; x, y of red, green, blue and white where they have none."""
        if self.chromaticities is None:
            return _PRIMARIES_NAMES.get(self.primaries, str(self.primaries))
        for name, known in _WORKING_SPACES.items():
            if _are_close(known, self.chromaticities):
                return name
        return " ".join(f"{value:.4g}" for value in self.chromaticities)

    def with_matrix(self, matrix: int, range_: int) -> ColourTags:
        """These primaries and transfer under another matrix and range."""
        return replace(self, matrix=matrix, range=range_)


RGB_TAGS = ColourTags(IDENTITY, FULL, BT709, SRGB)


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

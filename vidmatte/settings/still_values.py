"""Options of stills: their size, crop, shadow and manifest, as text and parsed."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from vidmatte.errors import UsageError
from vidmatte.settings.values import LARGEST_BLUR, Text, parsed_by

_STILL_SIZE = re.compile(
    r"(\d{1,6}(?:\.\d{1,3})?)x(\d{1,6}(?:\.\d{1,3})?)(px|mm|cm|in)?(?:@(\d{1,5}))?"
)
_PER_INCH = {"mm": 25.4, "cm": 2.54, "in": 1.0}
_CROP = re.compile(r"subject(?::(\d{1,5}(?:\.\d{1,3})?)(%)?)?")
_LARGEST_SIDE, _LARGEST_SHARE = 65535, 500
_SHADOW = re.compile(r"-?\d{1,5}(\.\d{1,3})?,-?\d{1,5}(\.\d{1,3})?(,\d{1,5}(\.\d{1,3})?){1,2}")


@dataclass(frozen=True)
class StillSize:
    """The size of a still in pixels, and its density in pixels per inch, if one is stated."""

    width: int
    height: int
    dpi: int | None = None


def parse_size(text: str) -> StillSize:
    """'413x531', '413x531@300' or '35x45mm@300' (also cm, in). Raises UsageError."""
    match = _STILL_SIZE.fullmatch(text.strip().lower())
    unit, dpi = (match[3] or "px", int(match[4] or 0)) if match else ("", 0)
    sides: list[int] = []
    if match and (unit == "px" or dpi):
        scale = 1 if unit == "px" else dpi / _PER_INCH[unit]
        sides = [math.floor(float(side) * scale + 0.5) for side in (match[1], match[2])]
    if not sides or not all(1 < side <= _LARGEST_SIDE for side in sides) or dpi > _LARGEST_SIDE:
        raise UsageError(
            f"'{text}' is not a size: write pixels like 600x800, or a print's size and pixels per"
            f" inch like 35x45mm@300; 2 to {_LARGEST_SIDE} pixels a side"
        )
    return StillSize(sides[0], sides[1], dpi or None)


@dataclass(frozen=True)
class CropMargin:
    """Space around the subject's box: pixels, or a share of its longer side."""

    value: float
    is_share: bool = False


def parse_crop(text: str) -> CropMargin:
    """'subject', 'subject:20' (pixels) or 'subject:5%' (of its longer side). Raises UsageError."""
    match = _CROP.fullmatch(text.strip().lower())
    value = float(match[1] or 0) if match else -1.0
    is_share = bool(match and match[2])
    if not 0 <= value <= (_LARGEST_SHARE if is_share else _LARGEST_SIDE):
        raise UsageError(
            f"'{text}' is not a crop: write subject, or subject and a margin in pixels like"
            f" subject:20 or in per cent like subject:5% (at most {_LARGEST_SHARE} %)"
        )
    return CropMargin(value / 100 if is_share else value, is_share)


@dataclass(frozen=True)
class Shadow:
    """A drop shadow: its offset to the right and down and its blur (sigma), in pixels, and its
    opacity in 0..1."""

    right: float
    down: float
    blur: float
    opacity: float = 0.5


def parse_shadow(text: str) -> Shadow:
    """'12,16,20' or '12,16,20,0.4'. Raises UsageError."""
    match = _SHADOW.fullmatch(text)
    shadow = Shadow(*(float(part) for part in text.split(","))) if match else None
    if (
        shadow is None
        or max(abs(shadow.right), abs(shadow.down)) > _LARGEST_SIDE
        or shadow.blur > LARGEST_BLUR
        or shadow.opacity > 1
    ):
        raise UsageError(
            f"'{text}' is not a shadow: write X,Y,BLUR or X,Y,BLUR,OPACITY like 12,16,20,0.5, in"
            f" pixels, BLUR up to {LARGEST_BLUR:g}, OPACITY from 0 to 1"
        )
    return shadow


def _manifest_mode(value: Any) -> Any:
    """True and False, as this option had before, are 'each' and 'none'."""
    return {True: "each", False: "none"}[value] if isinstance(value, bool) else value


ManifestMode = Annotated[Literal["each", "one", "none"], BeforeValidator(_manifest_mode)]
ShadowText = Annotated[Text, parsed_by(parse_shadow)]
SizeText = Annotated[Text, parsed_by(parse_size)]
CropText = Annotated[Text, parsed_by(parse_crop)]

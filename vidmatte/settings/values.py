"""Parsing of the options' texts, and the conversion of Python values to such text."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral, Real
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AllowInfNan, BeforeValidator, Strict
from pydantic_core import PydanticKnownError

from vidmatte.core.timecode import is_timecode
from vidmatte.errors import UsageError

LOWEST_RATE, HIGHEST_RATE = Fraction(1, 1000), Fraction(1000)
_PLAIN_NUMBER = re.compile(r"\d{1,12}(\.\d{0,12}|/\d{1,12})?|\.\d{1,12}")
_STILL_SIZE = re.compile(
    r"(\d{1,6}(?:\.\d{1,3})?)x(\d{1,6}(?:\.\d{1,3})?)(px|mm|cm|in)?(?:@(\d{1,5}))?"
)
_PER_INCH = {"mm": 25.4, "cm": 2.54, "in": 1.0}
_CROP = re.compile(r"subject(?::(\d{1,5}(?:\.\d{1,3})?)(%)?)?")
_LARGEST_SIDE, _LARGEST_SHARE = 65535, 500
_SHADOW = re.compile(r"-?\d{1,5}(\.\d{1,3})?,-?\d{1,5}(\.\d{1,3})?(,\d{1,5}(\.\d{1,3})?){1,2}")
LARGEST_BLUR = 1000.0  # pixels
_SIZE_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def parse_bytes(text: str) -> int:
    """'512M' -> 536870912. Units K, M, G are powers of 1024, in either case.

    Raises UsageError.
    """
    number, unit = text.strip().lower().removesuffix("b"), ""
    if number and number[-1] in "kmg":
        number, unit = number[:-1], number[-1]
    try:
        size = int(float(number) * _SIZE_UNITS[unit])
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise UsageError(f"'{text}' is not an amount of memory: write it like 512M or 2G")
    return size


def _parse_number(text: str) -> Fraction:
    """'25', '29.97' or '24000/1001' as an exact number, its denominator limited to a million.

    Raises ValueError. Exponents are refused: 1e-99999999 would become a huge integer.
    """
    if not _PLAIN_NUMBER.fullmatch(text):
        raise ValueError(f"'{text}' is not a plain number")
    # Time bases consist of two 32-bit numbers.
    return Fraction(text).limit_denominator(1_000_000)


def parse_rate(text: str) -> Fraction:
    """'24000/1001', '25' or '29.97' -> Fraction; the NTSC decimals become n*1000/1001.

    Raises UsageError.
    """
    try:
        rate = _parse_number(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise UsageError(
            f"'{text}' is not a frame rate: write it like 25, 24000/1001 or 29.97,"
            f" from {LOWEST_RATE} to {HIGHEST_RATE}"
        )
    ntsc = Fraction(round(rate) * 1000, 1001)
    is_decimal = "." in text and rate.denominator != 1
    return ntsc if is_decimal and abs(rate - ntsc) < Fraction(1, 150) and ntsc else rate


def parse_point(text: str) -> int | Fraction | None:
    """An in or out point as far as it can be read without the clip: 'f120' is frame 120 (int),
    '12.5' seconds (Fraction); None for a timecode, which needs the clip's rate.

    Raises UsageError.
    """
    if text.startswith("f") and text[1:].isdecimal():
        return int(text[1:])
    if is_timecode(text):
        return None
    try:
        return _parse_number(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(
            f"'{text}' is not a frame, time or timecode: write f120 (frame), 12.5 (seconds)"
            " or 01:00:02:10 (timecode)"
        ) from None


def parse_threshold(text: str) -> tuple[float, float]:
    """'0.1,0.9' -> (0.1, 0.9). Raises UsageError."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 1.0, 0.0
    if not 0 <= low < high <= 1:
        raise UsageError(
            f"'{text}' is not a pair of levels: write LOW,HIGH with 0 <= LOW < HIGH <= 1"
        )
    return low, high


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


def parse_device(text: str) -> tuple[int, ...] | None:
    """The numbers of the CUDA devices that ``cuda``, ``cuda:N`` or ``cuda:0,cuda:1`` name; none
    for ``cpu``, None for ``auto``. Raises UsageError."""
    if text in ("auto", "cpu"):
        return None if text == "auto" else ()
    words = text.split(",")
    matches = [re.fullmatch(r"cuda(?::(\d{1,9}))?", word) for word in words]
    numbers = tuple(int(match[1] or 0) for match in matches if match is not None)
    if len(numbers) < len(words) or len(set(numbers)) < len(words):
        raise UsageError(
            f"'{text}' is not a device: choose auto, cpu, cuda, cuda:N, or several as cuda:0,cuda:1"
        )
    return numbers


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


def parse_blur(text: str) -> float | None:
    """'blur:20' -> 20, the sigma in pixels; None for another background. Raises UsageError."""
    if not text.startswith("blur:"):
        return None
    match = _PLAIN_NUMBER.fullmatch(text.removeprefix("blur:"))
    sigma = float(_parse_number(match[0])) if match and "/" not in match[0] else 0.0
    if not 0 < sigma <= LARGEST_BLUR:
        raise UsageError(
            f"'{text}' is no blurred background: write its pixels like blur:20, up to"
            f" {LARGEST_BLUR:g}"
        )
    return sigma


def _check_background(text: str) -> None:
    """Raise UsageError for text that starts with # and is neither a colour nor a file."""
    parse_blur(text)
    is_colour = re.fullmatch(r"#[0-9A-Fa-f]{6}", text) is not None
    if text.startswith("#") and not is_colour and not os.path.exists(text):  # noqa: PTH110
        raise UsageError(
            f"'{text}' is neither a file nor a colour: write a colour as #rrggbb, like #20a040"
        )


def parsed(flag: str, text: str, parse: Callable[[str], Any]) -> Any:
    """The result of ``parse`` for an option's text. Its UsageError is raised with the flag."""
    try:
        return parse(text)
    except UsageError as error:
        raise UsageError(f"{flag}: {error}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _whole_number(value: Any) -> int:
    """Any integer, including numpy's; text is refused."""
    if _is_number(value) and isinstance(value, Integral):
        return int(value)
    raise PydanticKnownError("int_type")


def _number(value: Any) -> float:
    """Any real number, including fractions and numpy's; text is refused."""
    if not _is_number(value):
        raise PydanticKnownError("float_type")
    try:
        return float(value)
    except OverflowError:  # larger than any float, and so out of range
        return math.inf if value > 0 else -math.inf


def _text(value: Any) -> str:
    """A value as on the command line: paths and numbers as text, a pair as 'a,b'."""
    if isinstance(value, tuple | list):  # --threshold
        return ",".join(str(part) for part in value)
    if _is_number(value) or isinstance(value, str | os.PathLike):
        return str(value)
    raise PydanticKnownError("string_type")


def _checked_text(text: str) -> str:
    if text == "":
        raise UsageError("empty value: give the option a value, or omit it")
    if "\0" in text:
        raise UsageError(f"{text!r} contains a NUL character: remove it")
    return text


def _parsed_by(parse: Callable[[str], Any]) -> AfterValidator:
    """A validator that refuses text which ``parse`` refuses; the text itself is unchanged."""

    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


def _prompt_texts(value: Any) -> tuple[str, ...]:
    """Prompts as on the command line: one or several, each a text or an object."""
    several = value if isinstance(value, list | tuple) else [value]
    return tuple(_prompt_text(one) for one in several)


def _prompt_text(value: Any) -> str:
    from vidmatte.core.prompts import Box, Choice, Mask, Point, parse_prompt, prompt_text

    if isinstance(value, Point | Box | Mask | Choice):
        return prompt_text(value)
    if not isinstance(value, str | os.PathLike | int) or isinstance(value, bool):
        raise PydanticKnownError("string_type")
    text = _checked_text(str(value))
    parse_prompt(text)
    return text


def _manifest_mode(value: Any) -> Any:
    """True and False, as this option had before, are 'each' and 'none'."""
    return {True: "each", False: "none"}[value] if isinstance(value, bool) else value


#: The types of options. Each accepts the natural Python types, and nothing else.
Switch = Annotated[bool, Strict()]
WholeNumber = Annotated[int, BeforeValidator(_whole_number)]
Number = Annotated[float, BeforeValidator(_number), AllowInfNan(False)]
Text = Annotated[str, BeforeValidator(_text), AfterValidator(_checked_text)]
Rate = Annotated[Text, _parsed_by(parse_rate)]
TrimPoint = Annotated[Text, _parsed_by(parse_point)]
Levels = Annotated[Text, _parsed_by(parse_threshold)]
Memory = Annotated[Text, _parsed_by(parse_bytes)]
DeviceName = Annotated[Text, _parsed_by(parse_device)]
ManifestMode = Annotated[Literal["each", "one", "none"], BeforeValidator(_manifest_mode)]
ShadowText = Annotated[Text, _parsed_by(parse_shadow)]
SizeText = Annotated[Text, _parsed_by(parse_size)]
CropText = Annotated[Text, _parsed_by(parse_crop)]
Prompts = Annotated[tuple[str, ...], BeforeValidator(_prompt_texts)]
BackgroundName = Annotated[Text, _parsed_by(_check_background)]

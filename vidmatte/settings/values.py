"""Parsing of the options' texts, and the conversion of Python values to such text."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from fractions import Fraction
from numbers import Integral, Real
from typing import Annotated, Any

from pydantic import AfterValidator, AllowInfNan, BeforeValidator, Strict
from pydantic_core import PydanticKnownError

from vidmatte.core.timecode import is_timecode
from vidmatte.errors import UsageError

LOWEST_RATE, HIGHEST_RATE = Fraction(1, 1000), Fraction(1000)
#: Of a picture or frame that is decoded; more than any camera has.
MAX_MEGAPIXELS = 200.0
MAX_PIXELS = round(MAX_MEGAPIXELS * 1e6)
_PLAIN_NUMBER = re.compile(r"\d{1,12}(\.\d{0,12}|/\d{1,12})?|\.\d{1,12}")
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


def _check_frame_size(text: str) -> None:
    """Raise UsageError for a text that is no width and height in pixels."""
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None or max(int(match[1]), int(match[2])) > 65535:
        raise UsageError(f"'{text}' is not a frame size: write pixels like 1920x1080, up to 65535")


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


def parse_colour(text: str) -> dict[str, int]:
    """See ``colour.parse_tags``. Raises UsageError."""
    from vidmatte.core.colour import parse_tags  # with numpy, which --help does without

    try:
        return parse_tags(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def stated_colour(text: str | None, name: str, is_rgb: bool) -> dict[str, int]:
    """The tags that ``--colour`` states for a source. name, is_rgb: of the source.

    Raises UsageError for a matrix of R, G, B samples.
    """
    if text is None:
        return {}
    if is_rgb and "matrix=" in text.lower():
        raise UsageError(
            f"--colour {text}: {name} has R, G, B samples, which no matrix codes: omit matrix="
        )
    return parse_colour(text)


def parse_numbers(text: str) -> tuple[int, ...]:
    """'1,3' -> (1, 3), in rising order. Raises UsageError."""
    words = text.split(",")
    if not all(re.fullmatch(r" *[1-9]\d{0,3} *", word) for word in words):
        raise UsageError(f"'{text}' is no list of track numbers: write it like 1,3; the first is 1")
    return tuple(sorted({int(word) for word in words}))


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


_LONGEST_PACE = 8  # frames from one run of the network to the next


def _parse_pace(text: str) -> str | int:
    """'auto', 'every', or a number of frames. Raises UsageError."""
    if text in ("auto", "every"):
        return text
    if not re.fullmatch(r"[1-9]", text) or int(text) > _LONGEST_PACE:
        raise UsageError(
            f"'{text}' is not a pace: choose auto, every, or the frames from one run of the network"
            f" to the next, 1 to {_LONGEST_PACE}"
        )
    return int(text)


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


def _check_screen(text: str) -> None:
    """Raise UsageError for a text that is no colour."""
    if re.fullmatch(r"#[0-9A-Fa-f]{6}", text) is None:
        raise UsageError(f"'{text}' is not a colour: write it as #rrggbb, like #20c040")


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


def _texts(value: Any) -> tuple[str, ...]:
    """One text or several."""
    several = value if isinstance(value, tuple | list) else (value,)
    return tuple(_checked_text(_text(one)) for one in several)


def _checked_text(text: str) -> str:
    if text == "":
        raise UsageError("empty value: give the option a value, or omit it")
    if "\0" in text:
        raise UsageError(f"{text!r} contains a NUL character: remove it")
    return text


def parsed_by(parse: Callable[[str], Any]) -> AfterValidator:
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


#: The types of options. Each accepts the natural Python types, and nothing else.
Switch = Annotated[bool, Strict()]
WholeNumber = Annotated[int, BeforeValidator(_whole_number)]
Number = Annotated[float, BeforeValidator(_number), AllowInfNan(False)]
Text = Annotated[str, BeforeValidator(_text), AfterValidator(_checked_text)]
Rate = Annotated[Text, parsed_by(parse_rate)]
FrameSize = Annotated[Text, parsed_by(_check_frame_size)]
TrimPoint = Annotated[Text, parsed_by(parse_point)]
Levels = Annotated[Text, parsed_by(parse_threshold)]
Memory = Annotated[Text, parsed_by(parse_bytes)]
ColourNames = Annotated[Text, parsed_by(parse_colour)]
TrackNumbers = Annotated[Text, parsed_by(parse_numbers)]
PaceName = Annotated[Text, parsed_by(_parse_pace)]
DeviceName = Annotated[Text, parsed_by(parse_device)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Prompts = Annotated[tuple[str, ...], BeforeValidator(_prompt_texts)]
ScreenColour = Annotated[Text, parsed_by(_check_screen)]
BackgroundName = Annotated[Text, parsed_by(_check_background)]

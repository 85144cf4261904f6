"""How a user says which subject is meant: points, boxes and masks, each with a time and a sign.

On the command line one text each::

    640,300                     a point, on the first frame
    640,300@00:00:01:05         at a timecode; @1.5 seconds; @f12 frame 12, as --in writes them
    100,50,400,700@f0           a box: left, top, right, bottom
    mask.png@f12                a mask picture of one frame, white is the subject
    largest@f12                 the largest region that the network marks; also centre, person, all
    2@f12                       the second largest, see ``vidmatte subjects``
    !640,300                    not this one
    actor:640,300               of the subject called actor

Positions are pixels of the frame as it is displayed, after rotation, from its top left corner.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from vidmatte.core.stored import first_fault
from vidmatte.errors import UsageError

DEFAULT_SUBJECT = "subject"
#: What a prompt's text may be, for messages.
FORMS = (
    "write X,Y for a point, LEFT,TOP,RIGHT,BOTTOM for a box, the path of a mask picture, largest,"
    " centre, person, all, or a number from 'vidmatte subjects'"
)
_NAME_RULE = "a name has two or more letters, digits, - or _, and begins with a letter"
_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_NUMBERS = re.compile(rf"\s*{_NUMBER}(?:\s*,\s*{_NUMBER})*\s*")
_NAMED = re.compile(r"([A-Za-z][\w-]+):(?!//)(.+)", re.DOTALL)  # not s3://
_FRAME = re.compile(r"f(\d+)")
_SECONDS = re.compile(r"\d+(?:\.\d+)?|\d+/\d+")
_TIMECODE = re.compile(r"\d{2}[:;.]\d{2}[:;.]\d{2}[:;.]\d{2,3}")
# Their checks are made when the first prompt is: most runs have none.
_CONFIG = ConfigDict(arbitrary_types_allowed=True, extra="forbid", defer_build=True)


@dataclass(frozen=True, config=ConfigDict(defer_build=True))
class Moment:
    """A time in the source. kind "start": the first frame that is read; else ``value`` is a frame
    number, a pts (in the clip's time base, 0 at its first frame), seconds, or a timecode."""

    kind: Literal["start", "frame", "pts", "seconds", "timecode"] = "start"
    value: str = ""

    def point(self, time_base: Fraction) -> str | None:
        """The moment as ``--in`` writes it, such as 'f12' or '1.5'; None for the first frame."""
        if self.kind == "start":
            return None
        if self.kind == "frame":
            return f"f{int(self.value)}"
        if self.kind == "pts":
            return str((int(self.value) * time_base).limit_denominator(1_000_000))
        return self.value

    def __str__(self) -> str:
        """As in a prompt's text, with its @; '' for the first frame."""
        return "" if self.kind == "start" else f"@{'f' if self.kind == 'frame' else ''}{self.value}"


def _parse_moment(text: str) -> Moment | None:
    """'f12', '1.5' (seconds) or '00:00:01:05'; None for any other text."""
    if match := _FRAME.fullmatch(text):
        return Moment("frame", match[1])
    if _TIMECODE.fullmatch(text):
        return Moment("timecode", text)
    if _SECONDS.fullmatch(text) and not text.endswith("/0"):
        return Moment("seconds", text)
    return None


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][\w-]+", name):
        raise ValueError(f"'{name}' is not a name: {_NAME_RULE}")
    return name


SubjectName = Annotated[str, AfterValidator(_checked_name)]
_Position = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, config=_CONFIG)
class Point:
    """A pixel of the subject, or with ``wanted`` False of what is not it."""

    x: _Position
    y: _Position
    at: Moment = Moment()
    wanted: bool = True
    subject: SubjectName = DEFAULT_SUBJECT

    def check(self, width: int, height: int) -> None:
        """Raises UsageError where it lies outside a frame of that size."""
        if not (0 <= self.x < width and 0 <= self.y < height):
            raise UsageError(
                f"point {self.x:g},{self.y:g} is outside the frame of {width}x{height}: choose X"
                f" from 0 to {width - 1} and Y from 0 to {height - 1}"
            )


@dataclass(frozen=True, config=_CONFIG)
class Box:
    """A box around the subject; right and bottom are the first column and row outside."""

    left: _Position
    top: _Position
    right: _Position
    bottom: _Position
    at: Moment = Moment()
    wanted: bool = True
    subject: SubjectName = DEFAULT_SUBJECT

    def __post_init__(self) -> None:
        if not (self.left < self.right and self.top < self.bottom):
            raise ValueError("a box is LEFT,TOP,RIGHT,BOTTOM with LEFT < RIGHT and TOP < BOTTOM")

    def check(self, width: int, height: int) -> None:
        """Raises UsageError where it does not meet a frame of that size."""
        if self.left >= width or self.top >= height or self.right <= 0 or self.bottom <= 0:
            raise UsageError(
                f"box {self.left:g},{self.top:g},{self.right:g},{self.bottom:g} is outside the"
                f" frame of {width}x{height}: choose one that meets it"
            )


@dataclass(frozen=True, config=_CONFIG)
class Mask:
    """A mask of one frame: a picture's path, or (H, W) uint8, bool or float 0..1."""

    source: Path | np.ndarray
    at: Moment = Moment()
    wanted: bool = True
    subject: SubjectName = DEFAULT_SUBJECT


@dataclass(frozen=True, config=_CONFIG)
class Choice:
    """A region that the network marks on a frame: by a rule, or by its number, from 1, the
    largest first."""

    rule: Literal["largest", "centre", "person", "all"] | Annotated[int, Field(ge=1)]
    at: Moment = Moment()
    wanted: bool = True
    subject: SubjectName = DEFAULT_SUBJECT


Prompt = Point | Box | Mask | Choice
RULES = ("largest", "centre", "person", "all")


def parse_prompt(text: str) -> Prompt:
    """One ``--subject`` text, as the module's docstring says. Raises UsageError."""
    rest, wanted = (text[1:], False) if text.startswith("!") else (text, True)
    subject = DEFAULT_SUBJECT
    if match := _NAMED.fullmatch(rest):
        subject, rest = match[1], match[2]
        if wanted and rest.startswith("!"):  # actor:!640,300 means the same as !actor:640,300
            rest, wanted = rest[1:], False
    what, moment = _split_moment(rest)
    if not what.strip():
        raise UsageError(f"'{text}' names nothing: {FORMS}")
    common: dict[str, Any] = {"at": moment, "wanted": wanted, "subject": subject}
    if what in RULES or re.fullmatch(r"[1-9]\d{0,2}", what):
        rule: Any = what if what in RULES else int(what)
        return Choice(rule, **common)
    if not _NUMBERS.fullmatch(what):
        _check_is_path(text, what)
        return Mask(Path(what), **common)
    numbers = [float(number) for number in what.split(",")]
    try:
        if len(numbers) == 2:
            return Point(numbers[0], numbers[1], **common)
        if len(numbers) == 4:
            left, top, right, bottom = numbers
            return Box(left, top, right, bottom, **common)
    except ValidationError as error:
        raise UsageError(f"'{text}': {first_fault(error)}") from None
    counted = "1 number" if len(numbers) == 1 else f"{len(numbers)} numbers"
    raise UsageError(f"'{text}' has {counted}: {FORMS}")


def _check_is_path(text: str, what: str) -> None:
    """Raise UsageError for a text with unreadable numbers, or with a name that is none."""
    if re.fullmatch(r"[-+\d.,;\s]+", what):
        raise UsageError(f"'{text}': {FORMS}")
    name, _, place = what.partition(":")
    if place in RULES or _NUMBERS.fullmatch(place):
        raise UsageError(f"'{text}': '{name}' is not a name: {_NAME_RULE}")


def _split_moment(text: str) -> tuple[str, Moment]:
    """What and when; an @ that no time follows belongs to a path."""
    what, at, when = text.rpartition("@")
    if not at:
        return text, Moment()
    moment = _parse_moment(when)
    if moment is not None:
        return what, moment
    if _NUMBERS.fullmatch(what):
        raise UsageError(f"'{when}' is not a time: write f12, 1.5 (seconds) or 00:00:01:05")
    return text, Moment()


def prompt_text(prompt: Prompt) -> str:
    """A prompt as ``parse_prompt`` reads it. Raises UsageError for a mask that is an array."""
    if isinstance(prompt, Point):
        what = f"{prompt.x:.15g},{prompt.y:.15g}"
    elif isinstance(prompt, Box):
        sides = prompt.left, prompt.top, prompt.right, prompt.bottom
        what = ",".join(f"{side:.15g}" for side in sides)
    elif isinstance(prompt, Choice):
        what = str(prompt.rule)
    elif isinstance(prompt.source, Path):
        what = str(prompt.source)
    else:
        raise UsageError("a subject's mask is an array: save it as a picture, and give its path")
    if prompt.at.kind == "pts":
        raise UsageError(f"pts {prompt.at.value}: only a subjects file can give a pts; use a frame")
    name = "" if prompt.subject == DEFAULT_SUBJECT else f"{prompt.subject}:"
    return f"{'' if prompt.wanted else '!'}{name}{what}{prompt.at}"

"""The prompts of a clip in a small JSON file, to keep beside it.

::

    {
      "version": 1,
      "width": 1920, "height": 1080,
      "prompts": [
        {"kind": "point", "x": 640, "y": 300, "at": {"pts": 1024}},
        {"kind": "box", "left": 100, "top": 50, "right": 400, "bottom": 700,
         "subject": "actor"},
        {"kind": "mask", "path": "mask.png", "at": {"frame": 12}, "wanted": false},
        {"kind": "region", "choose": 2}
      ]
    }

``width`` and ``height`` (optional, both or none) say for which size of frame the positions
are; they are scaled where the clip has another of the same aspect ratio. ``at`` holds one of
frame, pts (in the clip's time base, 0 at its first frame), seconds or timecode, and is the first
frame where it is left out. A mask's path is taken from the folder of the file. A region is one
that the network marks: a number, largest, centre, person or all, see ``core.prompts.Choice``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vidmatte.core.frame import Clip
from vidmatte.core.prompts import (
    DEFAULT_SUBJECT,
    Box,
    Choice,
    Mask,
    Moment,
    Point,
    Prompt,
    SubjectName,
    parse_prompt,
)
from vidmatte.core.stored import first_fault
from vidmatte.errors import UsageError


class _Place(NamedTuple):
    """Where the file lies, and the factors from its positions to the clip's."""

    folder: Path
    scale_x: float
    scale_y: float


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, defer_build=True)


class _At(_Strict):
    frame: Annotated[int, Field(ge=0)] | None = None
    pts: int | None = None
    seconds: Annotated[float, Field(ge=0)] | None = None
    timecode: str | None = None

    @model_validator(mode="after")
    def _one(self) -> _At:
        if len(self.model_fields_set) != 1:
            raise ValueError("give one of frame, pts, seconds, timecode")
        return self

    def moment(self) -> Moment:
        kind: Any
        ((kind, value),) = self.model_dump(exclude_none=True).items()
        return Moment(kind, str(value))


def _moment_of(at: _At | None) -> Moment:
    """The first frame where no moment is given."""
    return Moment() if at is None else at.moment()


class _Entry(_Strict):
    at: _At | None = None
    wanted: bool = True
    subject: SubjectName = DEFAULT_SUBJECT


class _PointEntry(_Entry):
    kind: Literal["point"]
    x: float
    y: float

    def prompt(self, place: _Place) -> Prompt:
        x, y = self.x * place.scale_x, self.y * place.scale_y
        return Point(x, y, _moment_of(self.at), self.wanted, self.subject)


class _BoxEntry(_Entry):
    kind: Literal["box"]
    left: float
    top: float
    right: float
    bottom: float

    @model_validator(mode="after")
    def _ordered(self) -> _BoxEntry:
        if not (self.left < self.right and self.top < self.bottom):
            raise ValueError("left must be below right, and top below bottom")
        return self

    def prompt(self, place: _Place) -> Prompt:
        left, right = self.left * place.scale_x, self.right * place.scale_x
        top, bottom = self.top * place.scale_y, self.bottom * place.scale_y
        return Box(left, top, right, bottom, _moment_of(self.at), self.wanted, self.subject)


class _MaskEntry(_Entry):
    kind: Literal["mask"]
    path: Annotated[str, Field(min_length=1)]

    def prompt(self, place: _Place) -> Prompt:
        return Mask(place.folder / self.path, _moment_of(self.at), self.wanted, self.subject)


class _RegionEntry(_Entry):
    kind: Literal["region"]
    choose: Literal["largest", "centre", "person", "all"] | Annotated[int, Field(ge=1)]

    def prompt(self, place: _Place) -> Prompt:  # noqa: ARG002 (the same for all kinds)
        return Choice(self.choose, _moment_of(self.at), self.wanted, self.subject)


_AnyEntry = Annotated[
    _PointEntry | _BoxEntry | _MaskEntry | _RegionEntry, Field(discriminator="kind")
]


class _File(_Strict):
    version: Literal[1]
    width: Annotated[int, Field(gt=0)] | None = None
    height: Annotated[int, Field(gt=0)] | None = None
    prompts: list[_AnyEntry]

    @model_validator(mode="after")
    def _both(self) -> _File:
        if (self.width is None) != (self.height is None):
            raise ValueError("give width and height, or neither")
        return self


def read_subjects(path: Path, clip: Clip) -> list[Prompt]:
    """The prompts of a file, positions scaled to a clip's frames.

    Raises UsageError, also where the file is for frames of another aspect ratio.
    """
    content = _content(path)
    width, height = content.width or clip.width, content.height or clip.height
    if not clip.has_shape(width, height):
        raise UsageError(
            f"--subjects '{path}' is for frames of {width}x{height} and the clip's are"
            f" {clip.width}x{clip.height}, another aspect ratio: choose the subject on this clip,"
            " or correct 'width' and 'height' of the file"
        )
    place = _Place(path.parent, clip.width / width, clip.height / height)
    return [entry.prompt(place) for entry in content.prompts]


def _content(path: Path) -> _File:
    try:
        return _File.model_validate_json(path.read_bytes())
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"--subjects '{path}' cannot be read: {reason}") from None
    except ValidationError as error:
        raise UsageError(f"--subjects '{path}' is not a subjects file: {_fault(error)}") from None


def _fault(error: ValidationError) -> str:
    """The first reason in one line; of a prompt with its number, from 1, and the key."""
    first = error.errors(include_url=False)[0]
    if first["loc"][:1] != ("prompts",) or len(first["loc"]) < 2:
        return first_fault(error)
    number, *rest = first["loc"][1:]
    keys = [str(part) for part in rest[1:3] if "[" not in str(part)]  # without the kind
    message = str(first["msg"]).removeprefix("Value error, ")
    if keys == ["choose"]:
        message = "expected 'largest', 'centre', 'person', 'all' or a number from 1 on"
    return ": ".join([f"prompt {int(number) + 1}", *keys[-1:], message])


def mask_files(texts: Iterable[str], file: str | None) -> list[Path]:
    """The mask pictures that prompts name: those of ``--subject`` texts and of a subjects file.

    Raises UsageError.
    """
    masks = (prompt.source for prompt in _prompts(texts, file) if isinstance(prompt, Mask))
    return [source for source in masks if isinstance(source, Path)]


def subject_names(texts: Iterable[str], file: str | None) -> list[str]:
    """The names of the subjects in the same, each once, in order. Raises UsageError."""
    return list(dict.fromkeys(prompt.subject for prompt in _prompts(texts, file)))


def _prompts(texts: Iterable[str], file: str | None) -> list[Prompt]:
    """All prompts, positions not scaled."""
    prompts = [parse_prompt(text) for text in texts]
    if file is None:
        return prompts
    place = _Place(Path(file).parent, 1, 1)
    return [*prompts, *(entry.prompt(place) for entry in _content(Path(file)).prompts)]


def subjects_text(prompts: list[Prompt], width: int, height: int) -> str:
    """A file's content for prompts of a clip of that size. Raises UsageError.

    Masks must be pictures: their paths are written as they are.
    """
    entries = [_entry(prompt) for prompt in prompts]
    content = {"version": 1, "width": width, "height": height, "prompts": entries}
    return json.dumps(content, indent=2) + "\n"


def _entry(prompt: Prompt) -> dict[str, object]:
    """One prompt as it stands in a file, without what is the default."""
    entry: dict[str, object]
    if isinstance(prompt, Point):
        entry = {"kind": "point", "x": prompt.x, "y": prompt.y}
    elif isinstance(prompt, Box):
        sides = {"left": prompt.left, "top": prompt.top}
        entry = {"kind": "box", **sides, "right": prompt.right, "bottom": prompt.bottom}
    elif isinstance(prompt, Choice):
        entry = {"kind": "region", "choose": prompt.rule}
    elif isinstance(prompt.source, np.ndarray):
        raise UsageError("a mask without a path cannot be written: save it as a picture first")
    else:
        entry = {"kind": "mask", "path": str(prompt.source)}
    if prompt.at != Moment():
        number = prompt.at.kind != "timecode"
        value = json.loads(prompt.at.value) if number else prompt.at.value
        entry["at"] = {prompt.at.kind: value}
    if not prompt.wanted:
        entry["wanted"] = False
    if prompt.subject != DEFAULT_SUBJECT:
        entry["subject"] = prompt.subject
    return entry

"""Files that vidmatte writes and reads back: typed, so that a damaged or foreign one is an error of
one line and not a surprise later."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePath
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

_LARGEST = 1 << 26  # bytes; a manifest of a million pictures is smaller


class StoredModel(BaseModel):
    """The fields of a stored JSON object that are used, each with its type; others may be there."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, defer_build=True)


def _as_text(value: Any) -> Any:
    """A string that may hold bytes of a name that is not UTF-8, which pydantic refuses."""
    if not isinstance(value, str):
        raise ValueError("expected a string")
    return value


def _as_name(value: Any) -> Any:
    """A path within a folder. Raises ValueError for one that leads out of it."""
    name = _as_text(value)
    path = PurePath(name)
    if path.anchor or ".." in path.parts or not path.parts or "\0" in name:
        raise ValueError("expected the name of a file in the folder")
    return name


Text = Annotated[Any, AfterValidator(_as_text)]
Name = Annotated[Any, AfterValidator(_as_name)]
Count = Annotated[int, Field(ge=0)]
#: An exact fraction; the digits are limited since 1e999999999 is a number too.
Ratio = Annotated[str, StringConstraints(pattern=r"^\d{1,30}(/0*[1-9]\d{0,29})?$")]

_Model = TypeVar("_Model", bound=StoredModel)


def read_stored(path: Path) -> Any:
    """The content of a JSON file. Raises OSError, and ValueError where it is none, or too large."""
    with path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError(f"it has more than {_LARGEST} bytes")
    return parse(data)


def parse(data: bytes) -> Any:
    """The value of a JSON text. Raises ValueError."""
    try:
        return json.loads(data.decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def checked(model: type[_Model], value: Any) -> _Model:
    """The value as ``model``. Raises ValueError with the first fault."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"])) or "it"
        raise ValueError(f"{place}: {fault['msg']}") from None


def first_fault(error: ValidationError) -> str:
    """A validation error's first reason in one line: where, and what was expected."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def key_of(facts: Any) -> str:
    """A name for facts, as of a file that depends on them: 32 hexadecimal digits. What JSON cannot
    hold counts by its text; the order of names does not count."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def plain(value: Any) -> Any:
    """The value itself where JSON can hold it, a list of several, else its text."""
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)

"""One option, as its field in an option model defines it, and the message for a wrong value.

A field is defined once, with ``option``: its type and range come from the annotation and the
bounds, everything else (help, group, flag, what it decides) is given with them. The command
line, docstrings, the JSON schema and the manifest are all generated from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from vidmatte.errors import UsageError

#: What an option affects: the network's raw alpha, only the result, or neither (progress,
#: speed, the paths of files; weights are identified by their hash).
RAW_ALPHA: Final = "raw alpha"
RESULT: Final = "result"
NO_EFFECT: Final = "nothing"
_Effect = Literal["raw alpha", "result", "nothing"]


def option(
    default: Any,
    help: str,
    *,
    group: str,
    decides: _Effect = RAW_ALPHA,
    low: float | None = None,
    high: float | None = None,
    metavar: str | None = None,
    flag: str | None = None,
    negative: str | None = None,
    reads: bool = False,
) -> Any:
    """The field of one option. ``low`` and ``high`` are inclusive. ``flag`` is the name on the
    command line where it differs from the field's; ``negative`` turns off a switch that is on
    by default. ``decides``: RAW_ALPHA by default, so that no cached alpha is used for other
    settings. ``reads``: it names a file or folder that is read.
    """
    extra: dict[str, Any] = {"group": group, "decides": decides}
    more = {"metavar": metavar, "flag": flag, "negative": negative, "reads": reads}
    extra |= {name: value for name, value in more.items() if value}
    return Field(default, description=help, ge=low, le=high, json_schema_extra=extra)


@dataclass(frozen=True)
class Option:
    """One option as its field defines it. kind: bool, int, float, str, or tuple for one that may be
    repeated; see ``option`` for the
    others."""

    name: str
    kind: type
    default: Any
    help: str
    choices: tuple[str, ...]
    low: float | None
    high: float | None
    group: str
    decides: str
    metavar: str | None = None
    flag: str = ""
    negative: str | None = None
    reads: bool = False

    @classmethod
    def of(cls, name: str, field: FieldInfo) -> Option:
        """The option that a field of an option model defines."""
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        default = field.default
        bounds = {bound: getattr(one, bound, None) for one in field.metadata for bound in _BOUNDS
                  if hasattr(one, bound)}  # fmt: skip
        return cls(
            name=name,
            kind=str if default is None else type(default),
            default=default,
            help=field.description or "",
            choices=_choices_of(field.annotation),
            low=bounds.get("ge"),
            high=bounds.get("le"),
            **{"flag": "--" + name.replace("_", "-"), **extra},  # type: ignore[arg-type]
        )

    @property
    def allowed(self) -> str:
        """Its choices or its range as text, '' where any value of its kind is allowed."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        return "" if self.low is None else f"{self.low:.15g} to {self.high:.15g}"

    def documented(self) -> str:
        """Its lines in a docstring."""
        kind = self.kind.__name__ + (" | None" if self.default is None else "")
        kind += "[str, ...]" if self.kind is tuple else ""
        allowed = f"; {self.allowed}" if self.allowed else ""
        return f"{self.name}: {kind} = {self.default!r}{allowed}\n    {self.help}"


_BOUNDS = ("ge", "le")


def _choices_of(annotation: Any) -> tuple[str, ...]:
    """The words of a Literal, alone or in a union with None."""
    for one in (annotation, *get_args(annotation)):
        if get_origin(one) is Literal:
            return get_args(one)
    return ()


class OptionModel(BaseModel):
    """Options that belong together. Every value is checked when a model is made; a wrong
    one raises UsageError with one line: the option, the value, what is allowed."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        defer_build=True,  # --help needs no validators
        json_schema_extra=lambda schema: schema.update(
            description=schema.get("description", "").partition("\n\n")[0]
        ),
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UsageError(_first_fault(type(self), error)) from None

    def changed(self, **values: Any) -> Self:
        """A copy with ``values`` changed, checked again. Raises UsageError."""
        return type(self)(**{**dict(self), **values})

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        lines = [option.documented() for option in options_of(cls).values()]
        cls.__doc__ = "\n\n".join([cls.__doc__ or "", "Options, by name:", *lines])


@cache
def options_of(model: type[OptionModel]) -> Mapping[str, Option]:
    """The options of a model by name, in their order."""
    return {name: Option.of(name, field) for name, field in model.model_fields.items()}


def names_of(model: type[OptionModel], **marks: Any) -> tuple[str, ...]:
    """The options of a model that have all these marks: ``group``, ``decides``, ``reads``."""
    return tuple(
        name
        for name, option in options_of(model).items()
        if all(getattr(option, mark) == value for mark, value in marks.items())
    )


def _first_fault(model: type[OptionModel], error: ValidationError) -> str:
    """One line on the first fault."""
    options, faults = options_of(model), error.errors(include_url=False)
    unknown = sorted(str(one["loc"][0]) for one in faults if one["type"] == "extra_forbidden")
    if unknown:
        return f"unknown option {', '.join(unknown)}: allowed are {', '.join(sorted(options))}"
    fault = faults[0]
    if not fault["loc"]:  # a conflict between options
        return str(fault["ctx"]["error"])
    option = options[str(fault["loc"][0])]
    return fault_line(option.flag, fault, option) or f"{option.flag}: {fault['msg']}"


#: What was expected, by pydantic's type of fault.
_EXPECTED = {
    "bool_type": "True or False",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "a string",
}


def fault_line(flag: str, fault: Mapping[str, Any], option: Option | None = None) -> str | None:
    """One line on a value that pydantic refuses: the option, the value, what is allowed; None
    for a type of fault that no option can have. ``flag`` names it; ``option`` adds what is allowed.
    """
    kind, value, limits = fault["type"], fault["input"], fault.get("ctx", {})
    if kind == "value_error":
        return f"{flag}: {limits['error']}"
    allowed = option.allowed if option is not None else ""
    if option is not None and option.choices:
        return f"{flag} {value}: choose from {', '.join(option.choices)}"
    if kind in _EXPECTED:
        # From Python '2' is not 2; words of the command line need no quotes.
        shown = value if kind.endswith(("_parsing", "_from_float")) else repr(value)
        return f"{flag} {shown}: expected {_EXPECTED[kind]}" + (
            f" from {allowed}" if allowed else ""
        )
    if "ge" in limits and not allowed:
        allowed = f"{limits['ge']} or more"
    if "le" in limits and not allowed:
        allowed = f"{limits['le']} or less"
    return f"{flag} {value}: allowed is {allowed}" if allowed else None

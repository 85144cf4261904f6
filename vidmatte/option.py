"""What one row of the table of options is, and how values are read and checked."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import Field, field, fields
from fractions import Fraction
from numbers import Integral, Real
from typing import Any, TypeVar

from vidmatte.errors import UsageError

Table = TypeVar("Table")
#: The groups of what comes after the network: controls, applied one after the other, and what
#: is written.
CONTROLS, OUTPUT = "Controls, in this order", "Output"
#: What an option decides: the network's raw alpha, only what is made of it, or by itself no
#: sample at all (how a run goes, where files are, which weights: those are told by their hash).
MATTE, RESULT, NO_EFFECT = "matte", "result", "nothing"


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    metavar: str | None = None,
    group: str = "Matte",
    flag: str | None = None,
    negative: str | None = None,
    decides: str | None = None,
    reads: bool = False,
) -> Any:
    """One row of the table. ``low`` and ``high`` are inclusive; ``flag`` is the command
    line's name where it is not the field's; ``negative`` turns a switch off that is on.
    ``decides``: MATTE, RESULT or NOTHING; where it is not said, RESULT in the groups CONTROLS
    and OUTPUT, else MATTE, so that no kept alpha is taken for another's. ``reads``: it names a
    file or folder that is read.
    """
    after = RESULT if group in (CONTROLS, OUTPUT) else MATTE
    row = {
        "help": help,
        "choices": choices,
        "low": low,
        "high": high,
        "metavar": metavar,
        "group": group,
        "flag": flag,
        "negative": negative,
        "decides": decides or after,
        "reads": reads,
    }
    return field(default=default, metadata=row)


def names_of(table: type, **marks: Any) -> tuple[str, ...]:
    """The options of a table whose rows have all these marks: ``group``, ``decides``, ``reads``."""
    return tuple(
        row.name
        for row in fields(table)
        if all(row.metadata[mark] == wanted for mark, wanted in marks.items())
    )


def documented(table: type[Table]) -> type[Table]:
    """The same table, its docstring with what every row means, takes and allows."""
    lines = [table.__doc__ or "", "", "Options, by name:"]
    for row in fields(table):  # type: ignore[arg-type] # a dataclass, as option() is for
        meta = row.metadata
        allowed = f"; one of {', '.join(meta['choices'])}" if meta["choices"] else ""
        if meta["low"] is not None:
            allowed = f"; {meta['low']:.15g} to {meta['high']:.15g}"
        lines += ["", f"{row.name}: {row.type} = {row.default!r}{allowed}", f"    {meta['help']}"]
    table.__doc__ = "\n".join(lines)
    return table


_PLAIN_NUMBER = re.compile(r"\d{1,12}(\.\d{0,12}|/\d{1,12})?|\.\d{1,12}")
LOWEST_RATE, HIGHEST_RATE = Fraction(1, 1000), Fraction(1000)
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


def parse_number(text: str) -> Fraction:
    """'25', '29.97' or '24000/1001' as an exact number, at most a thousandth of a millionth off.

    Raises ValueError; exponents are none of it: 1e-99999999 would be written out.
    """
    if not _PLAIN_NUMBER.fullmatch(text):
        raise ValueError(f"'{text}' is not a plain number")
    # Time bases are made of two 32-bit numbers.
    return Fraction(text).limit_denominator(1_000_000)


def parse_rate(text: str) -> Fraction:
    """'24000/1001', '25' or '29.97' -> Fraction; the NTSC decimals become n*1000/1001.

    Raises UsageError.
    """
    try:
        rate = parse_number(text)
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


def parsed(flag: str, text: str, parse: Callable[[str], Any]) -> Any:
    """What ``parse`` makes of an option's text. Its UsageError is raised with the option named."""
    try:
        return parse(text)
    except UsageError as error:
        raise UsageError(f"{flag}: {error}") from None


def flag_of(row: Field) -> str:
    """The command line's name of an option."""
    return str(row.metadata["flag"] or "--" + row.name.replace("_", "-"))


def validated(row: Field, value: Any) -> Any:
    """``value`` as its row of the table has it; numbers and paths become the text that stands
    for them on the command line. Raises UsageError when it is not allowed.
    """
    choices, low, high = (row.metadata[key] for key in ("choices", "low", "high"))
    if value is None and row.default is None:
        return None
    value = _converted(row, value)
    if value == "":
        raise UsageError(
            f"{flag_of(row)}: nothing is said: leave the option out, or name something"
        )
    if isinstance(value, str) and "\0" in value:
        raise UsageError(f"{flag_of(row)} {value!r}: it has a NUL character in it: leave that out")
    if choices and value not in choices:
        raise UsageError(f"{flag_of(row)} {value}: choose from {', '.join(choices)}")
    if low is not None and not low <= value <= high:  # true for what is no number, too
        raise UsageError(f"{flag_of(row)} {value}: allowed is {low:.15g} to {high:.15g}")
    return value


def _converted(row: Field, value: Any) -> Any:
    """``value`` as a bool, int, float or text, whichever its row takes. Raises UsageError."""
    default: Any = row.default
    kind: type[Any] = str if default is None else type(default)
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise UsageError(f"{flag_of(row)} {value!r}: True or False is wanted")
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if kind is not str:
        if is_number and (kind is float or isinstance(value, Integral)):
            try:
                return kind(value)
            except OverflowError:  # of a whole number or fraction beyond all floats: out of range
                return math.inf if value > 0 else -math.inf
        a_number = "a whole number" if kind is int else "a number"
        raise UsageError(f"{flag_of(row)} {value!r}: {a_number} is wanted")
    if isinstance(value, tuple | list):  # --threshold
        return ",".join(str(part) for part in value)
    if is_number or isinstance(value, str | os.PathLike):
        return str(value)
    raise UsageError(f"{flag_of(row)} {value!r}: a text is wanted")

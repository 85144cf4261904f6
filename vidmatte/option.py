"""What one row of the table of options is, and how values are read and checked."""

from __future__ import annotations

from dataclasses import Field, field
from fractions import Fraction
from typing import Any

from vidmatte.errors import UsageError


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    metavar: str | None = None,
    group: str = "Options",
    flag: str | None = None,
    negative: str | None = None,
) -> Any:
    """One row of the table. ``low`` and ``high`` are inclusive; ``flag`` is the command
    line's name where it is not the field's; ``negative`` turns a switch off that is on."""
    row = {
        "help": help,
        "choices": choices,
        "low": low,
        "high": high,
        "metavar": metavar,
        "group": group,
        "flag": flag,
        "negative": negative,
    }
    return field(default=default, metadata=row)


SIZE_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def parse_bytes(text: str) -> int:
    """'512M' -> 536870912. Units K, M, G are powers of 1024, in either case.

    Raises UsageError.
    """
    number, unit = text.strip().lower().removesuffix("b"), ""
    if number and number[-1] in "kmg":
        number, unit = number[:-1], number[-1]
    try:
        size = int(float(number) * SIZE_UNITS[unit])
    except ValueError:
        size = 0
    if size <= 0:
        raise UsageError(f"'{text}' is not an amount of memory: write it like 512M or 2G")
    return size


def parse_rate(text: str) -> Fraction:
    """'24000/1001', '25' or '29.97' -> Fraction; the NTSC decimals become n*1000/1001.

    Raises UsageError.
    """
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise UsageError(f"'{text}' is not a frame rate: write it like 25, 24000/1001 or 29.97")
    ntsc = Fraction(round(rate) * 1000, 1001)
    is_decimal = "." in text and rate.denominator != 1
    return ntsc if is_decimal and abs(rate - ntsc) < Fraction(1, 150) else rate


def flag_of(row: Field) -> str:
    """The command line's name of an option."""
    return str(row.metadata["flag"] or "--" + row.name.replace("_", "-"))


def check_option(row: Field, value: Any) -> None:
    """Raise UsageError when ``value`` is not allowed by its row of the table."""
    choices, low, high = (row.metadata[key] for key in ("choices", "low", "high"))
    if value is None and row.default is None:
        return
    if choices and value not in choices:
        raise UsageError(f"{flag_of(row)} {value}: choose from {', '.join(choices)}")
    if isinstance(row.default, bool | int | float) and not isinstance(value, bool | int | float):
        raise UsageError(f"{flag_of(row)} {value!r}: a number is wanted")
    if (low is not None and value < low) or (high is not None and value > high):
        raise UsageError(f"{flag_of(row)} {value}: allowed is {low:g} to {high:g}")

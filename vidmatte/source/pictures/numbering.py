"""The numbers in pictures' names, by which they are put in order."""

from __future__ import annotations

import re
from pathlib import Path

#: A number. A minus before a name's last one is its sign where a dot, an underscore or nothing
#: comes before it (``shot.-0002``); after anything else it only parts the two (``shot-0002``).
NUMBER = re.compile(r"((?:(?:^|(?<=[._]))-)?\d+(?=\D*$)|\d+)")


def natural_key(file: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts numbers by value and letters without case; equal keys by the exact name."""
    parts = NUMBER.split(file.name)
    key = [(1, 0, part.casefold()) for part in parts]
    key[1::2] = [(0, int(part), "") for part in parts[1::2]]
    return key, file.name


def frame_number(file: Path) -> int | None:
    """The number at the end of a picture's name; None without one."""
    *_, number, rest = [None, *NUMBER.split(file.stem)]
    return int(number) if number is not None and not rest else None

"""SMPTE ST 12 timecode: frame numbers and HH:MM:SS:FF, drop frame too."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from vidmatte.errors import UsageError

_DROP_RATES = (Fraction(30000, 1001), Fraction(60000, 1001), Fraction(120000, 1001))
_MOST_RATE = 255  # QuickTime counts the frames of a second in one byte
_PATTERN = re.compile(r"^(\d{1,2}):(\d{2}):(\d{2})([:;.,])(\d{1,3})$")


def is_timecode(text: str) -> bool:
    """True for HH:MM:SS:FF, with ; . or , before FF for drop frame."""
    return _PATTERN.match(text) is not None


def is_drop(text: str) -> bool:
    """True for a timecode that counts in drop frame."""
    return re.search(r"[;.,]\d+$", text) is not None


def to_frames(text: str, rate: Fraction) -> int:
    """The frame number of a timecode at ``rate``, 00:00:00:00 being 0.

    A ``;``, ``.`` or ``,`` before the frames means drop frame: two numbers (four at
    60000/1001) are skipped each minute but every tenth. Raises UsageError.
    """
    match = _PATTERN.match(text)
    if match is None:
        raise UsageError(f"'{text}' is not a timecode: write it as HH:MM:SS:FF")
    hours, minutes, seconds, frames = (int(match[group]) for group in (1, 2, 3, 5))
    base = round(rate)
    if minutes > 59 or seconds > 59 or frames >= base:
        raise UsageError(f"timecode {text} does not exist at {rate} frames a second")
    number = ((hours * 60 + minutes) * 60 + seconds) * base + frames
    if match[4] == ":":
        return number
    dropped = _dropped_per_minute(rate, text)
    if seconds == 0 and frames < dropped and minutes % 10:
        raise UsageError(f"timecode {text} does not exist: drop frame skips it")
    total_minutes = hours * 60 + minutes
    return number - dropped * (total_minutes - total_minutes // 10)


def validated(text: str, rate: Fraction) -> str:
    """A timecode at which a clip of ``rate`` can begin, as it is. Raises UsageError for another."""
    if round(rate) > _MOST_RATE:
        raise UsageError(
            f"{text}: timecode counts {_MOST_RATE} frames a second at most, not {rate}"
        )
    to_frames(text, _counted_rate(text, rate))
    return text


def is_equal(text: str, other: str, rate: Fraction) -> bool:
    """Whether two timecodes that exist at ``rate`` are one, however they are written."""
    first, second = (to_frames(one, _counted_rate(one, rate)) for one in (text, other))
    return first == second and is_drop(text) == is_drop(other)


def number_of(text: str, rate: Fraction) -> int:
    """The frame number of a clip's own timecode, 00:00:00:00 being 0. Raises UsageError."""
    return to_frames(text, _counted_rate(text, rate))


def timecode_of(number: int, rate: Fraction, *, drop: bool) -> str:
    """The inverse of ``number_of``; runs over at 24 hours. Raises UsageError where drop frame does
    not exist at the rate."""
    return _from_frames(number, _counted_rate(";0" if drop else "", rate), drop)


def _counted_rate(text: str, rate: Fraction) -> Fraction:
    """The rate by which a timecode counts; some cameras that run at 30 count in drop frame."""
    if not is_drop(text):
        return rate
    return next((drop for drop in _DROP_RATES if round(drop) == round(rate)), rate)


def _from_frames(number: int, rate: Fraction, drop: bool) -> str:
    """The timecode of frame ``number`` at ``rate``; runs over at 24 hours.

    Raises UsageError where drop frame does not exist at the rate.
    """
    base = round(rate)
    if drop:
        dropped = _dropped_per_minute(rate, "drop frame")
        per_ten = base * 600 - 9 * dropped
        tens, rest = divmod(number, per_ten)
        minutes = max(0, (rest - dropped) // (base * 60 - dropped))
        number += dropped * (9 * tens + minutes)
    seconds, frames = divmod(number, base)
    hours, seconds = divmod(seconds, 3600)
    colon = ";" if drop else ":"
    return f"{hours % 24:02}:{seconds // 60:02}:{seconds % 60:02}{colon}{frames:02}"


def frames_a_day(rate: Fraction, like: str) -> int:
    """Frames from 00:00:00:00 to the next, counted as the timecode ``like`` counts."""
    base = round(rate)
    last = f"23:59:59{';' if is_drop(like) else ':'}{base - 1:02}"
    return to_frames(last, rate) + 1


def shifted(text: str, by_frames: int, rate: Fraction) -> str:
    """A timecode some frames later, in the same counting."""
    return _from_frames(to_frames(text, rate) + by_frames, rate, drop=is_drop(text))


def at_rate(text: str, rate: Fraction, new: Fraction) -> str:
    """A timecode at ``rate`` as it reads at another: the same second, its frames scaled.

    Drop frame goes on where the new rate has it. Raises UsageError.
    """
    to_frames(text, rate)  # refuses one that does not exist
    clock, frames = re.split(r"[:;.,](?=\d+$)", text)
    colon = ";" if is_drop(text) and new in _DROP_RATES else ":"
    return f"{clock}{colon}{int(frames) * round(new) // round(rate):02}"


_DROP_BIT, _FIELD_BITS = 1 << 6, (1 << 15, 1 << 31)
_PAIRS_ABOVE = 30  # frames per second: faster timecodes count pairs of frames


def from_bcd(word: int, rate: Fraction) -> str | None:
    """The timecode of a 32-bit word of binary-coded digits, hours first, as in DPX and OpenEXR.

    SMPTE ST 12-1: above 30 frames per second the frames count pairs and the field mark, whose
    place differs at 50, says which of the two. None where a digit is none.
    """
    parts = [(word >> shift) & mask for shift, mask in ((24, 63), (16, 127), (8, 127), (0, 63))]
    if any(part & 15 > 9 for part in parts):
        return None
    hours, minutes, seconds, frames = (part // 16 * 10 + part % 16 for part in parts)
    if rate > _PAIRS_ABOVE:
        frames = 2 * frames + bool(word & _field_bit(rate))
    colon = ";" if word & _DROP_BIT else ":"
    return f"{hours:02}:{minutes:02}:{seconds:02}{colon}{frames:02}"


def to_bcd(text: str, rate: Fraction) -> int:
    """The inverse of ``from_bcd``."""
    *clock, frames = (int(part) for part in re.split(r"[:;.,]", text))
    word = _DROP_BIT if is_drop(text) else 0
    if rate > _PAIRS_ABOVE:
        word |= _field_bit(rate) if frames % 2 else 0
        frames //= 2
    for shift, value in zip((24, 16, 8, 0), (*clock, frames), strict=True):
        word |= (value // 10 * 16 + value % 10) << shift
    return word


def _field_bit(rate: Fraction) -> int:
    return _FIELD_BITS[round(rate) % 25 == 0]


def later(text: str, by_frames: int, rate: Fraction) -> str:
    """``shifted`` for any timecode that ``validated`` accepts."""
    return shifted(text, by_frames, _counted_rate(text, rate))


def _dropped_per_minute(rate: Fraction, text: str) -> int:
    """How many numbers drop frame skips a minute: 2 at 29.97, 4 at 59.94."""
    if rate not in _DROP_RATES:
        raise UsageError(f"{text}: drop frame exists at 29.97 and its multiples, not at {rate}")
    return 2 * round(rate) // 30


def valid_or_dropped(
    clip: str, stated: str | None, change: Callable[[str], str]
) -> tuple[str | None, list[str]]:
    """What ``change`` makes of the timecode stated for a clip of that name, None where none is;
    where there is no such timecode (it raises UsageError) None, and a word on that.
    """
    if stated is None:
        return None, []
    try:
        return change(stated), []
    except UsageError as error:
        return None, [f"{clip}: its timecode is dropped: {error}"]

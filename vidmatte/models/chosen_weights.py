"""The weights of one network: an entry of the catalogue, or a file of the user's own.

What feeds an own file may be stated in a TOML file beside it, ``my.toml`` for ``my.onnx``::

    family = "modnet"        # whose row of the table is the start; all else is optional
    size = 512               # of the input in pixels: a square's side, or the shorter side
    keep_aspect = true       # the input has the frame's aspect ratio
    multiple = 32            # of both sides
    mean = [0.5, 0.5, 0.5]   # of R'G'B' in 0..1
    std = 0.5                # one number is that of all three
    logits = false           # the output still needs a sigmoid
    class_count = 4          # the output is (B, 4, H, W) logits of classes
    classes = [1, 2]         # those that are the subject, counted from 0
    batch = 1                # frames per run without --batch
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from vidmatte.core.families import FAMILIES, FAMILY_TABLE, WEIGHTLESS, Family, InputSize
from vidmatte.core.source import sha256_of
from vidmatte.core.stored import first_fault
from vidmatte.errors import ModelError, UsageError
from vidmatte.models.runtimes.choice import faster_runtime
from vidmatte.models.weights.catalogue import Entry, lookup
from vidmatte.models.weights.record import Record
from vidmatte.settings import Settings


@dataclass(frozen=True)
class Weights:
    """One network's file: its name, its family, its path.

    path: None, and sha256 '', where the family needs no weights. record: the store's record of
    it; None for the user's own file. feed: what a TOML file beside it makes of its family's row;
    None without one. runtime: what ``--runtime auto`` stands for on this machine's CPU, where that
    was measured.
    """

    name: str
    family: str
    path: Path | None
    record: Record | None = None
    feed: Family | None = None
    runtime: str | None = None

    @property
    def fed_as(self) -> Family:
        """The row of its family, or what ``feed`` makes of it."""
        return self.feed or FAMILY_TABLE[self.family]

    @cached_property
    def sha256(self) -> str:
        """The file's SHA-256, 64 hexadecimal digits: the recorded one while size and time of the
        file match the record, else computed. For a file with external data or a TOML file, that of
        the SHA-256s of all its files, a line each. Raises OSError, ModelError."""
        from vidmatte.models.runtimes.onnx_file import external_data

        if self.path is None:
            return ""
        if self.record is not None:
            is_current = self.record.holds_for(self.path)
            return self.record.sha256 if is_current else sha256_of(self.path)
        stated = () if self.feed is None else (_feed_file(self.path),)
        sums = [sha256_of(file) for file in (self.path, *external_data(self.path), *stated)]
        if len(sums) == 1:
            return sums[0]
        return hashlib.sha256("".join(f"{one}\n" for one in sums).encode()).hexdigest()

    def with_runtime(self, report: Callable[[str], None]) -> Weights:
        """Those of the store with the runtime that is faster on this CPU, measured on first use.

        report: takes a line before that. Raises ModelError, DeviceError, OSError.
        """
        if self.path is None or self.record is None:
            return self
        return replace(self, runtime=faster_runtime(self.path, self.sha256, self.fed_as, report))


def resolve_weights(name: str, settings: Settings) -> Weights | Entry:
    """The user's own file or the catalogue's entry ``name``; nothing is fetched.

    Raises ModelError, UsageError.
    """
    own = Path(name)
    if name in WEIGHTLESS:
        return Weights(name, name, None)
    if own.suffix.lower() != ".onnx":
        return lookup(name)
    if not own.is_file():
        raise ModelError(f"{own}: no such file; 'vidmatte models' lists the names")
    stated = _feed_file(own)
    if stated.is_file():
        feed = _read_feed(stated)
        if settings.family not in (None, feed.name):
            raise UsageError(
                f"--family {settings.family}: {stated} says {feed.name}: omit --family, or correct"
                " the file"
            )
        return Weights(own.name, feed.name, own, feed=feed)
    if settings.family is None:
        raise UsageError(
            f"{own.name}: state its family in {stated.name} beside it, or name its architecture"
            f" with --family {', '.join(FAMILIES[:-1])} or {FAMILIES[-1]}"
        )
    return Weights(own.name, settings.family, own)


def _feed_file(path: Path) -> Path:
    """Where the TOML file of an ONNX file is looked for."""
    return path.with_suffix(".toml")


def _check_family(name: Any) -> Any:
    if name not in FAMILIES:
        raise ValueError(f"it is one of {', '.join(FAMILIES)}")
    return name


def _three(value: Any) -> Any:
    """One number for all three channels, or three numbers."""
    return value if isinstance(value, Sequence) else (value,) * 3


_Side = Annotated[int, Field(ge=8, le=8192)]
_Share = Annotated[float, Field(ge=-10, le=10)]
_Deviation = Annotated[float, Field(ge=1e-3, le=10)]


class _Feed(BaseModel):
    """The keys of the TOML file; see the module."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, defer_build=True)

    family: Annotated[str, BeforeValidator(_check_family)]
    size: _Side | None = None
    keep_aspect: bool | None = None
    multiple: Annotated[int, Field(ge=1, le=512)] | None = None
    mean: Annotated[tuple[_Share, _Share, _Share], BeforeValidator(_three)] | None = None
    std: Annotated[tuple[_Deviation, _Deviation, _Deviation], BeforeValidator(_three)] | None = None
    logits: bool | None = None
    class_count: Annotated[int, Field(ge=2, le=1000)] | None = None
    classes: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    batch: Annotated[int, Field(ge=1, le=64)] | None = None

    def family_row(self) -> Family:
        """The family's row with what is stated. Raises ValueError where that makes no sense."""
        row = FAMILY_TABLE[self.family]
        given = self.model_dump(exclude_none=True, exclude={"family"})
        if row.size is None:
            if given:
                raise ValueError(f"{', '.join(given)}: {row.name} has no such choice, omit it")
            return row
        shape = {"size": "side", "multiple": "multiple"}
        size: InputSize = replace(
            row.size, **{field: given.pop(key) for key, field in shape.items() if key in given}
        )
        if self.keep_aspect is not None:
            size = replace(size, is_square=not given.pop("keep_aspect"))
        names = {"classes": "subject_classes", "batch": "default_batch"}
        changed = {names.get(key, key): value for key, value in given.items()}
        if self.class_count is not None and self.classes is None:
            raise ValueError("class_count: add classes, those that are the subject")
        return replace(row, size=size, **changed)


def _read_feed(path: Path) -> Family:
    """A family's row with what a TOML file states. Raises UsageError, one line."""
    try:
        return _Feed.model_validate(tomllib.loads(path.read_text("utf-8"))).family_row()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        unknown = [str(one["loc"][0]) for one in error.errors() if one["type"] == "extra_forbidden"]
        if unknown:
            allowed = ", ".join(_Feed.model_fields)
            raise UsageError(
                f"{path}: unknown key {', '.join(unknown)}: allowed are {allowed}"
            ) from None
        raise UsageError(f"{path}: {first_fault(error)}") from None
    except ValueError as error:  # also a text that is no TOML, or not UTF-8
        raise UsageError(f"{path}: {error}") from None

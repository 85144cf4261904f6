"""One network's file: the user's own, or one of the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from vidmatte.core.families import FAMILY_TABLE, Family
from vidmatte.models.runtimes.choice import faster_runtime
from vidmatte.models.weights.catalogue import Entry
from vidmatte.models.weights.record import Record, read_record
from vidmatte.models.weights.store import Store


@dataclass(frozen=True)
class Weights:
    """One network's file: its name, its family, its path.

    path: None, and sha256 '', where the family needs no weights. record: the store's record of
    it; None for the user's own file. runtime: what ``--runtime auto`` stands for on this
    machine's CPU, where that was measured.
    """

    name: str
    family: str
    path: Path | None
    record: Record | None = None
    runtime: str | None = None

    @property
    def fed_as(self) -> Family:
        """The row of its family."""
        return FAMILY_TABLE[self.family]

    @cached_property
    def sha256(self) -> str:
        """The file's SHA-256, 64 hexadecimal digits: the recorded one while size and time of the
        file match the record, else computed. For a file with external data, that of the
        SHA-256s of all its files, a line each. Raises OSError, ModelError."""
        from vidmatte.core.source import sha256_of
        from vidmatte.models.runtimes.onnx_file import external_data

        if self.path is None:
            return ""
        if self.record is not None:
            is_current = self.record.holds_for(self.path)
            return self.record.sha256 if is_current else sha256_of(self.path)
        sums = [sha256_of(file) for file in (self.path, *external_data(self.path))]
        if len(sums) == 1:
            return sums[0]
        return hashlib.sha256("".join(f"{one}\n" for one in sums).encode()).hexdigest()


def fetch_weights(
    part: Weights | Entry, store: Store, report: Callable[[str], None], quiet: bool
) -> Weights:
    """The weights of a part, fetched into the store if missing."""
    if isinstance(part, Weights):
        return part
    path = store.ensure(part, report=report, quiet=quiet)
    return Weights(part.name, part.family, path, read_record(path))


def with_runtime(part: Weights, report: Callable[[str], None]) -> Weights:
    """Weights of the store with the runtime that is faster on this CPU, measured on first use."""
    if part.path is None or part.record is None:
        return part
    return replace(part, runtime=faster_runtime(part.path, part.sha256, part.fed_as, report))

"""Licences that the user must accept before weights are fetched or used."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from vidmatte.errors import UsageError
from vidmatte.models.weights.catalogue import Entry, lookup
from vidmatte.models.weights.record import Record


def now() -> str:
    """The present UTC date and time, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def accepted_at(entry: Entry, record: Record | None, accepted: str | None) -> str | None:
    """When the licence of the weights was accepted, ISO 8601: earlier, by the note of the file, or
    now by ``accepted``, the name of the model; None where it needs no acceptance.

    Raises UsageError where it was not accepted.
    """
    if not entry.needs_acceptance:
        return None
    if record is not None and record.accepted is not None:
        return record.accepted
    if accepted is not None and lookup(accepted) == entry:
        return now()
    raise UsageError(f"{entry.name}: its licence must be accepted first: {entry.commercial}")


def check_acceptance(name: str, entries: Sequence[Entry]) -> None:
    """Raise UsageError where accepting the licence of ``name`` has no effect on the entries; and
    ModelError for an unknown name."""
    accepted = lookup(name)
    if accepted not in entries:
        used = ", ".join(one.name for one in entries) or "weights of your own"
        raise UsageError(f"--accept-licence {name}: it is not used here, {used} is: omit it")
    if not accepted.needs_acceptance:
        raise UsageError(
            f"--accept-licence {name}: its licence, {accepted.licence}, needs no acceptance: omit"
            " the option"
        )

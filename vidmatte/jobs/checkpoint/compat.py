"""How the job of a work folder differs from the present one, in the user's words."""

from __future__ import annotations

from typing import Any

from vidmatte.settings import Settings, options_of

#: Facts that only appear in messages; another name for the same weights is no difference.
DISPLAYED = "displayed"
#: The file, its result's name, its size and its modification time, of each picture in order.
PICTURES = "pictures"
_FILE_FOR = "file for "


def differences(begun: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    """What two jobs differ in, a clause each; the pictures of a folder are compared by
    ``first_change``."""
    if begun.get("version") != facts.get("version"):  # whose options may be others
        return [f"with vidmatte {begun.get('version')}, now {facts.get('version')}"]
    old, new = begun.get("settings") or {}, facts.get("settings") or {}
    options = _changed_keys(old, new)
    others = _changed_keys(begun, facts)
    # The clause of an option covers the file that it names, and the outputs; that of the weights
    # covers the runtime, which each model chooses.
    covered = {"settings", DISPLAYED, PICTURES, *map(file_fact, options)}
    covered |= {"output"} if options else set()
    covered |= {"runtime"} if "weights" in others else set()
    clauses = [_option_difference(name, old.get(name), new.get(name)) for name in options]
    clauses += [_fact_difference(name, begun, facts) for name in others if name not in covered]
    return clauses


def _changed_keys(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The keys whose values differ, sorted; one that is missing counts as None."""
    return [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]


def file_fact(name: str) -> str:
    """The fact that holds the state of the file which option ``name`` reads."""
    return f"{_FILE_FOR}--{name.replace('_', '-')}"


def _option_difference(name: str, was: Any, now: Any) -> str:
    """The clause for an option, as it is typed."""
    one, other = _as_typed(name, was), _as_typed(name, now)
    flag = (one or other or name).split()[0]
    return f"{f'with {one}' if one else f'without {flag}'}, now {other or 'without'}"


def _as_typed(name: str, value: Any) -> str | None:
    """An option as it is typed for a value; None where it is the default."""
    row = options_of(Settings)[name]
    if value == row.default:
        return None
    if isinstance(value, bool):
        return row.negative or row.flag
    return f"{row.flag} {f'{value:g}' if isinstance(value, float) else value}"


def _fact_difference(name: str, begun: dict[str, Any], facts: dict[str, Any]) -> str:
    """The clause for a fact that is no option."""
    was, now = begun.get(name), facts.get(name)
    old, new = (job.get(DISPLAYED, {}).get("model") for job in (begun, facts))
    if name == "weights" and old != new:
        return f"with --model {old}, now --model {new}"
    if name == "runtime":
        return f"on {was}, now on {now}"
    if name == "weights":
        return f"with other weights of --model {new}"
    if name == "source" and was and now and was[0] != now[0]:
        return f"with {was[0]}, now {now[0]}"
    if now and (name == "source" or name.startswith(_FILE_FOR)):
        what = f"{name.removeprefix(_FILE_FOR)} {now[0]}" if name != "source" else now[0]
        return f"with {what} as it was, which has changed since"
    return f"with another {name}"


def first_change(begun: dict[str, Any], facts: dict[str, Any]) -> tuple[int, str] | None:
    """The first place at which a folder's pictures differ from what they were, and how; None
    where they are the same."""
    old, new = begun.get(PICTURES) or [], facts.get(PICTURES) or []
    if old == new:
        return None
    place = next(
        (at for at, (one, other) in enumerate(zip(old, new, strict=False)) if one != other),
        min(len(old), len(new)),
    )
    if place < len(old) and old[place][0] not in {entry[0] for entry in new}:
        return place, f"{old[place][0]} is gone"
    if place < len(new) and new[place][0] not in {entry[0] for entry in old}:
        return place, f"{new[place][0]} is new"
    return place, f"{(new[place:] or old[place:])[0][0]} has changed"

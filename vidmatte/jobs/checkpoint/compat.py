"""What a work folder says of its job, and how that differs from the present one, in terms of
options and files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, Strict

from vidmatte.core.stored import Count, Ratio, StoredModel, Text, checked, read_stored
from vidmatte.errors import OutputError
from vidmatte.settings import Settings, options_of
from vidmatte.writers.base import WriteResult

#: Facts that only appear in messages: another name for the same weights makes no difference.
DISPLAYED = "displayed"
#: Of each picture in order: the file, its result's name, its size and modification time.
PICTURES = "pictures"
_FILE_FOR = "file for "


#: A fact about files: the first entry is a name.
_Listed = Annotated[list[Any], Field(min_length=1)]


class StoredJob(StoredModel):
    """``job.json``: what ``facts_of`` gives, and the outputs; a part of a clip has fewer facts."""

    version: str | None = None
    weights: list[list[str]] | None = None
    runtime: str | None = None
    settings: dict[str, bool | int | float | Text | list[Text] | None] = Field({})
    displayed: dict[str, Text] = Field({})
    source: _Listed | None = None
    pictures: list[_Listed] = Field([])
    output: list[dict[str, Any]] = Field([])
    __pydantic_extra__: dict[str, _Listed]  # the files that options read


class _Stored(StoredModel):
    """The result in finished.json, for ``WriteResult.from_json``."""

    path: Text
    seconds: Ratio


class StoredFiles(StoredModel):
    """The files that ``finished.json`` lists; it has no more where workers made the segments."""

    files: dict[Text, dict[Text, list[Count]]]


class StoredResult(StoredFiles):
    """``finished.json``; see ``CheckpointFolder.mark``."""

    facts: StoredJob
    written: _Stored
    findings: list[Annotated[tuple[Count, dict[str, list[Text]]], Strict(False)]]


def read_note(path: Path, model: type[StoredModel]) -> Any:
    """The content of a JSON file, checked as ``model``; None where it does not exist."""
    try:
        value = read_stored(path)
        checked(model, value)
        if model is StoredResult:
            WriteResult.from_json(value["written"])
        return value
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise OutputError(
            f"{path} is damaged ({error}): remove the folder {path.parent}"
        ) from error


def differences(stored: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    """The differences between two jobs, a clause each; the pictures of a folder are compared by
    ``first_change``."""
    if stored.get("version") != facts.get("version"):  # its options may differ too
        return [f"vidmatte {stored.get('version')}, now {facts.get('version')}"]
    old, new = stored.get("settings") or {}, facts.get("settings") or {}
    options = _changed_keys(old, new)
    others = _changed_keys(stored, facts)
    # The clause of an option covers the file that it names, and the outputs; that of the weights
    # covers the runtime, which depends on the model.
    covered = {"settings", DISPLAYED, PICTURES, *map(file_fact, options)}
    covered |= {"output"} if options else set()
    covered |= {"runtime"} if "weights" in others else set()
    clauses = [_option_difference(name, old.get(name), new.get(name)) for name in options]
    clauses += [_fact_difference(name, stored, facts) for name in others if name not in covered]
    return clauses


def _changed_keys(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The keys whose values differ, sorted; a missing one counts as None."""
    return [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]


def file_fact(name: str) -> str:
    """The key of the fact with the state of the file that option ``name`` reads."""
    return f"{_FILE_FOR}--{name.replace('_', '-')}"


def _option_difference(name: str, was: Any, now: Any) -> str:
    """The clause for an option, as the user types it."""
    one, other = _as_typed(name, was), _as_typed(name, now)
    flag = (one or other or name).split()[0]
    return f"{one or f'without {flag}'}, now {other or 'without'}"


def _as_typed(name: str, value: Any) -> str | None:
    """An option as the user types it for a value; None where it is the default."""
    row = options_of(Settings).get(name)
    if row is None:  # the note was changed
        return f"{name} {value}"
    if value == row.default:
        return None
    if isinstance(value, bool):
        return row.negative or row.flag
    return f"{row.flag} {f'{value:g}' if isinstance(value, float) else value}"


def _fact_difference(name: str, stored: dict[str, Any], facts: dict[str, Any]) -> str:
    """The clause for a fact that is not an option."""
    was, now = stored.get(name), facts.get(name)
    old, new = (job.get(DISPLAYED, {}).get("model") for job in (stored, facts))
    if name == "weights" and old != new:
        return f"--model {old}, now --model {new}"
    if name == "runtime":
        return f"{was}, now {now}"
    if name == "weights":
        return f"other weights of --model {new}"
    if name == "source" and was and now and was[0] != now[0]:
        return f"{was[0]}, now {now[0]}"
    if now and (name == "source" or name.startswith(_FILE_FOR)):
        what = f"{name.removeprefix(_FILE_FOR)} {now[0]}" if name != "source" else now[0]
        return f"{what} has changed"
    return f"another {name}"


def first_change(stored: dict[str, Any], facts: dict[str, Any]) -> tuple[int, str] | None:
    """The first position at which a folder's pictures have changed, and how; None where they are
    the same."""
    old, new = stored.get(PICTURES) or [], facts.get(PICTURES) or []
    if old == new:
        return None
    position = next(
        (at for at, (one, other) in enumerate(zip(old, new, strict=False)) if one != other),
        min(len(old), len(new)),
    )
    if position < len(old) and old[position][0] not in {entry[0] for entry in new}:
        return position, f"{old[position][0]} is missing"
    if position < len(new) and new[position][0] not in {entry[0] for entry in old}:
        return position, f"{new[position][0]} is new"
    return position, f"{(new[position:] or old[position:])[0][0]} has changed"

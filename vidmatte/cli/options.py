"""From the table of options to the command line: no option is written twice."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any, get_type_hints

import typer

from vidmatte.option import flag_of
from vidmatte.settings import Settings


def parameter_of(row: Field, kind: Any) -> inspect.Parameter:
    """One row of the table as a keyword parameter that typer understands."""
    meta = row.metadata
    flag = f"{flag_of(row)}/{meta['negative']}" if meta["negative"] else flag_of(row)
    text = meta["help"]
    if meta["choices"]:
        text += f" [{'|'.join(meta['choices'])}]"
    shown = row.default not in (None, False, 0) and not meta["negative"]
    metavar = meta["metavar"] or ("NAME" if meta["choices"] else None)
    if metavar is None and kind is not bool:
        metavar = {int: "N", float: "X"}.get(kind, "NAME")
    default = typer.Option(
        row.default,
        flag,
        help=text,
        metavar=metavar,
        show_default=shown,
    )
    return inspect.Parameter(
        row.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
    )


def with_options(command: Callable[..., None], names: tuple[str, ...] = ()) -> Callable[..., None]:
    """Give a command that takes ``**options`` the table's rows as options of its own.

    ``names``: only these rows, in this order; empty for all.
    """
    hints = get_type_hints(Settings)
    rows = {row.name: row for row in fields(Settings)}
    own = inspect.signature(command, eval_str=True).parameters.values()
    kept = [one for one in own if one.kind is not inspect.Parameter.VAR_KEYWORD]
    added = [parameter_of(rows[name], hints[name]) for name in names or rows]
    signature = inspect.Signature([*kept, *added])
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in signature.parameters.values()}
    return command

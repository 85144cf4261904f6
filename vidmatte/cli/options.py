"""The help of ``vidmatte`` itself: the main command's options, then the subcommands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from typing import Any, get_type_hints

import typer

from vidmatte.option import flag_of
from vidmatte.settings import Settings

_EXAMPLES = (
    ("vidmatte clip.mp4 -o out.mov", "ProRes 4444 with alpha and sound"),
    ("vidmatte clip.mp4 -o out.webm --model rvm", "VP9 with alpha, Opus sound"),
    ("vidmatte clip.mp4 -o frames/", "RGBA PNG pictures"),
    ("vidmatte plates/ -o cut/ --fps 24000/1001", "a picture folder, names kept"),
    ("vidmatte photo.jpg -o cutout.png", "one picture"),
    ("vidmatte a.mp4 b.mov -o cuts/ --format mov", "several, one result each"),
)


def write_help(main: Any, subcommands: Mapping[str, Any], ctx: Any, formatter: Any) -> None:
    """Write the whole help; ``main`` is the main command, hidden among the others."""
    formatter.write_usage("vidmatte", "INPUT... [-o PATH] [OPTIONS]")
    formatter.write_usage("vidmatte", "COMMAND ...", prefix="       ")
    formatter.write_paragraph()
    formatter.write_text("Cut the subject out of a video, with alpha, ready for a timeline.")
    groups = {row.name: row.metadata["group"] for row in fields(Settings)}
    sections: dict[str, list[tuple[str, str]]] = {"Options": []}
    for parameter in main.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None and parameter.name != "inputs":
            sections.setdefault(groups.get(parameter.name, "Options"), []).append(record)
    sections["Options"].append(("--version", "say which version this is and exit"))
    for title, rows in sections.items():
        with formatter.section(title):
            formatter.write_dl(rows, col_max=24)
    with formatter.section("Commands"):
        formatter.write_dl(
            [
                (name, command.get_short_help_str(80))
                for name, command in subcommands.items()
                if not command.hidden
            ]
        )
    with formatter.section("Examples"):
        for command, what in _EXAMPLES:
            formatter.write(f"  {command:44} {what}\n")


def _parameter_of(row: Field, kind: Any) -> inspect.Parameter:
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


def usage_message(error: typer.TyperException) -> str:
    """One line on words that the command line does not take: which, and what is allowed."""
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    reason = error.__cause__
    if not isinstance(error, typer.BadParameter) or error.param is None or reason is None:
        return message
    fault = reason.errors()[0]  # type: ignore[attr-defined] # pydantic's ValidationError
    limits = fault.get("ctx", {})
    if fault["type"] not in _EXPECTED_KINDS and not limits.keys() & {"ge", "le"}:
        return message
    wanted = _EXPECTED_KINDS.get(fault["type"], "allowed is")
    if "ge" in limits or "le" in limits:
        wanted += f" {limits['ge']} or more" if "ge" in limits else f" {limits['le']} or less"
    for row in fields(Settings):
        if row.name == error.param.name and row.metadata["low"] is not None:
            wanted += f" from {row.metadata['low']:.15g} to {row.metadata['high']:.15g}"
    return f"{error.param.opts[0]} {fault['input']}: {wanted}"


#: By the kinds of faults that pydantic, which reads the numbers, tells apart.
_EXPECTED_KINDS = {
    "int_parsing": "a whole number is wanted",
    "int_from_float": "a whole number is wanted",
    "float_parsing": "a number is wanted",
}


def with_options(command: Callable[..., None], names: tuple[str, ...] = ()) -> Callable[..., None]:
    """Give a command that takes ``**options`` the table's rows as options of its own.

    ``names``: only these rows, in this order; empty for all.
    """
    hints = get_type_hints(Settings)
    rows = {row.name: row for row in fields(Settings)}
    own = inspect.signature(command, eval_str=True).parameters.values()
    kept = [one for one in own if one.kind is not inspect.Parameter.VAR_KEYWORD]
    added = [_parameter_of(rows[name], hints[name]) for name in names or rows]
    signature = inspect.Signature([*kept, *added])
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in signature.parameters.values()}
    return command

"""The options of the command line, generated from ``Settings``, and the help page."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

from vidmatte.settings import Settings
from vidmatte.settings.option import Option, fault_line, options_of

_EXAMPLES = (
    ("vidmatte clip.mp4 -o out.mov", "ProRes 4444 with alpha and sound"),
    ("vidmatte clip.mp4 -o out.webm --model rvm", "VP9 with alpha, Opus sound"),
    ("vidmatte clip.mp4 -o frames/", "RGBA PNG pictures"),
    ("vidmatte plates/ -o cut/ --fps 24000/1001", "a picture folder, same file names"),
    ("vidmatte photo.jpg -o cutout.png", "one picture"),
    ("vidmatte a.mp4 b.mov -o cuts/ --format mov", "several inputs, a result for each"),
    ("vidmatte edit.otio --media-dir DIR -o cuts/", "the shots of an edit"),
)


def write_help(main: Any, subcommands: Mapping[str, Any], ctx: Any, formatter: Any) -> None:
    """Write the full help; ``main`` is the main command, hidden among the subcommands."""
    formatter.write_usage("vidmatte", "INPUT... [-o PATH] [OPTIONS]")
    formatter.write_usage("vidmatte", "COMMAND ...", prefix="       ")
    formatter.write_paragraph()
    formatter.write_text("Cut the subject out of a video, with alpha, ready for a timeline.")
    groups = {name: option.group for name, option in options_of(Settings).items()}
    sections: dict[str, list[tuple[str, str]]] = {"Options": []}
    for parameter in main.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None and parameter.name != "inputs":
            sections.setdefault(groups.get(parameter.name, "Options"), []).append(record)
    sections["Options"].append(("--version", "print the version and exit"))
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


def _parameter_of(option: Option) -> inspect.Parameter:
    """An option as a keyword parameter for typer."""
    is_switch = option.negative and option.kind is bool
    flag = f"{option.flag}/{option.negative}" if is_switch else option.flag
    text, metavar = option.help, option.metavar
    if option.choices:
        text += f" [{'|'.join(option.choices)}]"
    if metavar is None and option.kind is not bool:
        metavar = {int: "N", float: "X"}.get(option.kind, "NAME")
    default = typer.Option(
        option.default,
        flag,
        help=text,
        metavar=metavar,
        show_default=option.default not in (None, False, 0, ()) and not option.negative,
    )
    kind: Any = option.kind if option.default is not None else option.kind | None
    if option.kind is tuple:
        kind = list[str]
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
    )


def without_negatives(words: list[str]) -> list[str]:
    """The words with ``--no-X`` of an option with a value as ``--X=none``."""
    end = words.index("--") if "--" in words else len(words)
    negatives = {
        option.negative: f"{option.flag}=none"
        for option in options_of(Settings).values()
        if option.negative and option.kind is not bool
    }
    return [negatives.get(word, word) for word in words[:end]] + words[end:]


def usage_message(error: typer.TyperException) -> str:
    """One line on an argument that the command line refuses: which, and what is allowed."""
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    reason = error.__cause__
    if not isinstance(error, typer.BadParameter) or error.param is None:
        return message
    if not isinstance(reason, ValidationError):
        return message
    option = options_of(Settings).get(error.param.name or "")
    return fault_line(error.param.opts[0], reason.errors()[0], option) or message


def with_options(command: Callable[..., None], names: tuple[str, ...] = ()) -> Callable[..., None]:
    """Replace the ``**options`` of a command by the options of ``Settings``.

    ``names``: only these, in this order; empty for all.
    """
    options = options_of(Settings)
    own = inspect.signature(command, eval_str=True).parameters.values()
    fixed = [one for one in own if one.kind is not inspect.Parameter.VAR_KEYWORD]
    added = [_parameter_of(options[name]) for name in names or options]
    signature = inspect.Signature([*fixed, *added])
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in signature.parameters.values()}
    return command


def given_text(text: str) -> str:
    """An input as the user wrote it. Raises typer.BadParameter for an empty name, which pathlib
    would take for the current folder."""
    if not text:
        raise typer.BadParameter("an input's name is empty: name a movie, a folder or a picture")
    return text


def named_path(text: str) -> Path:
    """An input's path."""
    return Path(given_text(text))

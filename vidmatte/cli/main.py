"""The command line: ``vidmatte FILE`` mattes; other first words are subcommands."""

from __future__ import annotations

import copy
import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vidmatte._version import __version__
from vidmatte.cli import farm_commands, models, serve_command, tool_commands
from vidmatte.cli.exit_status import catch_stops, exit_status, fail, name_of
from vidmatte.cli.options import (
    given_text,
    named_path,
    with_options,
    without_negatives,
    write_help,
)

_MAIN = "run"
_WIDTH = {"max_content_width": 80}


class _MainOrSub(TyperGroup):
    """Takes the first word as a subcommand if it is one, else as an input of the main command."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = [_MAIN, *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # Options before the first file belong to the main command too.
        group_options = ("--help", "-h", "--version")
        if args and args[0].startswith("-") and args[0] not in group_options:
            args = [_MAIN, *args]
        return super().parse_args(ctx, without_negatives(args))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:  # typer would exit without a message
            raise typer.Abort from error

    def format_help(self, ctx: Any, formatter: Any) -> None:
        write_help(self.commands[_MAIN], self.commands, ctx, formatter)


app = typer.Typer(
    cls=_MainOrSub,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], **_WIDTH},
)
app.add_typer(models.app, name="models")


def _show_version(is_set: bool) -> None:
    """Print the version and exit."""
    if is_set:
        typer.echo(f"vidmatte {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Cut the subject out of a video, with alpha, ready for a timeline."""
    del version  # handled by its callback
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(2)


_MEDIA_DIR = typer.Option("--media-dir", metavar="DIR", help="folder of a shot list's media")


def _main_command(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="movies, picture folders, pictures, or one shot list",
            parser=given_text,
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="file, or folder for pictures or many results (default: INPUT_matte beside INPUT)",
        ),
    ] = None,
    quiet: Annotated[bool, farm_commands.QUIET] = False,
    verbose: Annotated[bool, farm_commands.VERBOSE] = False,
    as_json: Annotated[bool, farm_commands.EVENTS] = False,
    each: Annotated[
        bool,
        typer.Option("--each", help="write a result for each named subject, as PATH_NAME"),
    ] = False,
    media_dir: Annotated[str | None, _MEDIA_DIR] = None,
    workers: Annotated[str, farm_commands.WORKERS] = "1",
    retries: Annotated[int, farm_commands.RETRIES] = 2,
    segment_frames: Annotated[int | None, farm_commands.SEGMENT_FRAMES] = None,
    readers: Annotated[int | None, farm_commands.URL_READERS] = None,
    **options: Any,
) -> None:
    """Cut the subject out of INPUT and write it, with alpha, to -o PATH."""
    from vidmatte.cli.call import Call
    from vidmatte.cli.remote import run_call
    from vidmatte.jobs.report import make_reporter

    of_subjects = "--each" if each else "--exr-layers" if options["exr_layers"] else ""
    shared = farm_commands.chosen_workers(
        workers, retries, segment_frames, readers, of_subjects=of_subjects
    )
    reporter = make_reporter(quiet, verbose, as_json)
    try:
        status = run_call(Call(inputs, output, options, reporter, media_dir, each, shared, readers))
    except KeyboardInterrupt as error:  # which an event reports too
        status = fail(str(error) or "stopped", 130)
        reporter.stopped(str(error) or "stopped")
    reporter.over(status)
    raise typer.Exit(status)


app.command(_MAIN, hidden=True, context_settings=_WIDTH)(with_options(_main_command))


tool_commands.add_to(app)
farm_commands.add_to(app)
serve_command.add_to(app)


def _info_command(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="files to describe", parser=named_path)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
    **options: Any,
) -> None:
    """Describe a file, and what would be written for it."""
    from vidmatte.cli.info import show_info
    from vidmatte.settings import make_settings

    raise typer.Exit(show_info(inputs, as_json, make_settings(**options)))


app.command("info", context_settings=_WIDTH)(with_options(_info_command, ("max_megapixels",)))


@app.command("verify", context_settings=_WIDTH)
def _verify_command(
    outputs: Annotated[list[Path], typer.Argument(metavar="RESULT...", help="what to check")],
    source: Annotated[
        Path | None, typer.Option("--source", metavar="PATH", help="the source, if it was moved")
    ] = None,
) -> None:
    """Check a result, its extra outputs and its source against its manifest."""
    from vidmatte.cli.info import verify_results

    raise typer.Exit(verify_results(outputs, source))


@app.command("formats", context_settings=_WIDTH)
def _formats_command(
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """List the output formats."""
    from vidmatte.cli.info import show_formats

    show_formats(as_json)


def _app_of(words: list[str]) -> typer.Typer:
    """The part of the command line that a call takes: before it looks at the call, typer makes
    every option of every command that it is given."""
    first = words[0] if words else "--help"
    if first in ("--help", "-h"):
        return app
    return _part(first if first in _command_names() else _MAIN)


@cache
def _part(name: str) -> typer.Typer:
    """The command line with one command."""
    part = copy.copy(app)
    part.registered_commands = [one for one in app.registered_commands if one.name == name]
    part.registered_groups = [one for one in app.registered_groups if one.name == name]
    return part


def _command_names() -> set[str | None]:
    """The first words that are no inputs, and the main command's own name."""
    groups = {one.name for one in app.registered_groups}
    return groups | {one.name for one in app.registered_commands}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; every error becomes one message and an exit status."""
    stops, words = catch_stops(), sys.argv[1:] if arguments is None else arguments
    try:
        status = _app_of(words)(args=words, prog_name="vidmatte", standalone_mode=False)
    except BrokenPipeError:
        return 1
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (no user sees a traceback)
        message, status = exit_status(error, bool(stops))
        if _wants_events(words):
            from vidmatte.jobs.report import emit

            emit({"event": "error", "error": name_of(error), "message": message, "status": status})
        return fail(message, status)
    return status if isinstance(status, int) else 0


def _wants_events(words: list[str]) -> bool:
    """Whether a call of the main command asks for events, even if its other words are wrong."""
    options = words[: words.index("--")] if "--" in words else words
    if "--json" not in options:
        return False
    return words[0] not in _command_names() - {_MAIN}

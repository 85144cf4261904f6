"""The command line: ``vidmatte FILE`` mattes, the other words are subcommands."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vidmatte._version import __version__
from vidmatte.cli import models
from vidmatte.cli.exit_status import exit_status, fail, name_of
from vidmatte.cli.options import with_options, write_help

_MAIN = "run"
_WIDTH = {"max_content_width": 80}


class _MainOrSub(TyperGroup):
    """Takes the first word as a subcommand if it is one, else as the main command's."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = [_MAIN, *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # Options before the first file belong to the main command too.
        own = ("--help", "-h", "--version")
        if args and args[0].startswith("-") and args[0] not in own:
            args = [_MAIN, *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:  # typer would exit without a word
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


def _show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        typer.echo(f"vidmatte {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Cut the subject out of a video, with alpha, ready for a timeline."""
    del version  # its callback has done the work
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(2)


def _given(text: str) -> str:
    """An input as it was written. Python takes an empty name for the current folder."""
    if not text:
        raise typer.BadParameter("an input's name is empty: write a movie, a folder or a picture")
    return text


def _named(text: str) -> Path:
    """An input's path."""
    return Path(_given(text))


def _main_command(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="movies, picture folders, pictures", parser=_given),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="file, or folder for pictures or many results (default: beside the input,"
            " _matte added to its name)",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="say only what fails")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="say more")] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="events as lines of JSON on stdout, listed in README; a run whose reader is gone"
            " goes on to its end",
        ),
    ] = False,
    **options: Any,
) -> None:
    """Cut the subject out of INPUT and write it, with alpha, to -o PATH."""
    from vidmatte.cli.batch import make_reporter, run_batch

    reporter = make_reporter(quiet, verbose, as_json)
    try:
        status = run_batch(inputs, output, options, reporter)
    except KeyboardInterrupt as error:  # which an event tells of too
        status = fail(str(error) or "stopped", 130)
        reporter.stopped(str(error) or "stopped")
    reporter.over(status)
    raise typer.Exit(status)


app.command(_MAIN, hidden=True, context_settings=_WIDTH)(with_options(_main_command))


def _preview_command(
    clip: Annotated[
        Path, typer.Argument(metavar="INPUT", help="a movie or a picture folder", parser=_named)
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", help="default: INPUT_preview.png"),
    ] = None,
    frames: Annotated[int, typer.Option("--frames", min=1, max=100, help="how many frames")] = 5,
    **options: Any,
) -> None:
    """Write a contact sheet: a few frames cut out, and their alpha.

    Frames are matted one by one: of --smooth no more than 'strong' is seen, its mirrored look.
    """
    from vidmatte.cli.tools import preview

    preview(clip, output, frames, options)


PREVIEW_OPTIONS = (
    "model", "family", "combine", "smooth", "refine", "normalize", "downsample", "threshold",
    "gamma", "keep_largest", "remove_specks", "fill_holes", "dilate", "erode", "feather",
    "garbage_matte", "holdout", "invert", "despill", "despill_strength", "fps", "in_point",
    "out_point", "deinterlace", "overwrite", "device", "runtime", "threads", "models_dir",
)  # fmt: skip
app.command("preview", context_settings=_WIDTH)(with_options(_preview_command, PREVIEW_OPTIONS))


def _bench_command(
    clip: Annotated[
        Path | None, typer.Argument(metavar="[INPUT]", help="default: a clip made for it")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="WxH", help="of the made clip (default: 1920x1080)"),
    ] = None,
    frames: Annotated[
        int, typer.Option("--frames", metavar="N", min=8, max=10000, help="of each whole run")
    ] = 48,
    rounds: Annotated[
        int, typer.Option("--rounds", metavar="N", min=1, max=100, help="medians are told")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
    **options: Any,
) -> None:
    """Measure this machine: each stage alone, then all together."""
    from vidmatte.cli.tools import bench

    bench(clip, size, frames, rounds, as_json, options)


BENCH_OPTIONS = (
    "model", "family", "combine", "smooth", "refine", "foreground", "normalize", "downsample",
    "format", "in_point", "out_point", "device", "runtime", "batch", "threads", "memory",
    "models_dir",
)  # fmt: skip
app.command("bench", context_settings=_WIDTH)(with_options(_bench_command, BENCH_OPTIONS))


@app.command("info", context_settings=_WIDTH)
def info_command(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="what to look at", parser=_named)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Show what a file is, and what would be written."""
    from vidmatte.cli.info import show_info

    raise typer.Exit(show_info(inputs, as_json))


@app.command("verify", context_settings=_WIDTH)
def verify_command(
    outputs: Annotated[list[Path], typer.Argument(metavar="RESULT...", help="what to check")],
    source: Annotated[
        Path | None, typer.Option("--source", metavar="PATH", help="where the source is now")
    ] = None,
) -> None:
    """Check a result, its side results and its source against its manifest."""
    from vidmatte.cli.info import verify_results

    raise typer.Exit(verify_results(outputs, source))


@app.command("score", context_settings=_WIDTH)
def score_command(
    prediction: Annotated[
        Path, typer.Argument(metavar="PRED", help="mattes: a movie, a picture folder, a picture")
    ],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="the true ones, frame for frame")],
    motion: Annotated[
        Path | None,
        typer.Option(
            "--motion", metavar="DIR", help="known motion to the frame before, as KITTI's PNGs"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Measure mattes against true ones: MAD, MSE, Grad, Conn, dtSSD..."""
    from vidmatte.cli.tools import score

    score(prediction, truth, motion, as_json)


@app.command("formats", context_settings=_WIDTH)
def formats_command() -> None:
    """List the output formats."""
    from vidmatte.cli.info import show_formats

    show_formats()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; every error becomes one message and an exit status."""
    stops = _catch_stops()
    try:
        status = app(args=arguments, prog_name="vidmatte", standalone_mode=False)
    except BrokenPipeError:
        return 1
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (no user sees a traceback)
        message, status = exit_status(error, bool(stops))
        if _wants_events(sys.argv[1:] if arguments is None else arguments):
            from vidmatte.jobs.events import emit

            emit({"event": "error", "error": name_of(error), "message": message, "status": status})
        return fail(message, status)
    return status if isinstance(status, int) else 0


def _wants_events(words: list[str]) -> bool:
    """Whether a call of the main command asks for events, whatever else is wrong with it."""
    options = words[: words.index("--")] if "--" in words else words
    if "--json" not in options:
        return False
    commands = {one.name for one in app.registered_commands} - {_MAIN}
    return words[0] not in commands | {one.name for one in app.registered_groups}


def _catch_stops() -> list[int]:
    """Make a polite kill and a terminal that closes end a run as Ctrl+C does.

    What a user has told to outlive one of them (``nohup``) stays so. Returns the signals that
    come, as they come.
    """
    import signal

    stops: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        stops.append(number)
        signal.default_int_handler(number, frame)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the last is unknown on Windows
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    return stops

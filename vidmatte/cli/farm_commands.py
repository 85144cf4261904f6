"""The commands ``plan``, ``segment`` and ``join``, as the command line takes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidmatte.cli.exit_status import fail
from vidmatte.cli.options import given_text, named_path, with_options
from vidmatte.errors import UsageError

if TYPE_CHECKING:
    from vidmatte.farm.crew import Workers

_PLAN = typer.Argument(metavar="PLAN", help="the plan's file", parser=named_path)
QUIET = typer.Option("--quiet", "-q", help="report only failures")
VERBOSE = typer.Option("--verbose", "-v", help="report more details")
EVENTS = typer.Option(
    "--json", help="print events as JSON lines on stdout; the run continues if that is closed"
)
SEGMENT_FRAMES = typer.Option(
    "--segment-frames",
    metavar="N",
    min=1,
    help="about how many frames per segment (default: automatic)",
)
WORKERS = typer.Option(
    "--workers",
    metavar="N",
    help="processes that share the work, in segments; ray or ray://HOST:PORT: a Ray cluster",
)
URL_READERS = typer.Option(
    "--readers", metavar="N", min=1, max=64, help="URLs copied at once (default: 4)"
)
_MOST_WORKERS = 64
RETRIES = typer.Option(
    "--retries", metavar="N", min=0, max=100, help="how often a failed segment is tried again"
)


def chosen_workers(
    workers: str,
    retries: int,
    segment_frames: int | None,
    readers: int | None = None,
    *,
    of_subjects: str,
) -> Workers | None:
    """What the options ask for; None for the single pipeline. of_subjects: the option that asks
    for a run for each subject, if any. Raises UsageError for an option without effect."""
    on_cluster = _names_cluster(workers)
    if of_subjects and (on_cluster or _local_count(workers) > 1):
        raise UsageError(f"{of_subjects} and --workers exclude each other: a subject is one piece")
    count, address = counted_workers(workers)
    if address or count > 1:
        from vidmatte.core.remote import READERS
        from vidmatte.farm.crew import Workers

        return Workers(count, retries, segment_frames, address, readers or READERS)
    for flag, value in (("--retries", retries != 2), ("--segment-frames", segment_frames)):
        if value:
            raise UsageError(f"{flag}: it needs --workers of 2 or more")
    return None


def counted_workers(text: str) -> tuple[int, str | None]:
    """How many local processes a text asks for, and the address of a Ray cluster; one and None
    for neither. Raises UsageError."""
    if _names_cluster(text):
        from vidmatte.farm.ray_workers import check_address

        return 1, check_address(text.lower())
    return _local_count(text), None


def _names_cluster(text: str) -> bool:
    return text.lower() == "ray" or text.lower().startswith("ray:")


def _local_count(text: str) -> int:
    """The number of local processes. Raises UsageError."""
    if text.isdecimal() and 1 <= int(text) <= _MOST_WORKERS:
        return int(text)
    raise UsageError(
        f"--workers {text}: a number from 1 to {_MOST_WORKERS}, 'ray', or ray://HOST:PORT"
    )


def add_to(app: typer.Typer) -> None:
    """Add the commands to an app."""
    width = {"max_content_width": 80}
    app.command("plan", context_settings=width)(with_options(_plan_command))
    app.command("segment", context_settings=width)(_segment_command)
    app.command("join", context_settings=width)(_join_command)
    app.command("watch", context_settings=width)(with_options(_watch_command))


def _watch_command(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="where files arrive", parser=named_path)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="the folder for the results")
    ],
    settle: Annotated[
        float,
        typer.Option(
            "--settle", metavar="S", min=0.1, max=3600, help="seconds without a change of the file"
        ),
    ] = 2.0,
    quiet: Annotated[bool, QUIET] = False,
    verbose: Annotated[bool, VERBOSE] = False,
    as_json: Annotated[bool, EVENTS] = False,
    **options: Any,
) -> None:
    """Cut the subject out of every file that arrives in FOLDER, once.

    A file counts as arrived once it has not changed for --settle seconds. A file that fails stays
    where it is; its error message is in DIR/NAME.error.txt. Remove that, or change the file, and it
    is tried again. A later call continues where this one was stopped.
    """
    from vidmatte.cli.watch import watch_folder
    from vidmatte.jobs.report import make_reporter

    reporter = make_reporter(quiet, verbose, as_json)
    try:
        watch_folder(folder, output, options, reporter, settle)
    except KeyboardInterrupt as error:
        reporter.stopped(str(error) or "stopped")
        reporter.over(130)
        raise typer.Exit(fail(str(error) or "stopped", 130)) from None


def _plan_command(
    clip: Annotated[
        str, typer.Argument(metavar="INPUT", help="a movie or a picture folder", parser=given_text)
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="PATH", help="file, or folder for pictures")
    ],
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="FILE", help="the plan's file (default: PATH.plan.json)"),
    ] = None,
    segment_frames: Annotated[int | None, SEGMENT_FRAMES] = None,
    **options: Any,
) -> None:
    """Cut a job into segments for many machines: then 'segment' for each, and 'join'."""
    from vidmatte.cli import farm

    farm.plan(clip, output, plan, segment_frames, options)


def _segment_command(
    plan: Annotated[Path, _PLAN],
    number: Annotated[int, typer.Argument(metavar="N", help="number of the segment, from 0 on")],
    mixed: Annotated[
        bool, typer.Option("--mixed", help="allow a machine that differs from the plan's")
    ] = False,
    readers: Annotated[int | None, URL_READERS] = None,
    quiet: Annotated[bool, QUIET] = False,
    verbose: Annotated[bool, VERBOSE] = False,
    as_json: Annotated[bool, EVENTS] = False,
) -> None:
    """Make segment N of a plan, on any machine; repeating it is safe."""
    from vidmatte.cli import farm
    from vidmatte.core.remote import READERS

    def step(reporter: Any) -> None:
        farm.segment(plan, number, mixed, readers or READERS, reporter)

    raise typer.Exit(farm.run_step(step, as_json=as_json, quiet=quiet, verbose=verbose))


def _join_command(
    plan: Annotated[Path, _PLAN],
    keep: Annotated[bool, typer.Option("--keep", help="do not remove the segments")] = False,
    quiet: Annotated[bool, QUIET] = False,
    verbose: Annotated[bool, VERBOSE] = False,
    as_json: Annotated[bool, EVENTS] = False,
) -> None:
    """Join the segments of a plan to its result."""
    from vidmatte.cli import farm

    def step(reporter: Any) -> None:
        farm.join(plan, keep, reporter)

    raise typer.Exit(farm.run_step(step, as_json=as_json, quiet=quiet, verbose=verbose))

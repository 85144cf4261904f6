"""What a failed call reports: one message, and an exit status."""

from __future__ import annotations

import contextlib
import os
import sys
from types import FrameType

import typer

from vidmatte.cli.options import usage_message
from vidmatte.core.memory import is_out_of_memory, oom_error
from vidmatte.errors import VidmatteError

MOST_FAILURES = 100  # that an exit status counts: shells use higher ones for other purposes


def exit_status(error: BaseException, is_stopped: bool) -> tuple[str, int]:
    """The message for the error that ended a call, and the exit status.

    is_stopped: a signal was received. With VIDMATTE_DEBUG an internal error is raised again.
    """
    if isinstance(error, VidmatteError):
        return str(error), error.exit_status
    if isinstance(error, typer.Abort | KeyboardInterrupt):
        return "stopped", 130
    if isinstance(error, typer.TyperException):
        return usage_message(error), 2
    if isinstance(error, OSError):
        return f"{error.filename or 'system'}: {error.strerror or error}", 1
    if is_stopped:  # during an import, which turns it into an error of its own
        return "stopped", 130
    if os.environ.get("VIDMATTE_DEBUG"):
        raise error
    return _internal_error(error)


def _internal_error(error: BaseException) -> tuple[str, int]:
    """The message for an unexpected error, and the exit status."""
    if is_out_of_memory(error):
        return oom_error(error), 1
    return (
        f"{type(error).__name__}: {error}: an internal error of vidmatte; please report it with"
        " the output of VIDMATTE_DEBUG=1",
        70,
    )


def name_of(error: BaseException) -> str:
    """The class name of an error in events."""
    return "UsageError" if isinstance(error, typer.TyperException) else type(error).__name__


def fail(message: str, status: int) -> int:
    """Write one message to stderr; return the exit status."""
    with contextlib.suppress(OSError):  # the terminal may be closed: the status still reports it
        sys.stderr.write(f"vidmatte: {message}\n")
    return status


def catch_stops() -> list[int]:
    """Make SIGTERM and SIGHUP stop a run as Ctrl+C does.

    A signal that the parent process ignores (``nohup``) stays ignored. Returns a list to which
    the received signals are added.
    """
    import signal

    stops: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        stops.append(number)
        signal.default_int_handler(number, frame)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    return stops

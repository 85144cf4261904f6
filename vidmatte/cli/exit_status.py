"""How a call ends that fails: one message, and an exit status."""

from __future__ import annotations

import contextlib
import os
import sys

import typer

from vidmatte.cli.options import usage_message
from vidmatte.core.memory import is_out_of_memory, oom_error
from vidmatte.errors import VidmatteError

MOST_FAILURES = 100  # told by an exit status: higher ones mean other things to a shell


def exit_status(error: BaseException, is_stopped: bool) -> tuple[str, int]:
    """What to say of the error that a call ends with, and the status to exit with.

    is_stopped: a signal has come. Raises what is a fault of ours again for VIDMATTE_DEBUG.
    """
    if isinstance(error, VidmatteError):
        return str(error), error.exit_status
    if isinstance(error, typer.Abort | KeyboardInterrupt):
        return "stopped", 130
    if isinstance(error, typer.TyperException):
        return usage_message(error), 2
    if isinstance(error, OSError):
        return f"{error.filename or 'system'}: {error.strerror or error}", 1
    if is_stopped:  # in the middle of an import, which makes its own error of it
        return "stopped", 130
    if os.environ.get("VIDMATTE_DEBUG"):
        raise error
    return _internal_error(error)


def _internal_error(error: BaseException) -> tuple[str, int]:
    """What to say of an error that is none of ours, and the status to exit with."""
    if is_out_of_memory(error):
        return oom_error(error), 1
    return (
        f"{type(error).__name__}: {error}: a fault in vidmatte itself; please report it with"
        " what VIDMATTE_DEBUG=1 adds",
        70,
    )


def name_of(error: BaseException) -> str:
    """The class that an event calls an error by."""
    return "UsageError" if isinstance(error, typer.TyperException) else type(error).__name__


def fail(message: str, status: int) -> int:
    """One message on stderr; the status to exit with."""
    with contextlib.suppress(OSError):  # the terminal may be gone: the status still says it
        sys.stderr.write(f"vidmatte: {message}\n")
    return status

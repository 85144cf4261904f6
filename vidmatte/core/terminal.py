"""The standard streams: the progress bar on stderr, and streams that were closed."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


def progress_bar(**options: Any) -> Any:
    """A tqdm bar with tqdm's own options."""
    from tqdm import tqdm

    # tqdm's monitor thread would outlive the bar; frames and bytes come often enough.
    bar = type("Bar", (tqdm,), {"monitor_interval": 0})
    return bar(dynamic_ncols=True, file=sys.stderr, **options)


class _NamedStream(io.FileIO):
    """Stdout, whose errors name it; after one it goes to the null device, so that Python
    reports nothing about data that is still in buffers."""

    def write(self, data: Any) -> int:
        """How many bytes were written. Raises OSError."""
        try:
            return super().write(data)
        except OSError as error:
            redirect_to_null(self.fileno())
            raise OSError(error.errno, error.strerror, "stdout") from error


class _TolerantStream(io.FileIO):
    """A standard stream that drops messages without an error once nobody can read them."""

    def write(self, data: Any) -> int:
        """All of ``data`` counts as written."""
        try:
            written = super().write(data)
        except OSError:  # the result does not depend on who hears of it
            redirect_to_null(self.fileno())
            written = None
        return memoryview(data).nbytes if written is None else written


def redirect_to_null(number: int) -> None:
    """Redirect a file descriptor to the null device."""
    null = os.open(os.devnull, os.O_RDWR)
    if null == number:
        os.set_inheritable(number, True)
    else:
        os.dup2(null, number)
        os.close(null)


def harden_std_streams() -> None:
    """Make a program's own streams fit to be written to, however it was started.

    A closed stream is redirected to the null device: otherwise the next file that is opened
    would get its descriptor, and the messages of libraries with it. What stderr does not accept
    is dropped silently; what stdout does not accept is an error that names stdout. A character
    that stdout's encoding does not have is written as a backslash escape.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            redirect_to_null(number)
    if sys.__stdout__ is not None and sys.__stdout__.errors == "strict":
        sys.__stdout__.reconfigure(errors="backslashreplace")
    if sys.stdout is not None and sys.stdout is sys.__stdout__ and not _is_console(sys.stdout):
        sys.stdout = _stream_of(_NamedStream(1, "wb", closefd=False), sys.stdout)
    if sys.stderr is sys.__stderr__ and not _is_console(sys.stderr):
        sys.stderr = _stream_of(_TolerantStream(2, "wb", closefd=False), sys.stderr)


def _is_console(stream: Any) -> bool:
    """Whether a stream is Windows' console, which is no file."""
    return sys.platform == "win32" and stream is not None and bool(stream.isatty())


def _stream_of(raw: io.FileIO, old: Any) -> io.TextIOWrapper:
    """A text stream over ``raw``, line by line, in the encoding of ``old``, in whose place it
    stands; None where the descriptor was closed."""
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=old.encoding if old else "utf-8",
        errors=old.errors if old else "backslashreplace",
        line_buffering=True,
    )

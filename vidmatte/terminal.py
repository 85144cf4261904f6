"""The standard streams: the progress bar on stderr, messages that nobody can read."""

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


class Tolerant(io.FileIO):
    """A standard stream whose messages are lost, without an error, once nobody can read them."""

    def write(self, data: Any) -> int:
        """All of ``data`` counts as written."""
        try:
            written = super().write(data)
        except OSError:  # the result does not depend on who hears of it
            silence(self.fileno())
            written = None
        return memoryview(data).nbytes if written is None else written


def silence(number: int) -> None:
    """Have a file descriptor lead nowhere from now on."""
    null = os.open(os.devnull, os.O_RDWR)
    if null == number:
        os.set_inheritable(number, True)
    else:
        os.dup2(null, number)
        os.close(null)


def hold_streams() -> None:
    """Make a program's own streams fit to be written to, however it was started.

    A stream that is closed leads nowhere: the next file that is opened would get its
    descriptor, and what libraries say there. What stderr does not take is lost in silence.
    A character that stdout's encoding lacks is written as a backslash escape.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            silence(number)
    if sys.__stdout__ is not None and sys.__stdout__.errors == "strict":
        sys.__stdout__.reconfigure(errors="backslashreplace")
    is_ours = sys.stderr is sys.__stderr__
    is_console = sys.platform == "win32" and is_ours and sys.stderr and sys.stderr.isatty()
    if is_ours and not is_console:  # Windows' console is no file
        old = sys.stderr
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(Tolerant(2, "wb", closefd=False)),
            encoding=old.encoding if old else "utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )

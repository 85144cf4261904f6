"""``python -m vidmatte`` and the ``vidmatte`` command."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit with its status, whenever a signal comes."""
    begun: list[bool] = []
    try:
        status = _run(begun)
    except KeyboardInterrupt:  # while modules are imported, or after the command line has ended
        status = 130
        if not begun:
            with contextlib.suppress(OSError):
                sys.stderr.write("vidmatte: stopped\n")
    _leave(status)


def _run(begun: list[bool]) -> int:
    """The status of the command line, which reports signals itself once it has ``begun``."""
    from vidmatte.core.memory import tune_malloc
    from vidmatte.core.terminal import harden_std_streams

    harden_std_streams()
    from vidmatte.cli.help_page import show_help

    try:
        if show_help(sys.argv[1:]):
            return 0
    except BrokenPipeError:
        return 1
    except OSError as error:  # such as a full disk
        from vidmatte.cli.exit_status import exit_status, fail

        return fail(*exit_status(error, False))
    tune_malloc()
    gc.disable()  # nothing that modules make is garbage
    from vidmatte.cli.main import main as run

    gc.freeze()  # no later search needs to look at it either
    gc.enable()
    begun.append(True)
    return run()


def _leave(status: int) -> NoReturn:
    """Exit with a status.

    Where a stage of a run that was stopped is still at work, in C++, Python must not shut
    down under it: that would abort the process in place of its status, and waiting may take long.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # a second one ends with the same status
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    pipeline = sys.modules.get("vidmatte.jobs.stages")
    if pipeline is not None and pipeline.at_work():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # the terminal may be gone
                if stream is not None:
                    stream.flush()
        os._exit(status)
    gc.freeze()  # what is left ends with the process: a search for cycles in it takes 0.1 s
    sys.exit(status)


if __name__ == "__main__":
    main()

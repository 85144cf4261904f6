"""A clip from standard input, or a result on standard output."""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from vidmatte.cli.call import Call
from vidmatte.cli.summary import report_result, shares_line
from vidmatte.core.memory import oom_errors
from vidmatte.core.names import is_standard_stream
from vidmatte.errors import UsageError, VidmatteError
from vidmatte.jobs.check import check_job, make_job
from vidmatte.jobs.report import JsonReporter
from vidmatte.jobs.run import run
from vidmatte.media.pipe import WATCH_SECONDS, is_abandoned, wait_abandoned
from vidmatte.readers.open import open_reader
from vidmatte.settings import make_settings
from vidmatte.writers.base import as_output_error

_STDOUT = 1


def run_piped(call: Call) -> int:
    """Matte the only input of a call, opened once, and return the exit status. Raises VidmatteError
    for errors that concern the call itself."""
    settings, reporter = make_settings(**call.options), call.reporter
    source, output = _piped_names(call)
    reporter.plan([source])
    reporter.about(source, output)
    job = make_job(source, output, settings)
    try:
        with contextlib.ExitStack() as opened:
            with _watched_stdout(output):  # later the writer does
                opened.enter_context(oom_errors(source, settings.memory))
                reader = opened.enter_context(open_reader(source, job.settings))
                choice = check_job(job, reader).model
                model = choice.fetch(reporter.note, quiet=reporter.is_quiet)
            reporter.begin()
            reporter.detail(shares_line(model, reader.clip, job.settings))
            result = run(
                reader, job.output, model, job.settings, reporter, sys.argv, is_folder=job.is_folder
            )
    except VidmatteError as error:
        reporter.failure(type(error).__name__, str(error))
        return error.exit_status
    report_result(reporter, job, result)
    return 0


def _piped_names(call: Call) -> tuple[str, str]:
    """The input and the output of a call. Raises UsageError for a call that a pipe cannot have."""
    count = len(call.inputs)
    if count > 1:
        raise UsageError(f"-: stdin and stdout take one input, not {count}: run them one by one")
    if call.output is None:
        raise UsageError("-: name the result: -o FILE, or -o - for stdout")
    if call.each or call.workers is not None:
        flag = "--each" if call.each else "--workers"
        raise UsageError(f"{flag}: not with stdin or stdout: name files")
    if is_standard_stream(call.output) and isinstance(call.reporter, JsonReporter):
        raise UsageError("--json: stdout is the result's: omit it; messages are on stderr")
    return call.inputs[0], call.output


@contextlib.contextmanager
def _watched_stdout(output: str) -> Iterator[None]:
    """Meanwhile, the end of the program that reads standard output ends the call: a wait for
    standard input, or a download, would go on for nobody. Raises OutputError then."""
    if not is_standard_stream(output):
        yield
        return
    lock, is_over, is_gone = threading.Lock(), threading.Event(), threading.Event()

    def wait() -> None:
        if wait_abandoned(lambda: is_abandoned(_STDOUT), is_over):
            with lock:
                if not is_over.is_set():
                    is_gone.set()
                    _thread.interrupt_main(signal.SIGTERM)  # SIGINT may be ignored

    thread = threading.Thread(target=wait, name="vidmatte-reader", daemon=True)
    thread.start()
    try:
        try:
            yield
        finally:
            with lock:
                is_over.set()
            if is_gone.is_set():
                time.sleep(WATCH_SECONDS)  # until the interrupt is here
    except KeyboardInterrupt:
        if is_gone.is_set():
            raise as_output_error(BrokenPipeError(), Path(output)) from None
        raise
    finally:
        thread.join()

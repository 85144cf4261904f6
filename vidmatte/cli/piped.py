"""A clip from standard input, or a result on standard output."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from vidmatte.cli.summary import report_result, shares_line
from vidmatte.core.memory import oom_errors
from vidmatte.core.names import STANDARD_STREAM, is_standard_stream
from vidmatte.errors import UsageError, VidmatteError
from vidmatte.jobs.check import check_job, make_job
from vidmatte.jobs.report import JsonReporter, Reporter
from vidmatte.jobs.run import run
from vidmatte.readers.open import open_reader
from vidmatte.settings import make_settings

if TYPE_CHECKING:
    from vidmatte.farm.crew import Workers


def is_piped(inputs: list[str], output: str | None) -> bool:
    """Whether a call reads standard input or writes standard output."""
    return STANDARD_STREAM in inputs or is_standard_stream(output)


def run_piped(
    inputs: list[str],
    output: str | None,
    options: dict[str, Any],
    reporter: Reporter,
    *,
    each: bool = False,
    workers: Workers | None = None,
) -> int:
    """Matte one input, opened once, and return the exit status. Raises VidmatteError for errors
    that concern the call itself."""
    settings = make_settings(**options)
    _check_call(inputs, output, reporter, each=each, workers=workers)
    assert output is not None
    (source,) = inputs
    reporter.plan(inputs)
    reporter.about(source, output)
    job = make_job(source, output, settings)
    try:
        with oom_errors(source, settings.memory), open_reader(source, job.settings) as reader:
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


def _check_call(
    inputs: list[str],
    output: str | None,
    reporter: Reporter,
    *,
    each: bool,
    workers: Workers | None,
) -> None:
    """Raise UsageError for a call that a pipe cannot have."""
    if len(inputs) > 1:
        raise UsageError(
            f"-: stdin and stdout take one input, not {len(inputs)}: run them one by one"
        )
    if output is None:
        raise UsageError("-: name the result: -o FILE, or -o - for stdout")
    if each or workers is not None:
        raise UsageError(
            f"{'--each' if each else '--workers'}: not with stdin or stdout: name files"
        )
    if is_standard_stream(output) and isinstance(reporter, JsonReporter):
        raise UsageError("--json: stdout is the result's: omit it; messages are on stderr")

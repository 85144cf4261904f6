"""The Python API: ``matte`` writes a file, ``stream`` yields its frames one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Unpack

from vidmatte.core.memory import oom_errors
from vidmatte.errors import InterruptedRunError, UsageError
from vidmatte.jobs.check import check_job, check_matting, make_job
from vidmatte.jobs.report import Progress, Reporter
from vidmatte.jobs.resume import remove_checkpoint
from vidmatte.jobs.run import run
from vidmatte.jobs.spec import Result
from vidmatte.jobs.stream import Stream, StreamedFrame
from vidmatte.jobs.subjects import check_subjects
from vidmatte.keywords import Options, StreamOptions
from vidmatte.readers.open import open_reader
from vidmatte.settings import OutputOptions, make_settings, options_of

__all__ = ["Progress", "Result", "Stream", "StreamedFrame", "matte", "stream"]


class _CallbackReporter(Reporter):
    """Calls a caller's function with the progress after every frame."""

    def __init__(self, callback: Callable[[Progress], None]) -> None:
        self._callback = callback

    def advance(self, progress: Progress) -> None:
        self._callback(progress)


def matte(
    source: str | Path,
    output: str | Path,
    *,
    progress: Callable[[Progress], None] | None = None,
    **options: Unpack[Options],
) -> Result:
    """Cut the subject out of ``source`` and write it to ``output``.

    source: a movie, a folder of pictures or one picture. output: a file, whose
    suffix determines the format, or a folder for pictures. progress: called in the caller's
    thread after each frame, always with the same object; an exception that it raises stops
    the run, removes the partial output and is passed to the caller.
    options: those of ``Settings``, by name.
    Raises the errors of vidmatte.errors; an existing output needs ``overwrite=True``. Ctrl+C
    is an InterruptedRunError, which is a KeyboardInterrupt and not an Exception.
    """
    job = make_job(source, output, make_settings(**options))
    if progress is not None and not callable(progress):
        raise UsageError(f"progress {progress!r}: expected a function of one argument")
    reporter = Reporter() if progress is None else _CallbackReporter(progress)
    command = ("vidmatte.matte", str(source), str(output))
    try:
        with oom_errors(source, job.settings.memory), open_reader(source, job.settings) as opened:
            model = check_job(job, opened).model.fetch(lambda _: None)
            result = run(
                opened, job.output, model, job.settings, reporter, command, is_folder=job.is_folder
            )
        if job.settings.timeline:
            from vidmatte.timeline.result import Shot, write_result_timelines

            shot = Shot.of(result.clip, result.written, result.quality, job.settings)
            write_result_timelines([shot], job.settings)
        if job.settings.resume:
            remove_checkpoint(job.output)
    except InterruptedRunError:
        raise
    except KeyboardInterrupt:
        # While weights were fetched, for example.
        raise InterruptedRunError(
            f"stopped before the first frame of {output}, or after the last"
        ) from None
    return result


def stream(source: str | Path, **options: Unpack[StreamOptions]) -> Stream:
    """Iterate over ``source``: each frame with its pixels, alpha and time.

    Memory is bounded for clips of any length; leaving the loop early (and dropping the
    iterator, or closing it) ends every thread and closes every file.
    options: those of ``Settings``, by name, except ``OutputOptions``. Raises the
    errors of vidmatte.errors.
    """
    settings = make_settings(**options)
    for name, option in options_of(OutputOptions).items():
        if (value := getattr(settings, name)) != option.default:
            raise UsageError(
                f"{name}={value!r} is for files, which a stream does not write: use matte()"
            )
    opened = open_reader(source, settings)
    try:
        check_subjects(opened, settings)
        model = check_matting(opened.clip, settings).fetch(lambda _: None)
        return Stream(opened, model, settings)
    except BaseException:
        opened.close()
        raise

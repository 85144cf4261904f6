"""The Python API: matte a file; see ``streaming`` for its frames one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Unpack

from vidmatte.errors import InterruptedRunError, UsageError
from vidmatte.keywords import Options
from vidmatte.memory import lack_told
from vidmatte.network.model import find_model
from vidmatte.run.job import Result, run
from vidmatte.run.report import Progress, Reporter
from vidmatte.run.resume import forget
from vidmatte.settings import make_settings
from vidmatte.sink import settings_for
from vidmatte.sink.formats import names_folder
from vidmatte.source import open_source
from vidmatte.streaming import Stream, StreamedFrame, stream

__all__ = ["Progress", "Result", "Stream", "StreamedFrame", "matte", "stream"]


class CallbackReporter(Reporter):
    """Gives a caller's function every frame's progress."""

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        self._tell = tell

    def advance(self, progress: Progress) -> None:
        self._tell(progress)


def matte(
    source: str | Path,
    output: str | Path,
    *,
    progress: Callable[[Progress], None] | None = None,
    **options: Unpack[Options],
) -> Result:
    """Cut the subject out of ``source`` and write it to ``output``.

    source: a movie, a folder of pictures or one picture. output: a file, its format
    by its suffix, or a folder for pictures. progress: called in the caller's thread after each
    frame, with one object that goes on changing; what it raises stops the run, leaves no
    output and comes out of here. options: those of ``Settings``, by name.
    Raises the errors of vidmatte.errors; an existing output needs ``overwrite=True``. Ctrl+C
    is an InterruptedRunError, which is a KeyboardInterrupt and no Exception.
    """
    settings = settings_for(output, make_settings(**options))
    if progress is not None and not callable(progress):
        raise UsageError(f"progress {progress!r}: a function of one argument is wanted")
    reporter = Reporter() if progress is None else CallbackReporter(progress)
    said = ("vidmatte.matte", str(source), str(output))
    try:
        with lack_told(source, settings.memory), open_source(source, settings) as opened:
            model = find_model(settings, lambda _: None)
            is_folder = names_folder(output)
            result = run(opened, Path(output), model, settings, reporter, said, is_folder=is_folder)
        if settings.resume:
            forget(Path(output))
    except InterruptedRunError:
        raise
    except KeyboardInterrupt:
        # While weights were fetched, for one.
        raise InterruptedRunError(
            f"stopped before the first frame of {output}, or after the last"
        ) from None
    return result

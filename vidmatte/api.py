"""The Python API: matte a file; see ``streaming`` for its frames one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidmatte.network.model import find_model
from vidmatte.run.job import Result, run
from vidmatte.run.report import Reporter
from vidmatte.run.resume import forget
from vidmatte.settings import make_settings
from vidmatte.sink import named_folders, settings_for
from vidmatte.source import open_source
from vidmatte.streaming import Stream, StreamedFrame, stream

__all__ = ["Result", "Stream", "StreamedFrame", "matte", "stream"]


def matte(source: str | Path, output: str | Path, **options: Any) -> Result:
    """Cut the subject out of ``source`` and write it to ``output``.

    source: a movie, a folder of pictures or one picture. output: a file, its format
    by its suffix, or a folder for pictures. options: those of ``Settings``, by name.
    Raises the errors of vidmatte.errors; an existing output needs ``overwrite=True``.
    """
    settings = settings_for(output, make_settings(**options))
    with named_folders(output, settings), open_source(source, settings) as opened:
        model = find_model(settings, lambda _: None)
        said = ("vidmatte.matte", str(source), str(output))
        result = run(opened, Path(output), model, settings, Reporter(), said)
    if settings.resume:
        forget(Path(output))
    return result

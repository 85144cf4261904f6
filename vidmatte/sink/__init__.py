"""Where frames go: movies with alpha, picture sequences, one picture."""

from __future__ import annotations

from pathlib import Path

from vidmatte.frame import Clip
from vidmatte.settings import Settings
from vidmatte.sink.base import Sink, Written
from vidmatte.sink.formats import FORMATS, Format, choose

__all__ = ["FORMATS", "Format", "Sink", "Written", "choose", "open_sink"]


def open_sink(out: Path, clip: Clip, settings: Settings) -> Sink:
    """A sink that writes ``clip`` to ``out`` in the format of its suffix or of the settings.

    Everything is checked before a file is touched. Raises UsageError (format and
    clip do not fit), OutputExistsError, SinkError.
    """
    from vidmatte.sink.movie import MovieSink
    from vidmatte.sink.pictures import PictureSink

    row = choose(out, settings.format)
    kind = PictureSink if row.container is None else MovieSink
    return kind(out, clip, settings, row)

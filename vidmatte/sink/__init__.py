"""Where frames go: movies with alpha, picture sequences, one picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vidmatte.frame import Clip
from vidmatte.settings import Settings
from vidmatte.sink.base import Sink, Written
from vidmatte.sink.formats import FORMATS, Format, choose

if TYPE_CHECKING:
    from vidmatte.sink.movie import MovieSink
    from vidmatte.sink.pictures import PictureSink

__all__ = ["FORMATS", "Format", "Sink", "Written", "check_sink", "choose", "open_sink"]


def open_sink(out: Path, clip: Clip, settings: Settings) -> Sink:
    """A sink that writes ``clip`` to ``out`` in the format of its suffix or of the settings.

    Everything is checked before a file is touched. Raises UsageError (format and
    clip do not fit), OutputExistsError, SinkError.
    """
    row = choose(out, settings.format)
    return kind_of(row)(out, clip, settings, row)


def check_sink(out: Path, clip: Clip, settings: Settings) -> None:
    """Everything about an output that can be told without touching a file.

    Raises UsageError (format and clip do not fit), OutputExistsError, SinkError.
    """
    row = choose(out, settings.format)
    kind_of(row).check(out, clip, settings, row)


def kind_of(row: Format) -> type[MovieSink] | type[PictureSink]:
    """The class that writes this format; loaded when the first output is opened."""
    from vidmatte.sink.movie import MovieSink
    from vidmatte.sink.pictures import PictureSink

    return PictureSink if row.container is None else MovieSink

"""What a call of the main command asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidmatte.core.names import STANDARD_STREAM, is_standard_stream
from vidmatte.jobs.report import Reporter
from vidmatte.timeline.files import is_timeline

if TYPE_CHECKING:
    from vidmatte.farm.crew import Workers

#: What Final Cut Pro exports: a folder with an FCPXML file in it.
BUNDLE = ".fcpxmld"


@dataclass(frozen=True)
class Call:
    """The inputs and options of one call, as the user gave them.

    inputs, output: paths, URLs, or ``-``; no output: beside the inputs. options: by the names of
    the settings. media_dir: of a shot list's media. each: a result for each named subject.
    workers: processes that share the work; None for this one. readers: URLs that are read at once.
    """

    inputs: list[str]
    output: str | None
    options: Mapping[str, Any]
    reporter: Reporter
    media_dir: str | None = None
    each: bool = False
    workers: Workers | None = None
    readers: int | None = None

    @property
    def is_piped(self) -> bool:
        """Whether it reads standard input or writes standard output."""
        return STANDARD_STREAM in self.inputs or is_standard_stream(self.output)


def is_shot_list(path: Path) -> bool:
    """Whether an input is an edit, by its suffix."""
    return path.suffix.lower() == BUNDLE or (is_timeline(path) and not path.is_dir())

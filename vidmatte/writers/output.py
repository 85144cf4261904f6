"""One result of a run: what its pictures show, and the file or folder they go to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av

from vidmatte.core.frame import Clip, Frame, TimeSpan
from vidmatte.writers.base import WriteResult
from vidmatte.writers.encoded_frame import EncodedFrame
from vidmatte.writers.format_spec import OutputFormat
from vidmatte.writers.formats import is_pattern
from vidmatte.writers.output_paths import output_paths
from vidmatte.writers.partial import Partial, PartialSequence
from vidmatte.writers.render.background import Background
from vidmatte.writers.render.cutout import CutoutPicture
from vidmatte.writers.render.despill import Despill


@dataclass
class RenderContext:
    """One frame, its cut-out pictures, and what lies behind them for the current output.

    A picture is rendered once however many outputs use it, and shared: who changes one
    takes a copy. One context for each worker thread.
    """

    clip: Clip
    foreground: str
    despill: Despill | None = None
    behind: av.VideoFrame | None = None
    _makers: dict[str, CutoutPicture] = field(default_factory=dict)
    _pictures: dict[str, av.VideoFrame] = field(default_factory=dict)
    _frame: Frame | None = None

    def begin(self, frame: Frame) -> None:
        """The pictures are now those of ``frame``."""
        self._frame = frame
        self._pictures.clear()

    @property
    def frame(self) -> Frame:
        """The current frame."""
        if self._frame is None:
            raise ValueError("no frame was begun")
        return self._frame

    def picture(self, row: OutputFormat) -> av.VideoFrame:
        """The cut-out as ``row`` wants it."""
        if row.name not in self._makers:
            self._makers[row.name] = CutoutPicture(self.clip, row, self.foreground, self.despill)
        if row.name not in self._pictures:
            self._pictures[row.name] = self._makers[row.name].render(self.frame)
        return self._pictures[row.name]


class Renderer(ABC):
    """What the pictures of one output show. One for each worker thread."""

    @abstractmethod
    def render(self, scene: RenderContext) -> av.VideoFrame:
        """The picture in the output's pixel format, tagged and timed."""


@dataclass(frozen=True)
class OutputSpec:
    """What one output is to be, settled before a file is touched.

    is_folder: ``out`` is a folder for pictures, there or not, whatever its name looks like.
    """

    out: Path
    clip: Clip
    row: OutputFormat
    overwrite: bool
    audio: bool
    layer: Layer
    premultiplied: bool = False
    start_number: int = 0
    is_folder: bool = False

    @property
    def is_single(self) -> bool:
        """Whether ``out`` is one picture, not a movie, nor a folder or a pattern of many."""
        row, out = self.row, self.out
        is_named_so = row.container is None and out.suffix.lower() in row.suffixes
        return is_named_so and not (self.is_folder or out.is_dir() or is_pattern(out))


class Layer(ABC):
    """Makes the makers of one output, and gives it what lies behind the subject."""

    @abstractmethod
    def renderer(self, clip: Clip, row: OutputFormat) -> Renderer:
        """A maker for one worker."""

    #: Whether the subject's colours are seen.
    in_colour = True
    #: What lies behind the subject, for shows that have it.
    background: Background | None = None


class Output(ABC):
    """Encodes pictures, writes what was encoded, verifies it, and gives it its name.

    ``encoder`` and ``encode`` run in worker threads, all else in the thread that writes, with
    the frames in order.
    """

    def __init__(self, plan: OutputSpec) -> None:
        self.spec = plan
        self.partial = partial_of(plan)

    @property
    def is_sequence(self) -> bool:
        """Whether it is many files, which ``encode`` writes: it is opened before that."""
        return self.spec.row.container is None

    @property
    def file_sizes(self) -> dict[str, int]:
        """Of a sequence, the bytes of each picture that was added, by its name."""
        return {}

    @abstractmethod
    def open(self) -> None:
        """Create the unfinished file or folder. Raises OutputError."""

    @abstractmethod
    def encoder(self) -> Any:
        """What one worker needs for ``encode`` and may not share."""

    @abstractmethod
    def encode(self, tool: Any, picture: av.VideoFrame, frame: Frame) -> EncodedFrame:
        """Encode one picture. The frame's slot is given back already."""

    @abstractmethod
    def add(self, encoded: EncodedFrame, time: TimeSpan) -> None:
        """Write the next frame, which this or another run has encoded."""

    @abstractmethod
    def complete(self) -> None:
        """Write what is held back and verify everything. Raises OutputError, VerificationError."""

    @abstractmethod
    def result(self) -> WriteResult:
        """What was written, once it is complete."""

    @abstractmethod
    def discard(self) -> None:
        """Drop everything that is not under its final name; harmless at any time."""


def close_backgrounds(outputs: Iterable[Output]) -> None:
    """Close the files that lie behind the subject; harmless when done twice."""
    for output in outputs:
        if output.spec.layer.background is not None:
            output.spec.layer.background.close()


def partial_of(plan: OutputSpec) -> Partial:
    """Where the unfinished result of ``plan`` is written."""
    kind = PartialSequence if is_pattern(plan.out) else Partial
    return kind(plan.out, output_paths(plan.out), plan.overwrite)

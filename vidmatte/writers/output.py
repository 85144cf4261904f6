"""One output of a run: what its pictures show, and the file or folder they are written to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
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
    """One frame, its cut-out pictures, and the background for the current output.

    A picture is rendered once however many outputs use it, and shared: copy it before
    changing it. It is valid until ``begin``. One context for each worker thread.
    """

    clip: Clip
    foreground: str
    despill: Despill | None = None
    background: av.VideoFrame | None = None
    _cutouts: dict[str, CutoutPicture] = field(default_factory=dict)
    _pictures: dict[str, av.VideoFrame] = field(default_factory=dict)
    _frame: Frame | None = None

    def begin(self, frame: Frame) -> None:
        """Make ``frame`` the current one; drops the pictures of the previous one."""
        self._frame = frame
        self._pictures.clear()

    @property
    def frame(self) -> Frame:
        """The current frame. Raises ValueError before the first ``begin``."""
        if self._frame is None:
            raise ValueError("begin() was not called")
        return self._frame

    def picture(self, row: OutputFormat) -> av.VideoFrame:
        """The cut-out in the pixel format of ``row``."""
        if row.name not in self._cutouts:
            self._cutouts[row.name] = CutoutPicture(self.clip, row, self.foreground, self.despill)
        if row.name not in self._pictures:
            self._pictures[row.name] = self._cutouts[row.name].render(self.frame)
        return self._pictures[row.name]


class Renderer(ABC):
    """Renders the pictures of one output. One for each worker thread."""

    @abstractmethod
    def render(self, context: RenderContext) -> av.VideoFrame:
        """The picture in the output's pixel format, tagged and timed."""


@dataclass(frozen=True)
class OutputSpec:
    """What one output will be, decided before any file is touched.

    is_folder: ``out`` is a folder for pictures, existing or not, whatever its name looks like.
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

    def result(self, frames: int, size: int, seconds: Fraction, **more: Any) -> WriteResult:
        """The result once it is written. size: bytes. more: other fields of ``WriteResult``."""
        return WriteResult(
            path=self.out,
            frames=frames,
            width=self.clip.width,
            height=self.clip.height,
            rate=self.clip.rate,
            format=self.row.name,
            pixel_format=self.row.pixel_format(self.clip),
            bytes=size,
            seconds=seconds,
            **more,
        )

    @property
    def is_single(self) -> bool:
        """Whether ``out`` is one picture, not a movie, nor a folder or a pattern of many."""
        row, out = self.row, self.out
        is_named_so = row.container is None and out.suffix.lower() in row.suffixes
        return is_named_so and not (self.is_folder or out.is_dir() or is_pattern(out))


class Layer(ABC):
    """What the pictures of one output show: makes its renderers and holds its background."""

    @abstractmethod
    def renderer(self, clip: Clip, row: OutputFormat) -> Renderer:
        """A renderer for one worker thread."""

    #: Whether the subject's colours are visible.
    in_colour = True
    #: What is shown behind the subject; None for layers without a background.
    background: Background | None = None


class Output(ABC):
    """Encodes pictures, writes and verifies the result, and renames it into place.

    ``encoder`` and ``encode`` run in worker threads, everything else in the writing thread,
    with the frames in order.
    """

    def __init__(self, spec: OutputSpec) -> None:
        self.spec = spec
        self.partial: Partial = partial_of(spec)

    @staticmethod
    @abstractmethod
    def check(spec: OutputSpec) -> None:
        """Raise UsageError, OutputError for what this kind of output cannot hold."""

    @property
    def is_sequence(self) -> bool:
        """Whether it is one file per frame, which ``encode`` writes: open it before that."""
        return self.spec.row.container is None

    def watch(self, fail: Callable[[BaseException], None]) -> None:  # noqa: B027
        """Call ``fail`` from another thread if the result fails between two frames."""

    def cancel(self) -> None:  # noqa: B027 (files do not make anyone wait)
        """End a wait for whoever takes the result; safe from any thread."""

    @property
    def file_sizes(self) -> dict[str, int]:
        """Size in bytes of each picture added to a sequence, by name; empty for a movie."""
        return {}

    @abstractmethod
    def open(self) -> None:
        """Create the unfinished file or folder. Raises OutputError."""

    @abstractmethod
    def encoder(self) -> Any:
        """The encoder of one worker thread, passed to ``encode``; not shared between threads."""

    @abstractmethod
    def encode(self, encoder: Any, picture: av.VideoFrame, frame: Frame) -> EncodedFrame:
        """Encode one picture. The frame's slot has already been released."""

    @abstractmethod
    def add(self, encoded: EncodedFrame, time: TimeSpan) -> None:
        """Write the next frame, encoded by this or an earlier run."""

    @abstractmethod
    def complete(self) -> None:
        """Write what is still buffered and verify all. Raises OutputError, VerificationError."""

    @abstractmethod
    def result(self) -> WriteResult:
        """What was written, once it is complete."""

    @abstractmethod
    def discard(self) -> None:
        """Remove everything not yet under its final name; safe to call at any time."""


def close_backgrounds(outputs: Iterable[Output]) -> None:
    """Close the files of all backgrounds; safe to call twice."""
    for output in outputs:
        if output.spec.layer.background is not None:
            output.spec.layer.background.close()


def partial_of(spec: OutputSpec) -> Partial:
    """Where the unfinished result of ``spec`` is written."""
    kind = PartialSequence if is_pattern(spec.out) else Partial
    return kind(spec.out, output_paths(spec.out), spec.overwrite)

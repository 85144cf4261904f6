"""Stores encoded frames between encoding and muxing, and joins them to outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vidmatte.core.frame import Frame
from vidmatte.core.segment import History
from vidmatte.errors import OutputError
from vidmatte.writers.base import WriteResult, as_output_error
from vidmatte.writers.encoded_frame import EncodedFrame
from vidmatte.writers.output import Output


@dataclass
class SpooledFrame:
    """A frame as encoded by all outputs, without its pixels.

    encoded: the result of ``EncodedFrame.to_bytes`` for each output, in order. new_shot: it
    begins a shot. findings: see ``Frame.findings``. state: a recurrent network's state before
    this frame, by name; empty if it is not stored.
    """

    index: int
    pts: int
    duration: int
    time_base: Fraction
    encoded: Sequence[bytes | memoryview]
    new_shot: bool = False
    findings: dict[str, list[str]] = field(default_factory=dict)
    state: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, frame: Frame, encoded: Sequence[bytes]) -> SpooledFrame:
        """The record of ``frame`` with its encoded frames."""
        return cls(
            index=frame.index,
            pts=frame.pts,
            duration=frame.duration,
            time_base=frame.time_base,
            encoded=encoded,
            new_shot=frame.new_shot,
            findings=frame.findings,
            state=(frame.state or {}) if frame.wants_state else {},
        )


class Spool(ABC):
    """Stores the encoded frames of consecutive frames of a clip, for one writer.

    The spool opens the outputs that write a file per frame (``Output.is_sequence``) and so
    decides where these go. Methods raise OSError, OutputError.
    """

    #: Whether recurrent networks' states are stored with frames, see ``Frame.wants_state``.
    stores_state = True

    @property
    @abstractmethod
    def first(self) -> int:
        """The index of its first frame."""

    @property
    @abstractmethod
    def count(self) -> int:
        """The number of frames in it, including those of earlier runs."""

    @property
    @abstractmethod
    def is_complete(self) -> bool:
        """Whether its last frame has been stored."""

    @abstractmethod
    def open(self, outputs: Sequence[Output]) -> None:
        """Prepare for the frames of ``outputs``; opens the sequences among them."""

    def history(self) -> History:
        """What is known of the clip from the frames of earlier runs."""
        return History()

    @abstractmethod
    def put(self, record: SpooledFrame) -> None:
        """Store the next frame."""

    @abstractmethod
    def finish(self) -> None:
        """Call after the last ``put``: sync all to disk and set ``is_complete``."""

    @abstractmethod
    def records(self) -> Iterator[SpooledFrame]:
        """All frames, in order, loaded one at a time."""

    @abstractmethod
    def folders(self, number: int) -> tuple[Path, ...]:
        """The folders to search for the picture files of output ``number``."""

    @abstractmethod
    def seal(self, result: WriteResult) -> None:
        """Store the result of the verified outputs; call before the first is renamed."""

    @abstractmethod
    def clear(self) -> None:
        """Remove the frames and close; call when all outputs have their final names."""

    @abstractmethod
    def close(self) -> None:
        """Close; its frames remain for a later run. Safe to call twice."""


def join(spools: Iterable[Spool], outputs: Sequence[Output], first: int = 0) -> None:
    """Add all frames of ``spools`` to ``outputs``, which must be open, from frame ``first`` on.

    The spools contain consecutive parts of one clip, in order. Raises OutputError if a frame
    is missing or repeated, or if an output cannot be written.
    """
    expected = first
    for spool in spools:
        for record in spool.records():
            _check_order(record.index, expected, outputs)
            expected += 1
            for number, output in enumerate(outputs):
                _add(output, record, number, spool.folders(number))
        if not spool.is_complete:
            raise OutputError(
                f"{outputs[0].spec.out}: frame {expected} is missing: that part of the clip is"
                " incomplete: run it again"
            )


def _check_order(index: int, expected: int, outputs: Sequence[Output]) -> None:
    """Raise OutputError unless ``index`` is the next frame."""
    if index == expected:
        return
    fault = f"frame {expected} is missing" if index > expected else f"frame {index} is repeated"
    raise OutputError(
        f"{outputs[0].spec.out}: {fault}: join the parts of a clip in order, each once"
    )


def _add(output: Output, record: SpooledFrame, number: int, folders: tuple[Path, ...]) -> None:
    """Add one frame to one output. Raises OutputError."""
    try:
        output.add(EncodedFrame.from_bytes(record.encoded[number], folders), record)
    except (OSError, av.FFmpegError) as error:
        raise as_output_error(error, output.spec.out) from error

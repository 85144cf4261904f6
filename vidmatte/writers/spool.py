"""Between encoding and muxing: encoded frames that wait in a spool, and their joining."""

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
    """A frame as all outputs have encoded it; its pixels are gone.

    encoded: for each output, in order, what ``EncodedFrame.to_bytes`` gives. new_shot: it
    begins a shot. findings: see ``Frame.findings``. state: a recurrent network's before this
    frame, by name; empty where it is not stored.
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
        """What of ``frame`` is stored with its encoded frames."""
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

    Outputs that write a file a frame (``Output.is_sequence``) write these where the spool
    wants them. Methods raise OSError, OutputError.
    """

    @property
    @abstractmethod
    def first(self) -> int:
        """The number of the first frame that belongs in it."""

    @property
    @abstractmethod
    def count(self) -> int:
        """How many frames are in it, those of earlier runs among them."""

    @property
    @abstractmethod
    def is_complete(self) -> bool:
        """Whether no frame is missing at its end."""

    @abstractmethod
    def open(self, outputs: Sequence[Output]) -> None:
        """Get ready for the frames of ``outputs``; sequences among these are opened."""

    def history(self) -> History:
        """What is known of the clip by the frames that were in it when it was opened."""
        return History()

    @abstractmethod
    def put(self, record: SpooledFrame) -> None:
        """Store the next frame."""

    @abstractmethod
    def finish(self) -> None:
        """The last frame was put: sync all to the disk, ``is_complete`` from now on."""

    @abstractmethod
    def records(self) -> Iterator[SpooledFrame]:
        """All frames, in order; one at a time is in memory."""

    @abstractmethod
    def folders(self, number: int) -> tuple[Path, ...]:
        """Where the picture files of output ``number`` may stand."""

    @abstractmethod
    def seal(self, result: WriteResult) -> None:
        """All outputs are verified: note them before the first gets its final name."""

    @abstractmethod
    def clear(self) -> None:
        """All outputs have their final names: remove the frames and close."""

    @abstractmethod
    def close(self) -> None:
        """Close it; the frames in it stay for a later run. Harmless when done twice."""


def join(spools: Iterable[Spool], outputs: Sequence[Output], first: int = 0) -> None:
    """Add all frames of ``spools`` to ``outputs``, which are open, from frame ``first`` on.

    The spools hold consecutive parts of one clip, in order. Raises OutputError where a frame
    is missing or comes twice, or where an output cannot be written.
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
                f"{outputs[0].spec.out}: frame {expected} is missing: that part of the clip was"
                " not made to its end: run it again"
            )


def _check_order(index: int, expected: int, outputs: Sequence[Output]) -> None:
    """Raise OutputError unless ``index`` is the frame that comes next."""
    if index == expected:
        return
    fault = f"frame {expected} is missing" if index > expected else f"frame {index} comes twice"
    raise OutputError(
        f"{outputs[0].spec.out}: {fault}: join the parts of a clip in order, each once"
    )


def _add(output: Output, record: SpooledFrame, number: int, folders: tuple[Path, ...]) -> None:
    """Add one frame to one output. Raises OutputError."""
    try:
        output.add(EncodedFrame.from_bytes(record.encoded[number], folders), record)
    except (OSError, av.FFmpegError) as error:
        raise as_output_error(error, output.spec.out) from error

"""The sink of a run with ``--resume``: frames are kept as they come, and joined at the end.

What an output makes of a frame goes into the log of the work folder. When the last
frame is there, the outputs are written from the log as they are from the pool in
other runs: encoded frames are copied, so the files are the same byte for byte.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vidmatte.core.frame import Clip, Frame, Point
from vidmatte.errors import OutputError
from vidmatte.jobs.checkpoint.encoded_frame import (
    EncodedFrame,
    Piece,
    encode_piece,
    is_there,
    unpack,
)
from vidmatte.jobs.checkpoint.folder import (
    CheckpointFolder,
    Files,
    checkpoint_path,
    size_and_time,
    sync_file,
    sync_folder,
)
from vidmatte.jobs.checkpoint.frame_log import Findings, FrameLog, Head, Summary, TornRecordError
from vidmatte.settings import Settings
from vidmatte.writers.base import Writer, WriteResult, already_finished_note
from vidmatte.writers.multi_writer import MultiWriter, PooledFrame, RenderWorker
from vidmatte.writers.output import Output, close_backgrounds
from vidmatte.writers.output_paths import output_paths

#: Frames that go through network and filters again before the first that is missing, besides
#: those that the filter over time looks back at.
_WARM_UP = 10
#: Frames before those that only the cut detector sees: it remembers a flash of a few.
_LEAD = 24


@dataclass
class _FrameTime:
    """What outputs need to know of a frame whose pixels are gone."""

    index: int
    pts: int
    duration: int
    time_base: Fraction


def open_checkpoint(
    clip: Clip, settings: Settings, outputs: Sequence[Output], facts: dict[str, Any]
) -> Writer:
    """The sink for a run with ``--resume``; takes up what an earlier one has left.

    facts: what decides the result besides the outputs. Raises UsageError, SinkError.
    """
    folder = CheckpointFolder(output_paths(outputs[0].spec.out).work)
    try:
        folder.open_for({**facts, "output": [_describe(output) for output in outputs]})
        if (found := folder.finished()) is None:
            return _CheckpointWriter(clip, settings, outputs, folder)
        close_backgrounds(outputs)
        return _FinishedWriter(folder, *found)
    except BaseException:
        close_backgrounds(outputs)
        folder.release()
        raise


def _describe(output: Output) -> dict[str, Any]:
    """What decides an output."""
    plan = output.spec
    return {
        "name": plan.out.name,
        "format": plan.row.name,
        "shows": type(plan.layer).__name__,
        "sound": plan.audio,
        "premultiplied": plan.premultiplied,
        "start_number": plan.start_number,
    }


class _FinishedWriter(Writer):
    """For a job that an earlier run has finished: nothing is written."""

    slots_held = 0

    def __init__(self, folder: CheckpointFolder, written: WriteResult, remarks: Findings) -> None:
        self._folder, self._remarks = folder, remarks
        notes = (*written.notes, already_finished_note(written.path))
        self._written = replace(written, notes=notes)

    def point(self, states: int, stride: int, look_back: int) -> Point:  # noqa: ARG002
        """See ``Sink.point``."""
        first = self._written.frames
        return Point(first=first, remarks=self._remarks, done=True, finished=True)

    def write(self, frame: Frame) -> None:
        """See ``Sink.write``."""
        frame.release()
        raise OutputError(f"{self._written.path} is finished: no frame more goes in")

    def close(self) -> WriteResult:
        """See ``Sink.close``."""
        self._folder.clear()
        self._folder.release()
        return self._written

    def abort(self) -> None:
        """See ``Sink.abort``."""
        self._folder.release()


class _CheckpointWriter(MultiWriter):
    """Frames into the work folder, and at the end from there into the outputs."""

    def __init__(
        self, clip: Clip, settings: Settings, outputs: Sequence[Output], folder: CheckpointFolder
    ) -> None:
        self._folder = folder
        self._summary = Summary()
        self._remarks: Findings = []
        self._is_open = False
        super().__init__(clip, settings, outputs)

    @property
    def kept(self) -> int:
        """See ``Sink.kept``."""
        return self._folder.log.count

    def point(self, states: int, stride: int, look_back: int) -> Point:
        """See ``Sink.point``."""
        found, log = self._summary, self._folder.log
        heads, start = dict(found.heads), max(0, found.count - look_back - _WARM_UP)
        start -= start % stride
        state = None
        if states and start:
            usable = [pair for pair in found.offsets if pair[0] <= start and not pair[0] % stride]
            start, offset = usable[-1] if usable else (0, 0)
            state = _recurrent_state(*log.record_at(offset)) if start else None
        lead = max(0, start - _LEAD)
        if lead not in heads:
            start = lead = 0
        return Point(
            lead=lead,
            start=start,
            first=found.count,
            pts=heads[lead]["pts"] if lead else 0,
            shots={index: head["new_shot"] for index, head in heads.items()},
            state=state if start else None,
            remarks=tuple(found.findings),
            done=found.complete,
        )

    def abort(self) -> None:
        """See ``Sink.abort``. What is kept stays."""
        super().abort()
        if self._is_open and not self.kept:
            self._folder.remove()
            for output in self._outputs:
                if _is_sequence(output) and output.partial.is_within:
                    shutil.rmtree(output.partial.path, ignore_errors=True)
        self._folder.release()
        self._is_open = False

    def _begin(self) -> None:
        for number, output in enumerate(self._each()):
            if _is_sequence(output):
                output.partial.path = self._pictures_of(output, number)
                output.partial.keep = True
                output.open()
        self._summary = self._folder.survey(self._is_whole)
        self._frames = self._summary.count
        self._remarks = list(self._summary.findings)
        self._is_open = True

    def _pictures_of(self, output: Output, number: int) -> Path:
        """Where the pictures of a sequence are kept: in a folder that is there already within
        it, from where they can be renamed whatever file system it is on."""
        path = self._folder.path / f"pictures-{number}"
        if not output.partial.is_within or path.is_dir():
            return path
        within = output.partial.path.with_name(f"{self._folder.path.name}-{number}")
        if within.is_dir() and not self._folder.log.path.exists():  # of work that was removed
            shutil.rmtree(within)
        return within

    def _is_whole(self, head: Head) -> bool:
        pairs = zip(self._outputs, head["pieces"], strict=True)
        return all(is_there(facts, _places(output)) for output, facts in pairs)

    def _work(self, worker: RenderWorker, job: PooledFrame) -> tuple[Frame, list[EncodedFrame]]:
        frame, pieces = super()._work(worker, job)
        pairs = zip(self._outputs, pieces, strict=True)
        return frame, [encode_piece(piece, output.partial.path) for output, piece in pairs]

    def _take(self, frame: Frame, pieces: list[EncodedFrame]) -> None:
        state = (frame.state or {}) if frame.wants_state else {}
        head = {
            "index": frame.index,
            "pts": frame.pts,
            "duration": frame.duration,
            "new_shot": frame.new_shot,
            "remarks": frame.findings,
            "pieces": [{**piece.facts, "size": len(piece.data)} for piece in pieces],
            "memory": [[name, array.dtype.str, list(array.shape)] for name, array in state.items()],
        }
        arrays = [array.tobytes() for array in state.values()]
        self._frames += 1
        if frame.findings:
            self._remarks.append((frame.index, frame.findings))
        if self._folder.log.append(head, [*(piece.data for piece in pieces), *arrays]):
            for output in self._outputs:
                if _is_sequence(output):
                    sync_folder(output.partial.path)

    def _finish(self) -> None:
        self._check_not_empty()
        self._folder.log.append({"complete": True}, [])
        self._folder.log.sync()
        files = self._join()
        for output in self._each():
            output.complete()
        for output in self._each():
            if _is_sequence(output):
                sync_folder(output.partial.path)
            else:
                sync_file(output.partial.path)
                place = str(checkpoint_path(output.spec.out))
                files[place] = {"": size_and_time(output.partial.path)}
        self._folder.mark(self._result(), files, self._remarks)
        for output in self._each():
            output.partial.commit()
            sync_folder(output.partial.final.parent)
            if output.partial.is_within:
                sync_folder(output.partial.final)
        self._folder.clear()
        self._folder.release()
        self._is_open = False

    def _join(self) -> Files:
        """Every output from the log; returns the files of picture sequences."""
        files: Files = {}
        for output in self._each():
            if not _is_sequence(output):
                output.open()
        log: FrameLog = self._folder.log
        try:
            for head, body in log.records():
                moment = _FrameTime(
                    head["index"], head["pts"], head["duration"], self._clip.time_base
                )
                for output, piece, facts in zip(
                    self._each(), self._pieces(head, body), head["pieces"], strict=True
                ):
                    output.add(piece, moment)
                    if facts["kind"] == "file":
                        place = files.setdefault(str(checkpoint_path(output.spec.out)), {})
                        place[facts["name"]] = [facts["bytes"]]
        except TornRecordError:
            raise OutputError(
                f"{log.path} was damaged while the run went on: run it again with --resume"
            ) from None
        return files

    def _pieces(self, head: Head, body: bytes) -> list[Piece]:
        pieces, at = [], 0
        for output, facts in zip(self._outputs, head["pieces"], strict=True):
            data = body[at : at + facts["size"]]
            pieces.append(unpack(facts, data, _places(output)))
            at += facts["size"]
        return pieces


def _places(output: Output) -> tuple[Path, ...]:
    """Where a sequence's pictures are: in the work folder, or already under their final names."""
    return output.partial.path, output.partial.final


def _is_sequence(output: Output) -> bool:
    """Whether the output is many files, which are written as soon as they are encoded."""
    return output.spec.row.container is None


def _recurrent_state(head: Head, body: bytes) -> dict[str, np.ndarray]:
    """The state of a recurrent network that a record holds."""
    at = sum(facts["size"] for facts in head["pieces"])
    state = {}
    for name, kind, shape in head["memory"]:
        count = int(np.prod(shape, dtype=np.int64))
        state[name] = np.frombuffer(body, kind, count, at).reshape(shape).copy()
        at += state[name].nbytes
    return state

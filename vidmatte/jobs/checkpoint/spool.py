"""The spool on disk: the encoded frames of a run with ``--resume``, in its work folder.

The encoded frames of movies are in the log; those of picture sequences are files in folders
beside it. After the last frame the outputs are joined from the spool. Encoded frames
are copied, so the files are byte for byte those of a run without a spool.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vidmatte.core.frame import Clip
from vidmatte.core.segment import History, State
from vidmatte.errors import OutputError
from vidmatte.jobs.checkpoint.folder import (
    CheckpointFolder,
    Files,
    checkpoint_path,
    size_and_time,
    sync_file,
    sync_folder,
)
from vidmatte.jobs.checkpoint.frame_log import Head, Summary, TornRecordError
from vidmatte.writers.base import WriteResult
from vidmatte.writers.encoded_frame import file_facts, is_file_intact
from vidmatte.writers.output import Output, OutputSpec
from vidmatte.writers.spool import Spool, SpooledFrame


def open_checkpoint(
    path: Path, clip: Clip, specs: Sequence[OutputSpec], facts: dict[str, Any], first: int = 0
) -> _Checkpoint:
    """The spool in the work folder ``path``, with the frames that an earlier run stored there.

    facts: what determines the frames besides the outputs. first: the number of the first frame
    that it stores. Raises UsageError that names what differs, OutputError.
    """
    folder = CheckpointFolder(path, first)
    folder.open_for({**facts, "output": describe_outputs(specs)})
    return _Checkpoint(folder, clip.time_base)


def describe_outputs(specs: Sequence[OutputSpec]) -> list[dict[str, Any]]:
    """What determines each output."""
    return [
        {
            "name": spec.out.name,
            "format": spec.row.name,
            "shows": type(spec.layer).__name__,
            "sound": spec.audio,
            "premultiplied": spec.premultiplied,
            "start_number": spec.start_number,
        }
        for spec in specs
    ]


class _Checkpoint(Spool):
    """Encoded frames in an open work folder; see ``open_checkpoint``."""

    def __init__(self, folder: CheckpointFolder, time_base: Fraction) -> None:
        self._folder = folder
        self._time_base = time_base
        self._outputs: Sequence[Output] = ()
        self._summary = Summary()
        self._findings: list[tuple[int, dict[str, list[str]]]] = []
        self._is_complete = False
        self._is_open = False

    @property
    def first(self) -> int:
        """See ``Spool.first``."""
        return self._folder.log.first

    @property
    def count(self) -> int:
        """See ``Spool.count``."""
        return self._folder.log.count

    @property
    def is_complete(self) -> bool:
        """See ``Spool.is_complete``."""
        return self._is_complete

    def open(self, outputs: Sequence[Output]) -> None:
        """See ``Spool.open``. A damaged record and all after it are cut off. Raises UsageError
        where a picture of the source has changed whose frame is done."""
        self._outputs = outputs
        for number, output in enumerate(outputs):
            if output.is_sequence:
                output.partial.path = self._pictures_of(output, number)
                output.partial.keep = True
                output.open()
        self._summary = self._folder.survey(self._is_intact)
        self._is_complete = self._summary.complete
        self._findings = list(self._summary.findings)
        self._is_open = True

    def history(self) -> History:
        """See ``Spool.history``."""
        heads = dict(self._summary.heads)
        return History(
            times={index: head["pts"] for index, head in heads.items()},
            shots={index: head["new_shot"] for index, head in heads.items()},
            states={index: partial(self._state_at, at) for index, at in self._summary.offsets},
            findings=tuple(self._summary.findings),
        )

    def put(self, record: SpooledFrame) -> None:
        """See ``Spool.put``. Every few seconds everything is synced to the disk."""
        if record.findings:
            self._findings.append((record.index, record.findings))
        if self._folder.log.append(*record_to_log(record)):
            for output in self._outputs:
                if output.is_sequence:
                    sync_folder(output.partial.path)

    def finish(self) -> None:
        """See ``Spool.finish``."""
        if not self._is_complete:
            self._folder.log.append({"complete": True}, [])
            self._is_complete = True
        self._folder.log.sync()

    def records(self) -> Iterator[SpooledFrame]:
        """See ``Spool.records``. Raises OutputError for a damaged record."""
        log = self._folder.log
        try:
            for head, body in log.records():
                yield record_from_log(head, body, self._time_base)
        except TornRecordError:
            raise OutputError(
                f"{log.path} was damaged during the run: run it again with --resume"
            ) from None

    def folders(self, number: int) -> tuple[Path, ...]:
        """See ``Spool.folders``: in the work folder, or already under their final names."""
        return self._outputs[number].partial.path, self._outputs[number].partial.final

    def seal(self, result: WriteResult) -> None:
        """See ``Spool.seal``. From then on the job counts as finished while all its files exist."""
        self._folder.mark(result, synced_files(self._outputs), self._findings)

    def clear(self) -> None:
        """See ``Spool.clear``. The note that the job is finished stays."""
        for output in self._outputs:
            sync_folder(output.partial.final.parent)
            if output.partial.is_within:
                sync_folder(output.partial.final)
        self._folder.clear()
        self._folder.release()
        self._is_open = False

    def close(self) -> None:
        """See ``Spool.close``. A work folder without frames is removed."""
        log = self._folder.log.path
        is_unused = not log.exists() or not log.stat().st_size  # as where the disk is full
        if (self._is_open or is_unused) and not self.count:
            self._folder.remove()
            for output in self._outputs:
                if output.is_sequence and output.partial.is_within:
                    shutil.rmtree(output.partial.path, ignore_errors=True)
        self._folder.release()
        self._is_open = False

    def _pictures_of(self, output: Output, number: int) -> Path:
        """Where the pictures of a sequence are stored: within its own folder where that exists, so
        that they can be renamed without changing the file system."""
        path = self._folder.path / f"pictures-{number}"
        if not output.partial.is_within or path.is_dir():
            return path
        within = output.partial.path.with_name(f"{self._folder.path.name}-{number}")
        if within.is_symlink():
            raise OutputError(f"{within} is a link, which its work never is: remove the link")
        if within.is_dir() and not self._folder.log.path.exists():
            shutil.rmtree(within)  # of a work folder that was removed
        return within

    def _is_intact(self, head: Head) -> bool:
        """Whether the picture files of a record exist unchanged."""
        return all(
            one["file"] is None or is_file_intact(one["file"], self.folders(number))
            for number, one in enumerate(head["encoded"])
        )

    def _state_at(self, offset: int) -> State:
        """The recurrent state in the record that begins at ``offset`` of the log."""
        record = record_from_log(*self._folder.log.record_at(offset), self._time_base)
        return {name: array.copy() for name, array in record.state.items()}


def synced_files(outputs: Sequence[Output]) -> Files:
    """The files of complete outputs before they get their final names, synced to the disk."""
    files: Files = {}
    for output in outputs:
        final, path = str(checkpoint_path(output.spec.out)), output.partial.path
        if output.is_sequence:
            sync_folder(path)
            files[final] = {name: [size] for name, size in output.file_sizes.items()}
        else:
            sync_file(path)
            files[final] = {"": size_and_time(path)}
    return files


def record_to_log(record: SpooledFrame) -> tuple[Head, list[bytes | memoryview]]:
    """A frame's head and body for ``FrameLog.append``."""
    head = {
        "index": record.index,
        "pts": record.pts,
        "duration": record.duration,
        "new_shot": record.new_shot,
        "findings": record.findings,
        "encoded": [{"size": len(one), "file": file_facts(one)} for one in record.encoded],
        "state": [[name, a.dtype.str, list(a.shape)] for name, a in record.state.items()],
    }
    return head, [*record.encoded, *(array.tobytes() for array in record.state.values())]


def record_from_log(head: Head, body: bytes, time_base: Fraction) -> SpooledFrame:
    """The inverse of ``record_to_log``. time_base: the clip's."""
    view, at = memoryview(body), 0
    stored = [np.dtype(kind).itemsize * math.prod(shape) for _, kind, shape in head["state"]]
    if sum(one["size"] for one in head["encoded"]) + sum(stored) > len(body):
        raise TornRecordError
    encoded = []
    for one in head["encoded"]:
        encoded.append(view[at : at + one["size"]])
        at += one["size"]
    state = {}
    for name, kind, shape in head["state"]:
        count = int(np.prod(shape, dtype=np.int64))
        state[name] = np.frombuffer(body, kind, count, at).reshape(shape)
        at += state[name].nbytes
    return SpooledFrame(
        index=head["index"],
        pts=head["pts"],
        duration=head["duration"],
        time_base=time_base,
        encoded=encoded,
        new_shot=head["new_shot"],
        findings=head["findings"],
        state=state,
    )

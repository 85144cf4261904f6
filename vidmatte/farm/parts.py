"""The segments of a plan on disk: how one is stored, checked, and read for the join.

``00003`` holds segment 3: ``frames.log`` its encoded frames, ``pictures-N`` the picture files of
output N, ``segment.json`` what it is. It gets that name when it is complete.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from uuid import uuid4

from vidmatte.core.segment import Findings
from vidmatte.core.source import sha256_of
from vidmatte.errors import OutputError, SourceError
from vidmatte.farm.plan import Environment, Plan, PlanModel, PlannedSegment
from vidmatte.jobs.checkpoint.folder import LOG, note_files, sync_folder
from vidmatte.jobs.checkpoint.frame_log import FrameLog, TornRecordError
from vidmatte.jobs.checkpoint.spool import record_from_log, record_to_log, synced_files
from vidmatte.writers.base import WriteResult, as_output_error
from vidmatte.writers.encoded_frame import file_facts, is_file_intact
from vidmatte.writers.output import Output
from vidmatte.writers.spool import Spool, SpooledFrame

MANIFEST, JOINED = "segment.json", "joined.json"


class SegmentManifest(PlanModel):
    """What a finished segment is. plan: the plan's digest. sha256: of its log, which holds the
    checksums of its picture files. differences: see ``Environment.differences``. lost, doubtful:
    see ``Quality``."""

    plan: str
    number: int
    first: int
    frames: int
    sha256: str
    environment: Environment
    differences: tuple[str, ...] = ()
    host: str
    seconds: float
    warnings: tuple[str, ...] = ()
    lost: tuple[int, ...] = ()
    doubtful: tuple[int, ...] = ()


def _segment_path(folder: Path, number: int) -> Path:
    """Where a finished segment is."""
    return folder / f"{number:05d}"


def new_segment_folder(folder: Path, number: int) -> Path:
    """A new folder for a segment that is being made, with a name of its own. Raises OutputError."""
    path = folder / f".{number:05d}-{uuid4().hex[:12]}"
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise as_output_error(error, path) from error
    return path


def finished_segment(plan: Plan, folder: Path, number: int) -> SegmentManifest | None:
    """The manifest of a segment that is finished; None where it is not, or where what is stored
    is another plan's. Its frames are not read."""
    path = _segment_path(folder, number)
    try:
        found = SegmentManifest.read(path / MANIFEST, "segment")
    except SourceError:
        return None
    is_ours = (found.plan, found.number) == (plan.digest, number)
    return found if is_ours and (path / LOG).is_file() else None


def commit_segment(plan: Plan, made: Path, folder: Path, manifest: SegmentManifest) -> None:
    """Give a segment its final name. Where another process was faster, its segment stays and
    this one is removed. Raises OutputError."""
    final = _segment_path(folder, manifest.number)
    manifest.write(made / MANIFEST)
    try:
        for pictures in made.glob("pictures-*"):
            sync_folder(pictures)
        sync_folder(made)
        for _ in range(2):
            try:
                made.rename(final)
                sync_folder(folder)
                return
            except OSError:
                if not final.is_dir():
                    raise
            if finished_segment(plan, folder, manifest.number) is not None:
                shutil.rmtree(made)
                return
            # What stands there is incomplete or another plan's.
            stale = final.rename(folder / f".stale-{uuid4().hex[:12]}")
            shutil.rmtree(stale)
    except OSError as error:
        raise as_output_error(error, final) from error
    raise OutputError(f"{final}: another process keeps replacing it: stop that one")


class SegmentSpool(Spool):
    """The spool of a segment that is being made in ``folder``. first: its first frame."""

    is_complete = False
    stores_state = False

    def __init__(self, folder: Path, first: int) -> None:
        self._folder = folder
        self._log = FrameLog(folder / LOG, first)
        self._outputs: Sequence[Output] = ()

    @property
    def first(self) -> int:
        """See ``Spool.first``."""
        return self._log.first

    @property
    def count(self) -> int:
        """See ``Spool.count``."""
        return self._log.count

    def open(self, outputs: Sequence[Output]) -> None:
        """See ``Spool.open``."""
        self._outputs = outputs
        for number, output in enumerate(outputs):
            if output.is_sequence:
                output.partial.path = _pictures(self._folder, number)
                output.partial.keep = True
                output.open()
        self._log.open(self._log.survey(lambda _: True))

    def put(self, record: SpooledFrame) -> None:
        """See ``Spool.put``."""
        self._log.append(*record_to_log(record))

    def finish(self) -> None:
        """See ``Spool.finish``."""
        self._log.append({"complete": True}, [])
        self._log.sync()
        self.is_complete = True

    def records(self) -> Iterator[SpooledFrame]:
        """See ``Spool.records``: a segment is joined elsewhere."""
        raise RuntimeError(f"{self._folder}: a segment in the making is not joined")

    def folders(self, number: int) -> tuple[Path, ...]:
        """See ``Spool.folders``."""
        return (self._outputs[number].partial.path,)

    def seal(self, result: WriteResult) -> None:
        """See ``Spool.seal``: there is no result here."""

    def clear(self) -> None:
        """See ``Spool.clear``: the frames are the result."""

    def close(self) -> None:
        """See ``Spool.close``."""
        self._log.close()


class JoinedSpool(Spool):
    """The finished segments of a plan, in order, read as one spool.

    Nothing in them is changed: pictures are linked or copied to the result, so that a join that
    was stopped can be repeated. advance: called after each frame. work: the work folder of a local
    run, which records its results.
    """

    is_complete = True
    stores_state = False

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        manifests: Sequence[SegmentManifest],
        advance: Callable[[], None],
        work: Path | None = None,
    ) -> None:
        self._work = work
        self._plan, self._folder, self._advance = plan, folder, advance
        self._manifests = manifests
        self._time_base = Fraction(plan.time_base)
        self._outputs: Sequence[Output] = ()
        self._findings: list[tuple[int, dict[str, list[str]]]] = []

    @property
    def first(self) -> int:
        """See ``Spool.first``."""
        return 0

    @property
    def count(self) -> int:
        """See ``Spool.count``."""
        return sum(one.frames for one in self._manifests)

    @property
    def findings(self) -> Findings:
        """Those of the frames that were read so far."""
        return self._findings

    def open(self, outputs: Sequence[Output]) -> None:
        """See ``Spool.open``."""
        self._outputs = outputs
        for output in outputs:
            if output.is_sequence:
                output.open()

    def put(self, record: SpooledFrame) -> None:
        """See ``Spool.put``: all frames are there."""
        raise RuntimeError(f"{self._folder}: frame {record.index} cannot be added")

    def finish(self) -> None:
        """See ``Spool.finish``."""

    def records(self) -> Iterator[SpooledFrame]:
        """See ``Spool.records``. Raises OutputError for a segment that is damaged."""
        for manifest in self._manifests:
            path = _segment_path(self._folder, manifest.number)
            log = FrameLog(path / LOG, manifest.first)
            log.count = manifest.frames
            try:
                for head, body in log.records():
                    record = record_from_log(head, body, self._time_base)
                    self._link_pictures(path, record)
                    if record.findings:
                        self._findings.append((record.index, record.findings))
                    yield record
                    self._advance()
            except TornRecordError:
                raise damaged(path, "its frames") from None

    def folders(self, number: int) -> tuple[Path, ...]:
        """See ``Spool.folders``."""
        return (self._outputs[number].partial.path,)

    def seal(self, result: WriteResult) -> None:
        """See ``Spool.seal``: results that exist after this are the plan's."""
        if self._work is not None:
            note_files(self._work, synced_files(self._outputs))
        Joined(plan=self._plan.digest, out=str(result.path)).write(self._folder / JOINED)

    def clear(self) -> None:
        """See ``Spool.clear``: whoever joins removes the segments."""

    def close(self) -> None:
        """See ``Spool.close``: nothing is open."""

    def _link_pictures(self, path: Path, record: SpooledFrame) -> None:
        """Bring the picture files of a frame into the outputs' folders. Raises OutputError."""
        for number, stored in enumerate(record.encoded):
            facts = file_facts(stored)
            if facts is None:
                continue
            source = _pictures(path, number)
            if not is_file_intact(facts, [source]):
                raise damaged(path, f"{source.name}/{facts['name']}")
            target = self._outputs[number].partial.path / facts["name"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            try:
                os.link(source / facts["name"], target)
            except OSError:  # another disk, or one without links
                shutil.copyfile(source / facts["name"], target)


class Joined(PlanModel):
    """Written before a result gets its name. plan: the plan's digest."""

    plan: str
    out: str


def check_segment(folder: Path, segment: PlannedSegment, manifest: SegmentManifest) -> None:
    """Raise OutputError unless a finished segment is what its plan asks for, byte for byte."""
    path = _segment_path(folder, segment.number)
    if manifest.first != segment.first or segment.frames not in (None, manifest.frames):
        last = "the end" if segment.stop is None else segment.stop - 1
        raise damaged(
            path,
            f"{manifest.frames} frames from {manifest.first} on, planned {segment.first} to {last}",
        )
    if sha256_of(path / LOG) != manifest.sha256:
        raise damaged(path, LOG)


def damaged(path: Path, what: str) -> OutputError:
    """The error for a segment that cannot be used."""
    return OutputError(
        f"{path} is damaged ({what}): remove it and run segment {int(path.name)} again"
    )


def _pictures(folder: Path, number: int) -> Path:
    """Where a segment's pictures of output ``number`` are."""
    return folder / f"pictures-{number}"

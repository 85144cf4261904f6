"""The plan of a job: a JSON file with all that the makers of its segments need to know."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from vidmatte.core.remote import local_path, origin_of
from vidmatte.core.segment import History, Segment
from vidmatte.core.source import sha256_of, sha256_of_all
from vidmatte.errors import OutputError, SourceError, SourceMissingError, UsageError
from vidmatte.readers.image_folder import files_of
from vidmatte.settings import Settings
from vidmatte.writers.base import as_output_error


class PlanModel(BaseModel):
    """A part of a plan, or of what is written beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def read(cls, path: Path, what: str) -> Self:
        """The content of a JSON file. what: for errors. Raises SourceMissingError, SourceError."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise SourceMissingError(f"{path}: no such {what}") from error
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            where = ".".join(map(str, fault["loc"])) or "its text"
            raise SourceError(
                f"{path}: not a {what} of this version ({where}: {fault['msg']}): make it again"
            ) from None

    def write(self, path: Path) -> None:
        """Write the file: it is complete or missing, whatever happens. Raises OutputError."""
        unfinished = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
        try:
            with unfinished.open("w", encoding="utf-8") as file:
                file.write(self.model_dump_json(indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise as_output_error(error, path) from error


class FileIdentity(PlanModel):
    """A file or folder that is read, by its path or URL. bytes: of all files. state: SHA-256 of
    their names, sizes and modification times. sha256: of the content."""

    path: str
    bytes: int
    state: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileIdentity:
        """The identity of a file or folder; reads all of it. Raises OSError."""
        files = files_of(path)
        size, state = _size_and_state(files)
        return cls(path=str(path), bytes=size, state=state, sha256=_content(path, files))

    def check(self) -> None:
        """Raise SourceError unless the file is still the same. Its content is read only where its
        time differs, as that of a copy may. Raises SourceMissingError."""
        path = local_path(self.path)
        if not path.exists():
            raise SourceMissingError(f"{path}: no such file or folder here, as the plan has it")
        try:
            files = files_of(path)
            size, state = _size_and_state(files)
            if state == self.state or (size == self.bytes and _content(path, files) == self.sha256):
                return
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}") from error
        raise SourceError(
            f"{path} has changed since the plan was made ({size} bytes, {self.bytes} in the plan):"
            " plan again"
        )


def _size_and_state(files: Sequence[Path]) -> tuple[int, str]:
    states = [(file.name, file.stat()) for file in files]
    lines = [f"{name} {found.st_size} {found.st_mtime_ns}\n" for name, found in states]
    text = "".join(lines).encode("utf-8", "surrogateescape")
    return sum(found.st_size for _, found in states), hashlib.sha256(text).hexdigest()


def _content(path: Path, files: Sequence[Path]) -> str:
    return sha256_of(path) if path.is_file() else sha256_of_all(files)


class Environment(PlanModel):
    """What the bytes of a result depend on besides source, weights and settings."""

    version: str
    device: str
    runtimes: tuple[str, ...]
    instruction_set: tuple[str, ...]
    libraries: dict[str, str]

    def differences(self, planned: Environment) -> list[str]:
        """How this environment differs from the plan's, a clause each."""
        named = {"vidmatte": (self.version, planned.version)}
        named["device"] = (self.device, planned.device)
        named["runtime"] = ("; ".join(self.runtimes), "; ".join(planned.runtimes))
        for name in sorted({*self.libraries, *planned.libraries}):
            named[name] = self.libraries.get(name, "none"), planned.libraries.get(name, "none")
        clauses = [
            f"{name} {here}, {there} in the plan"
            for name, (here, there) in named.items()
            if here != there
        ]
        ours, theirs = set(self.instruction_set), set(planned.instruction_set)
        missing, more = sorted(theirs - ours), sorted(ours - theirs)
        if missing or more:
            parts = [f"without {' '.join(missing)}"] if missing else []
            parts += [f"with {' '.join(more)}"] if more else []
            clauses.append(f"instruction set {' and '.join(parts)}, unlike the plan's")
        return clauses


class PlannedWeights(PlanModel):
    """The weights of one network."""

    name: str
    family: str
    sha256: str


class PlannedSegment(PlanModel):
    """See ``core.segment.Segment``. lead_pts, first_pts: in the clip's time base, 0 at its in
    point; the first is where a reader seeks."""

    number: int
    lead: int
    start: int
    first: int
    stop: int | None
    lead_pts: int
    first_pts: int

    @property
    def frames(self) -> int | None:
        """How many frames it writes; None to the end of a clip of unknown length."""
        return None if self.stop is None else self.stop - self.first

    @property
    def range(self) -> Segment:
        """Its frame numbers."""
        return Segment(self.lead, self.start, self.first, self.stop)


class Plan(PlanModel):
    """A job, cut into segments. All paths are absolute; source and output may be URLs.

    settings: every option by name. files: those that options name, like masks. threads: of each
    network, whatever the machine has. frames: None where the clip was not decoded for the plan,
    which then has one segment. shots: the frames that begin one; None: found when it is made.
    """

    plan: Literal[1] = 1
    source: FileIdentity
    output: str
    is_folder: bool
    settings: dict[str, Any]
    files: tuple[FileIdentity, ...]
    model: str
    weights: tuple[PlannedWeights, ...]
    environment: Environment
    threads: int
    time_base: str
    frames: int | None
    shots: tuple[int, ...] | None
    segments: tuple[PlannedSegment, ...]
    warnings: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the plan, by which a segment says what it belongs to."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def at_origin(self) -> Plan:
        """The plan with the source's URL, where its path is that of a copy."""
        url = origin_of(Path(self.source.path))
        if url is None:
            return self
        return self.model_copy(update={"source": self.source.model_copy(update={"path": url})})

    def make_settings(self) -> Settings:
        """The options of the job, with the plan's runtime where that was left to each machine.
        Raises UsageError."""
        settings = Settings(**self.settings)
        kinds = {name.partition(",")[0].lower() for name in self.environment.runtimes}
        if settings.runtime == "auto" and len(kinds) == 1:
            return settings.changed(runtime=kinds.pop())
        return settings

    def segment(self, number: int) -> PlannedSegment:
        """A segment by its number. Raises UsageError."""
        if not 0 <= number < len(self.segments):
            raise UsageError(f"segment {number}: the plan has 0 to {len(self.segments) - 1}")
        return self.segments[number]

    def history(self, segment: PlannedSegment) -> History:
        """What is known of the clip's frames, for the run over a segment."""
        if self.shots is None or self.frames is None:
            return History()
        cuts = set(self.shots)
        shots = {index: index in cuts for index in range(self.frames)}
        return History(times={segment.lead: segment.lead_pts}, shots=shots)

    def check_files(self) -> None:
        """Raise SourceError where the source or another file that is read has changed."""
        for file in (self.source, *self.files):
            file.check()


def segments_folder(plan: Path) -> Path:
    """The folder for the segments of the plan in a file. Raises OutputError."""
    name = plan.name.removesuffix(".json")
    if name == plan.name:
        raise OutputError(f"{plan}: the name of a plan ends in .json")
    return plan.with_name(f"{name}.segments")

"""Makes one segment of a plan, on whatever machine this is."""

from __future__ import annotations

import platform
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from vidmatte.alpha.guidance.subject_fields import SubjectFields
from vidmatte.core.remote import local_path
from vidmatte.core.source import sha256_of
from vidmatte.errors import InterruptedRunError, UsageError, VidmatteError
from vidmatte.farm.environment import check_environment, check_weights, environment_of
from vidmatte.farm.parts import (
    SegmentManifest,
    SegmentSpool,
    commit_segment,
    finished_segment,
    new_segment_folder,
)
from vidmatte.farm.plan import Plan, PlannedSegment
from vidmatte.jobs.checkpoint.folder import LOG
from vidmatte.jobs.outputs import open_outputs
from vidmatte.jobs.pipeline import build_pipeline
from vidmatte.jobs.queue import Cancelled
from vidmatte.jobs.report import Progress, Reporter
from vidmatte.jobs.subjects import subject_fields
from vidmatte.models.registry import Model, choose_model
from vidmatte.readers.base import Reader
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

_EXTRA_OUTPUTS = ("matte", "foreground_file", "comp")


def make_segment(
    plan: Plan,
    folder: Path,
    number: int,
    reporter: Reporter,
    *,
    mixed: bool = False,
    model: Model | None = None,
) -> SegmentManifest:
    """Make a segment in the plan's ``folder``; nothing is done where it is finished.

    It may be made twice, also at the same time: the first that is complete stays. mixed: also on
    a machine that differs from the plan's. model: loaded for another segment with the same
    settings. Raises UsageError that names what differs, SourceError, OutputError,
    InterruptedRunError.
    """
    segment = plan.segment(number)
    if (found := finished_segment(plan, folder, number)) is not None:
        reporter.note(f"segment {number} is finished already")
        return found
    plan.check_files()
    settings = plan.make_settings()
    if model is None:
        model = choose_model(settings).fetch(reporter.note, quiet=reporter.is_quiet)
    check_weights(model, plan)
    differences = check_environment(environment_of(model), plan, mixed=mixed)
    made = new_segment_folder(folder, number)
    try:
        manifest = _Making(plan, segment, model, reporter, made).run(tuple(differences))
        commit_segment(plan, made, folder, manifest)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return manifest


@dataclass(frozen=True)
class _Making:
    """One segment in the making, in the folder ``made``."""

    plan: Plan
    segment: PlannedSegment
    model: Model
    reporter: Reporter
    made: Path

    def run(self, differences: tuple[str, ...]) -> SegmentManifest:
        """Process the segment's frames; what it is then."""
        began = time.perf_counter()
        settings = self._own_settings()
        with open_reader(local_path(self.plan.source.path), settings) as source:
            with subject_fields(source, self.model, settings, self.reporter) as subject:
                frames = self._write(source, settings, subject)
            warnings = tuple(source.warnings)
        return SegmentManifest(
            plan=self.plan.digest,
            number=self.segment.number,
            first=self.segment.first,
            frames=frames,
            sha256=sha256_of(self.made / LOG),
            environment=environment_of(self.model),
            differences=differences,
            host=platform.node(),
            seconds=round(time.perf_counter() - began, 3),
            warnings=warnings,
            lost=() if subject is None else tuple(subject.lost),
            doubtful=() if subject is None else tuple(subject.doubtful),
        )

    def _own_settings(self) -> Settings:
        """The plan's settings, with the names of extra outputs within the segment's folder."""
        settings = self.plan.make_settings()
        changes = {
            name: str(self.made / "names" / name / Path(text).name) + text[len(text.rstrip("/")) :]
            for name in _EXTRA_OUTPUTS
            if (text := getattr(settings, name))
        }
        for name in ("main", *changes):
            (self.made / "names" / name).mkdir(parents=True, exist_ok=True)
        return settings.changed(**changes)

    def _write(self, source: Reader, settings: Settings, subject: SubjectFields | None) -> int:
        """Write the segment's frames to its spool; how many there are."""
        plan, segment = self.plan, self.segment
        out = self.made / "names" / "main" / Path(plan.output).name
        spool = SegmentSpool(self.made, segment.first)
        with open_outputs(
            out, source.clip, settings, is_folder=plan.is_folder, spool=spool
        ) as writer:
            pipeline = build_pipeline(
                source,
                self.model,
                settings,
                writer,
                first=segment.first,
                stop=segment.stop,
                history=plan.history(segment),
                subject=subject,
            )
            progress = Progress(source.clip.source.name, segment.frames)
            try:
                if pipeline.segment != segment.range:
                    raise UsageError(
                        f"segment {segment.number}: {pipeline.segment} here, {segment.range} in"
                        " the plan: plan again on a machine like this one"
                    )
                self.reporter.start(progress)
                for _ in pipeline.pipeline:
                    progress.done += 1
                    progress.has_worked(pipeline.busy_seconds())
                    self.reporter.advance(progress)
                writer.finish_spool()
            except (KeyboardInterrupt, Cancelled):
                raise InterruptedRunError(
                    f"stopped: segment {segment.number} is not made"
                ) from None
            finally:
                pipeline.close()
                self.reporter.finish()
        shutil.rmtree(self.made / "names")
        expected = segment.frames
        if not spool.count or expected not in (None, spool.count):
            raise VidmatteError(
                f"segment {segment.number}: {spool.count} frames decoded, {expected} planned: has"
                f" {plan.source.path} changed? plan again"
            )
        return spool.count

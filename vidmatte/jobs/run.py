"""One job: every frame of a source into its output, with progress, resuming and manifest."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from vidmatte.alpha.quality import Quality
from vidmatte.core.frame import Clip
from vidmatte.errors import InterruptedRunError, VidmatteError
from vidmatte.jobs.outputs import open_writer
from vidmatte.jobs.pipeline import build_pipeline
from vidmatte.jobs.queue import Cancelled
from vidmatte.jobs.report import Progress, Reporter
from vidmatte.jobs.resume import (
    already_done,
    facts_of,
    has_manifest,
    leftovers,
    merged_quality,
    merged_warnings,
)
from vidmatte.models.registry import Model, Weights
from vidmatte.readers.base import Reader
from vidmatte.settings import Settings
from vidmatte.writers.base import WriteResult
from vidmatte.writers.output_paths import output_paths

#: Bytes that take about a second to be read and summed up.
LONG_READ = 1 << 29


@dataclass(frozen=True)
class Result:
    """What a run has written, and how it went.

    busy_seconds: work by stage, without its waiting. quality: what looks wrong in the
    mattes. resumed_at: how many of the frames earlier runs had finished. manifest: where
    it stands, None without one. source: the file or folder, None where the source is neither
    (``clip.source`` names it). weights: the model's, each with ``name``, ``path`` and
    ``sha256`` (64 hexadecimal digits, computed when it is asked for unless it is known).
    """

    source: Path | None
    clip: Clip
    written: WriteResult
    model: str
    device: str
    seconds: float
    busy_seconds: dict[str, float]
    warnings: tuple[str, ...]
    quality: Quality
    resumed_at: int = 0
    manifest: Path | None = None
    weights: tuple[Weights, ...] = ()

    @property
    def fps(self) -> float:
        """Frames done a second, by this run."""
        return (self.written.frames - self.resumed_at) / self.seconds if self.seconds else 0.0


def run(
    source: Reader,
    output: Path,
    model: Model,
    settings: Settings,
    reporter: Reporter,
    command: Sequence[str] = (),
    *,
    is_folder: bool = False,
) -> Result:
    """One job with a loaded model: every frame of ``source`` into ``output``.

    Ctrl+C stops it cleanly and raises InterruptedRunError; no thread is left, and nothing
    under the output's name that is not whole. command: what the manifest says of the call.
    is_folder: ``output`` is a folder for pictures, though its name may look like a picture's.
    """
    began = time.perf_counter()
    clip = source.clip
    result_of = partial(
        Result, source=clip.source.path, clip=clip, model=model.name, weights=model.weights
    )
    if (written := already_done(output, clip, model, settings)) is not None:
        return result_of(
            written=written,
            device=model.device.name,
            seconds=time.perf_counter() - began,
            busy_seconds={},
            warnings=written.notes,
            quality=Quality(),
            resumed_at=written.frames,
            manifest=output_paths(output).manifest,
        )
    facts = facts_of(clip, model, settings) if settings.resume else None
    with open_writer(output, clip, settings, facts, is_folder=is_folder) as sink:
        path = build_pipeline(source, model, settings, sink)
        point = path.point
        progress = Progress(clip.source.name, clip.frame_count, point.first, before=point.first)
        reporter.start(progress)
        try:
            for _ in path.pipeline:
                progress.done += 1
                progress.has_worked(path.busy_seconds())
                reporter.advance(progress)
            written = sink.close()
            progress.has_worked(path.busy_seconds())
        except (KeyboardInterrupt, Cancelled):
            path.close()
            sink.abort()
            stays = f"; --resume goes on from frame {sink.kept}" if sink.kept else ""
            raise InterruptedRunError(
                f"stopped after {progress.done} frames: {output} was not written{stays}"
            ) from None
        except VidmatteError:
            if sink.kept:
                reporter.note(f"vidmatte: --resume goes on from frame {sink.kept} of {output.name}")
            raise
        finally:
            path.close()
            reporter.finish()
    source.warnings.extend(_missing_frames(clip, progress.done))
    result = result_of(
        written=written,
        device=model.device.name,
        seconds=time.perf_counter() - began,
        busy_seconds=progress.busy,
        warnings=(
            *merged_warnings(source.warnings, point),
            *_all_notes(written),
            *(() if settings.resume else leftovers(output)),
        ),
        quality=merged_quality(path.quality, point),
        resumed_at=point.first,
        manifest=output_paths(written.path).manifest if settings.manifest else None,
    )
    if settings.manifest and not (point.finished and has_manifest(written.path)):
        _announce_hashing(result, reporter)
        _write_manifest(result, model, settings, command)
    return result


def _missing_frames(clip: Clip, done: int) -> Iterator[str]:
    """A warning where fewer frames came than the container announced."""
    if clip.frame_count is not None and done < clip.frame_count:
        yield f"{clip.source.name}: {clip.frame_count} frames were announced, {done} came"


def _announce_hashing(result: Result, reporter: Reporter) -> None:
    """Say what goes on where the checksums of a manifest take more than a moment."""
    from vidmatte.jobs.manifest import size_of

    outputs = (result.written, *result.written.extra_outputs)
    size = sum(size_of(file) for file in result.clip.source.files()) + sum(
        one.bytes for one in outputs
    )
    if size >= LONG_READ:
        done = f"{result.written.path.name} is written"
        reporter.note(
            f"vidmatte: {done}; {size / 1e9:.1f} GB are read for its manifest's checksums"
        )


def _all_notes(written: WriteResult) -> Iterator[str]:
    """What is to be said of a result, and of its sides what is not said of it too."""
    yield from written.notes
    for side in written.extra_outputs:
        yield from (f"{side.path.name}: {note}" for note in side.notes if note not in written.notes)


def _write_manifest(
    result: Result, model: Model, settings: Settings, command: Sequence[str]
) -> None:
    """Write the JSON file that says what a result is. Raises SinkError, InterruptedRunError."""
    from vidmatte.jobs import manifest

    making = manifest.Provenance(
        command=command,
        model=model.name,
        weights="+".join(part.sha256 for part in model.weights),
        device=model.device.name,
        settings=asdict(settings),
        warnings=(*result.warnings, *result.quality.lines()),
        alpha=settings.alpha,
    )
    try:
        facts = manifest.describe(result.written, result.clip, making)
        manifest.write(facts, result.written.path)
    except KeyboardInterrupt:
        out = result.written.path
        raise InterruptedRunError(
            f"stopped while checksums were taken: {out} is whole, but without a manifest"
        ) from None

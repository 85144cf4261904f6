"""Makes the plan of a job: all that needs the whole clip is decided here, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vidmatte.alpha.shot_detection import CutDetector
from vidmatte.core.concurrency import usable_cores
from vidmatte.core.frame import Clip
from vidmatte.core.names import absolute_path
from vidmatte.core.prompts import Mask, parse_prompt, prompt_text
from vidmatte.core.segment import History
from vidmatte.errors import SourceError, UsageError
from vidmatte.farm.environment import environment_of
from vidmatte.farm.plan import FileIdentity, Plan, PlannedSegment, PlannedWeights
from vidmatte.jobs.paced import network_of
from vidmatte.jobs.queue import Ring, StopFlag
from vidmatte.jobs.report import Progress, Reporter
from vidmatte.jobs.segment import WARM_UP, Needs, plan_segment
from vidmatte.jobs.smoothing import temporal_filter_for
from vidmatte.jobs.spec import READ_OPTIONS, Job, files_to_read
from vidmatte.models.registry import Model
from vidmatte.models.runtimes.device import Device
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

#: Frames a segment, where nothing else is asked for.
SEGMENT_FRAMES = 500
#: A segment is at least so many times as long as what is matted around it and not written.
_LEAST_LEADS = 16
_LONGEST = 1500  # frames of a segment of a local run: what a failure costs at most
_PATH_OPTIONS = (*READ_OPTIONS, "matte", "foreground_file", "comp", "models_dir")


@dataclass(frozen=True)
class _Scan:
    """The pts of all frames, those that begin a shot, and what went wrong in reading them."""

    times: list[int]
    shots: list[int]
    warnings: tuple[str, ...]


def make_plan(
    job: Job,
    clip: Clip,
    model: Model,
    reporter: Reporter,
    *,
    segment_frames: int,
    threads: int = 0,
) -> Plan:
    """The plan of a checked job, in segments of about ``segment_frames`` frames.

    clip: of its source. Loads the network, and reads the source twice: for its digest, and, where
    there is more than one segment, decoded, for its cuts and times. threads: of the network; 0: as
    the settings have it, or all cores. Raises VidmatteError.
    """
    settings = job.settings
    path = _check_plannable(clip, settings)
    needs = needs_of(clip, model, settings)
    scan = None
    if not settings.has_subject and (clip.frame_count is None or clip.frame_count > segment_frames):
        scan = _scan(path, settings, reporter)
    threads = threads or settings.threads or usable_cores()
    return Plan(
        source=FileIdentity.of(absolute_path(path)),
        output=str(absolute_path(job.output)),
        is_folder=job.is_folder,
        settings=_planned_settings(settings, model, threads).model_dump(mode="json"),
        files=tuple(FileIdentity.of(absolute_path(file)) for _, file in files_to_read(settings)),
        model=model.name,
        weights=tuple(
            PlannedWeights(name=one.name, family=one.family, sha256=one.sha256)
            for one in model.weights
        ),
        environment=environment_of(model),
        threads=threads,
        time_base=str(clip.time_base),
        frames=None if scan is None else len(scan.times),
        shots=None if scan is None else tuple(scan.shots),
        segments=_segments(scan, needs, segment_frames),
        warnings=() if scan is None else scan.warnings,
    )


def needs_of(clip: Clip, model: Model, settings: Settings) -> Needs:
    """What a segment of the clip needs around it. Loads the network."""
    network = network_of(model, clip, settings)
    return Needs.of(
        network, temporal_filter_for(network.recurrent, settings, network.filter_profile)
    )


def local_segment_frames(frames: int | None, needs: Needs, workers: int) -> int:
    """Frames a segment for ``workers`` local processes: as many segments for each, as long as
    what is matted around a segment is little beside it."""
    if frames is None:
        return SEGMENT_FRAMES
    around = needs.look_back + WARM_UP + needs.look_ahead + needs.batch_stride
    a_worker = -(-frames // (workers * _LONGEST))
    return max(-(-frames // (workers * a_worker)), _LEAST_LEADS * around)


def _check_plannable(clip: Clip, settings: Settings) -> Path:
    """The source's path. Raises UsageError where a job cannot be cut into segments."""
    if clip.source.path is None:
        clip.source.identity_for("a plan")
        raise UsageError(f"{clip.source.name}: a plan needs a file: save it to one first")
    if clip.kind == "picture":
        raise UsageError(
            f"{clip.source.name}: a single picture needs no plan: run 'vidmatte' on it"
        )
    if settings.cache is not None:
        raise UsageError("--cache: a segment has only a part of the clip's alphas: omit it")
    if settings.exr_layers:
        raise UsageError("--exr-layers: no plan joins the layers of subjects: omit it")
    return clip.source.path


def _planned_settings(settings: Settings, model: Model, threads: int) -> Settings:
    """The settings for all workers: absolute paths, and the device and threads pinned."""
    changes: dict[str, Any] = {"threads": threads, "resume": False}
    changes["device"] = model.device.name.replace("cuda:0", "cuda")
    for name in _PATH_OPTIONS:
        text = getattr(settings, name)
        is_named = name not in READ_OPTIONS or (text and Path(text).exists())
        if text and is_named:
            slash = "/" if text.endswith("/") else ""
            changes[name] = f"{absolute_path(Path(text).expanduser())}{slash}"
    changes["subject"] = tuple(map(_with_absolute_mask, settings.subject))
    if Path(settings.model).is_file():
        changes["model"] = str(absolute_path(Path(settings.model)))
    return settings.changed(**changes)


def _with_absolute_mask(text: str) -> str:
    """The text of a prompt, with the absolute path of its mask if it has one."""
    prompt = parse_prompt(text)
    if not isinstance(prompt, Mask) or not isinstance(prompt.source, Path):
        return text
    return prompt_text(replace(prompt, source=absolute_path(prompt.source)))


def _scan(path: Path, settings: Settings, reporter: Reporter) -> _Scan:
    """Decode all frames of a clip and find its cuts, as a run over it does."""
    times: list[int] = []
    shots: list[int] = []
    detector = CutDetector()
    with open_reader(path, settings) as source:
        ring = Ring(source.clip, 1, Device(), StopFlag())
        progress = Progress(source.clip.source.name, source.clip.frame_count, phase="plan")
        reporter.start(progress)
        try:
            for index, picture in enumerate(source.pictures()):
                times.append(picture.pts)
                if settings.cuts:
                    frame = ring.fill(picture, index)
                    is_cut = detector.is_new_shot(frame.rgb)
                    frame.release()
                else:
                    is_cut = False
                if is_cut or not index:
                    shots.append(index)
                progress.done += 1
                reporter.advance(progress)
        finally:
            reporter.finish()
        if not times:
            raise SourceError(f"{path}: none of the selected frames decodes: is it complete?")
        return _Scan(times, shots, tuple(source.warnings))


def _segments(scan: _Scan | None, needs: Needs, frames: int) -> tuple[PlannedSegment, ...]:
    """The segments of a clip; without a scan a single one."""
    if scan is None:
        return (PlannedSegment(number=0, lead=0, start=0, first=0, stop=None, lead_pts=0,
                               first_pts=0),)  # fmt: skip
    starts = (_starts_at_cuts if needs.state_count else _starts)(
        len(scan.times), scan.shots, needs, frames
    )
    history = History(
        times=dict(enumerate(scan.times)),
        shots={index: True for index in scan.shots},
    )
    segments = []
    for number, (first, stop) in enumerate(
        zip(starts, [*starts[1:], len(scan.times)], strict=True)
    ):
        found, begin = plan_segment(first, stop, needs, history)
        segments.append(
            PlannedSegment(
                number=number,
                lead=found.lead,
                start=found.start,
                first=first,
                stop=stop,
                lead_pts=begin.pts or 0,
                first_pts=scan.times[first],
            )
        )
    return tuple(segments)


def _starts(count: int, shots: Sequence[int], needs: Needs, frames: int) -> list[int]:
    """The first frames of segments of a per-frame network, which may be cut anywhere: at a cut
    where one is near, since nothing before it matters, else at the start of a batch."""
    number = max(1, round(count / frames))
    starts = [0]
    for part in range(1, number):
        ideal = count * part // number
        near = min(shots, key=lambda cut: abs(cut - ideal))
        is_near = abs(near - ideal) <= frames // 8 and not near % needs.batch_stride
        start = near if is_near else ideal - ideal % needs.batch_stride
        if start > starts[-1]:
            starts.append(start)
    return starts


def _starts_at_cuts(count: int, shots: Sequence[int], needs: Needs, frames: int) -> list[int]:
    """The first frames of segments of a recurrent network: at cuts, where its state is reset."""
    starts = [0]
    for cut in shots:
        is_long = cut - starts[-1] >= frames and count - cut >= frames // 2
        if is_long and not cut % needs.batch_stride:
            starts.append(cut)
    return starts

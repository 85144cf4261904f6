"""The stages of one job: read, matte, motion, steady, write, each on its own thread."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vidmatte.alpha.foreground import uses_model_foreground
from vidmatte.alpha.quality import Quality, QualityMonitor
from vidmatte.alpha.shot_detection import CutDetector
from vidmatte.alpha.temporal_filter import TemporalFilter
from vidmatte.alpha.trimap import Trimap, open_trimap
from vidmatte.core.frame import Clip, Frame
from vidmatte.core.memory import frames_oom_error, is_out_of_memory
from vidmatte.core.segment import History, Segment, StartState
from vidmatte.jobs.paced import Tally, network_of
from vidmatte.jobs.queue import Ring, Slot, StopFlag, queue_depth
from vidmatte.jobs.resume import quality_findings
from vidmatte.jobs.segment import Needs, plan_segment
from vidmatte.jobs.smoothing import filter_of, finished_alphas, kept_on, on_device, on_host
from vidmatte.jobs.stages import Pipeline, Stage, Work, cancel_all
from vidmatte.models.base import Network
from vidmatte.models.registry import Model
from vidmatte.models.runtimes.device import Device
from vidmatte.models.runtimes.onnx_file import check_numbers
from vidmatte.models.runtimes.torch_device import TorchDevice
from vidmatte.readers.base import DecodedPicture, Reader
from vidmatte.settings import Settings
from vidmatte.writers.base import Writer

if TYPE_CHECKING:
    from vidmatte.alpha.guidance.subject_fields import SubjectFields

Item = TypeVar("Item")
_FRAMES_IN_STAGES = 3  # one each in reading, in tracking and in the adjustments
_TRACKED_QUEUE = 1  # between motion and steady: a tracked frame is larger than its slot
_STATE_EVERY = 32  # frames from one stored recurrent state to the next


@dataclass
class MattingPipeline:
    """The connected stages of one clip; ``pipeline`` yields frames that the caller owns."""

    pipeline: Pipeline
    ring: Ring
    quality: Quality
    segment: Segment
    writer: Writer | None
    tally: Tally

    def busy_seconds(self) -> dict[str, float]:
        """Seconds of work by stage, in order; the average where a stage has several threads."""
        busy = self.pipeline.busy_seconds()
        if self.writer is not None:
            busy["write"] = self.writer.busy_seconds(busy["write"])
        return busy

    def close(self, *, wait: bool = True) -> None:
        """Stop every stage and wait for its thread; harmless when done twice."""
        self.pipeline.close(wait=wait)


def build_pipeline(
    source: Reader,
    model: Model,
    settings: Settings,
    writer: Writer | None,
    *,
    first: int = 0,
    stop: int | None = None,
    history: History | None = None,
    subject: SubjectFields | None = None,
) -> MattingPipeline:
    """Connect the stages that process the frames of a clip from ``first`` to before ``stop``.

    With a writer the last stage writes and yields released frames; without one the caller
    releases them. stop: None for the end of the clip. history: what earlier runs recorded of its
    frames. subject: limits the alphas to the chosen one. Raises UsageError, OutOfMemoryError.
    """
    flag, clip = StopFlag(), source.clip
    monitor, tally = QualityMonitor(), Tally()
    uses_foreground = uses_model_foreground(settings, clip)
    network = _begun_network(model, clip, settings, None if subject is None else subject.cache)
    trimap = open_trimap(settings, clip)
    smooth, device = filter_of(network, clip, settings, model)
    needs = Needs.of(network, smooth)
    segment, begin = plan_segment(first, stop, needs, history or History())
    stores_state = writer is not None and writer.stores_state

    def read(_: Iterator[Frame]) -> Iterator[Frame]:
        frames = _read_frames(source, settings, ring, segment, begin, needs.read_stop(segment))
        return _with_state(frames, segment, begin, stores=stores_state)

    def matte(frames: Iterator[Frame]) -> Iterator[Frame]:
        matted = tally.observe(network.predict(kept_on(frames, network, device)), segment)
        return _with_checked_alpha(matted, uses_foreground)

    def finish(frames: Iterator[Frame]) -> Iterator[Frame]:
        held = frames if trimap is None else trimap.held_frames(on_host(frames, device))
        adjusted = finished_alphas(held, settings, clip, device, stays=writer is not None)
        return _with_findings(monitor.observe(adjusted), monitor.quality)

    works: dict[str, Work] = {"read": read, "matte": matte}
    works |= _filter_works(smooth, device, subject, trimap, finish)
    if writer is not None:
        works["write"] = lambda frames: _write(frames, writer, segment)
        writer.watch(flag.set)
    held = _frames_held(network, smooth, subject, writer)
    interrupt = cancel_all(network, source, writer)
    pipeline, ring = _connect(works, clip, model, flag, held, network.batch, interrupt)
    return MattingPipeline(pipeline, ring, monitor.quality, segment, writer, tally)


def _begun_network(model: Model, clip: Clip, settings: Settings, cache: Path | None) -> Network:
    """The network of a run, at its pace, ready for the clip. cache: see ``Model.network_for``."""
    network = network_of(model, clip, settings, cache)
    network.begin(clip, settings)
    return network


def _frames_held(
    network: Network, smooth: TemporalFilter, subject: SubjectFields | None, writer: Writer | None
) -> int:
    """Frames that the stages hold at most, besides those in their queues."""
    held = network.batch + smooth.look_ahead + 1 + smooth.held_by_threads + _FRAMES_IN_STAGES
    return held + (subject is not None) + (0 if writer is None else writer.slots_held)


def _filter_works(
    smooth: TemporalFilter,
    device: TorchDevice | None,
    subject: SubjectFields | None,
    trimap: Trimap | None,
    finish: Work,
) -> dict[str, Work]:
    """The stages between the network and the writer. device: where the filter works, None for the
    CPU. finish: what comes last in them."""

    def motion(frames: Iterator[Frame]) -> Iterator[Any]:
        if subject is not None:
            frames = subject.gated_frames(subject.seen_frames(on_host(frames, device)))
        if trimap is not None:
            frames = trimap.solved_frames(on_host(frames, device))
        return smooth.track_stage(on_device(frames, device))

    if subject is None:
        return {"motion": motion, "steady": lambda it: finish(smooth.average_stage(it))}
    return {
        "motion": motion,
        "steady": smooth.average_stage,
        "subject": lambda frames: finish(subject.gated_frames(on_host(frames, device), again=True)),
    }


def build_raw_pipeline(
    source: Reader, model: Model, settings: Settings, cache: Path | None = None
) -> MattingPipeline:
    """Connect the stages that give the frames of a clip their raw alpha; the caller releases each
    frame. cache: see ``Model.network_for``. Raises UsageError, OutOfMemoryError."""
    flag, network = StopFlag(), _begun_network(model, source.clip, settings, cache)
    segment = Segment()

    def read(_: Iterator[Frame]) -> Iterator[Frame]:
        return _read_frames(source, settings, ring, segment, StartState(), None)

    works: dict[str, Work] = {
        "read": read,
        "matte": lambda frames: _with_checked_alpha(network.predict(frames), False),
    }
    held = network.batch + _FRAMES_IN_STAGES
    pipeline, ring = _connect(works, source.clip, model, flag, held, network.batch, network.cancel)
    return MattingPipeline(pipeline, ring, Quality(), segment, None, Tally())


def _connect(
    works: dict[str, Work],
    clip: Clip,
    model: Model,
    flag: StopFlag,
    held: int,
    batch: int,
    interrupt: Callable[[], None],
) -> tuple[Pipeline, Ring]:
    """The stages in a row, and a ring with a slot for each frame in them. held: frames that the
    stages hold besides those in their queues. batch: the network's. interrupt: ends waits and work
    in progress. Raises OutOfMemoryError."""
    stages, waiting = _stages(works, clip, model.settings.memory_bytes, held)
    ring = _make_ring(clip, held + waiting, model.device, flag, batch, model.settings)
    return Pipeline(stages, flag, interrupt), ring


def _stages(works: dict[str, Work], clip: Clip, budget: int, held: int) -> tuple[list[Stage], int]:
    """The stages with their queues, and how many frames with a slot these can hold.

    budget: memory in bytes. held: frames that the stages hold besides.
    """
    # Frames that the last stage has written have no slot any more.
    with_slot = len(works) - ("write" in works)
    depth = queue_depth(clip, budget, held, with_slot)
    stages = [
        Stage(name, work, min(depth, _TRACKED_QUEUE) if name == "motion" else depth)
        for name, work in works.items()
    ]
    return stages, sum(stage.queue_size for stage in stages[:with_slot])


def _make_ring(
    clip: Clip, slots: int, device: Device, stop: StopFlag, batch: int, settings: Settings
) -> Ring:
    """A ring of ``slots`` slots for a clip. batch: the network's. Raises OutOfMemoryError."""
    slots = 1 if clip.kind == "picture" else slots  # unused ones would fragment the heap
    size = slots * Slot.size_of(clip)  # computed before memory runs out
    try:
        return Ring(clip, slots, device, stop)
    except Exception as error:  # torch raises a plain RuntimeError
        if not is_out_of_memory(error):
            raise
        frames = "a frame" if slots == 1 else f"{slots} frames"
        reason = f"for {frames} of {clip.width}x{clip.height} in flight ({size / 1e9:.1f} GB)"
        raise frames_oom_error(clip.source.name, reason, settings.memory, batch) from error


def _pictures(
    source: Reader, lead: int, stop: int | None, pts: int | None
) -> Generator[tuple[int, DecodedPicture]]:
    """The decoded pictures from number ``lead``, whose time is ``pts``, to before ``stop``, with
    their numbers. Where ``pts`` is None all pictures before it are decoded too."""
    decoded = source.pictures() if pts is None else source.pictures_from(lead, pts)
    with _until_end(decoded) as pictures:
        remaining = islice(pictures, lead, None) if pts is None else pictures
        yield from islice(enumerate(remaining, lead), None if stop is None else stop - lead)


def _read_frames(
    source: Reader,
    settings: Settings,
    ring: Ring,
    segment: Segment,
    begin: StartState,
    stop: int | None,
) -> Generator[Frame]:
    """The pictures from ``segment.start`` to before ``stop`` in slots of the ring, with shot cuts
    marked. stop: None for the end of the clip."""
    pictures = _pictures(source, segment.lead, stop, begin.pts)
    detector = CutDetector()
    reported = 0
    with _until_end(pictures):
        for index, picture in pictures:
            frame = ring.fill(picture, index)
            if new := source.warnings[reported:]:
                frame.findings["warnings"], reported = new, reported + len(new)
            is_cut = settings.cuts and detector.is_new_shot(frame.rgb)
            frame.new_shot = begin.shots.get(index, index == 0 or is_cut)
            if index < segment.start:
                frame.release()
                continue
            yield frame


def _with_state(
    frames: Generator[Frame], segment: Segment, begin: StartState, *, stores: bool
) -> Generator[Frame]:
    """The same frames: the first with the initial recurrent state, and, where the writer stores
    states, every ``_STATE_EVERY``-th with a request for its state."""
    with _until_end(frames):
        for frame in frames:
            frame.state = begin.state if frame.index == segment.start else None
            frame.wants_state = stores and frame.index % _STATE_EVERY == 0
            yield frame


@contextmanager
def _until_end(items: Iterator[Item]) -> Iterator[Iterator[Item]]:
    """Close a generator with the block that reads it.

    An error raised in the block refers to the generator: as long as a reference to that error
    exists, the generator's threads and files would stay open.
    """
    try:
        yield items
    finally:
        if isinstance(items, Generator):
            items.close()


def _with_checked_alpha(frames: Iterator[Frame], uses_foreground: bool) -> Iterator[Frame]:
    """The same frames, with the network's own foreground only if it is used.

    Raises ModelError for an alpha that contains NaN.
    """
    with _until_end(frames):
        for frame in frames:
            if not uses_foreground:
                frame.foreground = None
                if frame.on_device is not None:
                    frame.on_device.foreground = None
            check_numbers(frame)
            yield frame


def _with_findings(frames: Iterator[Frame], quality: Quality) -> Iterator[Frame]:
    """The same frames, each with the faults found in its matte."""
    for frame in frames:
        if faults := quality_findings(frame.index, quality):
            frame.findings["faults"] = faults
        yield frame


def _write(frames: Iterator[Frame], writer: Writer, segment: Segment) -> Iterator[Frame]:
    """The frames of the segment, written; the writer releases them."""
    for frame in frames:
        if segment.writes(frame.index):
            writer.write(frame)
            yield frame
        else:
            frame.release()

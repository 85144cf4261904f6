"""One input on its way: read, matte, motion, steady, write, each stage on its own thread."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from vidmatte.alpha.foreground import uses_model_foreground
from vidmatte.alpha.masks import adjusted_frames
from vidmatte.alpha.quality import Quality, QualityMonitor
from vidmatte.alpha.shot_detection import CutDetector
from vidmatte.alpha.temporal_filter import TemporalFilter
from vidmatte.alpha.track import WINDOWS
from vidmatte.core.families import PER_FRAME, FilterProfile
from vidmatte.core.frame import Clip, Frame, Point
from vidmatte.core.memory import frames_oom_error, is_out_of_memory
from vidmatte.errors import UsageError
from vidmatte.jobs.queue import StopFlag
from vidmatte.jobs.resume import quality_findings
from vidmatte.jobs.ring import Ring, Slot, queue_depth
from vidmatte.jobs.stages import Pipeline, Stage, Work
from vidmatte.models.registry import Model
from vidmatte.models.runtimes.device import Device
from vidmatte.models.runtimes.onnx_file import check_numbers
from vidmatte.readers.base import Reader
from vidmatte.settings import Settings
from vidmatte.writers.base import Writer

Item = TypeVar("Item")
_FRAMES_IN_STAGES = 3  # frames being filled, being followed, and being handed on
_TRACKED_QUEUE = 1  # between motion and steady: a moment weighs more than its slot
_LONGEST_SIDE = 32766  # pixels; cv2.remap counts them in 16 bits
_STATE_EVERY = 32  # frames between those whose recurrent state is kept


@dataclass
class MattingPipeline:
    """The stages of one clip, wired; ``pipeline`` yields frames that the caller owns."""

    pipeline: Pipeline
    ring: Ring
    quality: Quality
    point: Point
    sink: Writer | None

    def busy_seconds(self) -> dict[str, float]:
        """Seconds of work by stage, in order; of several threads of one, on average."""
        busy = self.pipeline.busy_seconds()
        if self.sink is not None:
            busy["write"] = self.sink.busy_seconds(busy["write"])
        return busy

    def close(self, *, wait: bool = True) -> None:
        """Stop every stage and wait for its thread; harmless when done twice."""
        self.pipeline.close(wait=wait)


def build_pipeline(
    source: Reader, model: Model, settings: Settings, sink: Writer | None
) -> MattingPipeline:
    """Wire the stages for one clip and start them.

    With a sink the last stage writes and yields released frames; without one the
    frames come out whole, for the caller to release. Raises UsageError, OutOfMemoryError.
    """
    stop = StopFlag()
    watcher = QualityMonitor()
    takes_colours = uses_model_foreground(settings, source.clip)
    network = model.network_for(source.clip)
    smooth = temporal_filter_for(network.recurrent, settings, network.filter_profile)
    _check_sides(source.clip, smooth)
    point = Point()
    if sink is not None:
        point = sink.point(network.state_count, network.batch_stride, smooth.look_back)
    works: dict[str, Work] = {
        "read": lambda _: _read(source, ring, settings, point),
        "matte": lambda frames: _with_checked_alpha(network.predict(frames), takes_colours),
        "motion": smooth.track_stage,
        "steady": lambda moments: _with_findings(
            watcher.observe(adjusted_frames(smooth.average_stage(moments), settings, source.clip)),
            watcher.quality,
        ),
    }
    held = network.batch + smooth.look_ahead + 1 + _FRAMES_IN_STAGES
    if sink is not None:
        works["write"] = lambda frames: _write(frames, sink, point.first)
        held += sink.slots_held
    # What the last stage has written is in the sink's hands: it waits without a slot.
    waiting = len(works) - (sink is not None)
    depth = queue_depth(source.clip, settings.memory_bytes, held, waiting)
    stages = [
        Stage(name, work, min(depth, _TRACKED_QUEUE) if name == "motion" else depth)
        for name, work in works.items()
    ]
    slots = held + sum(stage.queue_size for stage in stages[:waiting])
    ring = _make_ring(source.clip, slots, model.device, stop, network.batch, settings)
    pipeline = Pipeline(stages, stop, network.cancel)
    return MattingPipeline(pipeline, ring, watcher.quality, point, sink)


def _make_ring(
    clip: Clip, slots: int, device: Device, stop: StopFlag, batch: int, settings: Settings
) -> Ring:
    """A ring of so many slots for a clip; batch: the network's. Raises OutOfMemoryError."""
    size = slots * Slot.size_of(clip)  # asked for while there is memory to tell it
    try:
        return Ring(clip, slots, device, stop)
    except Exception as error:  # of torch, a plain RuntimeError
        if not is_out_of_memory(error):
            raise
        what = f"the {slots} frames of {clip.width}x{clip.height} that are on their way at once"
        reason = f"for {what} ({size / 1e9:.1f} GB)"
        raise frames_oom_error(clip.path.name, reason, settings.memory, batch) from error


def _read(source: Reader, ring: Ring, settings: Settings, point: Point) -> Iterator[Frame]:
    """Decoded pictures in slots of the ring, with shot cuts marked, from the point on."""
    if point.done:
        return
    detector = CutDetector()
    said = 0
    with _until_end(source.pictures_from(point.lead, point.pts)) as pictures:
        for index, picture in enumerate(pictures, point.lead):
            frame = ring.fill(picture, index)
            if new := source.warnings[said:]:
                frame.findings["warnings"], said = new, said + len(new)
            is_cut = settings.cuts and detector.is_new_shot(frame.rgb)
            frame.new_shot = point.shots.get(index, index == 0 or is_cut)
            if index < point.start:
                frame.release()
                continue
            frame.state = point.state if index == point.start else None
            frame.wants_state = settings.resume and index % _STATE_EVERY == 0
            yield frame


@contextmanager
def _until_end(items: Iterator[Item]) -> Iterator[Iterator[Item]]:
    """Close a generator with the block that reads it.

    An error raised in the block, if somebody keeps it, would keep the generator too, and
    with it threads and files.
    """
    try:
        yield items
    finally:
        if isinstance(items, Generator):
            items.close()


def _with_checked_alpha(frames: Iterator[Frame], takes_colours: bool) -> Iterator[Frame]:
    """The same frames, with the network's own foreground if it is taken.

    Raises ModelError for an alpha that is not a number somewhere.
    """
    with _until_end(frames):
        for frame in frames:
            if not takes_colours:
                frame.foreground = None
            check_numbers(frame)
            yield frame


def temporal_filter_for(
    recurrent: bool, settings: Settings, profile: FilterProfile = PER_FRAME
) -> TemporalFilter:
    """The temporal filter and edge refinement that the settings ask for.

    profile: what suits the network, see ``Network.filter_profile``.

    A recurrent model is steady by itself and draws its own edges: with 'auto' it goes
    without both.
    """
    mode = settings.smooth
    if mode == "auto":
        mode = "off" if recurrent else "on"
    refine = settings.refine
    if refine == "auto":
        refine = "off" if recurrent and mode == "off" else "fast"
    strength = settings.smooth_strength
    mode = mode if strength else "off"
    return TemporalFilter(WINDOWS[mode], refine, strength, profile)


def _check_sides(clip: Clip, smooth: TemporalFilter) -> None:
    """Raise UsageError where frames are to be mixed that are larger than OpenCV moves."""
    sides = clip.width, clip.height
    if max(sides) > _LONGEST_SIDE and smooth.look_back and clip.frame_count != 1:
        raise UsageError(
            f"{clip.path.name}: {sides[0]}x{sides[1]} exceeds the {_LONGEST_SIDE} pixels a side"
            " that the temporal filter takes: add --smooth off"
        )


def _with_findings(frames: Iterator[Frame], quality: Quality) -> Iterator[Frame]:
    """The same frames, each with the faults that its matte was found to have."""
    for frame in frames:
        if faults := quality_findings(frame.index, quality):
            frame.findings["faults"] = faults
        yield frame


def _write(frames: Iterator[Frame], sink: Writer, first: int) -> Iterator[Frame]:
    """Every frame from number ``first`` on to the sink, which releases it."""
    for frame in frames:
        if frame.index < first:
            frame.release()
        else:
            sink.write(frame)
            yield frame

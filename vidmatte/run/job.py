"""One input on its way: read -> matte -> steady -> write, each stage on its own thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from vidmatte.frame import Frame
from vidmatte.network.device import Device
from vidmatte.network.model import Model
from vidmatte.run.channel import Stop
from vidmatte.run.pipeline import Pipeline, Stage
from vidmatte.run.ring import Ring, slots_for
from vidmatte.settings import Settings
from vidmatte.sink import Sink
from vidmatte.source import Source

QUEUE_SIZE = 2
SPARE_SLOTS = 2  # one being filled, one being handed on


@dataclass
class FramePath:
    """The stages of one clip, wired; ``pipeline`` yields frames that the caller owns."""

    pipeline: Pipeline
    ring: Ring
    cancel: Callable[[], None]
    notes: list[str] = field(default_factory=list)

    def close(self) -> None:
        """Stop every stage and wait for its thread; harmless when done twice."""
        self.cancel()
        self.pipeline.close()


def lay_path(source: Source, model: Model, settings: Settings, sink: Sink | None) -> FramePath:
    """Wire the stages for one clip and start them.

    With a sink the last stage writes and yields released frames; without one the
    frames come out whole, for the caller to release.
    """
    from vidmatte.matte.steady import WINDOWS

    stop = Stop()
    network = model.network
    stages = [
        Stage("read", lambda _: read(source, ring, settings), QUEUE_SIZE),
        Stage("matte", network.mattes, QUEUE_SIZE),
        Stage("steady", lambda frames: smooth(frames, network.recurrent, settings), QUEUE_SIZE),
    ]
    look_ahead = max(len(window.after) for window in WINDOWS.values())
    held = network.batch + look_ahead + 1 + SPARE_SLOTS
    if sink is not None:
        stages.append(Stage("write", lambda frames: write(frames, sink), QUEUE_SIZE))
        held += sink.slots_held
    needed = held + sum(stage.queue_size for stage in stages)
    ring = make_ring(source, needed, settings, model.device, stop)
    return FramePath(Pipeline(stages, stop), ring, network.cancel)


def make_ring(source: Source, needed: int, settings: Settings, device: Device, stop: Stop) -> Ring:
    """The ring for a clip, as large as the memory budget allows."""
    return Ring(source.clip, slots_for(source.clip, settings.memory_bytes, needed), device, stop)


def read(source: Source, ring: Ring, settings: Settings) -> Iterator[Frame]:
    """Decoded pictures in slots of the ring, with shot cuts marked."""
    from vidmatte.matte.cuts import CutDetector

    detector = CutDetector()
    for index, picture in enumerate(source.pictures()):
        frame = ring.fill(picture, index)
        frame.new_shot = index == 0 or (settings.cuts and detector.is_new_shot(frame.rgb))
        yield frame


def smooth(frames: Iterator[Frame], recurrent: bool, settings: Settings) -> Iterator[Frame]:
    """The temporal filter and edge refinement that the settings ask for.

    A recurrent model is steady by itself and draws its own edges: with 'auto' it goes
    without both.
    """
    from vidmatte.matte.steady import steady

    mode = settings.smooth
    if mode == "auto":
        mode = "off" if recurrent else "on"
    refine = settings.refine
    if refine == "auto":
        refine = "off" if recurrent and mode == "off" else "fast"
    return steady(frames, mode="on" if mode == "strong" else mode, refine=refine)


def write(frames: Iterator[Frame], sink: Sink) -> Iterator[Frame]:
    """Every frame to the sink, which releases it."""
    for frame in frames:
        sink.write(frame)
        yield frame

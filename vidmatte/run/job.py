"""One input on its way: read -> matte -> steady -> write, each stage on its own thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vidmatte.frame import Frame
from vidmatte.alpha.quality import Quality, Watcher
from vidmatte.network.model import Model
from vidmatte.run.channel import Stop
from vidmatte.run.pipeline import Pipeline, Stage, Work
from vidmatte.run.ring import Ring, queue_depth
from vidmatte.settings import Settings
from vidmatte.sink import Sink
from vidmatte.source import Source

IN_HAND = 2  # a frame that is being filled, a frame that is being handed on


@dataclass
class FramePath:
    """The stages of one clip, wired; ``pipeline`` yields frames that the caller owns."""

    pipeline: Pipeline
    ring: Ring
    cancel: Callable[[], None]
    quality: Quality

    def close(self) -> None:
        """Stop every stage and wait for its thread; harmless when done twice."""
        self.cancel()
        self.pipeline.close()


def lay_path(source: Source, model: Model, settings: Settings, sink: Sink | None) -> FramePath:
    """Wire the stages for one clip and start them.

    With a sink the last stage writes and yields released frames; without one the
    frames come out whole, for the caller to release.
    """
    from vidmatte.alpha.steady import WINDOWS

    stop = Stop()
    watcher = Watcher()
    network = model.network_for(source.clip)
    works: dict[str, Work] = {
        "read": lambda _: read(source, ring, settings),
        "matte": network.mattes,
        "steady": lambda frames: watcher.watched(smooth(frames, network.recurrent, settings)),
    }
    look_ahead = max(len(window.after) for window in WINDOWS.values())
    held = network.batch + look_ahead + 1 + IN_HAND
    if sink is not None:
        works["write"] = lambda frames: write(frames, sink)
        held += sink.slots_held
    depth = queue_depth(source.clip, settings.memory_bytes, held, len(works))
    stages = [Stage(name, work, depth) for name, work in works.items()]
    ring = Ring(source.clip, held + depth * len(stages), model.device, stop)
    return FramePath(Pipeline(stages, stop), ring, network.cancel, watcher.quality)


def read(source: Source, ring: Ring, settings: Settings) -> Iterator[Frame]:
    """Decoded pictures in slots of the ring, with shot cuts marked."""
    from vidmatte.alpha.cuts import CutDetector

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
    from vidmatte.alpha.steady import steady

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

"""Clips, their ground truth and the networks' outputs for them, cached in a folder.

FOLDER/NAME/ holds
  rgb.npy      the frames as decoded, (T, H, W, 3) uint8
  alpha.npy    the true alpha, (T, H, W) uint16; not for clips without ground truth
  motion.npy   where each pixel was one frame earlier, (T - 1, H, W, 2) float32
  layers.npz   for frames 4 and 16 the true premultiplied colours (c4, c16) and the background
               (b4, b16), 0..25500 for 0..255
  MODEL.npy, MODEL_mirrored.npy, MODEL_inset.npy, MODEL_mirrored_inset.npy
      the network's output for each frame in that view, (T, S, S) uint16; for rvm its alpha
      at the frames' size
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import numpy as np
from composites import Scene, read_clip, write_clip

from vidmatte.alpha.shot_detection import CutDetector
from vidmatte.core.families import InputSize
from vidmatte.core.frame import Frame
from vidmatte.models.augment import PLAIN, SCHEDULES, View, views_of
from vidmatte.models.chosen_weights import Weights
from vidmatte.models.load import augment_schedule, load_network
from vidmatte.models.runtimes.device import Arrays, Device, Runner
from vidmatte.models.runtimes.onnx_file import input_size
from vidmatte.models.runtimes.onnx_loader import load_runner
from vidmatte.models.segmentation import SegmentationNetwork
from vidmatte.settings import Settings

LAYER_FRAMES = (4, 16)
CODES_A_LEVEL = np.float32(100)  # of layers.npz
FULL_SCALE = 65535
#: The same numbers on every machine: float32 everywhere.
RUNTIME = "onnxruntime"


@dataclass(frozen=True)
class CachedClip:
    """One clip of the folder; ``length``: only its first frames, that many."""

    folder: Path
    length: int | None = None

    @property
    def name(self) -> str:
        """The clip's name."""
        return self.folder.name

    @cached_property
    def rgb(self) -> np.ndarray:
        """See the module's docstring."""
        return np.load(self.folder / "rgb.npy", mmap_mode="r")[: self.length]

    @cached_property
    def motion(self) -> np.ndarray:
        """See the module's docstring; [t - 1] is the motion from frame t to frame t - 1."""
        return np.load(self.folder / "motion.npy", mmap_mode="r")

    @cached_property
    def _alpha(self) -> np.ndarray:
        return np.load(self.folder / "alpha.npy", mmap_mode="r")

    def truth(self, index: int) -> np.ndarray:
        """The true alpha of a frame, (H, W) float32."""
        return as_float(self._alpha[index])

    def layers(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Index, true premultiplied colours and background of some frames.

        Both (H, W, 3) float32 in 0..255.
        """
        with np.load(self.folder / "layers.npz") as layers:
            for index in LAYER_FRAMES:
                if index < len(self.rgb):
                    colours, ground = (layers[f"{kind}{index}"] for kind in "cb")
                    yield index, colours / CODES_A_LEVEL, ground / CODES_A_LEVEL

    def output(self, weights: Weights, view: View = PLAIN) -> np.ndarray:
        """The network's output for each frame, (T, S, S) uint16; the network runs if needed."""
        how = "_mirrored" * view.mirrored + "_inset" * view.inset
        path = self.folder / f"{weights.name}{how}.npy"
        if not path.exists() or len(np.load(path, mmap_mode="r")) < len(self.rgb):
            save(path, run_network(self.rgb, weights, view))
        return np.load(path, mmap_mode="r")[: len(self.rgb)]

    def footage(self, weights: Weights, settings: Settings) -> Footage:
        """The frames with all network outputs that these settings need."""
        phases = SCHEDULES[augment_schedule(weights.family, settings)]
        views = {PLAIN, *(view for phase in phases for view in phase)}
        return Footage(self.rgb, {view: self.output(weights, view) for view in views})


@dataclass(frozen=True)
class Footage:
    """Frames (T, H, W, 3) uint8 and the network's outputs, see the module's docstring."""

    pictures: np.ndarray
    outputs: dict[View, np.ndarray]

    def part(self, frames: slice) -> Footage:
        """Some of the frames."""
        outputs = {view: codes[frames] for view, codes in self.outputs.items()}
        return Footage(self.pictures[frames], outputs)

    def then(self, other: Footage) -> Footage:
        """This footage, followed by another after a hard cut."""
        outputs = {
            view: np.concatenate([codes, other.outputs[view]])
            for view, codes in self.outputs.items()
        }
        return Footage(np.concatenate([self.pictures, other.pictures]), outputs)

    def mattes(self, weights: Weights, settings: Settings) -> list[Frame]:
        """The frames as the product's network stage yields them."""
        frames = frames_of(self.pictures)
        if weights.fed_as.recurrence is not None:
            for frame, alpha in zip(frames, self.outputs[PLAIN], strict=True):
                frame.alpha = as_float(alpha)
            return frames
        schedule = augment_schedule(weights.family, settings)
        network = SegmentationNetwork(
            Replay(self._in_order(frames, schedule)),
            weights.fed_as,
            size=InputSize(self.outputs[PLAIN].shape[-1]),
            input_name="input",
            schedule=schedule,
        )
        return list(network.predict(iter(frames)))

    def _in_order(self, frames: list[Frame], schedule: str) -> Iterator[np.ndarray]:
        """The outputs in the order in which a segmentation network asks for them."""
        for number, frame in enumerate(frames):
            for view in views_of(frame, schedule):
                yield self.outputs[view][number]


class Replay:
    """A runner that returns cached outputs, in the order in which they are asked for."""

    streams = 1
    description = "from cached outputs"

    def __init__(self, outputs: Iterable[np.ndarray]) -> None:
        self._outputs = iter(outputs)

    def run(self, inputs: Arrays, keep: tuple[str, ...] = ()) -> dict[str, Any]:
        """See ``Runner.run``."""
        return {"output": as_float(next(self._outputs))[None, None]}

    def cancel(self) -> None:
        """Nothing to cancel."""


class Recorder(Replay):
    """A runner that records the first output of each run, as (S, S) uint16."""

    def __init__(self, runner: Runner) -> None:
        self.recorded: list[np.ndarray] = []
        self._runner = runner

    def run(self, inputs: Arrays, keep: tuple[str, ...] = ()) -> dict[str, Any]:
        """See ``Runner.run``."""
        outputs = self._runner.run(inputs, keep)
        self.recorded.append(as_codes(np.asarray(next(iter(outputs.values())))[0, 0]))
        return outputs


def run_network(pictures: np.ndarray, weights: Weights, view: View = PLAIN) -> np.ndarray:
    """The raw output for each picture (T, H, W, 3) in the given view."""
    settings = Settings(smooth="off", runtime=RUNTIME)
    if weights.fed_as.recurrence is not None:
        network = load_network(weights.path, weights.family, settings, Device())
        frames = network.predict(iter(frames_of(pictures)))
        return np.stack([as_codes(frame.alpha) for frame in frames])
    loaded = load_runner(weights.path, Device(), 0, outputs=1, runtime=RUNTIME, batch=1)
    recorder = Recorder(loaded.runner)
    name, size = next(iter(loaded.inputs)), input_size(weights.path, loaded.inputs, weights.fed_as)
    shown = np.stack([view.apply(picture, size.side, size.side) for picture in pictures])
    network = SegmentationNetwork(recorder, weights.fed_as, size=size, input_name=name)
    for _ in network.predict(iter(frames_of(shown))):
        pass
    return np.stack(recorder.recorded)


def frames_of(pictures: np.ndarray) -> list[Frame]:
    """Pictures (T, H, W, 3) uint8 as the reading stage yields them, with cuts detected."""
    height, width = pictures.shape[1:3]
    unused = av.VideoFrame(width, height, "rgb24")
    detector = CutDetector()
    frames = []
    for index, picture in enumerate(pictures):
        rgb = np.array(picture)
        new_shot = detector.is_new_shot(rgb)
        frames.append(Frame(index, index, 1, Fraction(1, 25), unused, rgb, new_shot=new_shot))
    return frames


def cache_scene(scene: Scene, folder: Path) -> CachedClip:
    """Draw and compress a scene, unless it is already cached."""
    clip = CachedClip(folder / scene.name)
    if (clip.folder / "rgb.npy").exists():
        return clip
    clip.folder.mkdir(parents=True, exist_ok=True)
    movie = clip.folder / "clip.mp4"
    write_clip(scene, movie)
    indices = range(scene.frames)
    alphas, layers = [], {}
    for index in indices:
        alpha, colours, ground = scene.layers(index)
        alphas.append(as_codes(alpha))
        if index in LAYER_FRAMES:
            for kind, layer in zip("cb", (colours, ground), strict=True):
                layers[f"{kind}{index}"] = np.rint(layer * CODES_A_LEVEL).astype(np.uint16)
    np.savez(clip.folder / "layers.npz", **layers)
    save(clip.folder / "alpha.npy", np.stack(alphas))
    save(clip.folder / "motion.npy", np.stack([scene.motion(index) for index in indices[1:]]))
    save(clip.folder / "rgb.npy", np.stack(list(read_clip(movie))))
    return clip


def cache_pictures(pictures: Iterable[np.ndarray], folder: Path) -> CachedClip:
    """A clip without ground truth, of (H, W, 3) uint8 pictures, unless it is already cached."""
    clip = CachedClip(folder)
    if not (folder / "rgb.npy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        save(folder / "rgb.npy", np.stack(list(pictures)))
    return clip


def save(path: Path, array: np.ndarray) -> None:
    """Write an .npy file under another name and rename it, so that it is never partial."""
    partial = path.with_name(f".{path.name}")
    with partial.open("wb") as file:
        np.save(file, array)
    partial.replace(path)


def as_codes(alpha: np.ndarray) -> np.ndarray:
    """Alpha as uint16."""
    return np.rint(np.clip(alpha, 0, 1) * FULL_SCALE).astype(np.uint16)


def as_float(codes: np.ndarray) -> np.ndarray:
    """16-bit alpha as float32."""
    return codes.astype(np.float32) / np.float32(FULL_SCALE)

"""The error of mattes that are carried between key frames, against a network on every frame.

    python tests/measure_pace.py [--cutouts DIR] [--background FILE ...] [--keep DIR]

The clips are the standard scenes of composites.py, drawn 768 pixels wide, and more of people:
hardly moving, walking, bending fast, before a panning camera, walking in, and two joined by a cut.
What the network gives for a frame is cached when it is first needed; each pace takes it for its
key frames, and the rest of the product's chain follows. Printed for each clip and pace, against
``--pace every``: the ratios of the measures (lower is better), runs of the network a frame, and the
ratio of the CPU time up to the raw alpha: the network's, measured on some frames in
one thread, and the carrying. The last column is the error of ``every``, MAD times 1000: where it is
large, the network does not find the subject.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from clip_cache import RUNTIME, CachedClip, Recorder, Replay, cache_scene, frames_of, save
from composites import Scene, furry_ball, painted_background, read_backgrounds, read_cutout
from composites import standard_scenes as scenes_of
from measure_matte import SEEDS, add_clip_options, score

from vidmatte.core.frame import Frame
from vidmatte.jobs.paced import _pace_named, _PacedNetwork
from vidmatte.jobs.smoothing import temporal_filter_for
from vidmatte.models.augment import View, views_of
from vidmatte.models.base import Network
from vidmatte.models.chosen_weights import Weights
from vidmatte.models.load import augment_schedule
from vidmatte.models.registry import find_model
from vidmatte.models.runtimes.device import Device
from vidmatte.models.runtimes.onnx_file import input_size
from vidmatte.models.runtimes.onnx_loader import load_runner
from vidmatte.models.segmentation import SegmentationNetwork
from vidmatte.settings import Settings

PACES = ("auto", "2", "3", "4")
SHOWN = ("mad", "grad", "dtssd", "flicker")
WIDTH, FRAMES = 768, 13
TIMED = 3  # frames that the network's time is measured on


@dataclass(frozen=True)
class PannedScene(Scene):
    """A scene before a camera that pans fast. pan: against the other scenes' pan."""

    pan: float = 6.0

    def background_at(self, time: float) -> np.ndarray:
        """See ``Scene``."""
        middle = self.frames / 2
        return super().background_at(middle + self.pan * (time - middle))


@dataclass(frozen=True)
class EnteringScene(Scene):
    """A subject that walks in from the left. empty: frames before that."""

    empty: int = 3

    def pose(self, time: float) -> tuple[np.ndarray, float, float]:
        """See ``Scene``."""
        centre, scale, angle = super().pose(time)
        half = 0.5 * scale * self.subject[2]
        return np.array([self.speed * (time - self.empty) - half, centre[1]]), scale, angle


class NetworkOutputs:
    """What a network gives for one frame in one view, cached in the clips' folders."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    @cached_property
    def _loaded(self) -> Any:
        return load_runner(self.weights.path, Device(), 1, outputs=1, runtime=RUNTIME, batch=1)

    @cached_property
    def side(self) -> int:
        """Of the network's input."""
        return input_size(self.weights.path, self._loaded.inputs, self.weights.fed_as).side

    def of(self, clip: CachedClip, index: int, view: View) -> np.ndarray:
        """(S, S) uint16; see clip_cache."""
        how = "_mirrored" * view.mirrored + "_inset" * view.inset
        path = clip.folder / self.weights.name / f"{index:03d}{how}.npy"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            save(path, self._computed(np.array(clip.rgb[index]), view))
        return np.load(path)

    def _computed(self, picture: np.ndarray, view: View) -> np.ndarray:
        shown = view.apply(picture, self.side, self.side)
        recorder = Recorder(self._loaded.runner)
        list(self.network(recorder).predict(iter(frames_of(shown[None]))))
        return recorder.recorded[0]

    def network(self, runner: Replay, schedule: str = "plain") -> SegmentationNetwork:
        """The product's network stage on a runner."""
        name = next(iter(self._loaded.inputs))
        size = input_size(self.weights.path, self._loaded.inputs, self.weights.fed_as)
        fed_as = self.weights.fed_as
        return SegmentationNetwork(runner, fed_as, size=size, input_name=name, schedule=schedule)


class Recorded(Network):
    """A per-frame network whose outputs are cached, for any frames in any order."""

    recurrent = False

    def __init__(self, clip: CachedClip, outputs: NetworkOutputs, settings: Settings) -> None:
        self._clip, self._outputs = clip, outputs
        self._schedule = augment_schedule(outputs.weights.family, settings)
        self.ran: list[int] = []

    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            self.ran.append(frame.index)
            views = views_of(frame, self._schedule)
            codes = [self._outputs.of(self._clip, frame.index, view) for view in views]
            yield from self._outputs.network(Replay(codes), self._schedule).predict(iter([frame]))

    def cancel(self) -> None:
        """Nothing to cancel."""


def network_seconds(outputs: NetworkOutputs) -> float:
    """CPU seconds of the network on one frame, in one thread."""
    frames = frames_of(np.zeros((TIMED + 1, 432, WIDTH, 3), np.uint8))
    network = find_model(Settings(model=outputs.weights.name, threads=1), print).network
    list(network.predict(iter(frames[:1])))
    began = time.process_time()
    list(network.predict(iter(frames[1:])))
    return (time.process_time() - began) / TIMED


def measured(
    clip: CachedClip, outputs: NetworkOutputs, pace: str, keep: Path | None = None
) -> dict[str, float]:
    """A pace's measures on a clip, the frames run, and seconds up to the raw alpha."""
    settings = Settings(pace=pace)
    recorded = Recorded(clip, outputs, settings)
    found = _pace_named(pace)
    network = recorded if found is None else _PacedNetwork(recorded, found)
    list(network.predict(iter(frames_of(clip.rgb))))  # what is not cached yet
    recorded.ran.clear()
    frames = frames_of(clip.rgb)
    began = time.process_time()
    frames = list(network.predict(iter(frames)))
    seconds = time.process_time() - began
    smooth = temporal_filter_for(False, settings, outputs.weights.fed_as.filter_profile)
    alphas = [frame.alpha for frame in smooth.average_stage(smooth.track_stage(frames))]
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        for index, alpha in enumerate(alphas):
            codes = np.rint(alpha * 255).astype(np.uint8)
            cv2.imwrite(str(keep / f"{clip.name}-{pace}-{index:03d}.png"), codes)
    facts = {"runs": len(recorded.ran), "frames": len(frames), "seconds": seconds}
    return score(clip, alphas) | facts


def compared(every: dict[str, float], paced: dict[str, float], network: float) -> dict[str, float]:
    """A pace's figures against every frame's. network: its seconds a frame."""
    ratios = {name: paced[name] / max(every[name], 1e-9) for name in SHOWN}
    enlarging = every["seconds"] / every["frames"]  # in what was replayed
    carrying = max(0.0, paced["seconds"] - enlarging * paced["runs"])
    share = paced["runs"] / paced["frames"]
    cpu = share + carrying / (network * paced["frames"])
    return ratios | {"share": share, "cpu": cpu, "every": every["mad"]}


def scenes(options: argparse.Namespace) -> Iterator[Scene]:
    """What is measured, but for the cut: people in many ways first."""
    grounds = read_backgrounds(options.background) or [painted_background(n) for n in range(8)]
    files = sorted(options.cutouts.glob("*.png")) if options.cutouts else []
    cutouts = {path.stem: read_cutout(path) for path in files}
    people = [cutout for name, cutout in cutouts.items() if name.startswith("girl")]
    kinds: list[tuple[str, type[Scene], dict[str, float]]] = [
        ("still", Scene, {"speed": 0.6, "wave": 1.2}),
        ("pan", PannedScene, {"speed": 3.0}),
        ("enter", EnteringScene, {"speed": 12.0}),
        ("talk", Scene, {"speed": 0.4, "wave": 1.0, "share": 0.95}),
        ("dance", Scene, {"speed": 4.0, "wave": 9.0}),
        ("walk", Scene, {"speed": 6.0}),
        ("fast", Scene, {"speed": 16.0}),
        ("still2", Scene, {"speed": 1.2, "wave": 1.5}),
    ]
    for place, (name, kind, values) in enumerate(kinds if people else []):
        more: dict[str, Any] = {"share": 0.8, "noise": 2.5, "seed": 40 + place, **values}
        ground = grounds[(3 * place + 1) % len(grounds)]
        yield kind(f"{name}-p", people[place % len(people)], ground, WIDTH, 432, **more)
    for seed in SEEDS:
        for scene in scenes_of(cutouts | {"ball": furry_ball(seed)}, grounds, seed):
            speed = scene.speed * WIDTH / scene.width
            yield replace(scene, width=WIDTH, height=432, speed=speed)


def with_a_cut(one: CachedClip, other: CachedClip, length: int) -> CachedClip:
    """The first frames of two clips, one after the other."""
    clip = CachedClip(one.folder.parent / "cut", length)
    if not (clip.folder / "rgb.npy").exists():
        clip.folder.mkdir(parents=True, exist_ok=True)
        ends = slice(length // 2), slice(length - length // 2)
        for name in ("alpha", "motion", "rgb"):
            parts = [
                np.load(each.folder / f"{name}.npy", mmap_mode="r")[end]
                for each, end in zip((one, other), ends, strict=True)
            ]
            save(clip.folder / f"{name}.npy", np.concatenate(parts))
    return clip


def clips_of(options: argparse.Namespace, folder: Path) -> Iterator[CachedClip]:
    """The clips to measure, drawn when they are first needed."""
    done: list[CachedClip] = []
    length = options.frames or FRAMES
    for scene in scenes(options):
        if options.clips and scene.name not in options.clips:
            continue
        done.append(replace(cache_scene(replace(scene, frames=length), folder), length=length))
        yield done[-1]
        if len(done) == 2 and not options.clips:
            yield with_a_cut(*done, length)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add_clip_options(parser)
    parser.add_argument("--model", default="u2netp")
    parser.add_argument("--paces", nargs="+", default=PACES)
    parser.add_argument("--clips", nargs="+", help="only these, by name")
    parser.add_argument("--pictures", type=Path, help="write the mattes into this folder")
    parser.add_argument("--json", type=Path, help="write each clip's figures to this file")
    options = parser.parse_args(arguments)
    results: dict[str, Any] = {pace: {} for pace in options.paces}
    outputs = NetworkOutputs(find_model(Settings(model=options.model), print).weights[0])
    seconds = network_seconds(outputs)
    columns = (*SHOWN, "share", "cpu", "every")
    print(f"{options.model:18}pace " + "".join(f"{name:>9}" for name in columns))
    with tempfile.TemporaryDirectory() as temporary:
        for clip in clips_of(options, options.keep or Path(temporary)):
            every = measured(clip, outputs, "every", options.pictures)
            for pace in options.paces:
                paced = measured(clip, outputs, pace, options.pictures)
                figures = results[pace][clip.name] = compared(every, paced, seconds)
                show(clip.name, pace, figures)
    for pace, by_clip in results.items():
        show("mean", pace, {k: np.mean([one[k] for one in by_clip.values()]) for k in figures})
        show("worst", pace, {k: max(one[k] for one in by_clip.values()) for k in figures})
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def show(name: str, pace: str, figures: dict[str, Any]) -> None:
    """Print a line of figures."""
    print(f"{name:18}{pace:5}" + "".join(f"{value:9.3f}" for value in figures.values()), flush=True)


if __name__ == "__main__":
    sys.exit(main())

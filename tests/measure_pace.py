"""The error of mattes that are carried between key frames, against a network on every frame.

    python tests/measure_pace.py [--cutouts DIR] [--background FILE ...] [--keep DIR]

The clips are those of measure_matte.py and three in which the subject hardly moves. Their
networks' outputs are cached; each pace takes those of its key frames, and the rest of the product's
chain follows. Printed for each clip and pace, against ``--pace every``: the ratios of the measures
(lower is better), the share of the frames that the network ran on, and the ratio of the CPU time up
to the raw alpha: the network's, measured on some frames in one thread, and the carrying.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from clip_cache import CachedClip, Footage, Replay, cache_scene, frames_of
from composites import furry_ball, painted_background, read_backgrounds, read_cutout
from composites import standard_scenes as scenes_of
from measure_matte import add_clip_options, score, standard_clips

from vidmatte.core.families import InputSize
from vidmatte.core.frame import Frame
from vidmatte.jobs.paced import _pace_named, _PacedNetwork
from vidmatte.jobs.smoothing import temporal_filter_for
from vidmatte.models.augment import PLAIN, views_of
from vidmatte.models.base import Network
from vidmatte.models.chosen_weights import Weights
from vidmatte.models.load import augment_schedule
from vidmatte.models.registry import find_model
from vidmatte.models.segmentation import SegmentationNetwork
from vidmatte.settings import Settings

PACES = ("auto", "2", "3", "4")
SHOWN = ("mad", "grad", "dtssd", "flicker")
STILL = (0.6, 1.0, 1.5)  # speeds, pixels a frame
TIMED = 3  # frames that the network's time is measured on


class Recorded(Network):
    """A per-frame network whose outputs were cached, for any frames in any order."""

    recurrent = False

    def __init__(self, footage: Footage, weights: Weights, settings: Settings) -> None:
        self._footage, self._weights = footage, weights
        self._schedule = augment_schedule(weights.family, settings)
        self.runs = 0

    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        size = InputSize(self._footage.outputs[PLAIN].shape[-1])
        for frame in frames:
            self.runs += 1
            views = views_of(frame, self._schedule)
            outputs = [self._footage.outputs[view][frame.index] for view in views]
            yield from SegmentationNetwork(
                Replay(outputs),
                self._weights.fed_as,
                size=size,
                input_name="input",
                schedule=self._schedule,
            ).predict(iter([frame]))

    def cancel(self) -> None:
        """Nothing to cancel."""


def network_seconds(clip: CachedClip, model: str) -> float:
    """CPU seconds of the network on one frame of a clip, in one thread."""
    network = find_model(Settings(model=model, threads=1), print).network
    list(network.predict(iter(frames_of(clip.rgb[:1]))))
    frames = frames_of(clip.rgb[:TIMED])
    began = time.process_time()
    list(network.predict(iter(frames)))
    return (time.process_time() - began) / len(frames)


def measured(
    clip: CachedClip, weights: Weights, pace: str, keep: Path | None = None
) -> dict[str, float]:
    """A pace's measures on a clip, the frames run, and seconds up to the raw alpha."""
    settings = Settings(pace=pace)
    footage = clip.footage(weights, settings)
    recorded = Recorded(footage, weights, settings)
    found = _pace_named(pace)
    network = recorded if found is None else _PacedNetwork(recorded, found)
    frames = frames_of(clip.rgb)
    began = time.process_time()
    frames = list(network.predict(iter(frames)))
    seconds = time.process_time() - began
    smooth = temporal_filter_for(False, settings, weights.fed_as.filter_profile)
    alphas = [frame.alpha for frame in smooth.average_stage(smooth.track_stage(frames))]
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        for index, alpha in enumerate(alphas):
            cv2.imwrite(str(keep / f"{clip.name}-{pace}-{index:03d}.png"), np.rint(alpha * 255))
    facts = {"runs": recorded.runs, "frames": len(frames), "seconds": seconds}
    return score(clip, alphas) | facts


def compared(every: dict[str, float], paced: dict[str, float], network: float) -> dict[str, float]:
    """A pace's figures against every frame's. network: its seconds a frame."""
    ratios = {name: paced[name] / max(every[name], 1e-9) for name in SHOWN}
    enlarging = every["seconds"] / every["frames"]  # in what was replayed
    carrying = max(0.0, paced["seconds"] - enlarging * paced["runs"])
    share = paced["runs"] / paced["frames"]
    return ratios | {"share": share, "cpu": share + carrying / (network * paced["frames"])}


def still_clips(options: argparse.Namespace, folder: Path) -> list[CachedClip]:
    """Clips in which the subject hardly moves."""
    grounds = read_backgrounds(options.background) or [painted_background(n) for n in range(8)]
    files = sorted(options.cutouts.glob("*.png")) if options.cutouts else []
    cutouts = {path.stem: read_cutout(path) for path in files} | {"ball": furry_ball(1)}
    people = [one for one in scenes_of(cutouts, grounds, 1) if one.name.startswith("girl")]
    scenes = [
        replace(one, name=one.name[:-3] + "-still", speed=speed, wave=1.2, width=960, height=540)
        for one, speed in zip(people, STILL, strict=False)
    ]
    return [replace(cache_scene(scene, folder), length=options.frames) for scene in scenes]


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
    weights = find_model(Settings(model=options.model), print).weights[0]
    print(f"{options.model:18}pace " + "".join(f"{name:>9}" for name in (*SHOWN, "share", "cpu")))
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        clips = standard_clips(options, folder)
        if not options.from_cache:
            clips += still_clips(options, folder)
        for clip in clips:
            if options.clips and clip.name not in options.clips:
                continue
            network = network_seconds(clip, options.model)
            every = measured(clip, weights, "every", options.pictures)
            for pace in options.paces:
                paced = measured(clip, weights, pace, options.pictures)
                figures = results[pace][clip.name] = compared(every, paced, network)
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

"""The error of vidmatte's mattes, against the raw output of the same networks.

    python tests/measure_matte.py [--cutouts DIR] [--background FILE ...] [--keep DIR]

Cut-outs with known alpha move over backgrounds along known paths, with motion blur,
noise and H.264 (see composites.py); without ``--cutouts`` a furry ball is drawn. The
network runs on every view of each clip that a mode needs (see vidmatte.models.augment). From
its outputs, stored as 16-bit codes, come

  raw    rembg's post-processing: each frame stretched to 0..1 by its own extremes, 8 bits,
         resized by Pillow's Lanczos filter; for rvm the network's own alpha
  modes  vidmatte's network stage, temporal filter and refinement, by options

Every matte is rounded to 8 bits and scored by vidmatte.tools.metrics, flicker along the
true motion. For each mode and measure three figures against raw are printed, lower is
better: the ratio of the means over clips, the mean of the clips' ratios, the worst
clip's ratio. Milliseconds are those of filter and refinement on this machine, wall time
and CPU time of all cores, by frame size.
rembg also divides a picture by its brightest value first, which is nearly always 255.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from clip_cache import CachedClip, Footage, as_float, cache_scene
from composites import furry_ball, painted_background, read_backgrounds, read_cutout
from composites import standard_scenes as scenes_of

from vidmatte.jobs.smoothing import temporal_filter_for
from vidmatte.models.chosen_weights import Weights
from vidmatte.models.registry import find_model
from vidmatte.settings import Settings
from vidmatte.tools import metrics

MEASURES = ("mad", "mse", "grad", "dtssd", "flicker")
#: The modes of each model, as options of the product.
MODES: dict[str, dict[str, dict[str, Any]]] = {
    "isnet": {
        "default": {},
        "live": {"smooth": "live"},
        "strong": {"smooth": "strong", "refine": "fast"},
        "best": {"refine": "best"},
        "both": {"smooth": "strong", "refine": "best"},
    },
    "u2netp": {"default": {}},
    "rvm": {"smooth": {"smooth": "on"}},
}
SEEDS = (1, 2)  # of the standard scenes; each gives one scene per cut-out
PEOPLE = ("girl", "boy", "man", "woman", "person")

Scores = dict[str, float]


class Cost(NamedTuple):
    """Milliseconds a frame: wall time, and CPU time of all cores."""

    ms: float
    core_ms: float


@dataclass
class Measured:
    """A mode's scores and cost, by clip."""

    scores: dict[str, Scores] = field(default_factory=dict)
    cost: dict[str, Cost] = field(default_factory=dict)


def score(clip: CachedClip, alphas: Iterable[np.ndarray]) -> Scores:
    """The scores of a clip's alphas (H, W) float32, rounded to 8 bits."""
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    last: tuple[np.ndarray, np.ndarray] | None = None
    for index, alpha in enumerate(alphas):
        here = np.rint(alpha * 255).astype(np.float32) / np.float32(255), clip.truth(index)
        found["mad"].append(metrics.mad(*here))
        found["mse"].append(metrics.mse(*here))
        found["grad"].append(metrics._gradient_error(*here))
        if last is not None:
            found["dtssd"].append(metrics.dtssd(*here, *last))
            found["flicker"].append(metrics.flicker(*here, *last, clip.motion[index - 1]))
        last = here
    return {name: float(np.mean(values)) for name, values in found.items()}


def raw_alphas(clip: CachedClip, weights: Weights) -> Iterable[np.ndarray]:
    """The 'raw' mattes of the module's docstring."""
    height, width = clip.rgb.shape[1:3]
    for codes in clip.output(weights):
        alpha = as_float(codes)
        yield alpha if weights.fed_as.recurrence is not None else rembgs(alpha, height, width)


def rembgs(output: np.ndarray, height: int, width: int) -> np.ndarray:
    """A network's output (S, S) after rembg's post-processing, (height, width) float32."""
    stretched = (output - output.min()) / max(float(np.ptp(output)), 1e-6)
    coded = np.rint(stretched * 255).astype(np.float32)
    wide = np.clip(np.rint(coded @ lanczos(output.shape[1], width).T), 0, 255)
    resized = np.clip(np.rint(lanczos(len(output), height) @ wide), 0, 255)
    return resized / np.float32(255)


def lanczos(source: int, target: int) -> np.ndarray:
    """The matrix (target, source) that resizes as Pillow's Lanczos filter: three lobes, widened
    where the picture shrinks."""
    step = source / target
    centres = (np.arange(target) + 0.5) * step - 0.5
    away = (np.arange(source) - centres[:, None]) / max(step, 1)
    weights = np.sinc(away) * np.sinc(away / 3) * (np.abs(away) < 3)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def filtered(
    footage: Footage, weights: Weights, settings: Settings
) -> tuple[list[np.ndarray], Cost]:
    """The alphas after vidmatte's filter and refinement, and their cost."""
    frames = footage.mattes(weights, settings)
    how = temporal_filter_for(
        weights.fed_as.recurrence is not None, settings, weights.fed_as.filter_profile
    )
    start = time.perf_counter(), time.process_time()
    done = list(how.average_stage(how.track_stage(frames)))
    seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    cost = Cost(*(1e3 * spent / len(done) for spent in seconds))
    return [frame.alpha for frame in done if frame.alpha is not None], cost


def measure(
    clips: list[CachedClip], weights: Weights, modes: dict[str, dict[str, Any]]
) -> dict[str, Measured]:
    """Raw and each mode on each clip, by the mode's name."""
    found = {name: Measured() for name in ("raw", *modes)}
    for clip in clips:
        found["raw"].scores[clip.name] = score(clip, raw_alphas(clip, weights))
        for name, options in modes.items():
            settings = Settings(**options)
            alphas, cost = filtered(clip.footage(weights, settings), weights, settings)
            found[name].scores[clip.name] = score(clip, alphas)
            found[name].cost[clip.name] = cost
        print(f"  {weights.name} {clip.name}: measured", file=sys.stderr, flush=True)
    return found


def summary(mode: Measured, raw: Measured) -> dict[str, Scores]:
    """Ratio of means, mean of ratios and worst ratio of each measure, and the worst clip."""
    names = list(raw.scores)
    table: dict[str, Any] = {"ratio of means": {}, "mean of ratios": {}, "worst": {}}
    table["worst clip"] = {}
    for measure_name in MEASURES:
        ours = np.array([mode.scores[name][measure_name] for name in names])
        theirs = np.array([raw.scores[name][measure_name] for name in names])
        ratios = ours / np.maximum(theirs, 1e-9)
        table["ratio of means"][measure_name] = float(ours.mean() / max(theirs.mean(), 1e-9))
        table["mean of ratios"][measure_name] = float(ratios.mean())
        table["worst"][measure_name] = float(ratios.max())
        table["worst clip"][measure_name] = names[int(ratios.argmax())]
    return table


def by_size(mode: Measured, clips: list[CachedClip]) -> dict[str, Cost]:
    """Median cost of a frame, by frame size."""
    sizes: dict[str, list[Cost]] = {}
    for clip in sorted(clips, key=lambda clip: clip.rgb.shape[1]):
        height, width = clip.rgb.shape[1:3]
        sizes.setdefault(f"{width}x{height}", []).append(mode.cost[clip.name])
    return {size: Cost(*np.median(costs, axis=0)) for size, costs in sizes.items()}


def show(model: str, found: dict[str, Measured], clips: list[CachedClip]) -> None:
    """Print a model's table."""
    raw = found["raw"]
    means = {name: np.mean([scores[name] for scores in raw.scores.values()]) for name in MEASURES}
    averages = "  ".join(f"{name} {value:.3f}" for name, value in means.items())
    print(f"\n{model}, {len(clips)} clips. Raw: {averages}")
    print(f"{'':10}{'':16}" + "".join(f"{name:>9}" for name in MEASURES))
    for name in [name for name in found if name != "raw"]:
        rows = summary(found[name], raw)
        worst = rows.pop("worst clip")
        for kind, values in rows.items():
            cells = "".join(f"{value:9.3f}" for value in values.values())
            print(f"{name:10}{kind:16}{cells}")
        above = [f"{worst[at]} ({at})" for at, value in rows["worst"].items() if value > 1]
        print(f"{'':10}above raw: {', '.join(above) or 'no clip'}")
        costs = by_size(found[name], clips).items()
        times = ", ".join(f"{size} {cost.ms:.0f} ({cost.core_ms:.0f})" for size, cost in costs)
        print(f"{'':10}ms a frame (CPU time): {times}")


def standard_clips(options: argparse.Namespace, folder: Path) -> list[CachedClip]:
    """The clips to measure: those in the folder, or the standard scenes, drawn into it."""
    if options.from_cache:
        clips = [CachedClip(path.parent) for path in sorted(folder.glob("*/alpha.npy"))]
        if not clips:
            raise SystemExit(f"--from-cache: {folder} holds no clips; run once without it")
    else:
        grounds = read_backgrounds(options.background) or [painted_background(n) for n in range(8)]
        files = sorted(options.cutouts.glob("*.png")) if options.cutouts else []
        cutouts = {path.stem: read_cutout(path) for path in files}
        scenes = [
            scene
            for seed in SEEDS
            for scene in scenes_of(cutouts | {"ball": furry_ball(seed)}, grounds, seed)
        ]
        clips = [cache_scene(scene, folder) for scene in scenes]
    return [replace(clip, length=options.frames) for clip in clips]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add_clip_options(parser)
    parser.add_argument("--models", nargs="+", choices=list(MODES), default=list(MODES))
    every = list(dict.fromkeys(mode for modes in MODES.values() for mode in modes))
    parser.add_argument("--modes", nargs="+", choices=every, default=every)
    parser.add_argument(
        "--people", nargs="*", default=PEOPLE, help="prefixes of the names of people, for rvm"
    )
    parser.add_argument("--json", type=Path, help="write each clip's figures to this file")
    return parser.parse_args(arguments)


def add_clip_options(parser: argparse.ArgumentParser) -> None:
    """The options that say which clips are measured."""
    parser.add_argument("--cutouts", type=Path, help="folder of RGBA PNGs, with the drawn ball")
    parser.add_argument("--background", type=Path, nargs="*", default=[], help="pictures, movies")
    parser.add_argument("--frames", type=int, help="use only the first frames of each clip")
    parser.add_argument("--keep", type=Path, help="cache clips and network outputs there")
    parser.add_argument("--from-cache", action="store_true", help="use the clips cached in --keep")


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; see the module's docstring."""
    options = parse(arguments)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        clips = standard_clips(options, options.keep or Path(temporary))
        for model in options.models:
            modes = {name: MODES[model][name] for name in MODES[model] if name in options.modes}
            seen = [c for c in clips if model != "rvm" or c.name.startswith(tuple(options.people))]
            if not modes or not seen:
                print(f"\n{model}: no mode or no clip to measure")
                continue
            weights = find_model(Settings(model=model), print).weights[0]
            found = measure(seen, weights, modes)
            show(model, found, seen)
            results[model] = {
                name: {
                    "clips": mode.scores,
                    "ms a frame": mode.cost,
                    "against raw": summary(mode, found["raw"]),
                }
                for name, mode in found.items()
            }
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

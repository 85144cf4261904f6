"""Cases that the means over clips hide: cuts, still scenes, empty scenes, colours.

    python tests/measure_cases.py [--cutouts DIR] [--background FILE ...] [--keep DIR]

The clips are those of measure_matte.py. Alpha is in 8-bit codes, 0..255; unfiltered
is the network's own alpha, neither smoothed nor refined.

  cuts     two clips of one size joined by a hard cut: the mean difference to the unfiltered
           matte in the frames around the cut, and the difference to the result of filtering
           each clip separately. Limit: 2 codes, in the worst frame.
           Then the mean error of these frames, and the unfiltered matte's
  still    a scene in which only the sensor noise changes: root mean square deviation of
           alpha in time, relative to unfiltered, over all frames and over those in the
           middle. Limit: 1/3
  empty    backgrounds without a subject: mean alpha. Limit: 0.5 %, if unfiltered has no more
  colours  squared error around soft edges over a new background, with the true alpha (any
           background: it adds the same to both sides), relative to the source's own
           colours. For frames without noise and compression; for the clip's frames; and the
           share of the latter that is noise: the error that remains if the known old
           background is subtracted exactly. Limit: 0.25; 60 ms at 1920x1080
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from clip_cache import CachedClip, cache_pictures
from composites import (
    Scene,
    furry_ball,
    painted_background,
    read_backgrounds,
    read_cutout,
)
from measure_matte import MODES, add_clip_options, filtered, standard_clips

from vidmatte.alpha.foreground import estimate
from vidmatte.models.chosen_weights import Weights
from vidmatte.models.registry import find_model
from vidmatte.settings import Settings

UNFILTERED = Settings(smooth="off", refine="off")
SHOT, BESIDE = 12, 3  # frames of each clip at a cut; how many of those are compared
STILL_FRAMES, STILL_NOISE, STILL_STEP = 16, 4.0, 3  # step: of the cut-outs
SETTLED = slice(8, -2)  # frames that have the filter's full window
EMPTY_FRAMES = 6
REACH = 15  # pixels across: the kernel that widens soft edges
SOFT = 1 / 255
TINY = 1e-4


def codes_apart(alphas: list[np.ndarray], others: list[np.ndarray]) -> np.ndarray:
    """Mean difference of each frame, 8-bit codes."""
    return np.array([255 * cv2.absdiff(*pair).mean() for pair in zip(alphas, others, strict=True)])


def pairs_of_a_size(clips: list[CachedClip]) -> Iterator[tuple[CachedClip, CachedClip]]:
    """Pairs of clips of equal size; no clip is in two pairs."""
    waiting: dict[tuple[int, ...], CachedClip] = {}
    for clip in clips:
        size = clip.rgb.shape[1:]
        if size in waiting:
            yield waiting.pop(size), clip
        else:
            waiting[size] = clip


def measure_cuts(clips: list[CachedClip], weights: Weights, modes: dict[str, Settings]) -> None:
    """Print the case 'cuts'."""
    print("\ncuts: worst frame's mean difference to unfiltered, and to the separate clips;")
    print("mean error, and the unfiltered matte's")
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in modes}
    for one, other in pairs_of_a_size(clips):
        report = []
        truth = [one.truth(index) for index in range(len(one.rgb))[-BESIDE:]]
        truth += [other.truth(index) for index in range(len(other.rgb))[:BESIDE]]
        for name, settings in modes.items():
            shots = [
                clip.footage(weights, settings).part(part)
                for clip, part in ((one, slice(-SHOT, None)), (other, slice(SHOT)))
            ]
            joined = shots[0].then(shots[1])
            cut = len(shots[0].pictures)
            beside = slice(max(0, cut - BESIDE), cut + BESIDE)
            ours = filtered(joined, weights, settings)[0][beside]
            plain = filtered(joined, weights, UNFILTERED)[0][beside]
            alone = [alpha for shot in shots for alpha in filtered(shot, weights, settings)[0]]
            numbers = (
                codes_apart(ours, plain).max(),
                codes_apart(ours, alone[beside]).max(),
                codes_apart(ours, truth).mean(),
                codes_apart(plain, truth).mean(),
            )
            found[name].append(numbers)
            report.append(name + "".join(f" {number:.2f}" for number in numbers))
        print(f"  {one.name} | {other.name}: {', '.join(report)}", flush=True)
    for name, values in found.items():
        if values:
            mean, worst = np.mean(values, axis=0), np.max(values, axis=0)
            means = "".join(f" {number:.2f}" for number in mean)
            print(f"{name}: mean{means}, worst {worst[0]:.2f} {worst[1]:.2f}")


def still_clips(options: argparse.Namespace, folder: Path) -> Iterator[CachedClip]:
    """The ball and some of the cut-outs, motionless under changing noise."""
    files = sorted(options.cutouts.glob("*.png"))[::STILL_STEP] if options.cutouts else []
    cutouts = {"ball": furry_ball(3)} | {path.stem: read_cutout(path) for path in files}
    for number, (name, cutout) in enumerate(cutouts.items()):
        scene = Scene(name, cutout, painted_background(20 + number), 960, 540, speed=0)
        yield cache_pictures(under_noise(scene), folder / f"still-{name}")


def under_noise(scene: Scene) -> Iterator[np.ndarray]:
    """One frame of a scene with fresh sensor noise, STILL_FRAMES times."""
    alpha, colour, ground = scene.layers(0)
    clean = colour + (1 - alpha[..., None]) * ground
    random = np.random.default_rng(scene.seed)
    for _ in range(STILL_FRAMES):
        noise = random.normal(0, STILL_NOISE, clean.shape)
        yield np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)


def measure_still(
    clips: Iterator[CachedClip], weights: Weights, modes: dict[str, Settings]
) -> None:
    """Print the case 'still'."""
    print("\nstill: deviation of alpha in time relative to unfiltered: all frames, settled frames")
    ratios: dict[str, list[np.ndarray]] = {name: [] for name in modes}
    for clip in clips:
        report = []
        plain = deviations(filtered(clip.footage(weights, UNFILTERED), weights, UNFILTERED)[0])
        for name, settings in modes.items():
            ours = deviations(filtered(clip.footage(weights, settings), weights, settings)[0])
            ratios[name].append(ours / plain)
            report.append("{} {:.3f} {:.3f}".format(name, *ratios[name][-1]))
        print(f"  {clip.name}: unfiltered {plain[0]:.2f} codes, {', '.join(report)}", flush=True)
    for name, values in ratios.items():
        mean, worst = np.mean(values, axis=0), np.max(values, axis=0)
        print(f"{name}: mean {mean[0]:.3f} {mean[1]:.3f}, worst {worst[0]:.3f} {worst[1]:.3f}")


def deviations(alphas: list[np.ndarray]) -> np.ndarray:
    """Root mean square over pixels of the deviation in time, over all frames and over the
    settled ones: 8-bit codes."""
    parts = np.stack(alphas), np.stack(alphas[SETTLED])
    return np.array([255 * np.sqrt(part.var(axis=0, dtype=np.float64).mean()) for part in parts])


def empty_clips(options: argparse.Namespace, folder: Path) -> Iterator[CachedClip]:
    """The backgrounds, panned, with noise, without a subject."""
    grounds = read_backgrounds(options.background) or [painted_background(n) for n in range(4)]
    nobody = np.zeros((8, 8, 4), np.float32)
    for number, ground in enumerate(grounds):
        scene = Scene(f"empty-{number}", nobody, ground)
        random = np.random.default_rng(number)
        pictures = (
            np.clip(picture + random.normal(0, scene.noise, picture.shape), 0, 255).astype(np.uint8)
            for picture in map(scene.background_at, range(EMPTY_FRAMES))
        )
        yield cache_pictures(pictures, folder / scene.name)


def measure_empty(
    clips: Iterator[CachedClip], weights: Weights, modes: dict[str, Settings]
) -> None:
    """Print the case 'empty'."""
    print("\nempty: mean alpha in percent")
    for clip in clips:
        report = []
        for name, settings in {"unfiltered": UNFILTERED, **modes}.items():
            alphas = filtered(clip.footage(weights, settings), weights, settings)[0]
            report.append(f"{name} {100 * np.mean(alphas):.3f}")
        print(f"  {clip.name}: {', '.join(report)}", flush=True)


def measure_colours(clips: list[CachedClip]) -> None:
    """Print the case 'colours'."""
    print("\ncolours: error of the estimate relative to the source's own colours")
    kinds = ("clean", "as decoded", "noise alone")
    errors: list[np.ndarray] = []
    times: dict[str, list[float]] = {}
    for clip in clips:
        of_clip = []
        for index, colours, ground in clip.layers():
            alpha, decoded = clip.truth(index), np.array(clip.rgb[index])
            clean = np.clip(np.rint(colours + (1 - alpha[..., None]) * ground), 0, 255)
            clean = clean.astype(np.uint8)
            cleaned = estimate(clean, alpha)
            start = time.perf_counter()
            ours = estimate(decoded, alpha)
            size = f"{alpha.shape[1]}x{alpha.shape[0]}"
            times.setdefault(size, []).append(1e3 * (time.perf_counter() - start))
            exact = (decoded - (1 - alpha[..., None]) * ground) / np.maximum(alpha, TINY)[..., None]
            pictures = clean, cleaned, decoded, ours, decoded, exact
            of_clip.append([edge_error(each, colours, alpha) for each in pictures])
        errors.append(np.mean(of_clip, axis=0))
        ratios = errors[-1][1::2] / errors[-1][::2]
        report = ", ".join(f"{kind} {ratio:.3f}" for kind, ratio in zip(kinds, ratios, strict=True))
        print(f"  {clip.name}: {report}")
    table = np.array(errors)
    of_means, ratios = (each[..., 1::2] / each[..., ::2] for each in (table.mean(axis=0), table))
    for place, kind in enumerate(kinds):
        mean, worst = ratios[:, place].mean(), ratios[:, place].max()
        print(
            f"{kind}: ratio of means {of_means[place]:.3f}, of ratios {mean:.3f}, worst {worst:.3f}"
        )
    print("ms: " + ", ".join(f"{size} {np.median(ms):.0f}" for size, ms in sorted(times.items())))


def edge_error(colours: np.ndarray, truth: np.ndarray, alpha: np.ndarray) -> float:
    """Mean squared error near soft edges, codes squared; truth: true premultiplied colours."""
    soft = ((alpha > SOFT) & (alpha < 1 - SOFT)).astype(np.uint8)
    near = cv2.dilate(soft, np.ones((REACH, REACH), np.uint8)) > 0
    return float(np.square(alpha[..., None] * colours - truth)[near].mean())


def main() -> None:
    """Measure and print; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add_clip_options(parser)
    parser.add_argument("--model", choices=list(MODES), default="isnet")
    cases = ("cuts", "still", "empty", "colours")
    parser.add_argument("--cases", nargs="+", choices=cases, default=cases)
    options = parser.parse_args()
    weights = find_model(Settings(model=options.model), print).weights[0]
    modes = {name: Settings(**values) for name, values in MODES[options.model].items()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        clips = standard_clips(options, folder)
        if "colours" in options.cases:
            measure_colours(clips)
        if "cuts" in options.cases:
            measure_cuts(clips, weights, modes)
        if "still" in options.cases:
            measure_still(still_clips(options, folder), weights, modes)
        if "empty" in options.cases:
            measure_empty(empty_clips(options, folder), weights, modes)


if __name__ == "__main__":
    main()

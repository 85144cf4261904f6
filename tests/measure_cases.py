"""What the means over clips do not show: cuts, still scenes, empty scenes, colours.

    python tests/measure_cases.py [--cutouts DIR] [--background FILE ...] [--keep DIR]

The clips are those of measure_matte.py. Alpha is told in 8-bit codes, 0..255; unfiltered
is the network's own alpha, neither smoothed nor refined.

  cuts     two clips of a size, cut hard one against the other: the mean difference to the
           unfiltered matte in the frames beside the cut, and the difference to what comes
           out where each clip is filtered by itself. Limit: 2 codes, in the worst frame.
           Then the mean error of these frames, and the unfiltered matte's
  still    a scene in which nothing changes but the sensor's noise: root mean square
           deviation of alpha in time, against the unfiltered, of all frames and of those
           in the middle. Limit: 1/3
  empty    backgrounds without a subject: mean alpha. Limit: 0.5 %, where the unfiltered
           has no more
  colours  squared error around soft edges over a new background, with the true alpha (any
           background: it adds the same to both sides), against that of the source's own
           colours. Of pictures without noise and compression; of the clip's; and the part
           of the latter that is noise: what stays of the error where the old background is
           known and taken off exactly. Limit: 0.25; 60 ms at 1920x1080
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from composites import (
    Scene,
    furry_ball,
    painted_background,
    read_backgrounds,
    read_cutout,
)
from kept_clips import KeptClip, keep_pictures
from measure_matte import MODES, add_clip_options, filtered, standard_clips

from vidmatte.alpha.foreground import estimate
from vidmatte.models.registry import Weights, find_model
from vidmatte.settings import Settings

UNFILTERED = Settings(smooth="off", refine="off")
SHOT, BESIDE = 12, 3  # frames of each clip beside a cut; of those, how many are compared
STILL_FRAMES, STILL_NOISE, STILL_STEP = 16, 4.0, 3  # step: of the cut-outs
SETTLED = slice(8, -2)  # frames with as many before and after them as the filter asks for
EMPTY_FRAMES = 6
REACH = 15  # pixels across, by which soft edges are widened
SOFT = 1 / 255
TINY = 1e-4


def codes_apart(alphas: list[np.ndarray], others: list[np.ndarray]) -> np.ndarray:
    """Mean difference of each frame, 8-bit codes."""
    return np.array([255 * cv2.absdiff(*pair).mean() for pair in zip(alphas, others, strict=True)])


def pairs_of_a_size(clips: list[KeptClip]) -> Iterator[tuple[KeptClip, KeptClip]]:
    """Clips of one size, two by two; none is in two pairs."""
    waiting: dict[tuple[int, ...], KeptClip] = {}
    for clip in clips:
        size = clip.rgb.shape[1:]
        if size in waiting:
            yield waiting.pop(size), clip
        else:
            waiting[size] = clip


def measure_cuts(clips: list[KeptClip], weights: Weights, modes: dict[str, Settings]) -> None:
    """Print the case 'cuts'."""
    print("\ncuts: worst frame's mean difference to unfiltered, and to the clips by themselves;")
    print("mean error, and the unfiltered matte's")
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in modes}
    for one, other in pairs_of_a_size(clips):
        told = []
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
            told.append(name + "".join(f" {number:.2f}" for number in numbers))
        print(f"  {one.name} | {other.name}: {', '.join(told)}", flush=True)
    for name, values in found.items():
        if values:
            mean, worst = np.mean(values, axis=0), np.max(values, axis=0)
            means = "".join(f" {number:.2f}" for number in mean)
            print(f"{name}: mean{means}, worst {worst[0]:.2f} {worst[1]:.2f}")


def still_clips(options: argparse.Namespace, folder: Path) -> Iterator[KeptClip]:
    """The ball and some of the cut-outs, motionless under noise that changes."""
    files = sorted(options.cutouts.glob("*.png"))[::STILL_STEP] if options.cutouts else []
    cutouts = {"ball": furry_ball(3)} | {path.stem: read_cutout(path) for path in files}
    for number, (name, cutout) in enumerate(cutouts.items()):
        scene = Scene(name, cutout, painted_background(20 + number), 960, 540, speed=0)
        yield keep_pictures(under_noise(scene), folder / f"still-{name}")


def under_noise(scene: Scene) -> Iterator[np.ndarray]:
    """One moment of a scene with a camera's noise, STILL_FRAMES times."""
    alpha, colour, ground = scene.layers(0)
    clean = colour + (1 - alpha[..., None]) * ground
    random = np.random.default_rng(scene.seed)
    for _ in range(STILL_FRAMES):
        noise = random.normal(0, STILL_NOISE, clean.shape)
        yield np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)


def measure_still(clips: Iterator[KeptClip], weights: Weights, modes: dict[str, Settings]) -> None:
    """Print the case 'still'."""
    print("\nstill: deviation of alpha in time against unfiltered: all frames, the settled ones")
    ratios: dict[str, list[np.ndarray]] = {name: [] for name in modes}
    for clip in clips:
        told = []
        plain = deviations(filtered(clip.footage(weights, UNFILTERED), weights, UNFILTERED)[0])
        for name, settings in modes.items():
            ours = deviations(filtered(clip.footage(weights, settings), weights, settings)[0])
            ratios[name].append(ours / plain)
            told.append("{} {:.3f} {:.3f}".format(name, *ratios[name][-1]))
        print(f"  {clip.name}: unfiltered {plain[0]:.2f} codes, {', '.join(told)}", flush=True)
    for name, values in ratios.items():
        mean, worst = np.mean(values, axis=0), np.max(values, axis=0)
        print(f"{name}: mean {mean[0]:.3f} {mean[1]:.3f}, worst {worst[0]:.3f} {worst[1]:.3f}")


def deviations(alphas: list[np.ndarray]) -> np.ndarray:
    """Root mean square over pixels of the deviation in time, of all frames and of the settled
    ones: 8-bit codes."""
    parts = np.stack(alphas), np.stack(alphas[SETTLED])
    return np.array([255 * np.sqrt(part.var(axis=0, dtype=np.float64).mean()) for part in parts])


def empty_clips(options: argparse.Namespace, folder: Path) -> Iterator[KeptClip]:
    """The backgrounds, panned, with noise, and nothing before them."""
    grounds = read_backgrounds(options.background) or [painted_background(n) for n in range(4)]
    nobody = np.zeros((8, 8, 4), np.float32)
    for number, ground in enumerate(grounds):
        scene = Scene(f"empty-{number}", nobody, ground)
        random = np.random.default_rng(number)
        pictures = (
            np.clip(picture + random.normal(0, scene.noise, picture.shape), 0, 255).astype(np.uint8)
            for picture in map(scene.background_at, range(EMPTY_FRAMES))
        )
        yield keep_pictures(pictures, folder / scene.name)


def measure_empty(clips: Iterator[KeptClip], weights: Weights, modes: dict[str, Settings]) -> None:
    """Print the case 'empty'."""
    print("\nempty: mean alpha in percent")
    for clip in clips:
        told = []
        for name, settings in {"unfiltered": UNFILTERED, **modes}.items():
            alphas = filtered(clip.footage(weights, settings), weights, settings)[0]
            told.append(f"{name} {100 * np.mean(alphas):.3f}")
        print(f"  {clip.name}: {', '.join(told)}", flush=True)


def measure_colours(clips: list[KeptClip]) -> None:
    """Print the case 'colours'."""
    print("\ncolours: error of the estimated ones against the source's own")
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
            began = time.perf_counter()
            ours = estimate(decoded, alpha)
            size = f"{alpha.shape[1]}x{alpha.shape[0]}"
            times.setdefault(size, []).append(1e3 * (time.perf_counter() - began))
            exact = (decoded - (1 - alpha[..., None]) * ground) / np.maximum(alpha, TINY)[..., None]
            pictures = clean, cleaned, decoded, ours, decoded, exact
            of_clip.append([edge_error(each, colours, alpha) for each in pictures])
        errors.append(np.mean(of_clip, axis=0))
        ratios = errors[-1][1::2] / errors[-1][::2]
        told = ", ".join(f"{kind} {ratio:.3f}" for kind, ratio in zip(kinds, ratios, strict=True))
        print(f"  {clip.name}: {told}")
    table = np.array(errors)
    of_means, ratios = (each[..., 1::2] / each[..., ::2] for each in (table.mean(axis=0), table))
    for place, kind in enumerate(kinds):
        mean, worst = ratios[:, place].mean(), ratios[:, place].max()
        print(
            f"{kind}: ratio of means {of_means[place]:.3f}, of ratios {mean:.3f}, worst {worst:.3f}"
        )
    print("ms: " + ", ".join(f"{size} {np.median(ms):.0f}" for size, ms in sorted(times.items())))


def edge_error(colours: np.ndarray, truth: np.ndarray, alpha: np.ndarray) -> float:
    """Mean squared error near soft edges, codes squared; truth: true colours times alpha."""
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

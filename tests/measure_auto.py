"""The error of ``--model auto`` against that of its two networks.

    python tests/measure_auto.py --cutouts DIR [--background FILE ...] [--keep DIR] [--frames N]

Cut-outs with known alpha move over painted and blurred backgrounds (see composites.py): large,
fast, small, and people's heads alone. The networks' raw alphas, isnet's in its alternating views,
are cached in ``--keep``. For each clip the measures of vidmatte.tools.metrics are printed of isnet
with its default filter, of rvm, which has none, of isnet+rvm and of auto, both with the filter; and
for auto the ratio to the better network; at the end the clips on which a ratio exceeds ``LIMIT``.
Names of people begin as measure_matte.py has it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from clip_cache import as_codes, as_float, frames_of, save
from composites import (
    Scene,
    furry_ball,
    painted_background,
    read_backgrounds,
    read_clip,
    read_cutout,
    write_clip,
)
from measure_matte import PEOPLE

from vidmatte.core.families import PER_FRAME
from vidmatte.jobs.smoothing import temporal_filter_for
from vidmatte.models.augment import mark_views
from vidmatte.models.ensemble import COMBINATIONS
from vidmatte.models.person_first import PersonFirst
from vidmatte.models.registry import find_model
from vidmatte.settings import Settings
from vidmatte.tools.metrics import Score

MEASURES = ("mad", "mse", "grad", "conn", "dtssd")
LIMIT = 1.05  # of the better network: more is a loss
BLUR = 0.022  # sigma of a photo's blur against its height: as out of focus
KINDS = {"big": (0.85, 5), "fast": (0.7, 14), "small": (0.25, 4)}  # share of the height, speed
Alphas = list[np.ndarray]


def scenes(options: argparse.Namespace) -> list[Scene]:
    """Each cut-out in each kind of motion, and the heads of people."""
    photos = read_backgrounds(options.background)
    grounds = [cv2.GaussianBlur(one, (0, 0), BLUR * one.shape[0]) for one in photos]
    grounds += [painted_background(seed) for seed in range(6)]
    files = sorted(options.cutouts.glob("*.png")) if options.cutouts else []
    cutouts = {path.stem: read_cutout(path) for path in files} | {"ball": furry_ball(1)}
    found = []
    for name, cutout in cutouts.items():
        kinds = dict(KINDS)
        pictures = dict.fromkeys(kinds, cutout)
        if is_person(name):
            kinds["head"], pictures["head"] = (0.9, 3), upper_half(cutout)
        for kind, (share, speed) in kinds.items():
            seed = len(found)
            ground, picture = grounds[seed % len(grounds)], pictures[kind]
            found.append(
                Scene(
                    f"{name}-{kind}", picture, ground, 640, 360, share, speed,
                    frames=options.frames, seed=seed,
                )
            )  # fmt: skip
    return [one for one in found if not options.clips or one.name in options.clips]


def is_person(name: str) -> bool:
    return name.startswith(tuple(PEOPLE))


def upper_half(cutout: np.ndarray) -> np.ndarray:
    """Head and shoulders of a person."""
    _, top, _, height = cv2.boundingRect((cutout[..., 3] > 0.02).astype(np.uint8))
    return cutout[top : top + height * 55 // 100].copy()


def rendered(scene: Scene, folder: Path) -> tuple[np.ndarray, Alphas]:
    """The frames (T, H, W, 3) uint8 as decoded, and their true alphas."""
    if not (folder / "rgb.npy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_clip(scene, folder / "clip.mp4")
        alphas = [as_codes(scene.layers(index)[0]) for index in range(scene.frames)]
        save(folder / "alpha.npy", np.stack(alphas))
        save(folder / "rgb.npy", np.stack(list(read_clip(folder / "clip.mp4"))))
    truth = [as_float(codes) for codes in np.load(folder / "alpha.npy")]
    return np.load(folder / "rgb.npy"), truth


def raw_alphas(name: str, pictures: np.ndarray, folder: Path) -> Alphas:
    """A network's alphas; cached."""
    path = folder / f"{name}.npy"
    if not path.exists():
        model = find_model(Settings(model=name), print)
        frames = list(model.network.predict(iter(frames_of(pictures))))
        save(path, np.stack([as_codes(frame.writable_alpha()) for frame in frames]))
    return [as_float(codes) for codes in np.load(path)]


def joined(how: Callable[[np.ndarray, np.ndarray], np.ndarray], *alphas: Alphas) -> Alphas:
    return [how(first, second).copy() for first, second in zip(*alphas, strict=True)]


def chosen(pictures: np.ndarray, isnet: Alphas, rvm: Alphas) -> Alphas:
    """As auto joins them."""
    how = PersonFirst()
    frames = zip(isnet, rvm, pictures, strict=True)
    return [how.combined(first, second, rgb).copy() for first, second, rgb in frames]


def filtered(pictures: np.ndarray, alphas: Alphas) -> Alphas:
    """After the default filter and refinement of a per-frame model."""
    frames = frames_of(pictures)
    for frame, alpha in zip(frames, alphas, strict=True):
        np.copyto(frame.writable_alpha(), alpha)
        mark_views(frame, ["four"])
    how = temporal_filter_for(False, Settings(), PER_FRAME)
    done = how.average_stage(how.track_stage(iter(frames)))
    return [np.copy(frame.writable_alpha()) for frame in done]


def score(alphas: Alphas, truth: Alphas) -> dict[str, float]:
    """The measures of alphas rounded to 8 bits."""
    scores = Score()
    for alpha, true in zip(alphas, truth, strict=True):
        scores.add(np.rint(alpha * 255).astype(np.float32) / np.float32(255), true)
    return scores.means()


def measure(scene: Scene, folder: Path) -> dict[str, dict[str, float]]:
    """The scores of a clip by the model's name."""
    pictures, truth = rendered(scene, folder)
    isnet, rvm = (raw_alphas(name, pictures, folder) for name in ("isnet", "rvm"))
    every = {
        "isnet": filtered(pictures, isnet),
        "rvm": rvm,
        "isnet+rvm": filtered(pictures, joined(COMBINATIONS["edges"], isnet, rvm)),
        "auto": filtered(pictures, chosen(pictures, isnet, rvm)),
    }
    return {name: score(alphas, truth) for name, alphas in every.items()}


def to_better(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """auto's error in each measure against the better network's."""
    better = {one: min(scores["isnet"][one], scores["rvm"][one]) for one in MEASURES}
    return {one: scores["auto"][one] / max(better[one], 1e-6) for one in MEASURES}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cutouts", type=Path, help="folder of RGBA PNGs, with the drawn ball")
    parser.add_argument("--background", type=Path, nargs="*", default=[], help="pictures, movies")
    parser.add_argument("--keep", type=Path, help="cache clips and network outputs there")
    parser.add_argument("--frames", type=int, default=8, help="of each clip")
    parser.add_argument("--clips", nargs="*", help="only these")
    options = parser.parse_args()
    found: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for scene in scenes(options):
            scores = measure(scene, (options.keep or Path(temporary)) / scene.name)
            found[scene.name] = scores
            ratios = to_better(scores)
            row = "  ".join(
                f"{one} {scores['auto'][one]:.2f} ({ratios[one]:.2f})" for one in ratios
            )
            print(f"{scene.name:18} {row}", flush=True)
    people = [scores for name, scores in found.items() if is_person(name)]
    for title, rows in (("people", people), ("all", list(found.values()))):
        for model in ("isnet", "rvm", "isnet+rvm", "auto") if rows else ():
            means = {one: np.mean([row[model][one] for row in rows]) for one in MEASURES}
            print(f"{title:8}{model:11}" + "  ".join(f"{one} {means[one]:.2f}" for one in means))
    worse = [name for name, scores in found.items() if max(to_better(scores).values()) > LIMIT]
    print(f"above {LIMIT} of the better network: {len(worse)} of {len(found)}: {' '.join(worse)}")


if __name__ == "__main__":
    main()

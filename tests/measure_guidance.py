"""How well the chosen subject is tracked, against no choice and simpler methods.

    python tests/measure_guidance.py --cutouts DIR [--background FILE ...] [--keep DIR]
        [--model u2netp] [--features rvm|own|colour] [--clips NAME ...] [--corrections]

Renders the scenes of guidance_clips.py, runs the network on every frame (cached in ``--keep``),
marks the wanted subject on the first frame by its outline as a polygon of 2 px tolerance, and
prints for each clip and method

  S     the choice alone: IoU of the field > 0.5 with the wanted subject, within the pixels of
        any subject, on frames that show part of it
  J     IoU of the matte > 0.5
  MAD   mean |alpha error| x 1000
  leak  share of the other subjects' area that remains in the field

and the CPU milliseconds a frame without the network. Frame 0 does not count. Methods: the
network alone; the connected region that overlaps the last choice; flow alone; ours, as gate,
with the core, best, where colours place the edge that the network does not see, and look, where
it is shown again what it ignores; the true choice as gate.
``--corrections`` adds one to three more keys, each on the frame with the largest error, and
the rank of that frame by doubt. Set OMP_NUM_THREADS=1: idle BLAS threads spin and are counted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
from composites import painted_background, read_backgrounds
from guidance_clips import Clip, Scene, Stage, make_clip, read_cast, scenes
from guidance_pairs import pair_scenes

from vidmatte.alpha.guidance.coarse import CoarseFrame, CoarseFrameMaker
from vidmatte.alpha.guidance.gate import make_gate, unseen_share
from vidmatte.alpha.guidance.motion import Motion, MotionSearch
from vidmatte.alpha.guidance.passes import FrameReport, solve
from vidmatte.alpha.guidance.second_look import LookStore, crop_of, frames_to_show, without_others
from vidmatte.models.weights.store import _default_folder as default_folder

METHODS = (
    "network", "region", "flow", "ours, gate", "ours", "ours, best", "ours, look", "true choice",
)  # fmt: skip
MEASURES = ("S", "J", "MAD", "leak")
SEEN = 30  # pixels of the coarse frame from which a frame shows the subject
TENSORS = {"u2netp": ("1166", "1235", "1264"), "rvm": ("420", "464", "540")}
FILES = {"u2netp": "u2netp.onnx", "rvm": "rvm_mobilenetv3_fp32.onnx"}


def cut_session(
    path: Path, inputs: list[str], outputs: list[str], cut: Path
) -> ort.InferenceSession:
    """A single-threaded session of part of a model."""
    if not cut.exists():
        onnx.utils.extract_model(str(path), str(cut), inputs, outputs)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(cut), options, providers=["CPUExecutionProvider"])


class Networks:
    """The alpha network (u2netp) with its own tensors, and RVM's backbone."""

    def __init__(self, models: Path, keep: Path) -> None:
        names = ["1959", *TENSORS["u2netp"]]
        self._alpha = cut_session(models / FILES["u2netp"], ["input.1"], names, keep / "u2.onnx")
        self._rvm = cut_session(
            models / FILES["rvm"],
            ["src", "downsample_ratio"],
            list(TENSORS["rvm"]),
            keep / "rvm.onnx",
        )

    def see(self, rgb: np.ndarray) -> dict[str, np.ndarray]:
        """alpha (320, 320) uint8; u1..u3 and r1..r3 (C, h, w) float16."""
        mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
        square = cv2.resize(rgb, (320, 320), interpolation=cv2.INTER_AREA).astype(np.float32)
        shown = (square / max(int(rgb.max()), 1) - mean) / deviation
        alpha, *own = self._alpha.run(None, {"input.1": shown.transpose(2, 0, 1)[None]})
        size = (480, round(480 * rgb.shape[0] / rgb.shape[1]))
        wide = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        feed = {"src": wide.transpose(2, 0, 1)[None], "downsample_ratio": np.float32([1])}
        rvm = self._rvm.run(None, feed)
        named = {f"u{i}": t for i, t in enumerate(own, 1)} | {
            f"r{i}": t for i, t in enumerate(rvm, 1)
        }
        codes = np.rint(np.clip(alpha[0, 0], 0, 1) * 255).astype(np.uint8)
        return {"alpha": codes} | {n: t[0].astype(np.float16) for n, t in named.items()}


@dataclass
class Prepared:
    """A clip as the guidance sees it."""

    clip: Clip
    seen: dict[str, np.ndarray]
    features: str
    nets: Callable[[], Networks] | None = None
    prepare_s: float = 0.0
    looked: int = 0

    @property
    def count(self) -> int:
        return len(self.clip.rgb)

    @cached_property
    def frames(self) -> list[CoarseFrame]:
        prefix = {"rvm": "r", "own": "u", "colour": ""}[self.features]
        names = [f"{prefix}{i}" for i in (1, 2, 3)] if prefix else []
        maker, start = CoarseFrameMaker(), time.process_time()
        made = [
            maker.make(rgb, alpha.astype(np.float32) / 255, [self.seen[n][i] for n in names])
            for i, (rgb, alpha) in enumerate(zip(self.clip.rgb, self.seen["alpha"], strict=True))
        ]
        self.prepare_s = (time.process_time() - start) / len(made)
        return made

    @cached_property
    def motions(self) -> list[Motion]:
        """[t - 1]: from frame t to frame t - 1."""
        search, frames = MotionSearch(), self.frames
        return [
            search.between(now.grey, last.grey, now.lab, last.lab) for last, now in pairwise(frames)
        ]

    def wanted(self, index: int) -> np.ndarray:
        return self._small(self.clip.wanted[index])

    def others(self, index: int) -> np.ndarray:
        return self._small(self.clip.others[index])

    def _small(self, codes: np.ndarray) -> np.ndarray:
        size = (self.frames[0].width, self.frames[0].height)
        return cv2.resize(codes.astype(np.float32) / 255, size, interpolation=cv2.INTER_AREA)

    def key(self, index: int) -> np.ndarray:
        """The true mask of a frame as a user would paint it."""
        return self._small(polygon(self.clip.wanted[index]))

    def look_again(self, fields: Fields) -> LookStore:
        """The network's alphas of the frames on which it ignores the subject, shown again."""
        store = LookStore(Path(tempfile.mkdtemp(prefix="looks-")), "look")
        unseen = [unseen_share(fields[i], self.frames[i].alpha) for i in range(self.count)]
        height, width = self.clip.rgb.shape[1:3]
        for index in frames_to_show(unseen):
            crop = crop_of(fields[index], width, height)
            if crop is None or self.nets is None:
                continue
            alpha = self.frames[index].alpha
            shown = without_others(self.clip.rgb[index], fields[index], alpha)[crop.part]
            found = self.nets().see(shown)["alpha"].astype(np.float32) / 255
            size = (shown.shape[1], shown.shape[0])
            sized = np.clip(cv2.resize(found, size, interpolation=cv2.INTER_CUBIC), 0, 1)
            store.put(index, "", crop, (width, height), sized)
            self.looked += 1
        return store

    def network_alpha(self, index: int) -> np.ndarray:
        height, width = self.clip.rgb.shape[1:3]
        alpha = self.seen["alpha"][index].astype(np.float32) / 255
        return np.clip(cv2.resize(alpha, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)


def polygon(codes: np.ndarray) -> np.ndarray:
    """A mask's outlines simplified with 2 px tolerance and filled, uint8 0 or 255."""
    outlines, _ = cv2.findContours(
        (codes > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    drawn = np.zeros(codes.shape, np.uint8)
    for outline in outlines:
        if cv2.contourArea(outline) > 20:
            cv2.fillPoly(drawn, [cv2.approxPolyDP(outline, 2, True)], 255)
    return drawn


Fields = dict[int, np.ndarray]


def by_region(clip: Prepared) -> Fields:
    """The connected regions of the network's alpha that overlap the last choice most."""
    fields = {0: clip.key(0)}
    for index in range(1, clip.count):
        marked = (clip.frames[index].alpha > 0.5).astype(np.uint8)
        count, labels = cv2.connectedComponents(marked)
        overlap = np.bincount(labels.ravel(), (fields[index - 1] > 0.5).ravel(), count)
        overlap[0] = 0
        taken = (overlap > 0.3 * overlap.max()) & (overlap > 0)
        fields[index] = taken[labels].astype(np.float32)
    return fields


def by_flow(clip: Prepared) -> Fields:
    """The first mask warped by flow alone."""
    fields = {0: clip.key(0)}
    for index in range(1, clip.count):
        fields[index] = clip.motions[index - 1].carry(fields[index - 1])
    return fields


def by_truth(clip: Prepared) -> Fields:
    """The true choice of each pixel, spread over the soft edge."""
    fields = {}
    for index in range(clip.count):
        mine, rest = clip.wanted(index), clip.others(index)
        near = cv2.GaussianBlur(mine, (0, 0), 3) - cv2.GaussianBlur(rest, (0, 0), 3)
        sure = np.where(mine + rest > 0.5, mine - rest, near)
        fields[index] = (sure > 0).astype(np.float32) * (near + mine > 0.02)
    return fields


def ours(clip: Prepared, keys: dict[int, np.ndarray]) -> tuple[Fields, list[FrameReport]]:
    fields: Fields = {}
    reports = sorted(solve(clip.frames, keys, fields), key=lambda report: report.index)
    return fields, reports


def choice(clip: Prepared, fields: Fields, index: int) -> float:
    """S of a frame; nan if it does not show the subject."""
    mine, rest = clip.wanted(index), clip.others(index)
    if (mine > 0.5).sum() < SEEN:
        return float("nan")
    some = (mine + rest) > 0.5
    found, true = (fields[index] > 0.5) & some, (mine > rest) & some
    return float((found & true).sum() / max((found | true).sum(), 1))


def matte(
    clip: Prepared, fields: Fields | None, index: int, how: str, looks: LookStore | None = None
) -> np.ndarray:
    """The alpha of a frame. how: the gate alone, with the core, or best, with the picture; looks:
    what the network sees when it is shown the subject again."""
    alpha = clip.network_alpha(index)
    if fields is None:
        return alpha
    field, small = fields[index], clip.frames[index].alpha
    if looks is not None:
        alpha, small = looks.seen(index, alpha), looks.seen(index, small)
    picture = clip.clip.rgb[index] if how == "best" else None
    return make_gate(field, small, core=how != "gate").apply(alpha, picture)


def score(
    clip: Prepared, fields: Fields | None, how: str, looks: LookStore | None = None
) -> dict[str, float]:
    """The scores of a method, means over the clip's frames except the first."""
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    for index in range(1, clip.count):
        field = clip.frames[index].alpha if fields is None else fields[index]
        others = clip.others(index) > 0.5
        found["S"].append(choice(clip, {index: field}, index))
        found["leak"].append(float((field[others] > 0.5).mean()) if others.any() else 0.0)
        truth = clip.clip.wanted[index].astype(np.float32) / 255
        result = matte(clip, fields, index, how, looks)
        found["MAD"].append(1000 * float(np.abs(result - truth).mean()))
        union = ((result > 0.5) | (truth > 0.5)).sum()
        if (clip.wanted(index) > 0.5).sum() >= SEEN:
            found["J"].append(float(((result > 0.5) & (truth > 0.5)).sum() / max(union, 1)))
    return {name: float(np.nanmean(values)) for name, values in found.items()}


@dataclass
class Row:
    """One clip's results."""

    name: str
    held_out: bool
    scores: dict[str, dict[str, float]]
    core_ms: float
    corrected: dict[int, float] = field(default_factory=dict)
    worst_rank: float = float("nan")
    best_of_three: float = float("nan")


def measure(clip: Prepared, corrections: bool) -> Row:
    scene = clip.clip.scene
    start = time.process_time()
    keys = {0: clip.key(0)}
    fields, reports = ours(clip, keys)
    step_s = (time.process_time() - start) / (clip.count - 1)
    scores = {
        "network": score(clip, None, "gate"),
        "region": score(clip, by_region(clip), "gate"),
        "flow": score(clip, by_flow(clip), "gate"),
        "ours, gate": score(clip, fields, "gate"),
        "ours": score(clip, fields, "core"),
        "ours, best": score(clip, fields, "best"),
        "ours, look": score(clip, fields, "best", clip.look_again(fields)),
        "true choice": score(clip, by_truth(clip), "gate"),
    }
    row = Row(scene.name, scene.held_out, scores, 1000 * (step_s + clip.prepare_s))
    if corrections:
        correct(clip, keys, fields, reports, row)
    return row


def correct(
    clip: Prepared,
    keys: dict[int, np.ndarray],
    fields: Fields,
    reports: list[FrameReport],
    row: Row,
) -> None:
    """Add three keys, each on the frame with the largest error."""
    for extra in range(4):
        each = np.array([choice(clip, fields, i) for i in range(clip.count)])
        row.corrected[extra] = float(np.nanmean(each[1:]))
        if extra == 0:
            error = 1 - np.nan_to_num(each, nan=1.0)
            doubt = np.array([report.doubt for report in reports])
            worst = int(error.argmax())
            row.worst_rank = float((doubt > doubt[worst]).mean())
            top = np.argsort(-doubt)[:3]
            row.best_of_three = float(error[top].max() / max(error.max(), 1e-6))
        if extra < 3:
            free = [np.nan if i in keys else value for i, value in enumerate(each)]
            worst = int(np.nanargmin(free))
            keys = keys | {worst: clip.key(worst)}
            fields, _ = ours(clip, keys)


def print_row(row: Row) -> None:
    """Print one clip's results."""
    print(f"{row.name}: {row.core_ms:.0f} CPU ms", *row.corrected.items(), flush=True)
    for method, found in row.scores.items():
        values = "  ".join(f"{name} {value:.3f}" for name, value in found.items())
        print(f"  {method:12s} {values}", flush=True)


def table(rows: list[Row], measure_name: str) -> Iterator[str]:
    """One measure's table in Markdown."""
    yield f"| {measure_name} | " + " | ".join(row.name for row in rows) + " | mean | held out |"
    yield "|" + "---|" * (len(rows) + 3)
    digits = 1 if measure_name == "MAD" else 2
    for method in METHODS:
        values = [row.scores[method][measure_name] for row in rows]
        out = [v for v, row in zip(values, rows, strict=True) if row.held_out]
        cells = [f"{value:.{digits}f}" for value in values]
        ends = [np.mean(values), np.mean(out) if out else float("nan")]
        cells += [f"{value:.{digits if digits == 1 else 3}f}" for value in ends]
        yield f"| {method} | " + " | ".join(cells) + " |"


def prepared(
    scene: Scene,
    stage: Callable[[], Stage],
    nets: Callable[[], Networks],
    options: argparse.Namespace,
) -> Prepared:
    """A scene rendered and run through the networks, or loaded from the cache folder."""
    clips, seen = (
        options.keep / "clips" / f"{scene.name}.npz",
        options.keep / "nets" / f"{scene.name}.npz",
    )
    if not clips.exists():
        clips.parent.mkdir(parents=True, exist_ok=True)
        made = make_clip(stage(), scene)
        np.savez(clips, rgb=made.rgb, wanted=made.wanted, others=made.others)
    cached = np.load(clips)
    clip = Clip(scene, cached["rgb"], cached["wanted"], cached["others"])
    if not seen.exists():
        seen.parent.mkdir(parents=True, exist_ok=True)
        outputs = [nets().see(rgb) for rgb in clip.rgb]
        np.savez(
            seen, **{name: np.stack([output[name] for output in outputs]) for name in outputs[0]}
        )
    return Prepared(clip, dict(np.load(seen)), options.features, nets)


def main() -> None:
    parser = scene_parser(__doc__)
    parser.add_argument("--corrections", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    stage, nets = material(options)
    rows = []
    for scene in chosen_scenes(options):
        row = measure(prepared(scene, stage, nets, options), options.corrections)
        rows.append(row)
        print_row(row)
    print()
    for name in MEASURES:
        print("\n".join(table(rows, name)), end="\n\n")
    print(f"CPU ms a frame without the network: {np.mean([row.core_ms for row in rows]):.0f}")
    if options.corrections:
        for extra in range(4):
            mean = np.mean([row.corrected[extra] for row in rows])
            print(f"S with {extra + 1} keys: {mean:.3f}")
        print(
            f"doubt: {np.mean([row.worst_rank for row in rows]):.2f} of the frames rank above"
            f" the worst; the best of its first three has"
            f" {np.mean([row.best_of_three for row in rows]):.2f} of the worst error"
        )


def scene_parser(text: str | None) -> argparse.ArgumentParser:
    """The options that say which scenes are measured. text: of the script."""
    parser = argparse.ArgumentParser(description=(text or "").split("\n")[0])
    parser.add_argument("--cutouts", type=Path, help="folder of RGBA PNGs (default: drawn balls)")
    parser.add_argument("--background", type=Path, nargs="*", default=[], help="pictures, movies")
    parser.add_argument("--keep", type=Path, default=Path("guidance-clips"))
    parser.add_argument("--features", choices=("rvm", "own", "colour"), default="rvm")
    parser.add_argument(
        "--clips",
        nargs="*",
        help="only these scenes; 'leave*' and the like name those of pairs, see guidance_pairs.py",
    )
    return parser


def chosen_scenes(options: argparse.Namespace) -> Iterator[Scene]:
    """The scenes that the options name, those of pairs too, or all but those."""
    if not options.clips:
        return scenes()
    known = (*scenes(), *pair_scenes())
    return (one for one in known if any(fnmatch(one.name, name) for name in options.clips))


def material(options: argparse.Namespace) -> tuple[Callable[[], Stage], Callable[[], Networks]]:
    """The stage and the networks, each made when it is first needed."""
    options.keep.mkdir(parents=True, exist_ok=True)
    made: dict[str, object] = {}

    def stage() -> Stage:
        if "stage" not in made:
            grounds = read_backgrounds(options.background)
            grounds += [painted_background(n) for n in range(4 if grounds else 8)]
            made["stage"] = Stage(read_cast(options.cutouts), grounds)
        return made["stage"]  # type: ignore[return-value]

    def nets() -> Networks:
        if "nets" not in made:
            made["nets"] = Networks(default_folder(), options.keep)
        return made["nets"]  # type: ignore[return-value]

    return stage, nets


if __name__ == "__main__":
    main()

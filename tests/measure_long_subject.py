"""How a chosen subject is followed through a long clip:
python tests/measure_long_subject.py [--cutouts DIR] [--grounds DIR] [--frames 2000]

Two people walk about for many frames: they cross, turn around (the cut-out mirrored), leave the
picture and come back. The product runs once, with a mask of the wanted one on the first frame.
Prints, for each tenth of the clip, the share of the wanted one's area that is kept (S) and of the
other's that is left (leak), which frames were reported as doubtful, and the peak of the memory at
a tenth of the frames and at all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from guidance_clips import Actor, Scene, Shot, Stage, Stop, read_cast

LAP = 400  # frames until both are where they began, at the other size
SMALL = (64, 36)  # mattes are compared at this size


def path(*stops: tuple[float, float, float], laps: int) -> tuple[Stop, ...]:
    """A path that is repeated: (time, x, height) within a lap."""
    return tuple(
        Stop((lap + time) / laps, x, 1.02, height)
        for lap in range(laps)
        for time, x, height in stops
    )


def scene(frames: int) -> Scene:
    """Both walk to and fro; the wanted one leaves on the left once a lap."""
    laps = max(1, frames // LAP)
    wanted = path(
        (0.0, 0.3, 0.8), (0.25, 0.7, 0.7), (0.5, 0.3, 0.9), (0.62, -0.3, 0.9), (0.72, -0.3, 0.8),
        (0.84, 0.3, 0.8), (0.999, 0.3, 0.8), laps=laps,
    )  # fmt: skip
    other = path(
        (0.0, 0.75, 0.8), (0.25, 0.3, 0.8), (0.5, 0.8, 0.7), (0.75, 0.7, 0.8), (0.999, 0.75, 0.8),
        laps=laps,
    )  # fmt: skip
    actors = (Actor("other", "side", other), Actor("wanted", "arms", wanted))
    return Scene("long", "wanted", (Shot(actors, frames, pan=0.0),))


def turned(shot: Shot, index: int) -> Shot:
    """The shot with the actors looking the way they go in this frame."""
    last = max(shot.frames - 1, 1)
    actors = []
    for actor in shot.actors:
        step = actor.at((index + 1) / last).x - actor.at(index / last).x
        actors.append(Actor(actor.name, actor.role, actor.path, step < 0))
    return Shot(tuple(actors), shot.frames, shot.ground, shot.pan)


def small(alpha: np.ndarray) -> np.ndarray:
    """An alpha (H, W) at the size of the comparison, float32."""
    return cv2.resize(alpha.astype(np.float32), SMALL, interpolation=cv2.INTER_AREA)


def make(stage: Stage, frames: int, folder: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """The clip, and the true alphas of both (T, h, w) float32; writes the mask of frame 0."""
    one, random = scene(frames), np.random.default_rng(7)
    clip, wanted, others = folder / f"long {frames}.mp4", [], []
    with av.open(str(clip), "w") as movie:
        stream = movie.add_stream("libx264", rate=25, options={"crf": "20", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = one.width, one.height, "yuv420p"
        for index in range(frames):
            picture, alphas = stage.render(one, turned(one.shots[0], index), index)
            noise = random.normal(0, one.noise, picture.shape)
            codes = np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)
            movie.mux(stream.encode(av.VideoFrame.from_ndarray(codes, format="rgb24")))
            wanted.append(small(alphas["wanted"]))
            others.append(small(alphas["other"]))
            if index == 0:
                cv2.imwrite(
                    str(folder / "mask.png"), np.rint(255 * alphas["wanted"]).astype(np.uint8)
                )
        movie.mux(stream.encode(None))
    return clip, np.stack(wanted), np.stack(others)


def run(clip: Path, model: str) -> tuple[Path, dict[str, Any], float]:
    """The product's result, its report of quality, and its peak memory in bytes."""
    out = clip.with_suffix(".mov")
    words = [str(clip), "-o", str(out), "--model", model, "--json", "--overwrite"]
    words += ["--subject", f"{clip.parent / 'mask.png'}@f0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vidmatte", *words], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, lines[-3:]
    reports = [one for one in map(json.loads, lines) if "quality" in one]
    return out, reports[-1]["quality"], usage.ru_maxrss * 1024


def kept(out: Path) -> np.ndarray:
    """The alphas of a result at the size of the comparison, (T, h, w) float32."""
    with av.open(str(out)) as movie:
        return np.stack([
            small(frame.to_ndarray(format="rgba")[..., 3] / np.float32(255))
            for frame in movie.decode(video=0)
        ])  # fmt: skip


def main() -> None:
    """Make the clips, run the product, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cutouts", type=Path)
    parser.add_argument("--grounds", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--model", default="u2netp")
    given = parser.parse_args()
    grounds = [cv2.imread(str(file)) for file in sorted(given.grounds.glob("*.jpg"))]
    stage = Stage(read_cast(given.cutouts), [one[..., ::-1] for one in grounds if one is not None])
    with tempfile.TemporaryDirectory() as folder:
        peaks = {}
        for frames in (given.frames // 10, given.frames):
            clip, wanted, others = make(stage, frames, Path(folder))
            out, report, peaks[frames] = run(clip, given.model)
        alphas = kept(out)
    for name in ("subject_lost", "subject_doubtful"):
        print(f"{name}: {report.get(name)}")
    for part in np.array_split(np.arange(given.frames), 10):
        mine, rest, got = wanted[part], others[part], alphas[part]
        share = (mine * got).sum() / max(mine.sum(), 1)
        leak = (rest * got).sum() / max(rest.sum(), 1)
        print(f"frames {part[0]:5} to {part[-1]:5}: kept {share:.3f}, leak {leak:.3f}")
    for frames, peak in peaks.items():
        print(f"{frames} frames: peak {peak / 1e6:.0f} MB")


if __name__ == "__main__":
    main()

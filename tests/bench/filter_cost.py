"""The cost of the temporal filter, stage by stage, of this checkout and of others beside it.

    python tests/bench/filter_cost.py [--clip FILE] [--model NAME] [--against CHECKOUT ...]

Prints the core-milliseconds a frame of ``motion`` (edges redrawn, motion found) and of ``steady``
(the average along the motion), each on one thread, as the mean over the frames of the least and of
the median of ``--rounds``, which alternate between the checkouts in this one process: the least is
what other programs on the machine disturb the least. Other checkouts' alphas are compared
with this one's, in codes of 255. Without ``--clip`` the frames are those of ``vidmatte bench``.
``--keep FOLDER`` keeps the network's alphas, so that a second run needs no network.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by the libraries when they are loaded

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

HERE = Path(__file__).resolve().parents[2]
PACKAGE = "vidmatte"


@dataclass
class Picture:
    """What the filter needs of a frame."""

    rgb: np.ndarray
    alpha: np.ndarray
    new_shot: bool
    mirrored: bool
    augment_phase: int


def make_pictures(clip: Path | None, model: str, size: tuple[int, int], count: int) -> list[Any]:
    """The first frames of a clip with the alpha of the network, as the filter gets them."""
    from vidmatte.alpha.shot_detection import CutDetector
    from vidmatte.jobs.queue import Ring, StopFlag
    from vidmatte.models.registry import find_model
    from vidmatte.readers.open import open_reader
    from vidmatte.settings import Settings
    from vidmatte.tools.bench_clip import make_clip

    settings = Settings(model=model)
    found = find_model(settings, print)
    with tempfile.TemporaryDirectory() as folder:
        if clip is None:
            clip = Path(folder) / "clip.mp4"
            make_clip(clip, *size, count)
        with open_reader(clip, settings) as source:
            ring = Ring(source.clip, count, found.device, StopFlag())
            detector, frames = CutDetector(), []
            for index, picture in enumerate(islice(source.pictures(), count)):
                frames.append(ring.fill(picture, index))
                frames[-1].new_shot = detector.is_new_shot(frames[-1].rgb)
            return [_plain(frame) for frame in found.network.predict(iter(frames))]


def _plain(frame: Any) -> Picture:
    alpha = np.array(frame.alpha, np.float32)
    return Picture(frame.rgb.copy(), alpha, frame.new_shot, frame.mirrored, frame.augment_phase)


def kept_pictures(path: Path, make: Callable[[], list[Picture]]) -> list[Picture]:
    """The pictures kept at ``path``; made and kept if there are none."""
    if not path.exists():
        pictures = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = {name: [getattr(one, name) for one in pictures] for name in _NAMES}
        np.savez(path, **{name: np.array(values) for name, values in columns.items()})
    with np.load(path) as kept:
        columns = {name: kept[name] for name in _NAMES}
    rows = zip(*columns.values(), strict=True)
    return [Picture(rgb, alpha, bool(a), bool(b), int(c)) for rgb, alpha, a, b, c in rows]


_NAMES = ("rgb", "alpha", "new_shot", "mirrored", "augment_phase")


def there_and_back(pictures: list[Picture]) -> Iterator[Picture]:
    """The pictures and then again backwards, as one shot, each with an alpha of its own."""
    for number, one in enumerate([*pictures, *pictures[-2::-1]]):
        yield replace(one, alpha=one.alpha.copy(), new_shot=number == 0)


@dataclass
class Checkout:
    """A version of the package, loaded beside others, and the seconds that it took."""

    name: str
    smoothing: ModuleType
    settings: ModuleType
    families: ModuleType
    seconds: list[np.ndarray] = field(default_factory=list)
    alphas: list[np.ndarray] = field(default_factory=list)

    @classmethod
    def at(cls, folder: Path) -> Checkout:
        """Load the package that lies in a folder, under no name that another one has."""
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]
        sys.path.insert(0, str(folder))
        try:
            modules = [
                importlib.import_module(f"{PACKAGE}.{name}")
                for name in ("jobs.smoothing", "settings", "core.families")
            ]
        finally:
            sys.path.remove(str(folder))
        return cls(folder.name, *modules)

    def filter(self, pictures: list[Picture], recurrent: bool) -> None:
        """Filter the pictures once, and add the seconds of both stages to ``seconds``."""
        profile = self.families.RECURRENT if recurrent else self.families.PER_FRAME
        settings = self.settings.Settings(smooth="on", refine="fast")
        how = self.smoothing.temporal_filter_for(recurrent, settings, profile)
        frames = list(there_and_back(pictures))
        motion, tracked = _timed(how.track_stage(frames))
        steady, done = _timed(how.average_stage(iter(tracked)))
        self.alphas = [frame.alpha for frame in done]
        self.seconds.append(np.array([motion, steady]))


def _timed(items: Iterator[Any]) -> tuple[list[float], list[Any]]:
    """The core-seconds that each of the items took, and the items."""
    seconds, found = [], []
    start = time.process_time()
    for item in items:
        seconds.append(time.process_time() - start)
        found.append(item)
        start = time.process_time()
    return seconds, found


def show(checkouts: list[Checkout]) -> None:
    """Print what each checkout took, and by how much its alphas differ from the first one's."""
    print(f"{'core ms a frame':24}{'motion':>16}{'steady':>16}{'sum':>16}   alpha apart, of 255")
    first = checkouts[0].alphas
    for one in checkouts:
        times = 1000 * np.array(one.seconds)  # (rounds, stages, frames)
        least, median = (each(times, axis=0).mean(axis=1) for each in (np.min, np.median))
        pairs = [*zip(least, median, strict=True), (least.sum(), median.sum())]
        cells = "".join(f"{low:8.1f}{middle:8.1f}" for low, middle in pairs)
        apart = [np.abs(a - b) for a, b in zip(one.alphas, first, strict=True)]
        mean, most = 255 * np.mean(apart), 255 * np.max(apart)
        print(f"{one.name:24}{cells}   mean {mean:.4f}, most {most:.2f}")


def cost_parser(text: str | None) -> argparse.ArgumentParser:
    """The options of a script that compares the cost of checkouts. text: its docstring."""
    parser = argparse.ArgumentParser(description=(text or "").split("\n")[0])
    parser.add_argument("--clip", type=Path, help="a movie instead of the drawn one")
    parser.add_argument("--model", default="u2netp")
    parser.add_argument("--size", default="1920x1080", help="of the drawn clip")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder of the networks' alphas")
    parser.add_argument("--against", type=Path, nargs="*", default=[], help="other checkouts")
    return parser


def main() -> None:
    options = cost_parser(__doc__).parse_args()
    cv2.setNumThreads(1)
    width, height = map(int, options.size.split("x"))
    with tempfile.TemporaryDirectory() as temporary:
        clip = options.clip.stem if options.clip else options.size
        path = (options.keep or Path(temporary)) / f"{options.model}_{clip}_{options.frames}.npz"
        sys.path.insert(0, str(HERE))
        pictures = kept_pictures(
            path,
            lambda: make_pictures(options.clip, options.model, (width, height), options.frames),
        )
    checkouts = [Checkout.at(folder.resolve()) for folder in [HERE, *options.against]]
    for _ in range(options.rounds):
        for one in checkouts:
            one.filter(pictures, options.model == "rvm")
    show(checkouts)


if __name__ == "__main__":
    main()

"""The cost of reading and of writing, of this checkout and of others beside it.

    python tests/bench/io_cost.py [--clip FILE] [--model NAME] [--against CHECKOUT ...]

Prints the core-milliseconds a frame of ``read`` (decoding, the networks' view, shot cuts) and of
``write`` to each format (colours under soft edges, conversion, encoding, the file and its proof):
the least and the median of ``--rounds``, which alternate between the checkouts in this one process,
and the median as a part of the last checkout's. Results are compared byte by byte with this
checkout's. Without ``--clip`` the frames are those of ``vidmatte bench``; ``--keep FOLDER`` keeps
the network's alphas, so that a second run needs no network.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by the libraries when they are loaded

import hashlib
import importlib
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import cv2
import numpy as np
from filter_cost import cost_parser

HERE = Path(__file__).resolve().parents[2]
PACKAGE = "vidmatte"
FORMATS = {"prores": "out.mov", "png": "out", "webm": "out.webm", "ffv1": "out.mkv"}


class Checkout:
    """A version of the package, loaded beside others, and what its stages took."""

    def __init__(self, folder: Path) -> None:
        self.name, self._folder = folder.name, folder
        self._modules: dict[str, ModuleType] = {}
        self.seconds: dict[str, list[float]] = {}
        self.sums: dict[str, str] = {}

    @contextmanager
    def imported(self) -> Iterator[None]:
        """The modules of the package are this checkout's, those imported meanwhile too."""
        for name in _loaded():
            del sys.modules[name]
        sys.modules.update(self._modules)
        sys.path.insert(0, str(self._folder))
        try:
            yield
        finally:
            sys.path.remove(str(self._folder))
            self._modules = {name: sys.modules[name] for name in _loaded()}

    def run(self, clip: Path, alphas: list[np.ndarray], formats: list[str]) -> None:
        """Read the clip's first frames and write them with the alphas to each format."""
        with self.imported():
            settings = _module("settings").Settings(audio=False, overwrite=True)
            with _module("readers.open").open_reader(clip, settings) as source:
                frames = self._read(source, len(alphas))
                for frame, alpha in zip(frames, alphas, strict=True):
                    np.copyto(frame.writable_alpha(), alpha)
                for name in formats:
                    self._write(name, source.clip, frames, settings)

    def _read(self, source: Any, count: int) -> list[Any]:
        queue, device = _module("jobs.queue"), _module("models.runtimes.device").Device()
        ring = queue.Ring(source.clip, count, device, queue.StopFlag())
        detector, frames = _module("alpha.shot_detection").CutDetector(), []
        begin = time.process_time()
        for index, picture in enumerate(islice(source.pictures(), count)):
            frame = ring.fill(picture, index)
            frame.new_shot = detector.is_new_shot(frame.rgb)
            frames.append(frame)
        self._note("read", begin, count)
        views = hashlib.sha256()
        for frame in frames:
            views.update(frame.rgb)
        self.sums["read"] = views.hexdigest()
        return frames

    def _write(self, name: str, clip: Any, frames: list[Any], settings: Any) -> None:
        settings = settings.changed(format=name)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / FORMATS[name]
            begin = time.process_time()
            with _module("jobs.outputs").open_writer(path, clip, settings) as writer:
                for frame in frames:
                    writer.write(frame)
                writer.close()
            self._note(name, begin, len(frames))
            self.sums[name] = _sum_of(path)

    def _note(self, what: str, begin: float, frames: int) -> None:
        spent = 1000 * (time.process_time() - begin) / frames
        self.seconds.setdefault(what, []).append(spent)


def make_alphas(clip: Path, model: str, count: int) -> list[np.ndarray]:
    """The finished alphas of the first frames of a clip."""
    pipeline, settings = _module("jobs.pipeline"), _module("settings").Settings
    settings = settings(model=model, audio=False, out_point=f"f{count}")
    found = _module("models.registry").find_model(settings, print)
    alphas = []
    with _module("readers.open").open_reader(clip, settings) as source:
        matting = pipeline.build_pipeline(source, found, settings, None)
        with matting.pipeline:
            for frame in matting.pipeline:
                alphas.append(frame.alpha.copy())
                frame.release()
    return alphas


def _module(name: str) -> Any:
    return importlib.import_module(f"{PACKAGE}.{name}")


def _loaded() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] == PACKAGE]


def _sum_of(path: Path) -> str:
    """A checksum of a movie's packets, or of a folder's files."""
    found = hashlib.sha256()
    if path.is_dir():
        for file in sorted(path.iterdir()):
            found.update(file.read_bytes())
    else:
        with av.open(str(path)) as container:
            for packet in container.demux(video=0):
                found.update(bytes(packet))
    return found.hexdigest()


def show(checkouts: list[Checkout]) -> None:
    """Print what each checkout took for each stage, and whether its results are the same."""
    first, last = checkouts[0], checkouts[-1]
    print(f"{'core ms a frame':12}{'':24}   least  median   ratio  bytes")
    for what in first.seconds:
        for one in checkouts:
            spent = one.seconds[what]
            ratio = np.median(spent) / np.median(last.seconds[what])
            same = "same" if one.sums[what] == first.sums[what] else "OTHERS"
            times = f"{min(spent):8.1f}{np.median(spent):8.1f}"
            print(f"{what:12}{one.name:24}{times}{ratio:8.2f}  {same}")


def main() -> None:
    parser = cost_parser(__doc__)
    parser.add_argument("--formats", nargs="*", default=["prores", "png"], choices=FORMATS)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    width, height = map(int, options.size.split("x"))
    sys.path.insert(0, str(HERE))
    _module("core.memory").tune_malloc()  # as the program does
    with tempfile.TemporaryDirectory() as temporary:
        clip = options.clip
        if clip is None:
            clip = Path(temporary) / "clip.mp4"
            _module("tools.bench_clip").make_clip(clip, width, height, options.frames)
        name = options.clip.stem if options.clip else options.size
        kept = (options.keep or Path(temporary)) / f"{options.model}_{name}_{options.frames}.npy"
        if not kept.exists():
            np.save(kept, make_alphas(clip, options.model, options.frames))
        alphas = list(np.load(kept))
        sys.path.remove(str(HERE))
        checkouts = [Checkout(folder.resolve()) for folder in [HERE, *options.against]]
        for _ in range(options.rounds):
            for one in checkouts:
                one.run(clip, alphas, options.formats)
    show(checkouts)


if __name__ == "__main__":
    main()

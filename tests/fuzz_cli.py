"""Seeded damage through the real command line, each case a process of its own with limits.

    python tests/fuzz_cli.py COUNT [SEED [WORKERS]]

A case damages one file of a job - a movie, a picture, a mask, a background, a cache, a manifest,
the work of --resume - or gives it a hostile name, and runs ``vidmatte`` over it. No case may end
by a signal, take over 20 seconds or 1 GB, end in an internal error, write a result with another
frame count than it says, or leave a file that is no result. Most cases are forked from a process
that has imported the command line; every 25th starts anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import av
from media import Tone, make_movie, make_pictures
from test_parsers import mutated
from tiny_onnx import make_salient

import vidmatte.api
import vidmatte.cli.batch
import vidmatte.cli.info
import vidmatte.cli.tools
import vidmatte.models.runtimes.onnx_file
import vidmatte.readers.images
import vidmatte.readers.movie.reader
import vidmatte.writers.open
from vidmatte.__main__ import main

ROOT = str(Path(__file__).parent.parent)
SECONDS, MEGABYTES = 20.0, 1000
REAL_EVERY = 25
#: The size that damage may make a file state is limited by the option, as a service would.
LIMIT = ["--max-megapixels", "4"]
NAMES = (
    "shot%03d.png", "-o.mp4", "a\nb.mp4", "a b;$(x).mp4", "{a,b}?.png", "*.png", "é\u202egpm.mp4",
    "file:a.mp4", "concat:a.mp4|b.mp4", "http:.mp4", "%s%n.png", "a.m3u8", "x.ffconcat", "con.txt",
    "a.mp4.", ".mp4", "[1].tif", "pipe:0", "data:,x", "subfile,,start,0,end,0,,:a.mp4",
)  # fmt: skip
TEXTS = (
    "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{name}\n", "ffconcat version 1.0\nfile {name}\n",
    "hello\n" * 50, "", "\0" * 4096, "[" * 100_000, "<svg xmlns='http://www.w3.org/2000/svg'/>",
)  # fmt: skip


@dataclass
class Outcome:
    """How a case ended. fault: what it did that none may do, '' where nothing."""

    number: int
    what: str
    status: int
    seconds: float
    megabytes: float
    fault: str
    words: list[str]


def make_seeds(folder: Path) -> None:
    """Whole files of every kind, a network, and the work of a finished --resume run."""
    folder.mkdir(parents=True)
    tone = [Tone()]
    small = {"frames": 8, "size": (64, 48)}
    make_movie(folder / "h264.mp4", audio=tone, **small)
    make_movie(folder / "h264.mkv", audio=tone, **small)
    make_movie(folder / "h264.ts", **small)
    make_movie(folder / "vp9.webm", codec="libvpx-vp9", **small)
    make_movie(folder / "mpeg4.avi", codec="mpeg4", **small)
    make_movie(folder / "mpeg2.mxf", codec="mpeg2video", **small)
    make_movie(folder / "prores.mov", codec="prores_ks", pixel_format="yuv422p10le", **small)
    make_movie(folder / "ffv1.mkv", codec="ffv1", **small)
    make_movie(folder / "vfr.mkv", pts=[0, 1, 4, 9, 10, 20], size=(64, 48))
    for suffix in (".png", ".jpg", ".tif"):
        (picture,) = make_pictures(folder / "p", frames=1, size=(64, 48), suffix=suffix)
        picture.rename(folder / f"still{suffix}")
    for suffix, codec, form in (
        (".exr", "exr", "gbrpf32le"), (".dpx", "dpx", "gbrp10le"), (".bmp", "bmp", "bgr24"),
        (".tga", "targa", "bgr24"), (".gif", "gif", "rgb8"), (".apng.png", "apng", "rgb24"),
    ):  # fmt: skip
        with av.open(str(folder / "still.png")) as given:
            frame = next(given.decode(video=0)).reformat(format=form)
        muxer = {"gif": "gif", "apng": "apng"}.get(codec, "image2")
        options = {"update": "1"} if muxer == "image2" else {}
        with av.open(str(folder / f"x{suffix}"), "w", format=muxer, options=options) as out:
            stream = out.add_stream(codec, rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, form
            for index in range(1 if muxer == "image2" else 3):
                frame.pts, frame.time_base = index, 1 / stream.average_rate
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    make_salient(folder / "tiny.onnx")
    shutil.rmtree(folder / "p")


def network(seeds: Path) -> list[str]:
    """The options of a tiny network."""
    return ["--model", str(seeds / "tiny.onnx"), "--family", "isnet", "--smooth", "off",
            "--threads", "1", "--runtime", "onnxruntime"]  # fmt: skip


def make_work(seeds: Path) -> None:
    """A finished job with its manifest, cache, and the work of --resume."""
    job = seeds / "job"
    job.mkdir()
    shutil.copy(seeds / "h264.mp4", job / "clip.mp4")
    kept: list[Path] = []
    vidmatte.api.remove_checkpoint = lambda out: kept.append(out)  # it stays
    options = {"family": "isnet", "smooth": "off", "threads": 1, "runtime": "onnxruntime"}
    model = str(seeds / "tiny.onnx")
    vidmatte.matte(job / "clip.mp4", job / "cut.mov", model=model, resume=True, **options)
    vidmatte.matte(
        job / "clip.mp4", job / "other.mov", model=model, cache=str(job / "cache"), **options
    )
    assert kept


class Case:
    """One case: a folder of its own, what is damaged in it, and the words of the call."""

    def __init__(self, number: int, seed: int, seeds: Path, folder: Path) -> None:
        self.random = random.Random(f"{seed} {number}")
        self.number, self.seeds, self.folder = number, seeds, folder
        self.out: str | None = None
        kinds = ("info", "matte", "matte", "matte", "mask", "background", "resume", "cache",
                 "verify", "name", "text")  # fmt: skip
        self.what = self.random.choice(kinds)
        self.words = getattr(self, f"_{self.what}")()

    def _spoilt(self, pattern: str = "*.*") -> str:
        """A damaged copy of a seed in the case's folder; its name."""
        chosen = [path for path in sorted(self.seeds.glob(pattern)) if path.suffix != ".onnx"]
        path = self.random.choice([one for one in chosen if one.is_file()])
        self._damage(path, self.folder / path.name)
        return path.name

    def _damage(self, path: Path, target: Path) -> None:
        data = path.read_bytes()
        kind = self.random.randrange(6)
        if kind == 0:
            data = data[: self.random.randrange(len(data) + 1)]
        elif kind == 1:  # the headers
            data = mutated(data[:512], self.random) + data[512:]
        elif kind == 2:  # the index, where it stands last
            data = data[:-1024] + mutated(data[-1024:], self.random)
        else:
            data = mutated(data, self.random)
        target.write_bytes(data)

    def _job(self) -> None:
        """The finished job, in the case's folder."""
        for path in (self.seeds / "job").iterdir():
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, self.folder / path.name)

    def _info(self) -> list[str]:
        return ["info", self._spoilt()]

    def _run(self, source: str, *more: str) -> list[str]:
        self.out = self.random.choice(("out.mov", "out.mkv", "out", "out.webp"))
        form = ["--format", "png"] if self.out == "out" else []
        words = [*more, *form, *LIMIT, *network(self.seeds), "-o", self.out]
        return [*words, "--", source]

    def _matte(self) -> list[str]:
        return self._run(self._spoilt())

    def _mask(self) -> list[str]:
        mask = self._spoilt("still.*")
        shutil.copy(self.seeds / "h264.mp4", self.folder / "clip.mp4")
        return self._run("clip.mp4", "--garbage-matte", mask)

    def _background(self) -> list[str]:
        behind = self._spoilt()
        shutil.copy(self.seeds / "vp9.webm", self.folder / "clip.webm")
        return self._run("clip.webm", "--comp", "comp.mp4", "--background", behind)

    def _resume(self) -> list[str]:
        self._job()
        work = self.folder / ".cut.mov.resume"
        target = self.random.choice(sorted(path for path in work.iterdir() if path.stat().st_size))
        self._damage(target, target)
        self.out = "cut.mov"
        return ["clip.mp4", "-o", "cut.mov", "--resume", *network(self.seeds)]

    def _cache(self) -> list[str]:
        self._job()
        (stored,) = (self.folder / "cache").glob("*.mkv")
        self._damage(stored, stored)
        return self._run("clip.mp4", "--cache", "cache")

    def _verify(self) -> list[str]:
        self._job()
        self._damage(self.folder / "cut.mov.json", self.folder / "cut.mov.json")
        return ["verify", "cut.mov"]

    def _name(self) -> list[str]:
        name = self.random.choice(NAMES)
        given = self.random.choice(("h264.mp4", "still.png", "x.apng.png", "h264.ts"))
        shutil.copy(self.seeds / given, self.folder / name)
        return self._run(name) if self.random.random() < 0.5 else ["info", "--", name]

    def _text(self) -> list[str]:
        name = self.random.choice(NAMES)
        (self.folder / name).write_text(self.random.choice(TEXTS).format(name=name), "utf-8")
        return self._run(name) if self.random.random() < 0.3 else ["info", "--", name]

    def fault(self, status: int, told: str, before: set[str]) -> str:
        """What the case did that none may do, '' where nothing. told: its stdout and stderr."""
        if status < 0 or status >= 128:
            return f"ended by signal or as {status}"
        if status not in (0, 1, 2) or "internal error" in told or "Traceback" in told:
            return f"status {status}: {told[-300:]}"
        if status == 0 and self.out is not None and (wrong := self._wrong_count(told)):
            return wrong
        allowed = {"comp.mp4", "cache"}
        if status == 0 and self.out is not None:
            allowed |= {self.out, f"{self.out}.json"}
        left = {path.name for path in self.folder.iterdir() if path.name not in before | allowed}
        if self.what == "resume":
            left -= {".cut.mov.resume"}
        return f"left {sorted(left)}" if left else ""

    def _wrong_count(self, told: str) -> str:
        """A clause where the result has other frames than the call said."""
        said = re.search(r": (\d+) frames?, ", told)
        if said is None:
            return ""  # finished before
        path = self.folder / str(self.out)
        if path.is_dir():
            count = len(list(path.glob("*.png")))
        elif path.suffix == ".webp":
            return ""  # equal pictures are merged there
        else:
            with av.open(str(path)) as movie:
                count = sum(1 for packet in movie.demux(video=0) if packet.size)
        return "" if count == int(said[1]) else f"said {said[1]} frames, wrote {count}"


def run_case(number: int, seed: int, seeds: Path, room: Path) -> Outcome:
    """Run one case to its end, or to its limit."""
    folder = room / f"case-{number}"
    folder.mkdir()
    case = Case(number, seed, seeds, folder)
    before = {path.name for path in folder.iterdir()}
    log = room / f"log-{number}"
    began = time.monotonic()
    start = _start_process if number % REAL_EVERY == 0 else _fork
    child = start(case.words, folder, log)
    status, usage = _wait(child, began + SECONDS)
    seconds, megabytes = time.monotonic() - began, usage / 1024
    told = log.read_text("utf-8", "replace")
    if status is None:
        fault = f"over {SECONDS:.0f} s"
    else:
        fault = case.fault(status, told, before)
    if not fault and megabytes > MEGABYTES:
        fault = f"{megabytes:.0f} MB"
    if not fault:
        shutil.rmtree(folder, ignore_errors=True)
        log.unlink()
    code = -signal.SIGKILL if status is None else status
    return Outcome(number, case.what, code, seconds, megabytes, fault, case.words)


def _fork(words: list[str], folder: Path, log: Path) -> int:
    """Run the command line in a forked process; its id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        os.chdir(folder)
        for target, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY | os.O_CREAT | os.O_APPEND)):
            os.dup2(os.open(os.devnull if target == 0 else log, mode), target)
        os.dup2(1, 2)
        sys.argv = ["vidmatte", *words]
        try:
            main()
        except SystemExit as end:
            os._exit(end.code if isinstance(end.code, int) else 0)
    finally:
        os._exit(70)  # main ends otherwise


def _start_process(words: list[str], folder: Path, log: Path) -> int:
    """Run the command line in a new Python; its id."""
    with log.open("wb") as output:
        return subprocess.Popen(  # waited for by its id
            [sys.executable, "-m", "vidmatte", *words],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": ROOT},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ).pid


def _wait(child: int, until: float) -> tuple[int | None, int]:
    """The exit status of a process, None where it was killed at the limit, and its peak in KiB."""
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), usage.ru_maxrss
        if time.monotonic() > until:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            _, _, usage = os.wait4(child, 0)
            return None, usage.ru_maxrss
        time.sleep(0.01)


def serve(numbers: range, seed: int, seeds: Path, room: Path) -> None:
    """Run the cases of one worker, an outcome a line in a file."""
    with (room / f"outcomes-{numbers.start}").open("w", encoding="utf-8") as lines:
        for number in numbers:
            lines.write(json.dumps(asdict(run_case(number, seed, seeds, room))) + "\n")


def fuzz(count: int, seed: int, folder: Path, workers: int = 2) -> Iterator[Outcome]:
    """The outcomes of ``count`` cases, when all have ended."""
    seeds = folder / "seeds"
    make_seeds(seeds)
    make_work(seeds)
    own = [sys.executable, __file__, "serve"]
    started = [
        subprocess.Popen(
            [*own, str(first), str(count), str(workers), str(seed), str(seeds), str(folder)],
            env=os.environ | {"PYTHONPATH": ROOT},
        )
        for first in range(workers)
    ]
    for first, worker in enumerate(started):
        assert worker.wait() == 0
        for line in (folder / f"outcomes-{first}").read_text("utf-8").splitlines():
            yield Outcome(**json.loads(line))


def summary(outcomes: list[Outcome]) -> str:
    """One line on all cases."""
    kinds = Counter(one.what for one in outcomes)
    statuses = Counter(one.status for one in outcomes)
    return (
        f"fuzz: {len(outcomes)} cases ({', '.join(f'{n} {k}' for k, n in sorted(kinds.items()))});"
        f" exit status {dict(sorted(statuses.items()))};"
        f" slowest {max(one.seconds for one in outcomes):.1f} s,"
        f" largest {max(one.megabytes for one in outcomes):.0f} MB;"
        f" {sum(bool(one.fault) for one in outcomes)} faults"
    )


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        begin, end, step, own_seed = map(int, sys.argv[2:6])
        serve(range(begin, end, step), own_seed, Path(sys.argv[6]), Path(sys.argv[7]))
    else:
        given = [int(word) for word in sys.argv[1:]]
        wanted, own_seed, at_once = [*given, *(1, 2)[len(given) - 1 :]]
        place = Path(tempfile.mkdtemp(prefix="vidmatte-fuzz-"))
        all_of_them = []
        for one in fuzz(wanted, own_seed, place, at_once):
            all_of_them.append(one)
            if one.fault:
                print(f"{one.number} {one.what} {one.words}: {one.fault}")
        print(summary(all_of_them))
        if any(one.fault for one in all_of_them):
            print(f"what failed lies in {place}")

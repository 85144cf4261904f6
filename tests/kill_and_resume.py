"""Kill runs with ``--resume`` repeatedly and compare the result with an undisturbed run's.

    python tests/kill_and_resume.py [TRIALS] [--seed N]

Each trial kills a run with SIGKILL, at a random moment or before a random change in the
output folder (a file created, renamed, removed), restarts and kills it a random number of
times, and lets the last run finish. The result must be the same as without a kill: every
packet and its timestamp, every decoded sample and alpha, audio, tags, timecode, names.
Prints a line for each trial; exits 1 if one differs.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from media import Tone, make_movie
from scene import Picture, draw_ball, draw_ground
from tiny_onnx import make_recurrent, make_salient

FRAMES, CUT, SIZE = 90, 53, (64, 48)
PRELOADED = ["av", "cv2", "onnxruntime", "vidmatte.api", "vidmatte.jobs.checkpoint.spool"]
MAX_KILLS = 3
#: Python's audit events that change a folder.
CHANGES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}


@dataclass(frozen=True)
class Case:
    """One kind of run: its output, which of the two tiny networks, and other options."""

    out: str
    network: str = "isnet"
    options: dict[str, Any] = field(default_factory=dict)


CASES = {
    "prores": Case("out.mov"),
    "prores, recurrent": Case("out.mov", "rvm"),
    "prores, trimmed": Case("out.mov", options={"in_point": "f13", "out_point": "f80"}),
    "ffv1": Case("out.mkv"),
    "ffv1, recurrent": Case("out.mkv", "rvm", {"smooth": "on"}),
    "png": Case("frames"),
    "png, recurrent": Case("frames", "rvm"),
    "webm": Case("out.webm"),
    "png, subject": Case("frames", options={"subject": "largest@f20"}),
}


@dataclass
class Trial:
    """The kills of one trial, and what differs in the end."""

    case: str
    kills: list[str]
    resumed_at: int = 0
    differences: list[str] = field(default_factory=list)


def draw_two_shots(position: float, width: int, height: int, lit: bool = False) -> Picture:
    """The ball, and from frame CUT another picture with a hard edge moving through it."""
    if position < CUT:
        return draw_ball(position, width, height, lit)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    alpha = (x < width * (0.3 + 0.004 * (position - CUT))).astype(np.float32)
    stripes = 0.75 + 0.2 * np.sin(0.3 * y + 0.1 * position)
    ground = draw_ground(y, x, min(width, height))
    rgb = alpha[..., None] * stripes[..., None] + (1 - alpha[..., None]) * ground
    return Picture(rgb.astype(np.float32), alpha)


def make_inputs(folder: Path) -> None:
    """The clip, with sound, timecode and a cut, and the two networks."""
    make_clip(folder / "clip.mov", FRAMES)
    make_salient(folder / "isnet.onnx")
    make_recurrent(folder / "rvm.onnx")


def make_clip(path: Path, frames: int) -> None:
    """The clip up to that frame."""
    make_movie(
        path,
        size=SIZE,
        frames=frames,
        rate=Fraction(30000, 1001),
        audio=[Tone()],
        flash=9,
        timecode="01:00:00;00",
        draw=draw_two_shots,
    )


def tiny_options(inputs: Path, network: str = "isnet", **more: Any) -> dict[str, Any]:
    """The options of a run with one of the two networks in ``inputs``."""
    return {"model": str(inputs / f"{network}.onnx"), "family": network, "threads": 1, **more}


def work(inputs: Path, out: Path, case: Case, resume: bool, killed_at: int | None) -> None:
    """One run, in its own process, which kills itself before change number ``killed_at``."""
    from vidmatte.api import matte

    if killed_at is not None:
        kill_at_change(out.parent, killed_at)
    matte(
        inputs / "clip.mov",
        out,
        model=str(inputs / f"{case.network}.onnx"),
        family=case.network,
        resume=resume,
        threads=1,
        **case.options,
    )


def kill_at_change(folder: Path, number: int) -> None:
    """Kill this process before change ``number``, counted from 0, in ``folder``."""
    remaining = [number]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CHANGES or not str(arguments[0]).startswith(str(folder)):
            return
        if event == "open" and not set(str(arguments[1])) & set("wax+"):
            return
        remaining[0] -= 1
        if remaining[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


class Trials:
    """Runs trials in ``folder`` against references that are made once per case."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        self._references: dict[str, dict[str, str]] = {}
        self._seconds: dict[str, float] = {}
        self._number = 0
        make_inputs(folder)
        self._finish(self._launch(time.sleep, 0))  # from here on the fork server is running

    def run(self, name: str) -> Trial:
        """One trial of the case ``name``."""
        case, trial = CASES[name], Trial(name, [])
        if name not in self._references:
            self._make_reference(name)
        self._number += 1
        folder = self._folder / f"trial-{self._number}"
        folder.mkdir()
        out = folder / case.out
        for _ in range(self._random.randint(1, MAX_KILLS)):
            while (how := self._kill(name, out)) is None and not trial.kills:
                shutil.rmtree(folder)  # it finished before the kill: that proves nothing
                folder.mkdir()
            if how is None:
                break
            trial.kills.append(how)
            trial.resumed_at = kept_frames(out)
        if not is_finished(out):
            self._finish(self._start(out, case, True, None))
        trial.differences = list(differences(self._references[name], fingerprint(out)))
        # A kill before the very last change leaves an empty folder behind.
        left = [path.name for path in folder.rglob(".*/*")]
        if left:
            trial.differences.append(f"left behind: {', '.join(left)}")
        return trial

    def _make_reference(self, name: str) -> None:
        case = CASES[name]
        folder = self._folder / f"reference-{len(self._references)}"
        (folder / "warm").mkdir(parents=True)
        self._finish(self._start(folder / "warm" / case.out, case, False, None))
        start = time.monotonic()
        self._finish(self._start(folder / case.out, case, False, None))
        self._seconds[name] = time.monotonic() - start
        self._references[name] = fingerprint(folder / case.out)

    def _kill(self, name: str, out: Path) -> str | None:
        """Start a run and kill it, at a moment, a frame or a change.

        Returns which, or None if the run finished first.
        """
        case, how, number = CASES[name], self._random.choice(("moment", "frame", "change")), 0
        if how == "change":
            number = self._random.choice([self._random.randint(0, 12), self._random.randint(0, 60)])
        process = self._start(out, case, True, number if how == "change" else None)
        if how == "moment":
            moment = self._random.uniform(0, 1.2 * self._seconds[name])
            process.join(moment)
        elif how == "frame":
            number = self._random.randint(1, FRAMES)
            while process.is_alive() and kept_frames(out) < number:
                process.join(0.01)
            process.join(self._random.uniform(0, 0.05))
        else:
            process.join()
        process.kill()
        process.join()
        if process.exitcode == 0 or is_finished(out):
            return None
        if process.exitcode != -signal.SIGKILL:
            raise RuntimeError(f"a run ended with {process.exitcode}")
        return f"{moment:.2f} s" if how == "moment" else f"{how} {number}"

    def _start(self, out: Path, case: Case, resume: bool, killed_at: int | None) -> Any:
        return self._launch(work, self._folder, out, case, resume, killed_at)

    def _launch(self, function: Any, *arguments: Any) -> Any:
        process = self._context.Process(target=function, args=arguments)
        process.start()
        return process

    @staticmethod
    def _finish(process: Any) -> None:
        process.join()
        if process.exitcode != 0:
            raise RuntimeError(f"a run ended with {process.exitcode}")


def checkpoint_folder(out: Path) -> Path:
    """The checkpoint folder of a run."""
    return out.with_name(f".{out.name}.resume")


def is_finished(out: Path) -> bool:
    """Whether only the result remains, no checkpoint."""
    return out.exists() and not (checkpoint_folder(out) / "finished.json").exists()


def kept_frames(out: Path) -> int:
    """How many frames a run's checkpoint holds."""
    from vidmatte.jobs.checkpoint.frame_log import FrameLog

    return FrameLog(checkpoint_folder(out) / "frames.log").survey(lambda head: True).count


def fingerprint(out: Path) -> dict[str, str]:
    """The contents of a result, part by part: files of a folder, or streams of a movie."""
    if out.is_dir():
        return {path.name: picture_fingerprint(path) for path in sorted(out.iterdir())}
    parts: dict[str, str] = {}
    with av.open(str(out)) as container:
        parts["tags"] = str(sorted(container.metadata.items()))
        for stream in container.streams:
            # FFmpeg writes a random number into each Matroska file.
            tags = sorted(stream.metadata.items())
            parts[f"stream {stream.index}"] = f"{stream.type} {stream.time_base} {tags}"
        sums = {stream.index: hashlib.sha256() for stream in container.streams}
        for packet in container.demux():
            times = (packet.pts, packet.dts, packet.duration, packet.is_keyframe)
            beside = b"".join(bytes(data) for data in packet.iter_sidedata())
            sums[packet.stream_index].update(repr(times).encode() + bytes(packet) + beside)
        parts |= {f"packets of {index}": sum_.hexdigest() for index, sum_ in sums.items()}
    parts["pictures"] = digest(b"".join(decoded(out)))
    return parts


def picture_fingerprint(path: Path) -> str:
    """The digest of an image's samples, and the sum of each channel to show how far two differ.

    Not of the file: now and then, on a busy machine, the same samples are deflated otherwise.
    """
    samples = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    kind = f"{samples.shape} {samples.dtype}"
    return f"{digest(samples.tobytes())}, {kind}, sums {samples.sum(axis=(0, 1)).tolist()}"


def decoded(path: Path) -> Iterator[bytes]:
    """The samples of each frame, including alpha, with its timestamp."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield f"{frame.pts} {frame.format.name}".encode()
            for plane in frame.planes:
                lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
                samples = 2 if frame.format.components[0].bits > 8 else 1
                yield lines[: plane.height, : plane.width * samples].tobytes()


def digest(data: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def differences(expected: dict[str, str], found: dict[str, str]) -> Iterator[str]:
    """The differences, one clause each."""
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            yield f"{name}: {found.get(name)} instead of {expected.get(name)}"


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trials", nargs="?", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    failed = kills = 0
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(Path(folder), options.seed)
        names = list(CASES)
        for number in range(options.trials):
            trial = trials.run(names[number % len(names)])
            failed += bool(trial.differences)
            kills += len(trial.kills)
            verdict = "; ".join(trial.differences) or "the same"
            print(
                f"{number + 1:3} {trial.case}: killed at {', '.join(trial.kills)};"
                f" resumed at frame {trial.resumed_at}: {verdict}",
                flush=True,
            )
    print(f"{options.trials} trials, {kills} kills, {failed} with a different result")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

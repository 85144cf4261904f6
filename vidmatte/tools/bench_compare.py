"""vidmatte beside other programs: same frames, same weights, same machine, in turn, checked first.

Each program runs as a process of its own. The time of a run over few frames is subtracted from
that of a run over all, so that start-up and loading do not count.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import av
import numpy as np

from vidmatte.errors import UsageError, VidmatteError

#: Frames of the run whose time is subtracted, and of the one that is checked.
FEW = 2
#: Allowed mean difference of alpha in 8-bit codes. rembg stretches each alpha by its extremes; the
#: filters change the edge and remove flicker.
NEAR, FILTERED = 3.0, 6.0
_COVERED = (0.02, 0.9)  # mean alpha of a frame that shows a subject

_Report = Callable[[str], None]


@dataclass(frozen=True)
class Contender:
    """A program that does the job. ``command(frames, out)``: its words for so many frames.

    tolerance: how far its alpha may be from the first contender's, see ``NEAR``.
    environment: variables that it gets besides vidmatte's own.
    """

    name: str
    command: Callable[[int, Path], list[str]]
    tolerance: float = NEAR
    environment: Mapping[str, str] = field(default_factory=dict)
    is_peer: bool = True

    def run(self, frames: int, out: Path) -> _Time:
        """Do the job once, over what an earlier run left. Raises VidmatteError."""
        _remove(out)
        words = self.command(frames, out)
        began, cores_began = time.perf_counter(), _children_core_seconds()
        done = subprocess.run(
            words,
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        spent = _Time(time.perf_counter() - began, _children_core_seconds() - cores_began)
        if done.returncode:
            raise VidmatteError(f"{self.name} failed: {_last_line(done)}: nothing is compared")
        if (found := _count(out)) != frames:
            raise VidmatteError(
                f"{self.name}: {found} frames instead of {frames} ({_last_line(done)}):"
                " nothing is compared"
            )
        return spent


@dataclass(frozen=True)
class _Time:
    """Seconds on the clock and of all cores."""

    clock: float
    cores: float

    def less(self, other: _Time, frames: int) -> _Time:
        """What each of ``frames`` further frames took."""
        return _Time((self.clock - other.clock) / frames, (self.cores - other.cores) / frames)


@dataclass(frozen=True)
class Compared:
    """What one program took a frame, by round, and how its alpha looked.

    difference: mean of |alpha - the first program's|, 8-bit codes. coverage: mean alpha, 0..1.
    """

    name: str
    is_peer: bool
    difference: float
    coverage: float
    times: tuple[_Time, ...]

    @property
    def ms(self) -> float:
        """Median milliseconds a frame; 0 or less where the start takes all of the time."""
        return 1000 * median(one.clock for one in self.times)

    @property
    def core_ms(self) -> float:
        """Median core milliseconds a frame; see ``ms``."""
        return 1000 * median(one.cores for one in self.times)

    def times_as_long(self, other: Compared) -> tuple[float | None, float | None]:
        """How many times this one's (milliseconds, core milliseconds) ``other`` takes: medians
        over the rounds, in each of which both ran; None where one is not measurable."""
        pairs = list(zip(self.times, other.times, strict=True))
        return (
            _ratio([(mine.clock, its.clock) for mine, its in pairs]),
            _ratio([(mine.cores, its.cores) for mine, its in pairs]),
        )


def _ratio(pairs: list[tuple[float, float]]) -> float | None:
    if any(mine <= 0 or its <= 0 for mine, its in pairs):
        return None
    return median(its / mine for mine, its in pairs)


def check_measurable() -> None:
    """Raise UsageError where the system does not say what a child process took."""
    try:
        import resource  # noqa: F401
    except ImportError:  # Windows
        raise UsageError(
            "--compare: this system does not report the CPU time of other programs: run it on"
            " Linux or macOS"
        ) from None


def compare_programs(
    contenders: Sequence[Contender],
    frames: int,
    rounds: int,
    folder: Path,
    suffix: str,
    report: _Report,
) -> list[Compared]:
    """Check what each makes of a few frames, then run all in turn, ``rounds`` times.

    frames: more than ``FEW``. folder: where results come and go; suffix: of a movie, '' for a
    folder of pictures. report: called with the current step. Raises VidmatteError before anything
    is timed where a result is incomplete, shows no subject, or is not the first one's.
    """
    looks = _check(contenders, folder / f"checked{suffix}", report)
    times: dict[str, list[_Time]] = {contender.name: [] for contender in contenders}
    out = folder / f"timed{suffix}"
    for number in range(1, rounds + 1):
        for contender in contenders:
            report(f"round {number} of {rounds}: {contender.name}")
            few = contender.run(FEW, out)
            times[contender.name].append(contender.run(frames, out).less(few, frames - FEW))
    _remove(out)
    return [
        Compared(one.name, one.is_peer, *looks[one.name], tuple(times[one.name]))
        for one in contenders
    ]


def _check(
    contenders: Sequence[Contender], out: Path, report: _Report
) -> dict[str, tuple[float, float]]:
    """The difference and the coverage of each program's alpha. Raises VidmatteError."""
    reference: list[np.ndarray] = []
    looks = {}
    for contender in contenders:
        report(f"checking {contender.name}")
        contender.run(FEW, out)
        found = _alphas(out)
        reference = reference or found
        first = contenders[0].name
        sizes = [{alpha.shape for alpha in alphas} for alphas in (found, reference)]
        if sizes[0] != sizes[1]:
            raise VidmatteError(
                f"{contender.name}: frames of another size than those of {first}:"
                " nothing is compared"
            )
        pairs = zip(found, reference, strict=True)
        difference = float(np.mean([np.abs(one - other).mean() for one, other in pairs]))
        coverage = float(np.mean([alpha.mean() for alpha in found])) / 255
        low, high = _COVERED
        if not low < coverage < high:
            raise VidmatteError(
                f"{contender.name}: its mean alpha is {coverage:.3f}, not {low} to {high}: it found"
                " no subject, nothing is compared: use another clip or model"
            )
        if difference > contender.tolerance:
            raise VidmatteError(
                f"{contender.name}: its alpha differs from that of {first} by {difference:.2f} of"
                f" 255, allowed is {contender.tolerance:g}: nothing is compared"
            )
        looks[contender.name] = difference, coverage
        _remove(out)
    return looks


def _alphas(result: Path) -> list[np.ndarray]:
    """The alpha of each frame of a folder or a movie, (H, W) float32, 0..255."""
    found = []
    for file in _files_of(result):
        with av.open(str(file)) as container:
            for frame in container.decode(video=0):
                is_deep = frame.format.components[0].bits > 8
                codes = frame.to_ndarray(format="rgba64le" if is_deep else "rgba")[..., 3]
                found.append(codes.astype(np.float32) / (257 if is_deep else 1))
    return found


def _count(result: Path) -> int:
    """How many frames a folder or a movie holds."""
    if not result.suffix:
        return len(_files_of(result))
    if not result.is_file():
        return 0
    with av.open(str(result)) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


def _files_of(result: Path) -> list[Path]:
    """The movie itself, or the pictures of a folder, in order."""
    return [result] if result.suffix else sorted(result.glob("*.png"))


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The last thing that a process said."""
    lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {done.returncode}, without a message"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _children_core_seconds() -> float:
    """Core-seconds of all child processes that have ended."""
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

"""Kill workers, and runs with ``--workers``, at random; compare the result with an undisturbed one.

    python tests/kill_workers.py [KILLS] [--seed N]

SIGKILL reaches, at random moments, one of the worker processes or the parent, whose workers must
then end by themselves; a parent that was killed is started again with ``--resume``. Each result
must be that of the single pipeline: every packet and timestamp, every decoded sample, tags, sound
and names. No process and no work folder may remain. Prints a line for each run; exits 1 if one
differs.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from kill_and_resume import differences, fingerprint, make_inputs

OUTPUTS = ("out.mov", "out.mkv", "frames", "out.webm")
LAST_SECONDS = 60.0  # in which orphaned workers must have ended


@dataclass
class Report:
    """One run: its kills, how long it took in all, and what is wrong with its result."""

    name: str
    kills: list[str] = field(default_factory=list)
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


class Runs:
    """Runs in ``folder`` against references of the single pipeline, made once for each output."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._references: dict[str, dict[str, str]] = {}
        self._number = 0
        make_inputs(folder)

    def run(self, name: str, kills: int) -> Report:
        """One run to ``name`` with up to ``kills`` kills."""
        reference = self._reference(name)
        self._number += 1
        folder = self._folder / f"run-{self._number}"
        folder.mkdir()
        report, began = Report(name), time.monotonic()
        while True:
            driver = self._start(folder / name, workers=3)
            workers = self._kill_until_end(driver, report, kills)
            if driver.wait() >= 0:
                break
            report.faults += still_running(workers)
        report.seconds = time.monotonic() - began
        if driver.returncode:
            report.faults.append(f"it ended with {driver.returncode}")
        else:
            report.faults += differences(reference, fingerprint(folder / name))
        report.faults += still_running(workers)
        report.faults += [f"left: {path.name}" for path in folder.iterdir() if path.name[0] == "."]
        return report

    def _kill_until_end(
        self, driver: subprocess.Popen[bytes], report: Report, kills: int
    ) -> list[psutil.Process]:
        """Kill workers or the driver at random moments until the driver ends; all workers seen."""
        seen: dict[int, psutil.Process] = {}
        began, after, victim = self._draw()
        while driver.poll() is None:
            try:
                children = psutil.Process(driver.pid).children()
            except psutil.NoSuchProcess:
                break
            seen |= {child.pid: child for child in children}
            if not children and victim != "planning parent":
                began = time.monotonic()  # it plans, or loads the network
            elif len(report.kills) < kills and time.monotonic() - began > after:
                (self._random.choice(children) if victim == "worker" else driver).kill()
                report.kills.append(victim)
                began, after, victim = self._draw()
            time.sleep(0.02)
        return list(seen.values())

    def _draw(self) -> tuple[float, float, str]:
        """Now, how many seconds later to kill, and whom."""
        victims = ["worker"] * 5 + ["parent"] * 4 + ["planning parent"]
        return time.monotonic(), self._random.uniform(0, 5), self._random.choice(victims)

    def _reference(self, name: str) -> dict[str, str]:
        if name not in self._references:
            folder = self._folder / f"reference-{len(self._references)}"
            folder.mkdir()
            if self._start(folder / name, workers=1).wait():
                raise RuntimeError(f"{name}: the undisturbed run failed")
            self._references[name] = fingerprint(folder / name)
        return self._references[name]

    def _start(self, out: Path, workers: int) -> subprocess.Popen[bytes]:
        model = ["--model", str(self._folder / "isnet.onnx"), "--family", "isnet", "--threads", "1"]
        words = [str(self._folder / "clip.mov"), "-o", str(out), *model, "--quiet"]
        if workers > 1:
            words += ["--workers", str(workers), "--segment-frames", "15", "--retries", "50"]
            words += ["--resume"]
        return subprocess.Popen([sys.executable, "-m", "vidmatte", *words])


def still_running(workers: list[psutil.Process]) -> list[str]:
    """A clause for each worker that does not end by itself; it is killed."""
    _, alive = psutil.wait_procs(workers, timeout=LAST_SECONDS)
    for process in alive:
        process.kill()
    return [f"worker {process.pid} goes on without its parent" for process in alive]


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kills", nargs="?", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    done = failed = number = 0
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder), options.seed)
        while done < options.kills:
            report = runs.run(OUTPUTS[number % len(OUTPUTS)], min(5, options.kills - done))
            number += 1
            done += len(report.kills)
            failed += bool(report.faults)
            print(
                f"{number:3} {report.name}: killed {', '.join(report.kills) or 'nothing'};"
                f" {report.seconds:.1f} s: {'; '.join(report.faults) or 'the same'}",
                flush=True,
            )
    print(f"{number} runs, {done} kills, {failed} with a different result")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

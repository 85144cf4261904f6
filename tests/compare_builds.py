"""Prove that two versions of vidmatte write the same: the same jobs, result against result.

    python tests/compare_builds.py BEFORE_DIR AFTER_DIR
    python tests/compare_builds.py BEFORE_DIR AFTER_DIR --keep DIR --reuse

Both directories are checkouts. Each job runs by ``python -m vidmatte`` of one and of the
other, on clips drawn here. Compared are file names, every plane of every frame as decoded,
times, tags, codec parameters, packets (sound, timecode, picture), the files' bytes, the
manifests and what ``--json`` reports; not versions, commands and durations, nor the bytes of
Matroska and WebM, in which FFmpeg writes random identifiers. FFmpeg does not decode animated
WebP: its bytes are compared. A sentence that is only worded otherwise is a remark.
Prints a line for each job; exits 1 if one differs. ``--keep`` leaves clips and results in a
folder, from which ``--reuse`` takes BEFORE_DIR's of each job whose commands are the same.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from build_clips import make_clips
from build_facts import WORDS, Facts

FAST = "--model u2netp"
STOPPED = "prores: killed and resumed"
#: Commands by job; @ stands for the folder of clips. What goes into ``out`` is compared.
JOBS = {
    "prores: isnet, two sound tracks, timecode": ("@talk.mov -o out/cut.mov",),
    "prores-xq: isnet, strong and best, trimmed": (
        "@talk.mov -o out/cut.mov --codec prores-xq --smooth strong --refine best --in f1 --out f5",
    ),
    "prores: isnet+rvm": ("@talk.mov -o out/cut.mov --model isnet+rvm --out f4 --no-audio",),
    "prores: rvm over a cut": ("@cut.mp4 -o out/cut.mov --model rvm",),
    "webm: turned upright, Opus": (f"@tall.mp4 -o out/cut.webm {FAST}",),
    "png: picture folder": (f"@pictures -o out/cut/ --fps 24000/1001 {FAST}",),
    "png16: 10 bits, --smooth off": (f"@deep.mov -o out/c/ --format png16 --smooth off {FAST}",),
    "exr: PQ; coded, premultiplied": (
        f"@hdr.mp4 -o out/linear/ --format exr {FAST} --cache kept",
        f"@hdr.mp4 -o out/coded/ --format exr-coded --alpha premultiplied {FAST} --cache kept",
    ),
    "tiff16: full range, numbered": (f"@full.mp4 -o out/s_%04d.tif --start-number 1001 {FAST}",),
    "ffv1: odd size, three side results": (
        f"@odd.mkv -o out/cut.mkv --matte out/matte.mov --foreground-file out/fg/ {FAST}"
        " --comp out/comp.mkv --background '#20a040'",
    ),
    "gif and webp": (f"@tall.mp4 -o out/cut.gif {FAST}", f"@tall.mp4 -o out/cut.webp {FAST}"),
    "prores: controls": (
        f"@screen.mp4 -o out/cut.mov {FAST} --threshold 0.1,0.9 --gamma 1.2 --keep-largest"
        " --fill-holes 40 --erode 1.5 --feather 2 --despill green --garbage-matte @mask.png"
        " --comp out/comp.mp4 --checker",
    ),
    "ffv1: conformed, trimmed, handles": (
        f"@variable.mp4 -o out/cut.mkv {FAST} --conform 25 --in f4 --out f12 --handles 1",
    ),
    "prores: variable rate, --smooth live": (f"@variable.mp4 -o out/cut.mov --smooth live {FAST}",),
    STOPPED: (f"@variable.mp4 -o out/cut.mov --resume {FAST}",),
    "prores: premultiplied, inverted": (
        f"@full.mp4 -o out/cut.mov --alpha premultiplied --invert --foreground source {FAST}",
    ),
    "cineform: full range": (f"@full.mp4 -o out/cut.mov --codec cineform {FAST}",),
    "ffv1: interlaced, anamorphic": (f"@fields.mov -o out/cut.mkv {FAST}",),
    "several inputs, verify, score, preview": (
        f"@screen.mp4 @full.mp4 -o out/ --format png {FAST} --cache kept",
        f"@screen.mp4 -o out/cut.mov --smooth-strength 2 --dilate 2 {FAST} --cache kept",
        "verify out/screen out/cut.mov",
        "score out/screen out/cut.mov --json",
        f"preview @screen.mp4 -o out/sheet.png --frames 2 {FAST}",
    ),
}
ENOUGH_KEPT = 150_000  # bytes in the work folder, a few frames: then the first run is killed
SUBCOMMANDS = {"verify", "score", "preview"}


@dataclass
class Outcome:
    """How a job went: of each command its exit status, stdout and stderr."""

    commands: list[str]
    endings: list[tuple[int, str, str]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Side:
    """One of the two: its checkout, the Python that runs it and the folder of its results."""

    root: Path
    python: str
    folder: Path
    reuse: bool = False

    def check(self) -> None:
        """Raise SystemExit where another package than the checkout's would run."""
        code = "import importlib.util as util; print(util.find_spec('vidmatte').origin)"
        words, environment = [self.python, "-c", code], self._environment()
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        if done.returncode or self.root not in Path(done.stdout.strip()).resolve().parents:
            raise SystemExit(f"{self.root} is not what runs: {done.stdout}{done.stderr}")

    def results(self, number: int, name: str) -> tuple[Facts, Outcome]:
        """Run a job, or take what is kept of it, and read what it wrote."""
        place = self.folder / f"job{number:02}"
        record = place / "outcome.json"
        outcome = Outcome([])
        if self.reuse and record.exists():
            outcome = Outcome(**json.loads(record.read_text()))
        if outcome.commands != list(JOBS[name]):
            shutil.rmtree(place, ignore_errors=True)
            (place / "out").mkdir(parents=True)
            outcome = self._run(place, name)
            record.write_text(json.dumps(vars(outcome)))
        facts = Facts()
        facts.read_folder(place / "out")
        facts.texts[f"stderr{WORDS}"] = "".join(complaint for _, _, complaint in outcome.endings)
        for index, (status, said, _) in enumerate(outcome.endings):
            facts.texts[f"exit status of command {index}"] = str(status)
            facts.read_output(said, f"stdout of command {index}")
        return facts, outcome

    def _run(self, place: Path, name: str) -> Outcome:
        outcome, began = Outcome(list(JOBS[name])), time.monotonic()
        for command in JOBS[name]:
            words = shlex.split(command.replace("@", "../../clips/"))
            words += [] if words[0] in SUBCOMMANDS else ["--json", "--quiet"]
            if name == STOPPED:
                self._kill(place, words)
            process = self._start(place, words)
            said, complaint = process.communicate()
            outcome.endings.append((process.returncode, said, complaint))
        if name == STOPPED and '"resumed_at": 0' in said:
            raise SystemExit(f"{self.root}: a run was killed before it had kept a frame")
        outcome.seconds = time.monotonic() - began
        return outcome

    def _kill(self, place: Path, words: list[str]) -> None:
        """Start a run and kill it when it has kept some frames."""
        process = self._start(place, words)
        while process.poll() is None:
            if bytes_below(place / "out") > ENOUGH_KEPT:
                process.kill()
            time.sleep(0.005)
        _, complaint = process.communicate()
        if process.returncode >= 0:
            raise SystemExit(f"{self.root}: a run ended before it was to be killed: {complaint}")

    def _start(self, place: Path, words: list[str]) -> subprocess.Popen[str]:
        pipes: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        command = [self.python, "-m", "vidmatte", *words]
        return subprocess.Popen(command, cwd=place, env=self._environment(), text=True, **pipes)

    def _environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(self.root)}


def bytes_below(folder: Path) -> int:
    """How much lies in a folder in which a run is at work; 0 where a file went meanwhile."""
    with suppress(FileNotFoundError):
        return sum(path.stat().st_size for path in folder.rglob("*"))
    return 0


def verdict(before: Facts, after: Facts) -> tuple[list[str], int]:
    """What differs, a clause each, and how many sentences are worded otherwise."""
    differences, worded = [], 0
    for name in {**before.texts, **after.texts}:
        meant, found = before.texts.get(name), after.texts.get(name)
        if meant == found:
            continue
        is_worded = name.endswith(WORDS) and meant is not None and found is not None
        worded += is_worded
        differences += [] if is_worded else [f"{name}: {found} instead of {meant}"]
    statuses = [text for name, text in before.texts.items() if name.startswith("exit status")]
    if set(statuses) != {"0"}:
        differences.insert(0, f"BEFORE itself fails: {before.texts['stderr' + WORDS]}")
    if before.flat:
        differences.append("no alpha in BEFORE's results, or only flat ones: nothing is shown")
    return differences, worded


def compare(sides: list[Side], wanted: list[str]) -> int:
    """Run and compare all jobs whose name holds one of the words; 1 if one differs, else 0."""
    failed, done, counts = 0, 0, np.zeros(3, int)
    for number, name in enumerate(JOBS):
        if wanted and not any(word in name for word in wanted):
            continue
        (before, first), (after, second) = (side.results(number, name) for side in sides)
        differences, worded = verdict(before, after)
        done, failed = done + 1, failed + bool(differences)
        counts += [before.frames, before.packets, len(before.texts)]
        said = f"differs, {len(differences)}: {differences[0]}" if differences else "same"
        said += f"; {worded} sentences worded otherwise" if worded else ""
        cost = f"{before.frames} frames, {first.seconds:.0f} and {second.seconds:.0f} s"
        print(f"{number:2} {name} ({cost}): {said}", flush=True)
    frames, packets, facts = counts
    print(f"{done} jobs, {frames} frames, {packets} sound packets, {facts} facts: {failed} differ")
    return 1 if failed or not done else 0


def python_of(root: Path) -> str:
    """The checkout's own Python, or the one that runs this."""
    own = root / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before", type=Path, metavar="BEFORE_DIR")
    parser.add_argument("after", type=Path, metavar="AFTER_DIR")
    parser.add_argument("--python-before", metavar="P", help="default: the checkout's .venv")
    parser.add_argument("--python-after", metavar="P", help="default: the checkout's .venv")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave clips and results there")
    parser.add_argument("--reuse", action="store_true", help="take BEFORE's results from --keep")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="jobs named so")
    asked = parser.parse_args()
    if asked.reuse and asked.keep is None:
        parser.error("--reuse: say where results are kept, with --keep DIR")
    with nullcontext(asked.keep) if asked.keep else tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        before, after = asked.before.resolve(), asked.after.resolve()
        sides = [
            Side(before, asked.python_before or python_of(before), folder / "before", asked.reuse),
            Side(after, asked.python_after or python_of(after), folder / "after"),
        ]
        for side in sides:
            side.check()
        if not (folder / "clips" / "mask.png").exists():
            shutil.rmtree(folder / "clips", ignore_errors=True)
            (folder / "clips").mkdir(parents=True)
            make_clips(folder / "clips")
        return compare(sides, asked.only)


if __name__ == "__main__":
    sys.exit(main())

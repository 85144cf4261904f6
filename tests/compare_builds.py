"""Prove that two versions of vidmatte write the same results for the same jobs.

    python tests/compare_builds.py BEFORE_DIR AFTER_DIR
    python tests/compare_builds.py BEFORE_DIR AFTER_DIR --keep DIR --reuse

Both directories are checkouts. Each job runs with ``python -m vidmatte`` from both, on clips
drawn here. Compared are file names, every plane of every decoded frame, timestamps, tags, codec
parameters, packets (audio, timecode, video), the files' bytes, the manifests and the ``--json``
reports; not versions, commands and durations, nor the bytes of Matroska and WebM, into which
FFmpeg writes random identifiers. FFmpeg does not decode animated WebP: its bytes are compared.
A reworded sentence is reported, but is no difference. Prints a line for each job; exits 1 if one
differs. ``--keep`` stores clips and results in a folder, from which ``--reuse`` takes
BEFORE_DIR's results of each job whose commands are unchanged.
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
RESUMED = "prores: killed and resumed"
#: Commands by job; @ stands for the folder of clips. The contents of ``out`` are compared.
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
    "ffv1: odd size, three extra outputs": (
        f"@odd.mkv -o out/cut.mkv --matte out/matte.mov --foreground-file out/fg/ {FAST}"
        " --comp out/comp.mkv --background '#20a040'",
    ),
    "gif and webp": (f"@tall.mp4 -o out/cut.gif {FAST}", f"@tall.mp4 -o out/cut.webp {FAST}"),
    "prores: matte adjustments": (
        f"@screen.mp4 -o out/cut.mov {FAST} --threshold 0.1,0.9 --gamma 1.2 --keep-largest"
        " --fill-holes 40 --erode 1.5 --feather 2 --despill green --garbage-matte @mask.png"
        " --comp out/comp.mp4 --checker",
    ),
    "ffv1: conformed, trimmed, handles": (
        f"@variable.mp4 -o out/cut.mkv {FAST} --conform 25 --in f4 --out f12 --handles 1",
    ),
    "prores: variable rate, --smooth live": (f"@variable.mp4 -o out/cut.mov --smooth live {FAST}",),
    RESUMED: (f"@variable.mp4 -o out/cut.mov --resume {FAST}",),
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
ENOUGH_SAVED = 150_000  # bytes in the checkpoint, a few frames: then the first run is killed
SUBCOMMANDS = {"verify", "score", "preview"}


@dataclass
class Outcome:
    """The outcome of a job: exit status, stdout and stderr of each command."""

    commands: list[str]
    endings: list[tuple[int, str, str]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Version:
    """One of the two versions: its checkout, its Python and the folder of its results."""

    root: Path
    python: str
    folder: Path
    reuse: bool = False

    def check(self) -> None:
        """Raise SystemExit if a package other than the checkout's would run."""
        code = "import importlib.util as util; print(util.find_spec('vidmatte').origin)"
        words, environment = [self.python, "-c", code], self._environment()
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        if done.returncode or self.root not in Path(done.stdout.strip()).resolve().parents:
            found = f"{done.stdout}{done.stderr}"
            raise SystemExit(f"another vidmatte runs instead of {self.root}: {found}")

    def results(self, number: int, name: str) -> tuple[Facts, Outcome]:
        """Run a job, or take its stored results, and read them."""
        folder = self.folder / f"job{number:02}"
        record = folder / "outcome.json"
        outcome = Outcome([])
        if self.reuse and record.exists():
            outcome = Outcome(**json.loads(record.read_text()))
        if outcome.commands != list(JOBS[name]):
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "out").mkdir(parents=True)
            outcome = self._run(folder, name)
            record.write_text(json.dumps(vars(outcome)))
        facts = Facts()
        facts.read_folder(folder / "out")
        facts.texts[f"stderr{WORDS}"] = "".join(stderr for _, _, stderr in outcome.endings)
        for index, (status, stdout, _) in enumerate(outcome.endings):
            facts.texts[f"exit status of command {index}"] = str(status)
            facts.read_output(stdout, f"stdout of command {index}")
        return facts, outcome

    def _run(self, folder: Path, name: str) -> Outcome:
        outcome, start = Outcome(list(JOBS[name])), time.monotonic()
        for command in JOBS[name]:
            words = shlex.split(command.replace("@", "../../clips/"))
            words += [] if words[0] in SUBCOMMANDS else ["--json", "--quiet"]
            if name == RESUMED:
                self._kill(folder, words)
            process = self._start(folder, words)
            stdout, stderr = process.communicate()
            outcome.endings.append((process.returncode, stdout, stderr))
        if name == RESUMED and '"resumed_at": 0' in stdout:
            raise SystemExit(f"{self.root}: a run was killed before it had saved a frame")
        outcome.seconds = time.monotonic() - start
        return outcome

    def _kill(self, folder: Path, words: list[str]) -> None:
        """Start a run and kill it once it has saved some frames."""
        process = self._start(folder, words)
        while process.poll() is None:
            if bytes_below(folder / "out") > ENOUGH_SAVED:
                process.kill()
            time.sleep(0.005)
        _, stderr = process.communicate()
        if process.returncode >= 0:
            raise SystemExit(f"{self.root}: a run ended before it could be killed: {stderr}")

    def _start(self, folder: Path, words: list[str]) -> subprocess.Popen[str]:
        pipes: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        command = [self.python, "-m", "vidmatte", *words]
        return subprocess.Popen(command, cwd=folder, env=self._environment(), text=True, **pipes)

    def _environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(self.root)}


def bytes_below(folder: Path) -> int:
    """The size of a folder in which a run is working; 0 if a file vanished meanwhile."""
    with suppress(FileNotFoundError):
        return sum(path.stat().st_size for path in folder.rglob("*"))
    return 0


def verdict(before: Facts, after: Facts) -> tuple[list[str], int]:
    """The differences, one clause each, and the number of reworded sentences."""
    differences, reworded = [], 0
    for name in {**before.texts, **after.texts}:
        expected, found = before.texts.get(name), after.texts.get(name)
        if expected == found:
            continue
        is_reworded = name.endswith(WORDS) and expected is not None and found is not None
        reworded += is_reworded
        differences += [] if is_reworded else [f"{name}: {found} instead of {expected}"]
    statuses = [text for name, text in before.texts.items() if name.startswith("exit status")]
    if set(statuses) != {"0"}:
        differences.insert(0, f"BEFORE itself fails: {before.texts['stderr' + WORDS]}")
    if before.flat:
        differences.append("BEFORE's results have no alpha, or only flat ones: this proves nothing")
    return differences, reworded


def compare(versions: list[Version], words: list[str]) -> int:
    """Run and compare all jobs whose name contains one of the words; 1 if one differs, else 0."""
    failed, done, counts = 0, 0, np.zeros(3, int)
    for number, name in enumerate(JOBS):
        if words and not any(word in name for word in words):
            continue
        (before, first), (after, second) = (version.results(number, name) for version in versions)
        differences, reworded = verdict(before, after)
        done, failed = done + 1, failed + bool(differences)
        counts += [before.frames, before.packets, len(before.texts)]
        report = f"differs, {len(differences)}: {differences[0]}" if differences else "same"
        report += f"; {reworded} sentences reworded" if reworded else ""
        cost = f"{before.frames} frames, {first.seconds:.0f} and {second.seconds:.0f} s"
        print(f"{number:2} {name} ({cost}): {report}", flush=True)
    frames, packets, facts = counts
    print(f"{done} jobs, {frames} frames, {packets} sound packets, {facts} facts: {failed} differ")
    return 1 if failed or not done else 0


def python_of(root: Path) -> str:
    """The checkout's own Python, or the one that runs this script."""
    own = root / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before", type=Path, metavar="BEFORE_DIR")
    parser.add_argument("after", type=Path, metavar="AFTER_DIR")
    parser.add_argument("--python-before", metavar="P", help="default: the checkout's .venv")
    parser.add_argument("--python-after", metavar="P", help="default: the checkout's .venv")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="store clips and results there")
    parser.add_argument("--reuse", action="store_true", help="take BEFORE's results from --keep")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="select jobs by name")
    options = parser.parse_args()
    if options.reuse and options.keep is None:
        parser.error("--reuse: name the folder of the stored results with --keep DIR")
    with nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory() as folder:
        folder = Path(folder).resolve()
        before, after = options.before.resolve(), options.after.resolve()
        versions = [
            Version(
                before, options.python_before or python_of(before), folder / "before", options.reuse
            ),
            Version(after, options.python_after or python_of(after), folder / "after"),
        ]
        for version in versions:
            version.check()
        if not (folder / "clips" / "mask.png").exists():
            shutil.rmtree(folder / "clips", ignore_errors=True)
            (folder / "clips").mkdir(parents=True)
            make_clips(folder / "clips")
        return compare(versions, options.only)


if __name__ == "__main__":
    sys.exit(main())

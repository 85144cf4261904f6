"""Run clips over a Ray cluster of three nodes on this machine, also with a node killed in the
middle, and compare the results with those of the single pipeline.

    python tests/ray_cluster.py [CLIP --model NAME ...]

Every node has its own processes. Without a clip it is a drawn one, with a tiny network. Compared
are every packet and timestamp, every decoded sample (SHA-256), tags, sound and names. Prints a line
for each run; exits 1 if one differs. It needs the extra [ray].
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kill_and_resume import differences, fingerprint, make_inputs
from ray.cluster_utils import Cluster

CLIENT_PORT = 23517
ONE_CORE = {"num_cpus": 1, "include_dashboard": False}
#: What is run, and its --workers.
CASES = {
    "3 local": "3",
    "3 nodes": "ray",
    "client": f"ray://127.0.0.1:{CLIENT_PORT}",
    "stopped": "ray",
    "node killed": "ray",
}


class Runs:
    """Runs of one clip in ``folder``. words: further ones for the command line."""

    def __init__(self, folder: Path, clip: Path, words: list[str], segment_frames: int) -> None:
        self._folder, self._clip = folder, clip
        self._words, self._segment_frames = words, segment_frames
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={**ONE_CORE, "ray_client_server_port": CLIENT_PORT},
        )
        self.nodes = [self.cluster.add_node(**ONE_CORE) for _ in range(2)]

    def run(self, case: str, name: str, workers: str, reference: Path | None) -> list[str]:
        """Run a case; prints it, and returns what is wrong. reference: the result to compare."""
        out = self._folder / case / name
        out.parent.mkdir(parents=True)
        began = time.monotonic()
        process = self._start(out, workers)
        faults = []
        if case == "node killed":
            self._wait_for_segment(out, process)
            self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)
        if case == "stopped":
            self._wait_for_segment(out, process)
            process.send_signal(signal.SIGINT)
            if process.wait() != 130:
                faults.append(f"Ctrl+C: status {process.returncode}")
            process = self._start(out, workers)
        stdout, stderr = process.communicate()
        seconds = time.monotonic() - began
        if process.returncode:
            faults.append(f"status {process.returncode}: {stderr.strip()}")
        elif reference is not None:
            faults += differences(fingerprint(reference), fingerprint(out))
        if case == "node killed" and "trying again" not in stderr:
            faults.append(f"no segment was tried again: {stderr.strip()}")
        if stdout or "raylet" in stderr or "Traceback" in stderr:
            faults.append(f"printed: {stdout}{stderr}")
        faults += [f"left: {path.name}" for path in out.parent.iterdir() if path.name[0] == "."]
        verdict = "; ".join(faults) or ("the same" if reference else "reference")
        print(f"{case:12} {name:8} {seconds:6.1f} s: {verdict}", flush=True)
        return faults

    def _start(self, out: Path, workers: str) -> subprocess.Popen[str]:
        words = [str(self._clip), "-o", str(out), *self._words, "--threads", "1"]
        if workers != "1":
            words += ["--workers", workers, "--resume"]
            words += ["--segment-frames", str(self._segment_frames)]
        return subprocess.Popen(
            [sys.executable, "-m", "vidmatte", *words],
            env={**os.environ, "RAY_ADDRESS": self.cluster.address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def _wait_for_segment(out: Path, process: subprocess.Popen[str]) -> None:
        """Wait until the first segment is done and others are in the making."""
        folder = out.parent / f".{out.name}.segments" / "plan.segments"
        while process.poll() is None and not list(folder.glob("0*")):
            time.sleep(0.02)


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=Path)
    parser.add_argument("--segment-frames", type=int, default=12)
    parser.add_argument("--outputs", default="out.mov", help="names, with commas between")
    parser.add_argument("--cases", default=",".join(CASES), help="of: " + ", ".join(CASES))
    options, words = parser.parse_known_args()
    faults = []
    with tempfile.TemporaryDirectory() as name:
        folder, clip = Path(name), options.clip
        if clip is None:
            make_inputs(folder)
            clip, words = folder / "clip.mov", ["--family", "isnet", "--model"]
            words.append(str(folder / "isnet.onnx"))
        runs = Runs(folder, clip, words, options.segment_frames)
        try:
            for out in options.outputs.split(","):
                reference = folder / "single" / out
                faults += runs.run("single", out, "1", None)
                for case in options.cases.split(","):
                    faults += runs.run(case, out, CASES[case], reference)
                for case in folder.iterdir():
                    if case.is_dir():
                        case.rename(folder / f"{out}, {case.name}")
                if len(runs.nodes) < 2:
                    runs.nodes.append(runs.cluster.add_node(**ONE_CORE))
        finally:
            runs.cluster.shutdown()
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

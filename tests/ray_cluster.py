"""Run clips over a Ray cluster of three nodes on this machine, and compare the results with those
of the single pipeline.

    python tests/ray_cluster.py [--parts formats,faults,service,s3,kills] [--real] [--kills N]

Every node has its own processes. ``formats``: each format by ``--workers 1``, ``--workers 3`` and
the cluster. ``faults``: a node killed, a run stopped, a segment made twice, a node with another
version or precision. ``service``: jobs over HTTP. ``s3``: sources and results on an S3 server, one
node's disk full. ``kills``: random kills of nodes, actors, workers and drivers. The networks are
tiny ones; with --real those that users have.

Compared are every packet and timestamp, every decoded sample with alpha (SHA-256), tags, sound,
timecode and names; ProRes byte for byte, FFV1 but for the numbers that FFmpeg draws. Prints a
table; exits 1 if anything differs. It needs the extra [ray]; ``s3`` also moto[server], s3fs and, as
it mounts a small disk, root; ``service`` the extra [serve].
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import httpx
import psutil
from kill_and_resume import CUT, differences, draw_two_shots, fingerprint
from media import Tone, make_movie
from ray.cluster_utils import Cluster
from s3_server import S3Server, is_copy, is_put
from scene import Picture, draw_ball
from service_jobs import ended, fetch, matting
from service_support import running_server, upload
from tiny_onnx import make_recurrent, make_salient

import vidmatte

CLIENT_PORT = 23517
CLIENT = f"ray://127.0.0.1:{CLIENT_PORT}"
ONE_CORE = {"num_cpus": 1, "include_dashboard": False}
FRAMES, SHOT = 48, 16
PARTS = ("formats", "faults", "service", "s3", "kills")
#: Networks, their options and outputs.
FORMATS = {
    "isnet": (["--out", "f12"], ["out.mov"]),
    "u2netp": (["--out", "f24"], ["out.mov", "frames", "out.mkv", "out.webm"]),
    "rvm": ([], ["out.mov", "out.webm"]),
    "guided": (["--subject", "160,90", "--out", "f24"], ["out.mov"]),
}
#: What Matroska's muxer draws or sums: identifiers of the segment and tracks, and checksums.
DRAWN = re.compile(rb"\x73\xa4\x90.{16}|[\x73\x63]\xc5\x88.{8}|\xbf\x84.{4}", re.DOTALL)
KEPT = re.compile(r"kept in (\S+),")
WAIT_S = 300.0


def draw_shots(position: float, width: int, height: int, lit: bool = False) -> Picture:
    """Shots of SHOT frames, by turns of the ball and of a hard edge."""
    shot, place = divmod(position, SHOT)
    if int(shot) % 2:
        return draw_two_shots(CUT + place, width, height, lit)
    return draw_ball(position, width, height, lit)


class Bench:
    """The cluster, a clip, the networks and the table. real: with the networks that users have.
    only: a pattern of the names of the cases that are run."""

    def __init__(self, folder: Path, *, real: bool, only: str) -> None:
        self.folder, self.is_real, self._only = folder, real, only
        self.rows: list[tuple[str, str, float, str]] = []
        self._number = 0
        self.server: S3Server | None = None
        self._references: dict[tuple[str, ...], Path] = {}
        self.clip = folder / "clip.mov"
        make_movie(
            self.clip, size=(320, 180) if real else (96, 64), frames=FRAMES,
            rate=Fraction(30000, 1001), audio=[Tone()], flash=9, timecode="01:00:00;00",
            draw=draw_shots,
        )  # fmt: skip
        make_salient(folder / "isnet.onnx")
        make_recurrent(folder / "rvm.onnx")
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={**ONE_CORE, "ray_client_server_port": CLIENT_PORT},
        )
        self.nodes = [self.cluster.add_node(**ONE_CORE) for _ in range(2)]

    def model(self, name: str) -> list[str]:
        """The words that choose a network."""
        words = ["--threads", "1"]
        if self.is_real:
            return [*words, "--model", "u2netp" if name == "guided" else name]
        family = "rvm" if name == "rvm" else "isnet"
        return [*words, "--model", str(self.folder / f"{family}.onnx"), "--family", family]

    def new_folder(self) -> Path:
        """An empty folder."""
        self._number += 1
        path = self.folder / f"run-{self._number}"
        path.mkdir()
        return path

    def start(self, *words: str | Path, **more: str) -> subprocess.Popen[str]:
        """The command line, on this cluster. more: for its environment."""
        return subprocess.Popen(
            [sys.executable, "-m", "vidmatte", *map(str, words)],
            env={**os.environ, "RAY_ADDRESS": self.cluster.address, **more},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def reference(self, out: str, *words: str | Path) -> Path:
        """The result of the single pipeline, made once."""
        key = (out, *map(str, words))
        if key not in self._references:
            self._references[key] = path = self.new_folder() / out
            process = self.start(*words, "-o", path)
            _, stderr = process.communicate()
            if process.returncode:
                raise RuntimeError(f"the reference failed: {stderr}")
        return self._references[key]

    def compared(
        self, process: subprocess.Popen[str], reference: Path, out: Path, said: str = ""
    ) -> list[str]:
        """What is wrong with the end of a run, and with its result. said: in its messages."""
        stdout, stderr = process.communicate()
        if process.returncode:
            return [f"status {process.returncode}: {stderr.strip()}"]
        faults = compared(reference, out)
        if stdout or "raylet" in stderr or "Traceback" in stderr:
            faults.append(f"printed: {stdout}{stderr}")
        if said not in stderr:
            faults.append(f"it did not say {said!r}: {stderr}")
        return faults + [
            f"left: {path.name}" for path in out.parent.iterdir() if path.name[0] == "."
        ]

    def check(self, part: str, case: str, step: Callable[..., list[str]], *arguments: Any) -> None:
        """Do a step, which takes this and the arguments and returns what is wrong; add a row."""
        if not re.search(self._only, case):
            return
        began = time.monotonic()
        try:
            faults = step(self, *arguments)
        except Exception as error:  # noqa: BLE001 (the others go on)
            faults = [f"{type(error).__name__}: {error}"]
        verdict = "; ".join(faults) or "as it should be"
        self.rows.append((part, case, time.monotonic() - began, verdict))
        print("{:8} {:44} {:6.1f} s: {}".format(*self.rows[-1]), flush=True)

    def wait_for_segment(self, out: Path, process: subprocess.Popen[str]) -> None:
        """Wait until the first segment is done and others are in the making."""
        folder = out.parent / f".{out.name}.segments" / "plan.segments"
        while process.poll() is None and not list(folder.glob("0*")):
            time.sleep(0.02)


def compared(reference: Path, out: Path) -> list[str]:
    """How a result differs from the reference."""
    faults = list(differences(fingerprint(reference), fingerprint(out)))
    if frame_sums(reference) != frame_sums(out):
        faults.append("decoded frames differ")
    if out.suffix in (".mov", ".mkv"):
        ours, theirs = out.read_bytes(), reference.read_bytes()
        if out.suffix == ".mkv":
            ours, theirs = (DRAWN.sub(b"", data) for data in (ours, theirs))
        if ours != theirs:
            faults.append("the file differs")
    return faults


def frame_sums(path: Path) -> list[str]:
    """SHA-256 of each decoded frame, with its alpha."""
    if path.is_dir():
        pictures = [cv2.imread(str(one), cv2.IMREAD_UNCHANGED) for one in sorted(path.iterdir())]
        return [hashlib.sha256(one.tobytes()).hexdigest() for one in pictures]
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        own = stream.codec_context
        # FFmpeg's own decoder of VP9 ignores alpha.
        decoder: Any = av.CodecContext.create("libvpx-vp9", "r") if own.name == "vp9" else own
        packets = [packet for packet in container.demux(stream) if packet.size]
        for packet in [*packets, None]:
            for frame in decoder.decode(packet):
                planes = b"".join(plane_bytes(frame, plane) for plane in frame.planes)
                found.append(hashlib.sha256(frame.format.name.encode() + planes).hexdigest())
    return found


def plane_bytes(frame: Any, plane: Any) -> bytes:
    """The samples of a plane, without the padding of its lines."""
    width = plane.width * (2 if frame.format.components[0].bits > 8 else 1)
    data = bytes(plane)
    return b"".join(data[row * plane.line_size :][:width] for row in range(plane.height))


def formats(bench: Bench) -> None:
    """Each format by local workers and the cluster."""
    for name, (options, outputs) in FORMATS.items():
        if name == "guided" and not bench.is_real:
            continue
        words = [bench.clip, *bench.model(name), *options]
        segments = ["--segment-frames", {"isnet": "6", "u2netp": "8"}.get(name, "12")]
        for out in outputs:
            for case, more in (
                ("--workers 1", []),
                ("--workers 3", ["--workers", "3", *segments]),
                ("3 nodes", ["--workers", "ray", *segments]),
            ):
                bench.check("formats", f"{name}, {out}, {case}", one_format, out, words, more)


def one_format(bench: Bench, out: str, words: list[Any], more: list[str]) -> list[str]:
    """One run, or the reference itself."""
    reference = bench.reference(out, *words)
    if not more:
        return [] if frame_sums(reference) else ["no frames"]
    path = bench.new_folder() / out
    return bench.compared(bench.start(*words, *more, "-o", path), reference, path)


def faults(bench: Bench) -> None:
    """What goes wrong on a cluster."""
    bench.check("faults", "over ray://", one_fault, CLIENT, None)
    bench.check("faults", "stopped, then resumed", one_fault, "ray", stop_driver)
    for case, workers in (("node killed", "ray"), ("node killed, ray://", CLIENT)):
        bench.check("faults", case, one_fault, workers, kill_node)
        bench.nodes.append(bench.cluster.add_node(**ONE_CORE))
    bench.check("faults", "every segment made twice at once", made_twice)
    version = ('__version__ = "', '__version__ = "9.'), "_version.py", "vidmatte 9."
    bench.check("faults", "a node with another version", left_out, *version)
    precision = ("= model.runtimes\n", '= ["OpenVINO, bfloat16"]\n')
    clause = "runtime OpenVINO, bfloat16, "
    bench.check("faults", "a node with another precision", left_out, precision,
                "farm/environment.py", clause)  # fmt: skip


def one_fault(bench: Bench, workers: str, disturb: Callable[..., Any] | None) -> list[str]:
    """A run that is disturbed when its first segment is done."""
    words = [bench.clip, *bench.model("u2netp")]
    out = bench.new_folder() / "out.mov"
    frames = "8" if bench.is_real else "6"
    run = [*words, "--segment-frames", frames, "--workers", workers, "-o", out, "--resume"]
    process = bench.start(*run)
    if disturb is not None:
        bench.wait_for_segment(out, process)
        if disturb(bench, process):
            process = bench.start(*run)
    said = "trying again" if disturb is kill_node else ""
    return bench.compared(process, bench.reference("out.mov", *words), out, said)


def kill_node(bench: Bench, _: Any) -> bool:
    """Kill the last node; the run goes on."""
    bench.cluster.remove_node(bench.nodes.pop(), allow_graceful=False)
    return False


def stop_driver(_: Bench, process: subprocess.Popen[str]) -> bool:
    """Stop a run by Ctrl+C; it is to be started again."""
    process.send_signal(signal.SIGINT)
    if process.wait() != 130:
        raise RuntimeError(f"Ctrl+C: status {process.returncode}")
    return True


def made_twice(bench: Bench) -> list[str]:
    """Make each segment of a plan in two processes at once, and join."""
    words = [bench.clip, *bench.model("u2netp")]
    out = bench.new_folder() / "out.mov"
    plan = f"{out}.plan.json"
    count, _ = bench.start("plan", *words, "--segment-frames", "16", "-o", out).communicate()
    for number in range(int(count)):
        both = [bench.start("segment", plan, str(number)) for _ in range(2)]
        for process in both:
            process.communicate()
            if process.returncode:
                return [f"segment {number}: status {process.returncode}"]
    joining = bench.start("join", plan)
    return bench.compared(joining, bench.reference("out.mov", *words), out)


def left_out(bench: Bench, change: tuple[str, str], file: str, clause: str) -> list[str]:
    """One of two nodes has another vidmatte: the run says so and goes on with the other one."""
    other = bench.new_folder()
    package = shutil.copytree(Path(vidmatte.__file__).parent, other / "vidmatte")
    path = package / file
    if change[0] not in path.read_text():
        raise RuntimeError(f"{file} has changed")
    path.write_text(path.read_text().replace(*change))
    words = [bench.clip, *bench.model("u2netp")]
    out = bench.new_folder() / "out.mov"
    frames = "8" if bench.is_real else "2"
    run = [*words, "--segment-frames", frames, "--workers", "ray", "-o", out, "--resume"]
    for node in bench.nodes:  # of two nodes each gets a segment, however busy this machine is
        bench.cluster.remove_node(node, allow_graceful=False)
    node = bench.cluster.add_node(**ONE_CORE, env_vars=path_of(other))
    found = bench.compared(bench.start(*run), bench.reference("out.mov", *words), out, clause)
    bench.cluster.remove_node(node, allow_graceful=False)
    bench.nodes = [bench.cluster.add_node(**ONE_CORE) for _ in range(2)]
    return found


def path_of(folder: Path) -> dict[str, str]:
    """The environment of a node whose modules are first looked for in a folder."""
    rest = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, rest)])}


def service(bench: Bench) -> None:
    """Jobs over HTTP, which the service runs on the cluster."""
    address = {"RAY_ADDRESS": bench.cluster.address}
    name, more = ("u2netp", {}) if bench.is_real else ("chroma", {"screen": "#20a040"})
    clip = bench.new_folder() / "green.mov"
    frames = 96 if bench.is_real else 700
    make_movie(clip, size=(96, 64), frames=frames, audio=[Tone()], draw=draw_shots)
    words = [clip, "--model", name, "--threads", "1", *(f"--{key}={more[key]}" for key in more)]
    settings = {"model": name, "threads": 1, **more}
    job = (clip, settings, bench.reference("green.mov", *words))
    # The last one finds the cluster by the note that Ray leaves in the temporary folder.
    for case, workers, environment in (
        ("--workers ray", "ray", address),
        (CLIENT, CLIENT, {}),
        ("no RAY_ADDRESS", "ray", {}),
    ):
        with served(bench, environment, "--workers", workers) as client:
            bench.check("service", f"a job, {case}", job_faults, client, *job)
            if environment:
                bench.check("service", "a job cancelled, then another", cancelled, client, *job)
    with served(bench, address, "--workers", "ray", "--job-silence", "30s") as client:
        bench.check("service", "a job that waits for room", waiting, client, *job)


@contextmanager
def served(bench: Bench, environment: dict[str, str], *options: str) -> Iterator[httpx.Client]:
    """A client of a service of its own."""
    with ExitStack() as stack:
        server = stack.enter_context(
            running_server(bench.new_folder(), *options, environment=environment)
        )
        yield stack.enter_context(server.client())


def submitted(client: httpx.Client, clip: Path, settings: dict[str, Any]) -> str:
    """Upload a clip and queue a job; its id."""
    body = {
        "clips": [upload(client, clip)],
        "settings": settings,
        "output": {"format": "prores"},
    }
    answer = client.post("/api/jobs", json=body)
    if answer.status_code != 201:
        raise RuntimeError(answer.text)
    return str(answer.json()["jobs"][0]["id"])


def job_faults(
    _: Bench, client: httpx.Client, clip: Path, settings: dict[str, Any], reference: Path
) -> list[str]:
    """Submit a job and compare what it gives."""
    done = ended(client, submitted(client, clip, settings), WAIT_S)
    if done["state"] != "done":
        return [f"{done['state']}: {done['error']}"]
    return [] if fetch(client, done) == reference.read_bytes() else ["the file differs"]


def cancelled(
    bench: Bench, client: httpx.Client, clip: Path, settings: dict[str, Any], reference: Path
) -> list[str]:
    """Cancel a job in the middle: the cluster must be free for the next."""
    job = submitted(client, clip, settings)
    matting(client, job)
    client.post(f"/api/jobs/{job}/cancel")
    state = ended(client, job)["state"]
    found = [] if state == "cancelled" else [f"it is {state}"]
    return found + job_faults(bench, client, clip, settings, reference)


HOLD = """
import ray, time
ray.init("auto", log_to_driver=False, logging_level="error")
@ray.remote(num_cpus=1)
class Holder:
    def ready(self): return True
held = [Holder.remote() for _ in range(3)]
ray.get([one.ready.remote() for one in held])
print("held", flush=True)
time.sleep(50)
"""


def waiting(bench: Bench, *job: Any) -> list[str]:
    """A job that has no room on the cluster for longer than it may be silent."""
    environment = {**os.environ, "RAY_ADDRESS": bench.cluster.address}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    with holder:
        if holder.stdout.readline() != "held\n":
            return ["the cluster could not be held"]
        return job_faults(bench, *job)


SOURCE = "s3://in-bucket/takes/clip #1 a.mov"


def s3(bench: Bench) -> None:
    """Sources and results in buckets."""
    server = bench.server
    assert server is not None
    system = server.file_system()
    for bucket in ("in-bucket", "out-bucket"):
        system.mkdir(bucket)
    system.put_file(str(bench.clip), SOURCE)
    model = bench.model("u2netp")
    for out in ("out.mov", "frames"):
        for case, more in (
            ("one process", []),
            ("--workers 3", ["--workers", "3", "--segment-frames", "12"]),
            ("3 nodes", ["--workers", "ray", "--segment-frames", "12"]),
        ):
            bench.check("s3", f"{out}, {case}", s3_run, server, out, model, more)
    bench.check("s3", "plan, segment, join", s3_plan, server)
    for case, source, result, message in REFUSALS:
        bench.check("s3", case, refusal, server, [source, "-o", result, *model], message)
    for case, refuses in (("upload refused", is_put), ("rename refused", is_copy)):
        bench.check("s3", case, failed_upload, server, refuses)
    bench.check("s3", "a full disk on one node", full_disk, server)


REFUSALS = (
    ("no such object", "s3://in-bucket/none.mov", "s3://out-bucket/x.mov", "no such file"),
    ("no such source bucket", "s3://no-bucket/a.mov", "s3://out-bucket/x.mov", "no such file"),
    ("no such result bucket", SOURCE, "s3://mistyped/x.mov", "there is no bucket mistyped"),
)


def fetched(bench: Bench, server: S3Server, key: str) -> Path:
    """A result, copied from its bucket."""
    path = bench.new_folder() / key.rstrip("/").rpartition("/")[2]
    server.file_system().get(key, str(path), recursive=True)
    return path


def s3_run(
    bench: Bench, server: S3Server, out: str, words: list[str], more: list[str]
) -> list[str]:
    """One run from bucket to bucket, compared with a local one."""
    url = f"s3://out-bucket/{bench.new_folder().name}/{out}"
    process = bench.start(SOURCE, "-o", url, *words, *more)
    stdout, stderr = process.communicate()
    if process.returncode or stdout or "Traceback" in stderr or "/vidmatte-" in stderr:
        return [f"status {process.returncode}: {stdout}{stderr}"]
    reference = bench.reference(out, bench.clip, *words)
    found = compared(reference, fetched(bench, server, url.removeprefix("s3://")))
    if f"{url}.json".removeprefix("s3://") not in server.names():
        found.append("no manifest")
    return found


def s3_plan(bench: Bench, server: S3Server) -> list[str]:
    """The three commands, between buckets."""
    folder = bench.new_folder()
    plan, url = folder / "plan.json", f"s3://out-bucket/{folder.name}/out.mov"
    model = bench.model("u2netp")
    words = ["plan", SOURCE, "-o", url, "--plan", plan, "--segment-frames", "16", *model]
    count, stderr = bench.start(*words).communicate()
    for number in range(int(count)):
        _, stderr = (process := bench.start("segment", plan, str(number))).communicate()
        if process.returncode:
            return [f"segment {number}: {stderr}"]
    with server.refusing(is_put):
        _, stderr = (process := bench.start("join", plan)).communicate()
    kept = KEPT.search(stderr)
    found = [] if process.returncode and kept else [f"a join whose upload fails: {stderr}"]
    if kept is not None:
        shutil.rmtree(kept[1])
    _, stderr = (process := bench.start("join", plan)).communicate()
    if process.returncode:
        return [*found, f"join: {stderr}"]
    reference = bench.reference("out.mov", bench.clip, *model)
    return found + compared(reference, fetched(bench, server, url.removeprefix("s3://")))


def refusal(bench: Bench, server: S3Server, words: list[Any], message: str) -> list[str]:
    """A call that must end with one line."""
    before = server.names(), server.file_system().ls("", detail=False)
    process = bench.start(*words)
    stdout, stderr = process.communicate()
    found = []
    if not process.returncode or message not in stderr or stdout or stderr.count("\n") != 1:
        found.append(f"status {process.returncode}: {stdout}{stderr}")
    if (server.names(), server.file_system().ls("", detail=False)) != before:
        found.append("something was made")
    return found


def failed_upload(
    bench: Bench, server: S3Server, refuses: Callable[[dict[str, Any]], bool]
) -> list[str]:
    """A result that cannot be sent must be kept, and nothing of it be in the bucket."""
    model = bench.model("u2netp")
    before = server.names()
    with server.refusing(refuses):
        process = bench.start(SOURCE, "-o", "s3://out-bucket/failed/out.mov", *model, "--quiet")
        stdout, stderr = process.communicate()
    found = [f"in the bucket: {name}" for name in server.names() if name not in before]
    kept = KEPT.search(stderr)
    if not process.returncode or stdout or stderr.count("\n") != 1 or kept is None:
        return [*found, f"status {process.returncode}: {stdout}{stderr}"]
    found += compared(bench.reference("out.mov", bench.clip, *model), Path(kept[1]) / "out.mov")
    shutil.rmtree(kept[1])
    return found


def full_disk(bench: Bench, server: S3Server) -> list[str]:
    """One node has no room for its copy of the source: the others make its segments."""
    small = bench.new_folder()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], check=True)
    node = bench.cluster.add_node(**ONE_CORE, env_vars={"TMPDIR": str(small)})
    try:
        folder = bench.new_folder()
        url, model = f"s3://out-bucket/{folder.name}/out.mov", bench.model("u2netp")
        more = ["--workers", "ray", "--segment-frames", "6"]
        process = bench.start(SOURCE, "-o", url, *model, *more)
        _, stderr = process.communicate()
        found = [] if "the disk is full" in stderr else [f"not seen: {stderr}"]
        if process.returncode:
            return [f"status {process.returncode}: {stderr}"]
        reference = bench.reference("out.mov", bench.clip, *model)
        return found + compared(reference, fetched(bench, server, url.removeprefix("s3://")))
    finally:
        bench.cluster.remove_node(node, allow_graceful=False)
        subprocess.run(["umount", "-l", str(small)], check=True)


def kills(bench: Bench, count: int, seed: int) -> None:
    """Random kills, up to five a run."""
    chance, done, number = random.Random(seed), 0, 0
    outputs = ("out.mov", "out.mkv", "frames", "out.webm")
    while done < count:
        killed: list[str] = []
        most = min(5, count - done)
        name = outputs[number % len(outputs)]
        bench.check("kills", f"run {number}, {name}", killed_run, name, killed, most, chance)
        print(f"         killed: {', '.join(killed) or 'nothing'}", flush=True)
        done, number = done + len(killed), number + 1


def killed_run(
    bench: Bench, name: str, killed: list[str], most: int, chance: random.Random
) -> list[str]:
    """One run to its end, with kills at random moments."""
    words = [bench.clip, *bench.model("u2netp")]
    more = ["--workers", "ray", "--segment-frames", "6", "--retries", "50", "--resume"]
    out = bench.new_folder() / name
    reference = bench.reference(name, *words)
    while True:
        process = bench.start(*words, *more, "-o", out)
        moment = time.monotonic() + chance.uniform(0, 12)
        while process.poll() is None:
            if len(killed) < most and time.monotonic() > moment:
                killed.append(kill_one(bench, process, chance))
                moment = time.monotonic() + chance.uniform(0, 8)
            time.sleep(0.05)
        if process.returncode >= 0:
            return bench.compared(process, reference, out)
        process.communicate()


def kill_one(bench: Bench, driver: subprocess.Popen[str], chance: random.Random) -> str:
    """Kill a node, an actor, a worker's process or the driver; which it was."""
    kind = chance.choice(("node", "actor", "worker", "worker", "driver"))
    if kind == "node":
        node = bench.nodes.pop(chance.randrange(len(bench.nodes)))
        bench.cluster.remove_node(node, allow_graceful=False)
        bench.nodes.append(bench.cluster.add_node(**ONE_CORE))
        return kind
    if kind == "driver":
        driver.kill()
        return kind
    found = [one for one in cluster_processes() if is_kind(one, kind)]
    if not found:
        driver.kill()
        return "driver"
    chance.choice(found).kill()
    return kind


def cluster_processes() -> Iterator[psutil.Process]:
    """All processes below this one."""
    yield from psutil.Process().children(recursive=True)


def is_kind(process: psutil.Process, kind: str) -> bool:
    """Whether a process is an actor, or the worker's process below it."""
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return ("ray::Agent" if kind == "actor" else "vidmatte.farm.serve") in line


RUN = {"formats": formats, "faults": faults, "service": service, "s3": s3}


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS[:3]), help="of: " + ", ".join(PARTS))
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--only", default="", metavar="REGEX", help="cases by their names")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    server = S3Server() if "s3" in options.parts.split(",") else None
    if server is not None:  # each node needs the credentials
        os.environ.update(server.environment)
    with tempfile.TemporaryDirectory() as name, chdir(name):  # where no other vidmatte is
        bench = Bench(Path(name), real=options.real, only=options.only)
        bench.server = server
        try:
            for part in options.parts.split(","):
                if part == "kills":
                    kills(bench, options.kills, options.seed)
                else:
                    RUN[part](bench)
        finally:
            bench.cluster.shutdown()
            if server is not None:
                server.stop()
    wrong = [row for row in bench.rows if row[3] != "as it should be"]
    print("| part | case | seconds | |\n|---|---|---|---|")
    for part, case, seconds, verdict in bench.rows:
        print(f"| {part} | {case} | {seconds:.1f} | {verdict.splitlines()[0]} |")
    print(f"{len(bench.rows)} cases, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

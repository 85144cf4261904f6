"""Kill a running service, its jobs, or both at random moments, and check what is left.

python tests/kill_service.py 50

Each kill is a SIGKILL. While jobs wait and run and a file is uploaded piece by piece, the server,
the process of the job or both are killed; a server is started again on the same folder. Every job
must then be queued, running, done, cancelled or failed with a reason (those are retried), and at
the end every result must have the bytes of an undisturbed run, and every uploaded file its own.
"""

from __future__ import annotations

import argparse
import base64
import collections
import contextlib
import hashlib
import io
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from kill_and_resume import fingerprint
from service_clips import green_clip
from service_jobs import OVER, ended, process_of, submit
from service_support import upload

FORMATS = ("prores", "png", "webm")
FRAMES, SIZE = 60, (160, 96)
PIECES, PIECE = 12, 50_000
LIMIT_S = 120.0


@dataclass
class Upload:
    """A file that is uploaded piece by piece. path: of its upload, '' before it is created."""

    data: bytes
    path: str = ""
    clip: str | None = None


@dataclass
class Service:
    """The server, started again after each kill."""

    data: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    kills: collections.Counter[str] = field(default_factory=collections.Counter)

    def start(self) -> None:
        words = ["serve", "--port", str(self.port), "--data", str(self.data)]
        with (self.data.parent / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vidmatte", *words], stderr=log, stdout=log
            )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def wait_ready(client: httpx.Client, service: Service) -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            client.get("/api/health")
            return
        assert service.process is not None
        if service.process.poll() is not None:
            raise RuntimeError(f"the server ended with {service.process.returncode}")
        time.sleep(0.05)
    raise RuntimeError("the server does not answer")


def step_upload(client: httpx.Client, one: Upload, pieces: int) -> None:
    """Send so many pieces of an upload, from where the server says that it is."""
    tus = {"Tus-Resumable": "1.0.0"}
    if not one.path:
        name = base64.b64encode(b"noise.bin").decode()
        headers = {
            **tus,
            "Upload-Length": str(len(one.data)),
            "Upload-Metadata": f"filename {name}",
        }
        one.path = client.post("/api/uploads", headers=headers).headers["Location"]
    for _ in range(pieces):
        answer = client.head(one.path, headers=tus)
        if answer.status_code != 200:
            raise RuntimeError(f"{one.path}: HEAD answers {answer.status_code}")
        one.clip = answer.headers.get("Vidmatte-Clip")
        if one.clip is not None:
            return
        offset = int(answer.headers["Upload-Offset"])
        kind = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
        client.patch(one.path, content=one.data[offset : offset + PIECE], headers={**tus, **kind})


def result_sums(client: httpx.Client, job: dict[str, Any]) -> list[str]:
    """The SHA-256 of a job's results but for its manifest, which has times in it."""
    shown = [one for one in job["results"] if not one["name"].endswith(".json")]
    return [
        f"{one['name']} {_sum_of(one['name'], client.get(one['url']).content)}" for one in shown
    ]


def _sum_of(name: str, content: bytes) -> str:
    """The SHA-256 of a file; of a WebM, in which FFmpeg writes a random number, that of its
    packets and pictures; of a ZIP, which has times in it, that of its files."""
    if name.endswith(".webm"):
        with tempfile.NamedTemporaryFile(suffix=".webm") as file:
            file.write(content)
            file.flush()
            content = repr(fingerprint(Path(file.name))).encode()
    if not name.endswith("/"):
        return hashlib.sha256(content).hexdigest()
    with zipfile.ZipFile(io.BytesIO(content)) as zipped:
        parts = [name.encode() + zipped.read(name) for name in sorted(zipped.namelist())]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def kill_something(service: Service, client: httpx.Client, chance: random.Random) -> str:
    """Kill the server, the process of the job that runs, or both; returns which."""
    what = chance.choice(("server", "job", "both"))
    running = client.get("/api/jobs", params={"state": "running"}).json()["jobs"]
    victims: list[psutil.Process] = []
    if what != "server":
        with contextlib.suppress(ValueError):  # it has ended in the meantime
            victims = [process_of(job["id"]) for job in running]
        if not victims:
            what = "server" if what == "both" else "nothing"
    if what in ("both", "job"):
        for one in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    if what in ("server", "both"):
        service.kill()
        time.sleep(chance.choice((0, 0, chance.uniform(0, 2))))  # the job may end meanwhile
        service.start()
    service.kills[what] += 1
    return what


def check_jobs(client: httpx.Client, jobs: dict[str, str]) -> list[str]:
    """What is wrong with the states of the jobs; those that failed are retried."""
    wrong = []
    for job in jobs:
        found = client.get(f"/api/jobs/{job}").json()
        if found.get("state") not in ("queued", "running", *OVER):
            wrong.append(f"{job}: {found}")
        if found.get("state") == "failed":
            if not found["error"]:
                wrong.append(f"{job}: failed without a reason")
            client.post(f"/api/jobs/{job}/retry")
    return wrong


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kills", nargs="?", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance, wrong = random.Random(options.seed), []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        (Path(folder) / "data").mkdir()
        service = Service(Path(folder) / "data", free_port())
        service.start()
        address = f"http://127.0.0.1:{service.port}"
        transport = httpx.HTTPTransport(retries=8)
        client = httpx.Client(base_url=address, timeout=60, trust_env=False, transport=transport)
        try:
            wrong = _run(service, client, chance, options.kills, Path(folder))
        finally:
            client.close()
            service.stop()
        log = (Path(folder) / "server.log").read_text()
        if "Traceback" in log:
            wrong.append(log)
    print(f"{options.kills} kills ({dict(service.kills)}): {len(wrong)} faults")
    print("\n".join(wrong))
    return 1 if wrong else 0


def _run(
    service: Service, client: httpx.Client, chance: random.Random, kills: int, folder: Path
) -> list[str]:
    """Do all kills; what was wrong."""
    wait_ready(client, service)
    clip = upload(client, green_clip(folder / "walk.mp4", FRAMES, SIZE))
    expected = {}
    for name in FORMATS:
        job = ended(client, submit(client, clip, format=name), LIMIT_S)
        expected[name] = result_sums(client, job)
        print(f"undisturbed: {expected[name]}", flush=True)
    jobs: dict[str, str] = {}
    uploads: list[Upload] = []
    wrong: list[str] = []
    done = 0
    while done < kills:
        waiting = client.get("/api/jobs", params={"state": ["queued", "running"]}).json()["jobs"]
        if len(waiting) < 2:
            name = chance.choice(FORMATS)
            jobs[submit(client, clip, format=name)] = name
        if not uploads or uploads[-1].clip is not None:
            uploads.append(Upload(os.urandom(PIECES * PIECE)))
        step_upload(client, uploads[-1], chance.randint(0, 4))
        time.sleep(chance.choice((chance.uniform(0, 0.3), chance.uniform(0, 3))))
        what = kill_something(service, client, chance)
        done += what != "nothing"
        wait_ready(client, service)
        wrong += check_jobs(client, jobs)
        print(f"{done:3} {what}: {len(jobs)} jobs, {len(uploads)} uploads", flush=True)
    return wrong + _check_ends(client, jobs, uploads, expected)


def _check_ends(
    client: httpx.Client,
    jobs: dict[str, str],
    uploads: list[Upload],
    expected: dict[str, list[str]],
) -> list[str]:
    """What is wrong when all jobs have ended and all uploads were completed."""
    wrong: list[str] = []
    tries = 0
    for job, name in jobs.items():
        end = ended(client, job, LIMIT_S * 4)
        while end["state"] == "failed" and end["tries"] < 99:
            client.post(f"/api/jobs/{job}/retry")
            end = ended(client, job, LIMIT_S)
        tries += end["tries"]
        sums = result_sums(client, end)
        if sums != expected[name]:
            wrong.append(f"{job}: {name} {end['state']} {end['error']}: {sums}")
    for one in uploads:
        while one.clip is None:
            step_upload(client, one, PIECES)
        if client.get(f"/api/clips/{one.clip}/file").content != one.data:
            wrong.append(f"{one.path}: its file differs")
    print(f"{len(jobs)} jobs in {tries} tries, {len(uploads)} uploads")
    return wrong


if __name__ == "__main__":
    sys.exit(main())

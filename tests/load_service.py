"""Fifty clients at once: each uploads a picture, submits a job, polls it and fetches the result.

python tests/load_service.py 50

Another client asks for frames of a clip all the while, as the page does. Allowed are success and
429 or 503 with Retry-After; the memory of the server must stay flat. Everything is on loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
from service_clips import green_clip, green_picture
from service_jobs import OVER
from service_support import Server, running_server, upload

LIMIT_S = 900.0
POLL_S = 1.0
ALLOWED_GROWTH = 40_000_000  # bytes, from the first job to the last


class Load:
    """What all clients count."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: collections.Counter[int] = collections.Counter()
        self.faults: list[str] = []
        self.frames: list[float] = []
        self.is_over = False

    async def ask(self, client: httpx.AsyncClient, method: str, path: str, **options: Any) -> Any:
        """An answer that is a success; waits where the service says how long."""
        while True:
            answer = await client.request(method, path, **options)
            self.answers[answer.status_code] += 1
            if answer.status_code in (429, 503) and "retry-after" in answer.headers:
                await asyncio.sleep(float(answer.headers["retry-after"]))
                continue
            if answer.is_error:
                raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
            return answer

    async def client(self, number: int, picture: bytes) -> None:
        """One client, from its upload to its result."""
        async with httpx.AsyncClient(base_url=self.url, timeout=60, trust_env=False) as client:
            try:
                await self._work(client, number, picture)
            except (RuntimeError, httpx.HTTPError) as error:
                self.faults.append(f"client {number}: {error!r}")

    async def _work(self, client: httpx.AsyncClient, number: int, picture: bytes) -> None:
        name = {"name": f"{number}.png"}
        clip = (await self.ask(client, "POST", "/api/clips", params=name, content=picture)).json()
        while clip["state"] == "probing":
            await asyncio.sleep(POLL_S)
            clip = (await self.ask(client, "GET", f"/api/clips/{clip['id']}")).json()
        body = {"clips": [clip["id"]], "settings": {"model": "chroma"}}
        job = (await self.ask(client, "POST", "/api/jobs", json=body)).json()["jobs"][0]
        while job["state"] not in OVER:
            await asyncio.sleep(POLL_S)
            job = (await self.ask(client, "GET", f"/api/jobs/{job['id']}")).json()
        if job["state"] != "done":
            raise RuntimeError(f"{job['state']}: {job['error']}")
        result = await self.ask(client, "GET", job["results"][0]["url"])
        if len(result.content) != job["results"][0]["bytes"]:
            raise RuntimeError("the result has another size")

    async def frames_of(self, clip: str, count: int) -> None:
        """Ask for one frame after the other until all clients are done."""
        async with httpx.AsyncClient(base_url=self.url, timeout=60, trust_env=False) as client:
            while not self.is_over:
                frame = len(self.frames) % count
                begun = time.monotonic()
                path = f"/api/clips/{clip}/frames/{frame}?view=source&height={72 + frame}"
                try:
                    await self.ask(client, "GET", path)
                except (RuntimeError, httpx.HTTPError) as error:
                    self.faults.append(f"frame {frame}: {error!r}")
                self.frames.append(time.monotonic() - begun)
                await asyncio.sleep(0.2)


async def run(load: Load, clients: int, picture: bytes, clip: str, process: psutil.Process) -> int:
    """All clients; returns the most memory of the server that was seen, in bytes."""
    page = asyncio.create_task(load.frames_of(clip, 20))
    work = asyncio.gather(*(load.client(number, picture) for number in range(clients)))
    most = 0
    while not work.done():
        most = max(most, process.memory_info().rss)
        await asyncio.sleep(0.2)
    await work
    load.is_over = True
    await page
    return most


def measure(server: Server, clients: int, folder: Path) -> list[str]:
    """Run the clients, print what was measured; returns what was wrong."""
    picture = green_picture(folder / "picture.png").read_bytes()
    process, load = psutil.Process(server.process.pid), Load(server.url)
    with server.client() as client:
        clip = upload(client, green_clip(folder / "clip.mp4", 20, (320, 180)))
        # One of each, so that everything is loaded.
        asyncio.run(load.client(-1, picture))
    before, begun = process.memory_info().rss, time.monotonic()
    work = run(load, clients, picture, clip, process)
    most = asyncio.run(asyncio.wait_for(work, LIMIT_S))
    after = process.memory_info().rss
    frames = sorted(load.frames)
    print(f"{clients} clients in {time.monotonic() - begun:.1f} s; answers {dict(load.answers)}")
    print(f"memory: {before / 1e6:.1f} MB before, {most / 1e6:.1f} most, {after / 1e6:.1f} after")
    late = frames[int(0.99 * (len(frames) - 1))]
    print(f"{len(frames)} frames: median {1000 * statistics.median(frames):.0f} ms, 99 % within"
          f" {1000 * late:.0f} ms, the first of all {1000 * load.frames[0]:.0f} ms")  # fmt: skip
    if after - before > ALLOWED_GROWTH:
        load.faults.append(f"the server grew by {(after - before) / 1e6:.1f} MB")
    return load.faults


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clients", nargs="?", type=int, default=50)
    clients = parser.parse_args().clients
    with tempfile.TemporaryDirectory() as folder:
        with running_server(Path(folder) / "data") as server:
            faults = measure(server, clients, Path(folder))
        faults += [line for line in server.lines if "Traceback" in line or "Error" in line]
    print("\n".join(faults) or "no fault")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

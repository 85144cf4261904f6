"""Steps that tests of jobs share: submit, wait, fetch, kill."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psutil
from service_support import LocalClient, Server

Client = httpx.Client | LocalClient
WAIT_S = 90.0
OVER = ("done", "failed", "cancelled")


def submit(client: Client, clip: str, settings: dict[str, Any] | None = None, **output: Any) -> str:
    """Queue a job with the chroma keyer, or the model of ``settings``; its id."""
    body = {"clips": [clip], "settings": {"model": "chroma", **(settings or {})}, "output": output}
    answer = client.post("/api/jobs", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["jobs"][0]["id"]


def job_of(client: Client, job: str) -> dict[str, Any]:
    """The job as it is now."""
    answer = client.get(f"/api/jobs/{job}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def wait_until(
    client: Client, job: str, reached: Callable[[dict[str, Any]], bool], seconds: float = WAIT_S
) -> dict[str, Any]:
    """The job once ``reached`` is true of it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = job_of(client, job)
        if reached(found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"not reached in {seconds} s: {found}")


def ended(client: Client, job: str, seconds: float = WAIT_S) -> dict[str, Any]:
    """The job when it has ended."""
    return wait_until(client, job, lambda found: found["state"] in OVER, seconds)


def matting(client: Client, job: str, frames: int = 1) -> dict[str, Any]:
    """The job when it has done so many frames."""
    found = wait_until(client, job, lambda one: one["done"] >= frames or one["state"] in OVER)
    assert found["state"] == "running", found
    return found


@contextlib.contextmanager
def held_job(server: Server) -> Iterator[None]:
    """The process of the job that was just queued, suspended: a fast machine would have ended the
    job before anybody has looked at it."""
    deadline = time.monotonic() + WAIT_S
    with server.client() as client:
        while not (active := [one["id"] for one in client.get("/api/jobs").json()["jobs"]
                              if one["state"] not in OVER]):  # fmt: skip
            assert time.monotonic() < deadline, "no job was queued"
            time.sleep(0.005)
    process = process_of(active[0])
    process.suspend()
    try:
        yield
    finally:
        process.resume()


@contextlib.contextmanager
def held_at(client: Client, job: str, frames: int) -> Iterator[None]:
    """The process of a job, suspended when it has done so many frames and not many more, however
    fast the machine is."""
    process, deadline = process_of(job), time.monotonic() + WAIT_S
    while job_of(client, job)["done"] < frames:
        assert time.monotonic() < deadline, f"{frames} frames were not reached"
        process.resume()
        time.sleep(0.15)
        process.suspend()
        time.sleep(0.3)  # in which the server reads how far it is
    try:
        yield
    finally:
        process.resume()


def fetch(client: Client, job: dict[str, Any], number: int = 0) -> bytes:
    """A result of a job that is done."""
    assert job["state"] == "done", job
    answer = client.get(job["results"][number]["url"])
    assert answer.status_code == 200, answer.text
    return answer.content


def process_of(job: str) -> psutil.Process:
    """The process of a job that runs, as soon as there is one."""
    deadline = time.monotonic() + WAIT_S
    while not (marked := [one for one in psutil.process_iter() if _mark(one) == job]):
        assert time.monotonic() < deadline, f"job {job} has no process"
        time.sleep(0.005)
    return min(marked, key=lambda one: one.create_time())


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("VIDMATTE_SERVICE_JOB")
    except (psutil.Error, OSError):
        return None

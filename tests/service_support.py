"""A running service for tests: a real server in a process of its own, or the application alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

Done = TypeVar("Done")
START_S = 60.0


@dataclass
class Server:
    """A server in a process of its own. ``url`` has no slash at its end."""

    process: subprocess.Popen[str]
    url: str
    data: Path
    lines: list[str] = field(default_factory=list)  # of its stderr, as they come

    def client(self, **options: Any) -> httpx.Client:
        """A client for it; close it, or use it in a ``with``."""
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options)


@contextlib.contextmanager
def running_server(data: Path, *options: str, environment: dict[str, str] | None = None,
                   port: int = 0) -> Iterator[Server]:  # fmt: skip
    """``vidmatte serve`` on a free port. The weights are those of this user's own store."""
    from conftest import MODELS_FOLDER

    words = [sys.executable, "-m", "vidmatte", "serve", "--port", str(port), "--data", str(data)]
    env = {"VIDMATTE_MODELS_DIR": str(MODELS_FOLDER), **os.environ, **(environment or {})}
    process = subprocess.Popen([*words, *options], stderr=subprocess.PIPE, text=True, env=env)
    assert process.stderr is not None
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stderr.readline, "")))
    reader.start()
    try:
        yield Server(process, _address(process, lines), data, lines)
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            reader.join()
            process.stderr.close()


def _address(process: subprocess.Popen[str], lines: list[str]) -> str:
    """The address that the server has printed."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        for line in list(lines):
            if line.startswith("vidmatte serve: http://"):
                return line.split()[2].rstrip("/")
        time.sleep(0.02)
    raise AssertionError(f"no server: {''.join(lines)}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One real server for all tests of a module."""
    with running_server(tmp_path_factory.mktemp("service")) as started:
        yield started


class LocalClient:
    """The application without a socket: each method makes one request.

    The application's startup and shutdown run where it is used in a ``with``.
    """

    def __init__(self, app: Any, **options: Any) -> None:
        self._options = {"base_url": "http://127.0.0.1:8765", **options}
        self.app = app
        self._loop = asyncio.new_event_loop()
        self._lifespan = app.router.lifespan_context(app)

    def __enter__(self) -> LocalClient:
        self._run(self._lifespan.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._lifespan.__aexit__(None, None, None))
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, Done]) -> Done:
        return self._loop.run_until_complete(coroutine)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request and its complete answer."""

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, **self._options) as client:
                return await client.request(method, path, **options)

        return self._run(send())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", path, **options)


@contextlib.contextmanager
def local_service(data: Path, **options: Any) -> Iterator[LocalClient]:
    """The application on ``data``, in this process; options are those of ``ServiceConfig``."""
    from vidmatte.service.app import create_app
    from vidmatte.service.config import ServiceConfig

    with LocalClient(create_app(ServiceConfig(data, **options))) as client:
        yield client


def upload(client: httpx.Client | LocalClient, file: Path, name: str | None = None) -> str:
    """Upload a file and wait until it is ready; its clip's id."""
    answer = client.post(
        "/api/clips", params={"name": name or file.name}, content=file.read_bytes()
    )
    assert answer.status_code == 201, answer.text
    clip = answer.json()["id"]
    assert wait_for_clip(client, clip)["state"] == "ready"
    return clip


def wait_for_clip(client: httpx.Client | LocalClient, clip: str) -> dict[str, Any]:
    """The clip once it was probed."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        found = client.get(f"/api/clips/{clip}").json()
        if found["state"] != "probing":
            return found
        time.sleep(0.05)
    raise AssertionError(f"clip {clip} is still being probed")

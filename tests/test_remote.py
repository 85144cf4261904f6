"""Sources and results by URL, over fsspec's file system in memory."""

from __future__ import annotations

import builtins
import errno
import json
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from media import make_movie

from vidmatte.cli.main import main
from vidmatte.cli.remote import staged_call
from vidmatte.core import remote
from vidmatte.core.remote import Staging, remote_url, send
from vidmatte.errors import OutputError, OutputExistsError, SourceError, UsageError
from vidmatte.farm.serve import _failure
from vidmatte.jobs.manifest import verify

KEYER = ["--model", "chroma", "--screen", "#20a040", "--smooth", "off", "--threads", "1"]


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Any]:
    """The file system in memory, with a clip in it."""
    system = fsspec.filesystem("memory")
    make_movie(tmp_path / "clip.mp4", size=(64, 48), frames=3)
    system.makedirs("/in", exist_ok=True)
    system.put_file(str(tmp_path / "clip.mp4"), "/in/clip.mp4")
    yield system
    system.rm("/", recursive=True)


def names(system: Any, folder: str) -> list[str]:
    return sorted(path.rpartition("/")[2] for path in system.ls(folder, detail=False))


def test_a_run_from_url_to_url(bucket: Any, capsys: Any, tmp_path: Path) -> None:
    words = ["memory://in/clip.mp4", "-o", "memory://out/cut.mov", *KEYER]
    assert main([*words, "--json", "--readers", "2"]) == 0
    stdout, _ = capsys.readouterr()
    events = [json.loads(line) for line in stdout.splitlines()]
    assert events[-1]["done"] == ["memory://in/clip.mp4"]
    done = next(event for event in events if event["event"] == "done")
    assert (done["input"], done["output"]) == ("memory://in/clip.mp4", "memory://out/cut.mov")
    assert names(bucket, "/out") == ["cut.mov", "cut.mov.json"]
    assert "/vidmatte-" not in stdout
    facts = json.loads(bucket.cat("/out/cut.mov.json"))
    assert facts["source"]["path"] == "memory://in/clip.mp4"
    bucket.get("/out/", str(tmp_path / "got") + "/", recursive=True)
    assert verify(tmp_path / "got" / "cut.mov") == []
    assert main(words) == 1
    assert "memory://out/cut.mov exists: --overwrite replaces it" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--quiet"]) == 0
    bucket.pipe("/in/clip.mp4", b"another")
    assert verify(tmp_path / "got" / "cut.mov") != []


def test_folders_by_url(bucket: Any, tmp_path: Path) -> None:
    words = ["--format", "png", *KEYER, "--quiet"]
    assert main(["memory://in/clip.mp4", "-o", "memory://frames/", *words]) == 0
    assert names(bucket, "/frames") == ["000000.png", "000001.png", "000002.png"]
    words = ["memory://frames", "-o", str(tmp_path / "again.mov"), "--fps", "25", *KEYER]
    assert main([*words, "--quiet"]) == 0
    facts = json.loads((tmp_path / "again.mov.json").read_text())
    assert (facts["frames"], facts["source"]["path"]) == (3, "memory://frames")


def test_plan_segment_and_join_by_url(bucket: Any, tmp_path: Path, capsys: Any) -> None:
    plan = str(tmp_path / "cut.json")
    words = ["memory://in/clip.mp4", "-o", "memory://out/cut.mov", "--plan", plan, *KEYER]
    assert main(["plan", *words, "--segment-frames", "2"]) == 0
    found = json.loads(Path(plan).read_text())
    assert (found["source"]["path"], found["output"]) == (
        "memory://in/clip.mp4",
        "memory://out/cut.mov",
    )
    for number in range(int(capsys.readouterr().out)):
        assert main(["segment", plan, str(number), "--quiet"]) == 0
    assert main(["join", plan, "--quiet"]) == 0
    assert names(bucket, "/out") == ["cut.mov", "cut.mov.json"]
    assert main(["join", plan]) == 0
    assert "already joined" in capsys.readouterr().err


def test_a_file_url_is_its_path(tmp_path: Path) -> None:
    make_movie(tmp_path / "a b.mp4", size=(64, 48), frames=2)
    words = [f"file://{tmp_path}/a%20b.mp4", "-o", f"file://{tmp_path}/out.mov", *KEYER]
    assert main([*words, "--quiet"]) == 0
    assert (tmp_path / "out.mov").is_file()


def test_a_local_path_with_a_colon_is_not_a_url(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:").mkdir()
    assert remote_url("s3://clip.mp4") is None
    assert [remote_url(name) for name in ("C:/x.mp4", "C://x.mp4", "take:2.mov", "a/b://c")] == [
        None
    ] * 4
    assert remote_url("gs://shelf/clip.mp4") == "gs://shelf/clip.mp4"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["memory://in/none.mp4", "-o", "x.mov"], "there is no such file or folder"),
        (["memory://in/clip.mp4"], "a result of a URL needs a name: add -o"),
        (["memory://in/clip.mp4", "-o", "x.mov", "--resume"], "--resume: it is for files of this"),
        (["nope://in/clip.mp4", "-o", "x.mov"], "nope://in/clip.mp4: Protocol not known: nope"),
        (["s3://in/clip.mp4", "-o", "x.mov"], "a package for s3:// is missing: Install s3fs"),
        (["ftp://a:secret@in/clip.mp4", "-o", "x.mov"], "ftp://...: a URL with a password"),
        (["clip.mp4", "-o", "x.mov", "--readers", "2"], "--readers 2: it needs a URL as input"),
    ],
)
def test_what_does_not_work_is_one_line(
    words: list[str], message: str, bucket: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, *KEYER]) in (1, 2)
    stderr = capsys.readouterr().err
    assert message in stderr
    assert "secret" not in stderr
    assert stderr.count("\n") == 1


def test_a_missing_fsspec_is_one_line(monkeypatch: Any, capsys: Any) -> None:
    real = builtins.__import__

    def without_fsspec(name: str, *rest: Any, **more: Any) -> Any:
        if name == "fsspec":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_fsspec)
    assert main(["s3://shelf/clip.mp4", "-o", "cut.mov"]) == 2
    assert "needs fsspec: pip install 'vidmatte[remote]'" in capsys.readouterr().err


def test_a_file_that_breaks_off_on_its_way_is_refused(
    bucket: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    def short(path: str, target: str, **_: Any) -> None:
        Path(target).write_bytes(bucket.cat(path)[:-1])

    monkeypatch.setattr(bucket, "get_file", short)
    with Staging() as staging, pytest.raises(SourceError, match=r"\d+ of \d+ bytes arrived"):
        staging.copy_of("memory://in/clip.mp4")
    (tmp_path / "new").write_bytes(b"new")
    monkeypatch.setattr(bucket, "put_file", lambda _, target: bucket.pipe(target, b"n"))
    with pytest.raises(OutputError, match=r"1 of 3 bytes of clip\.mp4 arrived"):
        send(tmp_path / "new", "memory://in/clip.mp4", overwrite=True)
    assert names(bucket, "/in") == ["clip.mp4"]
    with pytest.raises(OutputExistsError):
        send(tmp_path / "new", "memory://in/clip.mp4", overwrite=False)


class Store(MemoryFileSystem):
    """A store with buckets, which it creates for whoever asks for a folder."""

    protocol = "oss"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("oss://"))


def test_a_bucket_is_never_created(bucket: Any, capsys: Any) -> None:
    fsspec.register_implementation("oss", Store, clobber=True)
    words = ["oss://in/clip.mp4", *KEYER, "--quiet", "-o"]
    assert main([*words, "oss://mistyped/a/cut.mov"]) == 1
    assert "there is no bucket mistyped: check its name, or create it" in capsys.readouterr().err
    assert main([*words, "oss://mistyped/a/cut.mov", "--overwrite"]) == 1
    assert not bucket.exists("/mistyped")
    bucket.makedirs("/shelf")
    bucket.copy("/in/clip.mp4", "/in/clip #1.mp4")
    words[0] = "oss://in/clip #1.mp4"
    assert main([*words, "oss://shelf/a/cut.mov"]) == 0
    assert names(bucket, "/shelf/a") == ["cut.mov", "cut.mov.json"]


@pytest.mark.parametrize("step", ["put_file", "mv"])
def test_a_result_that_cannot_be_sent_is_kept(
    step: str, bucket: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Access Denied")

    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(bucket, step, refuse)
    words = ["memory://in/clip.mp4", "-o", "memory://out/cut.mov", *KEYER, "--quiet"]
    assert main(words) == 1
    stderr = capsys.readouterr().err
    kept = re.search(r"Access Denied; what is finished is kept in (\S+), not sent$", stderr)
    assert kept is not None, stderr
    assert stderr.count("\n") == 1
    assert verify(Path(kept[1]) / "cut.mov") == []
    assert list((tmp_path / "tmp").iterdir()) == [Path(kept[1])]
    assert not bucket.isfile("/out/cut.mov")
    monkeypatch.undo()
    assert not bucket.exists("/out") or names(bucket, "/out") == []


def test_a_stopped_call_keeps_what_is_finished(
    bucket: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with (
        pytest.raises(KeyboardInterrupt, match="kept in"),
        staged_call(["memory://in/clip.mp4"], "memory://out/cut.mov", {}) as call,
    ):
        assert call.folder is not None
        (call.folder / "a.mov").write_text("done")
        (call.folder / ".b.mov.segments").mkdir()
        (call.folder / ".b.mov.part").touch()
        raise KeyboardInterrupt
    (kept,) = (tmp_path / "tmp").iterdir()
    assert [path.name for path in kept.iterdir()] == ["a.mov"]


def test_a_full_disk_names_the_folder(bucket: Any, monkeypatch: Any) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bucket, "get_file", full)
    folder = re.escape(tempfile.gettempdir())
    with (
        Staging() as staging,
        pytest.raises(
            SourceError,
            match=rf"clip.mp4: the disk is full, no room for its copy in {folder}: free",
        ) as raised,
    ):
        staging.copy_of("memory://in/clip.mp4")
    assert not _failure(raised.value)["is_final"]  # another machine may have room
    monkeypatch.undo()
    with Staging() as staging, pytest.raises(SourceError) as raised:
        staging.copy_of("memory://in/none.mp4")
    assert _failure(raised.value)["is_final"]


def test_only_so_many_are_read_at_once(tmp_path: Path, monkeypatch: Any) -> None:
    most = now = 0
    lock = threading.Lock()

    def fetch(url: str, folder: Path) -> Path:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with lock:
            now -= 1
        return folder / url[-1]

    monkeypatch.setattr(remote, "_fetch", fetch)
    with Staging(readers=2) as staging:
        staging.fetch(f"s3://shelf/{number}" for number in range(6))
    assert most == 2
    most = 0
    # Two machines that count together.
    stagings = [Staging(readers=3, gate=tmp_path) for _ in range(2)]
    threads = [
        threading.Thread(target=one.fetch, args=([f"s3://{number}/{n}" for n in range(4)],))
        for number, one in enumerate(stagings)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 2 <= most <= 3
    for one in stagings:
        one.__exit__()


def test_a_refused_call_names_the_url(bucket: Any, capsys: Any) -> None:
    bucket.pipe("/in/text.mp4", b"no movie")
    with pytest.raises(UsageError):
        remote.file_system("nope://x/y")
    assert main(["memory://in/text.mp4", "-o", "memory://out/cut.mov", *KEYER]) == 1
    stderr = capsys.readouterr().err
    assert "memory://in/text.mp4" in stderr
    assert "/vidmatte-" not in stderr

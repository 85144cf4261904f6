"""A watched folder: what arrives is matted once, failures are set aside, a restart goes on."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from media import make_movie
from tiny_onnx import make_salient

from vidmatte.cli.main import main
from vidmatte.cli.watch import _ERROR_SUFFIX, _RECORD, _Watch
from vidmatte.errors import OutputError
from vidmatte.jobs.report import Reporter
from vidmatte.settings import Settings

pytest.importorskip("watchfiles")
SETTLE = 0.2


class Log(Reporter):
    """Notes which results were made, and which files failed."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.failures: list[str] = []

    def summary(self, facts: dict[str, object], line: str) -> None:
        self.made.append(Path(str(facts["output"])).name)

    def failure(self, error: str, line: str) -> None:
        self.failures.append(line)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    model = make_salient(tmp_path / "tiny.onnx")
    return Settings(model=str(model), family="isnet", manifest="none", threads=1)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The watched folder and that of the results."""
    (arrivals := tmp_path / "in").mkdir()
    return arrivals, tmp_path / "out"


Watching = Callable[..., Log]


@pytest.fixture
def watching(folders: tuple[Path, Path], settings: Settings) -> Iterator[Watching]:
    """Starts a watch in a thread; calling ``stop`` of it ends it."""
    running: list[tuple[threading.Thread, threading.Event]] = []

    def begin() -> Log:
        log, stop = Log(), threading.Event()
        watch = _Watch(*folders, settings, log, SETTLE)
        thread = threading.Thread(target=watch.run, args=(stop,))
        thread.start()
        running.append((thread, stop))
        return log

    def end() -> None:
        while running:
            thread, stop = running.pop()
            stop.set()
            thread.join(20)
            assert not thread.is_alive()

    begin.end = end  # type: ignore[attr-defined]
    yield begin
    end()


def photo(path: Path, level: int = 200) -> Path:
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[8:24, 12:36] = level
    assert cv2.imwrite(str(path), picture)
    return path


def wait_for(is_true: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))


def test_arrivals_are_matted_once(folders: tuple[Path, Path], watching: Watching) -> None:
    """One that is there before, others that come, a slow copy, a bad one, names that clash."""
    arrivals, out = folders
    photo(arrivals / "before.png")
    log = watching()
    (arrivals / "bad.png").write_bytes(b"no picture")
    (arrivals / ".hidden.png").write_bytes(b"x")
    (arrivals / "copy.png.part").write_bytes(b"x")
    whole = photo(arrivals.parent / "slow.png").read_bytes()
    step = len(whole) // 6 + 1
    with (arrivals / "slow.png").open("wb") as slow:
        for at in range(0, len(whole), step):
            slow.write(whole[at : at + step])
            slow.flush()
            time.sleep(SETTLE / 2)
        assert "slow.png" not in log.made
    photo(arrivals / "same.png")
    photo(arrivals / "same.jpg")
    wait_for(lambda: len(log.made) + len(log.failures) == 5)
    time.sleep(3 * SETTLE)
    assert sorted(log.made) == ["before.png", "same.png", "same_jpg.png", "slow.png"] or sorted(
        log.made
    ) == ["before.png", "same.png", "same_png.png", "slow.png"]
    (failure,) = log.failures
    assert names_in(out) == sorted([*log.made, f"bad.png{_ERROR_SUFFIX}"])
    assert (out / f"bad.png{_ERROR_SUFFIX}").read_text() == f"{failure}\n"
    assert names_in(arrivals) == ["bad.png", "before.png", "copy.png.part", "same.jpg", "same.png",
                                  "slow.png"]  # fmt: skip


def test_a_restart_goes_on(folders: tuple[Path, Path], watching: Watching) -> None:
    arrivals, out = folders
    photo(arrivals / "a.png")
    (arrivals / "bad.png").write_bytes(b"no picture")
    first = watching()
    wait_for(lambda: len(first.made) + len(first.failures) == 2)
    watching.end()  # type: ignore[attr-defined]
    # As if killed after the result was renamed, and before another one was begun.
    record = json.loads((out / _RECORD).read_text())
    record["files"]["a.png"] |= {"how": "begun", "owns": False}
    record["files"]["lost.png"] = record["files"]["a.png"] | {"result": "lost.png"}
    (out / _RECORD).write_text(json.dumps(record))
    photo(arrivals / "lost.png")
    second = watching()
    wait_for(lambda: second.made == ["lost.png"])
    time.sleep(3 * SETTLE)
    assert (second.made, second.failures) == (["lost.png"], [])
    photo(arrivals / "bad.png")  # corrected, and so tried again
    photo(arrivals / "a.png", level=255)  # changed: its own result is replaced
    wait_for(lambda: len(second.made) == 3)
    assert sorted(second.made) == ["a.png", "bad.png", "lost.png"]
    assert names_in(out) == ["a.png", "bad.png", "lost.png"]


def test_a_removed_message_tries_again_and_foreign_files_stay(
    folders: tuple[Path, Path], watching: Watching
) -> None:
    arrivals, out = folders
    out.mkdir()
    (out / "a.png").write_bytes(b"of someone else")
    photo(arrivals / "a.png")
    log = watching()
    wait_for(lambda: len(log.failures) == 1)
    assert "a.png exists: --overwrite replaces it" in log.failures[0]
    (out / "a.png").unlink()
    (out / f"a.png{_ERROR_SUFFIX}").unlink()
    photo(arrivals / "b.png")  # wakes it
    wait_for(lambda: sorted(log.made) == ["a.png", "b.png"])
    assert names_in(out) == ["a.png", "b.png"]


def test_movies_become_movies(folders: tuple[Path, Path], watching: Watching) -> None:
    arrivals, out = folders
    log = watching()
    make_movie(arrivals / "clip.mp4", size=(64, 48), frames=3)
    wait_for(lambda: log.made == ["clip.mov"])
    assert names_in(out) == ["clip.mov"]


def test_what_cannot_be_watched_is_refused(
    folders: tuple[Path, Path], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    arrivals, out = folders
    for words, message in (
        ([arrivals / "gone", "-o", out], "gone: there is no such folder to watch: create it"),
        ([arrivals, "-o", arrivals], "that is the watched folder itself: name another"),
        ([arrivals, "-o", out, "--matte", "m.mov"], "--matte m.mov: not for a watched folder"),
        ([arrivals, "-o", out, "--manifest", "one"], "--manifest one: a watched folder has no end"),
        ([arrivals, "-o", out, "--settle", "0"], "--settle"),
    ):
        assert main(["watch", *map(str, words)]) in (1, 2)
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert not out.exists()
    out.mkdir()
    (out / _RECORD).write_text("{")
    with pytest.raises(OutputError, match=r"vidmatte-watch\.json cannot be read"):
        _Watch(*folders, settings, Reporter(), SETTLE).run()


def test_two_watches_do_not_share_a_folder(
    folders: tuple[Path, Path], settings: Settings, watching: Watching
) -> None:
    log = watching()
    photo(folders[0] / "a.png")
    wait_for(lambda: log.made == ["a.png"])
    with pytest.raises(OutputError, match="another vidmatte watch writes there"):
        _Watch(*folders, settings, Reporter(), SETTLE).run()


@pytest.mark.skipif(sys.platform == "win32", reason="signals to a process")
def test_ctrl_c_ends_it(folders: tuple[Path, Path], settings: Settings) -> None:
    arrivals, out = folders
    photo(arrivals / "a.png")
    words = ["watch", arrivals, "-o", out, "--settle", SETTLE, "--model", settings.model]
    command = [sys.executable, "-m", "vidmatte", *map(str, words), "--family", "isnet"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for((out / "a.png").exists)
    time.sleep(SETTLE)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == (f"vidmatte: stopped watching {arrivals}: 1 done, 0 failed")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals to a process")
def test_a_hundred_arrivals_and_kills(folders: tuple[Path, Path], settings: Settings) -> None:
    """Copies at different speeds while the watch is killed again and again."""
    arrivals, out = folders
    words = ["watch", arrivals, "-o", out, "--settle", SETTLE, "--model", settings.model]
    command = [sys.executable, "-m", "vidmatte", *map(str, words), "--family", "isnet", "--json"]
    events = (arrivals.parent / "events").open("a+")
    sources = [photo(arrivals.parent / f"p{number}.png", 100 + number) for number in range(100)]

    def copy() -> None:
        for number, source in enumerate(sources):
            target = arrivals / source.name
            if number % 10 == 3:
                data = source.read_bytes()
                with target.open("wb") as file:
                    for at in range(0, len(data), 40):
                        file.write(data[at : at + 40])
                        file.flush()
                        time.sleep(SETTLE / 4)
            elif number % 10 == 7:
                target.write_bytes(b"bad")
            else:
                shutil.copy(source, target)

    copier = threading.Thread(target=copy)
    copier.start()
    wanted, kills = 90, 0
    while True:
        process = subprocess.Popen(command, stdout=events)
        is_last = kills == 3
        deadline = time.monotonic() + (120 if is_last else 6 + kills)
        while time.monotonic() < deadline:
            if is_last and len(list(out.glob("p*.png"))) == wanted and not copier.is_alive():
                break
            time.sleep(0.1)
        time.sleep(2 if is_last else 0)
        process.send_signal(signal.SIGINT if is_last else signal.SIGKILL)
        process.wait(20)
        if is_last:
            break
        kills += 1
    copier.join()
    events.seek(0)
    made = [json.loads(line) for line in events if '"event": "done"' in line]
    outputs = [one["output"] for one in made]
    assert len(outputs) == len(set(outputs))
    assert len(list(out.glob("p*.png"))) == wanted
    assert len(list(out.glob(f"*{_ERROR_SUFFIX}"))) == 10
    assert not [file for file in out.iterdir() if "partial" in file.name]

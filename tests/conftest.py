"""What every test starts from: isolation, guards, and the lanes that can be skipped.

- Every test runs in an empty folder of its own, without vidmatte's environment
  variables and with the platform's cache folder elsewhere.
- After every test: no thread or child process still running, no file in its folders
  still open, nothing in the working directory, no ERROR in the log.
- A test that cannot run here is skipped with its reason, and fails if
  VIDMATTE_REQUIRE_GPU=1, VIDMATTE_REQUIRE_TORCH=1 or VIDMATTE_REQUIRE_FFMPEG=1
  requires it.
  Tests with real weights and the real clip are skipped if VIDMATTE_OFFLINE=1.
"""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import runpy
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

# Several processes share the cores, and threads of numpy's and torch's own wait for each other by
# spinning: in some files that took two thirds of the time. They are made as numpy is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import lanes
import psutil
import pytest
import typer.main
from media import SOURCE_KINDS, Movie
from readback import require_ffmpeg

from vidmatte.core.memory import tune_malloc
from vidmatte.models.weights.catalogue import lookup
from vidmatte.models.weights.store import Store, _default_folder, _is_offline

GRACE_S = 3.0
#: Files whose tests take long, the longest first. They run before all others: at the end, the other
#: processes would have nothing left to take over from the one that runs them.
LONG_FILES = (
    "test_service_page.py", "test_resume.py", "test_subjects.py", "test_service_jobs.py",
    "test_service_views.py", "test_memory.py", "test_service_openapi.py", "test_farm.py",
)  # fmt: skip
ROOT = Path(__file__).parent.parent
# Otherwise onnxruntime keeps a database open in the cache folder from its first import on.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# Hundreds of tests start the program: compiling it anew each time would take most of their time.
# pytest, too, would rewrite the assertions of all tests anew in each process.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# As the program itself does: half of the page faults, a quarter of the system's time.
tune_malloc()
# The same commands for every call of main(): to make them takes longer than most calls.
typer.main.get_command = cache(typer.main.get_command)
# Read before any test changes the environment.
OFFLINE, MODELS_FOLDER = _is_offline(), _default_folder()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first. Deselect slow tests unless --slow is given, and of a
    ``thinned(n)`` test all cases but every n-th; the summary counts them."""
    order = {name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
    if config.getoption("--slow"):
        return
    slow = {item for item in items if item.get_closest_marker("slow")}
    slow |= left_out([item for item in items if item not in slow])
    if slow:
        config.hook.pytest_deselected(items=list(slow))
        items[:] = [item for item in items if item not in slow]


def left_out(items: list[pytest.Item]) -> set[pytest.Item]:
    """The cases of ``thinned`` tests that are left out. The tests of a file begin with different
    cases, so that a case that they share is in some of them."""
    files: dict[Path, dict[str, list[pytest.Item]]] = {}
    for item in items:
        if item.get_closest_marker("thinned") is not None:
            name = item.nodeid.partition("[")[0]
            files.setdefault(item.path, {}).setdefault(name, []).append(item)
    found: set[pytest.Item] = set()
    for tests in files.values():
        for place, cases in enumerate(tests.values()):
            (step,) = cases[0].get_closest_marker("thinned").args
            found.update(set(cases) - set(cases[place % min(step, len(cases)) :: step]))
    return found


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked ``gpu`` or ``torch`` where there is no CUDA device, or no torch."""
    if item.get_closest_marker("gpu") and (reason := why_no_gpu()):
        lanes.skip_or_fail(reason, lanes.REQUIRE_GPU)
    if item.get_closest_marker("torch") and importlib.util.find_spec("torch") is None:
        lanes.skip_or_fail("torch is not installed", lanes.REQUIRE_TORCH)


def why_no_gpu() -> str | None:
    """Why a network cannot run on CUDA here, or None if it can."""
    from vidmatte.models.runtimes.torch_device import _missing_for_cuda

    return _missing_for_cuda(0)


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory and an environment without this machine's settings.

    Yields the working directory, a folder ``cwd`` inside ``tmp_path``.
    """
    for name in [name for name in os.environ if name.startswith("VIDMATTE_")]:
        if name not in lanes.VARIABLES:
            monkeypatch.delenv(name)
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home" / name.lower()))
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    left = sorted(path.name for path in folder.rglob("*"))
    if left:
        pytest.fail(f"left in the working directory: {', '.join(left)}")


def descendants(process: psutil.Process) -> set[psutil.Process]:
    """The child processes of a process, and theirs."""
    try:
        threads = Path(f"/proc/{process.pid}/task").iterdir()
        if not any((thread / "children").read_text() for thread in threads):
            return set()  # nearly always, and quicker than a look at all processes
    except OSError:
        pass  # not on Linux, or a thread has just ended
    return set(process.children(recursive=True))


def _scheduling() -> int:
    """The policy of this thread, 0 where the system does not tell."""
    return os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else 0


@pytest.fixture(autouse=True)
def no_leftovers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, isolated: Path
) -> Iterator[None]:
    """Fail the test that leaves a thread, a child process, an open file, a logged error or another
    scheduling policy, which all later tests would run under."""
    me = psutil.Process()
    threads, children = set(threading.enumerate()), descendants(me)
    policy = _scheduling()

    def leftovers() -> list[str]:
        new_threads = set(threading.enumerate()) - threads
        new_children = descendants(me) - children
        files = [file.path for file in me.open_files() if Path(file.path).is_relative_to(tmp_path)]
        return [
            *(f"thread {thread.name}" for thread in new_threads if thread.is_alive()),
            *(f"process {child.pid}" for child in new_children if child.is_running()),
            *(f"open file {path}" for path in files),
            *([] if _scheduling() == policy else [f"scheduling policy {_scheduling()}"]),
        ]

    yield
    deadline = time.monotonic() + GRACE_S
    while (left := leftovers()) and time.monotonic() < deadline:
        gc.collect()  # a test's own reader may hold a file until it is collected
        time.sleep(0.02)
    errors = [entry for entry in caplog.get_records("call") if entry.levelno >= logging.ERROR]
    if left or errors:
        logged = (f"log: {entry.getMessage()}" for entry in errors)
        pytest.fail("left behind: " + "; ".join([*left, *logged]))


@pytest.fixture
def requires_ffmpeg() -> None:
    """For tests that call ffmpeg or ffprobe themselves, not through ``readback``."""
    require_ffmpeg()


@pytest.fixture(scope="session")
def source_movie(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Movie]:
    """A clip by its name in SOURCE_KINDS, made once for all tests: read it, never write to it."""
    folder = tmp_path_factory.mktemp("sources")
    made: dict[str, Movie] = {}

    def by_kind(kind: str) -> Movie:
        if kind not in made:
            slug = "".join(letter if letter.isalnum() else "_" for letter in kind)
            made[kind] = SOURCE_KINDS[kind].make(folder, slug)
        return made[kind]

    return by_kind


@pytest.fixture(scope="session")
def weights() -> Callable[[str], Path]:
    """The file of a model's real weights by its name, from this user's own store.

    The product downloads missing weights. The test is skipped only if VIDMATTE_OFFLINE=1
    forbids the download; a failed download is a failure.
    """

    def by_name(name: str) -> Path:
        store = Store(MODELS_FOLDER)
        entry = lookup(name)
        if OFFLINE and not store.has(entry):
            pytest.skip(f"VIDMATTE_OFFLINE is set and the weights of {name} are not here")
        return store.ensure(entry, quiet=True)

    return by_name


@pytest.fixture(scope="session")
def bigbuckbunny() -> Path:
    """The demo's real clip: 1280x720, 25 fps, 132 frames, with sound."""
    script = runpy.run_path(str(ROOT / "examples" / "fetch_clip.py"))
    folder = ROOT / ".demo"
    if OFFLINE and not (folder / "bigbuckbunny.mp4").exists():
        pytest.skip("VIDMATTE_OFFLINE is set and the demo's clip is not here")
    path: Path = script["fetch"]("bigbuckbunny", folder)
    return path

"""``--workers ray``: the workers of a Ray cluster, each an actor with a process of its own.

Paths and small dicts travel through Ray, never frames. The segments are made in a child process of
the actor, ``farm.serve``: it can be killed in the middle of native code, and keeps the network
loaded between segments. Ray repeats nothing by itself: retries are the pool's.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from vidmatte.errors import UsageError, VidmatteError
from vidmatte.farm.pool import GRACE_SECONDS, Crew, Event, Events, Task, Worker, ending_text

_POLL_SECONDS = 2.0  # an answer of an actor waits so long for an event
_ANSWER_SECONDS = 10.0  # of a cluster
_START_TRIES = 3  # of an actor, one after the other


def check_address(text: str) -> str:
    """What ``ray.init`` takes for 'ray' or 'ray://HOST:PORT'. Raises UsageError, also where Ray is
    not installed."""
    if text != "ray":
        try:
            parts = urlsplit(text)
            is_address = bool(parts.hostname and parts.port and not parts.path)
        except ValueError:  # the port is no number
            is_address = False
        if not is_address:
            raise UsageError(f"--workers {text}: write ray://HOST:PORT, like ray://10.0.0.5:10001")
    if importlib.util.find_spec("ray") is None:
        raise UsageError(f"--workers {text}: Ray is not installed: pip install 'vidmatte[ray]'")
    return "auto" if text == "ray" else text


@contextlib.contextmanager
def ray_crew(address: str, device: str, threads: int) -> Iterator[Crew]:
    """A worker for each GPU of a cluster, or on CPUs for each ``threads`` cores of a node.

    device: of the network, as in ``Device.name``. threads: 0 for all cores of the smallest node,
    or all that a GPU's share is. Raises UsageError, VidmatteError.
    """
    _connect(address)
    import ray  # after its environment is set

    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        share = _share_of(nodes, is_gpu=device.startswith("cuda"), threads=threads)
        yield Crew(
            share.count, share.cpus, lambda events: _RayWorker(events, share), is_remote=True
        )
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class _Share:
    """What each worker gets of a cluster, and how many workers there are."""

    cpus: int
    gpus: int
    count: int


def _share_of(nodes: list[Mapping[str, float]], *, is_gpu: bool, threads: int) -> _Share:
    """How a cluster is shared. nodes: the resources of each. Raises UsageError."""
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    if is_gpu:
        gpus = [int(node.get("GPU", 0)) for node in nodes]
        cores = [here // cards for here, cards in zip(cpus, gpus, strict=True) if cards]
        if not cores:
            raise UsageError("--workers ray: no node of the cluster has a GPU: add --device cpu")
        each = threads or max(1, min(cores))
        counts = [min(cards, here // each) for here, cards in zip(cpus, gpus, strict=True)]
    else:
        each = threads or min((here for here in cpus if here), default=1)
        counts = [here // each for here in cpus]
    if not sum(counts):
        raise UsageError(
            f"--workers ray: no node of the cluster has the {each} CPUs of a worker (the largest"
            f" has {max(cpus, default=0)}): set --threads"
        )
    return _Share(each, int(is_gpu), sum(counts))


def _connect(address: str) -> None:
    """Connect to a cluster. Raises VidmatteError."""
    # Ray prints its nodes' errors on stdout, where the events go.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    import ray

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if address == "auto":
            address = _noted_address() or address
        if address != "auto":
            _check_reachable(address)
        ray.init(address, log_to_driver=False, logging_level="error")
    except (OSError, RuntimeError, ValueError) as error:
        where = "" if address == "auto" else f" {address}"
        reason = getattr(error, "strerror", None) or _first_line(error)
        step = "start one with 'ray start --head', or name one: --workers ray://HOST:PORT"
        raise VidmatteError(f"no connection to a Ray cluster{where} ({reason}): {step}") from None
    finally:
        for number, handler in handlers.items():  # Ray installs its own, which end the process
            signal.signal(number, handler)


def _noted_address() -> str:
    """The address of the cluster here; '' where nothing says so, and Ray searches.

    Ray notes it in the temporary folder of whoever started it, which need not be this process's.
    """
    if named := os.environ.get("RAY_ADDRESS"):
        return named
    for folder in (os.environ.get("RAY_TMPDIR"), os.environ.get("TMPDIR"), "/tmp"):
        with contextlib.suppress(OSError):
            if folder:
                note = Path(folder) / "ray" / "ray_current_cluster"
                return note.read_text("utf-8").strip()
    return ""


def _check_reachable(address: str) -> None:
    """Raise OSError where nothing answers at a host and port: Ray tries it for minutes."""
    parts = urlsplit(address if "//" in address else f"//{address}")
    if parts.hostname and parts.port:
        socket.create_connection((parts.hostname, parts.port), _ANSWER_SECONDS).close()


class Agent:
    """The actor: passes requests on to a process on its machine, and the answers back.

    threads: of the network, and of OpenCV, which does not follow OMP_NUM_THREADS.
    """

    def __init__(self, threads: int) -> None:
        self._answers: SimpleQueue[Event | None] = SimpleQueue()
        # Ray sets one thread for each process, whatever the actor's CPUs are.
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vidmatte.farm.serve", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=environment,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def start(self) -> int:
        """The number of its process, which is there."""
        return self._process.pid

    def place(self) -> str:
        """The node that it is on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def ask(self, request: dict[str, Any]) -> None:
        """Ask for a segment."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has just ended, which its reader reports
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def answers(self) -> list[Event | None]:
        """The answers since the last call; waits for one, but not for long."""
        found: list[Event | None] = []
        with contextlib.suppress(Empty):
            found.append(self._answers.get(timeout=_POLL_SECONDS))
            while True:
                found.append(self._answers.get_nowait())
        return found

    def ending(self) -> int:
        """The status with which the process has ended."""
        return self._process.wait()

    def stop(self) -> None:
        """Stop the process and wait until it has ended."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as answers:
            for line in answers:
                self._answers.put(json.loads(line))
        self._answers.put(None)


class _RayWorker(Worker):
    """An actor somewhere on the cluster, and a thread that follows it. Where its node is lost,
    another actor takes its place as soon as there is room."""

    is_ready = False

    def __init__(self, events: Events, share: _Share) -> None:
        self._events, self._share = events, share
        self._ending = ""
        self._failed = 0
        self._follower: threading.Thread | None = None
        self.renew()

    def begin(self, task: Task) -> None:
        """See ``Worker.begin``."""
        self.process.ask.remote(task.request)

    def ending(self) -> str:
        """See ``Worker.ending``."""
        return self._ending

    def ask_to_stop(self) -> None:
        """See ``Worker.ask_to_stop``."""
        if self.process is not None:
            self.process.stop.remote()

    def stop(self) -> None:
        """See ``Worker.stop``."""
        import ray

        actor, self.process, self.task = self.process, None, None
        if actor is None:
            return
        if self.is_ready:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.get(actor.stop.remote(), timeout=GRACE_SECONDS + 5)
        self.is_ready = False
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(actor)
        if self._follower is not None:
            self._follower.join(GRACE_SECONDS)

    def renew(self) -> None:
        """See ``Worker.renew``."""
        import ray

        self.is_ready = False
        share = self._share
        actor_class = ray.remote(Agent).options(
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            scheduling_strategy="SPREAD",
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=4,  # a request and a stop arrive while answers are waited for
        )
        self.process = actor_class.remote(share.cpus)
        self._follower = threading.Thread(target=self._follow, args=(self.process,), daemon=True)
        self._follower.start()

    def _follow(self, actor: Any) -> None:
        """Pass on what an actor answers, until it has ended."""
        import ray

        try:
            ray.get(actor.start.remote())
            self.place = ray.get(actor.place.remote())
            self._failed, self.is_ready = 0, True
            self._events.put((self, actor, {"event": "ready"}))
            while None not in (found := ray.get(actor.answers.remote())):
                for event in found:
                    self._events.put((self, actor, event))
            for event in found[: found.index(None)]:
                self._events.put((self, actor, event))
            self._end(actor, ending_text(ray.get(actor.ending.remote())))
        except ray.exceptions.RayActorError as error:
            self._end(actor, f"its node or its actor was lost ({type(error).__name__})")
        except Exception as error:  # noqa: BLE001 (the pool raises it)
            message = f"Ray: {type(error).__name__}: {_first_line(error)}"
            self._events.put((self, actor, {"event": "unusable", "message": message}))
        with contextlib.suppress(Exception):  # it may only have been out of reach
            ray.kill(actor)

    def _end(self, actor: Any, ending: str) -> None:
        """Report that the actor has ended; where it never began, only a few times."""
        if not self.is_ready:
            self._failed += 1
        self._ending, self.is_ready = ending, False
        if self._failed >= _START_TRIES:
            step = "every node needs the same vidmatte and Python as this machine"
            message = f"Ray cannot start a worker: {ending}: {step}"
            self._events.put((self, actor, {"event": "unusable", "message": message}))
        self._events.put((self, actor, None))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else type(error).__name__

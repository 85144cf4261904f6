"""What all routes of the service share: its parts, ids and times, and the error of a request."""

from __future__ import annotations

import calendar
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vidmatte.service.config import ServiceConfig
from vidmatte.service.database import Database


@dataclass
class Context:
    """The parts of one running service. ``stopping`` is set when it ends: streams end then.

    starting, ending: called in order when the server starts and, the last one first, when it ends;
    a part that runs threads or processes adds its own. expiring: called once a minute.
    """

    config: ServiceConfig
    database: Database
    stopping: threading.Event = field(default_factory=threading.Event)
    starting: list[Callable[[], None]] = field(default_factory=list)
    ending: list[Callable[[], None]] = field(default_factory=list)
    expiring: list[Callable[[], None]] = field(default_factory=list)
    #: Set by ``app.create_app``; each part's class is in the module of that name.
    events: Any = None
    clips: Any = None
    jobs: Any = None
    viewer: Any = None
    disk: Any = None
    command_line: Any = None
    models: Any = None
    metrics: Any = None

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Store an event, for everyone who follows them."""
        if self.events is not None:
            self.events.add(kind, data)


def new_id() -> str:
    """An id that nobody can guess: 16 hexadecimal digits."""
    return secrets.token_hex(8)


def utc_text(seconds: float = 0.0) -> str:
    """The time in so many seconds, UTC: '2026-01-31T12:00:00.000Z'. Such texts sort by time."""
    at = time.time() + seconds
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
    return f"{whole}.{int(at % 1 * 1000):03d}Z"


def seconds_of(text: str) -> float:
    """The time of a ``utc_text``, in seconds since 1970."""
    whole, _, milliseconds = text.removesuffix("Z").partition(".")
    at = calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))
    return at + int(milliseconds or 0) / 1000


class RequestError(Exception):
    """Answered as JSON, ``{"error": error, "message": message}``, with the HTTP ``status``.

    retry_after: whole seconds after which the same request may succeed.
    """

    def __init__(
        self, status: int, error: str, message: str, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.error, self.message = status, error, message
        self.retry_after = retry_after


def missing(kind: str, name: str) -> RequestError:
    """404: there is no such clip, job, upload, ..."""
    return RequestError(404, "missing", f"{kind} {name}: not found; it may have expired")

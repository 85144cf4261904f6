"""What happens in the service, as stored rows: followed by server-sent events or by polling."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from vidmatte.service.context import Context, RequestError, utc_text

_TABLE = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, type TEXT NOT NULL,
    job TEXT, data TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS events_job ON events (job, id);
"""
_KEPT = 5000  # rows; a client that is further behind reads the lists again
_PRUNE_EVERY = 200
_AT_ONCE = 200  # rows that are read from the database in one step
_MOST_STREAMS = 256
_HEARTBEAT_S = 15.0
#: How soon a stream sees that the server ends.
_CHECK_S = 0.25
_LARGEST_ID = 2**62


class Events:
    """The store of events, and who waits for new ones."""

    def __init__(self, context: Context) -> None:
        self._database = context.database
        self._database.create(_TABLE)
        self._lock = threading.Lock()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def add(self, kind: str, data: dict[str, Any]) -> None:
        """Store an event that is no job's, and wake those who follow them."""
        with self._database.writing() as connection:
            self.store(connection, kind, data, None)
        self.wake()

    def store(
        self, connection: sqlite3.Connection, kind: str, data: dict[str, Any], job: str | None
    ) -> None:
        """Store an event within a transaction; then call ``wake``. Progress replaces the job's
        progress before."""
        if kind == "progress":
            connection.execute("DELETE FROM events WHERE job = ? AND type = 'progress'", (job,))
        added = connection.execute(
            "INSERT INTO events (time, type, job, data) VALUES (?, ?, ?, ?)",
            (utc_text(), kind, job, json.dumps(data)),
        ).lastrowid
        if added and added % _PRUNE_EVERY == 0:
            connection.execute("DELETE FROM events WHERE id <= ?", (added - _KEPT,))

    def wake(self) -> None:
        """Have those who follow the events look for new ones."""
        with self._lock:
            for loop, event in self._waiting:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(event.set)

    def after(self, last: int, job: str | None = None) -> list[dict[str, Any]]:
        """The first events after the one with the id ``last``, of one job or of all."""
        rows = self._database.rows(
            "SELECT * FROM events WHERE id > ? AND (? IS NULL OR job = ?) ORDER BY id LIMIT ?",
            (last, job, job, _AT_ONCE),
        )
        return [{"id": row["id"], "time": row["time"], "type": row["type"],
                 "data": json.loads(row["data"])} for row in rows]  # fmt: skip

    def last(self) -> int:
        """The id of the newest event; 0 before the first."""
        row = self._database.row("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
        return 0 if row is None else int(row["seq"])

    @contextmanager
    def following(self) -> Iterator[asyncio.Event]:
        """An event of this loop that is set whenever one is stored. Raises RequestError (503)
        where too many follow already."""
        entry = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            if len(self._waiting) >= _MOST_STREAMS:
                raise _busy()
            self._waiting.add(entry)
        try:
            yield entry[1]
        finally:
            with self._lock:
                self._waiting.discard(entry)

    @property
    def streams(self) -> int:
        """How many streams are open."""
        with self._lock:
            return len(self._waiting)


def _busy() -> RequestError:
    return RequestError(503, "busy", "too many event streams are open: poll, or try again", 5)


def _as_text(event: dict[str, Any]) -> str:
    """An event as a server-sent event. JSON has no line ends, so that one ``data`` line is enough.

    https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    data = json.dumps(event["data"])
    return f"id: {event['id']}\nevent: {event['type']}\ndata: {data}\n\n"


async def _stream(context: Context, last: int, job: str | None) -> AsyncIterator[str]:
    """Events after ``last`` as they come; ends with the server, and with the job where it is one
    job's. Starlette closes it when the client goes."""
    events: Events = context.events
    yield "retry: 2000\n\n"
    with events.following() as event:
        heard = time.monotonic()
        while not context.stopping.is_set():
            event.clear()
            # Asked for first: an event between the two questions is then not missed.
            is_over = job is not None and await run_in_threadpool(context.jobs.is_over, job)
            found = await run_in_threadpool(events.after, last, job)
            for one in found:
                last = one["id"]
                yield _as_text(one)
            if found:
                heard = time.monotonic()
                continue
            if is_over:
                return
            if time.monotonic() - heard >= _HEARTBEAT_S:
                heard = time.monotonic()
                yield ": still here\n\n"
            try:
                await asyncio.wait_for(event.wait(), _CHECK_S)
            except TimeoutError:
                continue


def _answer(context: Context, job: str | None, after: int | None, accept: str, seen: str) -> Any:
    """Events as JSON or as a stream. seen: the header Last-Event-ID, '' where there is none."""
    events: Events = context.events
    if "text/event-stream" not in accept and (after is not None or "application/json" in accept):
        found = events.after(after or 0, job)
        return JSONResponse({"events": found, "last": found[-1]["id"] if found else after or 0})
    start = after
    if seen.isascii() and seen.isdecimal() and len(seen) < 19:
        start = int(seen)
    if job is not None and seen and context.jobs.is_over(job) and not events.after(start or 0, job):
        return Response(status_code=204)  # which ends a browser's attempts to connect again
    if start is None:
        start = events.last() if job is None else 0
    if events.streams >= _MOST_STREAMS:
        raise _busy()
    return StreamingResponse(
        _stream(context, start, job),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


_After = Annotated[int | None, Query(ge=0, le=_LARGEST_ID, description="id of the last event seen")]
_Accept = Annotated[str, Header()]
_Seen = Annotated[str, Header(alias="Last-Event-ID")]
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A stream of server-sent events, or with ?after=N or Accept:"
        " application/json the events as JSON. Types: clip, job, progress, model.",
        "content": {
            "text/event-stream": {
                "example": 'id: 7\nevent: progress\ndata: {"id": "5f1e...", "done": 12}\n\n'
            },
            "application/json": {
                "example": {
                    "events": [{"id": 7, "time": "2026-01-31T12:00:00.000Z", "type": "progress",
                                "data": {"id": "5f1e0c9b7a3d2f48", "phase": "matting", "done": 12,
                                         "frames": 250, "fps": 8.1, "seconds_left": 29}}],
                    "last": 7,
                }
            },
        },
    }
}  # fmt: skip


def router(context: Context) -> APIRouter:
    """The routes of events."""
    routes = APIRouter(prefix="/api", tags=["events"])

    @routes.get("/events", responses=_ANSWERS, response_class=Response)
    def all_events(after: _After = None, accept: _Accept = "", seen: _Seen = "") -> Any:
        """All events: from now on, or after ``Last-Event-ID`` or ``after``."""
        return _answer(context, None, after, accept, seen)

    @routes.get(
        "/jobs/{job}/events",
        responses={**_ANSWERS, 204: {"description": "The job has ended, and all was seen."}},
        response_class=Response,
    )
    def job_events(job: str, after: _After = None, accept: _Accept = "", seen: _Seen = "") -> Any:
        """The events of one job, from its first on; a stream ends with the job."""
        context.jobs.get(job)
        return _answer(context, job, after, accept, seen)

    return routes

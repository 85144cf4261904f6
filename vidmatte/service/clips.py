"""Clips: the files that were uploaded, and what they are."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sqlite3
import threading
from pathlib import Path
from queue import Queue
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from vidmatte.service.context import Context, RequestError, missing, new_id, utc_text
from vidmatte.service.probe import Prober
from vidmatte.service.receive import Incoming, is_form, received_body, received_form

_TABLE = """
CREATE TABLE IF NOT EXISTS clips (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
    created TEXT NOT NULL, expires TEXT NOT NULL, state TEXT NOT NULL, error TEXT, info TEXT
);
"""
_LOG = logging.getLogger("vidmatte.service")
_MOST_AT_ONCE, _PAUSE_SECONDS = 8, 2.0
_SHOWN = ("id", "name", "bytes", "sha256", "created", "expires", "state", "error")


class Clips:
    """The store of clips. Files are in ``clips/ID/NAME``; the rest is in the database."""

    def __init__(self, context: Context) -> None:
        self._context, self._database = context, context.database
        self._database.create(_TABLE)
        self._unprobed: Queue[str | None] = Queue()
        self._prober = Prober(context.config)
        self._thread = threading.Thread(target=self._probe_all, name="vidmatte-probe")
        context.expiring.append(self.delete_expired)

    def list(self) -> list[dict[str, Any]]:
        """All clips as the API shows them, the newest last."""
        rows = self._database.rows("SELECT * FROM clips ORDER BY created, rowid")
        return [_shown(row) for row in rows]

    def count(self) -> int:
        """How many there are."""
        return int(self._database.rows("SELECT count(*) AS count FROM clips")[0]["count"])

    def get(self, clip: str) -> dict[str, Any]:
        """One clip as the API shows it. Raises RequestError."""
        row = self._database.row("SELECT * FROM clips WHERE id = ?", (clip,))
        if row is None:
            raise missing("clip", clip)
        return _shown(row)

    def path(self, clip: str) -> Path:
        """The file of a clip. Raises RequestError."""
        return self._file(clip, str(self.get(clip)["name"]))

    def ready(self, clip: str) -> dict[str, Any]:
        """A clip that can be used. Raises RequestError: 409 if it is not probed yet, 422 if that
        failed."""
        found = self.get(clip)
        if found["state"] == "probing":
            raise RequestError(
                409, "probing", f"clip {clip}: the server is still reading it; try again", 1
            )
        if found["state"] == "failed":
            raise RequestError(422, "unusable", str(found["error"]))
        return found

    def insert(self, connection: sqlite3.Connection, name: str, size: int, sha256: str) -> str:
        """Add a clip within a transaction, and return its id; then call ``adopt``."""
        clip, keep = new_id(), self._context.config.keep
        values = (clip, name, size, sha256, utc_text(), utc_text(keep), "probing")
        connection.execute(
            "INSERT INTO clips (id, name, bytes, sha256, created, expires, state)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            values,
        )
        return clip

    def adopt(self, clip: str, file: Path) -> dict[str, Any]:
        """Move the file of a clip that ``insert`` added to its place, and have it probed."""
        path = self.path(clip)
        path.parent.mkdir(exist_ok=True)
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
        file.rename(path)
        self._context.disk.changed()
        self._unprobed.put(clip)
        return self._publish(clip)

    def delete(self, clip: str) -> None:
        """Remove a clip and its file. Raises RequestError: 404, 409 while a job reads it."""
        self.get(clip)
        jobs = self._context.jobs
        if jobs is not None and jobs.reads(clip):
            raise RequestError(409, "in_use", f"clip {clip}: a job uses it; cancel the job first")
        with self._database.writing() as connection:
            connection.execute("DELETE FROM clips WHERE id = ?", (clip,))
        shutil.rmtree(self._context.config.clips / clip, ignore_errors=True)
        self._context.disk.changed()
        self._context.publish("clip", {"id": clip, "deleted": True})

    def add(self, incoming: Incoming) -> dict[str, Any]:
        """Add a file that has been received."""
        with self._database.writing() as connection:
            clip = self.insert(connection, incoming.name, incoming.size, incoming.sha256)
        return self.adopt(clip, incoming.file)

    def check_room(self) -> None:
        """Raise RequestError (429) where there are as many clips as are allowed."""
        most = self._context.config.max_clips
        if self.count() >= most:
            raise RequestError(
                429,
                "too_many_clips",
                f"{most} clips are stored, which is the limit: delete some first",
                60,
            )

    def delete_expired(self) -> None:
        """Remove the clips whose time is over and that no job reads."""
        rows = self._database.rows("SELECT id FROM clips WHERE expires < ?", (utc_text(),))
        for row in rows:
            with contextlib.suppress(RequestError):  # a job reads it, or someone was quicker
                self.delete(row["id"])

    def _publish(self, clip: str) -> dict[str, Any]:
        found = self.get(clip)
        self._context.publish("clip", found)
        return found

    def start(self) -> None:
        """Probe what a server that was killed had left, and begin."""
        self._sweep()
        for row in self._database.rows("SELECT id FROM clips WHERE state = 'probing'"):
            self._unprobed.put(row["id"])
        self._thread.start()

    def _sweep(self) -> None:
        """Remove what a killed server left: folders without a clip, clips without a file."""
        rows = self._database.rows("SELECT id, name FROM clips")
        kept = {row["id"] for row in rows if self._file(row["id"], row["name"]).exists()}
        with self._database.writing() as connection:
            for row in rows:
                if row["id"] not in kept:
                    connection.execute("DELETE FROM clips WHERE id = ?", (row["id"],))
        for folder in self._context.config.clips.iterdir():
            if folder.name not in kept:
                shutil.rmtree(folder)

    def _file(self, clip: str, name: str) -> Path:
        return self._context.config.clips / clip / name

    def end(self) -> None:
        """End the probing."""
        self._unprobed.put(None)
        self._prober.stop()
        self._thread.join()

    def _probe_all(self) -> None:
        """Probe clips until the server ends, those that wait together."""
        while (clip := self._unprobed.get()) is not None:
            waiting = [clip]
            while len(waiting) < _MOST_AT_ONCE and not self._unprobed.empty():
                clip = self._unprobed.get()
                if clip is None:
                    return
                waiting.append(clip)
            files = {}
            for clip in waiting:
                with contextlib.suppress(RequestError):  # deleted in the meantime
                    files[clip] = self.path(clip)
            try:
                found = self._prober.probe(list(files.values())) if files else []
                if self._context.stopping.is_set():
                    return
                for clip, facts in zip(files, found, strict=True):
                    self._take(clip, facts)
            except (OSError, sqlite3.Error) as error:  # no memory or disk: that may pass
                _LOG.error("probing of clips: %r", error)
                self._context.stopping.wait(_PAUSE_SECONDS)
                for clip in files:
                    self._unprobed.put(clip)

    def _take(self, clip: str, facts: dict[str, Any]) -> None:
        """Store what a clip was found to be."""
        state, error = ("failed", facts["error"]) if "error" in facts else ("ready", None)
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE clips SET state = ?, error = ?, info = ? WHERE id = ?",
                (state, error, None if error else json.dumps(facts), clip),
            )
        with contextlib.suppress(RequestError):  # deleted in the meantime
            self._publish(clip)


def _shown(row: sqlite3.Row) -> dict[str, Any]:
    """A clip as the API shows it."""
    info = json.loads(row["info"]) if row["info"] else None
    facts = info or {}
    return {
        **{name: row[name] for name in _SHOWN},
        "kind": facts.get("kind"),
        "width": facts.get("width"),
        "height": facts.get("height"),
        "frames": 1 if facts.get("kind") == "picture" else facts.get("frames"),
        "rate": facts.get("rate"),
        "first_frame": 0,
        "timecode": facts.get("timecode"),
        "info": info,
    }


def router(context: Context) -> APIRouter:
    """The routes under ``/api/clips``."""
    routes = APIRouter(prefix="/api/clips", tags=["clips"])
    clips: Clips = context.clips
    context.starting.append(clips.start)
    context.ending.append(clips.end)

    _add_upload(routes, context, clips)

    @routes.get("")
    def all_clips() -> Any:
        """All clips, the newest last."""
        return {"clips": clips.list()}

    @routes.get("/{clip}")
    def one_clip(clip: str) -> Any:
        """One clip."""
        return clips.get(clip)

    @routes.get("/{clip}/info")
    def info(clip: str) -> Any:
        """What ``vidmatte info --json`` says of it."""
        return clips.ready(clip)["info"]

    @routes.get("/{clip}/file")
    def file(clip: str) -> FileResponse:
        """The file as it was uploaded; ranges of bytes are served."""
        path = clips.path(clip)
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    @routes.delete("/{clip}", status_code=204)
    def delete(clip: str) -> None:
        """Remove a clip and its file."""
        clips.delete(clip)

    return routes


def _add_upload(routes: APIRouter, context: Context, clips: Clips) -> None:
    """Add the route of uploads in one request."""

    @routes.post("", status_code=201)
    async def upload(
        request: Request, name: Annotated[str | None, Query(max_length=1000)] = None
    ) -> Any:
        """Upload one file as the body, with its ``name``, or several in a form.

        For large files: ``/api/uploads``, which goes on after a broken connection.
        """
        await run_in_threadpool(clips.check_room)
        if is_form(request):
            async with received_form(context, request) as form:
                if not form.files:
                    raise RequestError(422, "invalid", "file: missing; the form has no file")
                return {"clips": [await run_in_threadpool(clips.add, one) for one in form.files]}
        if name is None:
            raise RequestError(
                422, "invalid", "name: missing; give the file's name, as in ?name=a.mp4"
            )
        async with received_body(context, request, name) as incoming:
            return await run_in_threadpool(clips.add, incoming)

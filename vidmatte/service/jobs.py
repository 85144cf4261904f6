"""Jobs: what clients have asked for, in the order in which they asked, and how far it is.

A job is queued, running, done, failed or cancelled. Only the runner moves it from queued to
running and from there to an end; clients put a job in, cancel it, retry it, remove it.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vidmatte.service.command import JobOutput, job_words, shell_text
from vidmatte.service.context import Context, RequestError, missing, new_id, utc_text
from vidmatte.service.job_process import EVENTS

_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, clip TEXT NOT NULL,
    name TEXT NOT NULL, reads TEXT NOT NULL, settings TEXT NOT NULL, output TEXT NOT NULL,
    preset TEXT, command TEXT NOT NULL, state TEXT NOT NULL, created TEXT NOT NULL,
    started TEXT, ended TEXT, expires TEXT, phase TEXT, done INTEGER NOT NULL DEFAULT 0,
    frames INTEGER, fps REAL, error TEXT, tries INTEGER NOT NULL DEFAULT 0,
    results TEXT NOT NULL DEFAULT '[]', warnings TEXT NOT NULL DEFAULT '[]', quality TEXT,
    log_start INTEGER NOT NULL DEFAULT 0, restarts INTEGER NOT NULL DEFAULT 0,
    is_cancelled INTEGER NOT NULL DEFAULT 0, is_removed INTEGER NOT NULL DEFAULT 0, ending TEXT
);
CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state, number);
"""
_SHOWN = ("id", "clip", "name", "state", "created", "started", "ended", "expires", "phase",
          "done", "frames", "fps", "error", "tries", "preset", "command")  # fmt: skip
_ACTIVE = "state IN ('queued', 'running')"
_OVER = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class JobRequest:
    """One job that a client asks for: settings by the names of ``Settings``."""

    clip: str
    settings: Mapping[str, Any]
    output: JobOutput
    preset: str | None = None


class Jobs:
    """The store of jobs. The files of a job are in ``jobs/ID``, its results in ``jobs/ID/out``."""

    def __init__(self, context: Context) -> None:
        self._context, self._database = context, context.database
        self._database.create(_TABLE)
        #: Called when there is something for the runner to do.
        self.wake: Callable[[], None] = lambda: None
        context.expiring.append(self.expire)

    def folder(self, job: str) -> Path:
        """The folder of a job's files."""
        return self._context.config.results / job

    def command(self, request: JobRequest) -> tuple[list[str], str, list[str]]:
        """The command line that a user would type for a job: its words, the same as one line for
        a shell, and the ids of the clips that it reads. Raises RequestError."""
        clips, reads = self._context.clips, [request.clip]

        def name_of(clip: str) -> str:
            if clip != request.clip:
                reads.append(clip)
            return str(clips.ready(clip)["name"])

        most = self._context.config.max_megapixels
        pixels = request.settings.get("max_megapixels")
        if isinstance(pixels, int | float) and pixels > most:
            raise RequestError(422, "invalid", f"max_megapixels {pixels:g}: at most {most:g} here")
        words = job_words(clips.ready(request.clip), request.settings, request.output, name_of)
        self._context.models.check(request.settings.get("model"))
        return ["vidmatte", *words], shell_text(words), list(dict.fromkeys(reads))

    def submit(self, requests: Sequence[JobRequest]) -> list[dict[str, Any]]:
        """Queue jobs, all or none. Raises RequestError: 404, 409, 422 for a clip or a setting, 429
        where too many jobs are waiting, 507 where the disk is full."""
        self._context.disk.check()
        commands = [self.command(one) for one in requests]
        jobs = [new_id() for _ in requests]
        with self._database.writing() as connection:
            row = connection.execute(f"SELECT count(*) FROM jobs WHERE {_ACTIVE}").fetchone()
            most = self._context.config.max_jobs
            if row[0] + len(requests) > most:
                raise RequestError(
                    429, "too_many_jobs", f"{row[0]} jobs are waiting, the limit is {most}", 10
                )
            for job, one, (_, command, reads) in zip(jobs, requests, commands, strict=True):
                self._insert(connection, job, one, command, reads)
                self._announce(connection, job)
        self._context.events.wake()
        self.wake()
        return [self.get(job) for job in jobs]

    def _insert(
        self,
        connection: sqlite3.Connection,
        job: str,
        request: JobRequest,
        command: str,
        reads: list[str],
    ) -> None:
        name = self._context.clips.get(request.clip)["name"]
        connection.execute(
            "INSERT INTO jobs (id, clip, name, reads, settings, output, preset, command, state,"
            " created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?)",
            (
                job, request.clip, name, json.dumps(reads), json.dumps(dict(request.settings)),
                request.output.model_dump_json(), request.preset, command, utc_text(),
            ),
        )  # fmt: skip

    def listed(
        self, states: Sequence[str] = (), limit: int = 200, before: str | None = None
    ) -> list[dict[str, Any]]:
        """Jobs, the newest first: in one of ``states`` (all where it is empty), submitted before
        the job ``before``. Raises RequestError."""
        number = 2**62 if before is None else self.row(before)["number"]
        marks = ", ".join("?" * len(states))
        rows = self._database.rows(
            "SELECT * FROM jobs WHERE is_removed = 0 AND number < ?"
            + (f" AND state IN ({marks})" if states else "")
            + " ORDER BY number DESC LIMIT ?",
            (number, *states, limit),
        )
        return [_shown(row) for row in rows]

    def get(self, job: str) -> dict[str, Any]:
        """One job as the API shows it. Raises RequestError."""
        return _shown(self.row(job))

    def row(self, job: str, *, with_removed: bool = False) -> sqlite3.Row:
        """The row of a job. with_removed: also of one that was removed while it ran. Raises
        RequestError."""
        row = self._database.row("SELECT * FROM jobs WHERE id = ?", (job,))
        if row is None or (row["is_removed"] and not with_removed):
            raise missing("job", job)
        return row

    def is_over(self, job: str) -> bool:
        """Whether a job has ended or was removed."""
        row = self._database.row("SELECT state, is_removed FROM jobs WHERE id = ?", (job,))
        return row is None or row["is_removed"] or row["state"] in _OVER

    def counts(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        rows = self._database.rows("SELECT state, count(*) AS jobs FROM jobs GROUP BY state")
        return {row["state"]: row["jobs"] for row in rows}

    def reads(self, clip: str) -> bool:
        """Whether a job that is queued or running reads a clip."""
        rows = self._database.rows(f"SELECT reads FROM jobs WHERE {_ACTIVE}")
        return any(clip in json.loads(row["reads"]) for row in rows)

    def cancel(self, job: str) -> dict[str, Any]:
        """Cancel a job: at once where it is queued, soon where it runs. Raises RequestError (409)
        where it has ended."""
        row = self.row(job)
        if row["state"] in _OVER:
            raise RequestError(409, "ended", f"job {job}: it is already {row['state']}")
        if row["state"] == "running" or not self.end(job, "cancelled", only_from="queued"):
            self.change(job, is_cancelled=1)
        self.wake()
        return self.get(job)

    def retry(self, job: str) -> dict[str, Any]:
        """Queue a job that failed or was cancelled; it goes on after the frames that it had
        finished. Raises RequestError (409) for any other."""
        row = self.row(job)
        if row["state"] not in ("failed", "cancelled"):
            raise RequestError(
                409,
                "not_failed",
                f"job {job}: it is {row['state']}; only a failed or cancelled job can be retried",
            )
        for clip in json.loads(row["reads"]):
            self._context.clips.ready(clip)
        values = {"state": "queued", "error": None, "ended": None, "expires": None, "fps": None,
                  "phase": None, "is_cancelled": 0, "restarts": 0, "ending": None}  # fmt: skip
        self._move(job, ("failed", "cancelled"), values)
        self.wake()
        return self.get(job)

    def delete(self, job: str) -> None:
        """Remove a job and its results; one that runs is cancelled first. Raises RequestError."""
        self.row(job)
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE jobs SET is_removed = 1, is_cancelled = 1 WHERE id = ?", (job,)
            )
            data = {"id": job, "deleted": True}
            self._context.events.store(connection, "job", data, job)
            row = connection.execute("SELECT state FROM jobs WHERE id = ?", (job,)).fetchone()
        self._context.events.wake()
        if row["state"] == "running":  # the runner removes its files when it has ended
            self.wake()
        else:
            self.purge(job)

    def purge(self, job: str) -> None:
        """Remove the row and the files of a job that does not run."""
        shutil.rmtree(self.folder(job), ignore_errors=True)
        with self._database.writing() as connection:
            connection.execute("DELETE FROM jobs WHERE id = ? AND state != 'running'", (job,))
            connection.execute("DELETE FROM events WHERE job = ? AND type = 'progress'", (job,))

    def expire(self) -> None:
        """Remove the jobs whose time is over."""
        rows = self._database.rows("SELECT id FROM jobs WHERE expires < ?", (utc_text(),))
        for row in rows:
            self.delete(row["id"])

    def change(self, job: str, **values: Any) -> None:
        """Set columns of a job, and announce it."""
        with self._database.writing() as connection:
            names = ", ".join(f"{name} = ?" for name in values)
            connection.execute(f"UPDATE jobs SET {names} WHERE id = ?", (*values.values(), job))
            self._announce(connection, job)
        self._context.events.wake()

    def end(self, job: str, state: str, *, only_from: str = "running", **values: Any) -> bool:
        """Move a job to its end, if it is in the state ``only_from``; returns whether it was."""
        keep = self._context.config.keep
        end = {"state": state, "ended": utc_text(), "phase": None, "expires": utc_text(keep)}
        return self._move(job, (only_from,), {**values, **end})

    def claim(self) -> sqlite3.Row | None:
        """Move the job that has waited longest to running; None where none waits."""
        row = self._database.row(
            "SELECT * FROM jobs WHERE state = 'queued' AND is_removed = 0 ORDER BY number LIMIT 1"
        )
        if row is None:
            return None
        events = self.folder(row["id"]) / EVENTS
        # With the state, so that no later server takes the end of an earlier try for this one's.
        start = events.stat().st_size if events.exists() else 0
        values = {"state": "running", "started": utc_text(), "phase": "loading",
                  "tries": row["tries"] + 1, "ending": None, "log_start": start}  # fmt: skip
        is_ours = self._move(row["id"], ("queued",), values)
        return self.row(row["id"], with_removed=True) if is_ours else None

    def running(self) -> list[sqlite3.Row]:
        """The rows of the jobs that run, or ran when the server was killed."""
        return self._database.rows("SELECT * FROM jobs WHERE state = 'running' ORDER BY number")

    def requeue(self, job: str, **values: Any) -> None:
        """Put a job that was running back to its place in the queue."""
        self._move(job, ("running",), {**values, "state": "queued", "phase": None, "fps": None})

    def _move(self, job: str, states: Sequence[str], values: Mapping[str, Any]) -> bool:
        """Change a job, if it is in one of ``states``; returns whether it was."""
        names, marks = ", ".join(f"{name} = ?" for name in values), ", ".join("?" * len(states))
        with self._database.writing() as connection:
            changed = connection.execute(
                f"UPDATE jobs SET {names} WHERE id = ? AND state IN ({marks})",
                (*values.values(), job, *states),
            ).rowcount
            if changed:
                self._announce(connection, job)
        self._context.events.wake()
        return bool(changed)

    def progress(self, job: str, phase: str, done: int, frames: int | None, fps: float) -> None:
        """Store how far a job is, and announce it."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE jobs SET phase = ?, done = ?, frames = ?, fps = ? WHERE id = ?",
                (phase, done, frames, fps, job),
            )
            data = {"id": job, "phase": phase, "done": done, "frames": frames, "fps": fps,
                    "seconds_left": _seconds_left(done, frames, fps)}  # fmt: skip
            self._context.events.store(connection, "progress", data, job)
        self._context.events.wake()

    def _announce(self, connection: sqlite3.Connection, job: str) -> None:
        """Store an event with the job as it is now; of one that is removed its removal was one."""
        row = connection.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
        if row is not None and not row["is_removed"]:
            self._context.events.store(connection, "job", _shown(row), job)


def _seconds_left(done: int, frames: int | None, fps: float | None) -> float | None:
    """An estimate of the time that a job needs, in seconds."""
    return round((frames - done) / fps, 1) if frames and fps else None


def _shown(row: sqlite3.Row) -> dict[str, Any]:
    """A job as the API shows it."""
    is_running = row["state"] == "running"
    results = [
        {**one, "url": _result_url(row["id"], one["name"])} for one in json.loads(row["results"])
    ]
    return {
        **{name: row[name] for name in _SHOWN},
        "seconds_left": _seconds_left(row["done"], row["frames"], row["fps"])
        if is_running
        else None,
        "settings": json.loads(row["settings"]),
        "output": json.loads(row["output"]),
        "results": results,
        "warnings": json.loads(row["warnings"]),
        "quality": json.loads(row["quality"]) if row["quality"] else None,
    }


def _result_url(job: str, name: str) -> str:
    """Where a result is fetched from; of a folder, whose name ends in a slash, as a ZIP."""
    if name.endswith("/"):
        return f"/api/jobs/{job}/results.zip?name={quote(name, safe='')}"
    return f"/api/jobs/{job}/results/{quote(name)}"

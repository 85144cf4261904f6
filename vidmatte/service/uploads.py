"""The store of uploads that go on after a broken connection.

The length of the file on disk is the offset, so that it is right whenever the server was killed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
import os
import sqlite3
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from vidmatte.service.context import Context, RequestError, missing, new_id, utc_text
from vidmatte.service.receive import broken_off, chunks, safe_name, too_large, write_all

_LOG = logging.getLogger("vidmatte.service")
_KEPT_SECONDS = 24 * 3600
_MOST_UNFINISHED = 500
_BUFFER = 1 << 20
#: Of checksums, by their names in Python and in tus.
ALGORITHMS = ("sha256", "sha1")
_MISMATCH = 460  # tus's own status


class Uploads:
    """The unfinished uploads, and for a day those that have become a clip."""

    def __init__(self, context: Context) -> None:
        self._context, self._database = context, context.database
        self._writing: dict[str, _Writer] = {}
        context.starting.append(self._recover)
        context.expiring.append(self.delete_expired)

    def create(self, name: str, length: int, sha256: str | None) -> str:
        """Announce an upload; its id. Raises RequestError: 413, 422, 429, 507."""
        if not length:
            raise RequestError(422, "invalid", "Upload-Length: the file is empty")
        if length > self._context.config.max_upload:
            raise too_large(self._context)
        self._context.clips.check_room()
        row = self._database.row("SELECT count(*) AS count FROM uploads WHERE clip IS NULL")
        if row is not None and row["count"] >= _MOST_UNFINISHED:
            line = f"{_MOST_UNFINISHED} uploads are unfinished: finish or delete some"
            raise RequestError(429, "too_many_uploads", line, 60)
        self._context.disk.check(length)
        upload = new_id()
        self.file(upload).touch()
        values = (upload, safe_name(name), length, utc_text(), utc_text(_KEPT_SECONDS), sha256)
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO uploads (id, name, length, created, expires, sha256)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                values,
            )
        self._context.disk.changed()
        return upload

    def get(self, upload: str) -> dict[str, Any]:
        """An upload as the API shows it. Raises RequestError."""
        return self._shown(self._row(upload))

    def _row(self, upload: str) -> sqlite3.Row:
        """Raises RequestError."""
        row = self._database.row("SELECT * FROM uploads WHERE id = ?", (upload,))
        if row is None:
            raise missing("upload", upload)
        return row

    def list(self) -> list[dict[str, Any]]:
        """All uploads, the newest last."""
        rows = self._database.rows("SELECT * FROM uploads ORDER BY created, rowid")
        return [self._shown(row) for row in rows]

    def file(self, upload: str) -> Path:
        """Where the bytes of an upload are."""
        return self._context.config.uploads / f"{upload}.bin"

    async def write(self, upload: str, offset: int, request: Request, checksum: str) -> Any:
        """Append a request's body; the upload as the API then shows it. Raises RequestError."""
        earlier = self._writing.pop(upload, None)
        if earlier is not None:  # its connection is broken, which the server has not noticed
            await earlier.stop()
        found = await run_in_threadpool(self.get, upload)
        if found["error"]:
            raise RequestError(410, "failed", str(found["error"]))
        if offset != found["offset"]:
            line = f"Upload-Offset {offset}: this upload is at {found['offset']}"
            raise RequestError(409, "wrong_offset", line)
        if found["clip"]:
            return found
        writer = _Writer(self._context, self.file(upload), found["length"], checksum)
        self._writing[upload] = writer
        try:
            await writer.take(request)
        finally:
            if self._writing.get(upload) is writer:
                del self._writing[upload]
        return await run_in_threadpool(self._after_write, upload)

    def _after_write(self, upload: str) -> dict[str, Any]:
        """Make a clip of an upload whose bytes have all come."""
        with self._database.writing() as connection:
            until = utc_text(_KEPT_SECONDS)
            connection.execute("UPDATE uploads SET expires = ? WHERE id = ?", (until, upload))
        found = self.get(upload)
        if found["offset"] == found["length"] and found["clip"] is None:
            self._finish(upload)
        return self.get(upload)

    def _finish(self, upload: str) -> None:
        """Add the clip; the file moves after that is in the database, or again at the next start.
        Raises RequestError where the SHA-256 is not the one that was announced."""
        file = self.file(upload)
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
            os.fsync(opened.fileno())
        row = self._row(upload)
        if row["sha256"] not in (None, digest):
            line = f"the SHA-256 of the file is {digest}, not {row['sha256']} as announced"
            with self._database.writing() as connection:
                connection.execute("UPDATE uploads SET error = ? WHERE id = ?", (line, upload))
            file.unlink()
            raise RequestError(_MISMATCH, "wrong_checksum", line)
        clips = self._context.clips
        with self._database.writing() as connection:
            clip = clips.insert(connection, row["name"], row["length"], digest)
            connection.execute("UPDATE uploads SET clip = ? WHERE id = ?", (clip, upload))
        clips.adopt(clip, file)

    async def delete(self, upload: str) -> None:
        """Forget an upload and its bytes; a clip that it has become stays. Raises RequestError."""
        await run_in_threadpool(self.get, upload)
        writer = self._writing.pop(upload, None)
        if writer is not None:
            await writer.stop()
        await run_in_threadpool(self._remove, upload)

    def delete_expired(self) -> None:
        """Forget the uploads that nobody went on with."""
        for row in self._database.rows("SELECT id FROM uploads WHERE expires < ?", (utc_text(),)):
            if row["id"] not in self._writing:
                self._remove(row["id"])

    def _remove(self, upload: str) -> None:
        with self._database.writing() as connection:
            connection.execute("DELETE FROM uploads WHERE id = ?", (upload,))
        self.file(upload).unlink(missing_ok=True)
        self._context.disk.changed()

    def _recover(self) -> None:
        """Finish what a killed server had received, and remove what belongs to nothing."""
        rows = {row["id"]: row for row in self._database.rows("SELECT * FROM uploads")}
        for file in self._context.config.uploads.iterdir():
            row = rows.get(file.stem) if file.suffix == ".bin" else None
            if row is None:
                file.unlink()
            elif row["clip"] is not None:
                self._context.clips.adopt(row["clip"], file)
            elif file.stat().st_size == row["length"]:
                try:
                    self._finish(row["id"])
                except RequestError as error:
                    _LOG.warning("upload %s: %s", row["id"], error.message)

    def _shown(self, row: sqlite3.Row) -> dict[str, Any]:
        try:
            offset = self.file(row["id"]).stat().st_size if row["clip"] is None else row["length"]
        except FileNotFoundError:  # it failed, or becomes a clip in this moment
            offset = 0 if row["error"] else row["length"]
        shown = {name: row[name] for name in ("id", "name", "length", "clip", "error", "expires")}
        return {**shown, "offset": offset}


class _Writer:
    """Appends one request's body to a file, until it ends or another request takes over."""

    def __init__(self, context: Context, file: Path, length: int, checksum: str) -> None:
        self._context, self._file, self._length = context, file, length
        self._stopped, self._ended = asyncio.Event(), asyncio.Event()
        self._algorithm, self._expected = _parse_checksum(checksum)

    async def stop(self) -> None:
        """Make it end, and wait until it has."""
        self._stopped.set()
        await self._ended.wait()

    async def take(self, request: Request) -> None:
        """Write the body. Raises RequestError."""
        opened = await run_in_threadpool(self._file.open, "ab", 0)
        begin = size = os.fstat(opened.fileno()).st_size
        digest = hashlib.new(self._algorithm) if self._expected else None
        buffer = bytearray()
        try:
            async for chunk in chunks(self._context, request, self._stopped):
                if size + len(chunk) > self._length:
                    line = f"more bytes came than Upload-Length announced ({self._length})"
                    raise RequestError(413, "too_large", line)
                size += len(chunk)
                buffer += chunk
                if digest is not None:
                    digest.update(chunk)
                if len(buffer) >= _BUFFER:
                    await run_in_threadpool(write_all, opened, buffer)
                    buffer = bytearray()
            if digest is not None and digest.digest() != self._expected:
                raise RequestError(
                    _MISMATCH,
                    "wrong_checksum",
                    "Upload-Checksum: it does not match the piece that came",
                )
            await run_in_threadpool(write_all, opened, buffer)
        except ClientDisconnect:
            if digest is None:  # what came counts, and the client goes on after it
                write_all(opened, buffer)
            else:
                opened.truncate(begin)
            raise broken_off() from None
        except RequestError:
            opened.truncate(begin)
            raise
        finally:
            opened.close()
            self._ended.set()


def _parse_checksum(text: str) -> tuple[str, bytes]:
    """Algorithm and digest of an ``Upload-Checksum``; '', b'' where there is none."""
    if not text:
        return "", b""
    algorithm, _, digest = text.partition(" ")
    if algorithm not in ALGORITHMS:
        line = f"Upload-Checksum {algorithm}: choose from {', '.join(ALGORITHMS)}"
        raise RequestError(400, "invalid", line)
    try:
        return algorithm, base64.b64decode(digest, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(400, "invalid", "Upload-Checksum: expected base64") from None

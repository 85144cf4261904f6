"""Files that come in a request: written to disk as they come, never held in memory."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import FileIO
from pathlib import Path

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from vidmatte.service.context import Context, RequestError, new_id
from vidmatte.service.disk import Promise

_BUFFER = 1 << 20
_LOOK_SECONDS = 0.2
_CHECK_EVERY = 16 << 20
_LONGEST_NAME = 120  # bytes; results add to it
_MOST_FILES, _MOST_FIELDS, _LARGEST_FIELD = 100, 50, 64 << 10
_WHERE = "multipart/form-data"


def safe_name(name: str) -> str:
    """A file's base name from a name that a client gave: no folders, no control characters, no
    dot at its beginning, its suffix kept. Raises RequestError for a name with nothing left."""
    base = re.split(r"[/\\]", name)[-1]
    base = re.sub(r'[\x00-\x1f\x7f-\x9f<>:"|?*\ud800-\udfff]', "_", base).strip(". ")
    stem, dot, suffix = base.rpartition(".")
    if not dot:
        stem, suffix = base, ""
    suffix = suffix[:16].encode()[:16].decode(errors="ignore")
    while stem and len(f"{stem}{dot}{suffix}".encode()) > _LONGEST_NAME:
        stem = stem[:-1]
    if not stem:
        raise RequestError(422, "invalid", "name: empty; give a file name like clip.mp4")
    return f"{stem}{dot}{suffix}"


def write_all(opened: FileIO, data: bytes | bytearray) -> None:
    """Write all bytes to an unbuffered file, which may take them in parts. Raises OSError."""
    with memoryview(data) as left:
        done = 0
        while done < len(left):
            done += opened.write(left[done:])


class Incoming:
    """A file that is being received, in the folder of uploads until someone moves it.

    Close it in any case: that removes what was not moved.
    """

    def __init__(self, context: Context, name: str, promise: Promise) -> None:
        self.name, self._promise = safe_name(name), promise
        self.size = 0
        self.file: Path = context.config.uploads / f"{new_id()}.part"
        self._context = context
        self._digest, self._buffer = hashlib.sha256(), bytearray()
        self._checked = 0
        self._opened = self.file.open("xb", 0)

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes. Raises RequestError: 413, 507."""
        self.size += len(chunk)
        if self.size > self._context.config.max_upload:
            raise too_large(self._context)
        self._buffer += chunk
        if len(self._buffer) >= _BUFFER:
            await run_in_threadpool(self._flush)

    async def finish(self) -> None:
        """All bytes have come. Raises RequestError where there are none."""
        await run_in_threadpool(self._flush)
        self._opened.close()
        if not self.size:
            raise RequestError(422, "invalid", f"{self.name}: the file is empty")

    @property
    def sha256(self) -> str:
        """Of what was written, as hexadecimal digits."""
        return self._digest.hexdigest()

    def close(self) -> None:
        """Close and remove the file, if it was not moved; calling it twice is harmless."""
        self._opened.close()
        self.file.unlink(missing_ok=True)

    def _flush(self) -> None:
        self._digest.update(self._buffer)
        write_all(self._opened, self._buffer)
        self._promise.add(-len(self._buffer))
        self._buffer.clear()
        if self.size - self._checked >= _CHECK_EVERY:
            self._checked = self.size
            self._context.disk.check()


def too_large(context: Context) -> RequestError:
    """413: a file has more bytes than are accepted."""
    limit = context.config.max_upload
    return RequestError(413, "too_large", f"the file is larger than {limit} bytes (--max-upload)")


def _announced(context: Context, request: Request) -> int:
    """The length of the body where the client states it, else 0. Raises RequestError."""
    text = request.headers.get("content-length", "0")
    if not text.isascii() or not text.isdecimal():
        raise RequestError(400, "invalid", "Content-Length: expected a number of bytes")
    if not is_form(request) and int(text) > context.config.max_upload:
        raise too_large(context)
    return int(text)


@asynccontextmanager
async def received_body(context: Context, request: Request, name: str) -> AsyncIterator[Incoming]:
    """The body of a request as one file, removed after the block if it was not moved. Raises
    RequestError."""
    promise = await run_in_threadpool(context.disk.promise, _announced(context, request))
    try:
        incoming = await run_in_threadpool(Incoming, context, name, promise)
        try:
            async for chunk in _chunks(context, request):
                await incoming.write(chunk)
            await incoming.finish()
            yield incoming
        finally:
            incoming.close()
    finally:
        promise.close()


@asynccontextmanager
async def received_form(context: Context, request: Request) -> AsyncIterator[Form]:
    """The form in a request; its files are removed after the block if they were not moved. Raises
    RequestError."""
    promise = await run_in_threadpool(context.disk.promise, _announced(context, request))
    form = Form(context, promise)
    try:
        await form.read(request)
        yield form
    finally:
        form.close()
        promise.close()


async def chunks(
    context: Context, request: Request, stopped: asyncio.Event | None = None
) -> AsyncIterator[bytes]:
    """The body as it comes. Raises ClientDisconnect where it breaks off, where ``stopped`` is set,
    and where the service ends."""
    stream = request.stream()
    while True:
        coming = asyncio.ensure_future(anext(stream, b""))
        try:
            while not coming.done():
                if context.stopping.is_set() or (stopped is not None and stopped.is_set()):
                    raise ClientDisconnect
                await asyncio.wait((coming,), timeout=_LOOK_SECONDS)
        finally:
            coming.cancel()
        if not (chunk := coming.result()):
            return
        yield chunk


async def _chunks(context: Context, request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. Raises RequestError where it breaks off."""
    try:
        async for chunk in chunks(context, request):
            yield chunk
    except ClientDisconnect:
        raise broken_off() from None


def broken_off() -> RequestError:
    """400: not all has come."""
    return RequestError(400, "broken_off", "the connection ended before the whole body had come")


def is_form(request: Request) -> bool:
    """Whether the body is a form with files."""
    return request.headers.get("content-type", "").lower().startswith(_WHERE)


class Form:
    """A form that is read as it comes: files go to disk, other fields are kept as text."""

    def __init__(self, context: Context, promise: Promise) -> None:
        self.files: list[Incoming] = []
        self.fields: dict[str, str] = {}
        self._context, self._promise = context, promise
        self._steps: list[tuple[str, bytes]] = []
        self._headers: dict[str, str] = {}
        self._field = self._value = b""
        self._name = ""
        self._current: Incoming | bytearray | None = None

    async def read(self, request: Request) -> None:
        """Read all of a request's form. Raises RequestError."""
        try:
            parser = self._parser(request)
            async for chunk in _chunks(self._context, request):
                parser.write(chunk)
                await self._take_steps()
            parser.finalize()
            await self._take_steps()
        except FormParserError as error:
            raise RequestError(400, "invalid", f"{_WHERE}: {error}".splitlines()[0]) from None
        if self._current is not None:
            raise RequestError(400, "broken_off", f"{_WHERE}: the body ends inside a part")

    def close(self) -> None:
        """Remove the files that were not moved."""
        if isinstance(self._current, Incoming):
            self._current.close()
        for file in self.files:
            file.close()

    def _parser(self, request: Request) -> MultipartParser:
        _, options = parse_options_header(request.headers["content-type"])
        boundary = options.get(b"boundary")
        if not boundary:
            raise RequestError(400, "invalid", f"Content-Type: {_WHERE} needs a boundary")

        def with_data(step: str) -> object:
            return lambda data, start, end: self._steps.append((step, data[start:end]))

        def plain(step: str) -> object:
            return lambda: self._steps.append((step, b""))

        callbacks = {f"on_{step}": with_data(step) for step in _DATA_STEPS}
        callbacks |= {f"on_{step}": plain(step) for step in _PLAIN_STEPS}
        return MultipartParser(boundary, callbacks)  # type: ignore[arg-type]

    async def _take_steps(self) -> None:
        """Do what the parser has found since the last time."""
        steps, self._steps = self._steps, []
        for step, data in steps:
            if step == "part_data":
                await self._add(data)
            elif step == "part_end":
                await self._end_part()
            elif step == "header_field":
                self._field += data
            elif step == "header_value":
                self._value += data
            elif step == "header_end":
                self._headers[self._field.decode("latin-1").lower()] = self._value.decode("latin-1")
                self._field = self._value = b""
            elif step == "headers_finished":
                await self._begin_part()

    async def _begin_part(self) -> None:
        """A file or a field begins, by its headers."""
        kind, options = parse_options_header(self._headers.get("content-disposition"))
        self._headers = {}
        if kind != b"form-data" or b"name" not in options:
            raise RequestError(400, "invalid", f"{_WHERE}: a part has no name")
        self._name = options[b"name"].decode("utf-8", "replace")
        if len(self.files) >= _MOST_FILES or len(self.fields) >= _MOST_FIELDS:
            raise RequestError(413, "too_large", f"{_WHERE}: {_MOST_FILES} files at most")
        if b"filename" in options:
            name = options[b"filename"].decode("utf-8", "replace")
            self._current = await run_in_threadpool(Incoming, self._context, name, self._promise)
        else:
            self._current = bytearray()

    async def _add(self, data: bytes) -> None:
        if isinstance(self._current, Incoming):
            await self._current.write(data)
        elif self._current is not None:
            self._current += data
            if len(self._current) > _LARGEST_FIELD:
                raise RequestError(
                    413, "too_large", f"{self._name}: {_LARGEST_FIELD} bytes at most"
                )

    async def _end_part(self) -> None:
        if isinstance(self._current, Incoming):
            await self._current.finish()
            self.files.append(self._current)
        elif self._current is not None:
            self.fields[self._name] = self._current.decode("utf-8", "replace")
        self._current = None


_DATA_STEPS = ("part_data", "header_field", "header_value")
_PLAIN_STEPS = ("part_end", "header_end", "headers_finished")

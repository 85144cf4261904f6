"""``POST /api/remove``: one picture in, its cut-out back, as the server of rembg answers it.

https://github.com/danielgatis/rembg; its clients need only another address. The cut-out is that of
``vidmatte photo.jpg -o cutout.png``.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from vidmatte.service.command_line import Ended
from vidmatte.service.context import Context, RequestError, new_id
from vidmatte.service.receive import Incoming, is_form, received_body, received_form

_DEFAULT_MODEL = "isnet"
_SECONDS, _WAIT_SECONDS, _RETRY_SECONDS = 600.0, 15.0, 10
_WAITING_EACH = 4  # requests that wait for each that is worked on
#: The beginnings of picture files, and the suffix that each needs.
_SIGNATURES = (
    (rb"\x89PNG\r\n", ".png"), (rb"\xff\xd8\xff", ".jpg"), (rb"RIFF....WEBP", ".webp"),
    (rb"II\*\0|MM\0\*", ".tif"), (rb"BM", ".bmp"), (rb"....ftyp(avif|avis)", ".avif"),
    (rb"....ftyp(hei|mif1|msf1)", ".heic"), (rb"v/1\x01", ".exr"), (rb"SDPX|XPDS", ".dpx"),
)  # fmt: skip
_COLOUR = re.compile(r"\(?(\d{1,3}), ?(\d{1,3}), ?(\d{1,3})(?:, ?(\d{1,3}))?\)?")
_STATUS = {"WeightsError": 503, "OutOfMemoryError": 503, "OutputError": 507}


class RemoveOptions(BaseModel):
    """What rembg's server takes, as fields of the form or in the query."""

    model: str = Field(default=_DEFAULT_MODEL, max_length=100, description="of GET /api/models")
    a: bool = Field(default=False, description="alpha matting: as --refine best")
    af: int = Field(default=240, ge=0, le=255, description="accepted, without effect")
    ab: int = Field(default=10, ge=0, le=255, description="accepted, without effect")
    ae: int = Field(default=10, ge=0, le=1000, description="accepted, without effect")
    om: bool = Field(default=False, description="only the mask, as a grey picture")
    ppm: bool = Field(default=False, description="a clean mask with a sharp edge")
    bgc: str | None = Field(
        default=None,
        max_length=40,
        description="colour behind the subject: R,G,B,A from 0 to 255, or RRGGBB",
        examples=["255,255,255,255"],
    )
    url: str | None = Field(default=None, max_length=4000, description="refused: send the file")


def _words(options: RemoveOptions, model: str, source: Path, folder: Path) -> list[str]:
    """The command line for a picture; its last word is the path of what is answered."""
    words = [str(source), "--model", model, "--no-manifest", "--json"]
    if options.a:
        words += ["--refine", "best"]
    if options.ppm:
        words += ["--remove-specks", "64", "--threshold", "0.49,0.51"]
    cutout, mask = folder / "cutout.png", folder / "mask.png"
    if options.om:
        return [*words, "-o", str(cutout), "--matte", str(mask)]
    if (colour := _colour(options.bgc)) is not None:
        words += ["--background", colour]
    return [*words, "-o", str(cutout)]


def _colour(text: str | None) -> str | None:
    """A colour for the command line, None for a transparent one. Raises RequestError."""
    if not text:
        return None
    if re.fullmatch(r"#?[0-9A-Fa-f]{6}", text):
        return f"#{text.removeprefix('#')}"
    match = _COLOUR.fullmatch(text.strip())
    levels = [int(level) for level in match.groups("255")] if match else []
    if not match or max(levels) > 255 or levels[3] not in (0, 255):
        line = f"bgc {text}: use RRGGBB, or R,G,B,A from 0 to 255 with A 255, or 0 for none"
        raise RequestError(422, "invalid", line)
    return f"#{bytes(levels[:3]).hex()}" if levels[3] else None


def _suffix(file: Path) -> str:
    """The suffix of a picture by its first bytes. Raises RequestError."""
    with file.open("rb") as opened:
        head = opened.read(16)
    for pattern, suffix in _SIGNATURES:
        if re.match(pattern, head, re.DOTALL):
            return suffix
    raise RequestError(
        422, "invalid", "file: not a picture that can be read (PNG, JPEG, WebP, TIFF, HEIC...)"
    )


class _Turns:
    """How many pictures are worked on at once, and how many wait."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = asyncio.Semaphore(count)
        self._waiting = 0

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """One turn within the block. Raises RequestError (503) where none comes soon."""
        if self._waiting >= self._count * _WAITING_EACH:
            raise self._busy()
        self._waiting += 1
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            raise self._busy() from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()

    def _busy(self) -> RequestError:
        line = "too many pictures are waiting: try again"
        return RequestError(503, "busy", line, _RETRY_SECONDS)


def _cut_out(context: Context, options: RemoveOptions, incoming: Incoming) -> FileResponse:
    """Run the command line on a picture, and answer with what it has written."""
    model = _model(context, options.model)
    folder = context.config.temporary / f"remove-{new_id()}"
    try:
        folder.mkdir()
        source = folder / f"photo{_suffix(incoming.file)}"
        incoming.file.rename(source)
        words = _words(options, model, source, folder)
        words += ["--max-megapixels", f"{context.config.max_megapixels:g}"]
        ended = context.command_line.call(words, _SECONDS)
        result = folder / ("mask.png" if options.om else "cutout.png")
        if ended.status != 0 or not result.is_file():
            raise _failure(ended, source)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    cleaning = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    return FileResponse(result, media_type="image/png", background=cleaning)


def _model(context: Context, name: str) -> str:
    """The model's own name, for that name or alias. Raises RequestError (422)."""
    try:
        return str(context.models.row(name)["name"])
    except RequestError as error:
        if error.status != 404:
            raise
        raise RequestError(422, "invalid", error.message) from None


def _failure(ended: Ended, source: Path) -> RequestError:
    """The error for a call that gave no picture."""
    if ended.status is None or ended.status < 0:
        return RequestError(503, "too_slow", f"{source.name}: {ended.line}", 60)
    fault: Any = next((one for one in ended.events if "error" in one and "message" in one), {})
    line = " ".join(str(fault.get("message") or ended.line).split())
    status = _STATUS.get(str(fault.get("error")), 422)
    return RequestError(status, "failed", line.replace(str(source), source.name))


def _checked(query: dict[str, str], form: dict[str, str]) -> RemoveOptions:
    """The options of query and form. Raises RequestError (422)."""
    values = {**query, **form}
    if values.pop("extras", None):
        raise RequestError(422, "invalid", "extras: no model here takes any; leave it out")
    try:
        options = RemoveOptions(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        fault = error.errors()[0]
        line = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        raise RequestError(422, "invalid", line) from None
    if options.url is not None:
        raise _no_urls()
    return options


def _no_urls() -> RequestError:
    line = "url: the service fetches nothing from other servers; send the picture as 'file'"
    return RequestError(422, "invalid", line)


_FORM = {
    "requestBody": {
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        }
    }
}


def router(context: Context) -> APIRouter:
    """The routes ``/api/remove``."""
    routes = APIRouter(prefix="/api/remove", tags=["remove"])
    turns = _Turns(context.config.jobs)

    async def cut_out(options: RemoveOptions, incoming: Incoming) -> FileResponse:
        async with turns.taken():
            return await run_in_threadpool(_cut_out, context, options, incoming)

    @routes.get("")
    def by_url(url: Annotated[str | None, Query(max_length=4000)] = None) -> None:
        """Refused: this service fetches nothing from elsewhere."""
        del url
        raise _no_urls()

    @routes.post("", response_class=FileResponse, openapi_extra=_FORM)
    async def remove(request: Request, options: Annotated[RemoveOptions, Query()]) -> FileResponse:
        """Cut the subject out of the picture in ``file``; the answer is a PNG."""
        del options  # which documents and checks the query; the form may say more
        query = dict(request.query_params)
        if is_form(request):
            async with received_form(context, request) as form:
                if len(form.files) != 1:
                    raise RequestError(422, "invalid", "file: send one picture in the form")
                return await cut_out(_checked(query, form.fields), form.files[0])
        async with received_body(context, request, "photo") as incoming:
            return await cut_out(_checked(query, {}), incoming)

    return routes

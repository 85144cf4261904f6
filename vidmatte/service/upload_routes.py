"""The routes of uploads: tus 1.0.0, https://tus.io/protocols/resumable-upload

Its core and the extensions creation, termination, checksum and expiration.
"""

from __future__ import annotations

import base64
import binascii
from email.utils import formatdate
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from vidmatte.service.context import Context, RequestError, seconds_of
from vidmatte.service.uploads import ALGORITHMS, Uploads

_VERSION = "1.0.0"


def _parse_metadata(text: str) -> dict[str, str]:
    """Keys and values of an ``Upload-Metadata``. Raises RequestError."""
    found = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = pair.partition(" ")
        try:
            found[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, ValueError):
            line = f"Upload-Metadata {key}: expected UTF-8 text in base64"
            raise RequestError(400, "invalid", line) from None
    return found


def _number(request: Request, header: str) -> int:
    """A header with a number of bytes. Raises RequestError."""
    text = request.headers.get(header, "")
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise RequestError(400, "invalid", f"{header}: expected a number of bytes")
    return int(text)


def _check_version(request: Request) -> None:
    version = request.headers.get("tus-resumable", _VERSION)
    if version != _VERSION:
        line = f"Tus-Resumable {version}: this service has version {_VERSION}"
        raise RequestError(412, "wrong_version", line)


def _headers(found: dict[str, Any]) -> dict[str, str]:
    """What every answer about an upload says."""
    headers = {"Tus-Resumable": _VERSION, "Upload-Offset": str(found["offset"])}
    if found["clip"]:
        return {**headers, "Vidmatte-Clip": found["clip"]}
    return {**headers, "Upload-Expires": formatdate(seconds_of(found["expires"]), usegmt=True)}


def router(context: Context) -> APIRouter:
    """The routes under ``/api/uploads``."""
    routes = APIRouter(prefix="/api/uploads", tags=["uploads"])
    uploads = Uploads(context)
    _add_reading(routes, context, uploads)

    @routes.post("", status_code=201)
    async def create(request: Request) -> Response:
        """Announce an upload: ``Upload-Length``, ``Upload-Metadata: filename BASE64``."""
        _check_version(request)
        length = _number(request, "Upload-Length")
        metadata = _parse_metadata(request.headers.get("upload-metadata", ""))
        name = metadata.get("filename") or metadata.get("name") or ""
        sha256 = metadata.get("sha256", "").lower() or None
        upload = await run_in_threadpool(uploads.create, name, length, sha256)
        found = await run_in_threadpool(uploads.get, upload)
        headers = {**_headers(found), "Location": f"/api/uploads/{upload}"}
        return Response(status_code=201, headers=headers)

    @routes.patch("/{upload}", status_code=204)
    async def append(request: Request, upload: str) -> Response:
        """Append the body at ``Upload-Offset``."""
        _check_version(request)
        kind = request.headers.get("content-type", "")
        if kind != "application/offset+octet-stream":
            line = "Content-Type: expected application/offset+octet-stream"
            raise RequestError(415, "wrong_type", line)
        at, checksum = _number(request, "Upload-Offset"), request.headers.get("upload-checksum", "")
        found = await uploads.write(upload, at, request, checksum)
        return Response(status_code=204, headers=_headers(found))

    @routes.delete("/{upload}", status_code=204)
    async def delete(upload: str) -> Response:
        """Give an upload up; a clip that it has become stays."""
        await uploads.delete(upload)
        return Response(status_code=204, headers={"Tus-Resumable": _VERSION})

    return routes


def _add_reading(routes: APIRouter, context: Context, uploads: Uploads) -> None:
    """Add the routes that change nothing: what is spoken here, and how far uploads are."""

    @routes.options("", status_code=204)
    @routes.options("/{upload}", status_code=204)
    def options() -> Response:
        """What of tus is spoken here."""
        headers = {
            "Tus-Resumable": _VERSION,
            "Tus-Version": _VERSION,
            "Tus-Extension": "creation,termination,checksum,expiration",
            "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
            "Tus-Max-Size": str(context.config.max_upload),
        }
        return Response(status_code=204, headers=headers)

    @routes.get("")
    def all_uploads() -> Any:
        """All uploads, the newest last."""
        return {"uploads": uploads.list()}

    @routes.get("/{upload}")
    def one_upload(upload: str) -> Any:
        """How far an upload is, and its clip once it is complete."""
        return uploads.get(upload)

    @routes.head("/{upload}")
    def offset(request: Request, upload: str) -> Response:
        """How far an upload is, in ``Upload-Offset``."""
        _check_version(request)
        found = uploads.get(upload)
        headers = {"Upload-Length": str(found["length"]), "Cache-Control": "no-store"}
        return Response(headers={**_headers(found), **headers})
